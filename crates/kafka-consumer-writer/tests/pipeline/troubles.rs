//! Kafka and the disk at their worst.

use std::fs;

use dev_broker::{Api, Fault};
use kafka_consumer_writer::service::ServiceError;

use crate::rig::{Rig, TOPIC, wait_for};

const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const NOT_LEADER: i16 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_thrown_out_comes_back_and_nothing_is_twice() {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "flushSize: 16");
    let mut sent = Vec::new();
    for batch in 0..60 {
        let sequences: Vec<u32> = (0..30).collect();
        rig.send((batch % 2) as i32, batch, &sequences, 0).await;
        sent.extend(sequences.iter().map(|sequence| (batch, *sequence)));
        let faults = rig.broker.faults();
        match batch % 20 {
            5 => {
                faults
                    .on(Api::OffsetCommit)
                    .nth(1)
                    .then(Fault::AnswerError(UNKNOWN_MEMBER_ID));
            }
            10 => {
                faults
                    .on(Api::Heartbeat)
                    .nth(1)
                    .then(Fault::AnswerError(REBALANCE_IN_PROGRESS));
            }
            15 => {
                faults
                    .on(Api::Fetch)
                    .nth(1)
                    .then(Fault::AnswerError(NOT_LEADER));
                faults
                    .on(Api::OffsetCommit)
                    .nth(1)
                    .then(Fault::DoneButError(REBALANCE_IN_PROGRESS));
            }
            _ => {}
        }
    }
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_away_for_a_while_costs_only_time() {
    let rig = Rig::new(1).await;
    let cut = || {
        let faults = rig.broker.faults();
        let all = faults.on_any().client_id("kafka-consumer").always();
        all.then(Fault::Cut)
    };
    // Before it has begun, and once it runs.
    let down = cut();
    let writer = rig.writer("", "");
    wait_for("calls that are cut", || down.hits() > 2).await;
    down.remove();
    rig.send(0, 1, &[0], 0).await;
    rig.caught_up().await;
    let down = cut();
    rig.send(0, 2, &[0], 0).await;
    wait_for("calls that are cut", || down.hits() > 5).await;
    down.remove();
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact([(1, 0), (2, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_fails_leaves_a_copy_and_is_tried_until_it_lands() {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "");
    rig.send(0, 1, &[0, 1], 0).await;
    rig.send(1, 2, &[0], 0).await;
    rig.caught_up().await;
    // Where the partition's directory was stands a file: nothing can be written there.
    let dir = rig.chain(0).dir().to_owned();
    let away = rig.dir.path().join("away");
    fs::rename(&dir, &away).expect("moved");
    fs::write(&dir, b"").expect("in its place");
    rig.send(0, 3, &[0, 1], 0).await;
    rig.send(1, 4, &[0], 0).await;
    wait_for("a copy", || !rig.dead_letter_files("unsaved-").is_empty()).await;
    let name = rig.dead_letter_files("unsaved-")[0].display().to_string();
    assert!(
        name.ends_with("unsaved-logs-p00000-00000000000000000002-00000000000000000004.dlq"),
        "{name}"
    );
    wait_for("the other partition to go on", || rig.next(1) == Some(2)).await;
    assert_eq!(rig.committed(0).expect("claimed").0, 2);
    fs::remove_file(&dir).expect("removed");
    fs::rename(&away, &dir).expect("moved back");
    rig.caught_up().await;
    wait_for("the copy to go", || {
        rig.dead_letter_files("unsaved-").is_empty()
    })
    .await;
    writer.stop().await;
    rig.check_exact([(1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (4, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_is_refused() {
    let rig = Rig::new(1).await;
    rig.broker
        .set_setting(TOPIC, "cleanup.policy", "compact")
        .expect("set");
    let refused = rig.writer("", "").ended().await;
    assert!(
        matches!(refused, Err(ServiceError::Unfit { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_waited_for() {
    let rig = Rig::new(1).await;
    rig.broker.delete_topic(TOPIC).expect("gone");
    let writer = rig.writer("", "");
    let asked = rig.broker.requests_seen(Api::Metadata);
    wait_for("the writer to look", || {
        rig.broker.requests_seen(Api::Metadata) >= asked + 2
    })
    .await;
    rig.broker
        .create_topic(&dev_broker::TopicSpec::new(TOPIC, 1))
        .expect("made");
    rig.producer.forget(TOPIC);
    rig.send(0, 1, &[0], 0).await;
    rig.caught_up().await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buffers_of_a_few_kilobytes_are_enough_to_go_on() {
    let rig = Rig::new(3).await;
    let mut sent = Vec::new();
    for batch in 0..30 {
        let sequences: Vec<u32> = (0..200).collect();
        rig.send((batch % 3) as i32, batch, &sequences, 0).await;
        sent.extend(sequences.iter().map(|sequence| (batch, *sequence)));
    }
    let writer = rig.writer(
        "consumers: 2",
        "bufferBytes: 1MiB; flushSize: 100000; flushInterval: 20ms",
    );
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact(sent);
}
