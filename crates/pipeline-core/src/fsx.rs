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

/// Whether a file can be made in `dir`, and made durable: one is, and removed.
///
/// # Errors
/// As the file system says.
pub fn takes_files(dir: &Path) -> io::Result<()> {
    Temporary::write_in(dir, b"").map(drop)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_name_is_put_once_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        assert!(put_if_absent(&path, b"first").unwrap());
        assert!(!put_if_absent(&path, b"second").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), ["one"], "temporary files are removed");
    }

    #[test]
    fn of_many_putting_at_once_exactly_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..8_u8)
                .map(|n| {
                    let path = &path;
                    scope.spawn(move || put_if_absent(path, &[n]).unwrap().then_some(n))
                })
                .collect();
            tasks
                .into_iter()
                .filter_map(|task| task.join().unwrap())
                .collect()
        });
        assert_eq!(winners.len(), 1);
        assert_eq!(fs::read(&path).unwrap(), winners);
        assert_eq!(names(dir.path()), ["one"]);
    }

    #[test]
    fn replace_puts_the_whole_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        replace(&path, b"a longer first").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(dir.path()), ["one"]);
    }

    #[test]
    fn directories_are_made_with_all_above_and_again_without_harm() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        create_dirs(&deep).unwrap();
        create_dirs(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(dir.path().join("file"), b"").unwrap();
        for wanted in ["file", "file/below"] {
            let error = create_dirs(&dir.path().join(wanted)).unwrap_err();
            assert!(
                error.to_string().contains("file is no directory"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_private_is_for_its_owner_alone_and_what_is_above_it_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = tempfile::tempdir().unwrap();
        let (shared, private) = (dir.path().join("shared"), dir.path().join("shared/private"));
        create_private_dir(&private).unwrap();
        assert_eq!(mode(&private), 0o700);
        // As the umask says, which this cannot know: as any other.
        fs::create_dir(dir.path().join("any")).unwrap();
        assert_eq!(mode(&shared), mode(&dir.path().join("any")));
        put_private_if_absent(&private.join("a"), b"x").unwrap();
        assert_eq!(mode(&private.join("a")), 0o600);
        put_if_absent(&shared.join("b"), b"x").unwrap();
        fs::write(shared.join("any"), b"x").unwrap();
        assert_eq!(mode(&shared.join("b")), mode(&shared.join("any")));
        open_or_create(&private.join("LOCK")).unwrap();
        assert_eq!(mode(&private.join("LOCK")), 0o600);
        // What is there is somebody's decision.
        create_private_dir(&shared).unwrap();
        assert_eq!(mode(&shared), mode(&dir.path().join("any")));
    }

    #[cfg(feature = "fault-injection")]
    #[test]
    fn a_rule_hits_its_step_under_its_path_as_often_as_it_says() {
        use faults::{Fault, under};
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| put_if_absent(&dir.path().join(name), b"0123");
        let errno = |result: io::Result<bool>| result.unwrap_err().raw_os_error();
        let elsewhere = tempfile::tempdir().unwrap();
        let _other = under(elsewhere.path()).then(Fault::Fails(EIO));

        let second = under(dir.path()).step(Step::Write).nth(2);
        let second = second.then(Fault::HalfDone(ENOSPC));
        assert!(put("a").unwrap());
        assert_eq!(errno(put("b")), Some(ENOSPC));
        assert!(put("b").unwrap());
        assert_eq!(second.hits(), 1);
        drop(second);

        let linked = under(dir.path()).name_ends("c").step(Step::Link);
        let linked = linked.then(Fault::DoneButFails(EIO));
        assert!(put("d").unwrap());
        assert_eq!(errno(put("c")), Some(EIO));
        assert_eq!(names(dir.path()), ["a", "b", "c", "d"]);
        drop(linked);

        let hanging = under(dir.path()).step(Step::Sync).then(Fault::Hangs);
        std::thread::scope(|scope| {
            let task = scope.spawn(|| put("e"));
            while hanging.hits() == 0 {
                std::thread::yield_now();
            }
            assert!(!dir.path().join("e").exists());
            hanging.release();
            assert!(task.join().unwrap().unwrap());
        });
    }

    #[test]
    fn a_failed_put_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(put_if_absent(&dir.path().join("gone/one"), b"x").is_err());
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}
