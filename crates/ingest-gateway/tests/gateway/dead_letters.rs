//! Kafka away, disks full: where accepted records are kept, and that they come out again once.

use std::{collections::BTreeSet, time::Duration};

use dev_broker::{Api, Fault, RuleHandle, error_code};
use ingest_gateway::dlq::{FileLimits, Files, Reason, load::visit, names::Listing};
use pipeline_core::{
    fsx::{Step, faults},
    lifecycle::exit,
};

use crate::{
    harness::{Stage, key_for, record, records},
    waiting::until,
};

/// Kafka away for good: produce fails at once.
pub fn take_kafka_away(stage: &Stage) -> RuleHandle {
    let produce = stage.broker.faults().on(Api::Produce).always();
    produce.then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS))
}

#[tokio::test]
async fn what_kafka_does_not_take_is_kept_and_delivered_later_with_its_identity() {
    let stage = Stage::new(2).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let mut ids = BTreeSet::new();
    for n in 0..5 {
        let paths = [format!("{n}-a"), format!("{n}-b")];
        let heard = gateway
            .post(&records(paths.iter().map(String::as_str)))
            .await;
        assert_eq!(heard.accepted(), (2, 0, "dlq".to_owned()));
        ids.insert(heard.batch_id());
    }
    assert_eq!(stage.stored().await, []);
    stage.broker.faults().clear();
    let stored = stage.stored_when(10).await;
    assert_eq!(stored.len(), 10);
    let delivered: BTreeSet<_> = stored
        .iter()
        .map(|s| s.envelope.batch.to_string())
        .collect();
    assert_eq!(delivered, ids);
    gateway.stop().await;
    assert_eq!(left(&stage), Vec::<String>::new());
}

#[tokio::test]
async fn a_gateway_starts_with_kafka_away_and_keeps_what_it_accepts() {
    let stage = Stage::new(1).await;
    stage.broker.stop_node(1).unwrap();
    let gateway = stage.start().await;
    assert_eq!(gateway.ask("GET", "/readyz", &[], b"").await.status, 200);
    let heard = gateway.post(&record("a")).await;
    assert_eq!(heard.accepted(), (1, 0, "dlq".to_owned()));
    stage.broker.start_node(1).await.unwrap();
    let stored = stage.stored_when(1).await;
    assert_eq!(stored[0].envelope.batch.to_string(), heard.batch_id());
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_kept_outlives_the_process() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let heard = gateway.post(&records(["a", "b"])).await;
    assert_eq!(heard.accepted().2, "dlq");
    gateway.stop().await;
    let gateway = stage.start().await;
    assert_eq!(heard.accepted().0, 2);
    stage.broker.faults().clear();
    let stored = stage.stored_when(2).await;
    assert!(
        stored
            .iter()
            .all(|s| s.envelope.batch.to_string() == heard.batch_id())
    );
    gateway.stop().await;
    let gateway = stage.start().await;
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 2, "nothing is sent twice");
}

#[tokio::test]
async fn a_batch_that_may_be_in_kafka_comes_out_with_the_envelope_it_went_with() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    assert_eq!(gateway.post(&records(["before"])).await.status, 202);
    // It happens, each time, and is reported as a timeout.
    stage
        .broker
        .faults()
        .on(Api::Produce)
        .always()
        .then(Fault::DoneButError(error_code::REQUEST_TIMED_OUT));
    let heard = gateway.post(&records(["a"])).await;
    assert_eq!(heard.accepted().2, "dlq");
    let sent = stage.stored().await.len();
    stage.broker.faults().clear();
    let stored = stage.stored_when(sent + 1).await;
    let ours: BTreeSet<_> = stored[1..]
        .iter()
        .map(|s| (s.envelope.encode(), s.value.clone()))
        .collect();
    assert_eq!(ours.len(), 1, "every copy has the same envelope");
    assert_eq!(stored[1].envelope.since.0, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn an_entry_that_was_never_sent_gets_a_fresh_since() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let heard = gateway.post(&records(["kept"])).await;
    assert_eq!(heard.accepted().2, "dlq");
    gateway.stop().await;
    // Others go on meanwhile, from another place.
    stage.broker.faults().clear();
    let mut elsewhere = stage.config.clone();
    elsewhere.ingestion.producer_dlq_dir = stage.dir.path().join("elsewhere");
    let other = crate::harness::Stage {
        config: elsewhere,
        ..stage
    };
    let gateway = other.start().await;
    for _ in 0..3 {
        assert_eq!(gateway.post(&records(["other"])).await.status, 202);
    }
    gateway.stop().await;
    let mut back = other.config.clone();
    back.ingestion.producer_dlq_dir = other.dir.path().join("dlq");
    let stage = crate::harness::Stage {
        config: back,
        ..other
    };
    let gateway = stage.start().await;
    let stored = stage.stored_when(4).await;
    let kept = stored.iter().find(|s| s.value.contains("/kept")).unwrap();
    assert_eq!(kept.envelope.since.0, 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_circuit_that_is_open_costs_no_batch_an_attempt() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    assert_eq!(gateway.post(&records(["a"])).await.accepted().2, "dlq");
    let before = stage.broker.requests_seen(Api::Produce);
    for _ in 0..50 {
        assert_eq!(gateway.post(&records(["b"])).await.accepted().2, "dlq");
    }
    // Trials of the half-open circuit, one at a time.
    let attempts = stage.broker.requests_seen(Api::Produce) - before;
    assert!(attempts < 25, "{attempts} attempts for 50 batches");
    gateway.stop().await;
}

#[tokio::test]
async fn a_partition_that_is_away_does_not_hold_up_the_others() {
    let stage = Stage::new(2).await;
    let gateway = stage.start().await;
    let everywhere = take_kafka_away(&stage);
    let body = records(["a"]);
    // The one that stays away is the oldest, too.
    for partition in [0, 0, 1, 0, 1] {
        let key = key_for(&body, 2, partition);
        let heard = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
        assert_eq!(heard.accepted().2, "dlq");
    }
    stage
        .broker
        .faults()
        .on(Api::Produce)
        .partition("logs", 0)
        .always()
        .then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    everywhere.remove();
    let stored = stage.stored_when(2).await;
    assert!(stored.iter().all(|s| s.partition.0 == 1), "{stored:?}");
    stage.broker.faults().clear();
    assert_eq!(stage.stored_when(5).await.len(), 5);
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_queue_of_dead_letters_is_503_and_nothing_is_stored() {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.producer_dlq_max_bytes = 600 * 1024;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    // Random, so that what is stored is not much smaller.
    let mut rng = fastrand::Rng::with_seed(7);
    let mut kept = 0;
    let refused = loop {
        let path: String = (0..50_000).map(|_| rng.alphanumeric()).collect();
        let heard = gateway.post(&record(&path)).await;
        if heard.status != 202 {
            break heard;
        }
        kept += 1;
        assert!(kept < 100, "no bound");
    };
    assert_eq!(refused.problem(), (503, "nowhere_to_keep".to_owned()));
    assert!(refused.headers.contains_key("retry-after"));
    stage.broker.faults().clear();
    let stored = stage.stored_when(kept).await;
    assert_eq!(stored.len(), kept);
    gateway.stop().await;
}

#[tokio::test]
async fn refused_by_both_after_a_send_is_an_unknown_outcome() {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.producer_dlq_max_bytes = 0;
    let gateway = stage.start().await;
    stage
        .broker
        .faults()
        .on(Api::Produce)
        .always()
        .then(Fault::DoneButError(error_code::REQUEST_TIMED_OUT));
    let heard = gateway.post(&records(["a"])).await;
    assert_eq!(heard.problem(), (503, "unknown_outcome".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn two_gateways_do_not_share_a_directory() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let error = stage.try_start().await.err().expect("it must not start");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    assert_eq!(error.exit_code(), exit::TRY_LATER);
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_waits_for_a_directory_that_is_given_back_soon() {
    let stage = Stage::new(1).await;
    let limits = FileLimits {
        bytes_max: 1 << 20,
        file_bytes_max: 1 << 20,
    };
    let held = Files::open(&stage.dlq_dir(), limits).unwrap();
    let given_back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(held);
    };
    let (gateway, ()) = tokio::join!(stage.try_start(), given_back);
    gateway.unwrap().stop().await;
}

#[tokio::test]
async fn entries_for_another_topic_stay_where_they_are() {
    let mut stage = Stage::with(
        dev_broker::Options::default()
            .topic("logs", 1)
            .topic("others", 1),
    )
    .await;
    stage.config.kafka.topic = "others".to_owned();
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    assert_eq!(
        gateway.post(&records(["foreign"])).await.accepted().2,
        "dlq"
    );
    gateway.stop().await;
    stage.config.kafka.topic = "logs".to_owned();
    let gateway = stage.start().await;
    assert_eq!(gateway.post(&records(["ours"])).await.accepted().2, "dlq");
    stage.broker.faults().clear();
    let stored = stage.stored_when(1).await;
    assert!(stored[0].value.contains("/ours"));
    gateway.stop().await;
    assert_ne!(left(&stage), Vec::<String>::new());
    // Its own gateway delivers it.
    stage.config.kafka.topic = "others".to_owned();
    let gateway = stage.start().await;
    until("the other topic has it", async || {
        stage.broker.log_end("others", 0) == Some(1)
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_damaged_file_loses_only_what_is_damaged_and_does_not_stop_a_start() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    for path in ["a", "b", "c"] {
        assert_eq!(gateway.post(&records([path])).await.accepted().2, "dlq");
    }
    gateway.stop().await;
    let file = left(&stage)
        .into_iter()
        .find(|name| name.ends_with(".pdlq"))
        .unwrap();
    let path = stage.dlq_dir().join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    stage.broker.faults().clear();
    let gateway = stage.start().await;
    let stored = stage.stored_when(2).await;
    let paths: BTreeSet<_> = stored.iter().map(|s| s.value.clone()).collect();
    assert_eq!(paths, [record("a"), record("c")].into());
    until("the queue is empty", async || left(&stage).is_empty()).await;
    gateway.stop().await;
    let aside = stage.dlq_dir().join("damaged");
    assert_eq!(std::fs::read_dir(aside).unwrap().count(), 1, "set aside");
}

#[tokio::test]
async fn nothing_is_sent_whose_mark_is_not_durable() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    assert_eq!(gateway.post(&records(["a"])).await.accepted().2, "dlq");
    gateway.stop().await;
    stage.broker.faults().clear();
    for copy in [".pdlm", ".pdlm2"] {
        let fails = faults::under(&stage.dlq_dir())
            .step(Step::Sync)
            .name_ends(copy)
            .then(faults::Fault::DoneButFails(EIO));
        let before = stage.broker.requests_seen(Api::Produce);
        let gateway = stage.start().await;
        // The end of its file, and then the mark of the send.
        until("it has failed twice", async || fails.hits() >= 2).await;
        gateway.stop().await;
        assert_eq!(stage.broker.requests_seen(Api::Produce), before, "{copy}");
    }
    let gateway = stage.start().await;
    assert_eq!(stage.stored_when(1).await.len(), 1);
    gateway.stop().await;
}

/// Why the entries that are left are here.
pub fn reasons(stage: &Stage) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let dir = stage.dlq_dir();
    for file in Listing::read(&dir).unwrap().files {
        // It may leave meanwhile.
        let _ = visit(&dir, &file, &mut |entry| reasons.push(entry.head.reason));
    }
    reasons
}

const EIO: i32 = 5;

/// Data and marks that are still in the directory.
pub fn left(stage: &Stage) -> Vec<String> {
    std::fs::read_dir(stage.dlq_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".pdl"))
        .collect()
}
