//! Static members, and what a member does that is one no more.

use std::time::{Duration, Instant};

use dev_broker::Api;
use kafka_consumer_writer::service::ServiceError;
use pipeline_core::fsx::faults::{self, Fault};

use crate::rig::{GROUP, Rig, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_static_writer_that_is_started_again_moves_no_partition() {
    let rig = Rig::new(4).await;
    // Long sessions: a rebalance would wait for the one that is away.
    let named = |name: &str| {
        let kafka = format!("consumers: 2; groupInstanceID: {name}");
        rig.writer(&kafka, "sessionTimeout: 600s")
    };
    let mut writers = vec![named("a"), named("b")];
    wait_for("four members", || members(&rig) == Some(4)).await;
    rig.send(0, 0, &[0], 0).await;
    rig.caught_up().await;
    let generation = generation(&rig);
    for (round, name) in (1..).zip(["a", "b", "a"]) {
        writers.remove(0).stop().await;
        assert_eq!(members(&rig), Some(4), "it has not left");
        // What is produced meanwhile waits for its own member.
        for partition in 0..4 {
            rig.send(partition, round * 4 + partition as u64, &[0, 1], 0)
                .await;
        }
        writers.push(named(name));
        rig.caught_up().await;
        assert_eq!(self::generation(&rig), generation, "nothing has moved");
    }
    for writer in writers {
        writer.stop().await;
    }
    let later = (4..16).flat_map(|batch| [(batch, 0), (batch, 1)]);
    rig.check_exact(later.chain([(0, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_leader_that_is_back_sees_that_the_topic_has_grown_meanwhile() {
    let mut rig = Rig::new(2).await;
    let config = ("groupInstanceID: a", "sessionTimeout: 600s");
    let writer = rig.writer(config.0, config.1);
    rig.send(0, 1, &[0], 0).await;
    rig.send(1, 2, &[0], 0).await;
    rig.caught_up().await;
    writer.stop().await;
    rig.grow(4);
    rig.send(3, 3, &[0], 0).await;
    let writer = rig.writer(config.0, config.1);
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact((1..=3).map(|batch| (batch, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_writer_ends_with_an_error_and_the_newer_one_goes_on() {
    let rig = Rig::new(2).await;
    let config = ("consumers: 2; groupInstanceID: same", "flushSize: 16");
    let first = rig.writer(config.0, config.1);
    let mut sent = Vec::new();
    let mut batch = 0;
    let hundred: Vec<u32> = (0..100).collect();
    let second = loop {
        for partition in 0..2 {
            rig.send(partition, batch, &hundred, 0).await;
            sent.extend(hundred.iter().map(|sequence| (batch, *sequence)));
            batch += 1;
        }
        if batch == 20 {
            rig.caught_up().await;
        }
        if batch == 40 {
            break rig.writer(config.0, config.1);
        }
    };
    let ended = first.ended().await;
    let Err(ServiceError::Fenced { instance, group }) = ended else {
        panic!("{ended:?}");
    };
    assert!(
        ["same-0", "same-1"].contains(&instance.as_str()),
        "{instance}"
    );
    assert_eq!(group, GROUP);
    for partition in 0..2 {
        rig.send(partition, batch, &hundred, 0).await;
        sent.extend(hundred.iter().map(|sequence| (batch, *sequence)));
        batch += 1;
    }
    rig.caught_up().await;
    second.stop().await;
    rig.check_exact(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_saves_hang_leaves_the_group_until_the_store_takes_files() {
    let rig = Rig::new(2).await;
    // Heartbeats alone would keep it in the group for ever.
    let limits = "persistTimeout: 1s; stallTimeout: 1s; sessionTimeout: 600s";
    let writer = rig.writer("groupInstanceID: stuck", limits);
    rig.send(0, 1, &[0], 0).await;
    rig.caught_up().await;
    let disk = faults::under(&rig.dir.path().join("logs")).then(Fault::Hangs);
    rig.send(0, 2, &[0], 0).await;
    rig.send(1, 3, &[0], 0).await;
    // It leaves although it is a static member, and does not come back: nobody holds the
    // partitions of a writer that cannot write.
    wait_for("it to leave", || members(&rig) == Some(0)).await;
    disk.release();
    rig.caught_up().await;
    assert_eq!(members(&rig), Some(1));
    drop(disk);
    writer.stop().await;
    rig.check_exact((1..=3).map(|batch| (batch, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_is_given_up_within_its_bound_though_a_save_hangs() {
    let rig = Rig::new(2).await;
    // The group itself would wait for ten minutes.
    let limits = "persistTimeout: 1s; sessionTimeout: 600s";
    let first = rig.writer("", limits);
    rig.send(0, 1, &[0], 0).await;
    rig.send(1, 2, &[0], 0).await;
    rig.caught_up().await;
    // Not the store's root: the second writer has to open it.
    let disk = faults::under(&rig.dir.path().join("logs/_live")).then(Fault::Hangs);
    rig.send(0, 3, &[0], 0).await;
    rig.send(1, 4, &[0], 0).await;
    wait_for("a save to hang", || disk.hits() > 0).await;
    let second = rig.writer("", limits);
    wait_for("two members", || members(&rig) == Some(2)).await;
    disk.release();
    rig.caught_up().await;
    first.stop().await;
    second.stop().await;
    rig.check_exact((1..=4).map(|batch| (batch, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_that_hangs_keeps_no_other_from_going_on() {
    let rig = Rig::new(2).await;
    let limits = "persistTimeout: 1s; stallTimeout: 1s; sessionTimeout: 600s";
    let writer = rig.writer("", limits);
    rig.send(0, 0, &[0], 0).await;
    rig.caught_up().await;
    let left = rig.broker.requests_seen(Api::LeaveGroup);
    let disk = faults::under(rig.chain(0).dir()).then(Fault::Hangs);
    rig.send(0, 1, &[0], 0).await;
    wait_for("it to hang", || disk.hits() > 0).await;
    // Far longer than the limit, as the other one's saves count it.
    let begun = Instant::now();
    let mut batch = 2;
    while begun.elapsed() < Duration::from_secs(3) {
        let end = rig.send(1, batch, &[0], 0).await + 1;
        batch += 1;
        wait_for("the other to go on", || rig.next(1) == Some(end)).await;
    }
    assert_eq!(rig.broker.requests_seen(Api::LeaveGroup), left);
    disk.release();
    rig.caught_up().await;
    drop(disk);
    writer.stop().await;
    rig.check_exact((0..batch).map(|batch| (batch, 0)));
}

fn members(rig: &Rig) -> Option<usize> {
    let (state, _, members) = rig.broker.group(GROUP)?;
    ["Stable", "Empty"]
        .contains(&state.as_str())
        .then_some(members.len())
}

fn generation(rig: &Rig) -> i32 {
    rig.broker.group(GROUP).expect("a group").1
}
