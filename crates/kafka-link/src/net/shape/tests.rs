//! Layouts against what `kafka-protocol` reads, and lengths that lie.

use std::process::Command;

use bytes::Bytes;
use fastrand::Rng;
use kafka_protocol::{
    messages::{
        ApiVersionsRequest, CreateTopicsRequest, DescribeConfigsRequest, FetchRequest,
        FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
        ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
        ProduceRequest, SyncGroupRequest,
    },
    protocol::{HeaderVersion, Request, VersionRange},
};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;
use crate::net::{
    Call,
    calls::{ANSWER_HEADER, API_VERSIONS},
    frame::decode_answer,
};

/// Set in the process whose memory is limited.
const LIMITED: &str = "SLUICE_TEST_LIMITED";
/// All the address space that it has: a little more than the test itself needs.
const LIMIT_BYTES: u64 = 1 << 30;
/// Lengths that no answer of a few bytes has.
const LIES: [[u8; 5]; 5] = [
    // As four bytes, as five compact ones, and fewer.
    [0x7f, 0xff, 0xff, 0xff, 0x00],
    [0xff, 0xff, 0xff, 0xff, 0x0f],
    [0xff, 0xff, 0xff, 0x7f, 0x00],
    [0xff, 0xff, 0x7f, 0x00, 0x00],
    [0x00, 0x7f, 0xff, 0xff, 0xff],
];

/// One call in one version.
#[derive(Clone, Copy)]
struct Answer {
    name: &'static str,
    version: i16,
    header_version: i16,
    layout: Layout,
    /// Gives the bytes left.
    decode: fn(Bytes, i16, &Layout) -> Result<usize, String>,
}

fn decode<R: Request>(mut bytes: Bytes, version: i16, layout: &Layout) -> Result<usize, String> {
    decode_answer::<R::Response>(&mut bytes, version, layout)?;
    Ok(bytes.len())
}

fn answers_of<R: Request>(
    name: &'static str,
    versions: VersionRange,
    layout: Layout,
) -> impl Iterator<Item = Answer> {
    (versions.min..=versions.max).map(move |version| Answer {
        name,
        version,
        header_version: R::Response::header_version(version),
        layout,
        decode: decode::<R>,
    })
}

fn answers() -> Vec<Answer> {
    fn of<R: Call>() -> impl Iterator<Item = Answer> {
        answers_of::<R>(R::NAME, R::OURS, R::ANSWER)
    }
    let versions = VersionRange { min: 0, max: 3 };
    answers_of::<ApiVersionsRequest>("api versions", versions, API_VERSIONS)
        .chain(of::<ProduceRequest>())
        .chain(of::<FetchRequest>())
        .chain(of::<MetadataRequest>())
        .chain(of::<ListOffsetsRequest>())
        .chain(of::<FindCoordinatorRequest>())
        .chain(of::<JoinGroupRequest>())
        .chain(of::<SyncGroupRequest>())
        .chain(of::<HeartbeatRequest>())
        .chain(of::<LeaveGroupRequest>())
        .chain(of::<OffsetCommitRequest>())
        .chain(of::<OffsetFetchRequest>())
        .chain(of::<CreateTopicsRequest>())
        .chain(of::<DescribeConfigsRequest>())
        .collect()
}

/// Writes some message of a layout.
struct Writer<'a> {
    rng: &'a mut Rng,
    version: i16,
    flexible: bool,
    bytes: Vec<u8>,
}

impl Answer {
    fn some(&self, rng: &mut Rng) -> Vec<u8> {
        let header = Writer::write(rng, &ANSWER_HEADER, self.header_version);
        [header, Writer::write(rng, &self.layout, self.version)].concat()
    }

    fn decode(&self, bytes: Vec<u8>) -> Result<usize, String> {
        (self.decode)(bytes.into(), self.version, &self.layout)
    }
}

impl<'a> Writer<'a> {
    fn write(rng: &'a mut Rng, layout: &Layout, version: i16) -> Vec<u8> {
        let mut writer = Self {
            rng,
            version,
            flexible: version >= layout.flexible,
            bytes: Vec::new(),
        };
        writer.message(layout.fields);
        writer.bytes
    }

    fn message(&mut self, fields: &[Field]) {
        let (tagged, ordered): (Vec<&Field>, Vec<_>) = fields
            .iter()
            .filter(|field| field.is_in(self.version))
            .partition(|field| field.tag.is_some());
        for field in ordered {
            self.value(field.kind);
        }
        if !self.flexible {
            return;
        }
        let tagged: Vec<_> = tagged.into_iter().filter(|_| self.rng.bool()).collect();
        let unknown = self.rng.usize(..2);
        self.varint(tagged.len() + unknown);
        for field in tagged {
            let outer = std::mem::take(&mut self.bytes);
            self.value(field.kind);
            let value = std::mem::replace(&mut self.bytes, outer);
            self.varint(field.tag.unwrap() as usize);
            self.varint(value.len());
            self.bytes.extend(value);
        }
        if unknown > 0 {
            self.varint(77);
            self.varint(3);
            self.fill(3);
        }
    }

    fn value(&mut self, kind: Kind) {
        let some = self.rng.usize(..4);
        match kind {
            Kind::Fixed(len) => self.fill(len),
            Kind::Text => {
                self.length(2, some);
                self.bytes.extend(std::iter::repeat_n(b'x', some));
            }
            Kind::Bytes => {
                // A compact length of more than one byte, now and then.
                let some = some * 50;
                self.length(4, some);
                self.fill(some);
            }
            Kind::Values(size) => {
                self.length(4, some);
                self.fill(some * size);
            }
            Kind::Each(fields) => {
                self.length(4, some);
                (0..some).for_each(|_| self.message(fields));
            }
            Kind::Struct(fields) => self.message(fields),
        }
    }

    fn length(&mut self, width: usize, len: usize) {
        if self.flexible {
            return self.varint(len + 1);
        }
        let bytes = len.to_be_bytes();
        self.bytes.extend(&bytes[bytes.len() - width..]);
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn fill(&mut self, len: usize) {
        self.bytes
            .extend(std::iter::repeat_with(|| self.rng.u8(..)).take(len));
    }
}

#[test]
fn layouts_are_what_is_read_to_the_last_byte() {
    for answer in answers() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..40 {
            let bytes = answer.some(&mut rng);
            let left = answer.decode(bytes.clone());
            let at = (answer.name, answer.version);
            assert_eq!(left, Ok(0), "{at:?}: {bytes:02x?}");
        }
    }
}

#[test]
fn an_answer_that_is_cut_anywhere_is_refused() {
    for answer in answers() {
        let mut rng = Rng::with_seed(2);
        let bytes = answer.some(&mut rng);
        for len in 0..bytes.len() {
            let cut = answer.decode(bytes[..len].to_vec());
            assert!(cut.is_err(), "{} {}", answer.name, answer.version);
        }
    }
}

#[test]
fn more_elements_than_any_answer_has_are_refused() {
    let mut bytes = i32::try_from(ELEMENTS_MAX + 1)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    bytes.resize(4 * (ELEMENTS_MAX + 2), 0);
    let layout = Layout {
        flexible: 1,
        fields: &[I32S],
    };
    assert!(layout.check(&bytes, 0).is_err());
    bytes[3] -= 1;
    assert!(layout.check(&bytes, 0).is_ok());
}

/// In a process of its own, as what fails there ends it.
#[test]
fn no_bytes_of_a_broker_take_more_memory_than_there_is() {
    if std::env::var_os(LIMITED).is_some() {
        limit_memory();
        return decode_lies();
    }
    let this = "net::shape::tests::no_bytes_of_a_broker_take_more_memory_than_there_is";
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(LIMITED, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{:?}\n{said}", ended.status);
    assert!(said.contains("1 passed"), "{said}");
}

fn limit_memory() {
    let limit = Rlimit {
        current: Some(LIMIT_BYTES),
        maximum: Some(LIMIT_BYTES),
    };
    setrlimit(Resource::As, limit).unwrap();
}

fn decode_lies() {
    for answer in answers() {
        println!("{} {}", answer.name, answer.version);
        for seed in 0..200 {
            let mut rng = Rng::with_seed(seed);
            let len = rng.usize(..300);
            let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
            // Whether it is refused is chance.
            let _ = answer.decode(noise);
        }
        for seed in 0..4 {
            let bytes = answer.some(&mut Rng::with_seed(seed));
            for at in 0..bytes.len() {
                for lie in LIES {
                    let mut bytes = bytes.clone();
                    let end = bytes.len().min(at + lie.len());
                    bytes[at..end].copy_from_slice(&lie[..end - at]);
                    let _ = answer.decode(bytes);
                }
            }
        }
    }
}
