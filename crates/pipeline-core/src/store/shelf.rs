//! The snapshots beside a chain, as they are found and read.
//!
//! ```text
//! <20 digits>.window-a, <20 digits>.window-b     the digits: where the part that it covers ends
//! ```
//! The greatest number says most. Changes nothing (`shelve` does).

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    chain::{Chain, Listing, offset_of},
    owner::{StoreError, each_name},
    segment::SegmentError,
    snapshot::{SnapshotHead, SnapshotReader},
    walk::{ChainEnd, ChainFault, Cursor, Visited},
};
use crate::{fsx, ids::Offset};

pub(super) const SUFFIXES: [&str; 2] = [".window-a", ".window-b"];
/// Before a snapshot is called missing.
pub(super) const LOOKS_MAX: u32 = 3;

/// One file of a snapshot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SnapshotFile {
    /// Where the part of the chain that it covers ends, by its name.
    pub next: Offset,
    pub path: PathBuf,
}

/// How a walk that began behind a snapshot ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resumed {
    pub end: ChainEnd,
    /// First offsets of all segments of the chain that are there.
    pub names: Vec<Offset>,
}

impl Chain {
    /// The snapshots' files, greatest number first.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn snapshots(&self) -> Result<Vec<SnapshotFile>, StoreError> {
        let mut found = Vec::new();
        each_name(self.dir(), &mut |name| {
            found.extend(snapshot_of(self.dir(), name));
        })?;
        found.sort_unstable_by(|a, b| (b.next, &a.path).cmp(&(a.next, &b.path)));
        Ok(found)
    }

    /// Each snapshot's file with what it says of the chain, or what is wrong with it.
    pub(super) fn snapshot_heads(&self) -> Result<Vec<(PathBuf, ReadHead)>, StoreError> {
        let mut heads = Vec::new();
        for file in self.snapshots()? {
            // One that is gone has been replaced meanwhile.
            if let Some(bytes) = file.read()? {
                let head = read_head(&bytes, file.next).map_err(|error| error.to_string());
                heads.push((file.path, head));
            }
        }
        Ok(heads)
    }

    /// Behind a watermark one whole snapshot stands at least, in both its files.
    pub(super) fn missing_snapshot(&self) -> Result<Option<(PathBuf, String)>, StoreError> {
        let mut missing = None;
        // A listing may meet neither all of the old one nor all of the new one that replaces it.
        for _ in 0..LOOKS_MAX {
            if self.watermark()?.is_none() {
                return Ok(None);
            }
            let files = self.snapshots()?;
            if files.windows(2).any(|pair| pair[0].next == pair[1].next) {
                return Ok(None);
            }
            missing = Some(match files.first() {
                Some(file) => (
                    file.twin(),
                    "missing: of a snapshot two files stand".to_owned(),
                ),
                None => (
                    self.dir().to_owned(),
                    "segments have been removed, and no snapshot of the duplicate window stands"
                        .to_owned(),
                ),
            });
        }
        Ok(missing)
    }

    /// Walks from the end of a snapshot to the end of the chain, `visit`ing what is behind it. The
    /// segments before are compared with the directory by name.
    ///
    /// # Errors
    /// The first damaged or missing segment; one behind the snapshot that has been removed is
    /// missing, too: a newer snapshot stands then.
    pub fn resume(
        &self,
        head: &SnapshotHead,
        visit: &mut dyn FnMut(Visited),
    ) -> Result<Resumed, ChainFault> {
        let listing = self.list()?;
        let Some(start) = self.start()? else {
            return Err(ChainFault::Missing {
                path: self.start_path(),
                detail: "START is not there although the chain has a snapshot".to_owned(),
            });
        };
        let floor = listing.watermark.unwrap_or(start.first_offset);
        self.check_names(&listing, floor, head)?;
        let from = head.names.partition_point(|name| *name < floor);
        let mut names = head.names[from..].to_vec();
        let cursor = Cursor {
            next: head.end.next,
            last: head.end.last,
        };
        let behind = self.walk_listed(&start, &listing, Some(cursor), &mut |visited| {
            names.push(visited.trailer.first);
            visit(visited);
            true
        })?;
        // The last segment that the snapshot covers may be gone: the next one links to it.
        let end = if behind.next == head.end.next {
            head.end.clone()
        } else {
            behind
        };
        Ok(Resumed { end, names })
    }

    /// That exactly those names of the snapshot's that are not below `floor` are there.
    pub(super) fn check_names(
        &self,
        listing: &Listing,
        floor: Offset,
        head: &SnapshotHead,
    ) -> Result<(), ChainFault> {
        if let Some(first) = head.names.first().filter(|first| floor < **first) {
            return Err(ChainFault::Missing {
                path: self.watermark_path(*first),
                detail: "segments below it were removed before the snapshot was made".to_owned(),
            });
        }
        let Some((name, what)) = first_difference(&listing.segments, floor, head) else {
            return Ok(());
        };
        // Removed while the directory was listed, or put there by one that was thought dead: then
        // it is below the watermark that stands now.
        if let Some(now) = self.watermark_above(name)?
            && (floor < now)
        {
            return self.check_names(listing, now, head);
        }
        let path = self.segment_path(name);
        Err(match what {
            Difference::NotThere => ChainFault::Missing {
                path,
                detail: "a snapshot knows it".to_owned(),
            },
            Difference::NotKnown => ChainFault::Damaged {
                path,
                detail: "belongs to no chain: the snapshot behind it does not know it".to_owned(),
            },
        })
    }
}

pub(super) type ReadHead = Result<SnapshotHead, String>;

/// Reads it to its end.
pub(super) fn read_head(bytes: &[u8], next: Offset) -> Result<SnapshotHead, SegmentError> {
    let mut snapshot = SnapshotReader::open(bytes)?;
    while snapshot.batch()?.is_some() {}
    if snapshot.head.end.next == next {
        return Ok(snapshot.head);
    }
    Err(SegmentError::Damaged(format!(
        "holds the snapshot that ends at {}",
        snapshot.head.end.next
    )))
}

enum Difference {
    NotThere,
    NotKnown,
}

fn first_difference(
    listed: &[Offset],
    floor: Offset,
    head: &SnapshotHead,
) -> Option<(Offset, Difference)> {
    let part = |names: &[Offset]| {
        let from = names.partition_point(|name| *name < floor);
        let to = names.partition_point(|name| *name < head.end.next);
        from..to.max(from)
    };
    let listed = &listed[part(listed)];
    let known = &head.names[part(&head.names)];
    let at = listed
        .iter()
        .zip(known)
        .position(|(listed, known)| listed != known)
        .unwrap_or(listed.len().min(known.len()));
    match (listed.get(at), known.get(at)) {
        (None, None) => None,
        (Some(listed), Some(known)) if listed < known => Some((*listed, Difference::NotKnown)),
        (Some(listed), None) => Some((*listed, Difference::NotKnown)),
        (_, Some(known)) => Some((*known, Difference::NotThere)),
    }
}

pub(super) fn snapshot_of(dir: &Path, name: &str) -> Option<SnapshotFile> {
    let digits = SUFFIXES.iter().find_map(|end| name.strip_suffix(end))?;
    Some(SnapshotFile {
        next: offset_of(digits)?,
        path: dir.join(name),
    })
}

/// Two who remove the same file both find it gone.
pub(super) fn remove_if_there(path: &Path) -> Result<bool, StoreError> {
    match fsx::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::at("remove", path)(error)),
    }
}

impl SnapshotFile {
    /// Where the other file of the same snapshot is.
    pub(super) fn twin(&self) -> PathBuf {
        let twins = SUFFIXES.map(|suffix| {
            let name = format!("{:020}{suffix}", self.next.0);
            self.path.with_file_name(name)
        });
        let twin = twins.into_iter().find(|path| *path != self.path);
        twin.expect("two suffixes differ")
    }

    /// Its bytes; `None`: it has been removed, a newer one stands.
    ///
    /// # Errors
    /// As the file system says.
    pub fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match fsx::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::at("read", &self.path)(error)),
        }
    }
}
