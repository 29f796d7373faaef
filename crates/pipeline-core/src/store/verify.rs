//! The offline proof that a store is whole. Reads every byte from each chain's watermark on, goes
//! on behind damage, changes nothing.

mod across;
mod report;

use std::{
    fs, io,
    num::NonZero,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

pub use self::across::Absent;
use self::across::{Marks, absent, copies};
pub use self::report::{ChainReport, Damage, Report, Which};
use super::{
    chain::{Chain, Listing},
    owner::{Store, StoreError},
    segment::{SegmentError, read_segment},
    trailer::{Link, Totals},
    walk::{ChainFault, check_place},
};
use crate::ids::Offset;

/// Each may hold one segment in memory.
const THREADS_MAX: usize = 8;

/// Called with segments done and segments there are, from any thread.
pub type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// Checks the chains from their watermarks on, data and trailers, several side by side (bounded by
/// the cores, each with one segment in memory). What cannot be read is damage: nothing is proved of
/// it, and the rest is checked all the same.
///
/// # Errors
/// Where there is no store or its topics cannot be listed.
pub fn verify(root: &Path, which: &Which, progress: &Progress<'_>) -> Result<Report, StoreError> {
    let Some(store) = Store::open_existing(root)? else {
        let none = io::Error::new(io::ErrorKind::NotFound, "no file OWNER is there");
        return Err(StoreError::at("find a store at", root)(none));
    };
    let mut damage = Vec::new();
    let mut chains = Vec::new();
    let mut total = 0;
    for topic in store.topics()? {
        if which.topic.as_ref().is_some_and(|wanted| *wanted != topic) {
            continue;
        }
        match store.chains_of(&topic) {
            Ok(of_topic) => {
                for chain in of_topic.into_iter().filter(|chain| which.wants(chain)) {
                    // Before START is read: START is durable before the first name appears.
                    let listing = list(&chain);
                    total += listing.as_ref().map_or(0, |it| it.segments.len() as u64);
                    chains.push((chain, listing));
                }
            }
            Err(error) => damage.push(Damage {
                path: error.path.clone(),
                detail: cannot_be_read(&error),
            }),
        }
    }
    let absent = match which.partition {
        Some(_) => Vec::new(),
        None => absent(chains.iter().map(|(chain, _)| chain)),
    };
    let proved = prove_all(&chains, total, progress);
    let dirs = chains.iter().map(|(chain, _)| chain.dir());
    damage.extend(copies(dirs.zip(proved.iter().map(|(_, marks)| *marks))));
    Ok(Report {
        store: store.id().clone(),
        chains: proved.into_iter().map(|(report, _)| report).collect(),
        absent,
        damage,
    })
}

/// A chain whose directory was listed is there: a link that leads nowhere is none without segments.
fn list(chain: &Chain) -> Result<Listing, StoreError> {
    fs::metadata(chain.dir()).map_err(StoreError::at("list", chain.dir()))?;
    chain.list()
}

type Listed = (Chain, Result<Listing, StoreError>);

type Proved = (ChainReport, Marks);

/// Each thread takes the next chain that nobody has taken.
fn prove_all(chains: &[Listed], total: u64, progress: &Progress<'_>) -> Vec<Proved> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.clamp(1, THREADS_MAX).min(chains.len());
    let taken = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let index = taken.fetch_add(1, Ordering::Relaxed);
            let Some((chain, listing)) = chains.get(index) else {
                return reports;
            };
            let mut step = || progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            reports.push((index, prove(chain, listing, &mut step)));
        }
    };
    let mut reports: Vec<(usize, Proved)> = thread::scope(|scope| {
        let tasks: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = tasks.into_iter().map(|task| task.join());
        ended.flat_map(|task| task.expect("no panic")).collect()
    });
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

fn prove(chain: &Chain, listing: &Result<Listing, StoreError>, step: &mut dyn FnMut()) -> Proved {
    match listing {
        Ok(listing) => Proof::of(chain, listing).run(step),
        Err(error) => {
            let none = Listing::default();
            let mut proof = Proof::of(chain, &none);
            proof.unreadable(chain.dir().to_owned(), error);
            (proof.report, proof.marks)
        }
    }
}

struct Proof<'a> {
    chain: &'a Chain,
    listing: &'a Listing,
    report: ChainReport,
    marks: Marks,
    /// The end of what was checked, unless the segment there is unknown: at a watermark, behind
    /// damage.
    anchor: Option<Anchor>,
}

struct Anchor {
    next: Offset,
    last: Option<Link>,
    totals: Totals,
}

impl<'a> Proof<'a> {
    fn of(chain: &'a Chain, listing: &'a Listing) -> Self {
        Self {
            chain,
            listing,
            marks: Marks::default(),
            report: ChainReport {
                topic: chain.topic().to_owned(),
                partition: chain.partition(),
                start: None,
                first: Offset(0),
                next: Offset(0),
                segments: 0,
                bytes: 0,
                totals: Totals::default(),
                damage: Vec::new(),
            },
            anchor: None,
        }
    }

    fn run(mut self, step: &mut dyn FnMut()) -> Proved {
        self.begin();
        let mut names = self.listing.segments.clone();
        if let Some(watermark) = self.listing.watermark
            && !names.contains(&watermark)
        {
            // The chain's end is never removed: there is a segment at the watermark.
            names.push(watermark);
            names.sort_unstable();
        }
        for name in names {
            if let Err(error) = self.look_at(name) {
                self.anchor = None;
                self.unreadable(self.chain.segment_path(name), &error);
            }
            step();
        }
        self.check_snapshots();
        (self.report, self.marks)
    }

    /// Without one a chain is whole all the same, unless segments have been removed. One that knows
    /// of a segment shows that it is missing, also where that was the chain's last.
    fn check_snapshots(&mut self) {
        let heads = match self.chain.snapshot_heads() {
            Ok(heads) => heads,
            Err(error) => return self.unreadable(self.chain.dir().to_owned(), &error),
        };
        for (path, head) in heads {
            match head {
                Ok(head) => self.check_known(&head.names),
                Err(detail) => self.damaged(path, detail),
            }
        }
        match self.chain.missing_snapshot() {
            Ok(missing) => missing
                .into_iter()
                .for_each(|(path, detail)| self.damaged(path, detail)),
            Err(error) => self.unreadable(self.chain.dir().to_owned(), &error),
        }
    }

    fn check_known(&mut self, names: &[Offset]) {
        for name in names {
            if self.listing.segments.binary_search(name).is_ok() {
                continue;
            }
            let path = self.chain.segment_path(*name);
            match self.below_watermark(*name) {
                // Where it is there, it was linked after the directory was listed.
                Ok(false) if !path.exists() => {
                    self.damaged(path, "missing, a snapshot knows it".to_owned());
                }
                Ok(_) => {}
                Err(error) => self.unreadable(path, &error),
            }
        }
    }

    fn look_at(&mut self, name: Offset) -> Result<(), StoreError> {
        if !self.below_watermark(name)? {
            self.check_gap(name)?;
            self.check(name)?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        match self.chain.start() {
            Ok(start) => self.report.start = start,
            Err(ChainFault::Io(error)) => self.unreadable(self.chain.start_path(), &error),
            Err(ChainFault::Damaged { path, detail } | ChainFault::Missing { path, detail }) => {
                self.damaged(path, detail);
            }
        }
        let begun = self.listing.watermark.is_some() || !self.listing.segments.is_empty();
        if self.report.start.is_none() && self.report.damage.is_empty() && begun {
            self.damaged(
                self.chain.start_path(),
                "missing although the chain has been begun".to_owned(),
            );
        }
        match (&self.report.start, self.listing.watermark) {
            (_, Some(watermark)) => self.report.first = watermark,
            (Some(start), None) => {
                self.report.first = start.first_offset;
                self.anchor = Some(Anchor {
                    next: start.first_offset,
                    last: None,
                    totals: Totals::default(),
                });
            }
            (None, None) => {
                self.report.first = self.listing.segments.first().copied().unwrap_or_default();
            }
        }
        self.report.next = self.report.first;
    }

    /// Names what should stand between the last segment and `name`.
    fn check_gap(&mut self, name: Offset) -> Result<(), StoreError> {
        let Some(next) = self.anchor.as_ref().map(|anchor| anchor.next) else {
            return Ok(());
        };
        if next < name && !self.below_watermark(next)? {
            let later = file_name(&self.chain.segment_path(name));
            self.damaged(
                self.chain.segment_path(next),
                format!("missing, {later} is there"),
            );
        }
        if next < name {
            self.anchor = None;
        }
        Ok(())
    }

    fn check(&mut self, name: Offset) -> Result<(), StoreError> {
        let path = self.chain.segment_path(name);
        if let Some(Anchor { next, .. }) = self.anchor
            && name < next
        {
            self.damaged(
                path,
                format!("lies within the segments before it, which end at {next}"),
            );
            return Ok(());
        }
        let read = read_segment(&path)
            .and_then(|(trailer, hash, _)| Ok((trailer, hash, fs::metadata(&path)?.len())));
        let (trailer, hash, file_len) = match read {
            Ok(read) => read,
            Err(SegmentError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.anchor = None;
                if !self.below_watermark(name)? {
                    self.damaged(path, "missing".to_owned());
                }
                return Ok(());
            }
            Err(SegmentError::Io(error)) => return Err(StoreError::at("read", &path)(error)),
            Err(SegmentError::Damaged(detail)) => {
                self.anchor = None;
                self.damaged(path, detail);
                return Ok(());
            }
        };
        if trailer.first != name {
            let detail = format!("holds the segment that begins at {}", trailer.first);
            self.anchor = None;
            self.damaged(path, detail);
            return Ok(());
        }
        if let Some(previous) = trailer.previous
            && self.anchor.is_none()
            && self
                .listing
                .segments
                .binary_search(&previous.first)
                .is_err()
            && self.report.first <= previous.first
            && !self.below_watermark(previous.first)?
        {
            // Behind damage the gap itself cannot be seen, only the link into it.
            let name = self.chain.segment_path(previous.first);
            self.damaged(name, format!("missing, {} is there", file_name(&path)));
        }
        let (previous, totals) = match &self.anchor {
            Some(anchor) => (Some(anchor.last), Some(&anchor.totals)),
            None => (None, None),
        };
        if let Err(detail) = check_place(&trailer, self.report.start.as_ref(), previous, totals) {
            self.damaged(path, detail);
        }
        self.marks.saw(&trailer, hash);
        self.report.segments += 1;
        self.report.bytes += file_len;
        self.report.next = trailer.next;
        self.report.totals = trailer.totals;
        self.anchor = Some(Anchor {
            next: trailer.next,
            last: Some(Link { first: name, hash }),
            totals: trailer.totals,
        });
        Ok(())
    }

    /// Whether `name` belongs to no chain (any more): a live writer may remove behind our back.
    fn below_watermark(&self, name: Offset) -> Result<bool, StoreError> {
        if self.listing.watermark.is_some_and(|mark| name < mark) {
            return Ok(true);
        }
        if self.chain.segment_path(name).exists() {
            return Ok(false);
        }
        Ok(self.chain.watermark_above(name)?.is_some())
    }

    fn unreadable(&mut self, path: PathBuf, error: &StoreError) {
        self.damaged(path, cannot_be_read(error));
    }

    fn damaged(&mut self, path: PathBuf, detail: String) {
        // Seen from both sides, a gap is still one.
        if self.report.damage.iter().all(|known| known.path != path) {
            self.report.damage.push(Damage { path, detail });
        }
    }
}

fn cannot_be_read(error: &StoreError) -> String {
    format!("cannot be read: {error}")
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
