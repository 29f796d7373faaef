//! A `rebuild` that ends at a step, with the state it goes on from or with none: it has changed
//! nothing before its manifest is there, and one behind it makes all anew.

use std::{fs, os::unix::process::ExitStatusExt, process::Command, time::Duration};

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;

use super::{freeze::newest_manifest, schedule::Round, tree::Tree};
use crate::{
    killing::KILL_AT,
    process::Process,
    service::{Service, run_to_end},
    stand::Stand,
};

const WITHIN: Duration = Duration::from_secs(120);

/// The round; says whether it ended at its step.
pub fn rebuild(stand: &Stand, round: &Round, lost: bool) -> Result<bool> {
    if lost {
        fs::remove_dir_all(stand.analytics_dir().join("_state"))?;
    }
    let log = stand.dir.join("services/aggregator-rebuild.log");
    let mut command = command(&stand.aggregator);
    command.envs(round.environment(KILL_AT));
    // Without a state only what is no state can be compared.
    let before = (Tree::read(&stand.dir)?, manifest(stand, lost)?);
    let mut process = Process::spawn(command, "rebuild", &log)?;
    let status = process.wait(WITHIN)?;
    let killed = status.signal() == Some(Signal::KILL.as_raw());
    if !killed && !status.success() {
        bail!("rebuild ended with {status}\n{}", process.log_tail(20));
    }
    if killed && manifest(stand, lost)? == before.1 {
        let changes = before.0.changes(&Tree::read(&stand.dir)?);
        ensure!(
            changes.is_none(),
            "a rebuild that did not come to its end has changed {changes:?}"
        );
    }
    run_to_end(self::command(&stand.aggregator), "rebuild", &log)?;
    Ok(killed)
}

fn command(aggregator: &Service) -> Command {
    let mut command = aggregator.command();
    command.arg("rebuild");
    command
}

fn manifest(stand: &Stand, lost: bool) -> Result<u64> {
    let dir = stand.analytics_dir().join("_state");
    if lost && !dir.exists() {
        return Ok(0);
    }
    newest_manifest(stand)
}
