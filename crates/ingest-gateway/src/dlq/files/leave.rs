//! How a data file leaves: with all its entries done; what of it is damaged is set aside.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use pipeline_core::fsx::{self, File};

use super::{super::names::data_path, DAMAGED, Files, Known};

impl Files {
    /// What could not be removed before.
    pub fn remove_all_done(&mut self) {
        for number in self.done().collect::<Vec<_>>() {
            self.remove_if_done(number);
        }
    }

    /// Whether a file is still here only because it could not be removed.
    #[must_use]
    pub fn has_done(&self) -> bool {
        self.done().next().is_some()
    }

    fn done(&self) -> impl Iterator<Item = u64> {
        let current = self.current.as_ref().map(|current| current.number);
        let done = move |(number, file): (&u64, &Known)| {
            (!file.has_entries() && Some(*number) != current).then_some(*number)
        };
        self.known.iter().filter_map(done)
    }

    /// Removes a data file without entries and its marks; what of it is damaged is set aside.
    pub(super) fn remove_if_done(&mut self, number: u64) {
        let is_current = self.current.as_ref().is_some_and(|c| c.number == number);
        let Some(file) = self.known.get(&number) else {
            return;
        };
        if is_current || file.has_entries() {
            return;
        }
        match self.remove(number, file) {
            Ok(set_aside) => {
                self.known.remove(&number);
                self.damaged_bytes += set_aside;
                self.make_reserve();
            }
            Err(error) => tracing::warn!(
                file = number,
                "failed to remove a file of the dead letter queue that is done: {error}"
            ),
        }
    }

    /// Gives the bytes that were set aside.
    fn remove(&self, number: u64, file: &Known) -> io::Result<u64> {
        let path = data_path(&self.dir, number);
        let aside = self.dir.join(DAMAGED);
        let mut set_aside = 0;
        if !file.damaged.is_empty() && path.exists() {
            fsx::create_private_dir(&aside)?;
            let damaged: u64 = file.damaged.iter().map(|r| r.end - r.start).sum();
            if self.totals().bytes + damaged > self.capacity() {
                // No room for a copy of what is damaged: all of it. Not under its own name: its
                // entries are done, and nobody must take them for some that are to be sent.
                fsx::rename(&path, &aside.join(damaged_name(number, 0)))?;
                fsx::sync_dir(&aside)?;
                set_aside += file.data_bytes;
            } else {
                for range in &file.damaged {
                    let bytes = read_range(&path, range)?;
                    let name = damaged_name(number, range.start);
                    if fsx::put_private_if_absent(&aside.join(name), &bytes)? {
                        set_aside += bytes.len() as u64;
                    }
                }
            }
        }
        match fsx::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        // The marks may leave only once the data cannot come back.
        fsx::sync_dir(&self.dir)?;
        for path in file.names(number).marks_paths(&self.dir) {
            set_aside += self.remove_marks(&path, &aside, file.marks_damaged)?;
        }
        Ok(set_aside)
    }

    /// Gives the bytes that were set aside.
    pub(super) fn remove_marks(&self, path: &Path, aside: &Path, damaged: bool) -> io::Result<u64> {
        let done = match path.file_name().filter(|_| damaged) {
            Some(name) => {
                fsx::create_private_dir(aside)?;
                let len = len_of(path);
                fsx::rename(path, &aside.join(name)).map(|()| len)
            }
            None => fsx::remove_file(path).map(|()| 0),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            done => done,
        }
    }
}

fn damaged_name(number: u64, position: u64) -> String {
    format!("{number:020}-{position:020}")
}

/// 0 where it cannot be looked at.
pub(super) fn len_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn read_range(path: &Path, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    Ok(bytes)
}
