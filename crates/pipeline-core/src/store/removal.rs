//! Removal of old segments behind the watermark. Decides nothing about age: whoever asks says up
//! to where a chain's records are needed no more.
//!
//! ```text
//! two whole snapshots cover it ─▶ directory fsynced ─▶ watermark put, fsynced ─▶ oldest first
//!                                                       └ they do no more: taken back, none goes
//! ```
//! Names below the watermark belong to no chain from the moment it is put: a removal that is cut
//! off anywhere is finished by the next one, and the chain's last segment is never removed.
//!
//! Whoever removes may be frozen before it puts the watermark, over a repair that moves the borders
//! of segments. So what a watermark stands on is looked at again behind it, by everyone who removes
//! anything below it; a repair looks for a new watermark behind each snapshot that it has moved. One
//! of the two sees the other. What stands on it stays as long as it is there, so those who look
//! find the same.

use std::{fs, io};

use super::{
    chain::{Chain, watermark_of},
    owner::{StoreError, each_name},
    shelf::remove_if_there,
    snapshot::{SnapshotHead, SnapshotReader},
    walk::ChainFault,
};
use crate::{fsx, ids::Offset};

/// Greatest watermarks that are kept: a listing under way while one is replaced sees the other.
const WATERMARKS_KEPT: usize = 2;

/// What a removal has done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Removal {
    /// The one that stands now.
    pub watermark: Option<Offset>,
    pub segments: u64,
    pub bytes: u64,
    /// Whether snapshots, or a chain that was cut meanwhile, were in the way of removing all that was
    /// asked for.
    pub held_back: bool,
    /// Whether the caller's word ended it early.
    pub stopped: bool,
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The watermark to put first, if it rises.
    pub watermark: Option<Offset>,
    /// First offsets of the segments to remove then, oldest first.
    pub remove: Vec<Offset>,
    pub held_back: bool,
}

/// Plans the removal of all segments that end at or before `before`. `names` are those of the
/// directory, in order; `covered` is where the lesser of two whole snapshots ends.
#[must_use]
pub fn plan(
    names: &[Offset],
    watermark: Option<Offset>,
    covered: Option<Offset>,
    before: Offset,
) -> Plan {
    // A segment ends where the next one begins; the last one has no next, so it stays.
    let mark = |bound: Offset| {
        let at = names.partition_point(|name| *name <= bound);
        let above = names[..at].last().copied();
        above.filter(|mark| watermark.is_none_or(|old| old < *mark) && names.first() < Some(mark))
    };
    let wanted = mark(before);
    let rises = covered.and_then(|covered| mark(before.min(covered)));
    let stands = watermark.max(rises);
    let below = names.partition_point(|name| stands.is_some_and(|mark| *name < mark));
    Plan {
        watermark: rises,
        remove: names[..below].to_vec(),
        held_back: wanted != rises,
    }
}

impl Chain {
    /// Removes the segments that end at or before `before`, as far as two whole snapshots cover
    /// them. `go_on` is asked before the watermark is put and before each removal.
    ///
    /// # Errors
    /// The first fault met; what was not removed then is so by a later call.
    pub fn remove_before(
        &self,
        before: Offset,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Removal, ChainFault> {
        let listing = self.list()?;
        let Some(start) = self.start()? else {
            return Ok(Removal::default());
        };
        let mut removal = Removal {
            watermark: listing.watermark,
            ..Removal::default()
        };
        let names = &listing.segments;
        // Snapshots are read only where they can matter.
        let wanted = plan(names, listing.watermark, Some(before), before);
        let covered = if wanted.watermark.is_some() {
            self.covered()?
        } else {
            None
        };
        let planned = plan(
            names,
            listing.watermark,
            covered.as_ref().map(|head| head.end.next),
            before,
        );
        removal.held_back = planned.held_back;
        if planned == Plan::default() || planned.remove.is_empty() {
            return Ok(removal);
        }
        if !go_on() {
            removal.stopped = true;
            return Ok(removal);
        }
        if let (Some(mark), Some(head)) = (planned.watermark, &covered) {
            let floor = listing.watermark.unwrap_or(start.first_offset);
            self.check_names(&listing, floor, head)?;
            // The snapshots that were read may not be durable yet under their names.
            self.sync()?;
            self.put_watermark(mark)?;
        }
        let Some(mark) = planned.watermark.or(listing.watermark) else {
            return Ok(removal);
        };
        if !self.supports(mark)? {
            if planned.watermark.is_some() {
                self.take_back_watermark(mark)?;
            }
            removal.held_back = true;
            return Ok(removal);
        }
        removal.watermark = Some(mark);
        self.remove_old_watermarks()?;
        for name in planned.remove {
            if !go_on() {
                removal.stopped = true;
                break;
            }
            let path = self.segment_path(name);
            let len = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if remove_if_there(&path)? {
                removal.segments += 1;
                removal.bytes += len;
            }
        }
        Ok(removal)
    }

    /// Whether a segment begins at `mark`, and two whole snapshots of this chain cover what is below
    /// it. Where a greater watermark stands, this one says nothing any more.
    pub(super) fn supports(&self, mark: Offset) -> Result<bool, StoreError> {
        let listing = self.list()?;
        if listing.watermark.is_some_and(|stands| stands > mark) {
            return Ok(true);
        }
        if listing.segments.binary_search(&mark).is_err() {
            return Ok(false);
        }
        let Some(head) = self.covered()?.filter(|head| head.end.next >= mark) else {
            return Ok(false);
        };
        match self.check_names(&listing, mark, &head) {
            Ok(()) => Ok(true),
            Err(ChainFault::Io(error)) => Err(error),
            Err(ChainFault::Damaged { .. } | ChainFault::Missing { .. }) => Ok(false),
        }
    }

    /// Others may have found by now that it stands well, and removed what is below it: then it stays.
    fn take_back_watermark(&self, mark: Offset) -> Result<(), StoreError> {
        let path = self.watermark_path(mark);
        let may_go = |_: &std::path::Path| {
            let supports = self.supports(mark).map_err(io::Error::other)?;
            Ok(!supports)
        };
        fsx::remove_if(&path, may_go).map_err(StoreError::at("take back", &path))?;
        self.sync()
    }

    /// The lesser of the two greatest snapshots that are whole.
    fn covered(&self) -> Result<Option<SnapshotHead>, StoreError> {
        let mut whole = 0;
        for file in self.snapshots()? {
            let Some(bytes) = file.read()? else { continue };
            // One that is not whole is said by whoever takes the partition over.
            let Ok(snapshot) = SnapshotReader::open(&bytes) else {
                continue;
            };
            whole += 1;
            if whole == 2 {
                return Ok(Some(snapshot.head));
            }
        }
        Ok(None)
    }

    fn remove_old_watermarks(&self) -> Result<(), StoreError> {
        let mut marks = Vec::new();
        each_name(self.dir(), &mut |name| marks.extend(watermark_of(name)))?;
        marks.sort_unstable();
        let old = marks.len().saturating_sub(WATERMARKS_KEPT);
        for mark in &marks[..old] {
            remove_if_there(&self.watermark_path(*mark))?;
        }
        Ok(())
    }
}
