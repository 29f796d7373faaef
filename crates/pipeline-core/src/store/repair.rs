//! What can be done about a damaged chain without losing anything: its end, from the first segment
//! that is damaged or missing on, is set aside, so that it is read from Kafka once more; with it go
//! the snapshots that know of that end, damaged ones, and names that belong to no chain. Whether
//! Kafka still has it is the caller's question.

use std::path::{Path, PathBuf};

use super::{
    chain::{Chain, Listing, Start, watermark_of},
    mend::damaged,
    owner::{StoreError, each_name},
    segment::{SegmentError, read_segment},
    shelf::{ReadHead, remove_if_there, snapshot_of},
    snapshot::SnapshotHead,
    trailer::{Link, Totals},
    walk::{ChainFault, check_place},
};
use crate::{fsx, ids::Offset};

/// What an examination has found.
#[derive(Debug)]
pub enum Examined {
    Whole,
    Repairable(Repair),
    /// Nothing that stands here can replace what is damaged.
    Hopeless {
        damage: ChainFault,
        why: String,
    },
}

/// The end of a chain that can be set aside.
#[derive(Debug)]
pub struct Repair {
    pub start: Start,
    /// Where the chain will end: from there on Kafka must have all.
    pub next: Offset,
    pub damage: ChainFault,
    /// What has to go, in this order.
    pub aside: Vec<PathBuf>,
    /// The directory as it was looked at.
    seen: Vec<Offset>,
    watermark: Option<Offset>,
}

impl Chain {
    /// Reads every byte from the watermark on, until something is wrong. `progress` is called for
    /// each segment.
    ///
    /// # Errors
    /// Where the disk does not answer, or `START` is damaged.
    pub fn examine(&self, progress: &mut dyn FnMut()) -> Result<Examined, ChainFault> {
        // Before the names: what a snapshot knows was there by then.
        let heads = self.snapshot_heads()?;
        let listing = self.list()?;
        let found = self.examine_listed(heads, &listing, progress)?;
        if let (Examined::Hopeless { .. }, Some(mark)) = (&found, listing.watermark)
            && let Some(repair) = self.without_watermark(mark, listing, progress)?
        {
            return Ok(Examined::Repairable(repair));
        }
        Ok(found)
    }

    /// A removal that was frozen over a repair has put its watermark where no segment begins any
    /// more, or no snapshot covers what is below it, and died before it took it back. While nothing
    /// below is gone, all goes on without it.
    fn without_watermark(
        &self,
        mark: Offset,
        mut listing: Listing,
        progress: &mut dyn FnMut(),
    ) -> Result<Option<Repair>, ChainFault> {
        listing.watermark = None;
        each_name(self.dir(), &mut |name| {
            let lesser = watermark_of(name).filter(|at| *at < mark);
            listing.watermark = listing.watermark.max(lesser);
        })?;
        let Some(start) = self.start()? else {
            return Ok(None);
        };
        let floor = listing.watermark.unwrap_or(start.first_offset);
        if self.supports(mark)? || listing.segments.binary_search(&floor).is_err() {
            return Ok(None);
        }
        let path = self.watermark_path(mark);
        let heads = self.snapshot_heads()?;
        let mut repair = match self.examine_listed(heads, &listing, progress)? {
            Examined::Repairable(repair) => repair,
            Examined::Whole => Repair {
                next: self
                    .walk_listed(&start, &listing, None, &mut |_| true)?
                    .next,
                start,
                damage: ChainFault::Damaged {
                    path: path.clone(),
                    detail: "stands on no segment, or on none that snapshots cover".to_owned(),
                },
                aside: Vec::new(),
                seen: listing.segments,
                watermark: None,
            },
            Examined::Hopeless { .. } => return Ok(None),
        };
        // Last: cut off before it, all of this is found again.
        repair.aside.push(path);
        repair.watermark = Some(mark);
        Ok(Some(repair))
    }

    fn examine_listed(
        &self,
        heads: Vec<(PathBuf, ReadHead)>,
        listing: &Listing,
        progress: &mut dyn FnMut(),
    ) -> Result<Examined, ChainFault> {
        let Some(start) = self.start()? else {
            if listing.segments.is_empty() {
                return Ok(Examined::Whole);
            }
            return Ok(Examined::Hopeless {
                damage: ChainFault::Missing {
                    path: self.start_path(),
                    detail: "the chain has been begun".to_owned(),
                },
                why: "restore START from a backup".to_owned(),
            });
        };
        let floor = listing.watermark.unwrap_or(start.first_offset);
        let mut whole = Whole {
            next: floor,
            last: None,
            totals: listing.watermark.is_none().then(Totals::default),
            links: Vec::new(),
        };
        let damage = loop {
            match whole.step(self, &start, listing.watermark.is_some()) {
                Ok(true) => progress(),
                Ok(false) => break None,
                Err(fault @ ChainFault::Io(_)) => return Err(fault),
                Err(damage) => break Some(damage),
            }
        };
        let above = listing.segments.partition_point(|name| *name < whole.next);
        let behind = &listing.segments[above..];
        let strange: Vec<PathBuf> = listing.segments[..above]
            .iter()
            .filter(|name| **name >= floor && !whole.has(**name))
            .map(|name| self.segment_path(*name))
            .collect();
        let (read, unread): (Vec<_>, Vec<_>) = heads.into_iter().partition(|(_, it)| it.is_ok());
        let (agree, differ): (Vec<_>, Vec<_>) = read
            .into_iter()
            .filter_map(|(path, head)| Some((path, head.ok()?)))
            .partition(|(_, head)| whole.agrees(head, floor));
        let damage = match (damage, strange.first(), behind.first(), differ.first()) {
            (Some(damage), ..) => damage,
            (None, Some(strange), ..) => ChainFault::Damaged {
                path: strange.clone(),
                detail: "belongs to no chain".to_owned(),
            },
            (None, None, Some(later), _) => ChainFault::Missing {
                path: self.segment_path(whole.next),
                detail: format!("{} is there", self.segment_path(*later).display()),
            },
            (None, None, None, _) if whole.links.is_empty() && listing.watermark.is_some() => {
                ChainFault::Missing {
                    path: self.segment_path(floor),
                    detail: "the watermark stands there".to_owned(),
                }
            }
            (None, None, None, Some((path, head))) => self.contradiction(path, head, listing),
            (None, None, None, None) => {
                let damage = match listing.watermark {
                    Some(_) => self.without_window(floor)?,
                    None => None,
                };
                let why = "segments behind the watermark are gone, and no snapshot of the \
                           duplicate window can be read; restore one from a backup";
                return Ok(damage.map_or(Examined::Whole, |damage| Examined::Hopeless {
                    damage,
                    why: why.to_owned(),
                }));
            }
        };
        if listing.watermark.is_some() {
            let hopeless = |damage, why: &str| {
                let why = why.to_owned();
                Ok(Examined::Hopeless { damage, why })
            };
            if whole.links.is_empty() {
                return hopeless(
                    damage,
                    "no whole segment is left before it; restore it from a backup",
                );
            }
            // An older one is of a part that is gone.
            if agree.iter().all(|(_, head)| head.end.next < floor) {
                return hopeless(
                    damage,
                    "segments behind the watermark are gone, and no snapshot of the duplicate \
                     window stands that ends before the damage; restore it from a backup",
                );
            }
        }
        // First what knows of the end, then the end from behind: cut off anywhere, the chain
        // still halts.
        let mut aside: Vec<PathBuf> = differ.into_iter().map(|(path, _)| path).collect();
        aside.extend(damaged(unread));
        for file in self.snapshots()? {
            if file.next > whole.next && !aside.contains(&file.path) {
                aside.push(file.path);
            }
        }
        aside.extend(behind.iter().rev().map(|name| self.segment_path(*name)));
        aside.extend(strange);
        Ok(Examined::Repairable(Repair {
            start,
            next: whole.next,
            damage,
            aside,
            seen: listing.segments.clone(),
            watermark: listing.watermark,
        }))
    }

    /// Moves what an examination found into `dir`, each file durable there before it is gone here;
    /// `go_on` is asked before each. Gives the new paths; `Ok(None)`: the chain is not as it was
    /// then, or it was told to stop. What is left then is found by another examination.
    ///
    /// # Errors
    /// Where a step failed; examine it again.
    pub fn set_aside(
        &self,
        repair: &Repair,
        dir: &Path,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Vec<PathBuf>>, StoreError> {
        let listing = self.list()?;
        if listing.segments != repair.seen || listing.watermark != repair.watermark {
            return Ok(None);
        }
        fsx::create_dirs(dir).map_err(StoreError::at("make directory", dir))?;
        let mut moved = Vec::new();
        for path in &repair.aside {
            if !go_on() {
                return Ok(None);
            }
            let to = free_name(dir, path)?;
            fsx::sync_dir(dir).map_err(StoreError::at("fsync directory", dir))?;
            remove_if_there(path)?;
            self.sync()?;
            // Whoever removes looks at the snapshots again when its watermark stands (`removal`).
            if is_snapshot(path) && self.watermark()? != repair.watermark {
                fsx::link(&to, path).map_err(StoreError::at("put back", path))?;
                self.sync()?;
                remove_if_there(&to)?;
                return Ok(None);
            }
            moved.push(to);
        }
        // The one that is gone back to may be an older one, of which one file was kept.
        self.complete_newest_snapshot()?;
        Ok(Some(moved))
    }

    /// What is missing where segments are gone, and no snapshot reads that ends behind them.
    fn without_window(&self, floor: Offset) -> Result<Option<ChainFault>, StoreError> {
        // Read anew: what was found before may have been replaced and removed since.
        for (_, head) in self.snapshot_heads()? {
            if head.is_ok_and(|head| head.end.next >= floor) {
                return Ok(None);
            }
        }
        let (path, detail) = match (self.missing_snapshot()?, self.snapshots()?.first()) {
            (Some(missing), _) => missing,
            (None, Some(unreadable)) => (unreadable.path.clone(), "cannot be read".to_owned()),
            (None, None) => return Ok(None),
        };
        Ok(Some(ChainFault::Missing { path, detail }))
    }

    /// What a snapshot says and the chain, whole as far as it goes, does not.
    fn contradiction(&self, path: &Path, head: &SnapshotHead, listing: &Listing) -> ChainFault {
        let floor = listing.watermark.unwrap_or_default();
        let gone = |name: &&Offset| **name >= floor && !listing.segments.contains(name);
        match head.names.iter().find(gone) {
            Some(name) => ChainFault::Missing {
                path: self.segment_path(*name),
                detail: format!("{} knows it", path.display()),
            },
            None => ChainFault::Damaged {
                path: path.to_owned(),
                detail: "is of other segments than those that are there".to_owned(),
            },
        }
    }
}

/// The part of the chain that has been read and is whole.
struct Whole {
    next: Offset,
    last: Option<Link>,
    /// `None` before the first segment behind a watermark.
    totals: Option<Totals>,
    links: Vec<Link>,
}

impl Whole {
    fn has(&self, name: Offset) -> bool {
        let found = self.links.binary_search_by_key(&name, |link| link.first);
        found.is_ok()
    }

    /// Whether a snapshot is of this part of the chain: the same names, the same end of them.
    fn agrees(&self, head: &SnapshotHead, floor: Offset) -> bool {
        let next = head.end.next;
        let known = &head.names[head.names.partition_point(|name| *name < floor)..];
        let there = self.links.partition_point(|link| link.first < next);
        let (there, behind) = self.links.split_at(there);
        let end = behind.first().map_or(self.next, |link| link.first);
        let last = known
            .last()
            .is_none_or(|_| there.last() == head.end.last.as_ref());
        let names = there.iter().map(|link| link.first);
        next <= floor.max(end)
            && (known.is_empty() || next == end)
            && names.eq(known.iter().copied())
            && last
    }

    /// Takes in the next segment; `Ok(false)`: there is none.
    fn step(&mut self, chain: &Chain, start: &Start, removed: bool) -> Result<bool, ChainFault> {
        let path = chain.segment_path(self.next);
        let (trailer, hash, _) = match read_segment(&path) {
            Ok(read) => read,
            Err(SegmentError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(SegmentError::Io(error)) => return Err(StoreError::at("read", &path)(error).into()),
            Err(SegmentError::Damaged(detail)) => return Err(ChainFault::Damaged { path, detail }),
        };
        let known = !(removed && self.links.is_empty());
        let placed = if trailer.first == self.next {
            let previous = known.then_some(self.last);
            check_place(&trailer, Some(start), previous, self.totals.as_ref())
        } else {
            Err(format!(
                "holds the segment that begins at {}",
                trailer.first
            ))
        };
        placed.map_err(|detail| ChainFault::Damaged { path, detail })?;
        let link = Link {
            first: trailer.first,
            hash,
        };
        self.links.push(link);
        self.last = Some(link);
        self.totals = Some(trailer.totals);
        self.next = trailer.next;
        Ok(true)
    }
}

fn is_snapshot(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| snapshot_of(Path::new(""), name).is_some())
}

/// Links the file into `dir`, under its own name or the first number behind it that is free.
pub(super) fn free_name(dir: &Path, path: &Path) -> Result<PathBuf, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for number in 0_u32.. {
        let to = if number == 0 {
            dir.join(&*name)
        } else {
            dir.join(format!("{name}.{number}"))
        };
        if fsx::link(path, &to).map_err(StoreError::at("set aside", path))? {
            return Ok(to);
        }
    }
    unreachable!("more than four billion copies")
}
