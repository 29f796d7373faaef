//! Snapshots put beside a chain, each as two files. Of those before the newest a few are kept as one
//! file each, spread over the segments that are there: a repair goes back to the one before the
//! damage.
//!
//! Whoever puts one may wake behind a repair, when others have put theirs under the same number: so
//! nothing that reads as whole and is of this chain is ever replaced, and nothing is removed by its
//! name alone. Never decides which segments are removed (`removal` does).

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    chain::Chain,
    owner::StoreError,
    shelf::{LOOKS_MAX, SUFFIXES, SnapshotFile, read_head},
    snapshot::EncodedSnapshot,
    trailer::Link,
};
use crate::{fsx, ids::Offset};

/// Snapshots before the newest: the damage behind which nothing is left to go back to lies in the
/// oldest quarter or so of what is there.
const OLDER_KEPT: usize = 4;

impl Chain {
    /// Puts both files of a snapshot, durably, then removes those of lesser ones that nobody needs.
    /// `false`: it was made before a repair has cut the chain, and is not put, or taken back.
    ///
    /// # Errors
    /// Where a step failed; what stood there before may still be read.
    pub fn put_snapshot(&self, snapshot: &EncodedSnapshot) -> Result<bool, StoreError> {
        let name = |suffix| self.dir().join(format!("{:020}{suffix}", snapshot.next.0));
        let paths = SUFFIXES.map(name);
        if self.put_files(&paths, snapshot)?.is_none() {
            return Ok(false);
        }
        let floor = self.watermark()?.unwrap_or_default();
        let files = self.snapshots()?;
        if let Some(newest) = complete(&files) {
            let twins = SUFFIXES.map(|suffix| self.dir().join(format!("{:020}{suffix}", newest.0)));
            for old in superseded(&files, newest, floor) {
                // If those that replace it have been set aside meanwhile, it is needed.
                let stand = |_: &Path| {
                    let stand = twins.iter().try_for_each(|twin| fsx::open(twin).map(drop));
                    match stand {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                        stand => stand.map(|()| true),
                    }
                };
                fsx::remove_if(&old.path, stand).map_err(StoreError::at("remove", &old.path))?;
            }
        }
        Ok(true)
    }

    /// The newest snapshot that reads as whole and is of this chain may be an older one, of which one
    /// file was kept, or one whose other file is damaged: makes it stand in two. Whether anything was
    /// to be done.
    ///
    /// # Errors
    /// Where a step failed.
    pub fn complete_newest_snapshot(&self) -> Result<bool, StoreError> {
        for file in self.snapshots()? {
            let Some(bytes) = file.read()? else { continue };
            let Some(last) = last_of(&bytes, file.next) else {
                continue;
            };
            let newest = EncodedSnapshot {
                next: file.next,
                last,
                bytes,
            };
            if let Some(put) = self.put_files(&[file.twin()], &newest)? {
                return Ok(put > 0);
            }
        }
        Ok(false)
    }

    /// Puts files of a snapshot, and says how many of them were not there yet; `None`: it is not of
    /// this chain.
    fn put_files(
        &self,
        paths: &[PathBuf],
        snapshot: &EncodedSnapshot,
    ) -> Result<Option<usize>, StoreError> {
        let is_of_chain = || self.has(snapshot.last, snapshot.next);
        if !is_of_chain()? {
            return Ok(None);
        }
        let mut ours = Vec::new();
        for path in paths {
            let put = self.put_file(path, snapshot.next, &snapshot.bytes)?;
            ours.extend(put.map(|own| (path, own)));
        }
        // A repair may have cut the chain since, with us asleep.
        if is_of_chain()? {
            return Ok(Some(ours.len()));
        }
        for (path, own) in ours {
            fsx::remove_own(path, own).map_err(StoreError::at("remove", path))?;
        }
        self.sync()?;
        Ok(None)
    }

    /// Puts one file of a snapshot, and gives what it has put; `None`: there stands one already.
    fn put_file(
        &self,
        path: &Path,
        next: Offset,
        bytes: &[u8],
    ) -> Result<Option<fsx::Identity>, StoreError> {
        let temporary = fsx::Temporary::write_in(self.dir(), bytes)
            .map_err(StoreError::at("write and fsync a temporary file for", path))?;
        let own = fsx::Identity::at(temporary.path()).map_err(StoreError::at("look at", path))?;
        for _ in 0..LOOKS_MAX {
            if temporary
                .link(path)
                .map_err(StoreError::at("link snapshot", path))?
            {
                drop(temporary);
                self.sync()?;
                return Ok(Some(own));
            }
            // What stands there may be damaged, or of what a repair has taken; ours is not.
            match read_known(path).map_err(StoreError::at("read", path))? {
                Some((_, bytes)) if self.is_of_chain(&bytes, next)? => {
                    drop(temporary);
                    self.sync()?;
                    return Ok(None);
                }
                Some((strange, _)) => {
                    fsx::remove_own(path, strange).map_err(StoreError::at("remove", path))?;
                }
                None => {}
            }
        }
        let others = io::Error::other("others put damaged ones there again and again");
        Err(StoreError::at("put", path)(others))
    }

    /// Whether these are the bytes of a whole snapshot, of segments that are in this chain.
    pub(super) fn is_of_chain(&self, bytes: &[u8], next: Offset) -> Result<bool, StoreError> {
        last_of(bytes, next).map_or(Ok(false), |last| self.has(last, next))
    }
}

/// The last segment that a snapshot covers, where it is whole.
fn last_of(bytes: &[u8], next: Offset) -> Option<Link> {
    read_head(bytes, next).ok()?.end.last
}

/// The bytes, and whose they are; `None`: there is no such file.
pub(super) fn read_known(path: &Path) -> io::Result<Option<(fsx::Identity, Vec<u8>)>> {
    let mut file = match fsx::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some((fsx::Identity::of(&file)?, bytes)))
}

/// The greatest number of which both files stand.
fn complete(files: &[SnapshotFile]) -> Option<Offset> {
    let complete = files.windows(2).find(|pair| pair[0].next == pair[1].next);
    complete.map(|pair| pair[0].next)
}

/// The files that nobody needs: below the greatest number that is complete, all but one of each
/// number that is kept.
fn superseded(files: &[SnapshotFile], newest: Offset, floor: Offset) -> Vec<&SnapshotFile> {
    let older = &files[files.partition_point(|file| file.next >= newest)..];
    let mut numbers: Vec<Offset> = older.iter().map(|file| file.next).collect();
    numbers.dedup();
    numbers.reverse();
    let kept = spread(numbers, floor, newest);
    let is_kept = |at: usize| {
        let first_of_number = at == 0 || older[at - 1].next != older[at].next;
        first_of_number && kept.contains(&older[at].next)
    };
    (0..older.len())
        .filter(|at| !is_kept(*at))
        .map(|at| &older[at])
        .collect()
}

/// Of the numbers before the newest, in order, those that are kept: none below the watermark, as
/// what followed it is gone; else the first, and others as evenly apart as they come.
fn spread(mut numbers: Vec<Offset>, floor: Offset, newest: Offset) -> Vec<Offset> {
    numbers.retain(|number| *number >= floor);
    while numbers.len() > OLDER_KEPT {
        let gap = |at: &usize| {
            let behind = numbers.get(at + 1).copied().unwrap_or(newest);
            behind.0 - numbers[at - 1].0
        };
        let closest = (1..numbers.len()).min_by_key(gap);
        numbers.remove(closest.expect("there are several"));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_snapshots_are_few_and_spread_over_what_is_there() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut kept, mut newest) = (Vec::new(), Offset(0));
        // As they come while a chain grows and its beginning is removed.
        for round in 0..5_000 {
            let before = newest;
            newest = Offset(newest.0 + random.i64(1..200));
            kept.push(before);
            let floor = Offset((newest.0 - 100_000).max(0));
            kept = spread(kept, floor, newest);
            assert!(kept.len() <= OLDER_KEPT);
            assert!(
                kept.iter()
                    .all(|number| floor <= *number && *number < newest)
            );
            if round > 2_000 {
                let first = kept.first().expect("there is one");
                assert!(first.0 - floor.0 <= 60_000, "{floor}: {kept:?} {newest}");
            }
        }
    }

    #[test]
    fn of_an_older_number_one_file_is_kept_and_nothing_goes_before_a_newer_is_complete() {
        let file = |next, suffix| SnapshotFile {
            next: Offset(next),
            path: PathBuf::from(format!("{next}{suffix}")),
        };
        let files = [
            file(30, "b"),
            file(20, "a"),
            file(20, "b"),
            file(10, "a"),
            file(10, "b"),
            file(5, "b"),
            file(1, "a"),
        ];
        let gone = |files: &[SnapshotFile]| -> Vec<String> {
            let newest = complete(files);
            let gone = newest.map_or_else(Vec::new, |newest| superseded(files, newest, Offset(5)));
            let name = |file: &&SnapshotFile| file.path.display().to_string();
            gone.iter().map(name).collect()
        };
        assert_eq!(gone(&files), ["10b", "1a"]);
        assert_eq!(gone(&files[5..]), Vec::<String>::new());
    }
}
