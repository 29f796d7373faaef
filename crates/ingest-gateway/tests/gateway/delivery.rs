//! What reaches the topic: whole, once where it can be told, with its identity.

use std::{collections::BTreeSet, time::Duration};

use dev_broker::{Api, Fault, error_code};

use crate::{
    harness::{LONG, PATIENT, Stage, key_for, record, records},
    waiting::until,
};

#[tokio::test]
async fn the_same_key_and_body_is_the_same_batch() {
    let stage = Stage::new(4).await;
    let gateway = stage.start().await;
    let key = [("Idempotency-Key", "k1")];
    let first = gateway.post_with(&records(["a", "b"]), &key).await;
    let again = gateway.post_with(&records(["a", "b"]), &key).await;
    let other = gateway.post_with(&records(["a", "c"]), &key).await;
    assert_eq!(first.batch_id(), again.batch_id());
    assert_ne!(first.batch_id(), other.batch_id());
    let stored = stage.stored().await;
    let ours: Vec<_> = stored
        .iter()
        .filter(|s| s.envelope.batch.to_string() == first.batch_id())
        .collect();
    assert_eq!(ours.len(), 4);
    let places: BTreeSet<_> = ours.iter().map(|s| s.partition).collect();
    assert_eq!(places.len(), 1, "copies meet in one partition");
    gateway.stop().await;
}

#[tokio::test]
async fn batches_without_a_key_are_all_different() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let first = gateway.post(&records(["a"])).await;
    let second = gateway.post(&records(["a"])).await;
    assert_ne!(first.batch_id(), second.batch_id());
    gateway.stop().await;
}

#[tokio::test]
async fn since_is_the_partitions_end_before_the_first_send() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    for paths in [["a", "b"], ["c", "d"], ["e", "f"]] {
        assert_eq!(gateway.post(&records(paths)).await.status, 202);
    }
    for stored in stage.stored().await {
        let first = stored.offset.0 / 2 * 2;
        assert_eq!(stored.envelope.since.0, first, "{stored:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_sent_again_with_the_same_envelope() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let rule = stage
        .broker
        .faults()
        .on(Api::Produce)
        .nth(1)
        .then(Fault::DoneButError(error_code::REQUEST_TIMED_OUT));
    let heard = gateway.post(&records(["a", "b"])).await;
    assert_eq!(heard.accepted(), (2, 0, "kafka".to_owned()));
    assert_eq!(rule.hits(), 1);
    let stored = stage.stored().await;
    assert_eq!(stored.len(), 4, "both attempts happened");
    for (first, second) in stored[..2].iter().zip(&stored[2..]) {
        assert_eq!(first.envelope, second.envelope);
        assert_eq!(first.value, second.value);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn failures_that_pass_are_tried_again() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    for code in [
        error_code::NOT_ENOUGH_REPLICAS,
        error_code::NOT_LEADER_OR_FOLLOWER,
    ] {
        let rule = stage
            .broker
            .faults()
            .on(Api::Produce)
            .times(2)
            .then(Fault::AnswerError(code));
        let heard = gateway.post(&records(["a"])).await;
        assert_eq!(heard.accepted().2, "kafka", "{code}");
        assert_eq!(rule.hits(), 2);
        rule.remove();
    }
    assert_eq!(stage.stored().await.len(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_batch_larger_than_a_record_batch_goes_in_pieces_and_is_whole() {
    let mut stage = Stage::new(2).await;
    stage.config.kafka.batch_size = 7;
    let gateway = stage.start().await;
    let paths: Vec<_> = (0..100).map(|n| format!("p{n}")).collect();
    let heard = gateway
        .post(&records(paths.iter().map(String::as_str)))
        .await;
    assert_eq!(heard.accepted(), (100, 0, "kafka".to_owned()));
    let stored = stage.stored().await;
    let sequences: Vec<_> = stored.iter().map(|s| s.envelope.sequence).collect();
    assert_eq!(sequences, (0..100).collect::<Vec<_>>());
    let since: BTreeSet<_> = stored.iter().map(|s| s.envelope.since).collect();
    assert_eq!(since.len(), 1, "one since for all pieces");
    gateway.stop().await;
}

#[tokio::test]
async fn a_topic_that_takes_less_than_it_said_gets_smaller_pieces() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    stage
        .broker
        .set_setting("logs", "max.message.bytes", "2000")
        .unwrap();
    let paths: Vec<_> = (0..50).map(|n| format!("p{n}")).collect();
    let heard = gateway
        .post(&records(paths.iter().map(String::as_str)))
        .await;
    assert_eq!(heard.accepted(), (50, 0, "kafka".to_owned()));
    assert_eq!(stage.stored().await.len(), 50);
    gateway.stop().await;
}

#[tokio::test]
async fn one_batch_that_the_broker_refuses_does_not_take_its_neighbours_along() {
    let mut stage = Stage::new(1).await;
    stage.config.kafka.batch_timeout = LONG;
    stage.config.ingestion.producer_write_timeout = PATIENT;
    let gateway = stage.start().await;
    let faults = stage.broker.faults();
    // While the first is on its way, all that comes waits to go together.
    let first = faults
        .on(Api::Produce)
        .nth(1)
        .then(Fault::Delay(Duration::from_secs(3)));
    let refused = faults.on(Api::Produce).after(1).times(2);
    let refused = refused.then(Fault::AnswerError(87)); // INVALID_RECORD
    let (z, a, b, c) = (
        records(["z"]),
        records(["a"]),
        records(["b"]),
        records(["c"]),
    );
    let others = async {
        until("the first is on its way", async || first.hits() > 0).await;
        tokio::join!(gateway.post(&a), gateway.post(&b), gateway.post(&c))
    };
    let (_, (a, b, c)) = tokio::join!(gateway.post(&z), others);
    assert_eq!(refused.hits(), 2);
    let mut kept: Vec<_> = [a, b, c].iter().map(|heard| heard.accepted().2).collect();
    kept.sort();
    // Together they are refused, then the first alone.
    assert_eq!(kept, ["dlq", "kafka", "kafka"]);
    gateway.stop().await;
}

#[tokio::test]
async fn concurrent_clients_get_each_record_through_once() {
    let stage = Stage::new(3).await;
    let gateway = stage.start().await;
    let clients = (0..8).map(|client| {
        let gateway = &gateway;
        async move {
            for n in 0..25 {
                let paths = [format!("{client}-{n}-a"), format!("{client}-{n}-b")];
                let body = records(paths.iter().map(String::as_str));
                assert_eq!(gateway.post(&body).await.accepted().2, "kafka");
            }
        }
    });
    futures_join(clients).await;
    let stored = stage.stored().await;
    let distinct: BTreeSet<_> = stored.iter().map(|s| &s.value).collect();
    assert_eq!((stored.len(), distinct.len()), (400, 400));
    gateway.stop().await;
}

#[tokio::test]
async fn a_broker_that_hangs_delays_only_what_it_leads() {
    let mut stage = Stage::with(dev_broker::Options::default().nodes(3).topic("logs", 3)).await;
    // Longer than the test waits.
    stage.config.ingestion.producer_write_timeout = Duration::from_secs(100);
    stage.config.server.request_timeout = Duration::from_secs(200);
    stage.config.kafka.batch_timeout = LONG;
    let gateway = stage.start().await;
    let body = records(["a"]);
    let (hung, well) = (key_for(&body, 3, 0), key_for(&body, 3, 1));
    let hung = [("Idempotency-Key", hung.as_str())];
    let well = [("Idempotency-Key", well.as_str())];
    let leader = stage.broker.leader("logs", 0).unwrap();
    assert_ne!(stage.broker.leader("logs", 1), Some(leader));
    // Now there are connections to both.
    assert_eq!(gateway.post_with(&body, &hung).await.accepted().2, "kafka");
    assert_eq!(gateway.post_with(&body, &well).await.accepted().2, "kafka");
    // While this one is on its way, the next two come together.
    let first = stage
        .broker
        .faults()
        .on(Api::Produce)
        .nth(1)
        .then(Fault::Delay(Duration::from_millis(500)));
    let others = async {
        until("the first is on its way", async || first.hits() > 0).await;
        stage.broker.pause_node(leader);
        let mut slow = Box::pin(gateway.post_with(&body, &hung));
        tokio::select! {
            heard = &mut slow => panic!("answered while its broker stood still: {heard:?}"),
            heard = gateway.post_with(&body, &well) => assert_eq!(heard.accepted().2, "kafka"),
        }
        stage.broker.resume_node(leader);
        assert_eq!(slow.await.accepted().2, "kafka");
    };
    tokio::join!(gateway.post_with(&body, &well), others);
    gateway.stop().await;
}

#[tokio::test]
async fn with_async_the_answer_comes_from_the_queue_and_the_records_go_on() {
    let mut stage = Stage::new(1).await;
    stage.config.kafka.async_ack = true;
    let gateway = stage.start().await;
    let heard = gateway.post(&records(["a"])).await;
    assert_eq!(heard.accepted(), (1, 0, "queue".to_owned()));
    stage.stored_when(1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn acks_of_the_leader_alone_are_enough_where_that_is_asked_for() {
    let mut stage = Stage::new(1).await;
    stage.config.kafka.require_all_acks = false;
    let gateway = stage.start().await;
    assert_eq!(gateway.post(&records(["a"])).await.accepted().2, "kafka");
    gateway.stop().await;
}

#[tokio::test]
async fn each_compression_is_read_back() {
    use pipeline_core::config::Compression::{Gzip, Lz4, Snappy, Zstd};
    let mut stage = Stage::new(1).await;
    for (n, compression) in [Gzip, Snappy, Lz4, Zstd].into_iter().enumerate() {
        stage.config.kafka.compression = compression;
        let gateway = stage.start().await;
        assert_eq!(gateway.post(&records(["a", "b"])).await.status, 202);
        assert_eq!(stage.stored().await.len(), 2 * (n + 1), "{compression:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_compacted_topic_is_refused_at_the_start() {
    let stage = Stage::new(1).await;
    stage
        .broker
        .set_setting("logs", "cleanup.policy", "compact")
        .unwrap();
    let error = stage.try_start().await.err().expect("it must not start");
    assert!(error.to_string().contains("cleanup.policy"), "{error}");
    assert_eq!(error.exit_code(), 78);
}

#[tokio::test]
async fn a_missing_topic_is_made_where_that_is_configured() {
    let mut stage = Stage::with(dev_broker::Options::default().nodes(3)).await;
    stage.config.kafka.create_topic = Some(pipeline_core::config::CreateTopic {
        partitions: 2,
        replication_factor: 3,
    });
    let gateway = stage.start().await;
    assert_eq!(gateway.post(&record("a")).await.accepted().2, "kafka");
    gateway.stop().await;
}

/// Runs all side by side.
async fn futures_join(futures: impl IntoIterator<Item = impl Future<Output = ()>>) {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if running.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[tokio::test]
async fn a_pause_does_not_outlast_the_time_of_a_request() {
    let mut stage = Stage::new(1).await;
    stage.config.server.request_timeout = Duration::from_secs(3);
    stage.config.ingestion.producer_retry_backoff = Duration::from_secs(3600);
    let gateway = stage.start().await;
    let produce = stage.broker.faults().on(Api::Produce).always();
    produce.then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    let heard = gateway.post(&records(["a"])).await;
    assert_eq!(heard.accepted(), (1, 0, "dlq".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_record_that_became_too_large_keeps_none_of_its_neighbours() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    // The gateway hears of it later.
    let allow = |bytes| stage.broker.set_setting("logs", "max.message.bytes", bytes);
    allow("20000").unwrap();
    let large = "x".repeat(30_000);
    let body = records(["a", "b", &large, "d", &large, "f"]);
    let heard = gateway.post(&body).await;
    assert_eq!(heard.accepted(), (6, 0, "dlq".to_owned()));
    let sequences = |stored: Vec<crate::harness::Stored>| {
        let sequences = stored.iter().map(|s| s.envelope.sequence);
        sequences.collect::<BTreeSet<_>>()
    };
    assert_eq!(sequences(stage.stored().await), [0, 1, 3, 5].into());
    gateway.stop().await;
    allow("100000").unwrap();
    let gateway = stage.start().await;
    let stored = stage.stored_when(6).await;
    assert!(
        stored
            .iter()
            .all(|s| s.envelope.batch.to_string() == heard.batch_id())
    );
    assert_eq!(sequences(stored), (0..6).collect());
    gateway.stop().await;
}
