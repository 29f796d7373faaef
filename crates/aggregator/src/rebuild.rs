//! State made anew, from the archive and the live segments: for when manifests or counts are lost
//! or damaged. Reads every record once; changes nothing before the one manifest that it puts.
//!
//! ```text
//! what each file of the archive says it holds ─▶ its rows are counted
//! each chain from its watermark on ─▶ what no file holds is counted, and is to be archived
//! ```
//! Files that a plan of the last readable manifest names and that are not there stay planned, so
//! that one who still carries it out puts nothing twice.

mod anew;
mod gone;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use anew::{Anew, hold};
use gone::Gone;
use pipeline_core::{
    fsx,
    store::{Chain, ChainFault, Start, Store},
};

use crate::{
    archive::{
        Archiving, ChainId, files,
        pending::{Archive, PlannedFile},
    },
    fold::Delta,
    held,
    keeper::Keeper,
    manifest::{Manifest, StateDir},
    reports::Reports,
    run::{GoOn, RunError, Settings, Step, ask},
    state::StateError,
    summaries::{self, Due},
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
    /// Of chains that are gone: counted from the archive, and in nothing any more.
    pub taken_over: u64,
    pub nowhere: u64,
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
    /// Count what the archive has of stores and chains that are gone.
    pub adopt: bool,
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
    let chains = store.chains()?;
    let gone = Gone::new(
        from.logs,
        &store.id().0,
        starts(&chains)?,
        last_readable(&dir, &numbers),
        from.adopt,
    )?;
    let mut anew = Anew {
        delta: Delta::new(from.settings.strip_query),
        plain_bytes: 0,
        later: held::Held::new(dir.counts(), from.settings.held),
        keeper: Keeper::anew(&dir, manifest),
        settings: from.settings,
        held: HashMap::new(),
        elsewhere: HashMap::new(),
        gone,
        archived: BTreeMap::new(),
        report: Rebuilt {
            files_all: found.len() as u64,
            ..Rebuilt::default()
        },
        progress,
    };
    for file in &found {
        ask(go_on, Step::ReadForArchive)?;
        anew.file(file, go_on)?;
    }
    let there: BTreeSet<&str> = found.iter().filter_map(name).collect();
    let plan = unfinished(&anew.gone, &there);
    let mut planned = HashMap::new();
    for file in &plan {
        hold(&mut planned, file);
    }
    let mut archive = Archive {
        plan,
        ..Archive::default()
    };
    for chain in &chains {
        anew.chain(chain, &planned, &mut archive, from.archiving, go_on)?;
    }
    anew.flush(go_on)?;
    let (mut keeper, report) = anew.end(archive, from, go_on)?;
    for chain in &chains {
        ask(go_on, Step::SyncChain)?;
        chain.sync()?;
    }
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
    summaries::remove_uncounted(&keeper, go_on)?;
    Reports::default().render(&keeper, go_on)?;
    Ok(Rebuilt {
        number: keeper.manifest.number,
        ..report
    })
}

fn name(found: &files::Found) -> Option<&str> {
    found.path.file_name()?.to_str()
}

/// What the last readable manifest has planned and nobody has put.
fn unfinished(gone: &Gone, there: &BTreeSet<&str>) -> Vec<PlannedFile> {
    let plan = gone.last().map_or(&[][..], |last| &last.archive.plan);
    let stands = |file: &&PlannedFile| file.parts.iter().all(|part| gone.stands(&part.chain));
    let missing = |file: &&PlannedFile| !there.contains(file.name.as_str());
    let unfinished = plan.iter().filter(stands).filter(missing);
    unfinished.cloned().collect()
}

fn last_readable(dir: &StateDir, numbers: &[u64]) -> Option<Manifest> {
    let readable = |number: &u64| dir.read(*number).ok().flatten();
    numbers.iter().rev().find_map(readable)
}

fn starts(chains: &[Chain]) -> Result<HashMap<ChainId, Start>, RunError> {
    let mut starts = HashMap::new();
    for chain in chains {
        if let Some(start) = chain.start().map_err(fault)? {
            starts.insert(ChainId::new(chain.topic(), chain.partition()), start);
        }
    }
    Ok(starts)
}

fn fault(fault: ChainFault) -> RunError {
    match fault {
        ChainFault::Io(error) => RunError::Store(error),
        ChainFault::Damaged { path, detail } | ChainFault::Missing { path, detail } => {
            StateError::Damaged { path, detail }.into()
        }
    }
}
