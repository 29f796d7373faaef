//! What is removed, and when: live segments whose records are archived, whole days of the archive
//! and of the analytics. Never a record that is not counted and archived; before each removal a look
//! for a greater manifest.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use pipeline_core::{Offset, fsx, store::Store, telemetry::catalog};

use crate::{
    archive::{
        Archiving, ChainId, aside_dir,
        files::{self, names},
        pending::ms,
        to_ms,
    },
    backlog::Halted,
    hour::{Day, Hour, Period},
    keeper::Keeper,
    run::{GoOn, Report, RunError, Step, ask},
    state::{Entry, StateError},
};

/// How often a removal that something held back is tried again.
const AGAIN_MS: i64 = 60_000;

/// What this process has tried to remove.
#[derive(Default)]
pub struct Removals {
    /// Up to where of each chain, and when.
    tried: BTreeMap<ChainId, (Offset, i64)>,
}

impl Removals {
    /// Removes the live segments whose records have been archived for long enough, oldest first.
    ///
    /// # Errors
    /// Where another aggregator has gone on. A chain that cannot be looked at is no error.
    pub fn live(
        &mut self,
        archiving: &Archiving,
        keeper: &Keeper,
        store: &Store,
        report: &mut Report,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let now_ms = archiving.clock.now_ms();
        let stay_ms = ms(archiving.policy.live_retention);
        for state in &keeper.manifest.chains {
            let id = state.id();
            let archive = &keeper.manifest.archive;
            let Some(before) = archive.archived_for(&id, now_ms, stay_ms) else {
                continue;
            };
            let again_ms = AGAIN_MS.min(stay_ms);
            let tried = self.tried.get(&id);
            if tried.is_some_and(|(to, at)| *to == before && now_ms - at < again_ms) {
                continue;
            }
            let mut refused = None;
            let mut ask_first = || {
                let go = ask(go_on, Step::RemoveSegment).and_then(|()| keeper.look());
                refused = go.err();
                refused.is_none()
            };
            let chain = store.chain(&state.topic, id.partition);
            let removal = chain.remove_before(before, &mut ask_first);
            if let Some(refused) = refused {
                return Err(refused);
            }
            match removal {
                Ok(removal) => {
                    report.removed += removal.segments;
                    metrics::counter!(catalog::AGGREGATION_SEGMENTS_REMOVED)
                        .increment(removal.segments);
                    self.tried.insert(id, (before, now_ms));
                }
                Err(fault) => report.halted(Halted {
                    topic: state.topic.clone(),
                    partition: id.partition,
                    fault: fault.to_string(),
                }),
            }
        }
        Ok(())
    }
}

/// Takes the days out of the manifest that are old enough, and removes their summaries.
///
/// # Errors
/// Where a step failed.
pub fn analytics(
    archiving: &Archiving,
    keeper: &mut Keeper,
    go_on: GoOn<'_>,
) -> Result<(), RunError> {
    let Some(stay) = archiving.policy.analytics_retention else {
        return Ok(());
    };
    let now_ms = archiving.clock.now_ms();
    let is_old = |day: Day| end_ms(day).saturating_add(ms(stay)) <= now_ms;
    let days = keeper.manifest.days.iter();
    let old = days.filter(|(day, _)| is_old(**day));
    let old: Vec<(Day, Entry)> = old.map(|(day, entry)| (*day, entry.clone())).collect();
    if !old.is_empty() {
        let mut next = keeper.manifest.clone();
        next.number += 1;
        let mut replaced = Vec::new();
        for (day, entry) in &old {
            next.days.remove(day);
            next.expired += entry.requests;
            replaced.push(entry.name(Period::Day(*day)));
            let hours = keeper.hours(*day)?.into_iter();
            replaced.extend(hours.map(|(hour, entry)| entry.name(Period::Hour(hour))));
        }
        keeper.commit(next, replaced, go_on)?;
    }
    let dir = keeper.dir.analytics();
    for name in names(dir)? {
        let Some(day) = Day::parse(&name) else {
            continue;
        };
        if is_old(day) {
            remove_dir(keeper, &dir.join(name), go_on)?;
        }
    }
    Ok(())
}

/// Removes the days of the archive that are old enough. What is aside is as old as its files: its
/// days are not to be believed.
///
/// # Errors
/// Where a step failed.
pub fn archive(archiving: &Archiving, keeper: &Keeper, go_on: GoOn<'_>) -> Result<(), RunError> {
    let Some(stay) = archiving.policy.archive_retention else {
        return Ok(());
    };
    let now_ms = archiving.clock.now_ms();
    let aside = aside_dir(&archiving.dir);
    for (root, is_aside) in [(&archiving.dir, false), (&aside, true)] {
        for (day, dir) in files::days(root)? {
            let age_from = if is_aside {
                newest(&dir)?.map_or(i64::MAX, to_ms)
            } else {
                end_ms(day)
            };
            if age_from.saturating_add(ms(stay)) > now_ms {
                continue;
            }
            for hour in names(&dir)? {
                remove_dir(keeper, &dir.join(hour), go_on)?;
            }
            remove_dir(keeper, &dir, go_on)?;
        }
    }
    Ok(())
}

/// Removes a directory's files, and then itself where nothing else is in it.
pub fn remove_dir(keeper: &Keeper, dir: &Path, go_on: GoOn<'_>) -> Result<(), RunError> {
    for name in names(dir)? {
        let path = dir.join(name);
        if path.is_dir() {
            continue;
        }
        ask(go_on, Step::RemoveDay)?;
        keeper.look()?;
        gone(fsx::remove_file(&path)).map_err(StateError::io("remove", &path))?;
    }
    ask(go_on, Step::RemoveDay)?;
    keeper.look()?;
    gone(fs::remove_dir(dir)).map_err(StateError::io("remove directory", dir))?;
    Ok(())
}

/// Two who remove the same both find it gone; a directory that something came into stays.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound};
    match removed {
        Err(error) if matches!(error.kind(), NotFound | DirectoryNotEmpty | NotADirectory) => {
            Ok(())
        }
        removed => removed,
    }
}

/// The first millisecond behind a day.
fn end_ms(day: Day) -> i64 {
    Hour(day.hours().end.0 - 1).end_ms()
}

/// When the last file of a day was written.
fn newest(day: &Path) -> Result<Option<SystemTime>, StateError> {
    let mut newest = None;
    for hour in names(day)? {
        let hour = day.join(hour);
        for name in names(&hour)? {
            let path: PathBuf = hour.join(name);
            match fs::metadata(&path).and_then(|metadata| metadata.modified()) {
                Ok(modified) => newest = newest.max(Some(modified)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StateError::io("look at", &path)(error)),
            }
        }
    }
    Ok(newest)
}
