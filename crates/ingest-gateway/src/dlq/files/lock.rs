//! Who has the directory: one process at a time, and it says who it is.

use std::{io, path::Path};

use pipeline_core::fsx::{self, LockError};

use super::OpenError;

const LOCK: &str = "LOCK";

/// The directory is this process's until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] fsx::Lock);

impl Lock {
    /// # Errors
    /// Where another process has it, or the directory cannot be used.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let dir = dir.to_owned();
        match fsx::Lock::take(&dir.join(LOCK)) {
            Ok(lock) => Ok(Self(lock)),
            Err(LockError::Held { by }) => Err(OpenError::InUse { dir, by }),
            Err(LockError::Io(error)) => Err(OpenError::Io { dir, error }),
        }
    }
}

/// Who has the directory now, if anybody, for a moment's look: nothing is changed.
///
/// # Errors
/// Where the lock cannot be looked at.
pub fn holder(dir: &Path) -> io::Result<Option<String>> {
    fsx::holder(&dir.join(LOCK))
}
