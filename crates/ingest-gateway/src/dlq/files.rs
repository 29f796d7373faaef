//! The files of the producer's dead letter queue: who may write, what is there, what leaves.
//!
//! ```text
//! <dir>/LOCK                          held by the one process that writes here
//! <dir>/RESERVE                       given up for the marks when the disk is full
//! <dir>/<number>.pdlq                 entries, appended and fsynced in groups
//! <dir>/<number>-<marks number>.pdlm  what became of them; one per process that had to say it
//! <dir>/damaged/                      damaged bytes of files that are done: <number>-<position>
//! ```
//!
//! Numbers are never used again. A data file leaves when all its entries are done, in any order,
//! as nothing in it or its marks says anything of another file. Synchronous; one owner (a thread).

mod leave;
mod marks;
mod start;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, TryLockError},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use pipeline_core::{
    dlq::FrameWriter,
    fsx::{self, File},
};

use super::{
    entry::{DATA_KIND, Entry},
    load::data_path,
    mark::{DoneMark, Mark, SentMark},
};

const LOCK: &str = "LOCK";
const DAMAGED: &str = "damaged";

#[derive(Clone, Copy, Debug)]
pub struct FileLimits {
    /// Of data, marks and what is set aside; the reserve comes on top.
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
    #[error("the dead letter queue {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("failed to open the dead letter queue {}: {error}", .dir.display())]
    Io { dir: PathBuf, error: io::Error },
}

#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    limits: FileLimits,
    _lock: fs::File,
    known: BTreeMap<u64, Known>,
    current: Option<Current>,
    next_number: u64,
    next_marks: u64,
    damaged_bytes: u64,
    scratch: Vec<u8>,
}

/// One data file with its marks.
#[derive(Debug, Default)]
struct Known {
    data_bytes: u64,
    marks_bytes: u64,
    /// Of entries that are not done.
    left_entries: u64,
    left_records: u64,
    /// Positions of the entries that are done, with their records: each counts once, however
    /// often it is said.
    done: HashMap<u64, u32>,
    damaged: Vec<Range<u64>>,
    /// It could not be read: what it holds is not known, and it stays.
    unreadable: bool,
    marks: Option<FrameWriter>,
}

/// What a file turned out to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Of entries that are not done.
    pub entries: u64,
    pub records: u64,
    /// Ranges without a whole frame.
    pub damaged: Vec<Range<u64>>,
}

/// The data file that is appended to.
#[derive(Debug)]
struct Current {
    number: u64,
    writer: FrameWriter,
    /// Up to here it is durable.
    synced: u64,
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
        fsx::create_dirs(dir).map_err(io)?;
        let lock = fsx::open_or_create(&dir.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut files = Self {
            dir: dir.to_owned(),
            limits,
            _lock: lock,
            known: BTreeMap::new(),
            current: None,
            next_number: 1,
            next_marks: 1,
            damaged_bytes: 0,
            scratch: Vec::new(),
        };
        files.look().map_err(io)?;
        files.make_reserve();
        Ok(files)
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

    /// Bytes that there is still room for.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.limits.bytes_max.saturating_sub(self.totals().bytes)
    }

    /// Data files that nothing is appended to any more and that hold entries, oldest first.
    #[must_use]
    pub fn sealed(&self) -> Vec<u64> {
        let current = self.current.as_ref().map(|current| current.number);
        self.known
            .iter()
            .filter(|(number, file)| Some(**number) != current && file.has_entries())
            .map(|(number, _)| *number)
            .collect()
    }

    /// Appends entries and makes them durable with one fsync; one result for each.
    ///
    /// After a failed write or fsync the file is cut back to what was durable and closed for good:
    /// what is refused without `may_be_kept` is not there after a restart either.
    pub fn store(&mut self, entries: &[Entry]) -> Vec<Result<(), Refusal>> {
        if let Some(current) = &self.current
            && current.writer.len() >= self.limits.file_bytes_max
        {
            self.seal();
        }
        self.remove_all_done();
        let mut results = Vec::with_capacity(entries.len());
        // Places in `results` of what is appended and not durable yet.
        let mut waiting = Vec::new();
        let mut bytes = self.totals().bytes;
        for entry in entries {
            let result = self.append(entry, bytes);
            match &result {
                Ok(written) => {
                    bytes += written;
                    waiting.push((results.len(), entry.record_count() as u64));
                }
                Err(refusal) if self.current.is_none() && !waiting.is_empty() => {
                    // The file has failed under those before it, too.
                    for (place, _) in waiting.drain(..) {
                        results[place] = Err(refusal.clone());
                    }
                }
                Err(_) => {}
            }
            results.push(result.map(|_| ()));
        }
        if waiting.is_empty() {
            return results;
        }
        let current = self.current.as_mut().expect("something was appended to it");
        match current.writer.sync() {
            Ok(()) => {
                current.synced = current.writer.len();
                let file = self.known.entry(current.number).or_default();
                file.data_bytes = current.synced;
                file.left_entries += waiting.len() as u64;
                file.left_records += waiting.iter().map(|(_, records)| records).sum::<u64>();
            }
            Err(error) => {
                let refusal = self.give_up_current("fsync", &error);
                for (place, _) in waiting {
                    results[place] = Err(refusal.clone());
                }
            }
        }
        results
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
        if file.has_entries() {
            return self.mark(number, &Mark::Done(marks));
        }
        self.remove_if_done(number);
        Ok(())
    }

    /// What a sealed file holds, read anew: there was damage since.
    pub fn correct(&mut self, number: u64, found: Found) {
        if let Some(file) = self.known.get_mut(&number) {
            file.left_entries = found.entries;
            file.left_records = found.records;
            file.damaged = found.damaged;
            file.unreadable = false;
            self.remove_if_done(number);
        }
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

    /// Appends one entry; gives the bytes it took. `bytes` is what the directory holds.
    fn append(&mut self, entry: &Entry, bytes: u64) -> Result<u64, Refusal> {
        let wanted = entry.encoded_len() as u64;
        if bytes + wanted > self.limits.bytes_max {
            return Err(Refusal {
                may_be_kept: false,
                why: format!(
                    "the dead letter queue holds {bytes} bytes, {wanted} more are over the limit \
                     of {}",
                    self.limits.bytes_max
                ),
            });
        }
        if self.current.is_none() {
            self.begin().map_err(|error| Refusal {
                may_be_kept: false,
                why: format!("failed to begin a file of the dead letter queue: {error}"),
            })?;
        }
        let current = self.current.as_mut().expect("begun just now");
        let before = current.writer.len();
        entry.encode_into(&mut self.scratch);
        match current.writer.append(&self.scratch) {
            Ok(_) => Ok(current.writer.len() - before),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(Refusal {
                may_be_kept: false,
                why: error.to_string(),
            }),
            Err(error) => Err(self.give_up_current("write", &error)),
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let number = self.next_number;
        // Also after a failure, as the name may be taken then.
        self.next_number += 1;
        let path = data_path(&self.dir, number);
        let writer = FrameWriter::create(&path, DATA_KIND).inspect_err(|_| {
            let _ = fsx::remove_file(&path);
        })?;
        let synced = writer.len();
        self.known.insert(
            number,
            Known {
                data_bytes: synced,
                ..Known::default()
            },
        );
        self.current = Some(Current {
            number,
            writer,
            synced,
        });
        Ok(())
    }

    /// Cuts the current file back to what is durable and never writes to it again.
    fn give_up_current(&mut self, step: &str, error: &io::Error) -> Refusal {
        let current = self.current.take().expect("it has just failed");
        let path = data_path(&self.dir, current.number);
        let cut = cut(&path, current.synced);
        let file = self.known.entry(current.number).or_default();
        file.data_bytes = current.synced;
        tracing::error!(
            file = current.number,
            "failed to {step} a file of the dead letter queue: {error}"
        );
        if let Err(error) = &cut {
            // Whole entries may stand behind what is known: the next start will find them.
            file.unreadable = true;
            tracing::error!(
                file = current.number,
                "failed to cut a file of the dead letter queue back to {}: {error}",
                current.synced
            );
        } else if !file.has_entries() {
            self.remove_if_done(current.number);
        }
        Refusal {
            may_be_kept: cut.is_err(),
            why: format!("failed to {step} a file of the dead letter queue: {error}"),
        }
    }
}

fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = File::open_to_write(path)?;
    file.set_len(len)?;
    file.sync_all()
}

impl Known {
    fn has_entries(&self) -> bool {
        self.left_entries > 0 || self.unreadable
    }

    fn done_records(&self) -> u64 {
        self.done.values().map(|records| u64::from(*records)).sum()
    }

    /// Counts all entries, done or not.
    fn end(&self) -> Mark {
        Mark::Sealed {
            entries: self.left_entries + self.done.len() as u64,
            records: self.left_records + self.done_records(),
        }
    }
}
