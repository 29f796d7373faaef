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

#[test]
fn what_is_archived_is_exported_and_counts_on_beside_a_store_of_another_id() -> Result<()> {
    let dir = RunDir::new("adopt");
    // Two hours of two sites, counted and archived; the configuration is of no broker.
    testbed::fixtures::copy_to(&dir, "analytics", |_| {
        panic!("the aggregator's tests make it")
    });
    let plan = Plan {
        topic: "logs".to_owned(),
        ..Plan::default()
    };
    let stand = Stand::prepare(&dir, plan)?;
    let nine = [
        (
            "--from TIME --to TIME",
            "--from 2015-05-17T09:00:00Z --to 2015-05-17T10:00:00Z".to_owned(),
        ),
        ("SITE", "b.example".to_owned()),
    ];
    let decide = "Decide undecidable and poison records";
    let found = book::run(&stand, decide, "aggregator export", &nine)?;
    ensure!(
        found.code == 0 && found.said.contains("GPTBot"),
        "{found:?}"
    );
    let site = [("www.example.org", "a.example".to_owned())];
    let archive = "docs/archive.md";
    let csv = book::run_of(archive, &stand, "Commands", "aggregator export", &site)?;
    ensure!(csv.code == 0, "{csv:?}");
    let day = fs::read_to_string(stand.dir.join("services/day.csv"))?;
    ensure!(
        day.lines().count() == 3,
        "a head, and hours 9 and 10: {day}"
    );
    let again = book::run_of(archive, &stand, "Commands", "aggregator rebuild", &[])?;
    ensure!(again.code == 0, "{again:?}");

    // "Where the old id cannot be had."
    let logs = stand.logs_dir();
    fs::remove_dir_all(logs.join("_live"))?;
    let id = "0123456789abcdef0123456789abcdef";
    fs::write(
        logs.join("OWNER"),
        format!("{{\"format\":1,\"id\":\"{id}\"}}"),
    )?;
    let rebuild = "aggregator rebuild --config config.yaml";
    let refused = book::run(&stand, "Disaster", rebuild, &[])?;
    ensure!(
        refused.code == 1 && refused.said.contains("--adopt"),
        "{refused:?}"
    );
    by_the_book(&stand, "Disaster", &format!("{rebuild} --adopt"))?;
    let summary = stand.analytics_dir().join("2015-05-17/summary.json");
    let summary: serde_json::Value = serde_json::from_slice(&fs::read(summary)?)?;
    ensure!(summary["requests"] == 3, "{summary}");
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
