//! A segment whose bytes are not those that were written: the partition stands still, nothing is
//! linked behind it, and the others go on.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kafka_consumer_writer::{
    load::{load, load_doubting},
    scrub::SETTLED_AFTER,
    snapshots::{SEGMENTS_MAX, make},
};
use pipeline_core::{
    Offset, PartitionId,
    store::{Chain, ChainFault},
};

use crate::rig::{Rig, wait_for};

const WINDOW: usize = 250_000;

/// A chain of three segments of ten records each.
async fn chain_of_three(rig: &Rig) -> Chain {
    let writer = rig.writer("", "flushSize: 10");
    for batch in 0..3 {
        rig.send_many(0, batch, 10).await;
        rig.caught_up().await;
    }
    writer.stop().await;
    rig.chain(0)
}

/// One bit of the data, which the trailer does not show. Gives back what was there.
fn flip(path: &Path) -> Vec<u8> {
    let whole = fs::read(path).expect("it is there");
    let mut bytes = whole.clone();
    bytes[30] ^= 1;
    fs::write(path, bytes).expect("written");
    whole
}

fn damaged_file(fault: ChainFault) -> PathBuf {
    match fault {
        ChainFault::Damaged { path, .. } => path,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_byte_in_the_last_segment_halts_a_take_over_and_nothing_is_linked_behind_it() {
    for with_snapshot in [false, true] {
        let rig = Rig::new(2).await;
        let chain = chain_of_three(&rig).await;
        if with_snapshot {
            make(&chain, WINDOW).expect("made");
        }
        let last = chain.segment_path(Offset(20));
        let whole = flip(&last);
        let fault = load(&chain, WINDOW).expect_err("damaged");
        assert_eq!(damaged_file(fault), last);
        let snapshots = chain.snapshots().expect("listed");

        rig.send_many(0, 10, 10).await;
        rig.send_many(1, 11, 10).await;
        let writer = rig.writer("", "");
        writer.halted(&[0]).await;
        wait_for("partition 1 to go on", || rig.next(1) == Some(10)).await;
        writer.stop().await;
        assert_eq!(rig.next(0), Some(30), "nothing is linked");
        assert_eq!(chain.snapshots().expect("listed"), snapshots);

        fs::write(&last, whole).expect("written");
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
        assert_eq!(rig.totals().stored, 50);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_behind_the_snapshot_is_seen_and_no_snapshot_is_put_over_it() {
    let rig = Rig::new(1).await;
    let chain = chain_of_three(&rig).await;
    make(&chain, WINDOW).expect("made");
    let snapshots = chain.snapshots().expect("listed");
    let writer = rig.writer("", "");
    for batch in 3..6 {
        rig.send_many(0, batch, 10).await;
        rig.caught_up().await;
    }
    writer.kill().await;
    let fourth = chain.segment_path(Offset(30));
    let whole = flip(&fourth);
    if chain.snapshots().expect("listed") == snapshots {
        let fault = load(&chain, WINDOW).expect_err("damaged");
        assert_eq!(damaged_file(fault), fourth);
        let fault = make(&chain, WINDOW).expect_err("damaged");
        assert_eq!(damaged_file(fault), fourth);
        assert_eq!(chain.snapshots().expect("listed"), snapshots);
    }
    fs::write(&fourth, whole).expect("written");
    assert!(load(&chain, WINDOW).expect("whole").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_doubted_is_judged_anew_by_the_next_load() {
    let rig = Rig::new(1).await;
    let chain = chain_of_three(&rig).await;
    make(&chain, WINDOW).expect("made");
    let middle = chain.segment_path(Offset(10));
    let whole = flip(&middle);
    let doubted = |name| load_doubting(&chain, WINDOW, Some(Offset(name)));
    assert_eq!(damaged_file(doubted(10).expect_err("damaged")), middle);
    assert!(doubted(20).expect("whole").is_some());
    // A repair has cut the chain meanwhile: no such segment is of it.
    assert!(doubted(15).expect("whole").is_some());
    fs::write(&middle, whole).expect("written");
    assert!(doubted(10).expect("mended").is_some());
    flip(&middle);
    chain
        .remove_before(Offset(i64::MAX), &mut || true)
        .expect("removed");
    assert!(doubted(10).expect("gone").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_within_a_chain_is_found_by_reading_it_in_the_background_and_halts() {
    let rig = Rig::new(2).await;
    let chain = chain_of_three(&rig).await;
    make(&chain, WINDOW).expect("made");
    let first = chain.segment_path(Offset(0));
    let whole = flip(&first);
    rig.send_many(0, 10, 10).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    // As if it had been taken a while ago.
    let scrub = &writer.shared().scrub;
    scrub.lock().begin_at(PartitionId(0), Instant::now());
    writer.halted(&[0]).await;
    assert_eq!(scrub.lock().doubted(PartitionId(0)), Some(Offset(0)));
    let listed = chain.snapshots().expect("listed");
    let backlog = &writer.shared().snapshots;
    let now = Instant::now();
    backlog.lock().taken(PartitionId(0), SEGMENTS_MAX, now);
    let due = |at| backlog.lock().due(at).map(|(partition, _)| partition);
    wait_for("a snapshot's turn", || due(Instant::now()).is_none()).await;
    let later = now + Duration::from_secs(300);
    wait_for("none to be made", || due(later) == Some(PartitionId(0))).await;
    assert_eq!(chain.snapshots().expect("listed"), listed);
    rig.send_many(0, 11, 10).await;
    rig.send_many(1, 12, 10).await;
    wait_for("partition 1 to go on", || rig.next(1) == Some(10)).await;
    scrub.lock().begin_at(PartitionId(1), Instant::now());
    wait_for("partition 1 to be read", || {
        let rounds = scrub.lock();
        rounds.next(Instant::now() + SETTLED_AFTER).is_none()
    })
    .await;
    writer.stop().await;
    assert_eq!(rig.next(0), Some(40), "nothing is linked behind it");
    fs::write(&first, whole).expect("written");
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    assert_eq!(rig.totals().stored, 60);
}
