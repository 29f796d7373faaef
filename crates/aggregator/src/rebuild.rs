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

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use anew::{Anew, hold};
use pipeline_core::{fsx, store::Store};

use crate::{
    archive::{
        Archiving, files,
        pending::{Archive, PlannedFile},
    },
    fold::Delta,
    keeper::Keeper,
    manifest::{Manifest, StateDir},
    reports::Reports,
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
