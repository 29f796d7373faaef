//! A measurement, not a claim: what a replay costs the live requests beside it.
//!
//! `cargo test -p ingest-gateway --test gateway gentle -- --ignored --nocapture`

use std::time::{Duration, Instant};

use dev_broker::{Api, Fault, error_code};

use crate::harness::{Running, Stage, records};

const KEPT: usize = 400;
const RECORDS: usize = 500;
/// Between four requests at once and the next four.
const PAUSE: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: it prints the ratio of the p99 with and without a replay"]
async fn live_p99_beside_a_replay() {
    let mut stage = Stage::new(4).await;
    stage.config.ingestion.producer_dlq_max_bytes = 1 << 30;
    let gateway = stage.start().await;
    let paths: Vec<_> = (0..RECORDS).map(|n| format!("some/path/{n}")).collect();
    let large = records(paths.iter().map(String::as_str));
    let produce = stage.broker.faults().on(Api::Produce).always();
    produce.then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    for _ in 0..KEPT {
        assert_eq!(gateway.post(&large).await.accepted().2, "dlq");
    }
    stage.broker.faults().clear();
    let began = Instant::now();
    let beside = live(&gateway, || stage_is_empty(&stage), 0).await;
    let took = began.elapsed();
    let alone = live(&gateway, || false, beside.len()).await;
    let (p99_beside, p99_alone) = (p99(beside), p99(alone));
    println!(
        "replayed {} records in {took:?}; live p99 {p99_beside:?} beside it, {p99_alone:?} alone: \
         ratio {:.2}",
        KEPT * RECORDS,
        p99_beside.as_secs_f64() / p99_alone.as_secs_f64()
    );
    gateway.stop().await;
}

fn stage_is_empty(stage: &Stage) -> bool {
    ingest_gateway::dlq::names::Listing::read(&stage.dlq_dir())
        .is_ok_and(|left| left.files.is_empty())
}

/// Latencies of small live requests, until `ended`, or `count` of them where that is not 0.
async fn live(gateway: &Running, ended: impl Fn() -> bool, count: usize) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !ended() && (count == 0 || latencies.len() < count) {
        let one = || async {
            let began = Instant::now();
            assert_eq!(gateway.post(&records(["live"])).await.status, 202);
            began.elapsed()
        };
        let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
        latencies.extend([a, b, c, d]);
        tokio::time::sleep(PAUSE).await;
    }
    latencies
}

fn p99(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}
