//! Reading one data file of the queue with its marks: what of it is still to be sent.
//!
//! Reads only. [`visit`] also reads a file that its gateway is working on: what it gives was true
//! at some moment of the look.

use std::{io, ops::Range, path::Path};

use pipeline_core::{
    PartitionId,
    dlq::{read_frame, read_frames},
};

use super::{
    entry::{self, DATA_KIND, Head},
    names::{DataFile, data_path},
    standing::{Damage, Marks, describe, load_marks},
};
use crate::{batch::Progress, decode::RecordBatch};

/// A whole entry that is not done.
pub struct Visited<'a> {
    /// Its place among the whole entries of the file, done or not, from 1.
    pub place: u64,
    pub position: u64,
    pub head: &'a Head,
    pub records: u32,
    pub payload: &'a [u8],
    pub marks: &'a Marks,
}

/// What a data file with its marks turned out to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Of the whole entries that are not done.
    pub left_entries: u64,
    pub left_records: u64,
    /// The earliest first receipt among them, ms since 1970.
    pub oldest_ms: Option<i64>,
    /// Entries that its end counts and that are gone: cut between two entries, a file looks whole.
    pub missing: u64,
    /// Whole frames that this version cannot read: they stay.
    pub unknown: u64,
    /// What could not be read, for people.
    pub damage: Vec<Damage>,
    /// Ranges of the data file that hold no whole frame.
    pub damaged: Vec<Range<u64>>,
    /// The last of them is a write that never ended: nobody was told that it is kept.
    pub torn: bool,
    /// Nothing is appended any more.
    pub sealed: bool,
}

/// Reads a file of `dir`, one entry at a time.
///
/// # Errors
/// Where the data file cannot be read at all, or its marks are of an unknown version: then nobody
/// here knows which entries are done.
pub fn visit(
    dir: &Path,
    file: &DataFile,
    each: &mut dyn FnMut(&Visited<'_>),
) -> io::Result<(Seen, Marks)> {
    // Before the data: marks leave only after it.
    let mut marks = load_marks(dir, file);
    if let Some(why) = marks.unknown {
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let path = file.path(dir);
    let mut seen = Seen {
        damage: std::mem::take(&mut marks.damage),
        sealed: marks.sealed.is_some(),
        ..Seen::default()
    };
    let mut place = 0;
    let report = read_frames(&path, DATA_KIND, &mut |position, payload| {
        place += 1;
        if marks.done.contains_key(&position) {
            // In Kafka already.
            return;
        }
        seen.left_entries += 1;
        match entry::decode_head(payload) {
            Ok((head, records)) => {
                seen.left_records += u64::from(records);
                let oldest = seen.oldest_ms.unwrap_or(head.received_ms);
                seen.oldest_ms = Some(oldest.min(head.received_ms));
                each(&Visited {
                    place,
                    position,
                    head: &head,
                    records,
                    payload,
                    marks: &marks,
                });
            }
            Err(why) => {
                seen.unknown += 1;
                let path = path.display();
                seen.damage.push(Damage {
                    what: format!("{path}: entry at byte {position}: {why}"),
                    bytes: payload.len() as u64,
                    torn: false,
                });
            }
        }
    })?;
    seen.damage.extend(describe(&path, &report));
    if let Some(sealed) = marks.sealed {
        let expected = sealed.entries.saturating_sub(marks.done.len() as u64);
        seen.missing = expected.saturating_sub(seen.left_entries);
        if seen.missing > 0 {
            seen.damage.push(Damage {
                what: format!(
                    "{}: {} of {expected} entries that are to be sent are not there",
                    path.display(),
                    seen.missing
                ),
                bytes: sealed.bytes.saturating_sub(report.len),
                torn: false,
            });
        }
    }
    seen.damaged = report.damaged;
    seen.torn = report.torn;
    Ok((seen, marks))
}

/// What a replay does with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// To this partition, unless it has one.
    Send { to: PartitionId },
    /// For another cluster or topic: it stays.
    Foreign,
    /// Nobody has asked for it.
    Leave,
}

/// One entry that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    pub position: u64,
    pub records: u32,
    /// Of its payload, uncompressed.
    pub bytes: usize,
    /// Where it goes.
    pub partition: PartitionId,
    /// What it and its marks say of where it has been.
    pub progress: Progress,
}

/// One data file, read with its marks for a replay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// In the order of the file.
    pub pending: Vec<Pending>,
    pub foreign_entries: u64,
    pub foreign_records: u64,
    pub seen: Seen,
}

/// Reads a file of `dir`.
///
/// # Errors
/// Where the data file cannot be read at all.
pub fn load(
    dir: &Path,
    file: &DataFile,
    choose: &dyn Fn(&Head, &[u8]) -> Choice,
) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    let (seen, _) = visit(
        dir,
        file,
        &mut |entry| match choose(entry.head, entry.payload) {
            Choice::Send { to } => {
                let progress = entry.marks.progress_of(entry.head, entry.position);
                loaded.pending.push(Pending {
                    position: entry.position,
                    records: entry.records,
                    bytes: entry.payload.len(),
                    partition: progress.partition.unwrap_or(to),
                    progress,
                });
            }
            Choice::Foreign => {
                loaded.foreign_entries += 1;
                loaded.foreign_records += u64::from(entry.records);
            }
            Choice::Leave => {}
        },
    )?;
    loaded.seen = seen;
    Ok(loaded)
}

/// Reads one entry.
///
/// # Errors
/// Where it cannot be read (any more).
pub fn load_entry(dir: &Path, number: u64, position: u64) -> io::Result<(Head, RecordBatch)> {
    let payload = read_frame(&data_path(dir, number), DATA_KIND, position)?;
    entry::decode(&payload).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}
