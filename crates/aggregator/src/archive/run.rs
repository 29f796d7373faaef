//! What a run does for the archive, in order: the plan that stands is finished, then what is due is
//! planned and done, plan by plan.
//!
//! ```text
//! put those files of the plan that are not there ─▶ fsync ─▶ commit: done, and the next plan ─▶ …
//! ```
//! A process that dies anywhere leaves a plan, and the next one puts what is missing of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use pipeline_core::{fsx, store::Store, telemetry::catalog};

use super::{Archiving, ChainId, aside_dir, pending::ms, publish::publish};
use crate::{
    backlog::Halted,
    keeper::{Keeper, STALE_AFTER},
    manifest::Manifest,
    run::{GoOn, Report, RunError},
    state::StateError,
};

/// Finishes the plan that stands and archives what is due.
///
/// # Errors
/// Why it ended early. A chain that cannot be read is no error, see [`Report::halted`].
pub fn archive(
    archiving: &Archiving,
    keeper: &mut Keeper,
    store: &Store,
    report: &mut Report,
    go_on: GoOn<'_>,
) -> Result<(), RunError> {
    let mut blocked: BTreeMap<ChainId, String> = BTreeMap::new();
    let mut names = BTreeSet::new();
    if !keeper.manifest.archive.plan.is_empty() {
        make_dirs(archiving)?;
        let published = publish(keeper, store, archiving, go_on)?;
        blocked.extend(published.blocked);
        names = published.names;
    }
    for left in (0..=archiving.policy.plans_max).rev() {
        let (now_ms, policy) = (archiving.clock.now_ms(), &archiving.policy);
        // A run without anything to do costs nothing.
        if names.is_empty() && !keeper.manifest.archive.any_due(now_ms, policy) {
            break;
        }
        let mut next = keeper.manifest.clone();
        next.number += 1;
        let before = next.archive.archived;
        next.archive.done(&names);
        let archived = next.archive.archived - before;
        let halted = blocked.keys().cloned().collect();
        let planned = left > 0 && next.archive.plan(next.number, now_ms, policy, &halted);
        if archived == 0 && !planned {
            break;
        }
        mark(archiving, &mut next);
        fsx::before("archive-commit");
        keeper.commit(next, Vec::new(), go_on)?;
        fsx::after("archive-commit");
        report.archived += archived;
        report.files += names.len() as u64;
        metrics::counter!(catalog::AGGREGATION_ARCHIVED).increment(archived);
        if !planned {
            break;
        }
        make_dirs(archiving)?;
        let published = publish(keeper, store, archiving, go_on)?;
        blocked.extend(published.blocked);
        names = published.names;
    }
    let waiting = keeper.manifest.archive.waiting();
    metrics::gauge!(catalog::AGGREGATION_ARCHIVE_WAITING).set(waiting as f64);
    for (chain, fault) in blocked {
        report.halted(Halted {
            topic: chain.topic.to_string(),
            partition: chain.partition,
            fault,
        });
    }
    Ok(())
}

/// Notes in `next` up to where each chain is archived.
pub fn mark(archiving: &Archiving, next: &mut Manifest) {
    let now_ms = archiving.clock.now_ms();
    let stay_ms = ms(archiving.policy.live_retention);
    for chain in &next.chains {
        let id = chain.id();
        let floor = next.archive.floor(&id).unwrap_or(chain.next);
        next.archive.mark(id, floor, now_ms, stay_ms);
    }
}

/// Removes what processes that died have left half written.
///
/// # Errors
/// Where the directory cannot be listed or a file cannot be removed.
pub fn clean_up(archiving: &Archiving) -> Result<(), StateError> {
    let before = std::time::SystemTime::now() - STALE_AFTER;
    for dir in dirs(archiving) {
        fsx::remove_stale_temporaries(&dir, before)
            .map_err(StateError::io("remove stale temporary files in", &dir))?;
    }
    Ok(())
}

/// Whether files can be made in the archive, whose directories are made where they are not.
///
/// # Errors
/// Names the directory where none can.
pub fn takes_files(archiving: &Archiving) -> Result<(), StateError> {
    make_dirs(archiving)?;
    for dir in dirs(archiving) {
        fsx::takes_files(&dir).map_err(StateError::io("write a probe file in", &dir))?;
    }
    Ok(())
}

fn dirs(archiving: &Archiving) -> [PathBuf; 2] {
    [archiving.dir.clone(), aside_dir(&archiving.dir)]
}

fn make_dirs(archiving: &Archiving) -> Result<(), StateError> {
    for dir in dirs(archiving) {
        if !dir.is_dir() {
            fsx::create_dirs(&dir).map_err(StateError::io("make directory", &dir))?;
        }
    }
    Ok(())
}
