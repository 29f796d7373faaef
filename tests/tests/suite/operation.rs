//! What people who run it rely on: health, metrics, version, `--check` and `--help`.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;
use testbed::{
    http::{get, post},
    load::Load,
    process::poll_until,
    skip::skipped,
    stand::{Plan, Stand},
};

use crate::{RunDir, load};

/// The names of the contract, by service.
const METRICS: [(&str, &[&str]); 3] = [
    (
        "ingest-gateway",
        &[
            "ingestion_work_queue_depth",
            "ingestion_work_queue_capacity",
            "ingestion_work_queue_bytes",
            "ingestion_work_queue_fill_ratio",
            "log_batches_received_total",
            "log_records_accepted_total",
            "log_records_rejected_total",
            "invalid_requests_total",
            "http_request_duration_seconds",
            "producer_write_duration_seconds",
            "producer_errors_total",
            "producer_retries_total",
            "producer_dlq_records",
            "producer_dlq_bytes",
            "kafka_up",
        ],
    ),
    (
        "kafka-consumer-writer",
        &[
            "kafka_up",
            "consumer_errors_total",
            "consumer_dedup_reach_seconds",
            "batch_flush_records",
            "batch_flush_bytes",
            "batch_flush_duration_seconds",
            "logs_ingested_total",
            "consumer_duplicates_total",
            "consumer_dlq_records",
        ],
    ),
    (
        "aggregator",
        &[
            "aggregation_runs_total",
            "aggregation_lag_seconds",
            "aggregation_records_total",
        ],
    ),
];

#[test]
fn health_version_and_every_metric_are_there_from_the_start() -> Result<()> {
    let dir = RunDir::new("health");
    let mut stand = Stand::up(&dir, Plan::from_env())?;
    for service in stand.services() {
        for path in ["/livez", "/readyz"] {
            assert_eq!(
                get(service.admin, path)?.status,
                200,
                "{} {path}",
                service.name
            );
        }
        let version = get(service.admin, "/version")?;
        assert_eq!(version.status, 200, "{} /version", service.name);
        assert!(
            version.text().contains(env!("CARGO_PKG_VERSION")),
            "{}",
            version.text()
        );
        let built = version.json();
        let said = service.command().arg("--version").output()?;
        let line = match built["commit"].as_str() {
            Some(commit) => format!("{} (commit {commit})", env!("CARGO_PKG_VERSION")),
            None => env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (said, name) = (String::from_utf8(said.stdout)?, built["service"].as_str());
        assert_eq!(said.trim_end(), format!("{} {line}", name.unwrap_or("")));
        let metrics = service.metrics()?;
        let (_, names) = METRICS
            .iter()
            .find(|(name, _)| *name == service.name)
            .expect("every service is here");
        let missing: Vec<_> = names.iter().filter(|name| !metrics.has(name)).collect();
        assert!(missing.is_empty(), "{} has no {missing:?}", service.name);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            get(stand.addresses[0], path)?.status,
            200,
            "server.addr {path}"
        );
    }
    dir.passed()
}

/// Neither its soft limit nor its hard one, which nobody raises again, leaves room for any.
#[test]
fn nothing_of_a_service_s_memory_gets_into_a_core_dump() -> Result<()> {
    let dir = RunDir::new("core");
    let mut stand = Stand::up(&dir, Plan::from_env())?;
    let limit = |process: &str| -> Result<[String; 2]> {
        let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
        let line = limits
            .lines()
            .find_map(|it| it.strip_prefix("Max core file size"));
        let mut words = line
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned);
        Ok([(); 2].map(|()| words.next().unwrap_or_default()))
    };
    let of_tests = limit("self")?;
    if of_tests[1] == "0" {
        skipped("core dumps turned off", "they are off for this test itself");
        return dir.passed();
    }
    for service in stand.services() {
        let id = service.process()?.id().to_string();
        assert_eq!(limit(&id)?, ["0", "0"], "{}", service.name);
    }
    dir.passed()
}

#[test]
fn readiness_does_not_wait_for_kafka() -> Result<()> {
    let dir = RunDir::new("no-kafka");
    // Nothing listens there.
    let nowhere = format!("127.0.0.1:{}", testbed::process::free_port());
    let plan = Plan {
        kafka: Some(nowhere),
        ..Plan::default()
    };
    let stand = Stand::up(&dir, plan)?;
    let headers = [("content-type", "text/plain")];
    let line = br#"192.0.2.1 - - [17/May/2025:10:05:03 +0000] "GET / HTTP/1.1" 200 1 "-" "a""#;
    let response = post(stand.addresses[0], "/logs", &headers, line)?;
    // Without a Kafka it has never spoken to, the gateway may keep the batch or ask to come back.
    assert!(
        matches!(response.status, 202 | 429 | 503),
        "{} {}",
        response.status,
        response.text()
    );
    if response.status == 202 {
        assert_eq!(response.json()["kept"], "dlq");
    } else {
        assert!(response.header("retry-after").is_some(), "no Retry-After");
    }
    assert_eq!(stand.gateways[0].metrics()?.sum("kafka_up"), Some(0.0));
    dir.passed()
}

#[test]
fn the_books_agree_on_the_metrics_when_all_is_at_rest() -> Result<()> {
    let dir = RunDir::new("books");
    let stand = Stand::up(&dir, Plan::from_env())?;
    let plan = testbed::load::Plan {
        requests: Some(60),
        ..load(61)
    };
    let ledger = Load::start(&stand.addresses, plan).finish();
    let mut seen = None;
    let agreed = poll_until(Duration::from_secs(60), || {
        let stored = Stand::metric(&stand.writers, "logs_ingested_total");
        let duplicates = Stand::metric(&stand.writers, "consumer_duplicates_total");
        seen = stored.zip(duplicates);
        Ok(seen.filter(|(stored, _)| *stored == ledger.accepted() as f64))
    })?;
    assert!(agreed.is_some(), "stored and duplicates {seen:?}: {ledger}");
    let accepted = Stand::metric(&stand.gateways, "log_records_accepted_total").unwrap_or(0.0);
    assert!(
        accepted >= ledger.accepted() as f64,
        "gateway {accepted}: {ledger}"
    );
    dir.passed()
}

#[test]
fn a_bad_configuration_is_refused_with_78_and_every_fault() -> Result<()> {
    let dir = RunDir::new("config");
    let stand = Stand::prepare(&dir, Plan::default())?;
    let bad = dir.join("bad.yaml");
    fs::write(
        &bad,
        "kafka:\n  brokers: [nonsense]\n  batchSize: many\nserver:\n  adress: x\n",
    )?;
    let good = &stand.gateways[0].config;
    let services = [&stand.gateways[0], &stand.writers[0], &stand.aggregator];
    for service in services {
        let run = |args: &[&str]| Command::new(&service.binary).args(args).output();
        let (good, bad) = (good.display().to_string(), bad.display().to_string());
        let fine = run(&["--config", &good, "--check"])?;
        assert_eq!(fine.status.code(), Some(0), "{}: {fine:?}", service.name);
        for args in [vec!["--config", &bad, "--check"], vec!["--config", &bad]] {
            let refused = run(&args)?;
            assert_eq!(
                refused.status.code(),
                Some(78),
                "{}: {refused:?}",
                service.name
            );
            let said = String::from_utf8_lossy(&refused.stderr);
            for path in [
                "kafka.brokers[0]",
                "kafka.groupID",
                "kafka.batchSize",
                "server.adress",
            ] {
                assert!(
                    said.contains(path),
                    "{}: {path} is not in {said}",
                    service.name
                );
            }
        }
        assert_eq!(
            run(&["--version"])?.status.code(),
            Some(0),
            "{}",
            service.name
        );
        assert_eq!(run(&["--help"])?.status.code(), Some(0), "{}", service.name);
    }
    dir.passed()
}
