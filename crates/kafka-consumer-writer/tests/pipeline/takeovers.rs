//! Writers that come, go and die.

use dev_broker::Api;

use crate::rig::{Rig, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_in_the_chains_and_committed_by_the_store() {
    let rig = Rig::new(3).await;
    let mut sent = Vec::new();
    for batch in 0..60 {
        let sequences: Vec<u32> = (0..50).collect();
        rig.send((batch % 3) as i32, batch, &sequences, 0).await;
        sent.extend(sequences.iter().map(|sequence| (batch, *sequence)));
    }
    let writer = rig.writer("consumers: 2", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact(sent);
    let id = rig.store(rig.dir.path()).id().0.clone();
    for partition in 0..3 {
        let (_, metadata) = rig.committed(partition).expect("committed");
        assert!(metadata.contains(&id), "{metadata}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_and_started_again_each_record_is_stored_once() {
    let mut random = fastrand::Rng::with_seed(7);
    let rig = Rig::new(2).await;
    let mut sent = Vec::new();
    let mut batch = 0;
    for round in 0..12 {
        let writer = rig.writer("", "flushSize: 64; sessionTimeout: 1s");
        for _ in 0..random.u64(1..20) {
            let sequences: Vec<u32> = (0..random.u32(1..100)).collect();
            rig.send(random.i32(0..2), batch, &sequences, 0).await;
            sent.extend(sequences.iter().map(|sequence| (batch, *sequence)));
            batch += 1;
        }
        if round % 2 == 0 {
            // Somewhere within the saves of what has been sent.
            let target = rig.next(0).unwrap_or(0) + random.i64(0..200);
            let end = rig.log_end(0);
            wait_for("some progress", || {
                rig.next(0).is_some_and(|next| next >= target.min(end))
            })
            .await;
        }
        writer.kill().await;
    }
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_stored_once_also_by_the_next_writer() {
    let rig = Rig::new(1).await;
    let sequences: Vec<u32> = (0..100).collect();
    for batch in 0..5 {
        rig.send(0, batch, &sequences, 0).await;
    }
    let writer = rig.writer("", "");
    rig.caught_up().await;
    // Whole copies, parts of them, and one with something new.
    for batch in 0..5 {
        rig.send(0, batch, &sequences, 0).await;
        rig.send(0, batch, &sequences[40..60], 0).await;
    }
    rig.caught_up().await;
    writer.stop().await;
    let writer = rig.writer("", "");
    for batch in 0..5 {
        rig.send(0, batch, &sequences, 0).await;
        rig.send(0, batch, &[99, 100, 101], 0).await;
    }
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact((0..5).flat_map(|batch| (0..102).map(move |sequence| (batch, sequence))));
    let totals = rig.totals();
    assert_eq!(
        (totals.stored, totals.duplicate),
        (510, 5 * (100 + 20 + 100 + 1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_between_two_writers_and_nothing_is_twice() {
    let rig = Rig::new(4).await;
    let mut sent = Vec::new();
    let mut batch = 0;
    let first = rig.writer("consumers: 2", "flushSize: 32");
    let mut second = None;
    for round in 0..6 {
        for _ in 0..25 {
            let sequences: Vec<u32> = (0..40).collect();
            rig.send((batch % 4) as i32, batch, &sequences, 0).await;
            sent.extend(sequences.iter().map(|sequence| (batch, *sequence)));
            batch += 1;
        }
        // A second writer comes, leaves, comes and dies, under load.
        match round {
            0 | 2 | 4 => second = Some(rig.writer("consumers: 2", "flushSize: 32")),
            1 => second.take().expect("running").stop().await,
            3 => second.take().expect("running").kill().await,
            _ => {}
        }
    }
    rig.caught_up().await;
    first.stop().await;
    second.take().expect("running").stop().await;
    rig.check_exact(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_gets_its_partitions_without_waiting_for_a_timeout() {
    let rig = Rig::new(2).await;
    // Long sessions: only a member that gives up by itself is in time.
    let first = rig.writer("", "sessionTimeout: 600s");
    rig.send(0, 1, &[0], 0).await;
    rig.send(1, 2, &[0], 0).await;
    rig.caught_up().await;
    let second = rig.writer("", "sessionTimeout: 600s");
    wait_for("two members", || {
        rig.broker
            .group(crate::rig::GROUP)
            .is_some_and(|(state, _, members)| state == "Stable" && members.len() == 2)
    })
    .await;
    rig.send(0, 3, &[0], 0).await;
    rig.send(1, 4, &[0], 0).await;
    rig.caught_up().await;
    first.stop().await;
    rig.send(0, 5, &[0], 0).await;
    rig.send(1, 6, &[0], 0).await;
    rig.caught_up().await;
    second.stop().await;
    rig.check_exact((1..=6).map(|batch| (batch, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_saves_and_commits_what_waits_for_its_interval() {
    let rig = Rig::new(1).await;
    let writer = rig.writer("", "flushInterval: 1h; flushSize: 1000000");
    wait_for("a claim", || rig.committed(0).is_some()).await;
    rig.send(0, 1, &[0, 1, 2], 0).await;
    // The second fetch from now on is sent by someone who has taken in the first.
    let fetches = rig.broker.requests_seen(Api::Fetch);
    wait_for("the records to be read", || {
        rig.broker.requests_seen(Api::Fetch) >= fetches + 2
    })
    .await;
    assert_eq!(rig.next(0), Some(0), "nothing is due");
    writer.stop().await;
    assert_eq!(rig.next(0), Some(3));
    assert_eq!(rig.committed(0).expect("committed").0, 3);
    rig.check_exact((0..3).map(|sequence| (1, sequence)));
}
