//! Files that someone took from their names to look at them, and was killed before he could remove
//! them or put them back (`fsx::remove_if`). Each is judged as its remover would: what is of the chain
//! goes back to its name, as if it were put late (so nothing is replaced, and the chain is looked at
//! again behind it), what is not is removed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    chain::{Chain, segment_of, watermark_of},
    owner::{StoreError, each_name},
    segment::{SegmentError, read_segment},
    shelf::{remove_if_there, snapshot_of},
};
use crate::{fsx, ids::Offset};

/// What became of files that had been taken from their names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settled {
    pub put_back: u64,
    pub removed: u64,
    /// Damaged, and under their names stands nothing: for people.
    pub left: u64,
}

/// Whose the file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Chain,
    Nobody,
    Unknown,
}

impl Chain {
    /// Settles what was taken from its name before `before`, so that it is nobody's who lives. Should
    /// he be merely slow, he finds it gone, and looks at the chain.
    ///
    /// # Errors
    /// Where a step failed; the rest is settled another time.
    pub fn settle_taken(&self, before: SystemTime) -> Result<Settled, StoreError> {
        let mut taken = Vec::new();
        each_name(self.dir(), &mut |name| {
            let from = fsx::taken_from(name).map(str::to_owned);
            taken.extend(from.map(|from| (self.dir().join(name), from)));
        })?;
        let mut settled = Settled::default();
        for (path, from) in taken {
            if taken_at(&path)?.is_some_and(|at| at < before) {
                self.settle(&path, &from, &mut settled)?;
            }
        }
        Ok(settled)
    }

    fn settle(&self, path: &Path, from: &str, settled: &mut Settled) -> Result<(), StoreError> {
        let to = self.dir().join(from);
        match self.whose(path, from)? {
            Of::Chain => {
                let own = fsx::Identity::at(path).map_err(StoreError::at("look at", path))?;
                let put = fsx::link(path, &to).map_err(StoreError::at("put back", &to))?;
                self.sync()?;
                if put && self.whose(path, from)? == Of::Chain {
                    settled.put_back += 1;
                } else {
                    if put {
                        fsx::remove_own(&to, own).map_err(StoreError::at("remove", &to))?;
                    }
                    settled.removed += 1;
                }
            }
            Of::Unknown if !stands(&to)? => {
                settled.left += 1;
                return Ok(());
            }
            Of::Nobody | Of::Unknown => settled.removed += 1,
        }
        remove_if_there(path)?;
        self.sync()
    }

    /// Whether the file may stand under the name that it was taken from.
    fn whose(&self, path: &Path, from: &str) -> Result<Of, StoreError> {
        let of = |is_of_chain| if is_of_chain { Of::Chain } else { Of::Nobody };
        if let Some(first) = segment_of(from) {
            return self.whose_segment(path, first);
        }
        if let Some(mark) = watermark_of(from) {
            return self.supports(mark).map(of);
        }
        let Some(file) = snapshot_of(self.dir(), from) else {
            return Ok(Of::Unknown);
        };
        match fsx::read(path) {
            Ok(bytes) => self.is_of_chain(&bytes, file.next).map(of),
            Err(error) => Err(StoreError::at("read", path)(error)),
        }
    }

    fn whose_segment(&self, path: &Path, first: Offset) -> Result<Of, StoreError> {
        if self.watermark_above(first)?.is_some() {
            return Ok(Of::Nobody);
        }
        match read_segment(path) {
            Ok((trailer, ..)) if trailer.first != first => Ok(Of::Unknown),
            Ok((trailer, ..)) if self.goes_on(&trailer)? => Ok(Of::Chain),
            Ok(_) => Ok(Of::Nobody),
            Err(SegmentError::Io(error)) => Err(StoreError::at("read", path)(error)),
            Err(SegmentError::Damaged(_)) => Ok(Of::Unknown),
        }
    }
}

/// When it got the name that it has; `None`: it is gone.
fn taken_at(path: &Path) -> Result<Option<SystemTime>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => {
            let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
            let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
            Ok(Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::at("look at", path)(error)),
    }
}

fn stands(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::at("look at", path)(error)),
    }
}
