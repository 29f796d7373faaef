//! What cannot go yet: it costs little to look at, and nothing is sent before it may be.

use std::{sync::Arc, time::Duration};

use dev_broker::{Api, Fault, error_code};
use ingest_gateway::{
    decode::RecordBatch,
    dlq::{FileLimits, Files, Head, Reason, entries},
};
use pipeline_core::{
    BatchId, Offset, PartitionId,
    fsx::{Step, faults},
};

use crate::{
    dead_letters::take_kafka_away,
    harness::{Stage, TOPIC, record, records},
    waiting::until,
};

const EIO: i32 = 5;

const LIMITS: FileLimits = FileLimits {
    bytes_max: 1 << 26,
    file_bytes_max: 1 << 26,
};

fn never_sent(batch: BatchId) -> Head {
    Head {
        reason: Reason::KafkaAway,
        may_have_been_sent: false,
        partition: None,
        since: None,
        batch,
        received_ms: 1,
        stored_ms: 2,
        cluster_id: "".into(),
        topic: TOPIC.into(),
    }
}

/// An entry of one record, in a file of its own.
fn store(files: &mut Files, head: &Head) {
    let line = record("a").into_bytes();
    let records = RecordBatch {
        ends: vec![u32::try_from(line.len()).unwrap()],
        lines: line,
        sequences: vec![0],
    };
    for result in files.store(&entries(head, &Arc::new(records), 0)) {
        result.unwrap();
    }
    files.seal();
}

#[tokio::test]
async fn a_partition_that_refuses_costs_a_look_at_one_of_its_files_a_trial() {
    const FILES: u64 = 40;
    let stage = Stage::new(2).await;
    let mut files = Files::open(&stage.dlq_dir(), LIMITS).unwrap();
    let first: Vec<_> = (0..=u8::MAX)
        .map(|n| BatchId([n; 16]))
        .filter(|id| id.partition(2).0 == 0)
        .take(FILES as usize)
        .collect();
    assert_eq!(first.len() as u64, FILES);
    for batch in first {
        store(&mut files, &never_sent(batch));
    }
    drop(files);
    // Lookups are answered, and the other partition is well.
    let refuses = stage.broker.faults().on(Api::Produce).partition("logs", 0);
    refuses
        .always()
        .then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    let opened = faults::under(&stage.dlq_dir())
        .step(Step::Open)
        .name_ends(".pdlq")
        .then(faults::Fault::Takes(Duration::ZERO));
    let gateway = stage.start().await;
    // Three until the circuit opens, then one a trial.
    until("it was tried six times", async || {
        stage.broker.requests_seen(Api::Produce) >= 6
    })
    .await;
    let opened = opened.hits();
    assert!(opened < 2 * FILES, "{opened} files were opened");
    stage.broker.faults().clear();
    let all = usize::try_from(FILES).unwrap();
    assert_eq!(stage.stored_when(all).await.len(), all);
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_answered_from_the_queue_is_not_sent_while_the_disk_may_keep_it_too() {
    let mut stage = Stage::new(1).await;
    stage.config.kafka.async_ack = true;
    let gateway = stage.start().await;
    take_kafka_away(&stage);
    let step = |step| {
        faults::under(&stage.dlq_dir())
            .step(step)
            .name_ends(".pdlq")
    };
    // Those of the file's header, and then of the entry.
    let fsync = step(Step::Sync).nth(2);
    let fsync = fsync.then(faults::Fault::DoneButFails(EIO));
    let cut = step(Step::Truncate).then(faults::Fault::Fails(EIO));
    assert_eq!(gateway.post(&records(["a"])).await.accepted().2, "queue");
    until("the mark is written", async || fsync.hits() > 0).await;
    stage.broker.faults().clear();
    let before = stage.broker.requests_seen(Api::Produce);
    until("it was cut three times", async || cut.hits() >= 3).await;
    let sent = stage.broker.requests_seen(Api::Produce) - before;
    assert_eq!(sent, 0, "the entry on the disk says that it was never sent");
    drop(cut);
    assert_eq!(stage.stored_when(1).await.len(), 1);
    gateway.stop().await;
    let gateway = stage.start().await;
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 1, "nothing of it was left");
}

#[tokio::test]
async fn a_since_of_a_log_that_is_gone_binds_no_copy_in_the_one_that_was_made_anew() {
    let stage = Stage::new(1).await;
    let head = Head {
        may_have_been_sent: true,
        partition: Some(PartitionId(0)),
        // Higher than where the first copies will lie, lower than where the last will.
        since: Some(Offset(2)),
        ..never_sent(BatchId([7; 16]))
    };
    let mut files = Files::open(&stage.dlq_dir(), LIMITS).unwrap();
    store(&mut files, &head);
    drop(files);
    // It happens, each time, and nobody hears of it.
    let unheard = stage.broker.faults().on(Api::Produce).always();
    unheard.then(Fault::DoneButError(error_code::REQUEST_TIMED_OUT));
    let gateway = stage.start().await;
    stage.stored_when(4).await;
    gateway.stop().await;
    stage.broker.faults().clear();
    let before = stage.stored().await.len();
    let gateway = stage.start().await;
    let stored = stage.stored_when(before + 1).await;
    gateway.stop().await;
    let since: Vec<_> = stored.iter().map(|s| s.envelope.since.0).collect();
    assert_eq!(since, vec![0; stored.len()]);
}
