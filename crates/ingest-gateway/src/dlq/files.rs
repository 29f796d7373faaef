//! The files of the producer's dead letter queue: who may write, what is there, what leaves.
//!
//! ```text
//! <dir>/LOCK                           held by the one process that writes here: who it is
//! <dir>/RESERVE                        given up for the marks when the disk is full
//! <dir>/<number>.pdlq                  entries, appended and fsynced in groups
//! <dir>/<number>-<marks number>.pdlm   what became of them; one per process that had to say it
//! <dir>/<number>-<marks number>.pdlm2  its copy
//! <dir>/damaged/                       of files that are done: damaged bytes (<number>-<position>),
//!                                      damaged marks
//! ```
//!
//! Numbers are never used again. A data file leaves when all its entries are done, in any order,
//! as nothing in it or its marks says anything of another file. Synchronous; one owner (a thread).

mod append;
mod leave;
mod lock;
mod marks;
mod start;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pipeline_core::{dlq::FrameWriter, fsx};

pub use self::{
    append::{NEXT_FILE_BYTES, wanted},
    lock::holder,
};
use self::{lock::Lock, marks::MarksWriter};
use super::{
    entry::Entry,
    load::Seen,
    mark::{DoneMark, Mark, Sealed, SentMark},
    names::DataFile,
    standing::Damage,
};
use crate::telemetry;

const DAMAGED: &str = "damaged";
/// Most bytes of the reserve.
const RESERVE_BYTES_MAX: u64 = 256 * 1024;
/// What the lock's file takes, at most.
const LOCK_BYTES_MAX: u64 = 512;

#[derive(Clone, Copy, Debug)]
pub struct FileLimits {
    /// Of all files in the directory.
    pub bytes_max: u64,
    /// After which a new data file is begun.
    pub file_bytes_max: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub records: u64,
    pub entries: u64,
    pub bytes: u64,
}

/// Why an entry was not kept.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// It could not be taken back from the disk for sure.
    pub may_be_kept: bool,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the dead letter queue {} is in use by another process{}", .dir.display(), said(.by))]
    InUse { dir: PathBuf, by: Option<String> },
    #[error("failed to open the dead letter queue {}: {error}", .dir.display())]
    Io { dir: PathBuf, error: io::Error },
}

#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    limits: FileLimits,
    _lock: Lock,
    known: BTreeMap<u64, Known>,
    current: Option<Current>,
    next_number: u64,
    next_marks: u64,
    /// The file whose marks were written last.
    marked_last: Option<u64>,
    damaged_bytes: u64,
    /// Of entries, since the last look.
    written_bytes: u64,
    scratch: Vec<u8>,
}

/// One data file with its marks.
#[derive(Debug, Default)]
struct Known {
    data_bytes: u64,
    /// Of its marks files, in order.
    marks_numbers: Vec<u64>,
    marks_bytes: u64,
    /// Of entries that are not done.
    left_entries: u64,
    left_records: u64,
    /// The earliest first receipt among them (or among some that are done by now), ms since 1970.
    oldest_ms: Option<i64>,
    /// Positions of the entries that are done, with their records: each counts once, however
    /// often it is said.
    done: HashMap<u64, u32>,
    damaged: Vec<Range<u64>>,
    /// What was said of its damage: each is said, and counted, once.
    said: Vec<Damage>,
    /// They are set aside, too, when the file leaves.
    marks_damaged: bool,
    /// It could not be read: what it holds is not known, and it stays.
    unreadable: bool,
    /// What stands behind so many bytes was refused, and could not be cut off yet. Till then it
    /// looks like any entry: nothing of the file is sent.
    uncut: Option<u64>,
    marks: Option<MarksWriter>,
}

/// The data file that is appended to.
#[derive(Debug)]
struct Current {
    number: u64,
    writer: FrameWriter,
    /// Up to here it is durable.
    synced: u64,
    began: Instant,
}

impl Files {
    /// Takes the directory (made where it is missing) and looks at what is there. Damage is said
    /// in the log and never stops a start.
    ///
    /// # Errors
    /// Where another process has it, or the directory cannot be used.
    pub fn open(dir: &Path, limits: FileLimits) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io {
            dir: dir.to_owned(),
            error,
        };
        fsx::create_private_dir(dir).map_err(io)?;
        let mut files = Self {
            dir: dir.to_owned(),
            limits,
            _lock: Lock::take(dir)?,
            known: BTreeMap::new(),
            current: None,
            next_number: 1,
            next_marks: 1,
            marked_last: None,
            damaged_bytes: 0,
            written_bytes: 0,
            scratch: Vec::new(),
        };
        fsx::takes_files(dir).map_err(io)?;
        files.look().map_err(io)?;
        files.make_reserve();
        Ok(files)
    }

    /// Most bytes of data, marks and what is set aside.
    fn capacity(&self) -> u64 {
        let others = self.reserve_bytes() + LOCK_BYTES_MAX;
        self.limits.bytes_max.saturating_sub(others)
    }

    fn reserve_bytes(&self) -> u64 {
        (self.limits.bytes_max / 16).min(RESERVE_BYTES_MAX)
    }

    /// The earliest first receipt of what is here, ms since 1970; while the file that holds it is
    /// being replayed, of what was there when that began.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        let files = self.known.values().filter(|file| file.left_entries > 0);
        files.filter_map(|file| file.oldest_ms).min()
    }

    /// Bytes of entries that were stored since this was last asked.
    pub fn take_written_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            bytes: self.damaged_bytes,
            ..Totals::default()
        };
        for file in self.known.values() {
            totals.bytes += file.data_bytes + file.marks_bytes;
            totals.entries += file.left_entries;
            totals.records += file.left_records;
        }
        totals
    }

    /// Data files that nothing is appended to any more and that hold entries, oldest first.
    #[must_use]
    pub fn sealed(&self) -> Vec<DataFile> {
        let current = self.current.as_ref().map(|current| current.number);
        self.known
            .iter()
            .filter(|(number, file)| Some(**number) != current && file.has_entries())
            .filter(|(_, file)| file.uncut.is_none())
            .map(|(number, file)| file.names(*number))
            .collect()
    }

    /// Makes durable that entries are about to be sent.
    ///
    /// # Errors
    /// As the file system says; nothing may be sent then.
    pub fn mark_sent(&mut self, number: u64, marks: Vec<SentMark>) -> io::Result<()> {
        self.mark(number, &Mark::Sent(marks))
    }

    /// Notes that entries are in Kafka, and removes their file when it has no others.
    ///
    /// # Errors
    /// Where the mark cannot be written: the entries will be sent once more, with the same
    /// identity.
    pub fn mark_done(&mut self, number: u64, marks: Vec<DoneMark>) -> io::Result<()> {
        let Some(file) = self.known.get_mut(&number) else {
            return Ok(());
        };
        for mark in &marks {
            if file.done.insert(mark.position, mark.records).is_none() {
                file.left_entries = file.left_entries.saturating_sub(1);
                file.left_records = file.left_records.saturating_sub(mark.records.into());
            }
        }
        let has_entries = file.has_entries();
        let marked = self.mark(number, &Mark::Done(marks));
        if has_entries {
            return marked;
        }
        // Without the last mark, too: the file leaves.
        self.remove_if_done(number);
        Ok(())
    }

    /// What a sealed file holds, read anew.
    pub fn correct(&mut self, number: u64, seen: &Seen) {
        let is_current = self.current.as_ref().is_some_and(|c| c.number == number);
        if let Some(file) = self.known.get_mut(&number)
            && !is_current
        {
            file.correct(seen);
            self.remove_if_done(number);
        }
    }

    /// How long the current data file has been appended to; nothing where there is none.
    #[must_use]
    pub fn current_age(&self, now: Instant) -> Duration {
        let began = self.current.as_ref().map_or(now, |current| current.began);
        now.saturating_duration_since(began)
    }

    /// Ends the current data file, so that it can be read and, when it is done, removed.
    pub fn seal(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        let number = current.number;
        drop(current);
        let Some(file) = self.known.get(&number) else {
            return;
        };
        if file.has_entries() {
            let end = file.end();
            if let Err(error) = self.mark(number, &end) {
                tracing::warn!(
                    file = number,
                    "failed to note the end of a file of the dead letter queue, it will be read \
                     as a whole at the next start: {error}"
                );
            }
        } else {
            self.remove_if_done(number);
        }
    }
}

impl Known {
    fn names(&self, number: u64) -> DataFile {
        DataFile {
            number,
            marks: self.marks_numbers.clone(),
        }
    }

    fn has_entries(&self) -> bool {
        self.left_entries > 0 || self.unreadable || self.uncut.is_some()
    }

    fn done_records(&self) -> u64 {
        self.done.values().map(|records| u64::from(*records)).sum()
    }

    fn add(&mut self, entry: &Entry) {
        self.left_entries += 1;
        self.left_records += entry.record_count() as u64;
        let received = entry.head.received_ms;
        self.oldest_ms = Some(self.oldest_ms.unwrap_or(received).min(received));
    }

    /// Takes over what was read; says the damage that is new.
    fn correct(&mut self, seen: &Seen) {
        self.left_entries = seen.left_entries;
        self.left_records = seen.left_records;
        self.oldest_ms = seen.oldest_ms;
        self.unreadable = false;
        for damage in &seen.damage {
            self.say(damage);
        }
        self.damaged.clone_from(&seen.damaged);
    }

    fn say(&mut self, damage: &Damage) {
        if !self.said.contains(damage) {
            tracing::error!("damage in the dead letter queue: {}", damage.what);
            telemetry::dlq_damaged(damage.bytes);
            self.said.push(damage.clone());
        }
    }

    /// Counts all entries, done or not.
    fn end(&self) -> Mark {
        Mark::Sealed(Sealed {
            entries: self.left_entries + self.done.len() as u64,
            records: self.left_records + self.done_records(),
            bytes: self.data_bytes,
            oldest_ms: self.oldest_ms,
        })
    }
}

fn said(by: &Option<String>) -> String {
    by.as_ref()
        .map_or_else(String::new, |by| format!(" ({by})"))
}
