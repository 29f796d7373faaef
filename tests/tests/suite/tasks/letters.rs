//! "Decide undecidable and poison records", "Replay a dead letter queue", and what a gateway had
//! when Kafka was gone for good ("Disaster").

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::{
    http::post,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
    store::Counter,
};

use crate::{RunDir, book};

const WITHIN: Duration = Duration::from_secs(60);
const DECIDE: &str = "Decide undecidable and poison records";
const REPLAY: &str = "Replay a dead letter queue";
const DISASTER: &str = "Disaster";

#[test]
fn what_nobody_could_tell_is_decided_by_the_runbooks_commands() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional(
            "undecidable records",
            "the embedded broker is asked for faults",
        );
        return Ok(());
    }
    let dir = RunDir::new("decide");
    let plan = Plan {
        gateways: 3,
        partitions: 1,
        ..Plan::default()
    };
    let plan = plan
        .with("consumer.dedupMaxBatches", 1)
        .with("consumer.flushSize", 1)
        .with("ingestion.producerWriteTimeout", "1s")
        .with("server.requestTimeout", "4s");
    let mut stand = Stand::up(&dir, plan)?;
    let fault = |stand: &Stand, then: &str| -> Result<()> {
        let broker = stand.broker.as_ref().context("the embedded broker")?;
        broker.control.command(&match then {
            "" => json!({"do": "clear_faults"}),
            then => json!({"do": "fault", "on": "Produce", "then": then}),
        })
    };
    // Two gateways each keep a batch that Kafka may have. It has one of them.
    let mut ids = Vec::new();
    for (gateway, then) in ["cut_answer", "cut"].into_iter().enumerate() {
        fault(&stand, then)?;
        let (id, kept) = sent(&stand, gateway, &record(&format!("/{then}"), ""))?;
        ensure!(kept == "dlq", "{kept}");
        ids.push(id);
        stand.gateways[gateway].kill()?;
        fault(&stand, "")?;
    }
    // Meanwhile others push the first one's batch out of the window.
    let mut stored = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    for number in 0..3 {
        sent(&stand, 2, &record(&format!("/later/{number}"), ""))?;
        until(&mut stored, number + 2)?;
    }
    for gateway in &mut stand.gateways[..2] {
        gateway.start()?;
        gateway.wait_ready()?;
    }
    let aside = poll_until(WITHIN, || {
        let aside = Stand::metric(&stand.writers, "consumer_dlq_records");
        Ok((aside == Some(2.0)).then_some(()))
    })?;
    aside.context("the copies are not put aside")?;

    let mut names = vec![
        ("2026-01-02T00", "2020-01-02T00".to_owned()),
        ("2026-01-03T00", "2120-01-02T00".to_owned()),
    ];
    let run = |start: &str, names: &[(&str, String)]| -> Result<String> {
        let done = book::run(&stand, DECIDE, start, names)?;
        ensure!(done.code == 0, "{done:?}");
        Ok(done.said)
    };
    run("kafka-consumer-writer dlq list", &names)?;
    let show = "kafka-consumer-writer dlq show --config config.yaml --kind undecidable";
    let shown = run(show, &names)?;
    let shown: Vec<Value> = shown
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    ensure!(shown.len() == 2, "{shown:?}");
    let look = "kafka-consumer-writer segments cat --config config.yaml --with-offsets";
    for (id, is_stored) in [(&ids[0], true), (&ids[1], false)] {
        let this = shown.iter().find(|it| it.to_string().contains(id));
        let this = this.with_context(|| format!("{id} is not in {shown:?}"))?;
        names.push(("BATCH", id.clone()));
        ensure!(run(look, &names).is_ok() == is_stored, "{id}");
        names.pop();
        if is_stored {
            let offset = this["offset"].as_u64().with_context(|| this.to_string())?;
            names.extend([
                ("PARTITION", "0".to_owned()),
                ("OFFSET", offset.to_string()),
                // It asks a person; here nobody can be asked.
                ("NEXT", format!("{} --yes", offset + 1)),
            ]);
            let one = "kafka-consumer-writer dlq discard --config config.yaml --partition";
            run(one, &names)?;
        }
    }
    let replay = "kafka-consumer-writer dlq replay  --config config.yaml --kind undecidable";
    run(&format!("{replay} --dry-run"), &names)?;
    run(replay, &names)?;
    let before = stored.records()?;
    ensure!(before <= 5, "{before}");
    until(&mut stored, 5)?;
    // Twice changes nothing, and nothing waits any more.
    run(replay, &names)?;
    let left = poll_until(WITHIN, || {
        let aside = Stand::metric(&stand.writers, "consumer_dlq_records");
        Ok((aside == Some(0.0)).then_some(()))
    })?;
    left.context("something waits still")?;
    stand.writers[0].terminate()?;
    ensure!(stored.records()? == 5);
    stand.verify()?;
    dir.passed()
}

#[test]
fn a_dead_letter_queue_is_replayed_by_hand_or_taken_to_another_cluster() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional(
            "dead letters by hand",
            "the embedded broker is asked for faults",
        );
        return Ok(());
    }
    let dir = RunDir::new("replay");
    let plan = Plan {
        partitions: 1,
        ..Plan::default()
    };
    let mut stand = Stand::up(&dir.join("a"), plan.clone())?;
    let setting = |stand: &Stand, value: &str| {
        let broker = stand.broker.as_ref().context("the embedded broker")?;
        broker.control.command(&json!({
            "do": "set_setting", "topic": stand.plan.topic,
            "name": "max.message.bytes", "value": value,
        }))
    };
    setting(&stand, "2000")?;
    let noise: String = (0..4_000_u32)
        .map(|at| char::from(b'a' + (at.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
        .collect();
    for path in ["/one", "/two", "/three"] {
        let (_, kept) = sent(&stand, 0, &record(path, &noise))?;
        ensure!(kept == "dlq", "{kept}");
    }
    stand.gateways[0].terminate()?;
    let run = |section: &str, start: &str| -> Result<String> {
        let done = book::run(&stand, section, start, &[])?;
        ensure!(done.code == 0, "{done:?}");
        Ok(done.said)
    };
    let listed = run(REPLAY, "ingest-gateway dlq list")?;
    ensure!(listed.contains("too_large"), "{listed}");

    // "Kafka is gone for good": to another one, as new requests.
    run(DISASTER, "ingest-gateway dlq show")?;
    let records = fs::read(stand.dir.join("services/records.ndjson"))?;
    let other = Plan {
        topic: testbed::stand::fresh_name(),
        ..plan
    };
    let mut elsewhere = Stand::up(&dir.join("b"), other)?;
    let headers = [("content-type", "application/x-ndjson")];
    let answer = post(elsewhere.addresses[0], "/logs", &headers, &records)?;
    ensure!(answer.status == 202, "{}", answer.text());
    ensure!(answer.json()["accepted"] == 3, "{}", answer.text());
    let mut there = Counter::new(&elsewhere.logs_dir(), &elsewhere.plan.topic);
    until(&mut there, 3)?;
    for service in elsewhere.services() {
        service.terminate()?;
    }

    // Or the cause is mended, and they go where they belong.
    setting(&stand, "1048588")?;
    let replay = "ingest-gateway dlq replay --config config.yaml --reason too_large";
    run(REPLAY, &format!("{replay} --dry-run"))?;
    run(REPLAY, &format!("{replay} --rate"))?;
    let mut stored = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    until(&mut stored, 3)?;
    run(REPLAY, &format!("{replay} --rate"))?;
    stand.writers[0].terminate()?;
    ensure!(stored.records()? == 3);
    dir.passed()
}

fn record(path: &str, more: &str) -> String {
    format!(
        r#"{{"timestamp":"2025-05-17T10:05:03Z","path":"{path}","userAgent":"x","more":"{more}"}}"#
    )
}

/// The batch's id, and where it is kept.
fn sent(stand: &Stand, gateway: usize, body: &str) -> Result<(String, String)> {
    let headers = [("content-type", "application/x-ndjson")];
    let answer = post(stand.addresses[gateway], "/logs", &headers, body.as_bytes())?;
    ensure!(answer.status == 202, "{}", answer.text());
    let answer = answer.json();
    let text = |name: &str| -> Result<String> {
        let text = answer[name].as_str();
        Ok(text.with_context(|| answer.to_string())?.to_owned())
    };
    Ok((text("batchId")?, text("kept")?))
}

fn until(stored: &mut Counter, records: u64) -> Result<()> {
    let all = poll_until(WITHIN, || Ok((stored.records()? >= records).then_some(())))?;
    let there = stored.records()?;
    all.with_context(|| format!("{there} of {records} records are stored"))
}
