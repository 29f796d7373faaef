//! State made anew, from the archive and the live segments: for when manifests or counts are lost
//! or damaged. Reads every record once; changes nothing before the one manifest that it puts.
//!
//! ```text
//! what each file of the archive says it holds ─▶ its rows are counted
//! each chain from its watermark on ─▶ what no file holds is counted, and is to be archived
//! ```
//! Files that a plan of the last readable manifest names and that are not there stay planned, so
//! that one who still carries it out puts nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use pipeline_core::{
    Offset, fsx,
    store::{
        Chain, ChainFault, SegmentError, Store, StoreError, StoredRecord, StoredRun, Trailer,
        Visited, read_segment,
    },
};

use crate::{
    archive::{
        self, Archiving, ChainId, Place, files,
        pending::{Archive, Part, PlannedFile},
        tally::{Arrival, Places, tally},
    },
    days,
    fold::Delta,
    keeper::Keeper,
    manifest::{ChainState, LastSegment, Manifest, StateDir, hex},
    run::{GoOn, RunError, Settings, Step, ask},
    state::StateError,
    summaries::Due,
};

/// How far its manifest's number is ahead, so that none of its states has the name of one that an
/// aggregator beside it writes.
const AHEAD: u64 = 1_000;

/// How far it is, and in the end what it came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rebuilt {
    /// Files of the archive.
    pub files: u64,
    pub files_all: u64,
    /// Live segments.
    pub segments: u64,
    /// Records counted, those aside included.
    pub records: u64,
    pub aside: u64,
    /// Of these, in the archive.
    pub archived: u64,
    /// Stored once, and in neither archive nor live segments.
    pub missing: u64,
    /// The manifest put.
    pub number: u64,
}

/// What it is made of, and how.
pub struct Sources<'a> {
    pub logs: &'a Path,
    pub analytics: &'a Path,
    pub archiving: &'a Archiving,
    pub settings: Settings,
    /// Go on although records are missing.
    pub without_missing: bool,
}

/// Makes all state anew and brings the summaries up to date.
///
/// # Errors
/// What cannot be read, or does not add up: then everything is as it was.
pub fn rebuild(
    from: &Sources<'_>,
    progress: &mut dyn FnMut(&Rebuilt),
    go_on: GoOn<'_>,
) -> Result<Rebuilt, RunError> {
    let dir = StateDir::open(from.analytics)?.with_archive(&from.archiving.dir);
    let store = Store::open_existing(from.logs)?.ok_or_else(|| {
        RunError::Books(format!("{} holds no store to count", from.logs.display()))
    })?;
    let found = files::list(&from.archiving.dir, |_| true)?;
    let numbers = dir.numbers()?;
    let states = dir.states()?.into_iter().map(|state| state.number);
    let greatest = numbers.iter().copied().chain(states);
    let greatest = greatest.chain(found.iter().filter_map(files::Found::number));
    let manifest = Manifest {
        number: greatest.max().unwrap_or_default() + AHEAD,
        store: Some(store.id().0.clone()),
        ..Manifest::first()
    };
    let mut anew = Anew {
        delta: Delta::new(from.settings.strip_query),
        plain_bytes: 0,
        keeper: Keeper::anew(&dir, manifest),
        settings: from.settings,
        held: HashMap::new(),
        archived: BTreeMap::new(),
        report: Rebuilt {
            files_all: found.len() as u64,
            ..Rebuilt::default()
        },
        progress,
    };
    for file in &found {
        ask(go_on, Step::ReadForArchive)?;
        anew.file(file, &store, go_on)?;
    }
    let there: BTreeSet<&str> = found.iter().filter_map(name).collect();
    let plan = unfinished(&dir, &numbers, &store, &there);
    let mut planned = HashMap::new();
    for file in &plan {
        hold(&mut planned, file);
    }
    let mut archive = Archive {
        plan,
        ..Archive::default()
    };
    let chains = store.chains()?;
    for chain in &chains {
        anew.chain(chain, &planned, &mut archive, from.archiving, go_on)?;
    }
    anew.flush(go_on)?;
    anew.end(archive, from, go_on)?;
    for chain in &chains {
        ask(go_on, Step::SyncChain)?;
        chain.sync()?;
    }
    let Anew {
        mut keeper, report, ..
    } = anew;
    ask(go_on, Step::SyncStates)?;
    let counts = dir.counts();
    fsx::sync_dir(counts).map_err(StateError::io("fsync", counts))?;
    // Whoever has gone on since may have archived what was found live here.
    if let Some(greatest) = dir.numbers()?.last()
        && numbers.last() != Some(greatest)
    {
        return Err(RunError::Superseded {
            number: *greatest,
            dir: dir.dir().to_owned(),
        });
    }
    let next = keeper.manifest.clone();
    keeper.commit(next, Vec::new(), go_on)?;
    let mut due = Due::default();
    due.find_old(&keeper)?;
    due.render(&keeper, go_on)?;
    Ok(Rebuilt {
        number: keeper.manifest.number,
        ..report
    })
}

/// Parts of chains by place: what files hold.
type Held = HashMap<ChainId, HashMap<Place, Vec<(Offset, Offset)>>>;

fn hold(held: &mut Held, file: &PlannedFile) {
    for part in &file.parts {
        let places = held.entry(part.chain.clone()).or_default();
        let parts = places.entry(file.place).or_default();
        parts.push((part.first, part.next));
    }
}

fn holds(held: &Held, chain: &ChainId, place: Place, offset: Offset) -> bool {
    let parts = held.get(chain).and_then(|places| places.get(&place));
    parts.is_some_and(|parts| {
        let mut parts = parts.iter();
        parts.any(|(first, next)| (*first..*next).contains(&offset))
    })
}

fn name(found: &files::Found) -> Option<&str> {
    found.path.file_name()?.to_str()
}

/// What the last readable manifest has planned and nobody has put.
fn unfinished(
    dir: &StateDir,
    numbers: &[u64],
    store: &Store,
    there: &BTreeSet<&str>,
) -> Vec<PlannedFile> {
    let readable = |number: &u64| dir.read(*number).ok().flatten();
    let last = numbers.iter().rev().find_map(readable);
    let last = last.filter(|last| last.store.as_ref() == Some(&store.id().0));
    let plan = last.map_or_else(Vec::new, |last| last.archive.plan);
    plan.into_iter()
        .filter(|file| !there.contains(file.name.as_str()))
        .collect()
}

struct Anew<'a> {
    delta: Delta,
    plain_bytes: u64,
    keeper: Keeper,
    settings: Settings,
    /// What the archive holds.
    held: Held,
    /// Records of each chain in it.
    archived: BTreeMap<ChainId, u64>,
    report: Rebuilt,
    progress: &'a mut dyn FnMut(&Rebuilt),
}

impl Anew<'_> {
    fn file(
        &mut self,
        found: &files::Found,
        store: &Store,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let damaged = |detail: String| StateError::Damaged {
            path: found.path.clone(),
            detail,
        };
        let archived = found.open()?;
        let about = &archived.about;
        if about.store != store.id().0 {
            let detail = format!("is of the store {}, not of {}", about.store, store.id().0);
            return Err(damaged(detail).into());
        }
        let file = &about.file;
        let twice = |part: &Part| {
            let parts = self
                .held
                .get(&part.chain)
                .and_then(|held| held.get(&file.place));
            let overlaps = |held: &(Offset, Offset)| part.first < held.1 && held.0 < part.next;
            parts.is_some_and(|parts| parts.iter().any(overlaps))
        };
        if file.parts.iter().any(twice) {
            let detail = "holds records that another file holds, too".to_owned();
            return Err(damaged(detail).into());
        }
        hold(&mut self.held, file);
        for part in &file.parts {
            *self.archived.entry(part.chain.clone()).or_default() += part.records;
        }
        for columns in archived.groups(&found.path) {
            let columns = columns?;
            let mut lines = Vec::new();
            let mut runs = Vec::new();
            for row in columns.rows() {
                row.append_json(&mut lines);
                lines.push(b'\n');
                runs.push(run(row.offset(), row.received_ms()));
            }
            self.fold(runs, &lines, go_on)
                .map_err(|error| error.at(|detail| damaged(detail).into()))?;
            self.report.archived += columns.count() as u64;
        }
        self.report.files += 1;
        (self.progress)(&self.report);
        Ok(())
    }

    /// Counts what no file holds.
    fn chain(
        &mut self,
        chain: &Chain,
        planned: &Held,
        archive: &mut Archive,
        archiving: &Archiving,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let id = ChainId::new(chain.topic(), chain.partition());
        let mut failed = None;
        let mut live = 0;
        let walked = chain.walk(None, &mut |visited| {
            let counted = ask(go_on, Step::FoldSegment)
                .and_then(|()| self.segment(&id, &visited, planned, archive, archiving, go_on));
            match counted {
                Ok(records) => live += records,
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        });
        if let Some(failed) = failed {
            return Err(failed);
        }
        let (Some(end), Some(start)) = (walked.map_err(fault)?, chain.start().map_err(fault)?)
        else {
            return Ok(());
        };
        let stored = end.totals.stored;
        let known = live + self.archived.remove(&id).unwrap_or_default();
        if known > stored {
            return Err(RunError::Books(format!(
                "{known} records of {id} in archive and live segments, {stored} were stored"
            )));
        }
        self.report.missing += stored - known;
        self.keeper.manifest.chains.push(ChainState {
            topic: chain.topic().to_owned(),
            partition: chain.partition().0,
            start,
            next: end.next,
            last: end.last.map(|last| LastSegment {
                first: last.first,
                hash: hex(&last.hash.0),
            }),
            read: stored,
        });
        Ok(())
    }

    /// Counts what no file holds; gives how many records that are.
    fn segment(
        &mut self,
        id: &ChainId,
        visited: &Visited,
        planned: &Held,
        archive: &mut Archive,
        archiving: &Archiving,
        go_on: GoOn<'_>,
    ) -> Result<u64, RunError> {
        let path = &visited.path;
        let damaged = |detail: String| {
            fault(ChainFault::Damaged {
                path: path.clone(),
                detail,
            })
        };
        let (trailer, _, ndjson) = read_segment(path).map_err(|error| match error {
            SegmentError::Damaged(detail) => damaged(detail),
            SegmentError::Io(source) => RunError::Store(StoreError {
                step: "read",
                path: path.clone(),
                source,
            }),
        })?;
        let (mut count, mut pend) = (Filtered::default(), Filtered::default());
        let mut places = Places::default();
        for stored in trailer.records(&ndjson) {
            let place = places.of(stored.line, stored.received_ms);
            let place = place.map_err(|error| damaged(error.to_string()))?;
            if holds(&self.held, id, place, stored.offset) {
                continue;
            }
            count.push(&stored);
            if !holds(planned, id, place, stored.offset) {
                pend.push(&stored);
            }
        }
        let records = count.runs.len() as u64;
        self.fold(count.runs, &count.lines, go_on)
            .map_err(|error| error.at(damaged))?;
        let sizes = tally(&fake(pend.runs), &pend.lines);
        let arrival = Arrival {
            chain: id.clone(),
            first: trailer.first,
            next: trailer.next,
            stored_ms: archive::to_ms(visited.modified),
            sizes: sizes.map_err(|error| damaged(error.to_string()))?,
        };
        archive.add(&arrival, archiving.clock.now_ms());
        self.report.segments += 1;
        (self.progress)(&self.report);
        Ok(records)
    }

    fn fold(&mut self, runs: Vec<StoredRun>, lines: &[u8], go_on: GoOn<'_>) -> Result<(), Failed> {
        let folded = self.delta.fold(&fake(runs), lines);
        folded.map_err(|error| Failed::Line(error.to_string()))?;
        self.plain_bytes += lines.len() as u64;
        let portion = self.settings.portion;
        if self.plain_bytes >= portion.plain_bytes_max
            || self.delta.memory() >= portion.counts_bytes_max
        {
            self.flush(go_on).map_err(Failed::Run)?;
        }
        Ok(())
    }

    /// Writes what is counted so far into states that no manifest names yet.
    fn flush(&mut self, go_on: GoOn<'_>) -> Result<(), RunError> {
        let delta = std::mem::replace(&mut self.delta, Delta::new(self.settings.strip_query));
        self.plain_bytes = 0;
        let number = self.keeper.manifest.number;
        let written = days::add(&self.keeper, number, &delta, self.settings.limits, go_on)?;
        let manifest = &mut self.keeper.manifest;
        manifest.days.extend(written.days);
        manifest.counted += delta.records - delta.aside;
        manifest.aside += delta.aside;
        self.report.records += delta.records;
        self.report.aside += delta.aside;
        let counts = self.keeper.dir.counts();
        for name in written.replaced {
            let path = counts.join(name.file_name());
            fsx::remove_file(&path).map_err(StateError::io("remove", &path))?;
        }
        Ok(())
    }

    /// What is missing is said, and what was archived is taken in.
    fn end(
        &mut self,
        mut archive: Archive,
        from: &Sources<'_>,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        ask(go_on, Step::PutManifest)?;
        if let Some((chain, records)) = self.archived.first_key_value() {
            return Err(RunError::Books(format!(
                "the archive holds {records} records of {chain}, which the store does not have"
            )));
        }
        let missing = self.report.missing;
        let may_be = from.without_missing || from.archiving.policy.archive_retention.is_some();
        if missing > 0 && !may_be {
            return Err(RunError::Books(format!(
                "{missing} records that were stored are in neither archive nor live segments; \
                 --without-missing goes on without them"
            )));
        }
        archive.archived = self.report.archived + missing;
        let manifest = &mut self.keeper.manifest;
        manifest.archive = archive;
        manifest.counted += missing;
        manifest.expired += missing;
        archive::run::mark(from.archiving, manifest);
        Ok(())
    }
}

/// Why some lines were not counted.
enum Failed {
    Line(String),
    Run(RunError),
}

impl Failed {
    fn at(self, damaged: impl Fn(String) -> RunError) -> RunError {
        match self {
            Self::Line(detail) => damaged(detail),
            Self::Run(error) => error,
        }
    }
}

#[derive(Default)]
struct Filtered {
    lines: Vec<u8>,
    runs: Vec<StoredRun>,
}

impl Filtered {
    fn push(&mut self, stored: &StoredRecord<'_>) {
        self.lines.extend_from_slice(stored.line);
        self.lines.push(b'\n');
        self.runs.push(run(stored.offset.0, stored.received_ms));
    }
}

fn run(offset: i64, received_ms: i64) -> StoredRun {
    StoredRun {
        first: Offset(offset),
        count: 1,
        received_ms,
        batch: None,
        first_sequence: 0,
    }
}

/// A trailer that says of lines what counting asks: their offsets and times of receipt.
fn fake(stored: Vec<StoredRun>) -> Trailer {
    Trailer {
        first: Offset(0),
        next: Offset(0),
        previous: None,
        writer: [0; 16],
        fates: Vec::new(),
        stored,
        totals: pipeline_core::store::Totals::default(),
        last: None,
        data_len: 0,
        data_sha256: [0; 32],
        plain_len: 0,
    }
}

fn fault(fault: ChainFault) -> RunError {
    match fault {
        ChainFault::Io(error) => RunError::Store(error),
        ChainFault::Damaged { path, detail } | ChainFault::Missing { path, detail } => {
            StateError::Damaged { path, detail }.into()
        }
    }
}
