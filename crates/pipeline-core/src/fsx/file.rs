//! Single steps on the disk. All of the product's that matter go through [`step`], the one place
//! where a test can make them fail.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

#[cfg(feature = "fault-injection")]
pub(super) use super::faults::step;

/// Who may use what is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// As the process's umask says: other programs read it too.
    Umask,
    /// Its owner alone.
    Owner,
}

impl Access {
    fn file_mode(self) -> u32 {
        match self {
            Self::Umask => 0o666,
            Self::Owner => 0o600,
        }
    }

    fn dir_mode(self) -> u32 {
        match self {
            Self::Umask => 0o777,
            Self::Owner => 0o700,
        }
    }
}

/// What is done to the disk in one go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// Of a file that must not exist.
    Create,
    Open,
    Write,
    /// Of a file.
    Sync,
    SyncDir,
    Truncate,
    Rename,
    Link,
    Remove,
    MakeDir,
    /// The names in a directory.
    List,
}

impl Step {
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Open,
        Self::Write,
        Self::Sync,
        Self::SyncDir,
        Self::Truncate,
        Self::Rename,
        Self::Link,
        Self::Remove,
        Self::MakeDir,
        Self::List,
    ];
}

/// A file whose every step can be made to fail.
#[derive(Debug)]
pub struct File {
    inner: fs::File,
    #[cfg(feature = "fault-injection")]
    path: std::path::PathBuf,
}

impl File {
    /// Creates a file to write; the name must not exist.
    ///
    /// # Errors
    /// As the file system says.
    pub fn create_new(path: &Path, access: Access) -> io::Result<Self> {
        let how = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(access.file_mode())
                .open(path)
        };
        Ok(Self::new(path, step(Step::Create, path, how)?))
    }

    /// Opens a file to read.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let inner = step(Step::Open, path, || fs::File::open(path))?;
        Ok(Self::new(path, inner))
    }

    /// Opens a file that exists, to write from its beginning.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open_to_write(path: &Path) -> io::Result<Self> {
        let how = || OpenOptions::new().write(true).open(path);
        Ok(Self::new(path, step(Step::Open, path, how)?))
    }

    /// Makes the file durable with all that is known of it.
    ///
    /// # Errors
    /// As the file system says; what of the file is on the disk is then unknown.
    pub fn sync_all(&self) -> io::Result<()> {
        step(Step::Sync, self.path(), || self.inner.sync_all())
    }

    /// Makes the file's bytes durable.
    ///
    /// # Errors
    /// As [`Self::sync_all`].
    pub fn sync_data(&self) -> io::Result<()> {
        step(Step::Sync, self.path(), || self.inner.sync_data())
    }

    /// # Errors
    /// As the file system says.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        step(Step::Truncate, self.path(), || self.inner.set_len(len))
    }

    /// # Errors
    /// As the file system says.
    pub fn byte_len(&self) -> io::Result<u64> {
        Ok(self.inner.metadata()?.len())
    }

    #[cfg(feature = "fault-injection")]
    fn new(path: &Path, inner: fs::File) -> Self {
        let path = path.to_owned();
        Self { inner, path }
    }

    #[cfg(not(feature = "fault-injection"))]
    fn new(_: &Path, inner: fs::File) -> Self {
        Self { inner }
    }

    #[cfg(feature = "fault-injection")]
    fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(not(feature = "fault-injection"))]
    #[expect(clippy::unused_self, reason = "only a rule for faults asks")]
    fn path(&self) -> &Path {
        Path::new("")
    }
}

impl Write for File {
    #[cfg(feature = "fault-injection")]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        super::faults::write(&self.path, &mut self.inner, bytes)
    }

    #[cfg(not(feature = "fault-injection"))]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Read for File {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into)
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Opens a file to read.
///
/// # Errors
/// As the file system says.
pub fn open(path: &Path) -> io::Result<fs::File> {
    step(Step::Open, path, || fs::File::open(path))
}

/// The whole of a file.
///
/// # Errors
/// As the file system says.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    step(Step::Open, path, || fs::read(path))
}

/// Gives a file the new name `to` as well; `Ok(false)`: that name was taken. Not durable before
/// the directory is synced.
///
/// # Errors
/// As the file system says; whether the name exists is then unknown.
pub fn link(from: &Path, to: &Path) -> io::Result<bool> {
    match step(Step::Link, to, || fs::hard_link(from, to)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// The entries of a directory.
///
/// # Errors
/// As the file system says.
pub fn read_dir(dir: &Path) -> io::Result<fs::ReadDir> {
    step(Step::List, dir, || fs::read_dir(dir))
}

/// Opens a file to write; one that is missing is made, for its owner alone.
///
/// # Errors
/// As the file system says.
pub fn open_or_create(path: &Path) -> io::Result<fs::File> {
    step(Step::Open, path, || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(Access::Owner.file_mode())
            .open(path)
    })
}

/// # Errors
/// As the file system says.
pub(super) fn make_dir(path: &Path, access: Access) -> io::Result<()> {
    step(Step::MakeDir, path, || {
        DirBuilder::new().mode(access.dir_mode()).create(path)
    })
}

/// Names of all that is in a directory, but those that are no text.
///
/// # Errors
/// As the file system says.
pub fn list_dir(dir: &Path) -> io::Result<Vec<String>> {
    read_dir(dir)?
        .filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// # Errors
/// As the file system says.
pub fn remove_file(path: &Path) -> io::Result<()> {
    step(Step::Remove, path, || fs::remove_file(path))
}

/// The new name is not durable before the directory is.
///
/// # Errors
/// As the file system says.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step(Step::Rename, to, || fs::rename(from, to))
}

/// Product binaries have nothing here: the step is done.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(super) fn step<T>(_: Step, _: &Path, done: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    done()
}
