//! Taking entries in: one append each, one fsync for all, and never over the bound.

use std::{io, path::Path, time::Instant};

use pipeline_core::{
    dlq::FrameWriter,
    fsx::{self, File},
};

use super::{
    super::{
        entry::{DATA_KIND, Entry},
        names::data_path,
    },
    Current, Files, Known, Refusal,
};

/// Both copies of an entry's marks, each mark in a file of its own, as long as they can get.
const MARKS_BYTES_PER_ENTRY: u64 = 336;
/// What a data file and its marks take besides entries.
const BYTES_PER_FILE: u64 = 256;
/// What ending a file and beginning the next may take.
pub const NEXT_FILE_BYTES: u64 = 2 * BYTES_PER_FILE;

/// Why an entry was not taken in.
enum Unkept {
    /// Its neighbours may be.
    Entry(Refusal),
    /// The disk failed.
    File(Refusal),
}

impl Files {
    /// Appends entries and makes them durable with one fsync; one result for each.
    ///
    /// After a failed write or fsync the file is cut back to what was durable and closed for good:
    /// what is refused without `may_be_kept` is not there after a restart either. What follows is
    /// refused, too: a new file would keep the end of a batch whose beginning is gone.
    pub fn store(&mut self, entries: &[Entry]) -> Vec<Result<(), Refusal>> {
        if let Some(current) = &self.current
            && current.writer.len() >= self.limits.file_bytes_max
        {
            self.seal();
        }
        self.take_back();
        self.remove_all_done();
        let mut results = Vec::with_capacity(entries.len());
        // Places in `results` of what is appended and not durable yet.
        let mut waiting = Vec::new();
        let mut bytes = self.used();
        for entry in entries {
            results.push(match self.append(entry, bytes) {
                Ok(written) => {
                    bytes += written + MARKS_BYTES_PER_ENTRY;
                    waiting.push(results.len());
                    Ok(())
                }
                Err(Unkept::Entry(refusal)) => Err(refusal),
                Err(Unkept::File(refusal)) => {
                    // The file has failed under those before it, too.
                    for place in waiting.drain(..) {
                        results[place] = Err(refusal.clone());
                    }
                    results.push(Err(refusal.clone()));
                    let never_written = Refusal {
                        may_be_kept: false,
                        ..refusal
                    };
                    results.resize(entries.len(), Err(never_written));
                    return results;
                }
            });
        }
        if waiting.is_empty() {
            return results;
        }
        let current = self.current.as_mut().expect("something was appended to it");
        match current.writer.sync() {
            Ok(()) => {
                let appended = current.writer.len() - current.synced;
                current.synced = current.writer.len();
                let file = self.known.entry(current.number).or_default();
                file.data_bytes = current.synced;
                self.written_bytes += appended;
                for place in waiting {
                    file.add(&entries[place]);
                }
            }
            Err(error) => {
                let refusal = self.give_up_current("fsync", &error);
                for place in waiting {
                    results[place] = Err(refusal.clone());
                }
            }
        }
        results
    }

    /// Bytes that are taken or promised: an entry that is kept can also be marked.
    fn used(&self) -> u64 {
        let totals = self.totals();
        // One more file may have to be begun.
        let files = self.known.len() as u64 + 1;
        totals.bytes + totals.entries * MARKS_BYTES_PER_ENTRY + files * BYTES_PER_FILE
    }

    /// Bytes that can still be taken in.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.capacity().saturating_sub(self.used())
    }

    /// Appends one entry; gives the bytes it took. `used` is what is taken or promised before it.
    fn append(&mut self, entry: &Entry, used: u64) -> Result<u64, Unkept> {
        let wanted = wanted(entry);
        if used + wanted > self.capacity() {
            return Err(Unkept::Entry(Refusal {
                may_be_kept: false,
                why: format!(
                    "the dead letter queue holds {used} bytes, {wanted} more are over the limit \
                     of {}",
                    self.limits.bytes_max
                ),
            }));
        }
        if self.current.is_none() {
            self.begin().map_err(|error| {
                Unkept::File(Refusal {
                    may_be_kept: false,
                    why: format!("failed to begin a file of the dead letter queue: {error}"),
                })
            })?;
        }
        let current = self.current.as_mut().expect("begun just now");
        let before = current.writer.len();
        entry.encode_into(&mut self.scratch);
        match current.writer.append(&self.scratch) {
            Ok(_) => Ok(current.writer.len() - before),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(Unkept::Entry(Refusal {
                    may_be_kept: false,
                    why: error.to_string(),
                }))
            }
            Err(error) => Err(Unkept::File(self.give_up_current("write", &error))),
        }
    }

    /// Cuts off what was refused and could not be cut off before. Whether nothing of that is left.
    pub fn take_back(&mut self) -> bool {
        let mut all = true;
        for (number, file) in &mut self.known {
            let Some(len) = file.uncut else {
                continue;
            };
            match cut(&data_path(&self.dir, *number), len) {
                Ok(()) => file.uncut = None,
                Err(_) => all = false,
            }
        }
        all
    }

    /// Whether something is left that was refused.
    #[must_use]
    pub fn has_uncut(&self) -> bool {
        self.known.values().any(|file| file.uncut.is_some())
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
            began: Instant::now(),
        });
        Ok(())
    }

    /// Cuts the current file back to what is durable and never writes to it again.
    pub(super) fn give_up_current(&mut self, step: &str, error: &io::Error) -> Refusal {
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
            // Whole entries may stand behind what is known: the next start would find them.
            file.uncut = Some(current.synced);
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

/// What an entry takes with its marks, at most.
pub fn wanted(entry: &Entry) -> u64 {
    FrameWriter::frame_len_max(entry.encoded_len()) + MARKS_BYTES_PER_ENTRY
}

pub(super) fn cut(path: &Path, len: u64) -> io::Result<()> {
    let file = File::open_to_write(path)?;
    file.set_len(len)?;
    file.sync_all()
}
