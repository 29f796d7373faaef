//! Reading one data file of the queue with its marks: what of it is still to be sent.
//!
//! Reads only; the file may not be appended to meanwhile.

use std::{
    collections::HashMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use pipeline_core::{
    Offset, PartitionId,
    dlq::{FrameReport, read_frame, read_frames},
};

use super::{
    entry::{self, DATA_KIND, Head},
    mark::{MARKS_KIND, Mark},
};
use crate::decode::RecordBatch;

const DATA_SUFFIX: &str = ".pdlq";
const MARKS_SUFFIX: &str = ".pdlm";
const DIGITS: usize = 20;

/// One entry that is not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    pub position: u64,
    pub records: u32,
    /// Of its payload, uncompressed.
    pub bytes: usize,
    /// Where it goes, where that is fixed or was known.
    pub partition: Option<PartitionId>,
    /// What its marks say, where it was sent after it had been stored.
    pub sent: Option<(PartitionId, Offset)>,
}

/// One data file, read with its marks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loaded {
    /// In the order of the file.
    pub pending: Vec<Pending>,
    /// Entries for another cluster or topic: they stay.
    pub foreign: u64,
    /// Whole frames that this version cannot read: they stay, too.
    pub unknown: u64,
    /// Of the whole entries that are not done.
    pub left_entries: u64,
    pub left_records: u64,
    /// What could not be read, for people.
    pub damage: Vec<String>,
    /// Ranges of the data file that hold no whole frame.
    pub damaged: Vec<Range<u64>>,
    /// The last of them is a write that never ended: nobody was told that it is kept.
    pub torn: bool,
    /// A mark may be missing: an entry that looks unsent may have been sent.
    pub marks_damaged: bool,
}

/// What the marks of one data file say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    pub sent: HashMap<u64, (PartitionId, Offset)>,
    /// Records of the entries that are done.
    pub done: HashMap<u64, u32>,
    pub sealed: Option<(u64, u64)>,
    pub damaged: bool,
    pub damage: Vec<String>,
}

/// Reads the file `number` of `dir`; `ours` says whether an entry is for this cluster and topic.
///
/// # Errors
/// Where the data file cannot be read at all.
pub fn load(dir: &Path, number: u64, ours: &dyn Fn(&Head) -> bool) -> io::Result<Loaded> {
    let marks = load_marks(dir, number)?;
    let path = data_path(dir, number);
    let mut loaded = Loaded {
        marks_damaged: marks.damaged,
        damage: marks.damage,
        ..Loaded::default()
    };
    let report = read_frames(
        &path,
        DATA_KIND,
        &mut |position, payload| match entry::decode_head(payload) {
            Ok((head, records)) => {
                if marks.done.contains_key(&position) {
                    // In Kafka already.
                    return;
                }
                loaded.left_entries += 1;
                loaded.left_records += u64::from(records);
                if ours(&head) {
                    let sent = marks.sent.get(&position).copied();
                    loaded.pending.push(Pending {
                        position,
                        records,
                        bytes: payload.len(),
                        partition: head.partition.or(sent.map(|(partition, _)| partition)),
                        sent,
                    });
                } else {
                    loaded.foreign += 1;
                }
            }
            Err(why) => {
                loaded.unknown += 1;
                loaded.left_entries += 1;
                loaded.damage.push(format!(
                    "{}: entry at byte {position}: {why}",
                    path.display()
                ));
            }
        },
    )?;
    loaded.damage.extend(describe(&path, &report));
    loaded.damaged = report.damaged;
    loaded.torn = report.torn;
    Ok(loaded)
}

impl Loaded {
    /// Bytes of the data file that hold no whole frame.
    #[must_use]
    pub fn damaged_bytes(&self) -> u64 {
        self.damaged.iter().map(|r| r.end - r.start).sum()
    }
}

/// Reads all marks files of data file `number`. What cannot be read is said, never an error.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn load_marks(dir: &Path, number: u64) -> io::Result<Marks> {
    let mut marks = Marks::default();
    for path in marks_paths(dir, number)? {
        let mut damage = Vec::new();
        let read = read_frames(
            &path,
            MARKS_KIND,
            &mut |position, payload| match Mark::decode(payload) {
                Ok(Mark::Sent(sent)) => marks
                    .sent
                    .extend(sent.iter().map(|m| (m.position, (m.partition, m.since)))),
                Ok(Mark::Done(done)) => marks
                    .done
                    .extend(done.iter().map(|m| (m.position, m.records))),
                Ok(Mark::Sealed { entries, records }) => marks.sealed = Some((entries, records)),
                Err(why) => {
                    damage.push(format!(
                        "{}: mark at byte {position}: {why}",
                        path.display()
                    ));
                }
            },
        );
        match read {
            Ok(report) => damage.extend(describe(&path, &report)),
            Err(error) => damage.push(format!("{}: {error}", path.display())),
        }
        marks.damaged |= !damage.is_empty();
        marks.damage.append(&mut damage);
    }
    Ok(marks)
}

/// Reads one entry.
///
/// # Errors
/// Where it cannot be read (any more).
pub fn load_entry(dir: &Path, number: u64, position: u64) -> io::Result<(Head, RecordBatch)> {
    let payload = read_frame(&data_path(dir, number), DATA_KIND, position)?;
    entry::decode(&payload).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Numbers of the data files in `dir`, oldest first.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn data_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<_> = names(dir)?
        .iter()
        .filter_map(|name| parse_number(name.strip_suffix(DATA_SUFFIX)?))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Numbers (of the data file, of the marks file) of the marks files in `dir`, in order.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn marks_numbers(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut numbers: Vec<_> = names(dir)?
        .iter()
        .filter_map(|name| {
            let (data, marks) = name.strip_suffix(MARKS_SUFFIX)?.split_once('-')?;
            Some((parse_number(data)?, parse_number(marks)?))
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[must_use]
pub fn data_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:0DIGITS$}{DATA_SUFFIX}"))
}

#[must_use]
pub fn marks_path(dir: &Path, number: u64, marks: u64) -> PathBuf {
    dir.join(format!("{number:0DIGITS$}-{marks:0DIGITS$}{MARKS_SUFFIX}"))
}

/// Paths of the marks files of one data file, in order.
///
/// # Errors
/// Where the directory cannot be listed.
pub fn marks_paths(dir: &Path, number: u64) -> io::Result<Vec<PathBuf>> {
    Ok(marks_numbers(dir)?
        .into_iter()
        .filter(|(data, _)| *data == number)
        .map(|(data, marks)| marks_path(dir, data, marks))
        .collect())
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?
        .filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

fn parse_number(text: &str) -> Option<u64> {
    (text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn describe(path: &Path, report: &FrameReport) -> Vec<String> {
    report
        .damaged
        .iter()
        .map(|range| {
            format!(
                "{}: bytes {} to {} hold no whole frame",
                path.display(),
                range.start,
                range.end
            )
        })
        .collect()
}
