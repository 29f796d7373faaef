//! Where chain, log and group do not belong together the partition stands still, and where they
//! do nothing stops it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use dev_broker::TopicSpec;
use kafka_link::{Committed, GroupConfig, Member};
use pipeline_core::{Offset, PartitionId};

use crate::{
    raw,
    rig::{GROUP, Rig, TOPIC, wait_for},
};

/// Commits as a member of the group with other metadata, as admin tools do.
pub async fn commit(rig: &Rig, partition: i32, offset: i64, metadata: &str) {
    let config = GroupConfig {
        group_id: GROUP.to_owned(),
        instance_id: None,
        topic: TOPIC.to_owned(),
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::from_secs(6),
    };
    let mut member = Member::new(rig.producer.clone(), config);
    member.join().await.expect("the group is empty");
    let committed = Committed {
        offset: Offset(offset),
        metadata: metadata.to_owned(),
    };
    let results = member.commit(&[(PartitionId(partition), committed)]).await;
    results[0].1.as_ref().expect("committed");
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_groups_offsets_may_be_set_anywhere_and_change_nothing() {
    let rig = Rig::new(1).await;
    let mut sent = Vec::new();
    for (batch, offset) in (0..).zip([None, Some(0), Some(7), Some(1_000_000)]) {
        if let Some(offset) = offset {
            commit(&rig, 0, offset, "").await;
        }
        let sequences: Vec<u32> = (0..10).collect();
        rig.send(0, batch, &sequences, 0).await;
        sent.extend(sequences.iter().map(|sequence| (batch, *sequence)));
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
    }
    rig.check_exact(sent);
}

/// As `kafka-consumer-groups --delete` does: DeleteGroups, version 0.
fn delete_group(rig: &Rig) {
    let client = b"admin";
    let mut request = Vec::new();
    request.extend_from_slice(&42_i16.to_be_bytes());
    request.extend_from_slice(&0_i16.to_be_bytes());
    request.extend_from_slice(&7_i32.to_be_bytes());
    for text in [&client[..], GROUP.as_bytes()] {
        if text != client {
            request.extend_from_slice(&1_i32.to_be_bytes());
        }
        request.extend_from_slice(&(text.len() as i16).to_be_bytes());
        request.extend_from_slice(text);
    }
    let mut broker = TcpStream::connect(rig.broker.addr()).expect("connected");
    let len = request.len() as i32;
    broker.write_all(&len.to_be_bytes()).expect("sent");
    broker.write_all(&request).expect("sent");
    let mut len = [0; 4];
    broker.read_exact(&mut len).expect("answered");
    let mut answer = vec![0; i32::from_be_bytes(len) as usize];
    broker.read_exact(&mut answer).expect("answered");
    assert_eq!(answer[answer.len() - 2..], [0, 0], "no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_group_changes_nothing() {
    let rig = Rig::new(2).await;
    let mut sent = Vec::new();
    for round in 0..3 {
        for partition in 0..2 {
            let batch = 2 * round + partition as u64;
            rig.send(partition, batch, &[0, 1, 2], 0).await;
            sent.extend((0..3).map(|sequence| (batch, sequence)));
        }
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
        delete_group(&rig);
        assert_eq!(rig.committed(0), None);
    }
    rig.check_exact(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_store_halts_until_it_adopts_and_then_goes_on_where_the_first_stood() {
    let rig = Rig::new(2).await;
    rig.send(0, 1, &[0, 1], 0).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.send(0, 2, &[0, 1], 0).await;

    let other = tempfile::tempdir().expect("a directory");
    let stranger = rig.writer_in(other.path(), "", "", false);
    // The claim of partition 1 (committed at 0 by the first store) is refused as well.
    stranger.halted(&[0, 1]).await;
    stranger.stop().await;
    assert_eq!(rig.committed(0).expect("as it was").0, 2);
    assert!(rig.stored_in(other.path()).is_empty());
    let metadata = rig.committed(0).expect("committed").1;
    assert!(metadata.contains(&rig.store(rig.dir.path()).id().0));

    let adopting = rig.writer_in(other.path(), "", "", true);
    wait_for("the adopted partition to be saved", || {
        rig.committed(0).is_some_and(|(offset, _)| offset == 4)
    })
    .await;
    adopting.stop().await;
    let offsets: Vec<i64> = rig
        .stored_in(other.path())
        .iter()
        .map(|record| record.offset)
        .collect();
    assert_eq!(offsets, [2, 3]);

    // Now the first is the stranger.
    rig.send(0, 3, &[0], 0).await;
    let first = rig.writer("", "");
    first.halted(&[0]).await;
    first.stop().await;
    assert_eq!(rig.next(0), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_directory_halts_its_partition_and_not_the_others() {
    let rig = Rig::new(2).await;
    rig.send(0, 1, &[0, 1], 0).await;
    rig.send(1, 2, &[0, 1], 0).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    std::fs::remove_dir_all(rig.chain(0).dir()).expect("removed");
    rig.send(0, 3, &[0], 0).await;
    rig.send(1, 4, &[0], 0).await;
    let writer = rig.writer("", "");
    writer.halted(&[0]).await;
    wait_for("partition 1 to go on", || rig.next(1) == Some(3)).await;
    writer.stop().await;
    assert_eq!(rig.next(0), None);
    assert_eq!(rig.committed(0).expect("as it was").0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_halts() {
    let rig = Rig::new(1).await;
    rig.send(0, 1, &[0, 1], 0).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.broker.recreate_topic(TOPIC).expect("made anew");
    rig.producer.forget(TOPIC);
    rig.send(0, 2, &[0, 1, 2, 3], 0).await;
    let writer = rig.writer("", "");
    writer.halted(&[0]).await;
    writer.stop().await;
    assert_eq!(rig.next(0), Some(2));
    rig.check_exact([(1, 0), (1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_under_a_running_writer_halts_and_none_of_it_is_taken_for_the_old() {
    let rig = Rig::new(2).await;
    let hundred: Vec<u32> = (0..100).collect();
    for partition in 0..2 {
        rig.send(partition, 1 + partition as u64, &hundred, 0).await;
    }
    let writer = rig.writer("", "");
    rig.caught_up().await;
    // Anew with fewer partitions, and far beyond the offset that is read next.
    rig.broker.delete_topic(TOPIC).expect("deleted");
    let spec = TopicSpec::new(TOPIC, 1);
    rig.broker.create_topic(&spec).expect("made anew");
    rig.producer.forget(TOPIC);
    for batch in 10..15 {
        rig.send(0, batch, &hundred, 0).await;
    }
    writer.halted(&[0, 1]).await;
    writer.stop().await;
    assert_eq!((rig.next(0), rig.next(1)), (Some(100), Some(100)));
    let old = |batch| hundred.iter().map(move |sequence| (batch, *sequence));
    rig.check_exact(old(1).chain(old(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_log_with_other_messages_halts() {
    let rig = Rig::new(1).await;
    rig.send(0, 1, &[0, 1], 0).await;
    rig.send(0, 2, &[0, 1], 0).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.broker.truncate(TOPIC, 0, 2).expect("truncated");
    rig.send(0, 3, &[0, 1, 2, 3], 0).await;
    let writer = rig.writer("", "");
    writer.halted(&[0]).await;
    writer.stop().await;
    assert_eq!(rig.next(0), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_segment_halts_and_nothing_is_linked_behind_it() {
    let rig = Rig::new(1).await;
    for batch in 0..3 {
        rig.send(0, batch, &[0, 1], 0).await;
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
    }
    let middle = rig.chain(0).segment_path(Offset(2));
    std::fs::remove_file(&middle).expect("it is there");
    rig.send(0, 9, &[0], 0).await;
    let writer = rig.writer("", "");
    writer.halted(&[0]).await;
    writer.stop().await;
    assert!(!middle.exists(), "nothing may take its place");
    assert!(!rig.chain(0).segment_path(Offset(6)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_counted_as_lost() {
    let rig = Rig::new(1).await;
    rig.send(0, 1, &[0, 1], 0).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.send(0, 2, &[0, 1, 2], 0).await;
    rig.send(0, 3, &[0, 1], 0).await;
    rig.broker.delete_before(TOPIC, 0, 5).expect("deleted");
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact([(1, 0), (1, 1), (3, 0), (3, 1)]);
    assert_eq!(rig.totals().lost, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_read_halts_its_partition_behind_what_was_read() {
    let rig = Rig::new(2).await;
    rig.send(0, 1, &[0, 1], 0).await;
    let record = raw::Record {
        value: Some(b"{}"),
        headers: &[],
    };
    let mut broken = raw::batch(0, -1, &[(0, record)], 0);
    // Not as it was written: its checksum is of something else.
    *broken.last_mut().expect("it has bytes") ^= 1;
    rig.broker.append_raw(TOPIC, 0, &broken).expect("appended");
    rig.send(0, 2, &[0], 0).await;
    let writer = rig.writer("", "");
    writer.halted(&[0]).await;
    // The others go on, and nothing that was read before it is lost.
    rig.send(1, 3, &[0], 0).await;
    wait_for("what can be read", || {
        rig.next(0) == Some(2) && rig.next(1) == Some(1)
    })
    .await;
    writer.stop().await;
    rig.check_exact([(1, 0), (1, 1), (3, 0)]);
}
