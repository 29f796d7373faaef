//! Removal of one file and of no other that stands under its name by then. A file system removes by
//! name alone, and between a look and the removal a process may be frozen for hours.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::SystemTime};

use super::{link, open, parent, remove_file, rename};

/// What the names begin with under which a file is looked at that was taken from its place; behind
/// it that name, the process and a number. Not removed as stale: it may be another's, whose remover
/// died before it could put it back.
const TAKEN_PREFIX: &str = ".taken-";

/// The name that the file was taken from which is called `name` now; `None`: it was not taken.
#[must_use]
pub fn taken_from(name: &str) -> Option<&str> {
    let mut parts = name.strip_prefix(TAKEN_PREFIX)?.rsplitn(3, '-');
    parts.by_ref().nth(1)?;
    parts.next().filter(|from| !from.is_empty())
}

/// One file, whatever its names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    device: u64,
    inode: u64,
    modified: SystemTime,
}

impl Identity {
    /// # Errors
    /// As the file system says.
    pub fn of(file: &fs::File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            // An inode may be used again, by a file that is written later.
            modified: metadata.modified()?,
        })
    }

    /// Opened, not only asked for: a shared file system answers from its server then.
    ///
    /// # Errors
    /// As the file system says.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::of(&open(path)?)
    }
}

/// Removes `path` where it is this very file; `Ok(false)`: it is not there, or another, which stays.
/// Not durable before the directory is synced.
///
/// # Errors
/// As the file system says; whether it is gone is then unknown.
pub fn remove_own(path: &Path, own: Identity) -> io::Result<bool> {
    let is_own = |at: &Path| Ok(Identity::at(at)? == own);
    // First where it stands: another's is not even moved, but in the moment between.
    match is_own(path) {
        Ok(true) => remove_if(path, is_own),
        Ok(false) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes `path` away from its place, asks about it there, and removes it or puts it back. One that
/// cannot be put back, as its name is taken by then, stays aside.
///
/// # Errors
/// As the file system or `may_go` says.
pub fn remove_if(path: &Path, may_go: impl FnOnce(&Path) -> io::Result<bool>) -> io::Result<bool> {
    // Ends like no name of ours, so that no pattern for those matches it.
    let taken = parent(path).join(format!(
        "{TAKEN_PREFIX}{}-{}-{:016x}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id(),
        fastrand::u64(..)
    ));
    let goes = match rename(path, &taken) {
        Ok(()) => may_go(&taken),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            // It may have been done nevertheless.
            if !taken.exists() {
                return Err(error);
            }
            Err(error)
        }
    };
    if matches!(goes, Ok(true)) || link(&taken, path)? {
        remove_file(&taken)?;
    }
    goes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsx::list_dir;

    #[test]
    fn only_the_very_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        fs::write(&path, "ours").unwrap();
        let own = Identity::at(&path).unwrap();
        fs::rename(&path, dir.path().join("aside")).unwrap();
        assert!(!remove_own(&path, own).unwrap(), "it is not there");
        fs::write(&path, "another's").unwrap();
        assert!(!remove_own(&path, own).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"another's");
        fs::rename(dir.path().join("aside"), &path).unwrap();
        assert!(remove_own(&path, own).unwrap());
        assert!(list_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn what_may_not_go_is_put_back_unless_its_name_is_taken_by_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        fs::write(&path, "theirs").unwrap();
        let asked = remove_if(&path, |taken| {
            assert!(!path.exists() && taken.exists());
            Ok(false)
        });
        assert!(!asked.unwrap());
        assert_eq!(list_dir(dir.path()).unwrap(), ["one"]);
        remove_if(&path, |_| Err(io::Error::other("no answer"))).unwrap_err();
        assert_eq!(list_dir(dir.path()).unwrap(), ["one"]);
        let asked = remove_if(&path, |_| {
            fs::write(&path, "newer")?;
            Ok(false)
        });
        assert!(!asked.unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        let names = list_dir(dir.path()).unwrap();
        let aside = names.iter().find(|name| taken_from(name) == Some("one"));
        let aside = fs::read(dir.path().join(aside.unwrap())).unwrap();
        assert_eq!(aside, b"theirs");
    }

    #[test]
    fn a_taken_name_says_where_it_was_taken_from() {
        assert_eq!(taken_from(".taken-1.window-a-17-0f"), Some("1.window-a"));
        for other in [
            ".taken-17-0f",
            ".taken-",
            ".taken--17-0f",
            ".tmp-1-2-3",
            "one",
        ] {
            assert_eq!(taken_from(other), None, "{other}");
        }
    }

    #[cfg(feature = "fault-injection")]
    #[test]
    fn a_failed_removal_leaves_the_file_or_removes_it_and_nothing_aside() {
        use crate::fsx::{
            Step,
            faults::{Fault, under},
        };
        for fault in [Fault::Fails(5), Fault::DoneButFails(5)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("one");
            fs::write(&path, "ours").unwrap();
            let own = Identity::at(&path).unwrap();
            let rule = under(dir.path()).step(Step::Rename).then(fault);
            remove_own(&path, own).unwrap_err();
            drop(rule);
            assert_eq!(list_dir(dir.path()).unwrap(), ["one"]);
        }
    }
}
