//! A plan carried out: segments read, files put if absent. Whoever does it, and however often, puts
//! the same rows under the same names; a file that stands is whole and is never written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use pipeline_core::{
    Offset, fsx,
    store::{Chain, ChainFault, Store, StoredRecord},
};

use super::{
    Archiving, ChainId, aside_dir,
    files::About,
    pending::PlannedFile,
    rows::{Gather, Refused, Sorted},
};
use crate::{
    keeper::Keeper,
    run::{GoOn, RunError, Step, ask},
    state::StateError,
};

/// What became of a plan.
#[derive(Default)]
pub struct Published {
    /// Names of the files that stand there now, durably.
    pub names: BTreeSet<String>,
    /// Chains that cannot be read, and why; files with records of theirs were left out.
    pub blocked: BTreeMap<ChainId, String>,
}

/// Puts those files of the manifest's plan that are not there yet.
///
/// # Errors
/// Where a file cannot be put, or what is read is not what was planned.
pub fn publish(
    keeper: &Keeper,
    store: &Store,
    archiving: &Archiving,
    go_on: GoOn<'_>,
) -> Result<Published, RunError> {
    let archive = archiving.dir.as_path();
    let plan = &keeper.manifest.archive.plan;
    let mut published = Published::default();
    let mut dirs = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for file in plan {
        dirs.insert(file.place.dir(archive));
        if path(archive, file).exists() {
            published.names.insert(file.name.clone());
        } else {
            missing.insert(file.name.as_str());
        }
    }
    let want = |file: &PlannedFile| missing.contains(file.name.as_str());
    let mut gather = Gather::new(plan, want, archiving.policy.memory_bytes, archive);
    for (number, (id, ranges)) in gather.chains().into_iter().enumerate() {
        let chain = store.chain(&id.topic, id.partition);
        let mut take = |stored: &StoredRecord<'_>| gather.take(number, stored);
        match read(&chain, &ranges, &mut take, go_on) {
            Ok(()) => {}
            Err(Stop::Asked) => return Err(RunError::Stopped),
            Err(Stop::Disk(error)) => return Err(no_room(archive)(error).into()),
            Err(Stop::Fault(fault)) => {
                published.blocked.insert(id, fault);
            }
        }
    }
    let gathered = gather.end().map_err(no_room(archive))?;
    for (number, file) in plan.iter().enumerate() {
        let blocked = |chain: &ChainId| published.blocked.contains_key(chain);
        if !missing.contains(file.name.as_str())
            || file.parts.iter().any(|part| blocked(&part.chain))
        {
            continue;
        }
        let sorted = gathered.file(number).map_err(RunError::Books)?;
        put(keeper, store, archive, file, &sorted, go_on)?;
        published.names.insert(file.name.clone());
    }
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        ask(go_on, Step::SyncArchive)?;
        fsx::sync_dir(dir).map_err(StateError::io("fsync", dir))?;
    }
    Ok(published)
}

#[must_use]
pub fn path(archive: &Path, file: &PlannedFile) -> PathBuf {
    file.place.dir(archive).join(&file.name)
}

fn no_room(archive: &Path) -> impl FnOnce(io::Error) -> StateError {
    StateError::io("keep rows on the disk in", archive)
}

enum Stop {
    Asked,
    Disk(io::Error),
    Fault(String),
}

impl From<ChainFault> for Stop {
    fn from(fault: ChainFault) -> Self {
        Self::Fault(fault.to_string())
    }
}

fn read(
    chain: &Chain,
    ranges: &[(Offset, Offset)],
    take: &mut dyn FnMut(&StoredRecord<'_>) -> Result<(), Refused>,
    go_on: GoOn<'_>,
) -> Result<(), Stop> {
    // Two ranges may lie in one segment, which is taken in once.
    let mut last = None;
    for (first, next) in ranges {
        let names = chain.names(&(*first..*next));
        for name in names.map_err(ChainFault::from)? {
            if last.is_some_and(|last| name <= last) {
                continue;
            }
            last = Some(name);
            if !go_on(Step::ReadForArchive) {
                return Err(Stop::Asked);
            }
            let path = chain.segment_path(name);
            let removed = || {
                let path = path.display();
                Stop::Fault(format!(
                    "{path} was removed before its records were archived"
                ))
            };
            let visited = chain.look(name)?.ok_or_else(removed)?;
            let mut records = chain.records(&visited)?.ok_or_else(removed)?;
            while let Some(stored) = records.next()? {
                take(&stored).map_err(|refused| match refused {
                    Refused::NoRecord(error) => Stop::Fault(format!("{}: {error}", path.display())),
                    Refused::Disk(error) => Stop::Disk(error),
                })?;
            }
        }
    }
    Ok(())
}

fn put(
    keeper: &Keeper,
    store: &Store,
    archive: &Path,
    file: &PlannedFile,
    sorted: &Sorted<'_>,
    go_on: GoOn<'_>,
) -> Result<(), RunError> {
    let found = sorted.count();
    if found != file.records {
        return Err(RunError::Books(format!(
            "{found} records found for {} of {}, {} were counted",
            file.name, file.place, file.records
        )));
    }
    let about = About::new(&store.id().0, file);
    let bytes = sorted.encode(about.to_json()).map_err(RunError::Books)?;
    let path = path(archive, file);
    let dir = file.place.dir(archive);
    if !dir.is_dir() {
        fsx::create_dirs(&dir).map_err(StateError::io("make directory", &dir))?;
    }
    // Beside the days, so that who cleans up looks at one directory alone.
    let root = if file.place.aside {
        aside_dir(archive)
    } else {
        archive.to_owned()
    };
    let temporary =
        fsx::Temporary::write_in(&root, &bytes).map_err(StateError::io("write", &path))?;
    ask(go_on, Step::PublishFile)?;
    keeper.look()?;
    // Taken: by the same rows, put by who carries out the same plan.
    temporary
        .link(&path)
        .map_err(StateError::io("link", &path))?;
    Ok(())
}
