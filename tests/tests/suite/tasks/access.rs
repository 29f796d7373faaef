//! "Rotate an API key", "Rotate the Kafka client certificate", and who sent what cannot be taken.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use testbed::{
    drill,
    http::{Response, post},
    process::poll_until,
    skip,
    stand::{Plan, Stand},
};

use crate::{RunDir, book};

const WITHIN: Duration = Duration::from_secs(30);
const ROTATE: &str = "Rotate an API key";
const REJECTED: &str = "SluiceRecordsRejected";
const CLIENT: &str = "Rotate the Kafka client certificate";

#[test]
fn a_key_is_rotated_as_the_runbook_says_and_no_request_is_refused_meanwhile() -> Result<()> {
    let dir = RunDir::new("rotate-key");
    let mut stand = Stand::prepare(&dir, Plan::from_env())?;
    let config = stand.gateways[0].config.clone();
    let without = fs::read_to_string(&config)?;
    let write = |lines: &[&str]| {
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        let auth = format!("auth:\n  enabled: true\n  keys:\n{lines}");
        fs::write(&config, format!("{without}\n{auth}"))
    };
    let (old, old_line) = new_key(&stand, "shop-1")?;
    write(&[&old_line])?;
    stand.start_broker()?;
    stand.writers[0].start()?;
    stand.start_others()?;
    let says = |stand: &Stand, key: &str| -> Result<u16> { Ok(sent(stand, key)?.status) };
    ensure!(says(&stand, &old)? == 202);

    let (new, new_line) = new_key(&stand, "shop-2")?;
    ensure!(says(&stand, &new)? == 401);
    write(&[&old_line, &new_line])?;
    hang_up(&stand, 1.0)?;
    ensure!(says(&stand, &old)? == 202 && says(&stand, &new)? == 202);
    write(&[&new_line])?;
    hang_up(&stand, 2.0)?;
    ensure!(says(&stand, &old)? == 401 && says(&stand, &new)? == 202);
    dir.passed()
}

#[test]
fn the_check_before_a_new_client_certificate_is_the_runbooks() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional("a client certificate", "kafka_access uses a real one");
        return Ok(());
    }
    if Command::new("openssl").arg("version").output().is_err() {
        skip::skipped("a client certificate", "openssl is not installed");
        return Ok(());
    }
    let dir = RunDir::new("rotate-client");
    let stand = Stand::up(&dir, Plan::default())?;
    let check = "kafka-consumer-writer --config config.yaml --check --connect";
    let done = book::run(&stand, CLIENT, check, &[])?;
    ensure!(done.code == 0, "{done:?}");
    let place = stand.dir.join("services");
    drill::certificate(&place, 30)?;
    fs::rename(place.join("server.crt"), place.join("kafka.crt"))?;
    let done = book::run(&stand, CLIENT, "openssl x509 -enddate", &[])?;
    ensure!(done.said.starts_with("notAfter="), "{done:?}");
    dir.passed()
}

#[test]
fn who_sent_what_cannot_be_taken_is_found_by_the_runbooks_commands() -> Result<()> {
    let dir = RunDir::new("rejected");
    let plan = Plan::from_env().with("ingestion.rejectsDir", "rejects");
    let stand = Stand::up(&dir, plan)?;
    let record = |site: &str, time: &str| {
        format!(r#"{{{time}"path":"/x","userAgent":"x","site":"{site}"}}"#)
    };
    let body = [
        record("shop.example", r#""timestamp":"2025-05-17T10:05:03Z","#),
        record("shop.example", ""),
        record("other.example", ""),
    ];
    let headers = [("content-type", "application/x-ndjson")];
    let answer = post(
        stand.addresses[0],
        "/logs",
        &headers,
        body.join("\n").as_bytes(),
    )?;
    ensure!(answer.status == 202, "{}", answer.text());
    let run = |start: &str| book::run(&stand, REJECTED, start, &[]);
    // They are written behind the answer.
    let list = "ingest-gateway rejects list --config config.yaml";
    let mut said = String::new();
    let listed = poll_until(WITHIN, || {
        said = run(list)?.said;
        Ok(["shop.example", "other.example"]
            .iter()
            .all(|site| said.contains(site))
            .then_some(()))
    })?;
    listed.with_context(|| said.clone())?;
    let shown = run("ingest-gateway rejects show --config config.yaml")?;
    ensure!(shown.code == 0, "{shown:?}");
    ensure!(
        shown.said.contains("shop.example") && !shown.said.contains("other.example"),
        "{shown:?}"
    );
    dir.passed()
}

/// By the page's command: the key, and its line of the configuration.
fn new_key(stand: &Stand, id: &str) -> Result<(String, String)> {
    let names = [("shop-2", id.to_owned())];
    let done = book::run(stand, ROTATE, "ingest-gateway keys new", &names)?;
    let mut lines = done.said.lines();
    let key = lines.find(|line| line.starts_with("slk_"));
    let key = key.with_context(|| format!("{done:?}"))?.to_owned();
    let line = lines.next().with_context(|| format!("{done:?}"))?;
    Ok((key, line.to_owned()))
}

fn hang_up(stand: &Stand, times: f64) -> Result<()> {
    let done = book::run(stand, ROTATE, "kill -HUP \"$(pidof", &[])?;
    ensure!(done.code == 0, "{done:?}");
    let applied = poll_until(WITHIN, || {
        let metrics = stand.gateways[0].metrics()?;
        let applied = metrics.with("config_reloads_total", "outcome=\"applied\"");
        Ok((applied == Some(times)).then_some(()))
    })?;
    applied.context("the configuration is not read anew")
}

fn sent(stand: &Stand, key: &str) -> Result<Response> {
    let headers = [("content-type", "application/x-ndjson"), ("x-api-key", key)];
    let record = br#"{"timestamp":"2025-05-17T10:05:03Z","path":"/x","userAgent":"x"}"#;
    post(stand.addresses[0], "/logs", &headers, record)
}
