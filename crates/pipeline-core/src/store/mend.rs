//! What is wrong with the snapshots beside a chain that is whole: the newest stands in one file
//! again where it must stand in two, and damaged ones are set aside, as others replace them. Nothing
//! that reads as whole is touched, so a writer may go on meanwhile.

use std::path::{Path, PathBuf};

use super::{
    chain::Chain,
    owner::StoreError,
    repair::free_name,
    shelf::{ReadHead, read_head},
    shelve::read_known,
};
use crate::fsx;

/// What was done about the snapshots of one chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mended {
    /// The newest one stands in two files again.
    pub completed: bool,
    /// Where the damaged ones are now.
    pub aside: Vec<PathBuf>,
}

impl Chain {
    /// The files of snapshots that do not read as whole.
    ///
    /// # Errors
    /// Where the disk does not answer.
    pub fn damaged_snapshots(&self) -> Result<Vec<PathBuf>, StoreError> {
        Ok(damaged(self.snapshot_heads()?).collect())
    }

    /// Of a chain that an examination has found whole: makes its newest whole snapshot stand in two
    /// files, then moves damaged ones into `dir`.
    ///
    /// # Errors
    /// Where a step failed; it may be done again.
    pub fn mend_snapshots(&self, dir: &Path) -> Result<Mended, StoreError> {
        let mut mended = Mended {
            completed: self.complete_newest_snapshot()?,
            aside: Vec::new(),
        };
        for file in self.snapshots()? {
            let known = read_known(&file.path).map_err(StoreError::at("read", &file.path))?;
            let Some((own, bytes)) = known else { continue };
            if read_head(&bytes, file.next).is_ok() {
                continue;
            }
            fsx::create_dirs(dir).map_err(StoreError::at("make directory", dir))?;
            let to = free_name(dir, &file.path)?;
            fsx::sync_dir(dir).map_err(StoreError::at("fsync directory", dir))?;
            // A writer may have put a whole one in its place by now.
            let gone = fsx::remove_own(&file.path, own);
            if gone.map_err(StoreError::at("remove", &file.path))? {
                mended.aside.push(to);
            } else {
                fsx::remove_file(&to).map_err(StoreError::at("remove", &to))?;
            }
        }
        if !mended.aside.is_empty() {
            self.sync()?;
        }
        Ok(mended)
    }
}

pub(super) fn damaged(heads: Vec<(PathBuf, ReadHead)>) -> impl Iterator<Item = PathBuf> {
    let damaged = heads.into_iter().filter(|(_, head)| head.is_err());
    damaged.map(|(path, _)| path)
}
