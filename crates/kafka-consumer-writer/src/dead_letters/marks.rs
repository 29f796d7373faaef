//! What has been decided about single messages, durably: that one may have been sent, with its
//! *since*, before it is; that Kafka has it, after; that it was thrown away.
//!
//! A marks file (`marks-<16 hex>.dlq`, of kind `cdlm`) is written by one command alone, which begins
//! another one where it has many marks, so that they can leave in parts. The payload of a frame
//! begins as that of an entry does (version, topic, topic id, partition) and goes on with marks to
//! its end; integers big-endian:
//!
//! ```text
//! 1 sent · offset (i64) · since (i64)
//! 2 done · offset (i64) · where Kafka has it now (i64)
//! 3 discarded · offset (i64) · when (i64, ms since 1970)
//! 4 leads · offset (i64) · batch (16 bytes) · sequence (u32)
//! ```
//!
//! `leads` stands beside the `sent` of the first message of a record that goes: whatever copies of
//! that record there are, now or later, go under no other id.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
};

use pipeline_core::{
    BatchId, Offset,
    dlq::{FrameWriter, read_frames},
};

use super::{
    Place,
    entry::{self, PayloadError, Rest},
    files::{Unreadable, files, has_prefix},
};

pub(super) const PREFIX: &str = "marks-";
/// Kind of the files, in their header.
pub const KIND: [u8; 4] = *b"cdlm";
const SENT: u8 = 1;
const DONE: u8 = 2;
const DISCARDED: u8 = 3;
const LEADS: u8 = 4;
/// Marks of one frame: a decision about millions needs no more memory than their offsets.
pub const MARKS_MAX: usize = 10_000;
/// A file is closed once it has this many marks.
const FILE_MARKS: usize = 20_000;

/// What makes two messages of a partition copies of one record: batch and sequence.
pub type RecordKey = (BatchId, u32);

/// One mark of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    Sent { since: Offset },
    Done { landed: Offset },
    Discarded { at_ms: i64 },
    Leads { record: RecordKey },
}

/// What is known of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// It may have been sent, with this *since*: a bound from below, so the least counts.
    pub since: Option<Offset>,
    /// Kafka has it, here.
    pub landed: Option<Offset>,
    /// It was thrown away, then.
    pub discarded_ms: Option<i64>,
}

impl Progress {
    /// Nobody waits for it any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.landed.is_some() || self.discarded_ms.is_some()
    }
}

/// All marks of a directory.
#[derive(Debug, Default)]
pub struct Marks {
    places: HashMap<Place, BTreeMap<i64, Progress>>,
    leaders: HashMap<Place, HashMap<RecordKey, Offset>>,
    /// What cannot be read, for people: of a message without a mark nothing is known then.
    pub damage: Vec<String>,
}

impl Marks {
    /// Reads the marks files of a directory; what cannot be read is passed over, and said.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut marks = Self::default();
        let damage = each_mark(dir, &mut |place, offset, mark| {
            marks.add(place, offset, mark);
        })?;
        marks.damage = damage;
        Ok(marks)
    }

    #[must_use]
    pub fn of(&self, place: &Place, offset: Offset) -> Progress {
        let offsets = self.places.get(place);
        let progress = offsets.and_then(|offsets| offsets.get(&offset.0));
        progress.copied().unwrap_or_default()
    }

    /// The message under whose id this record was first sent.
    #[must_use]
    pub fn leader(&self, place: &Place, record: RecordKey) -> Option<Offset> {
        self.leaders.get(place)?.get(&record).copied()
    }

    /// Whether all was read: a message without a mark has none.
    #[must_use]
    pub fn are_whole(&self) -> bool {
        self.damage.is_empty()
    }

    pub fn add(&mut self, place: &Place, offset: Offset, mark: Mark) {
        if let Mark::Leads { record } = mark {
            let leaders = self.leaders.entry(place.clone()).or_default();
            leaders.entry(record).or_insert(offset);
            return;
        }
        if !self.places.contains_key(place) {
            self.places.insert(place.clone(), BTreeMap::new());
        }
        let offsets = self.places.get_mut(place).expect("it is there");
        let progress = offsets.entry(offset.0).or_default();
        match mark {
            Mark::Sent { since } => {
                progress.since = Some(progress.since.map_or(since, |known| known.min(since)));
            }
            Mark::Done { landed } => {
                progress.landed.get_or_insert(landed);
            }
            Mark::Discarded { at_ms } => {
                progress.discarded_ms.get_or_insert(at_ms);
            }
            Mark::Leads { .. } => {}
        }
    }

    /// Every message that has a mark.
    pub fn keys(&self) -> impl Iterator<Item = (&Place, Offset)> {
        let places = self.places.iter();
        places.flat_map(|(place, offsets)| offsets.keys().map(move |at| (place, Offset(*at))))
    }
}

/// Gives every mark in the files of a directory; what cannot be read is passed over, and told.
///
/// # Errors
/// Where the directory cannot be listed.
pub(super) fn each_mark(
    dir: &Path,
    each: &mut dyn FnMut(&Place, Offset, Mark),
) -> io::Result<Vec<String>> {
    let mut damage = Vec::new();
    for path in files(dir)? {
        if has_prefix(&path, PREFIX) {
            damage.extend(each_mark_of(&path, each));
        }
    }
    Ok(damage)
}

/// As [`each_mark`], of one file.
pub(super) fn each_mark_of(
    path: &Path,
    each: &mut dyn FnMut(&Place, Offset, Mark),
) -> Option<String> {
    let mut unreadable = Unreadable::default();
    let report = read_frames(path, KIND, &mut |position, payload| {
        unreadable.note(position, read_payload(payload, each));
    });
    match report {
        // What is torn was never durable, and so never relied on.
        Ok(report) => unreadable.describe(path, report.damage()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{}: {error}", path.display())),
    }
}

fn read_payload(
    payload: &[u8],
    each: &mut dyn FnMut(&Place, Offset, Mark),
) -> Result<(), PayloadError> {
    let mut rest = Rest(payload);
    let place = entry::read_place(&mut rest)?;
    while !rest.0.is_empty() {
        let kind = rest.u8()?;
        let offset = Offset(i64::from_be_bytes(rest.array()?));
        let mark = match kind {
            SENT => Mark::Sent {
                since: Offset(i64::from_be_bytes(rest.array()?)),
            },
            DONE => Mark::Done {
                landed: Offset(i64::from_be_bytes(rest.array()?)),
            },
            DISCARDED => Mark::Discarded {
                at_ms: i64::from_be_bytes(rest.array()?),
            },
            LEADS => Mark::Leads {
                record: (BatchId(rest.array()?), u32::from_be_bytes(rest.array()?)),
            },
            other => return Err(PayloadError(format!("mark of kind {other}"))),
        };
        each(&place, offset, mark);
    }
    Ok(())
}

/// Writes the marks of one command; no file before the first.
#[derive(Debug)]
pub struct MarksWriter {
    dir: PathBuf,
    file: Option<FrameWriter>,
    /// In `file`.
    marks: usize,
}

impl MarksWriter {
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            file: None,
            marks: 0,
        }
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// As the file system says; nothing may be relied on then.
    pub fn append(&mut self, place: &Place, marks: &[(Offset, Mark)]) -> io::Result<()> {
        let mut payload = Vec::new();
        entry::begin(place, &mut payload);
        for (offset, mark) in marks {
            let mut put = |kind: u8, value: &[u8]| {
                payload.push(kind);
                payload.extend_from_slice(&offset.0.to_be_bytes());
                payload.extend_from_slice(value);
            };
            match mark {
                Mark::Sent { since } => put(SENT, &since.0.to_be_bytes()),
                Mark::Done { landed } => put(DONE, &landed.0.to_be_bytes()),
                Mark::Discarded { at_ms } => put(DISCARDED, &at_ms.to_be_bytes()),
                Mark::Leads {
                    record: (batch, sequence),
                } => {
                    put(LEADS, &batch.0);
                    payload.extend_from_slice(&sequence.to_be_bytes());
                }
            }
        }
        if self.marks >= FILE_MARKS {
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                self.marks = 0;
                let name = format!("{PREFIX}{:016x}.dlq", fastrand::u64(..));
                let file = FrameWriter::create(&self.dir.join(name), KIND)?;
                self.file.insert(file)
            }
        };
        self.marks += marks.len();
        file.append(&payload)?;
        file.sync()
    }
}
