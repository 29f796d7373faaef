//! A lock file: one process at a time has it, and it says who that is. It ends with the process,
//! however that ends; the file stays.

use std::{
    env,
    fs::{File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    thread,
    time::Duration,
};

/// What is read of the name in it, at most.
const NAME_BYTES_MAX: u64 = 512;
/// Between two tries while somebody only looks, and how many of them.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
const LOOKS_MAX: u32 = 100;
/// Somebody may remove a lock file that nobody has, in the moment in which it is taken.
const TRIES: u32 = 16;

/// The lock is this process's until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

/// Why a lock is not this process's.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("in use by {}", by.as_deref().unwrap_or("a process"))]
    Held { by: Option<String> },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Lock {
    /// # Errors
    /// Where another process has it, or the file cannot be used.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        for _ in 0..TRIES {
            let mut file = super::open_or_create(path)?;
            match lock(&file) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let by = File::open(path).ok();
                    let by = by.and_then(|mut file| name_in(&mut file));
                    return Err(LockError::Held { by });
                }
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            if !is_at(&file, path)? {
                continue;
            }
            // For people: without it (on a full disk) the lock still holds.
            let _ = file
                .set_len(0)
                .and_then(|()| file.write_all(own_name().as_bytes()));
            return Ok(Self(file));
        }
        let gone = format!("{} is removed again and again", path.display());
        Err(io::Error::other(gone).into())
    }
}

/// An owner holds it alone, who looks holds it with others and for no time to speak of: a look
/// must not keep an owner out.
fn lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOOKS_MAX {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            locked => return locked,
        }
        // Fails where there is an owner.
        file.try_lock_shared()?;
        file.unlock().map_err(TryLockError::Error)?;
        thread::sleep(LOOK_PAUSE);
    }
    Err(TryLockError::WouldBlock)
}

/// Who has the lock now, if anybody, for a moment's look: nothing is changed.
///
/// # Errors
/// Where it cannot be looked at.
pub fn holder(path: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let name = name_in(&mut file);
            Ok(Some(name.unwrap_or_else(|| "a process".to_owned())))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `ingest-gateway dlq replay, process 12 on web-1`.
fn own_name() -> String {
    let mut args = env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    let mut name = program.to_string_lossy().into_owned();
    for word in args.skip_while(|arg| arg != "dlq").take(2) {
        name = format!("{name} {word}");
    }
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{name}, process {} on {host}\n", std::process::id())
}

fn name_in(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.take(NAME_BYTES_MAX).read_to_string(&mut text).ok()?;
    let name = text.lines().next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_is_named_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        assert_eq!(holder(&path).unwrap(), None);
        let lock = Lock::take(&path).unwrap();
        let number = format!("process {}", std::process::id());
        assert!(holder(&path).unwrap().unwrap().contains(&number));
        let Err(LockError::Held { by }) = Lock::take(&path) else {
            panic!("two have it");
        };
        assert!(by.unwrap().contains(&number));
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None);
        Lock::take(&path).unwrap();
    }
}
