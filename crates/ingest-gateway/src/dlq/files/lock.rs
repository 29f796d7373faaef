//! Who has the directory: one process at a time, and it says who it is.

use std::{
    env,
    fs::{File, TryLockError},
    io::{self, Read, Write},
    path::Path,
    thread,
    time::Duration,
};

use pipeline_core::fsx;

use super::{LOCK_BYTES_MAX, OpenError};

const LOCK: &str = "LOCK";
/// Between two tries while somebody only looks, and how many of them.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
const LOOKS_MAX: u32 = 100;

/// The directory is this process's until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// # Errors
    /// Where another process has it, or the directory cannot be used.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(LOCK);
        let io = |error| OpenError::Io {
            dir: dir.to_owned(),
            error,
        };
        let mut file = fsx::open_or_create(&path).map_err(io)?;
        match lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    dir: dir.to_owned(),
                    by: File::open(path)
                        .ok()
                        .and_then(|mut file| name_in(&mut file)),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // For people: without it (on a full disk) the lock still holds.
        let _ = file
            .set_len(0)
            .and_then(|()| file.write_all(own_name().as_bytes()));
        Ok(Self(file))
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

/// Who has the directory now, if anybody, for a moment's look: nothing is changed.
///
/// # Errors
/// Where the lock cannot be looked at.
pub fn holder(dir: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(dir.join(LOCK)) {
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
    file.take(LOCK_BYTES_MAX).read_to_string(&mut text).ok()?;
    let name = text.lines().next()?.trim();
    (!name.is_empty()).then(|| name.to_owned())
}
