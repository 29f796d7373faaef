//! The bytes of one segment: zstd frames of NDJSON, then a skippable frame with the trailer.

use crate::ids::{BatchId, Offset};

/// What became of one offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Fate {
    Stored = 0,
    Duplicate = 1,
    Poison = 2,
    Undecidable = 3,
    /// Control records and what compaction removed.
    Skipped = 4,
    /// Retention was faster than the writer.
    Lost = 5,
}

/// `count` offsets in a row with the same fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FateRun {
    pub fate: Fate,
    pub count: u64,
}

/// `count` stored records in a row: offsets and sequences both go up by one, the time of receipt
/// and the batch stay. Runs stand in the order of the lines in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredRun {
    pub first: Offset,
    pub count: u32,
    pub received_ms: i64,
    /// `None`: the messages had no `sluice` header, `first_sequence` is 0 and means nothing.
    pub batch: Option<BatchId>,
    pub first_sequence: u32,
}

/// How many offsets met each fate; running totals count from the chain's START.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    pub stored: u64,
    pub duplicate: u64,
    pub poison: u64,
    pub undecidable: u64,
    pub skipped: u64,
    pub lost: u64,
}

impl Totals {
    pub fn add(&mut self, fate: Fate, count: u64) {
        *match fate {
            Fate::Stored => &mut self.stored,
            Fate::Duplicate => &mut self.duplicate,
            Fate::Poison => &mut self.poison,
            Fate::Undecidable => &mut self.undecidable,
            Fate::Skipped => &mut self.skipped,
            Fate::Lost => &mut self.lost,
        } += count;
    }

    #[must_use]
    pub fn sum(&self) -> u64 {
        self.stored + self.duplicate + self.poison + self.undecidable + self.skipped + self.lost
    }
}

/// SHA-256 of a segment's trailer, which holds the SHA-256 of its data: a link over everything,
/// checked along a chain by reading trailers alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentHash(pub [u8; 32]);

impl std::fmt::Debug for SegmentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for SegmentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The segment before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub first: Offset,
    pub hash: SegmentHash,
}

/// The last message of the log that this chain has seen, whatever became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastMessage {
    pub offset: Offset,
    /// First 16 bytes of SHA-256 over the message: see [`message_hash`].
    pub hash: [u8; 16],
}

/// The hash that a take-over compares with the log: timestamp, value and `sluice` header as they
/// stand in Kafka (`None` = null or absent).
#[must_use]
pub fn message_hash(timestamp_ms: i64, value: Option<&[u8]>, header: Option<&[u8]>) -> [u8; 16] {
    let _ = (timestamp_ms, value, header);
    todo!()
}

/// What the caller says of a segment; the rest of the trailer is computed.
#[derive(Clone, Debug)]
pub struct Draft {
    pub first: Offset,
    /// Exclusive.
    pub next: Offset,
    /// `None` for the first segment of a chain.
    pub previous: Option<Link>,
    /// Id of the writing process.
    pub writer: [u8; 16],
    /// Covers `[first, next)` without a gap.
    pub fates: Vec<FateRun>,
    /// Covers the stored offsets, in order.
    pub stored: Vec<StoredRun>,
    /// The totals of the chain before this segment.
    pub totals_before: Totals,
    /// Where no message was seen in this segment: that of the segment before.
    pub last: Option<LastMessage>,
}

/// A segment's trailer, read and checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trailer {
    pub first: Offset,
    pub next: Offset,
    pub previous: Option<Link>,
    pub writer: [u8; 16],
    pub fates: Vec<FateRun>,
    pub stored: Vec<StoredRun>,
    /// Running totals, this segment included.
    pub totals: Totals,
    pub last: Option<LastMessage>,
    /// Length of the zstd data before the trailer's frame.
    pub data_len: u64,
    pub data_sha256: [u8; 32],
    /// Length of the NDJSON.
    pub plain_len: u64,
}

/// A whole segment file in memory.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub hash: SegmentHash,
    pub trailer: Trailer,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SegmentError(pub String);

impl Draft {
    /// Compresses `ndjson` (each line with its `\n`) and appends the trailer.
    ///
    /// # Panics
    /// Where the draft contradicts itself (runs that do not cover the range): a bug of the caller.
    #[must_use]
    pub fn encode(&self, ndjson: &[u8], level: i32) -> Encoded {
        let _ = (ndjson, level);
        todo!()
    }
}

/// Reads only the trailer of an open file (two small reads at its end).
///
/// # Errors
/// What is wrong with it.
pub fn read_trailer(file: &std::fs::File) -> Result<(Trailer, SegmentHash), SegmentError> {
    let _ = file;
    todo!()
}

/// Reads and checks a whole segment: trailer, data hash, plain length, line count.
///
/// # Errors
/// What is wrong with it.
pub fn read_segment(
    path: &std::path::Path,
) -> Result<(Trailer, SegmentHash, Vec<u8>), SegmentError> {
    let _ = path;
    todo!()
}
