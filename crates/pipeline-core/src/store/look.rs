//! Looks at single segments, for people: by name, without a walk, so that a look at the end of a
//! long chain opens little and damage hides nothing but itself. Never says that a chain is whole
//! (`verify` does) and changes nothing.

use std::{io, ops::Range};

use super::{
    chain::Chain,
    owner::StoreError,
    records::Records,
    segment::{SegmentError, check_data, read_segment},
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

    /// As [`Self::look`], with its NDJSON, all of it checked and in memory.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn read(&self, first: Offset) -> Result<Option<(Visited, Vec<u8>)>, ChainFault> {
        let Some(visited) = self.look(first)? else {
            return Ok(None);
        };
        let read = read_segment(&visited.path).map(|(_, _, ndjson)| ndjson);
        let ndjson = self.unless_gone(&visited, read)?;
        Ok(ndjson.map(|ndjson| (visited, ndjson)))
    }

    /// Reads the segment that begins at `first` whole and compares its bytes with their hashes, which
    /// needs no decompression; gives the file's length. `None`: it has been removed behind the
    /// watermark.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn check(&self, first: Offset) -> Result<Option<u64>, ChainFault> {
        let Some((visited, file)) = self.open(first)? else {
            return self.gone(first).map(|()| None);
        };
        check_data(&file, &visited.trailer).map_err(|error| error.at(&visited.path))?;
        Ok(Some(visited.file_len))
    }

    /// The records of a segment that was visited, one by one; `None`: it has been removed behind the
    /// watermark.
    ///
    /// # Errors
    /// Where it is missing or cannot be opened.
    pub fn records<'v>(&self, visited: &'v Visited) -> Result<Option<Records<'v>>, ChainFault> {
        let opened = Records::open(visited).map_err(SegmentError::Io);
        self.unless_gone(visited, opened)
    }

    fn unless_gone<T>(
        &self,
        visited: &Visited,
        read: Result<T, SegmentError>,
    ) -> Result<Option<T>, ChainFault> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(SegmentError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.gone(visited.trailer.first).map(|()| None)
            }
            Err(error) => Err(error.at(&visited.path)),
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
