//! What an earlier build left is gone on from by this one, as at an upgrade: a whole pipeline kept
//! under tests/fixtures, with records in the store and in Kafka, dead letters of both kinds, counts
//! and archive. And what a later build left is refused, and waits for it.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{
    fixtures,
    http::post,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
};

use crate::RunDir;

const WITHIN: Duration = Duration::from_secs(60);
/// Stored and counted by the earlier build; in Kafka alone; in the gateway's dead letters.
const KEPT: [usize; 3] = [20, 6, 5];
const NEW: usize = 9;

#[test]
fn a_pipeline_that_an_earlier_build_left_goes_on_and_its_books_hold() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional("an upgrade", "what is kept is on the embedded broker");
        return Ok(());
    }
    let dir = RunDir::new("upgrade");
    fixtures::copy_to(&dir, "pipeline", |kept| leave(kept).expect("left"));
    let mut stand = Stand::up(&dir, plan())?;
    sent(&stand, "new", NEW, "kafka")?;
    let all = KEPT.iter().sum::<usize>() + NEW;
    at_rest(&stand, (all - KEPT[0]) as f64)?;
    // Nobody has decided the poison, so it waits.
    let aside = Stand::metric(&stand.writers, "consumer_dlq_records");
    ensure!(aside == Some(1.0), "{aside:?}");
    for service in stand.services() {
        service.terminate()?;
    }
    stand.aggregate_once()?;
    let stored: u64 = totals(&stand, "stored")?;
    ensure!(stored == all as u64, "{stored} of {all}");
    ensure!(totals(&stand, "poison")? == 1 && totals(&stand, "lost")? == 0);
    let day = fs::read(stand.analytics_dir().join("2025-05-17/summary.json"))?;
    let day: Value = serde_json::from_slice(&day)?;
    ensure!(day["requests"] == all, "{day}");
    ensure!(day["requestsPerPath"]["/old/0"] == 1, "{day}");
    dir.passed()
}

/// As after a roll back onto what a later build has written.
#[test]
fn a_pipeline_that_a_later_build_left_is_refused_by_name_and_not_changed() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional("a roll back", "what is kept is on the embedded broker");
        return Ok(());
    }
    let dir = RunDir::new("rolled-back");
    fixtures::copy_to(&dir, "pipeline", |kept| leave(kept).expect("left"));
    let raised = raise_versions(&dir)?;
    let mut plan = plan();
    plan.aggregator = false;
    let mut stand = Stand::up(&dir, plan)?;
    sent(&stand, "new", NEW, "kafka")?;
    let aggregator = &stand.aggregator;
    let once = aggregator.command().arg("--once").output()?;
    ensure!(once.status.code() == Some(1), "{once:?}");
    let once = String::from_utf8_lossy(&once.stderr).into_owned();
    ensure!(once.contains("has format 3, known is 2"), "{once}");
    let said = poll_until(WITHIN, || {
        let halts = Stand::metric(&stand.writers, "consumer_partition_halts");
        let gateway = fs::read_to_string(&stand.gateways[0].log)?;
        let writer = fs::read_to_string(&stand.writers[0].log)?;
        let all = halts == Some(1.0)
            && gateway.contains("format version 3, known is 2")
            && writer.contains("format version 3, known is 2")
            && writer.contains("trailer has version 2, known is 1");
        Ok(all.then_some(()))
    })?;
    said.context("not all of it is named")?;
    for service in stand.services() {
        service.terminate_if_running()?;
    }
    for raised in &raised {
        let found = fs::read(&raised.path)?;
        ensure!(found == raised.tomorrow, "{}", raised.path.display());
        fs::write(&raised.path, &raised.today)?;
    }
    let segments = fs::read_dir(stand.topic_dir().join("p00000"))?.filter(|entry| {
        let name = entry.as_ref().map(fs::DirEntry::file_name);
        name.is_ok_and(|name| name.to_string_lossy().ends_with(".zst"))
    });
    ensure!(
        segments.count() == 1,
        "nothing is linked to what is unknown"
    );
    // And the build that can read it goes on.
    for service in stand.services() {
        service.start()?;
    }
    let all = KEPT.iter().sum::<usize>() + NEW;
    at_rest(&stand, (all - KEPT[0]) as f64)?;
    for service in stand.services() {
        service.terminate()?;
    }
    stand.aggregate_once()?;
    ensure!(totals(&stand, "stored")? == all as u64);
    dir.passed()
}

/// A file as it was, and as a later build would have written it.
struct Raised {
    path: PathBuf,
    today: Vec<u8>,
    tomorrow: Vec<u8>,
}

/// Raises the version of the segment, of the newest manifest, and of both dead letter files.
fn raise_versions(dir: &Path) -> Result<Vec<Raised>> {
    let mut raised = Vec::new();
    for path in fixtures::files(dir)? {
        let name = path.file_name().context("a name")?.to_string_lossy();
        let today = fs::read(&path)?;
        let mut tomorrow = today.clone();
        if name.ends_with(".ndjson.zst") {
            // magic, version (u16) …; behind it length, checksum and the file's last eight bytes.
            let at = today.windows(4).rposition(|four| four == b"SLTR");
            let at = at.context("a trailer")?;
            tomorrow[at + 4] += 1;
            let footer = today.len() - 16;
            let crc = crc32c::crc32c(&tomorrow[at..footer]);
            tomorrow[footer + 4..footer + 8].copy_from_slice(&crc.to_le_bytes());
        } else if name == "m00000000000000000004.json" {
            let format = b"\"format\":";
            let at = today.windows(format.len()).position(|it| it == format);
            tomorrow[at.context("a format")? + format.len()] += 1;
        } else if name.ends_with("dlq") {
            // Eight bytes that zstd skips; magic, kind, version (u32), checksum.
            tomorrow[23] += 1;
            let crc = crc32c::crc32c(&tomorrow[8..24]);
            tomorrow[24..28].copy_from_slice(&crc.to_be_bytes());
        } else {
            continue;
        }
        fs::write(&path, &tomorrow)?;
        raised.push(Raised {
            path,
            today,
            tomorrow,
        });
    }
    ensure!(raised.len() == 4, "{} files", raised.len());
    Ok(raised)
}

fn plan() -> Plan {
    let plan = Plan {
        topic: "upgrade".to_owned(),
        partitions: 1,
        ..Plan::default()
    };
    plan.with("ingestion.producerWriteTimeout", "1s")
        .with("server.requestTimeout", "4s")
        .with("aggregation.archiveAfter", "0s")
}

/// As a build of now leaves it when it is stopped for an upgrade while Kafka is away.
fn leave(kept: &Path) -> Result<()> {
    let dir = RunDir::new("left");
    let mut stand = Stand::up(&dir, plan())?;
    sent(&stand, "old", KEPT[0], "kafka")?;
    poison(&stand)?;
    at_rest(&stand, KEPT[0] as f64)?;
    for service in [&mut stand.writers[0], &mut stand.aggregator] {
        service.terminate()?;
    }
    stand.aggregate_once()?;
    sent(&stand, "unread", KEPT[1], "kafka")?;
    let broker = stand.broker.as_mut().context("the embedded broker")?;
    broker.kill()?;
    sent(&stand, "letter", KEPT[2], "dlq")?;
    stand.gateways[0].terminate()?;
    for name in ["kafka", "logs", "dlq", "analytics", "archive"] {
        for from in fixtures::files(&stand.dir.join(name))? {
            // Pages, and room that is kept, are made anew at each start; a lock is of a process.
            let is_page = from.extension().is_some_and(|it| it == "html");
            if is_page || from.ends_with("RESERVE") || from.ends_with("lock") {
                continue;
            }
            let to = kept.join(from.strip_prefix(&stand.dir)?);
            fs::create_dir_all(to.parent().context("a directory")?)?;
            fs::copy(&from, to)?;
        }
    }
    dir.passed()
}

/// One batch, which is to be kept there.
fn sent(stand: &Stand, name: &str, records: usize, kept: &str) -> Result<()> {
    let body: String = (0..records)
        .map(|at| {
            format!(
                "{{\"timestamp\":\"2025-05-17T10:05:03Z\",\"path\":\"/{name}/{at}\",\
                 \"userAgent\":\"x\",\"site\":\"shop.example\"}}\n"
            )
        })
        .collect();
    let headers = [("content-type", "application/x-ndjson")];
    let answer = post(stand.addresses[0], "/logs", &headers, body.as_bytes())?;
    ensure!(answer.status == 202, "{}", answer.text());
    ensure!(answer.json()["kept"] == kept, "{}", answer.text());
    Ok(())
}

fn poison(stand: &Stand) -> Result<()> {
    let mut kcat = std::process::Command::new("kcat")
        .args(["-b", &stand.kafka(), "-P", "-t", &stand.plan.topic])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = kcat.stdin.take().context("a standard input")?;
    input.write_all(b"no record\n")?;
    drop(input);
    ensure!(kcat.wait()?.success(), "kcat");
    Ok(())
}

/// So many were stored since the writer's start, and nothing waits anywhere.
fn at_rest(stand: &Stand, stored: f64) -> Result<()> {
    let mut found = (None, None, None);
    let rest = poll_until(WITHIN, || {
        found = (
            Stand::metric(&stand.writers, "logs_ingested_total"),
            Stand::metric(&stand.gateways, "producer_dlq_records"),
            stand.lag(),
        );
        Ok((found == (Some(stored), Some(0.0), Some(0.0))).then_some(()))
    })?;
    rest.with_context(|| format!("{found:?} instead of {stored} stored"))
}

/// Of all chains, by `verify`, which must say whole.
fn totals(stand: &Stand, name: &str) -> Result<u64> {
    let said = stand.verify()?;
    let chains = said["chains"].as_array().context("chains")?;
    let each = chains.iter().map(|chain| chain["totals"][name].as_u64());
    each.sum::<Option<u64>>().with_context(|| said.to_string())
}
