//! One request followed from its answer to the file, as the runbook's "Follow one request" has it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{
    http::post,
    process::poll_until,
    stand::{Plan, Stand},
};

use crate::{RunDir, book};

const SECTION: &str = "Follow one request";

#[test]
fn a_request_is_followed_from_its_answer_to_the_file() -> Result<()> {
    let dir = RunDir::new("follow");
    let plan = Plan::from_env()
        .with("telemetry.log.level", "debug")
        .with("telemetry.log.format", "json");
    let stand = Stand::up(&dir, plan)?;
    let record = |path: &str| {
        format!(r#"{{"timestamp":"2025-05-17T10:05:03Z","path":"{path}","userAgent":"x"}}"#)
    };
    let headers = [("content-type", "application/x-ndjson")];
    let mut batch = String::new();
    // Others before and behind it.
    for path in ["/before", "/this", "/behind"] {
        let body = format!("{}\n{}\n", record(path), record(path));
        let response = post(stand.addresses[0], "/logs", &headers, body.as_bytes())?;
        ensure!(response.status == 202, "{}", response.text());
        if path == "/this" {
            let id = response.json()["batchId"].as_str().map(str::to_owned);
            batch = id.context("a batch id")?;
        }
    }
    let counted = poll_until(Duration::from_secs(60), || {
        let metrics = stand.aggregator.metrics()?;
        let read = metrics.sum("aggregation_read_records");
        Ok((read == Some(6.0)).then_some(()))
    })?;
    counted.context("the records are not counted")?;

    let mut names = vec![
        ("2026-01-02T00", "2020-01-02T00".to_owned()),
        ("2026-01-03T00", "2120-01-02T00".to_owned()),
        ("BATCHID", batch),
    ];
    let run = |start: &str, names: &[(&str, String)]| -> Result<String> {
        let done = book::run(&stand, SECTION, start, names)?;
        ensure!(done.code == 0, "{done:?}");
        Ok(done.said)
    };

    let found = run(
        "kafka-consumer-writer segments cat --config config.yaml --with-offsets",
        &names,
    )?;
    ensure!(found.lines().count() == 2, "{found}");
    ensure!(found.lines().all(|line| line.contains("/this")), "{found}");

    let said = run("grep BATCHID", &names)?;
    let lines: Vec<Value> = said
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(lines.iter().any(|it| it["message"] == "accepted"), "{said}");
    let acknowledged = lines
        .iter()
        .find(|it| it["message"] == "kafka has acknowledged records")
        .with_context(|| said.clone())?;
    let text = |name: &str| match &acknowledged[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    names.extend([
        ("TOPIC", text("topic")),
        ("PARTITION", text("partition")),
        ("OFFSET", text("first")),
    ]);
    let listed = run("kafka-consumer-writer segments ls", &names)?;
    let cat = "kafka-consumer-writer segments cat --config config.yaml --topic";
    let printed = run(cat, &names)?;
    ensure!(
        printed.contains("/this") && printed.lines().count() == 1,
        "{printed}"
    );

    // Of the one segment that is listed.
    let offset: i64 = text("first").parse()?;
    let numbers = listed
        .split_whitespace()
        .filter_map(|word| word.parse::<i64>().ok());
    let mut firsts: Vec<i64> = numbers.filter(|first| *first <= offset).collect();
    firsts.sort_unstable_by_key(|first| std::cmp::Reverse(*first));
    let mut tried = String::new();
    let ways = firsts.iter().filter_map(|first| {
        names.push(("FIRST", first.to_string()));
        let said = run("grep '\"partition\"", &names).ok();
        names.pop();
        said
    });
    for way in ways {
        let names_batches = way.contains("\"first_batch\"") && way.contains("\"last_batch\"");
        if way.contains("\"saved\"") && names_batches && way.contains("read a segment to count") {
            return dir.passed();
        }
        tried.push_str(&way);
    }
    anyhow::bail!("no lines of the segment {listed}: {tried}")
}
