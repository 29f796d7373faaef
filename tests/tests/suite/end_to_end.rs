//! Logs go in over HTTP, come out of the store whole, and are counted as a reader of the file
//! would count them by hand.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use testbed::{
    generate::from_file,
    http::post,
    load::Load,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
    store::Counter,
    summaries,
};

use crate::{RunDir, assert_holds, load};

const FIXTURE: &[u8] = include_bytes!("fixtures/access.combined.log");

#[test]
fn a_log_file_is_stored_and_counted_as_by_hand() -> Result<()> {
    let dir = RunDir::new("fixture");
    let counts = send_and_count(&dir, FIXTURE)?;
    // By eye: of its 20 lines 18 are well made, line 7 is cut off and line 13 is no log line.
    assert_eq!(counts.accepted, 18);
    assert_eq!(counts.rejected, ["line 7", "line 13"]);
    dir.passed()
}

#[test]
fn a_real_sites_log_is_counted_as_awk_counts_it() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/access.combined.log");
    let Ok(text) = fs::read(&file) else {
        skip::optional("a real site's log", "no shared/data beside this repository");
        return Ok(());
    };
    let dir = RunDir::new("real-log");
    let counts = send_and_count(&dir, &text)?;
    assert_eq!((counts.accepted, counts.rejected.len()), (9_999, 1));
    dir.passed()
}

#[test]
fn every_format_and_encoding_holds_under_load() -> Result<()> {
    let dir = RunDir::new("formats");
    let mut stand = Stand::up(&dir, Plan::from_env())?;
    let plan = testbed::load::Plan {
        requests: Some(150),
        ..load(11)
    };
    let ledger = Load::start(&stand.addresses, plan).finish();
    let formats: HashSet<_> = (0..150)
        .map(|number| ledger.mix.shape(number).content_type())
        .collect();
    assert_eq!(formats.len(), 4, "{formats:?}");
    assert!(
        ledger.answered("202") >= 165,
        "150 requests and 15 sent again: {ledger}"
    );
    let verdict = stand.settle(&ledger, Duration::from_secs(120))?;
    assert_holds(&verdict);
    dir.passed()
}

struct Counts {
    accepted: u64,
    /// The places of rejected lines.
    rejected: Vec<String>,
}

/// Sends a log file, waits until it is counted, and compares the summaries' paths and agents with
/// the file's own.
fn send_and_count(dir: &Path, text: &[u8]) -> Result<Counts> {
    let mut stand = Stand::up(dir, Plan::from_env())?;
    let mut counts = Counts {
        accepted: 0,
        rejected: Vec::new(),
    };
    for piece in from_file(text, 500) {
        let headers = [("content-type", piece.content_type)];
        let response = post(stand.addresses[0], &piece.target, &headers, &piece.body)?;
        let said = response.json();
        ensure!(response.status == 202, "{} {said}", response.status);
        counts.accepted += said["accepted"].as_u64().context("accepted is a number")?;
        for error in said["errors"].as_array().into_iter().flatten() {
            let index = error["index"].as_u64().context("index is a number")?;
            counts
                .rejected
                .push(piece.places[usize::try_from(index)?].clone());
        }
    }
    let mut stored = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    let all = poll_until(Duration::from_secs(60), || {
        Ok((stored.records()? >= counts.accepted).then_some(()))
    })?;
    ensure!(
        all.is_some(),
        "{} of {} stored",
        stored.records()?,
        counts.accepted
    );
    for service in stand.services() {
        service.terminate()?;
    }
    stand.aggregate_once()?;
    stand.verify()?;
    assert_eq!(stored.records()?, counts.accepted);

    let hours = summaries::hours(&stand.analytics_dir())?;
    let (paths, agents) = by_hand(text);
    assert_eq!(
        summaries::add_up(hours.values().map(|hour| &hour.requests_per_path)),
        paths
            .iter()
            .map(|(path, count)| (path.as_str(), *count))
            .collect()
    );
    assert_eq!(
        summaries::add_up(hours.values().map(|hour| &hour.requests_per_user_agent)),
        agents
            .iter()
            .map(|(agent, count)| (agent.as_str(), *count))
            .collect()
    );
    Ok(counts)
}

/// As `awk -F'"' 'NF==7'` would: paths and agents of the lines with three quoted fields.
fn by_hand(text: &[u8]) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let (mut paths, mut agents) = (BTreeMap::new(), BTreeMap::new());
    let text = String::from_utf8_lossy(text);
    for line in text.lines() {
        let fields: Vec<&str> = line.split('"').collect();
        if fields.len() != 7 {
            continue;
        }
        let path = fields[1].split(' ').nth(1).unwrap_or(fields[1]);
        *paths.entry(path.to_owned()).or_insert(0) += 1;
        *agents.entry(fields[5].to_owned()).or_insert(0) += 1;
    }
    (paths, agents)
}
