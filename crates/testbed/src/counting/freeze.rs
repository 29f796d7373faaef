//! An aggregator that is stopped in the middle of a step until another has done its work. Woken, it
//! ends and changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{schedule::Round, tree::Tree};
use crate::{
    killing::{FREEZE_AT, freeze::wait_until_stopped},
    process::poll_until,
    stand::Stand,
};

const WITHIN: Duration = Duration::from_secs(60);
/// The other one's, so that all numbers that the sleeper knows of are gone.
const COMMITS: u64 = 3;

/// The round; says how it went.
pub fn freeze(stand: &mut Stand, round: &Round) -> Result<String> {
    let sleeper = &mut stand.aggregator;
    sleeper.env = round.environment(FREEZE_AT);
    sleeper.start()?;
    let there = wait_until_stopped(sleeper, round.within)?;
    sleeper.env.clear();
    let asleep_at = newest_manifest(stand)?;
    let gone_on = poll_until(WITHIN, || {
        stand.aggregate_once()?;
        Ok((newest_manifest(stand)? >= asleep_at + COMMITS).then_some(()))
    })?;
    gone_on.context("another aggregator has nothing to do")?;
    // Nothing else moves now.
    stand.writers[0].process()?.freeze()?;
    stand.aggregate_once()?;
    let before = Tree::with_chains(&stand.dir)?;
    let sleeper = stand.aggregator.process()?;
    sleeper.thaw()?;
    let status = sleeper.wait(WITHIN).context("it was woken")?;
    // Its very last: an earlier one has said the same.
    let words = sleeper.log_tail(1);
    let after = Tree::with_chains(&stand.dir)?;
    stand.aggregator.forget_ended();
    ensure!(
        status.code() == Some(1) && words.contains("another aggregator"),
        "woken, it ended with {status}\n{words}"
    );
    let mut changes = before.changes(&after);
    let mut how = String::new();
    if there && round.hit.point.what == "rename" && changes.rendered.len() <= 1 {
        // It had looked before it fell asleep: what it has rendered is old, and is made anew by the
        // next who starts.
        let old = std::mem::take(&mut changes.rendered);
        stand.aggregate_once()?;
        let again = before.changes(&Tree::with_chains(&stand.dir)?);
        if let Some(path) = again.rendered.iter().find(|path| old.contains(path)) {
            bail!("{} stays old", path.display());
        }
        how = format!(", {} rendered old and made anew", old.len());
    }
    ensure!(changes.is_none(), "woken, it has changed {changes:?}");
    stand.writers[0].process()?.thaw()?;
    Ok(format!(
        "frozen {}, another went on; woken, it ended and changed nothing of {} files{how}",
        if there { "there" } else { "elsewhere" },
        before.len()
    ))
}

/// The greatest number of a manifest, 0 for none.
///
/// # Errors
/// When the directory cannot be listed.
pub fn newest_manifest(stand: &Stand) -> Result<u64> {
    let dir = stand.analytics_dir().join("_state");
    let mut newest = 0;
    for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let number = name
            .strip_prefix('m')
            .and_then(|name| name.strip_suffix(".json"));
        newest = newest.max(number.and_then(|number| number.parse().ok()).unwrap_or(0));
    }
    Ok(newest)
}
