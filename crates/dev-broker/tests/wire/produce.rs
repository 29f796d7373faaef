//! Produce and topics: what a real broker refuses, what it keeps.

use bytes::Bytes;
use dev_broker::{Broker, Options, TopicSpec, error_code};
use kafka_protocol::messages::ApiKey;

use crate::{
    batches::{changed, offsets, plain},
    client::{Wire, produce},
};

#[tokio::test]
async fn a_batch_that_a_real_broker_refuses_is_refused_and_not_kept() {
    let spec = TopicSpec::new("small", 1).setting("max.message.bytes", "200");
    let options = Options {
        topics: vec![spec],
        ..Options::default()
    };
    let options = options.topic("logs", 1);
    let broker = Broker::start(options).await.unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let good = plain(&["a", "b"]);
    let twice = [&good[..], &good[..]].concat();
    let ahead = i64::MAX.to_be_bytes();
    let cases: Vec<(&str, i16, i16, &str, Bytes, i16)> = vec![
        (
            "a flipped bit",
            9,
            -1,
            "logs",
            changed(&good, false, |b| b[64] ^= 1),
            2,
        ),
        ("cut short", 9, -1, "logs", good.slice(..good.len() - 1), 2),
        ("nothing", 9, -1, "logs", Bytes::new(), 2),
        ("two batches", 9, -1, "logs", Bytes::from(twice), 87),
        (
            "a wrong count",
            9,
            -1,
            "logs",
            changed(&good, true, |b| b[60] = 3),
            87,
        ),
        (
            "no records",
            9,
            -1,
            "logs",
            changed(&good, true, |b| b[60] = 0),
            87,
        ),
        (
            "a control batch",
            9,
            -1,
            "logs",
            changed(&good, true, |b| b[22] |= 0x20),
            87,
        ),
        (
            "a transaction",
            9,
            -1,
            "logs",
            changed(&good, true, |b| b[22] |= 0x10),
            48,
        ),
        (
            "magic 1",
            9,
            -1,
            "logs",
            changed(&good, true, |b| b[16] = 1),
            43,
        ),
        (
            "codec 5",
            9,
            -1,
            "logs",
            changed(&good, true, |b| b[22] |= 5),
            76,
        ),
        (
            "zstd before its time",
            6,
            -1,
            "logs",
            changed(&good, true, |b| b[22] |= 4),
            76,
        ),
        (
            "from the far future",
            9,
            -1,
            "logs",
            changed(&good, true, |b| b[35..43].copy_from_slice(&ahead)),
            32,
        ),
        ("acks 2", 9, 2, "logs", good.clone(), 21),
        ("an unknown topic", 9, -1, "absent", good.clone(), 3),
        (
            "too large for the topic",
            9,
            -1,
            "small",
            plain(&["x"; 100]),
            10,
        ),
        (
            "too large for the broker",
            9,
            -1,
            "logs",
            plain(&[&"x".repeat(1_048_588)]),
            10,
        ),
    ];
    for (what, version, acks, topic, batch, error) in cases {
        let answer = wire
            .produce(version, acks, (topic, 0), batch)
            .await
            .unwrap();
        assert_eq!(answer.error_code, error, "{what}");
        assert_eq!(answer.base_offset, -1, "{what}");
    }
    assert_eq!(broker.log_end("logs", 0), Some(0));
    assert_eq!(broker.log_end("small", 0), Some(0));
    let answer = wire.produce(9, -1, ("logs", 0), good).await.unwrap();
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    broker.stop().await;
}

#[tokio::test]
async fn without_acknowledgement_there_is_no_answer_and_an_error_ends_the_connection() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let request = produce(0, &[("logs", 0, plain(&["a"]))]);
    wire.send(ApiKey::Produce, 9, &request).await.unwrap();
    let data = wire.fetch("logs", 0, 0).await;
    assert_eq!(
        offsets(data.records),
        [0],
        "the next answer is the next request's"
    );
    let request = produce(0, &[("absent", 0, plain(&["a"]))]);
    wire.send(ApiKey::Produce, 9, &request).await.unwrap();
    wire.receive_frame().await.expect_err("closed");
    broker.stop().await;
}

#[tokio::test]
async fn offsets_are_given_in_the_stored_batch_and_the_checksum_stays() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    for round in 0..3 {
        let answer = wire
            .produce(9, 1, ("logs", 0), plain(&["a", "b"]))
            .await
            .unwrap();
        assert_eq!(answer.base_offset, round * 2);
    }
    let data = wire.fetch("logs", 0, 3).await;
    assert_eq!(data.high_watermark, 6);
    assert_eq!(
        offsets(data.records),
        [2, 3, 4, 5],
        "from the batch that holds it"
    );
    broker.stop().await;
}

#[tokio::test]
async fn too_few_replicas_in_sync_refuse_a_write_that_wants_all() {
    let spec = TopicSpec::new("safe", 1).setting("min.insync.replicas", "2");
    let options = Options {
        topics: vec![spec],
        ..Options::default().nodes(2)
    };
    let broker = Broker::start(options).await.unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let answer = wire
        .produce(9, -1, ("safe", 0), plain(&["a"]))
        .await
        .unwrap();
    assert_eq!(answer.error_code, 0);
    broker.stop_node(2).unwrap();
    let answer = wire
        .produce(9, -1, ("safe", 0), plain(&["a"]))
        .await
        .unwrap();
    assert_eq!(answer.error_code, error_code::NOT_ENOUGH_REPLICAS);
    let answer = wire
        .produce(9, 1, ("safe", 0), plain(&["a"]))
        .await
        .unwrap();
    assert_eq!(answer.error_code, 0, "the leader alone was asked for");
    broker.start_node(2).await.unwrap();
    let answer = wire
        .produce(9, -1, ("safe", 0), plain(&["a"]))
        .await
        .unwrap();
    assert_eq!(answer.error_code, 0);
    broker.stop().await;
}

#[tokio::test]
async fn retention_by_bytes_drops_the_oldest_batches() {
    let spec = TopicSpec::new("short", 1).setting("retention.bytes", "300");
    let options = Options {
        topics: vec![spec],
        ..Options::default()
    };
    let broker = Broker::start(options).await.unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let batch = plain(&["0123456789"]);
    for _ in 0..20 {
        wire.produce(9, 1, ("short", 0), batch.clone())
            .await
            .unwrap();
    }
    let kept = 300 / batch.len() as i64;
    assert_eq!(broker.log_start("short", 0), Some(20 - kept));
    assert_eq!(broker.log_end("short", 0), Some(20));
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_made_again_is_empty_and_another() {
    let broker = Broker::start(Options::default().topic("logs", 3))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    wire.produce(9, 1, ("logs", 2), plain(&["a"]))
        .await
        .unwrap();
    let before = broker.topic_id("logs").unwrap();
    broker.recreate_topic("logs").unwrap();
    assert_ne!(broker.topic_id("logs").unwrap(), before);
    assert_eq!(broker.log_end("logs", 2), Some(0));
    assert_eq!(broker.log_end("logs", 3), None);
    broker.grow_topic("logs", 4).unwrap();
    assert_eq!(broker.log_end("logs", 3), Some(0));
    broker.delete_topic("logs").unwrap();
    assert_eq!(
        wire.fetch("logs", 0, 0).await.error_code,
        error_code::UNKNOWN_TOPIC_OR_PARTITION
    );
    broker.stop().await;
}
