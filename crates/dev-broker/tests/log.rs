//! Produce, fetch and offsets over the wire: what a real broker refuses, cuts, waits for.

mod common;

use bytes::{Bytes, BytesMut};
use common::{Wire, fetch, name, partition_of, produce};
use dev_broker::{Api, Broker, Options, RawBatch, TopicSpec, error_code};
use kafka_protocol::{
    messages::{
        ApiKey, ListOffsetsRequest, OffsetForLeaderEpochRequest, RequestKind, ResponseKind,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
    records::RecordBatchDecoder,
};

fn plain(values: &[&str]) -> Bytes {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    RawBatch::Plain { values }.encode()
}

/// The batch with one change and, if wanted, the checksum right again.
fn changed(batch: &Bytes, seal: bool, change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    change(&mut bytes);
    if seal {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.freeze()
}

fn offsets(records: Option<Bytes>) -> Vec<i64> {
    let mut bytes = records.unwrap_or_default();
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let set = RecordBatchDecoder::decode(&mut bytes).expect("whole batches");
        found.extend(set.records.iter().map(|record| record.offset));
    }
    found
}

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
async fn the_first_batch_comes_whole_and_the_last_may_be_cut() {
    let broker = Broker::start(Options::default().topic("logs", 2))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let batch = plain(&["0123456789"]);
    for partition in 0..2 {
        for _ in 0..3 {
            wire.produce(9, 1, ("logs", partition), batch.clone())
                .await
                .unwrap();
        }
    }
    let len = batch.len() as i32;
    let both = [("logs", 0, 0), ("logs", 1, 0)];
    let mut ask = async |partition_max, max| {
        let mut request = fetch(&both);
        request.max_bytes = max;
        for topic in &mut request.topics {
            topic.partitions[0].partition_max_bytes = partition_max;
        }
        let answer = wire
            .call(ApiKey::Fetch, 12, &RequestKind::Fetch(request))
            .await;
        let ResponseKind::Fetch(answer) = answer.unwrap() else {
            panic!("not an answer to a fetch");
        };
        let lens = answer.responses.iter().map(|topic| {
            let records = topic.partitions[0].records.as_ref();
            records.map_or(0, |records| records.len() as i32)
        });
        lens.collect::<Vec<_>>()
    };
    assert_eq!(
        ask(1, 1).await,
        [len, 0],
        "one batch, so that readers get on"
    );
    assert_eq!(
        ask(len + 7, 10 * len).await,
        [len + 7, len + 7],
        "cut, as files are read"
    );
    assert_eq!(ask(10 * len, 4 * len).await, [3 * len, len]);
    assert_eq!(
        ask(10 * len, 3 * len + 5).await,
        [3 * len, 0],
        "not a piece of a first batch"
    );
    broker.stop().await;
}

#[tokio::test]
async fn a_fetch_waits_until_there_is_something() {
    let broker = Broker::start(Options::default().topic("logs", 2))
        .await
        .unwrap();
    let mut reader = Wire::connect(broker.addr()).await;
    let mut request = fetch(&[("logs", 0, 0), ("logs", 1, 0)]);
    request.max_wait_ms = 600_000;
    let waiting = tokio::spawn(async move {
        let request = RequestKind::Fetch(request);
        reader.call(ApiKey::Fetch, 12, &request).await.unwrap()
    });
    while broker.requests_seen(Api::Fetch) == 0 {
        tokio::task::yield_now().await;
    }
    let mut writer = Wire::connect(broker.addr()).await;
    writer
        .produce(9, 1, ("logs", 1), plain(&["a"]))
        .await
        .unwrap();
    let ResponseKind::Fetch(answer) = waiting.await.unwrap() else {
        panic!("not an answer to a fetch");
    };
    assert_eq!(offsets(partition_of(answer, 1).records), [0]);
    broker.stop().await;
}

#[tokio::test]
async fn a_fetch_that_waits_in_vain_is_answered_in_its_time() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    wire.produce(9, 1, ("logs", 0), plain(&["a"]))
        .await
        .unwrap();
    let mut request = fetch(&[("logs", 0, 0)]);
    request.min_bytes = 1_000_000;
    request.max_wait_ms = 5;
    let answer = wire
        .call(ApiKey::Fetch, 12, &RequestKind::Fetch(request))
        .await;
    let ResponseKind::Fetch(answer) = answer.unwrap() else {
        panic!("not an answer to a fetch");
    };
    assert_eq!(
        offsets(partition_of(answer, 0).records),
        [0],
        "what there is, then"
    );
    broker.stop().await;
}

#[tokio::test]
async fn offsets_outside_of_the_log_are_out_of_range() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    for _ in 0..4 {
        wire.produce(9, 1, ("logs", 0), plain(&["a", "b"]))
            .await
            .unwrap();
    }
    broker.delete_before("logs", 0, 3).unwrap();
    for (offset, error) in [(2, 1), (3, 0), (8, 0), (9, 1), (-1, 1)] {
        let data = wire.fetch("logs", 0, offset).await;
        assert_eq!(data.error_code, error, "offset {offset}");
        assert_eq!((data.log_start_offset, data.high_watermark), (3, 8));
    }
    broker.truncate("logs", 0, 5).unwrap();
    assert_eq!(broker.log_end("logs", 0), Some(4), "whole batches go");
    assert_eq!(
        wire.fetch("logs", 0, 8).await.error_code,
        error_code::OFFSET_OUT_OF_RANGE
    );
    broker.stop().await;
}

#[tokio::test]
async fn only_the_leader_serves_and_old_epochs_are_fenced() {
    let broker = Broker::start(Options::default().nodes(2).topic("logs", 1))
        .await
        .unwrap();
    let servers: Vec<_> = broker.bootstrap_servers();
    let mut one = Wire::connect(servers[0].parse().unwrap()).await;
    let mut two = Wire::connect(servers[1].parse().unwrap()).await;
    one.produce(9, 1, ("logs", 0), plain(&["a"])).await.unwrap();
    let refused = two
        .produce(10, 1, ("logs", 0), plain(&["b"]))
        .await
        .unwrap();
    assert_eq!(refused.error_code, error_code::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(
        refused.current_leader.leader_id.0, 1,
        "version 10 says who leads"
    );
    broker.move_leader("logs", 0, 2).unwrap();
    let moved = one.fetch("logs", 0, 0).await;
    assert_eq!(moved.error_code, error_code::NOT_LEADER_OR_FOLLOWER);
    let kept = two.fetch("logs", 0, 0).await;
    assert_eq!(offsets(kept.records), [0], "the log moves with the leader");
    for (epoch, error) in [
        (0, error_code::FENCED_LEADER_EPOCH),
        (1, 0),
        (2, error_code::UNKNOWN_LEADER_EPOCH),
    ] {
        let mut request = fetch(&[("logs", 0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer = two
            .call(ApiKey::Fetch, 12, &RequestKind::Fetch(request))
            .await;
        let ResponseKind::Fetch(answer) = answer.unwrap() else {
            panic!("not an answer to a fetch");
        };
        assert_eq!(partition_of(answer, 0).error_code, error, "epoch {epoch}");
    }
    two.produce(9, 1, ("logs", 0), plain(&["b"])).await.unwrap();
    let partition = OffsetForLeaderPartition::default()
        .with_current_leader_epoch(1)
        .with_leader_epoch(0);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(name("logs"))
        .with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    let request = RequestKind::OffsetForLeaderEpoch(request);
    let answer = two
        .call(ApiKey::OffsetForLeaderEpoch, 4, &request)
        .await
        .unwrap();
    let ResponseKind::OffsetForLeaderEpoch(answer) = answer else {
        panic!("not an answer to an epoch");
    };
    assert_eq!(
        answer.topics[0].partitions[0].end_offset, 1,
        "where epoch 0 ended"
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
async fn committed_readers_stop_at_open_transactions_and_hear_of_aborted_ones() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let append = |batch: RawBatch| broker.append("logs", 0, &batch).unwrap();
    let values = || vec!["x".to_owned(), "y".to_owned()];
    append(RawBatch::Plain { values: values() });
    append(RawBatch::Transactional {
        producer_id: 7,
        values: values(),
    });
    append(RawBatch::Plain { values: values() });
    let mut committed = async || {
        let mut request = fetch(&[("logs", 0, 0)]);
        request.isolation_level = 1;
        let answer = wire
            .call(ApiKey::Fetch, 12, &RequestKind::Fetch(request))
            .await;
        let ResponseKind::Fetch(answer) = answer.unwrap() else {
            panic!("not an answer to a fetch");
        };
        partition_of(answer, 0)
    };
    let data = committed().await;
    assert_eq!((data.last_stable_offset, data.high_watermark), (2, 6));
    assert_eq!(offsets(data.records), [0, 1], "nothing behind the open one");
    assert_eq!(
        append(RawBatch::Marker {
            producer_id: 7,
            commit: false
        }),
        6
    );
    let data = committed().await;
    assert_eq!(data.last_stable_offset, 7);
    let aborted = data
        .aborted_transactions
        .expect("told to committed readers");
    assert_eq!(
        (
            aborted.len(),
            aborted[0].producer_id.0,
            aborted[0].first_offset
        ),
        (1, 7, 2)
    );
    append(RawBatch::Transactional {
        producer_id: 8,
        values: values(),
    });
    append(RawBatch::Marker {
        producer_id: 8,
        commit: true,
    });
    let data = committed().await;
    assert_eq!(data.last_stable_offset, 10);
    assert_eq!(
        data.aborted_transactions.expect("told").len(),
        1,
        "a commit is no abort"
    );
    let all = wire.fetch("logs", 0, 0).await;
    assert_eq!(all.aborted_transactions, None, "others are not told");
    broker.stop().await;
}

#[tokio::test]
async fn an_offset_is_found_by_time_to_the_record() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    // first and greatest timestamp of each batch; all records of a batch have the first
    for at in [1000_i64, 2000, 3000] {
        let batch = changed(&plain(&["a", "b"]), true, |b| {
            b[27..35].copy_from_slice(&at.to_be_bytes());
            b[35..43].copy_from_slice(&at.to_be_bytes());
        });
        wire.produce(9, 1, ("logs", 0), batch).await.unwrap();
    }
    broker.delete_before("logs", 0, 1).unwrap();
    let cases = [
        (-2, 1, -1),
        (-1, 6, -1),
        (0, 1, 1000),
        (1000, 1, 1000),
        (1001, 2, 2000),
        (3000, 4, 3000),
        (3001, -1, -1),
        (-3, 4, 3000),
    ];
    for (time, offset, timestamp) in cases {
        let partition = ListOffsetsPartition::default().with_timestamp(time);
        let topic = ListOffsetsTopic::default()
            .with_name(name("logs"))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        let request = RequestKind::ListOffsets(request);
        let answer = wire.call(ApiKey::ListOffsets, 7, &request).await.unwrap();
        let ResponseKind::ListOffsets(answer) = answer else {
            panic!("not an answer to offsets");
        };
        let found = &answer.topics[0].partitions[0];
        assert_eq!(
            (found.offset, found.timestamp),
            (offset, timestamp),
            "time {time}"
        );
    }
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
