//! The way along one chain, from its beginning or from a cursor to its end. Reads trailers only
//! (`look` reads data), changes nothing, and never takes the greatest name for the end.

use std::{fs::File, io, path::PathBuf, time::SystemTime};

use super::{
    chain::{Chain, Listing, Start},
    owner::StoreError,
    segment::{SegmentError, read_trailer},
    trailer::{LastMessage, Link, SegmentHash, Totals, Trailer},
};
use crate::{fsx, ids::Offset};

/// Why a chain cannot be followed or extended. Halts its partition.
#[derive(Debug, thiserror::Error)]
pub enum ChainFault {
    #[error(transparent)]
    Io(#[from] StoreError),
    #[error("damaged {path}: {detail}")]
    Damaged { path: PathBuf, detail: String },
    /// The file of this name is not there although the chain goes on behind it.
    #[error("missing {path}: {detail}")]
    Missing { path: PathBuf, detail: String },
}

/// Where a reader has got to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    pub next: Offset,
    /// The last segment read; `None` before the first.
    pub last: Option<Link>,
}

/// The end of a chain: all that is needed to extend it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainEnd {
    pub next: Offset,
    pub last: Option<Link>,
    pub totals: Totals,
    pub last_message: Option<LastMessage>,
}

/// One segment as the walk meets it.
#[derive(Clone, Debug)]
pub struct Visited {
    pub path: PathBuf,
    pub hash: SegmentHash,
    pub file_len: u64,
    /// When the file was written.
    pub modified: SystemTime,
    pub trailer: Trailer,
}

impl Visited {
    #[must_use]
    pub fn link(&self) -> Link {
        Link {
            first: self.trailer.first,
            hash: self.hash,
        }
    }
}

impl Chain {
    /// Walks from `from` (`None`: the watermark, or START) to the end by `next`, checking links
    /// and that every listed name is reached. The directory is listed first. `visit` may end the
    /// walk early by returning `false`; the end is then the last segment visited. A chain without
    /// START gives `Ok(None)`; segments without START are damage.
    ///
    /// Should segments be removed behind a watermark while a walk without `from` is under way, it
    /// goes on at the new watermark: `visit` sees a gap then. With `from` that is a fault, as a
    /// reader with a cursor needs each segment.
    ///
    /// # Errors
    /// The first damaged or missing segment.
    pub fn walk(
        &self,
        from: Option<Cursor>,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<Option<ChainEnd>, ChainFault> {
        // Before START is read: START is durable before the first name appears.
        let listing = self.list()?;
        let Some(start) = self.start()? else {
            return match (listing.segments.first(), from) {
                (None, None) if listing.watermark.is_none() => Ok(None),
                _ => Err(ChainFault::Missing {
                    path: self.start_path(),
                    detail: "START is not there although the chain has been begun".to_owned(),
                }),
            };
        };
        self.walk_listed(&start, &listing, from, visit).map(Some)
    }

    /// As [`walk`](Self::walk), of a chain that is there and has been listed before.
    pub(super) fn walk_listed(
        &self,
        start: &Start,
        listing: &Listing,
        from: Option<Cursor>,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<ChainEnd, ChainFault> {
        let mut walk = Walk::begin(self, start, listing, from)?;
        while let Some(visited) = walk.step(from.is_none())? {
            if !visit(visited) {
                return Ok(walk.end);
            }
        }
        debug_assert_eq!(walk.reached, listing.segments.len(), "no name is ahead");
        Ok(walk.end)
    }

    /// Where the segment with the greatest name that can be read ends and its running totals,
    /// without a walk: good enough for a gauge until someone has walked, never the chain's end.
    ///
    /// # Errors
    /// Where the disk does not answer, or none (or START, where there is none) can be read.
    pub fn newest(&self) -> Result<Option<(Offset, Totals)>, ChainFault> {
        let mut damage = None;
        for newest in self.list()?.segments.into_iter().rev() {
            match self.visit(newest) {
                Ok(Some(visited)) => {
                    return Ok(Some((visited.trailer.next, visited.trailer.totals)));
                }
                // Removed meanwhile.
                Ok(None) => {}
                Err(fault @ ChainFault::Io(_)) => return Err(fault),
                Err(fault) => damage = damage.or(Some(fault)),
            }
        }
        if let Some(fault) = damage {
            return Err(fault);
        }
        let start = self.start()?;
        Ok(start.map(|start| (start.first_offset, Totals::default())))
    }

    /// Reads the trailer of the segment that begins at `first`; `None`: there is no such file.
    pub(super) fn visit(&self, first: Offset) -> Result<Option<Visited>, ChainFault> {
        Ok(self.open(first)?.map(|(visited, _)| visited))
    }

    /// As [`Self::visit`], with the open file.
    pub(super) fn open(&self, first: Offset) -> Result<Option<(Visited, File)>, ChainFault> {
        let path = self.segment_path(first);
        let file = match fsx::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::at("open", &path)(error).into()),
        };
        let read = read_trailer(&file).and_then(|(trailer, hash)| {
            if trailer.first == first {
                let metadata = file.metadata()?;
                Ok((trailer, hash, metadata.len(), metadata.modified()?))
            } else {
                Err(SegmentError::Damaged(format!(
                    "holds the segment that begins at {}",
                    trailer.first
                )))
            }
        });
        match read {
            Ok((trailer, hash, file_len, modified)) => {
                let visited = Visited {
                    path,
                    hash,
                    file_len,
                    modified,
                    trailer,
                };
                Ok(Some((visited, file)))
            }
            Err(SegmentError::Io(error)) => Err(StoreError::at("read", &path)(error).into()),
            Err(SegmentError::Damaged(detail)) => Err(ChainFault::Damaged { path, detail }),
        }
    }

    /// The watermark, read anew, if `first` is below it: then its segment belongs to no chain.
    pub(super) fn watermark_above(&self, first: Offset) -> Result<Option<Offset>, StoreError> {
        Ok(self.watermark()?.filter(|watermark| first < *watermark))
    }
}

/// What is wrong with `trailer` at a place of a chain, if anything. `previous` is `None` where the
/// segment before is not known (at a watermark), `Some(None)` where there is none.
pub(super) fn check_place(
    trailer: &Trailer,
    start: Option<&Start>,
    previous: Option<Option<Link>>,
    totals_before: Option<&Totals>,
) -> Result<(), String> {
    if let Some(previous) = previous
        && trailer.previous != previous
    {
        let name = |link: Option<Link>| match link {
            Some(link) => format!("{} with hash {}", link.first, link.hash),
            None => "none".to_owned(),
        };
        return Err(format!(
            "names as the segment before it {}, but that is {}",
            name(trailer.previous),
            name(previous)
        ));
    }
    if let Some(before) = totals_before
        && trailer.totals_before() != *before
    {
        return Err(format!(
            "goes on from totals {:?}, but the chain's are {before:?}",
            trailer.totals_before()
        ));
    }
    if let Some(start) = start {
        let offsets = u64::try_from(trailer.next.0 - start.first_offset.0).unwrap_or(0);
        if trailer.totals.sum() != offsets {
            return Err(format!(
                "totals count {} offsets, from START to here are {offsets}",
                trailer.totals.sum()
            ));
        }
    }
    Ok(())
}

struct Walk<'a> {
    chain: &'a Chain,
    start: &'a Start,
    listing: &'a Listing,
    end: ChainEnd,
    /// Whether `end` is known; not at a watermark, before the first segment.
    anchored: bool,
    /// How many names of the listing are behind.
    reached: usize,
}

impl<'a> Walk<'a> {
    fn begin(
        chain: &'a Chain,
        start: &'a Start,
        listing: &'a Listing,
        from: Option<Cursor>,
    ) -> Result<Self, ChainFault> {
        let at_start = ChainEnd {
            next: start.first_offset,
            last: None,
            totals: Totals::default(),
            last_message: None,
        };
        let mut walk = Self {
            chain,
            start,
            listing,
            end: at_start,
            anchored: true,
            reached: 0,
        };
        match (from, listing.watermark) {
            (None, None) => {}
            (None, Some(watermark)) => walk.jump(watermark),
            (Some(Cursor { next, last: None }), _) if next == start.first_offset => {}
            (Some(Cursor { next, last: None }), _) => {
                return Err(ChainFault::Damaged {
                    path: chain.start_path(),
                    detail: format!(
                        "the chain begins at {}, the cursor's began at {next}",
                        start.first_offset
                    ),
                });
            }
            (Some(cursor), _) => walk.resume(cursor)?,
        }
        // Names before the place where the walk begins are not its business.
        walk.reached = listing
            .segments
            .partition_point(|name| *name < walk.end.next);
        Ok(walk)
    }

    /// Stands behind the cursor's last segment, which must be the one that the cursor means. Only
    /// where it is gone behind the watermark is it not looked at.
    fn resume(&mut self, cursor: Cursor) -> Result<(), ChainFault> {
        let last = cursor.last.expect("a cursor with a last segment");
        self.end.next = cursor.next;
        self.end.last = Some(last);
        let Some(visited) = self.chain.visit(last.first)? else {
            if self.chain.watermark_above(last.first)?.is_some() {
                self.anchored = false;
                return Ok(());
            }
            return Err(self.missing(last.first, "a cursor stands behind it"));
        };
        let trailer = &visited.trailer;
        let detail = if visited.hash != last.hash {
            format!("has hash {}, the cursor's has {}", visited.hash, last.hash)
        } else if trailer.next != cursor.next {
            format!("ends at {}, the cursor is at {}", trailer.next, cursor.next)
        } else {
            match check_place(trailer, Some(self.start), None, None) {
                Ok(()) => {
                    self.end.totals = trailer.totals;
                    self.end.last_message = trailer.last;
                    return Ok(());
                }
                Err(detail) => detail,
            }
        };
        Err(ChainFault::Damaged {
            path: visited.path,
            detail,
        })
    }

    fn jump(&mut self, watermark: Offset) {
        self.end.next = watermark;
        self.end.last = None;
        self.anchored = false;
    }

    /// The next segment, or `None` at the end.
    fn step(&mut self, may_jump: bool) -> Result<Option<Visited>, ChainFault> {
        let visited = loop {
            let at = self.end.next;
            if let Some(visited) = self.chain.visit(at)? {
                break visited;
            }
            let later = self.listing.segments.last().is_some_and(|name| *name >= at);
            if !later && self.anchored {
                return Ok(None);
            }
            // Listed, or followed by listed names, or the first behind a watermark: it must be
            // there, unless it has been removed meanwhile.
            match self.chain.watermark_above(at)? {
                Some(watermark) if may_jump => self.jump(watermark),
                Some(watermark) => {
                    let detail = format!("removed behind the watermark {watermark} before read");
                    return Err(self.missing(at, &detail));
                }
                None => {
                    let detail = match self.listing.segments.iter().find(|name| **name > at) {
                        Some(later) => format!("{} is there", self.name(*later)),
                        None => "the chain ends before it".to_owned(),
                    };
                    return Err(self.missing(at, &detail));
                }
            }
        };
        let trailer = &visited.trailer;
        // A cursor's link holds also where its segment is gone behind the watermark.
        let previous = (self.anchored || self.end.last.is_some()).then_some(self.end.last);
        let totals = self.anchored.then_some(&self.end.totals);
        if let Err(detail) = check_place(trailer, Some(self.start), previous, totals) {
            return Err(ChainFault::Damaged {
                path: visited.path,
                detail,
            });
        }
        self.end = ChainEnd {
            next: trailer.next,
            last: Some(visited.link()),
            totals: trailer.totals,
            last_message: trailer.last,
        };
        self.anchored = true;
        self.pass(visited.trailer.first, visited.trailer.next)?;
        Ok(Some(visited))
    }

    /// Names between `first` and `next` belong to no chain, unless a watermark is above them.
    fn pass(&mut self, first: Offset, next: Offset) -> Result<(), ChainFault> {
        while let Some(&name) = self.listing.segments.get(self.reached)
            && name < next
        {
            self.reached += 1;
            if name > first && self.chain.watermark_above(name)?.is_none() {
                return Err(ChainFault::Damaged {
                    path: self.chain.segment_path(name),
                    detail: format!("lies within {}", self.name(first)),
                });
            }
        }
        Ok(())
    }

    fn missing(&self, first: Offset, detail: &str) -> ChainFault {
        ChainFault::Missing {
            path: self.chain.segment_path(first),
            detail: detail.to_owned(),
        }
    }

    fn name(&self, first: Offset) -> String {
        let path = self.chain.segment_path(first);
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}
