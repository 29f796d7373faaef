//! Fetch and offset lookups: what is cut, what is waited for, who may read what.

use std::time::Duration;

use dev_broker::{Api, Broker, Fault, Options, RawBatch, error_code};
use kafka_protocol::messages::{
    ApiKey, ListOffsetsRequest, OffsetForLeaderEpochRequest, RequestKind, ResponseKind,
    fetch_response::PartitionData,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    batches::{changed, offsets, plain},
    client::{Wire, fetch, name, partition_of},
};

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
async fn a_fetch_by_id_is_of_that_topic_and_not_of_the_one_made_anew_under_its_name() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    wire.produce(9, 1, ("logs", 0), plain(&["a"]))
        .await
        .unwrap();
    let by_id = |id: [u8; 16], wait_ms| {
        let mut request = fetch(&[("not looked at", 0, 0)]);
        request.topics[0].topic_id = Uuid::from_bytes(id);
        request.max_wait_ms = wait_ms;
        RequestKind::Fetch(request)
    };
    async fn ask(wire: &mut Wire, request: &RequestKind) -> PartitionData {
        let answer = wire.call(ApiKey::Fetch, 13, request).await.unwrap();
        let (ResponseKind::Fetch(answer), RequestKind::Fetch(request)) = (answer, request) else {
            panic!("not an answer to a fetch");
        };
        assert_eq!(answer.responses[0].topic_id, request.topics[0].topic_id);
        partition_of(answer, 0)
    }
    let first = broker.topic_id("logs").unwrap();
    let answer = ask(&mut wire, &by_id(first, 0)).await;
    assert_eq!(offsets(answer.records), [0]);
    // A fault goes by name and meets a request by id.
    let rule = broker.faults().on(Api::Fetch).partition("logs", 0);
    let rule = rule.then(Fault::AnswerError(error_code::KAFKA_STORAGE_ERROR));
    let answer = ask(&mut wire, &by_id(first, 0)).await;
    assert_eq!(answer.error_code, error_code::KAFKA_STORAGE_ERROR);
    rule.remove();

    let seen = broker.requests_seen(Api::Fetch);
    let mut waiting = by_id(first, 600_000);
    let RequestKind::Fetch(request) = &mut waiting else {
        unreachable!();
    };
    request.topics[0].partitions[0].fetch_offset = 1;
    let mut reader = Wire::connect(broker.addr()).await;
    let waiting = tokio::spawn(async move { ask(&mut reader, &waiting).await });
    while broker.requests_seen(Api::Fetch) == seen {
        tokio::task::yield_now().await;
    }
    broker.recreate_topic("logs").unwrap();
    let answer = timeout(Duration::from_secs(60), waiting).await;
    let code = answer.expect("woken by the deletion").unwrap().error_code;
    // The second where the topic went before the request was looked at.
    assert!(
        [
            error_code::INCONSISTENT_TOPIC_ID,
            error_code::UNKNOWN_TOPIC_ID
        ]
        .contains(&code),
        "{code}"
    );
    wire.produce(9, 1, ("logs", 0), plain(&["b"]))
        .await
        .unwrap();
    let answer = ask(&mut wire, &by_id(first, 0)).await;
    assert_eq!(answer.error_code, error_code::UNKNOWN_TOPIC_ID);
    let second = broker.topic_id("logs").unwrap();
    let answer = ask(&mut wire, &by_id(second, 0)).await;
    assert_eq!(offsets(answer.records), [0]);
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
    // far less than the fetch would wait by itself
    let answer = timeout(Duration::from_secs(60), waiting).await;
    let ResponseKind::Fetch(answer) = answer.expect("woken by the append").unwrap() else {
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
