//! Snapshots of the duplicate window, and chains whose beginning is removed behind them.

use std::{
    fs,
    time::{Duration, Instant},
};

use kafka_consumer_writer::{
    load::load,
    snapshots::{SEGMENTS_MAX, make},
};
use pipeline_core::{
    Offset, PartitionId,
    fsx::{
        Step,
        faults::{Fault, under},
    },
    store::Chain,
};

use crate::rig::{Rig, wait_for};

const WINDOW: usize = 250_000;

/// A chain of as many segments as `batches`, each of ten records.
async fn chain_of(rig: &Rig, batches: u64) -> Chain {
    let ten: Vec<u32> = (0..10).collect();
    let writer = rig.writer("", "flushSize: 10");
    for batch in 0..batches {
        rig.send(0, batch, &ten, 0).await;
        rig.caught_up().await;
    }
    writer.stop().await;
    rig.chain(0)
}

fn spoil(path: &std::path::Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_removed_segments_copies_are_still_known_and_the_books_go_on() {
    let rig = Rig::new(1).await;
    let chain = chain_of(&rig, 5).await;
    let all = load(&chain, WINDOW).expect("whole").expect("begun");
    make(&chain, WINDOW).expect("made");
    let removal = chain.remove_before(Offset(i64::MAX), &mut || true);
    assert_eq!(removal.expect("removed").segments, 4);
    let left = load(&chain, WINDOW).expect("whole").expect("begun");
    assert_eq!(left.memory.window, all.memory.window);
    assert_eq!(left.memory.end, all.memory.end);
    assert_eq!((left.behind, left.names.len()), (0, 1));

    let ten: Vec<u32> = (0..10).collect();
    let writer = rig.writer("", "");
    for batch in 0..5 {
        rig.send(0, batch, &ten, 0).await;
    }
    rig.send(0, 9, &[0], 0).await;
    rig.caught_up().await;
    writer.stop().await;
    let totals = rig.totals();
    assert_eq!((totals.stored, totals.duplicate), (51, 50));
    assert_eq!(totals.sum(), 101, "the books count from the beginning");
    // Verified from the watermark on.
    let stored = rig.stored();
    assert_eq!(stored.len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_snapshot_costs_nothing_and_two_halt_where_segments_are_gone() {
    let rig = Rig::new(2).await;
    let chain = chain_of(&rig, 3).await;
    make(&chain, WINDOW).expect("made");
    let files = chain.snapshots().expect("listed");
    let whole: Vec<_> = files
        .iter()
        .map(|file| fs::read(&file.path).expect("it is there"))
        .collect();
    // Nothing is gone yet: the trailers say as much as the snapshots.
    for file in &files {
        spoil(&file.path);
    }
    assert_eq!(
        load(&chain, WINDOW).expect("whole").expect("begun").behind,
        3
    );
    fs::write(&files[0].path, &whole[0]).expect("written");
    fs::write(&files[1].path, &whole[1]).expect("written");
    chain
        .remove_before(Offset(i64::MAX), &mut || true)
        .expect("removed");
    spoil(&files[0].path);
    assert_eq!(
        load(&chain, WINDOW).expect("whole").expect("begun").behind,
        0
    );
    spoil(&files[1].path);
    let fault = load(&chain, WINDOW).expect_err("both").to_string();
    assert!(
        fault.contains("no snapshot of the duplicate window"),
        "{fault}"
    );
    assert!(
        fault.contains(&files[1].path.display().to_string()),
        "{fault}"
    );

    rig.send(0, 9, &[0], 0).await;
    rig.send(1, 10, &[0], 0).await;
    let writer = rig.writer("", "");
    writer.halted(&[0]).await;
    wait_for("partition 1 to go on", || rig.next(1) == Some(1)).await;
    writer.stop().await;
    assert_eq!(rig.next(0), Some(30), "nothing is linked");
    fs::write(&files[1].path, &whole[1]).expect("written");
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!(rig.totals().stored, 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_writer_writes_snapshots_and_goes_on_while_its_chain_is_removed_behind_it() {
    let rig = Rig::new(1).await;
    let chain = rig.chain(0);
    let writer = rig.writer("", "flushSize: 5");
    let mut batch = 0;
    let mut removed = 0;
    while removed < 20 {
        let sequences: Vec<u32> = (0..10).collect();
        rig.send(0, batch, &sequences, 0).await;
        if batch > 3 {
            // A copy of something that may be behind the watermark.
            rig.send(0, batch / 2, &sequences[3..6], 0).await;
        }
        batch += 1;
        rig.caught_up().await;
        let removal = chain.remove_before(Offset(i64::MAX), &mut || true);
        removed += removal.expect("removed").segments;
    }
    writer.stop().await;
    let totals = rig.totals();
    assert_eq!(totals.stored, 10 * batch);
    assert_eq!(totals.duplicate, 3 * (batch - 4));
    assert!(
        (rig.stored().len() as u64) < totals.stored,
        "and the rest is whole"
    );
}

/// As if so many segments had been stored since the last one.
fn make_due(writer: &crate::rig::Writer, partition: i32) {
    let mut backlog = writer.shared().snapshots.lock();
    backlog.taken(PartitionId(partition), SEGMENTS_MAX, Instant::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_hangs_holds_up_no_other_partition_and_no_save() {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "persistTimeout: 200ms");
    for partition in 0..2 {
        rig.send_many(partition, partition as u64, 5).await;
    }
    rig.caught_up().await;
    let hung = under(rig.chain(0).dir()).step(Step::Link);
    let hung = hung.name_ends(".window-a").then(Fault::Hangs);
    make_due(&writer, 0);
    wait_for("the hang", || hung.hits() == 1).await;
    make_due(&writer, 1);
    wait_for("the other partition's snapshot", || {
        rig.chain(1).snapshots().expect("listed").len() == 2
    })
    .await;
    make_due(&writer, 0);
    rig.send_many(0, 10, 5).await;
    rig.caught_up().await;
    assert_eq!(hung.hits(), 1, "there is never a second one");
    hung.release();
    wait_for("the snapshot", || {
        rig.chain(0).snapshots().expect("listed").len() >= 2
    })
    .await;
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_writer_halts_where_an_old_segment_goes_missing_and_goes_on_when_it_is_back() {
    let rig = Rig::new(2).await;
    let chain = chain_of(&rig, 3).await;
    make(&chain, WINDOW).expect("made");
    let writer = rig.writer("", "");
    rig.send_many(0, 10, 5).await;
    rig.caught_up().await;
    let (gone, aside) = (chain.segment_path(Offset(10)), rig.dir.path().join("aside"));
    fs::rename(&gone, &aside).expect("moved");
    make_due(&writer, 0);
    writer.halted(&[0]).await;
    rig.send_many(0, 11, 5).await;
    rig.send_many(1, 12, 5).await;
    wait_for("partition 1 to go on", || rig.next(1) == Some(5)).await;
    writer.stop().await;
    fs::rename(&aside, &gone).expect("moved");
    assert_eq!(rig.next(0), Some(35), "nothing is linked behind it");
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!(rig.totals().stored, 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_one_who_died_had_taken_from_its_name_is_put_back_at_the_next_start() {
    let rig = Rig::new(1).await;
    let chain = chain_of(&rig, 3).await;
    let path = chain.segment_path(Offset(10));
    let name = path.file_name().expect("a name").to_string_lossy();
    let taken = path.with_file_name(format!(".taken-{name}-17-00"));
    fs::rename(&path, &taken).expect("renamed");
    // Until then it may be his who lives.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let writer = rig.writer("", "persistTimeout: 10ms");
    wait_for("it to be put back", || path.exists() && !taken.exists()).await;
    writer.kill().await;
    let writer = rig.writer("", "");
    rig.send_many(0, 10, 5).await;
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!(rig.totals().stored, 35);
}
