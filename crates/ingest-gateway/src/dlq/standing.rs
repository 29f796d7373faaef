//! What became of the entries of one data file, as its marks say it. Reads only.
//!
//! Marks are kept in two copies, written one after the other and both durable before anything is
//! sent: what either says counts. A copy that is cut or damaged so costs nothing; only where both
//! are is an entry without a mark taken for one that may have been sent.

use std::{collections::HashMap, fs, io, path::Path};

use pipeline_core::{
    Offset, PartitionId,
    dlq::{FrameReport, HEADER_LEN, read_frames},
};

use super::{
    entry::Head,
    mark::{MARKS_KIND, Mark, Sealed},
    names::{DataFile, marks_paths},
};
use crate::batch::Progress;

/// What the marks of one data file say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    pub sent: HashMap<u64, (PartitionId, Offset)>,
    /// Records of the entries that are done.
    pub done: HashMap<u64, u32>,
    pub sealed: Option<Sealed>,
    /// Some may be missing in both copies: an entry that looks unsent may have been sent.
    pub uncertain: bool,
    /// Whole marks that this version cannot read: what they decide is for whoever wrote them.
    pub unknown: Option<String>,
    pub damage: Vec<Damage>,
}

/// What could not be read, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    pub what: String,
    pub bytes: u64,
    /// As a write leaves it that has not ended (yet).
    pub torn: bool,
}

/// Reads all marks of a data file. What cannot be read is said, never an error.
#[must_use]
pub fn load_marks(dir: &Path, file: &DataFile) -> Marks {
    let mut marks = Marks::default();
    for pair in &file.marks {
        let copies = marks_paths(dir, file.number, *pair).map(|path| Copy::read(&path));
        let longest = copies.iter().map(|copy| copy.len).max().unwrap_or(0);
        let certain = |copy: &Copy| copy.whole && copy.len == longest;
        marks.uncertain |= longest > 0 && !copies.iter().any(certain);
        for copy in copies {
            marks.unknown = marks.unknown.or(copy.unknown);
            copy.marks.into_iter().for_each(|mark| marks.take(mark));
            marks.damage.extend(copy.damage);
        }
    }
    marks
}

impl Marks {
    fn take(&mut self, mark: Mark) {
        match mark {
            Mark::Sent(sent) => {
                for mark in sent {
                    let said = (mark.partition, mark.since);
                    let known = self.sent.entry(mark.position).or_insert(said);
                    if known.0 == said.0 {
                        // The first send counts.
                        known.1 = known.1.min(said.1);
                    }
                }
            }
            Mark::Done(done) => self
                .done
                .extend(done.iter().map(|m| (m.position, m.records))),
            Mark::Sealed(sealed) => self.sealed = Some(sealed),
        }
    }

    /// What an entry at `position` and its marks say of where it has been.
    #[must_use]
    pub fn progress_of(&self, head: &Head, position: u64) -> Progress {
        let sent = self.sent.get(&position).copied();
        progress_of(head, sent, self.uncertain)
    }
}

fn progress_of(head: &Head, sent: Option<(PartitionId, Offset)>, uncertain: bool) -> Progress {
    let mut progress = Progress {
        partition: head.partition,
        since: head.since,
        may_have_been_sent: head.may_have_been_sent,
        acknowledged: 0,
    };
    match sent {
        // The log was not the one that its since was of: see `Progress::bound_since`.
        Some((partition, since))
            if head.may_have_been_sent && head.partition == Some(partition) =>
        {
            progress.since = Some(head.since.map_or(since, |first| first.min(since)));
        }
        Some((partition, since)) if !head.may_have_been_sent => {
            progress.partition = Some(partition);
            progress.since = Some(since);
            progress.may_have_been_sent = true;
        }
        _ => {}
    }
    if uncertain && !progress.may_have_been_sent {
        // It may have been sent, but not before it was stored: the end known then is a bound, and
        // without one the writer must not guess either.
        progress.may_have_been_sent = true;
        progress.since = progress.since.or(Some(Offset(0)));
    }
    progress
}

/// One of the two copies.
#[derive(Default)]
struct Copy {
    marks: Vec<Mark>,
    damage: Vec<Damage>,
    len: u64,
    /// It is there, and all its bytes are good marks.
    whole: bool,
    /// As of [`Marks`].
    unknown: Option<String>,
}

impl Copy {
    fn read(path: &Path) -> Self {
        let mut copy = Self {
            len: fs::metadata(path).map_or(0, |metadata| metadata.len()),
            ..Self::default()
        };
        let named = |what: String| format!("{}: {what}", path.display());
        let say = |what: String, bytes| Damage {
            what,
            bytes,
            torn: false,
        };
        let mut unknown = None;
        let read = read_frames(
            path,
            MARKS_KIND,
            &mut |position, payload| match Mark::decode(payload) {
                Ok(mark) => copy.marks.push(mark),
                Err(why) => {
                    let what = named(format!("mark at byte {position}: {why}"));
                    unknown.get_or_insert_with(|| what.clone());
                    copy.damage.push(say(what, payload.len() as u64));
                }
            },
        );
        match read {
            Ok(report) => copy.damage.extend(describe(path, &report)),
            // It has left with its data file, or was never made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return copy,
            Err(error) => {
                let what = named(error.to_string());
                if error.kind() == io::ErrorKind::InvalidData {
                    unknown.get_or_insert_with(|| what.clone());
                }
                copy.damage.push(say(what, copy.len));
            }
        }
        copy.unknown = unknown;
        copy.whole = copy.damage.is_empty();
        copy
    }
}

/// Says which bytes of a file hold nothing whole.
pub fn describe(path: &Path, report: &FrameReport) -> Vec<Damage> {
    let path = path.display();
    let last = report.damaged.len().saturating_sub(1);
    let mut damage: Vec<_> = report
        .damaged
        .iter()
        .enumerate()
        .map(|(at, range)| Damage {
            what: format!(
                "{path}: bytes {} to {} hold no whole frame",
                range.start, range.end
            ),
            bytes: range.end - range.start,
            torn: report.torn && at == last,
        })
        .collect();
    if report.torn && damage.is_empty() {
        damage.push(Damage {
            what: format!("{path}: the file is empty"),
            bytes: HEADER_LEN,
            torn: true,
        });
    }
    damage
}

#[cfg(test)]
mod tests {
    use pipeline_core::{BatchId, dlq::FrameWriter};

    use super::*;
    use crate::dlq::{SentMark, entry::test::head_of};

    fn head(may_have_been_sent: bool, since: Option<i64>) -> Head {
        Head {
            may_have_been_sent,
            partition: Some(PartitionId(1)),
            since: since.map(Offset),
            ..head_of(BatchId([1; 16]))
        }
    }

    #[test]
    fn since_is_fixed_by_the_first_send_wherever_that_was() {
        let since = |head: Head, sent: Option<i64>, uncertain| {
            let sent = sent.map(|since| (PartitionId(1), Offset(since)));
            let progress = progress_of(&head, sent, uncertain);
            progress.may_have_been_sent.then_some(progress.since)
        };
        // Sent before it was stored, whatever later marks say.
        assert_eq!(
            since(head(true, Some(5)), Some(9), false),
            Some(Some(Offset(5)))
        );
        // The log that it was sent to is not there any more.
        assert_eq!(
            since(head(true, Some(5)), Some(0), false),
            Some(Some(Offset(0)))
        );
        // Sent by a replay.
        assert_eq!(
            since(head(false, Some(5)), Some(9), false),
            Some(Some(Offset(9)))
        );
        // Never sent: it will be learnt.
        assert_eq!(since(head(false, Some(5)), None, false), None);
        // Perhaps sent by a replay whose mark is damaged.
        assert_eq!(
            since(head(false, Some(5)), None, true),
            Some(Some(Offset(5)))
        );
        assert_eq!(since(head(false, None), None, true), Some(Some(Offset(0))));
    }

    fn sent(position: u64) -> Mark {
        Mark::Sent(vec![SentMark {
            position,
            partition: PartitionId(4),
            since: Offset(17),
        }])
    }

    fn file() -> DataFile {
        DataFile {
            number: 1,
            marks: vec![1],
        }
    }

    /// Both copies of marks that say of two entries that they were sent.
    fn written(dir: &Path) -> [Vec<u8>; 2] {
        marks_paths(dir, 1, 1).map(|path| {
            let mut writer = FrameWriter::create(&path, MARKS_KIND).unwrap();
            for position in [20, 99] {
                writer.append(&sent(position).encode()).unwrap();
            }
            fs::read(path).unwrap()
        })
    }

    #[test]
    fn one_copy_cut_or_damaged_anywhere_costs_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let copies = written(dir.path());
        assert_eq!(copies[0], copies[1]);
        let paths = marks_paths(dir.path(), 1, 1);
        for (path, bytes) in paths.iter().zip(&copies) {
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (at % 8);
                for damaged in [&bytes[..at], &flipped] {
                    fs::write(path, damaged).unwrap();
                    let marks = load_marks(dir.path(), &file());
                    assert_eq!(marks.sent.len(), 2, "byte {at}");
                    assert!(!marks.uncertain, "byte {at}");
                }
            }
            fs::remove_file(path).unwrap();
            assert_eq!(load_marks(dir.path(), &file()).sent.len(), 2);
            fs::write(path, bytes).unwrap();
        }
    }

    #[test]
    fn marks_of_which_both_copies_are_damaged_are_uncertain_and_what_is_whole_counts() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = written(dir.path());
        let [a, b] = marks_paths(dir.path(), 1, 1);
        let mut flipped = second.clone();
        flipped[second.len() - 1] ^= 1;
        fs::write(b, flipped).unwrap();
        // Cut between two marks, a copy looks whole: the longer one says that it is not.
        let middle = (first.len() + 28) / 2;
        for len in [0, 1, 28, middle, first.len() - 1] {
            fs::write(&a, &first[..len]).unwrap();
            let marks = load_marks(dir.path(), &file());
            assert!(marks.uncertain, "cut at {len}");
            assert!(marks.sent.contains_key(&20), "cut at {len}");
        }
    }
}
