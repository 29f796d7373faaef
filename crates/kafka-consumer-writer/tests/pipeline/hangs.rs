//! A disk that hangs, and one that is slow.

use std::time::Duration;

use dev_broker::{Api, Fault as Trouble};
use kafka_consumer_writer::service::ServiceError;
use pipeline_core::fsx::{
    Step,
    faults::{Fault, Rule, under},
};

use crate::{
    raw,
    rig::{Rig, TOPIC, wait_for},
};

const REBALANCE_IN_PROGRESS: i16 = 27;

/// Changes nothing; counts.
fn counted(dir: &std::path::Path, step: Step) -> Rule {
    under(dir).step(step).then(Fault::Takes(Duration::ZERO))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_comes_later_than_its_timeout_is_said_and_stored_once() {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "persistTimeout: 50ms; flushInterval: 10ms");
    let mut sent = rig.send_many(0, 1, 1).await;
    rig.caught_up().await;
    let dir = rig.chain(0).dir().to_owned();
    let tries = counted(&dir, Step::Create);
    let hung = under(&dir).step(Step::Sync).then(Fault::Hangs);
    sent.extend(rig.send_many(0, 2, 5).await);
    wait_for("a copy", || !rig.dead_letter_files("unsaved-").is_empty()).await;
    // What comes meanwhile waits, in order, and the other partition does not.
    sent.extend(rig.send_many(0, 3, 5).await);
    sent.extend(rig.send_many(1, 4, 5).await);
    wait_for("the other partition", || rig.next(1) == Some(5)).await;
    assert_eq!((hung.hits(), tries.hits()), (1, 1), "it is not given up");
    assert_eq!(rig.committed(0).expect("claimed").0, 1);
    hung.release();
    rig.caught_up().await;
    wait_for("the copy to go", || {
        rig.dead_letter_files("unsaved-").is_empty()
    })
    .await;
    writer.stop().await;
    rig.check_in_order(&sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn rebalances_on_a_hung_disk_leave_no_further_work_behind_and_the_others_go_on() {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "persistTimeout: 50ms; flushInterval: 10ms");
    let mut sent = rig.send_many(0, 1, 1).await;
    rig.caught_up().await;
    let dir = rig.chain(0).dir().to_owned();
    let places = writer.shared().disk.available_permits();
    let hung = under(&dir).step(Step::Sync).then(Fault::Hangs);
    sent.extend(rig.send_many(0, 2, 5).await);
    wait_for("the hang", || hung.hits() == 1).await;
    for batch in 10..14 {
        let joins = rig.broker.requests_seen(Api::JoinGroup);
        let faults = rig.broker.faults();
        let beat = faults.on(Api::Heartbeat).nth(1);
        beat.then(Trouble::AnswerError(REBALANCE_IN_PROGRESS));
        wait_for("a rebalance", || {
            rig.broker.requests_seen(Api::JoinGroup) > joins
        })
        .await;
        sent.extend(rig.send_many(1, batch, 5).await);
        wait_for("the other partition", || {
            rig.next(1) == Some(rig.log_end(1))
        })
        .await;
    }
    wait_for("one thread alone in the disk", || {
        writer.shared().disk.available_permits() == places - 1
    })
    .await;
    hung.release();
    rig.caught_up().await;
    writer.stop().await;
    rig.check_in_order(&sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_queue_that_hangs_holds_up_only_partitions_with_poison() {
    let partitions = 12;
    let rig = Rig::new(partitions).await;
    let writer = rig.writer("", "persistTimeout: 50ms; flushInterval: 10ms");
    let mut sent = rig.send_many(0, 1, 1).await;
    rig.caught_up().await;
    let dlq = rig.dir.path().join("dlq/consumer");
    let hung = under(&dlq).then(Fault::Hangs);
    let poison = raw::one(Some(b"not json"), &[]);
    // More of them than the machine has cores.
    for partition in 0..partitions - 1 {
        rig.broker
            .append_raw(TOPIC, partition, &poison)
            .expect("appended");
        sent.extend(rig.send_many(partition, 10 + partition as u64, 1).await);
    }
    wait_for("the hang", || hung.hits() > 0).await;
    for batch in 100..110 {
        sent.extend(rig.send_many(partitions - 1, batch, 5).await);
        wait_for("the partition without poison", || {
            rig.next(partitions - 1) == Some(rig.log_end(partitions - 1))
        })
        .await;
    }
    assert_eq!(rig.next(0), Some(1));
    hung.release();
    rig.caught_up().await;
    writer.stop().await;
    rig.check_in_order(&sent);
    let kept = rig.dead_letters();
    assert_eq!(kept.len(), partitions as usize - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_hung_disk_beyond_its_deadline() {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "flushInterval: 10ms; shutdownTimeout: 500ms");
    let mut sent = rig.send_many(0, 1, 1).await;
    rig.caught_up().await;
    let hung = under(rig.chain(0).dir()).step(Step::Sync);
    let hung = hung.then(Fault::Hangs);
    sent.extend(rig.send_many(0, 2, 5).await);
    sent.extend(rig.send_many(1, 3, 5).await);
    wait_for("the hang", || hung.hits() == 1).await;
    wait_for("the other partition", || rig.next(1) == Some(5)).await;
    writer.shutdown.cancel();
    // Ends while the disk still hangs, and says that not all is saved.
    let ended = writer.ended().await;
    assert!(matches!(ended, Err(ServiceError::NotFlushed)), "{ended:?}");
    // What hung lands behind the back of the next writer, or does not: it is stored once.
    let next = rig.writer("", "flushInterval: 10ms");
    wait_for("the same save by both", || hung.hits() == 2).await;
    hung.release();
    rig.caught_up().await;
    next.stop().await;
    rig.check_in_order(&sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_killed_writer_left_is_durable_before_it_is_claimed() {
    let rig = Rig::new(1).await;
    let killed = rig.writer("", "flushInterval: 10ms");
    let mut sent = rig.send_many(0, 1, 1).await;
    rig.caught_up().await;
    let hung = under(rig.chain(0).dir()).step(Step::SyncDir);
    let hung = hung.then(Fault::Hangs);
    sent.extend(rig.send_many(0, 2, 5).await);
    wait_for("the hang", || hung.hits() == 1).await;
    assert_eq!(rig.next(0), Some(6), "it is linked");
    killed.kill().await;
    let writer = rig.writer("", "flushInterval: 10ms");
    wait_for("the next writer's sync", || hung.hits() == 2).await;
    assert_eq!(rig.committed(0).expect("claimed").0, 1);
    hung.release();
    rig.caught_up().await;
    writer.stop().await;
    rig.check_in_order(&sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_grow_while_saves_are_slow() {
    let rig = Rig::new(1).await;
    let mut sent = Vec::new();
    for batch in 0..40 {
        sent.extend(rig.send_many(0, batch, 1_000).await);
    }
    let dir = rig.chain(0).dir().to_owned();
    let slow = under(&dir).step(Step::Sync);
    let slow = slow.then(Fault::Takes(Duration::from_millis(150)));
    let writer = rig.writer("", "flushSize: 512; flushInterval: 10ms");
    rig.caught_up().await;
    writer.stop().await;
    drop(slow);
    let mut segments = 0;
    let walked = rig.chain(0).walk(None, &mut |_| {
        segments += 1;
        true
    });
    assert!(walked.expect("whole").is_some());
    // 79 of 512 records each would take 12 s of this disk.
    assert!(segments <= 20, "{segments} segments");
    rig.check_in_order(&sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_and_made_takes_no_more_than_its_bytes_whatever_hangs() {
    const BUFFER_BYTES: u64 = 2 << 20;
    let partitions = 24;
    let rig = Rig::new(partitions).await;
    let begins = rig.writer("consumers: 2", "");
    rig.caught_up().await;
    begins.stop().await;
    let mut sent = Vec::new();
    for round in 0..12 {
        for partition in 0..partitions {
            let batch = (round * partitions + partition) as u64;
            sent.extend(rig.send_many(partition, batch, 200).await);
        }
    }
    let consumer = "bufferBytes: 2MiB; persistTimeout: 50ms; flushInterval: 10ms";
    let live = rig.store(rig.dir.path()).root().join("_live");
    let hung = under(&live).step(Step::Sync).then(Fault::Hangs);
    let writer = rig.writer("consumers: 2", consumer);
    let used = || writer.shared().budget.used();
    wait_for("saves that hang", || hung.hits() >= 10).await;
    for _ in 0..50 {
        assert!(used() <= BUFFER_BYTES, "{} bytes", used());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hung.release();
    rig.caught_up().await;
    writer.stop().await;
    rig.check_in_order(&sent);
}
