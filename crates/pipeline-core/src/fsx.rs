//! Durable file steps: own temporary name, write, fsync, link or rename, fsync of the directory.
//!
//! Never retries: a step that failed is reported, and what stands on disk is then unknown. Knows
//! nothing of what the files mean.

#[cfg(feature = "fault-injection")]
pub mod faults;
mod file;
#[cfg(feature = "fault-injection")]
pub mod kill;
mod lock;
mod own;
#[cfg(feature = "fault-injection")]
pub mod recording;
mod scratch;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

pub use file::{
    Access, File, Step, link, list_dir, open, open_or_create, read, read_dir, remove_file, rename,
};
use file::{make_dir, step};
pub use lock::{Lock, LockError, holder};
pub use own::{Identity, remove_if, remove_own, taken_from};
pub use scratch::Scratch;

/// What the names of all temporary files begin with; no reader takes such a name for data.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Puts a file where none is: temporary file in the same directory, write, fsync, `link` without
/// replacing, fsync of the directory. `Ok(false)`: the name was taken (and the directory has been
/// fsynced, so what stands there is durable). The temporary file is removed in each case.
///
/// # Errors
/// As the file system says; whether the name exists is then unknown.
pub fn put_if_absent(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    put(path, bytes, Access::Umask)
}

/// As [`put_if_absent`], a file that its owner alone may read.
///
/// # Errors
/// As [`put_if_absent`].
pub fn put_private_if_absent(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    put(path, bytes, Access::Owner)
}

fn put(path: &Path, bytes: &[u8], access: Access) -> io::Result<bool> {
    let temporary = Temporary::write(parent(path), bytes, access)?;
    let put = temporary.link(path)?;
    // Gone before the directory is synced, so that its removal is durable too.
    drop(temporary);
    sync_dir(parent(path))?;
    Ok(put)
}

/// Replaces a file as a whole: temporary file, write, fsync, rename, fsync of the directory.
///
/// # Errors
/// As the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Temporary::write_in(parent(path), bytes)?.rename(path)?;
    sync_dir(parent(path))
}

/// Makes a directory's entries durable.
///
/// # Errors
/// As the file system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    step(Step::SyncDir, dir, || fs::File::open(dir)?.sync_all())
}

/// Makes a directory and those above it, each durable in its parent.
///
/// # Errors
/// As the file system says.
pub fn create_dirs(dir: &Path) -> io::Result<()> {
    create(dir, Access::Umask)
}

/// As [`create_dirs`]; the last one is for its owner alone. One that is there stays as it is, and
/// those above may be other programs' ways, too.
///
/// # Errors
/// As the file system says.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    create(dir, Access::Owner)
}

fn create(dir: &Path, access: Access) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = dir;
    while !at.as_os_str().is_empty() && !at.is_dir() {
        missing.push(at);
        match at.parent() {
            Some(above) => at = above,
            None => break,
        }
    }
    for &level in missing.iter().rev() {
        let access = if level == dir { access } else { Access::Umask };
        match make_dir(level, access) {
            Ok(()) => {}
            // Someone else was faster; a file of that name fails at the next step.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && level.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let detail = format!("{} is no directory, and one is wanted", level.display());
                return Err(io::Error::new(io::ErrorKind::NotADirectory, detail));
            }
            Err(error) => return Err(error),
        }
        sync_dir(parent(level))?;
    }
    if missing.is_empty() && dir.parent().is_some() {
        // It was there, but whoever made it may have died before its name was durable.
        sync_dir(parent(dir))?;
    }
    Ok(())
}

/// Whether a file can be made in `dir`, and made durable: one is, and removed. A disk that is full
/// may have room later, and what lies on it is there now: that is no error here.
///
/// # Errors
/// As the file system says.
pub fn takes_files(dir: &Path) -> io::Result<()> {
    let is_full = |error: &io::Error| {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(error.kind(), StorageFull | QuotaExceeded)
    };
    match Temporary::write_in(dir, b"") {
        Err(error) if !is_full(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Removes temporary files in `dir` that were last written before `before`: those of processes
/// that died. One that belongs to a process which is merely slow makes its next step fail.
///
/// # Errors
/// As the file system says.
pub fn remove_stale_temporaries(dir: &Path, before: SystemTime) -> io::Result<u64> {
    let entries = match read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !name
            .as_encoded_bytes()
            .starts_with(TEMPORARY_PREFIX.as_bytes())
        {
            continue;
        }
        let outcome = entry.metadata().and_then(|metadata| {
            let stale = metadata.is_file() && metadata.modified()? < before;
            if stale {
                remove_file(&entry.path())?;
            }
            Ok(u64::from(stale))
        });
        match outcome {
            Ok(count) => removed += count,
            // Its process was alive after all, or another one is cleaning too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// A written and fsynced file under a name of its own, removed when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// Writes a temporary file in `dir`. Its name has nothing of the one it is meant for, so that
    /// no pattern for those matches what a killed process leaves.
    ///
    /// # Errors
    /// As the file system says; nothing is left then.
    pub fn write_in(dir: &Path, bytes: &[u8]) -> io::Result<Self> {
        Self::write(dir, bytes, Access::Umask)
    }

    fn write(dir: &Path, bytes: &[u8], access: Access) -> io::Result<Self> {
        let (path, mut file) = create_temporary(dir, access)?;
        // From here on an early return removes the file.
        let temporary = Self {
            path,
            renamed: false,
        };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(temporary)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file the new name `to` as well; `Ok(false)`: that name was taken. Not durable
    /// before [`sync_dir`].
    ///
    /// # Errors
    /// As the file system says; whether the name exists is then unknown.
    pub fn link(&self, to: &Path) -> io::Result<bool> {
        link(&self.path, to)
    }

    /// Renames the file to `to`, which is replaced. Not durable before [`sync_dir`].
    ///
    /// # Errors
    /// As the file system says.
    pub fn rename(mut self, to: &Path) -> io::Result<()> {
        rename(&self.path, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Best effort: a file left behind is read by nobody and removed later as stale.
            let _ = remove_file(&self.path);
        }
    }
}

/// A new file under a name that nobody else has.
fn create_temporary(dir: &Path, access: Access) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let path = dir.join(format!(
            "{TEMPORARY_PREFIX}{}-{:016x}-{}",
            std::process::id(),
            fastrand::u64(..),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        match File::create_new(&path, access) {
            // The same name from another machine: the next one differs.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                // The name is ours alone: best effort, should it be there nevertheless.
                let _ = remove_file(&path);
                return Err(error);
            }
            Ok(file) => return Ok((path, file)),
        }
    }
}

/// A step of a service that is none on the disk, by its name: a campaign may end the process before
/// or after it. Nothing in product binaries.
#[inline(always)]
pub fn before(_point: &str) {
    #[cfg(feature = "fault-injection")]
    kill::at(kill::Side::Before, None, _point);
}

/// See [`before`].
#[inline(always)]
pub fn after(_point: &str) {
    #[cfg(feature = "fault-injection")]
    kill::at(kill::Side::After, None, _point);
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
