//! The files of rejected records.
//!
//! ```text
//! <dir>/LOCK                     held by the one process that writes here
//! <dir>/<number>.ndjson.zst      frames of lines, appended and fsynced in groups
//! <dir>/damaged/<number>.…       files that have damage; what is whole in them is still read
//! ```
//!
//! Personal data: only the owner may read. Capped in bytes, and the oldest file leaves first, as
//! what is new helps most. A file is never written to by another process than the one that began
//! it. Synchronous; one owner (a thread).

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use pipeline_core::{
    dlq::{FrameReport, FrameWriter, read_frames},
    fsx,
};

pub const KIND: [u8; 4] = *b"reje";
const LOCK: &str = "LOCK";
const DAMAGED: &str = "damaged";
const SUFFIX: &str = ".ndjson.zst";
/// A new file is begun after so much, or after one part in so many of the cap.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const FILES_MIN: u64 = 8;

#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    bytes_max: u64,
    _lock: File,
    /// Bytes and place of each file, the current one too.
    known: BTreeMap<u64, Known>,
    current: Option<(u64, FrameWriter)>,
    next_number: u64,
    /// Left by earlier processes, or by a failed write; the newest last.
    unchecked: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    bytes: u64,
    path: PathBuf,
}

impl Files {
    /// Takes the directory, made where it is missing.
    ///
    /// # Errors
    /// Where another process has it, or it cannot be used.
    pub fn open(dir: &Path, bytes_max: u64) -> io::Result<Self> {
        if !dir.is_dir() {
            fsx::create_private_dir(dir)?;
        }
        let lock = fsx::open_or_create(&dir.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let why = format!("{} is in use by another process", dir.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut known = BTreeMap::new();
        let mut unchecked = Vec::new();
        for (number, path) in paths(dir)? {
            if path.parent() == Some(dir) {
                unchecked.push(number);
            }
            let bytes = fs::metadata(&path)?.len();
            known.insert(number, Known { bytes, path });
        }
        let next_number = known.keys().next_back().map_or(1, |last| last + 1);
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max,
            _lock: lock,
            known,
            current: None,
            next_number,
            unchecked,
        })
    }

    /// Of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.known.values().map(|file| file.bytes).sum()
    }

    /// Longest `lines` of one [`Self::append`] that surely fits.
    #[must_use]
    pub fn group_bytes_max(bytes_max: u64) -> usize {
        // Compressed it is hardly ever longer; the head and the file's own take a little.
        usize::try_from(bytes_max / FILES_MIN / 2).unwrap_or(usize::MAX)
    }

    /// Appends whole lines and makes them durable; what is oldest makes room.
    ///
    /// # Errors
    /// As the file system says: then none of them may be there. The next call begins a new file.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let file_bytes_max = FILE_BYTES_MAX.min(self.bytes_max / FILES_MIN);
        let full = |(_, writer): &(u64, FrameWriter)| writer.len() >= file_bytes_max;
        if self.current.as_ref().is_some_and(full) {
            self.current = None;
        }
        self.make_room(FrameWriter::frame_len_max(lines.len()))?;
        if self.current.is_none() {
            self.begin()?;
        }
        let (number, writer) = self.current.as_mut().expect("begun just now");
        let number = *number;
        let written = writer.append(lines).and_then(|_| writer.sync());
        match written {
            Ok(()) => self
                .known
                .entry(number)
                .and_modify(|file| file.bytes = writer.len()),
            Err(error) => {
                self.current = None;
                self.unchecked.push(number);
                return Err(error);
            }
        };
        Ok(())
    }

    /// Looks at one file that an earlier process has left: a write that never ended is cut off,
    /// a file with damage is set aside. Whether there may be more to look at.
    pub fn check_one(&mut self) -> bool {
        let Some(number) = self.unchecked.pop() else {
            return false;
        };
        if let Err(error) = self.check(number) {
            tracing::warn!(
                file = number,
                "failed to look at a file of rejected records: {error}"
            );
        }
        !self.unchecked.is_empty()
    }

    fn check(&mut self, number: u64) -> io::Result<()> {
        let Some(file) = self.known.get_mut(&number) else {
            return Ok(());
        };
        let report = read_frames(&file.path, KIND, &mut |_, _| {})?;
        let FrameReport {
            whole,
            damaged,
            torn,
            ..
        } = report;
        let Some(first) = damaged.first() else {
            return Ok(());
        };
        if torn && damaged.len() == 1 {
            if whole == 0 {
                return self.remove(number);
            }
            let end = first.start;
            let cut = fsx::File::open_to_write(&file.path)?;
            cut.set_len(end)?;
            cut.sync_all()?;
            file.bytes = end;
            return Ok(());
        }
        tracing::warn!(
            file = number,
            ?damaged,
            "a file of rejected records is damaged: what is whole in it can be read in {DAMAGED}"
        );
        let aside = self.dir.join(DAMAGED);
        fsx::create_private_dir(&aside)?;
        let to = aside.join(file_name(number));
        fsx::rename(&file.path, &to)?;
        file.path = to;
        fsx::sync_dir(&aside)?;
        fsx::sync_dir(&self.dir)
    }

    fn make_room(&mut self, wanted: u64) -> io::Result<()> {
        while self.bytes() + wanted > self.bytes_max
            && let Some(oldest) = self.known.keys().next().copied()
        {
            if self
                .current
                .as_ref()
                .is_some_and(|(number, _)| *number == oldest)
            {
                self.current = None;
            }
            self.remove(oldest)?;
        }
        Ok(())
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        match fsx::remove_file(&self.known[&number].path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.known.remove(&number);
        fsx::sync_dir(&self.dir)
    }

    fn begin(&mut self) -> io::Result<()> {
        let number = self.next_number;
        // Also after a failure, as the name may be taken then.
        self.next_number += 1;
        let path = self.dir.join(file_name(number));
        let writer = FrameWriter::create(&path, KIND).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        let bytes = writer.len();
        self.known.insert(number, Known { bytes, path });
        self.current = Some((number, writer));
        Ok(())
    }
}

/// Every file of the directory, oldest first, those that were set aside too.
///
/// # Errors
/// As the file system says.
pub fn paths(dir: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut paths = BTreeMap::new();
    for dir in [dir, &dir.join(DAMAGED)] {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_suffix(SUFFIX));
            if let Some(Ok(number)) = number.map(str::parse) {
                paths.insert(number, path);
            }
        }
    }
    Ok(paths)
}

fn file_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

#[cfg(test)]
mod tests;
