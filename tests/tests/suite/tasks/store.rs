//! The runbook's tasks about the store, done as they stand there: moved, put back from an older
//! copy, begun anew after its directory was lost. On any broker.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use testbed::{
    load::Load,
    process::poll_until,
    stand::{Plan, Stand},
};

use super::small_bodies;
use crate::{RunDir, assert_holds, book};

const WITHIN: Duration = Duration::from_secs(60);
const MOVE: &str = "Move a store, and `--adopt`";

#[test]
fn a_store_is_moved_restored_and_begun_anew_as_the_runbook_says() -> Result<()> {
    let dir = RunDir::new("tasks");
    let plan = Plan::from_env().with("storage.logsDir", "before/logs");
    let mut stand = Stand::up(&dir, plan)?;
    let gentle = testbed::load::Plan {
        mix: small_bodies(74),
        rate: Some(3_000),
        ..testbed::load::Plan::default()
    };
    let load = Load::start(&stand.addresses, gentle);
    let logs = stand.logs_dir();
    more(&load, &stand)?;

    // "Move a store".
    let before = stand.dir.join("before/logs");
    moved(&mut stand, &before, &logs)?;
    more(&load, &stand)?;

    // "Backup and restore": an older copy is put back.
    stop(&mut stand)?;
    let older = stand.dir.join("older");
    copy(&logs, &older)?;
    start(&mut stand)?;
    more(&load, &stand)?;
    stop(&mut stand)?;
    fs::remove_dir_all(&logs)?;
    copy(&older, &logs)?;
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;
    load.pause();
    at_rest(&stand)?;
    by_the_book(&stand, "Backup and restore", "aggregator rebuild --config")?;
    by_the_book(&stand, "Backup and restore", "kafka-consumer-writer verify")?;
    stand.aggregator.start()?;
    stand.aggregator.wait_ready()?;
    load.resume();
    more(&load, &stand)?;

    // "The store's directory is gone and there is no copy."
    load.pause();
    stop(&mut stand)?;
    let owner = fs::read(logs.join("OWNER"))?;
    fs::remove_dir_all(&logs)?;
    fs::create_dir_all(&logs)?;
    fs::write(logs.join("OWNER"), owner)?;
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;
    let halted = poll_until(WITHIN, || {
        let metrics = stand.writers[0].metrics()?;
        let lost = metrics.with("consumer_partition_halts", "reason=\"directory_lost\"");
        Ok((lost > Some(0.0)).then_some(()))
    })?;
    halted.context("no partition halts for the lost directory")?;
    stand.writers[0].terminate()?;
    let log = stand.dir.join("services/adopt.log");
    let adopt = "kafka-consumer-writer --config config.yaml --adopt";
    let mut adopting = book::spawn(&stand, MOVE, adopt, &log)?;
    at_rest(&stand).with_context(|| adopting.log_tail(5))?;
    adopting.terminate()?;
    ensure!(adopting.wait(WITHIN)?.success(), "{}", adopting.log_tail(5));
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;
    by_the_book(&stand, "Disaster", "aggregator rebuild --config")?;
    stand.aggregator.start()?;
    stand.aggregator.wait_ready()?;
    load.resume();
    more(&load, &stand)?;

    let ledger = load.stop();
    let verdict = stand.settle(&ledger, Duration::from_secs(120))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}

fn moved(stand: &mut Stand, from: &Path, to: &Path) -> Result<()> {
    stop(stand)?;
    copy(from, to)?;
    let names = [("/new/logs", to.display().to_string())];
    let verify = "kafka-consumer-writer verify --config config.yaml --dir";
    let done = book::run(stand, MOVE, verify, &names)?;
    ensure!(done.code == 0, "{done:?}");
    let config = &stand.writers[0].config;
    let text = fs::read_to_string(config)?;
    let (here, there) = ("logsDir: before/logs", "logsDir: logs");
    ensure!(text.contains(here), "{text}");
    fs::write(config, text.replace(here, there))?;
    fs::remove_dir_all(from)?;
    start(stand)?;
    // Beside running services, as the page's head has it.
    by_the_book(
        stand,
        "Runbook",
        "kafka-consumer-writer verify --config config.yaml",
    )?;
    let compared = "kafka-consumer-writer verify --config config.yaml --kafka";
    by_the_book(stand, "Runbook", compared)
}

fn by_the_book(stand: &Stand, section: &str, start: &str) -> Result<()> {
    let done = book::run(stand, section, start, &[])?;
    ensure!(done.code == 0, "{done:?}");
    Ok(())
}

fn stop(stand: &mut Stand) -> Result<()> {
    stand.writers[0].terminate()?;
    stand.aggregator.terminate().map(drop)
}

fn start(stand: &mut Stand) -> Result<()> {
    for service in [&mut stand.writers[0], &mut stand.aggregator] {
        service.start()?;
        service.wait_ready()?;
    }
    Ok(())
}

/// Records are accepted, and stored.
fn more(load: &Load, stand: &Stand) -> Result<()> {
    let before = load.accepted();
    ensure!(
        load.wait_accepted(before + 1_000, WITHIN),
        "nothing is accepted"
    );
    let stored = poll_until(WITHIN, || {
        let stored = Stand::metric(&stand.writers, "logs_ingested_total");
        Ok((stored > Some(0.0)).then_some(()))
    })?;
    stored.context("nothing is stored")
}

fn at_rest(stand: &Stand) -> Result<()> {
    let rest = poll_until(WITHIN, || {
        // The writer may be one that the stand has not started.
        let Ok(metrics) = stand.writers[0].metrics() else {
            return Ok(None);
        };
        let assigned = metrics.sum("consumer_partitions_assigned") == Some(4.0);
        let halted = metrics.sum("consumer_partitions_halted");
        let lag = metrics.sum("consumer_lag_records");
        Ok((assigned && halted == Some(0.0) && lag == Some(0.0)).then_some(()))
    })?;
    rest.context("the writer does not catch up")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp ended with {status}");
    Ok(())
}
