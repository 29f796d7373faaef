use std::{fs, ops::Range};

use super::*;

const KIND: [u8; 4] = *b"test";

/// Three frames: text, nothing, and bytes zstd cannot shorten, which hold markers.
fn payloads() -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut noise: Vec<u8> = (0..60).map(|_| rng.u8(..)).collect();
    noise[10..22].copy_from_slice(&MARKER);
    noise[40..52].copy_from_slice(&MARKER);
    vec![b"first first first".to_vec(), Vec::new(), noise]
}

fn write(path: &Path, payloads: &[Vec<u8>]) -> Vec<u64> {
    let mut writer = FrameWriter::create(path, KIND).unwrap();
    let positions = payloads.iter().map(|p| writer.append(p).unwrap()).collect();
    writer.sync().unwrap();
    assert_eq!(writer.len(), fs::metadata(path).unwrap().len());
    positions
}

fn read(path: &Path) -> (Vec<(u64, Vec<u8>)>, FrameReport) {
    let mut frames = Vec::new();
    let report = read_frames(path, KIND, &mut |position, payload| {
        frames.push((position, payload.to_vec()));
    })
    .unwrap();
    assert_eq!(report.whole, frames.len() as u64);
    (frames, report)
}

struct Sample {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    /// Position, end and payload of each frame.
    frames: Vec<(u64, u64, Vec<u8>)>,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("whole");
        let positions = write(&path, &payloads());
        let bytes = fs::read(&path).unwrap();
        let ends = positions[1..].iter().copied().chain([bytes.len() as u64]);
        let frames = positions
            .iter()
            .zip(ends)
            .zip(payloads())
            .map(|((from, to), payload)| (*from, to, payload))
            .collect();
        Self { dir, bytes, frames }
    }

    fn read(&self, bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, FrameReport) {
        let path = self.dir.path().join("damaged");
        fs::write(&path, bytes).unwrap();
        read(&path)
    }

    /// The frames that lie outside of `damage`.
    fn outside(&self, damage: Range<u64>) -> Vec<(u64, Vec<u8>)> {
        self.frames
            .iter()
            .filter(|(from, to, _)| *to <= damage.start || damage.end <= *from)
            .map(|(from, _, payload)| (*from, payload.clone()))
            .collect()
    }
}

#[test]
fn frames_come_back_in_order_and_by_position() {
    let sample = Sample::new();
    let (frames, report) = sample.read(&sample.bytes);
    assert_eq!(frames, sample.outside(0..0));
    assert_eq!(report.damaged, []);
    let path = sample.dir.path().join("whole");
    for (position, payload) in frames {
        assert_eq!(read_frame(&path, KIND, position).unwrap(), payload);
        let error = read_frame(&path, KIND, position + 1).unwrap_err();
        assert!(error.to_string().contains("no whole frame"), "{error}");
    }
    assert!(read_frame(&path, KIND, u64::MAX).is_err());
}

#[test]
fn truncated_at_any_byte_only_what_was_cut_is_lost() {
    let sample = Sample::new();
    for cut in 0..sample.bytes.len() {
        let (frames, report) = sample.read(&sample.bytes[..cut]);
        let cut = cut as u64;
        assert_eq!(frames, sample.outside(cut..u64::MAX), "cut at {cut}");
        let good_end = sample
            .frames
            .iter()
            .flat_map(|(from, to, _)| [*from, *to])
            .filter(|end| *end <= cut)
            .max()
            .unwrap_or(0);
        let torn: Vec<_> = std::iter::once(good_end..cut)
            .filter(|range| !range.is_empty())
            .collect();
        assert_eq!(report.damaged, torn, "cut at {cut}");
    }
}

#[test]
fn with_any_bit_flipped_only_the_frame_around_it_is_lost() {
    let sample = Sample::new();
    for at in 0..sample.bytes.len() {
        for bit in 0..8 {
            let mut bytes = sample.bytes.clone();
            bytes[at] ^= 1 << bit;
            let (frames, report) = sample.read(&bytes);
            let at = at as u64;
            assert_eq!(frames, sample.outside(at..at + 1), "bit {bit} of byte {at}");
            let hit = sample
                .frames
                .iter()
                .find(|(from, to, _)| (*from..*to).contains(&at))
                .map_or(0..HEADER_LEN, |(from, to, _)| *from..*to);
            assert_eq!(report.damaged, [hit], "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn any_run_of_bytes_overwritten_loses_only_the_frames_it_touches() {
    let sample = Sample::new();
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..2_000 {
        let from = rng.usize(..sample.bytes.len());
        let to = rng.usize(from + 1..=sample.bytes.len());
        let mut bytes = sample.bytes.clone();
        let zeros = rng.bool();
        for byte in &mut bytes[from..to] {
            // Every byte of the run differs from what stood there.
            *byte = if zeros && *byte != 0 { 0 } else { !*byte };
        }
        let (frames, _) = sample.read(&bytes);
        assert_eq!(
            frames,
            sample.outside(from as u64..to as u64),
            "{from}..{to}"
        );
    }
}

#[test]
fn a_frame_inside_a_damaged_payload_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    let mut rng = fastrand::Rng::with_seed(3);
    let noise: Vec<u8> = (0..400).map(|_| rng.u8(..)).collect();
    write(&inner, &[noise]);
    let outer = dir.path().join("outer");
    let positions = write(&outer, &[fs::read(&inner).unwrap(), b"next".to_vec()]);
    let mut bytes = fs::read(&outer).unwrap();
    bytes[positions[0] as usize] ^= 1;
    assert!(memchr::memmem::find(&bytes[30..], &MARKER).is_some());
    fs::write(&outer, bytes).unwrap();
    let (frames, report) = read(&outer);
    assert_eq!(frames, [(positions[1], b"next".to_vec())]);
    let damaged = positions[0]..positions[1];
    assert_eq!(report.damaged, std::slice::from_ref(&damaged));
}

#[test]
fn the_next_frame_is_found_across_the_search_windows() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    // Around the length of a search window the marker falls on each side of its end.
    for length in (256 * 1024 - 60)..(256 * 1024 + 20) {
        let path = dir.path().join(length.to_string());
        let noise: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
        let positions = write(&path, &[noise, b"found".to_vec()]);
        let mut bytes = fs::read(&path).unwrap();
        bytes[positions[0] as usize] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).0, [(positions[1], b"found".to_vec())]);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn other_kinds_and_versions_are_refused_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write(&path, &payloads());
    let error = read_frames(&path, *b"else", &mut |_, _| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file is of kind `test`, expected `else`"
    );
    let mut bytes = fs::read(&path).unwrap();
    let mut of_version = |version, skip: &[u8]| {
        bytes[23] = version;
        let crc = crc32c::crc32c(&bytes[8..24]);
        bytes[24..28].copy_from_slice(&crc.to_be_bytes());
        fs::write(&path, [skip, &bytes[8..]].concat()).unwrap();
        let error = read_frames(&path, KIND, &mut |_, _| {}).unwrap_err();
        let expected = format!("the file has format version {version}, known is 2");
        assert_eq!(error.to_string(), expected);
    };
    of_version(3, &HEADER_SKIP);
    // The first one had nothing before its magic.
    of_version(1, &[]);
}

#[test]
fn a_name_that_is_taken_is_not_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert!(FrameWriter::create(&path, KIND).unwrap().is_empty());
    let error = FrameWriter::create(&path, KIND).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn after_a_failed_write_the_file_is_not_appended_to_again() {
    let mut writer = FrameWriter {
        // A device that takes nothing.
        file: File::open_to_write(Path::new("/dev/full")).unwrap(),
        kind: KIND,
        len: HEADER_LEN,
        failed: false,
        compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).unwrap(),
        frame: Vec::new(),
    };
    let error = writer.append(b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(writer.len(), HEADER_LEN);
    for error in [writer.append(b"x").unwrap_err(), writer.sync().unwrap_err()] {
        assert!(
            error.to_string().contains("a new file is needed"),
            "{error}"
        );
    }
}

#[test]
fn an_end_is_torn_only_where_nothing_else_is_damaged_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let places = write(&path, &payloads());
    let (second, third) = (places[1], places[2]);
    let bytes = fs::read(&path).unwrap();
    let report = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        read(&path).1
    };
    assert!(!report(&bytes).torn);
    for end in third as usize + 1..bytes.len() {
        let cut = report(&bytes[..end]);
        assert_eq!((cut.whole, cut.torn), (2, true), "cut at {end}");
        assert_eq!(
            cut.damaged,
            vec![Range {
                start: third,
                end: end as u64
            }]
        );
        // Somebody was told that the second is kept: what is left of it is evidence.
        let mut damaged = bytes[..end].to_vec();
        damaged[third as usize - 1] ^= 1;
        let both = report(&damaged);
        assert_eq!((both.whole, both.torn), (1, false), "cut at {end}");
        assert_eq!(both.damage(), both.damaged);
        assert_eq!(
            both.damaged,
            vec![Range {
                start: second,
                end: end as u64
            }]
        );
    }
    for end in 0..HEADER_LEN as usize {
        let cut = report(&bytes[..end]);
        assert!(cut.torn, "a torn header, {end}");
        // Of nothing at all there is no range.
        assert_eq!((cut.damaged.len(), cut.damage()), (end.min(1), &[][..]));
    }
}

#[test]
fn a_file_is_zstd_that_shows_the_payloads_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    write(&path, &payloads());
    let shown = zstd::decode_all(File::open(&path).unwrap()).unwrap();
    assert_eq!(shown, payloads().concat());
}
