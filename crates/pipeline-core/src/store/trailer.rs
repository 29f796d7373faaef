//! What a segment says of its offsets: types, running totals, and whether they agree with
//! themselves. Pure: no bytes (`codec`), no files (`segment`), no chain (`walk`).

use sha2::{Digest, Sha256};

use super::segment::{PLAIN_BYTES_MAX, SegmentError};
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
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(timestamp_ms.to_be_bytes());
    for part in [value, header] {
        // The length in front keeps value and header apart; -1 is null, as in Kafka.
        let len = part.map_or(-1, |part| part.len() as i64);
        hasher.update(len.to_be_bytes());
        hasher.update(part.unwrap_or_default());
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize()[..16]);
    hash
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

/// One stored record of a segment that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredRecord<'a> {
    pub offset: Offset,
    pub received_ms: i64,
    /// `None`: the message had no `sluice` header; `sequence` means nothing then.
    pub batch: Option<BatchId>,
    pub sequence: u32,
    /// Without its newline.
    pub line: &'a [u8],
}

impl Trailer {
    /// What this segment alone adds to the running totals.
    #[must_use]
    pub fn own_totals(&self) -> Totals {
        let mut own = Totals::default();
        for run in &self.fates {
            own.add(run.fate, run.count);
        }
        own
    }

    /// The running totals before this segment.
    #[must_use]
    pub fn totals_before(&self) -> Totals {
        let own = self.own_totals();
        Totals {
            stored: self.totals.stored - own.stored,
            duplicate: self.totals.duplicate - own.duplicate,
            poison: self.totals.poison - own.poison,
            undecidable: self.totals.undecidable - own.undecidable,
            skipped: self.totals.skipped - own.skipped,
            lost: self.totals.lost - own.lost,
        }
    }

    /// The stored records with their lines, in order; `ndjson` is this segment's.
    pub fn records<'a>(&'a self, ndjson: &'a [u8]) -> impl Iterator<Item = StoredRecord<'a>> + 'a {
        let mut rest = ndjson;
        self.runs().map(move |place| {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            StoredRecord { line, ..place }
        })
    }

    /// The stored records without their lines.
    pub(super) fn runs(&self) -> Runs<'_> {
        Runs {
            runs: self.stored.iter(),
            run: None,
            step: 0,
        }
    }

    /// That it agrees with itself.
    pub(super) fn check(&self) -> Result<(), SegmentError> {
        let fail = |detail: String| Err(SegmentError::Damaged(detail));
        let (first, next) = (self.first, self.next);
        if first.0 < 0 || next <= first || next.0 - first.0 > 1 << 60 {
            return fail(format!("range [{first}, {next}) is empty or out of bounds"));
        }
        if let Some(previous) = self.previous
            && !(0 <= previous.first.0 && previous.first < first)
        {
            return fail(format!(
                "the segment before, {}, is not below {first}",
                previous.first
            ));
        }
        if let Some(last) = self.last
            && !(0 <= last.offset.0 && last.offset < next)
        {
            return fail(format!("last message {} is not below {next}", last.offset));
        }
        let stored = self.check_runs()?;
        let own = self.own_totals();
        let covered = [
            (self.totals.stored, own.stored),
            (self.totals.duplicate, own.duplicate),
            (self.totals.poison, own.poison),
            (self.totals.undecidable, own.undecidable),
            (self.totals.skipped, own.skipped),
            (self.totals.lost, own.lost),
        ]
        .into_iter()
        .all(|(running, own)| own <= running && running <= i64::MAX as u64);
        if !covered {
            return fail(format!(
                "running totals {:?} do not hold the segment's own {own:?}",
                self.totals
            ));
        }
        if self.plain_len > PLAIN_BYTES_MAX {
            return fail(format!(
                "{} bytes of records, at most {PLAIN_BYTES_MAX} are allowed",
                self.plain_len
            ));
        }
        if self.plain_len < stored || (stored == 0) != (self.plain_len == 0) {
            return fail(format!("{stored} records in {} bytes", self.plain_len));
        }
        if (self.data_len == 0) != (self.plain_len == 0) {
            return fail(format!(
                "{} bytes of records in {} of data",
                self.plain_len, self.data_len
            ));
        }
        Ok(())
    }

    /// That fates cover the range and stored runs cover the stored offsets; gives their number.
    fn check_runs(&self) -> Result<u64, SegmentError> {
        let fail = |detail: String| Err(SegmentError::Damaged(detail));
        let mut runs = self.stored.iter().map(|run| {
            (
                run.first.0,
                run.first.0.saturating_add(i64::from(run.count)),
            )
        });
        let mut stored = 0;
        let mut at = self.first.0;
        for fate in &self.fates {
            let end = i64::try_from(fate.count)
                .ok()
                .and_then(|count| at.checked_add(count))
                .filter(|end| at < *end && *end <= self.next.0);
            let Some(end) = end else {
                return fail(format!(
                    "{} x {:?} at offset {at} does not fit below {}",
                    fate.count, fate.fate, self.next
                ));
            };
            if fate.fate == Fate::Stored {
                stored += fate.count;
                while at < end {
                    match runs.next() {
                        Some((from, to)) if from == at && from < to && to <= end => at = to,
                        run => {
                            return fail(format!(
                                "offsets [{at}, {end}) are stored, the next run is {run:?}"
                            ));
                        }
                    }
                }
            }
            at = end;
        }
        if at != self.next.0 {
            return fail(format!("fates end at {at}, not at {}", self.next));
        }
        if let Some(run) = runs.next() {
            return fail(format!("run {run:?} is of no stored offset"));
        }
        Ok(stored)
    }
}

/// See [`Trailer::runs`].
pub(super) struct Runs<'t> {
    runs: std::slice::Iter<'t, StoredRun>,
    run: Option<&'t StoredRun>,
    step: u32,
}

impl Iterator for Runs<'_> {
    type Item = StoredRecord<'static>;

    #[inline]
    fn next(&mut self) -> Option<StoredRecord<'static>> {
        let run = match self.run.filter(|run| self.step < run.count) {
            Some(run) => run,
            None => {
                let run = self.runs.find(|run| run.count > 0)?;
                (self.run, self.step) = (Some(run), 0);
                run
            }
        };
        let step = self.step;
        self.step += 1;
        Some(StoredRecord {
            offset: Offset(run.first.0 + i64::from(step)),
            received_ms: run.received_ms,
            batch: run.batch,
            sequence: run.first_sequence.wrapping_add(step),
            line: &[],
        })
    }
}
