//! A snapshot of a chain's duplicate window, as bytes: what a take-over needs to know of all
//! segments up to one place, so that it reads only those behind it. Owns the layout; `shelf` owns
//! the files, and what a window does is its owner's business.
//!
//! ```text
//! magic      "SLWINDOW"
//! version    u16, little-endian
//! next       varint: the snapshot covers all offsets of the chain below it
//! last       the last segment covered: first (varint), hash (32 bytes)
//! totals     stored, duplicate, poison, undecidable, skipped, lost (varints, running)
//! message    0, or 1, offset (varint), hash (16 bytes): the last one that the chain has seen
//! names      number (varint), each: first offset - that of the one before (varint; from 0)
//! start      varint: the window's start
//! batches    number (varint), in the window's order, each:
//!              batch id (16 bytes)
//!              received_ms - that of the batch before (zigzag varint; from 0)
//!              greatest stored offset - that of the batch before (zigzag varint; from 0)
//!              runs of stored sequences: number (varint), each:
//!                first - end of the run before (varint; from 0), length - 1 (varint)
//! checksum   CRC-32C of all before (u32, little-endian)
//! ```
//! `names` are the segments that were there, each reached by a walk: a later walk that begins here
//! compares them with the directory, and so finds a missing segment without opening any of them.

use super::{
    codec::{last, put_last, put_totals, totals},
    segment::SegmentError,
    trailer::{Link, SegmentHash},
    varint::{Reader, damaged, distance, put, put_offset, unzigzag, zigzag},
    walk::ChainEnd,
};
use crate::ids::{BatchId, Offset};

const MAGIC: [u8; 8] = *b"SLWINDOW";
/// The version written; no other is read yet.
pub const VERSION: u16 = 1;
const CHECKSUM_LEN: usize = 4;

/// What a snapshot says beside the window itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotHead {
    /// Where the chain ended; its last segment is known.
    pub end: ChainEnd,
    /// First offsets of the segments that were there, in order; the last is the end's.
    pub names: Vec<Offset>,
    pub window_start: Offset,
}

/// One batch of the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotBatch {
    pub batch: BatchId,
    pub received_ms: i64,
    /// Of all its stored records.
    pub greatest: Offset,
}

/// A batch with its stored sequences as runs in order, both ends inside.
pub type BatchRuns<'a> = (SnapshotBatch, &'a [(u32, u32)]);

/// Makes the bytes of one snapshot.
#[derive(Debug)]
pub struct SnapshotWriter {
    next: Offset,
    last: Link,
    bytes: Vec<u8>,
    left: usize,
    received_ms: i64,
    greatest: i64,
}

/// A whole snapshot in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncodedSnapshot {
    /// Of the chain: what it covers ends there.
    pub next: Offset,
    /// The last segment that it covers.
    pub last: Link,
    pub bytes: Vec<u8>,
}

impl SnapshotWriter {
    /// Begins a snapshot of `batches` batches.
    ///
    /// # Panics
    /// Of an empty chain, or where the names are not its segments: a bug of the caller.
    #[must_use]
    pub fn new(head: &SnapshotHead, batches: usize) -> Self {
        let link = head.end.last.expect("a chain that has a segment");
        assert!(
            head.names.is_sorted() && head.names.last() == Some(&link.first),
            "the names of a chain's segments end with its last one"
        );
        let mut bytes = Vec::with_capacity(256 + 4 * head.names.len() + 26 * batches);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        put_offset(&mut bytes, head.end.next);
        put_offset(&mut bytes, link.first);
        bytes.extend_from_slice(&link.hash.0);
        put_totals(&mut bytes, &head.end.totals);
        put_last(&mut bytes, head.end.last_message.as_ref());
        put(&mut bytes, head.names.len() as u64);
        let mut before = Offset(0);
        for name in &head.names {
            put(&mut bytes, distance(before, *name));
            before = *name;
        }
        put_offset(&mut bytes, head.window_start);
        put(&mut bytes, batches as u64);
        Self {
            next: head.end.next,
            last: link,
            bytes,
            left: batches,
            received_ms: 0,
            greatest: 0,
        }
    }

    /// The next batch, with its stored sequences as runs in order, both ends inside.
    ///
    /// # Panics
    /// Where there are more than was said, or runs out of order: a bug of the caller.
    pub fn batch(&mut self, batch: &SnapshotBatch, runs: &[(u32, u32)]) {
        self.left = self.left.checked_sub(1).expect("no more than was said");
        let out = &mut self.bytes;
        out.extend_from_slice(&batch.batch.0);
        let received_ms = batch.received_ms.wrapping_sub(self.received_ms);
        put(out, zigzag(received_ms));
        put(out, zigzag(batch.greatest.0.wrapping_sub(self.greatest)));
        self.received_ms = batch.received_ms;
        self.greatest = batch.greatest.0;
        put(out, runs.len() as u64);
        let mut end = 0;
        for &(first, last) in runs {
            assert!(end <= u64::from(first) && first <= last, "runs in order");
            put(out, u64::from(first) - end);
            put(out, u64::from(last - first));
            end = u64::from(last) + 1;
        }
    }

    /// # Panics
    /// Where batches are missing: a bug of the caller.
    #[must_use]
    pub fn finish(mut self) -> EncodedSnapshot {
        assert_eq!(self.left, 0, "as many batches as were said");
        let checksum = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&checksum.to_le_bytes());
        EncodedSnapshot {
            next: self.next,
            last: self.last,
            bytes: self.bytes,
        }
    }
}

/// Reads what [`SnapshotWriter`] made; its checksum holds once this is opened.
#[derive(Debug)]
pub struct SnapshotReader<'a> {
    pub head: SnapshotHead,
    /// How many batches are still to come.
    left: usize,
    from: Reader<'a>,
    received_ms: i64,
    greatest: i64,
    runs: Vec<(u32, u32)>,
}

impl<'a> SnapshotReader<'a> {
    /// # Errors
    /// What is wrong with it.
    pub fn open(bytes: &'a [u8]) -> Result<Self, SegmentError> {
        let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_LEN>() else {
            return Err(damaged(format!(
                "{} bytes are too few for a snapshot",
                bytes.len()
            )));
        };
        let mut from = Reader::new(body);
        let magic: [u8; 8] = from.array("magic")?;
        if magic != MAGIC {
            return Err(damaged(format!("is no snapshot: begins with {magic:02x?}")));
        }
        let version = u16::from_le_bytes(from.array("version")?);
        if version != VERSION {
            return Err(damaged(format!(
                "snapshot has version {version}, known is {VERSION}"
            )));
        }
        let (found, expected) = (crc32c::crc32c(body), u32::from_le_bytes(*checksum));
        if found != expected {
            return Err(damaged(format!(
                "snapshot has checksum {found:08x}, expected {expected:08x} (cut off?)"
            )));
        }
        let next = from.offset("next")?;
        let link = Link {
            first: from.offset("last.first")?,
            hash: SegmentHash(from.array("last.hash")?),
        };
        let totals = totals(&mut from)?;
        let last_message = last(&mut from)?;
        let mut names = Vec::with_capacity(from.count("names", 1)?);
        let mut before = Offset(0);
        for _ in 0..names.capacity() {
            before = from.offset_after(before, "name")?;
            names.push(before);
        }
        if names.last() != Some(&link.first) || next <= link.first {
            return Err(damaged(format!(
                "snapshot of a chain that ends at {next} with {} names {:?}",
                link.first,
                names.last()
            )));
        }
        let window_start = from.offset("window start")?;
        let left = from.count("batches", 20)?;
        Ok(Self {
            head: SnapshotHead {
                end: ChainEnd {
                    next,
                    last: Some(link),
                    totals,
                    last_message,
                },
                names,
                window_start,
            },
            left,
            from,
            received_ms: 0,
            greatest: 0,
            runs: Vec::new(),
        })
    }

    /// How many batches are still to come.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next batch of the window, with its runs of stored sequences in order.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn batch(&mut self) -> Result<Option<BatchRuns<'_>>, SegmentError> {
        if self.left == 0 {
            if !self.from.rest().is_empty() {
                return Err(damaged("snapshot goes on behind its end".to_owned()));
            }
            return Ok(None);
        }
        self.left -= 1;
        let batch = BatchId(self.from.array("batch id")?);
        let received_ms = unzigzag(self.from.number("received_ms")?);
        self.received_ms = self.received_ms.wrapping_add(received_ms);
        let greatest = unzigzag(self.from.number("greatest offset")?);
        self.greatest = self.greatest.wrapping_add(greatest);
        if self.greatest < 0 {
            return Err(damaged(format!("offset {} is negative", self.greatest)));
        }
        self.runs.clear();
        let mut end = 0_u64;
        for _ in 0..self.from.count("runs", 2)? {
            let too_large = || damaged("a run of sequences is out of bounds".to_owned());
            let run = end
                .checked_add(self.from.number("run")?)
                .and_then(|first| u32::try_from(first).ok())
                .zip(u32::try_from(self.from.number("run's length")?).ok())
                .and_then(|(first, more)| Some((first, first.checked_add(more)?)))
                .ok_or_else(too_large)?;
            end = u64::from(run.1) + 1;
            self.runs.push(run);
        }
        if self.runs.is_empty() {
            return Err(damaged(format!("batch {batch} has nothing stored")));
        }
        let batch = SnapshotBatch {
            batch,
            received_ms: self.received_ms,
            greatest: Offset(self.greatest),
        };
        Ok(Some((batch, &self.runs)))
    }
}
