//! Batches of several dead letters, and records that the topic does not take any more.

use std::collections::BTreeSet;

use dev_broker::{Api, Fault};
use ingest_gateway::dlq::Reason;

use crate::{
    dead_letters::{left, reasons, take_kafka_away},
    harness::{Stage, record, records},
    waiting::until,
};

const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

#[tokio::test]
async fn a_record_too_large_for_the_topic_by_now_stays_alone_and_its_neighbours_go() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let long = "x".repeat(50_000);
    let heard = gateway.post(&records(["a", &long, "b"])).await;
    assert_eq!(heard.accepted(), (3, 0, "dlq".to_owned()));
    gateway.stop().await;
    let limit = |bytes| {
        let topic = crate::harness::TOPIC;
        stage
            .broker
            .set_setting(topic, "max.message.bytes", bytes)
            .unwrap();
    };
    limit("20000");
    stage.broker.faults().clear();
    let gateway = stage.start().await;
    let stored = stage.stored_when(2).await;
    let sequences: Vec<_> = stored.iter().map(|s| s.envelope.sequence).collect();
    assert_eq!(sequences, [0, 2]);
    until("it is put aside as too large", async || {
        reasons(&stage) == [Reason::TooLarge]
    })
    .await;
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 2);
    // It goes with the identity it had once the topic takes it.
    limit("200000");
    let gateway = stage.start().await;
    let stored = stage.stored_when(3).await;
    let long = stored.iter().find(|s| s.value.len() > 50_000).unwrap();
    assert_eq!(long.envelope.sequence, 1);
    assert_eq!(long.envelope.batch.to_string(), heard.batch_id());
    assert_eq!(long.envelope.since, stored[0].envelope.since);
    gateway.stop().await;
    assert_eq!(left(&stage), Vec::<String>::new());
}

#[tokio::test]
async fn a_record_too_large_for_a_topic_whose_settings_nobody_may_read_holds_nothing_up() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let long = "x".repeat(50_000);
    let heard = gateway.post(&records(["a", &long, "b", &long, "c"])).await;
    assert_eq!(heard.accepted(), (5, 0, "dlq".to_owned()));
    gateway.stop().await;
    let limit = |bytes| {
        let topic = crate::harness::TOPIC;
        stage
            .broker
            .set_setting(topic, "max.message.bytes", bytes)
            .unwrap();
    };
    limit("20000");
    stage.broker.faults().clear();
    let rule = stage.broker.faults().on(Api::DescribeConfigs).always();
    rule.then(Fault::AnswerError(TOPIC_AUTHORIZATION_FAILED));
    let gateway = stage.start().await;
    let stored = stage.stored_when(3).await;
    let sequences: Vec<_> = stored.iter().map(|s| s.envelope.sequence).collect();
    assert_eq!(sequences, [0, 2, 4]);
    until("both are put aside as too large", async || {
        reasons(&stage) == [Reason::TooLarge; 2]
    })
    .await;
    gateway.stop().await;
    limit("200000");
    let gateway = stage.start().await;
    let stored = stage.stored_when(5).await;
    let identity = |s: &crate::harness::Stored| (s.envelope.batch, s.envelope.since);
    assert!(stored.iter().all(|s| identity(s) == identity(&stored[0])));
    gateway.stop().await;
    assert_eq!(left(&stage), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_batch_is_kept_in_parts_and_comes_back_as_one() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_body_bytes = 4 << 20;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let heard = gateway.post(&large_body(30)).await;
    assert_eq!(heard.accepted(), (30, 0, "dlq".to_owned()));
    stage.broker.faults().clear();
    let stored = stage.stored_when(30).await;
    let sequences: BTreeSet<_> = stored.iter().map(|s| s.envelope.sequence).collect();
    assert_eq!(sequences, (0..30).collect());
    assert_eq!(stored.len(), 30);
    assert!(
        stored
            .iter()
            .all(|s| s.envelope.batch.to_string() == heard.batch_id())
    );
    gateway.stop().await;
    assert_eq!(left(&stage), Vec::<String>::new());
}

#[tokio::test]
async fn of_a_large_batch_that_does_not_fit_on_the_disk_nothing_is_kept() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_body_bytes = 4 << 20;
    stage.config.ingestion.producer_dlq_max_bytes = 2 << 20;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let heard = gateway.post(&large_body(30)).await;
    assert_eq!(heard.problem(), (503, "nowhere_to_keep".to_owned()));
    let heard = gateway.post(&record("after")).await;
    assert_eq!(heard.accepted(), (1, 0, "dlq".to_owned()));
    stage.broker.faults().clear();
    let stored = stage.stored_when(1).await;
    gateway.stop().await;
    assert_eq!(stored.len(), 1);
    assert_eq!(left(&stage), Vec::<String>::new());
}

/// Records of about 100 KB each: several entries of the dead letter queue.
fn large_body(records: usize) -> String {
    let padding = "x".repeat(100_000);
    let record = |n: usize| record(&format!("{n}-{padding}"));
    let records: Vec<_> = (0..records).map(record).collect();
    format!("[{}]", records.join(","))
}
