//! Looks at single segments, for people: by name, without a walk, so that a look at the end of a
//! long chain opens little and damage hides nothing but itself. Never says that a chain is whole
//! (`verify` does) and changes nothing.

use std::{io, ops::Range};

use super::{
    chain::Chain,
    owner::StoreError,
    segment::{SegmentError, read_segment},
    walk::{ChainFault, Visited},
};
use crate::ids::Offset;

impl Chain {
    /// The names, in order, of the segments that belong to the chain (from the watermark on) and
    /// may hold offsets of `range`.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn names(&self, range: &Range<Offset>) -> Result<Vec<Offset>, StoreError> {
        let listing = self.list()?;
        let mut names = listing.segments;
        names.retain(|name| listing.watermark.is_none_or(|mark| *name >= mark));
        let end = names.partition_point(|name| *name < range.end);
        names.truncate(end);
        // A segment may reach to the next name, so the last one at or below the start counts.
        let behind = names.partition_point(|name| *name <= range.start);
        names.drain(..behind.saturating_sub(1));
        Ok(names)
    }

    /// The segment that begins at `first`; `None`: it has been removed behind the watermark.
    ///
    /// # Errors
    /// Where it is missing, damaged or cannot be read.
    pub fn look(&self, first: Offset) -> Result<Option<Visited>, ChainFault> {
        match self.visit(first)? {
            Some(visited) => Ok(Some(visited)),
            None => self.gone(first).map(|()| None),
        }
    }

    /// As [`Self::look`], with its NDJSON, all of it checked.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn read(&self, first: Offset) -> Result<Option<(Visited, Vec<u8>)>, ChainFault> {
        let Some(visited) = self.look(first)? else {
            return Ok(None);
        };
        match read_segment(&visited.path) {
            Ok((_, _, ndjson)) => Ok(Some((visited, ndjson))),
            Err(SegmentError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.gone(first).map(|()| None)
            }
            Err(SegmentError::Io(error)) => {
                Err(StoreError::at("read", &visited.path)(error).into())
            }
            Err(SegmentError::Damaged(detail)) => Err(ChainFault::Damaged {
                path: visited.path,
                detail,
            }),
        }
    }

    /// That a listed segment which is not there has been removed as it should be.
    fn gone(&self, first: Offset) -> Result<(), ChainFault> {
        if self.watermark_above(first)?.is_some() {
            return Ok(());
        }
        Err(ChainFault::Missing {
            path: self.segment_path(first),
            detail: "it was listed a moment ago, and no watermark is above it".to_owned(),
        })
    }
}
