//! A stranger reads and writes what the pipeline does: `kcat` produces records without a `sluice`
//! header, consumes the topic in a group of its own, and asks for offsets.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use testbed::{
    http::post,
    process::poll_until,
    skip,
    stand::{Plan, Stand, fresh_name},
    store::Counter,
};

use crate::{RunDir, book};

#[test]
fn kcat_produces_consumes_in_a_group_and_asks_for_offsets() -> Result<()> {
    if Command::new("kcat").arg("-V").output().is_err() {
        skip::skipped("kcat against the broker", "kcat is not installed");
        return Ok(());
    }
    let dir = RunDir::new("kcat");
    let plan = Plan {
        partitions: 2,
        ..Plan::from_env()
    };
    let stand = Stand::up(&dir, plan)?;
    let broker = stand.kafka();
    let topic = stand.plan.topic.as_str();

    let record = |path: &str| {
        format!(r#"{{"timestamp":"2025-05-17T10:05:03Z","path":"{path}","userAgent":"kcat"}}"#)
    };
    let body = format!("{}\n{}\n", record("/over/http/1"), record("/over/http/2"));
    let headers = [("content-type", "application/x-ndjson")];
    let response = post(stand.addresses[0], "/logs", &headers, body.as_bytes())?;
    assert_eq!(response.status, 202, "{}", response.text());

    let foreign = format!(
        "{}\n{}\nno record\n",
        record("/by/kcat/1"),
        record("/by/kcat/2")
    );
    kcat(
        &["-b", &broker, "-P", "-t", topic, "-p", "1"],
        foreign.as_bytes(),
    )?;

    // Both are stored; the third is poison, and kept as that.
    let mut stored = Counter::new(&stand.logs_dir(), topic);
    let all = poll_until(Duration::from_secs(60), || {
        Ok((stored.records()? >= 4).then_some(()))
    })?;
    assert!(all.is_some(), "{} of 4 records stored", stored.records()?);
    let poison = poll_until(Duration::from_secs(60), || {
        let records = Stand::metric(&stand.writers, "consumer_dlq_records");
        Ok(records.filter(|records| *records == 1.0))
    })?;
    assert!(
        poison.is_some(),
        "the poison message is not in the consumer DLQ"
    );

    let group = fresh_name();
    let words = [
        "-b",
        &broker,
        "-G",
        &group,
        "-c",
        "5",
        "-X",
        "auto.offset.reset=earliest",
    ];
    let output = kcat(&[&words[..], &[topic]].concat(), b"")?;
    let said = String::from_utf8(output.stdout)?;
    for part in [
        "/over/http/1",
        "/over/http/2",
        "/by/kcat/1",
        "/by/kcat/2",
        "no record",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }

    // Offset 3 of partition 1 at the latest: kcat's own three records are there.
    let asked = format!("{topic}:1:-1");
    let output = kcat(&["-b", &broker, "-Q", "-t", &asked], b"")?;
    let said = String::from_utf8(output.stdout)?;
    let end: u64 = said
        .trim()
        .rsplit(' ')
        .next()
        .context("an offset")?
        .parse()?;
    assert!(end >= 3, "{said}");

    // As the runbook has it for a log that lost records: what is there from an offset on goes into
    // another topic as new requests.
    let from = |offset: u64| -> Result<String> {
        let names = [
            ("KAFKA", broker.clone()),
            ("TOPIC", topic.to_owned()),
            ("-p 3", "-p 1".to_owned()),
            ("OFFSET", offset.to_string()),
        ];
        let copy = "kcat -C -b KAFKA -t TOPIC";
        let done = book::run(&stand, "SluicePartitionHalted", copy, &names)?;
        ensure!(done.code == 0, "{done:?}");
        let lines = done.said.lines().filter(|line| !line.starts_with('%'));
        Ok(lines.map(|line| format!("{line}\n")).collect())
    };
    assert_eq!(from(0)?.lines().count() as u64, end);
    let last = from(end - 3)?;
    let answer = post(stand.addresses[0], "/logs", &headers, last.as_bytes())?.json();
    assert!(answer["accepted"].as_u64() >= Some(1), "{last}: {answer}");
    dir.passed()
}

fn kcat(args: &[&str], input: &[u8]) -> Result<Output> {
    let mut child = Command::new("timeout")
        .args(["60", "kcat"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("a standard input")?
        .write_all(input)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "kcat {args:?}: {output:?}");
    Ok(output)
}
