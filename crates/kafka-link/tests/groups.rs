//! Group membership, the same on the embedded broker and on Apache Kafka.

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{LONG, Stage, new_topic, unique};
use kafka_link::{Assignment, Beat, Cluster, Committed, ErrorKind, GroupConfig, Member};
use pipeline_core::{Offset, PartitionId};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;

fn config(group: &str, topic: &str) -> GroupConfig {
    GroupConfig {
        group_id: group.to_owned(),
        instance_id: None,
        topic: topic.to_owned(),
        session_timeout: Duration::from_secs(6),
        rebalance_timeout: Duration::from_secs(10),
    }
}

fn at(offset: i64, metadata: &str) -> Committed {
    Committed {
        offset: Offset(offset),
        metadata: metadata.to_owned(),
    }
}

fn ids(partitions: std::ops::Range<i32>) -> Vec<PartitionId> {
    partitions.map(PartitionId).collect()
}

/// A member that lives as a service's would: beats, and joins again when it is told to.
struct Living {
    assignment: watch::Receiver<Option<Assignment>>,
    stop: CancellationToken,
    task: JoinHandle<Member>,
}

impl Living {
    fn start(mut member: Member) -> Self {
        let (told, assignment) = watch::channel(None);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(100));
            let mut joined = false;
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return member,
                    _ = pace.tick() => {}
                }
                if joined {
                    match member.heartbeat().await {
                        Ok(Beat::Stable) => continue,
                        Ok(Beat::Rebalance) => {}
                        Err(error) => assert_eq!(error.kind, ErrorKind::Lost, "{error}"),
                    }
                }
                told.send_replace(None);
                let assigned = tokio::select! {
                    () = stopped.cancelled() => return member,
                    assigned = member.join() => assigned.unwrap(),
                };
                told.send_replace(Some(assigned));
                joined = true;
            }
        });
        Self {
            assignment,
            stop,
            task,
        }
    }

    async fn stop(self) -> Member {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Waits until the members of one generation have all partitions, each at least one fewer than
/// another has; gives how many each has.
async fn settled(members: &[&Living], partitions: i32) -> Vec<usize> {
    let settled = async {
        loop {
            let seen: Option<Vec<Assignment>> = members
                .iter()
                .map(|member| member.assignment.borrow().clone())
                .collect();
            if let Some(seen) = seen
                && seen
                    .windows(2)
                    .all(|pair| pair[0].generation == pair[1].generation)
            {
                let mut all: Vec<PartitionId> =
                    seen.iter().flat_map(|a| a.partitions.clone()).collect();
                all.sort_unstable();
                if all == ids(0..partitions) {
                    return seen.iter().map(|a| a.partitions.len()).collect();
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, settled).await.expect("the group settles")
}

#[tokio::test]
async fn three_members_share_the_partitions_and_take_over_from_one_that_leaves() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 6, &[]).await;
    let config = config(&unique("group"), &topic);
    let start = |cluster: &Cluster| Living::start(Member::new(cluster.clone(), config.clone()));
    let one = start(&cluster);
    assert_eq!(settled(&[&one], 6).await, [6]);
    // In one process as with another cluster of connections.
    let two = start(&cluster);
    let three = start(&stage.cluster());
    assert_eq!(settled(&[&one, &two, &three], 6).await, [2, 2, 2]);
    let mut left = two.stop().await;
    left.leave().await;
    assert_eq!(settled(&[&one, &three], 6).await, [3, 3]);
    let error = left.heartbeat().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lost);
    let again = Living::start(left);
    assert_eq!(settled(&[&one, &three, &again], 6).await, [2, 2, 2]);
    for living in [one, three, again] {
        living.stop().await.leave().await;
    }
}

#[tokio::test]
async fn a_member_knows_whether_it_is_alone_also_where_the_others_have_no_partition() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 1, &[]).await;
    let config = config(&unique("group"), &topic);
    let one = Living::start(Member::new(cluster.clone(), config.clone()));
    let alone = |living: &Living| living.assignment.borrow().as_ref().map(|it| it.alone);
    // What an assignment from before says is not waited out by its number of partitions.
    let becomes = async |all: &[&Living], expected: bool| {
        let settled = async {
            while !all.iter().all(|living| alone(living) == Some(expected)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let settled = timeout(LONG, settled).await;
        settled.unwrap_or_else(|_| panic!("they do not learn that alone is {expected}"));
    };
    becomes(&[&one], true).await;
    let two = Living::start(Member::new(cluster.clone(), config));
    becomes(&[&one, &two], false).await;
    assert_eq!(settled(&[&one, &two], 1).await.iter().sum::<usize>(), 1);
    two.stop().await.leave().await;
    becomes(&[&one], true).await;
    one.stop().await.leave().await;
}

#[tokio::test]
async fn a_member_that_is_silent_loses_its_partitions_and_its_right_to_commit() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let config = GroupConfig {
        session_timeout: Duration::from_millis(1500),
        rebalance_timeout: Duration::from_millis(1500),
        ..config(&unique("group"), &topic)
    };
    let mut silent = Member::new(cluster.clone(), config.clone());
    assert_eq!(silent.join().await.unwrap().partitions, ids(0..2));
    let other = Living::start(Member::new(cluster.clone(), config));
    assert_eq!(settled(&[&other], 2).await, [2]);
    let pulse = silent.pulse();
    let refused = common::only(pulse.commit(&[(PartitionId(0), at(5, ""))]).await).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Lost, "{refused}");
    assert_eq!(silent.heartbeat().await.unwrap_err().kind, ErrorKind::Lost);
    assert!(silent.committed(&ids(0..2)).await.unwrap().is_empty());
    // It may come back as a new one.
    let back = Living::start(silent);
    assert_eq!(settled(&[&other, &back], 2).await, [1, 1]);
    for living in [other, back] {
        living.stop().await.leave().await;
    }
}

#[tokio::test]
async fn commits_come_back_with_their_metadata() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 4, &[]).await;
    let config = config(&unique("group"), &topic);
    let mut member = Member::new(cluster.clone(), config.clone());
    assert!(member.committed(&ids(0..4)).await.unwrap().is_empty());
    let nobody = common::only(member.commit(&[(PartitionId(0), at(1, ""))]).await);
    assert_eq!(nobody.unwrap_err().kind, ErrorKind::Lost);
    member.join().await.unwrap();
    let offsets = [
        (PartitionId(0), at(10, "store-a")),
        (PartitionId(2), at(0, "")),
    ];
    for (_, result) in member.commit(&offsets).await {
        result.unwrap();
    }
    let want: BTreeMap<PartitionId, Committed> = offsets.clone().into();
    assert_eq!(member.committed(&ids(0..4)).await.unwrap(), want);
    // They are the group's, not the member's.
    member.leave().await;
    let reader = Member::new(stage.cluster(), config);
    let some = reader.committed(&[PartitionId(0)]).await.unwrap();
    assert_eq!(some, [(PartitionId(0), at(10, "store-a"))].into());
}

#[tokio::test]
async fn a_commit_for_a_partition_of_another_member_is_not_sent() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let config = config(&unique("group"), &topic);
    let mut member = Member::new(cluster, config);
    member.join().await.unwrap();
    let offsets = [(PartitionId(1), at(3, "")), (PartitionId(7), at(3, ""))];
    let mut results = member.commit(&offsets).await;
    results.sort_by_key(|result| result.0);
    results[0].1.as_ref().unwrap();
    assert_eq!(results[1].1.as_ref().unwrap_err().kind, ErrorKind::Lost);
    member.leave().await;
}

#[tokio::test]
async fn a_static_member_comes_back_to_its_partitions_and_fences_the_one_before() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 4, &[]).await;
    let config = config(&unique("group"), &topic);
    let named = |name: &str| GroupConfig {
        instance_id: Some(name.to_owned()),
        ..config.clone()
    };
    let one = Living::start(Member::new(cluster.clone(), named("one")));
    let two = Living::start(Member::new(cluster.clone(), named("two")));
    assert_eq!(settled(&[&one, &two], 4).await, [2, 2]);
    let before = two.assignment.borrow().clone().unwrap();
    let mut old = two.stop().await;
    old.leave().await;
    let mut old_again = Member::new(cluster.clone(), named("two"));
    let after = timeout(LONG, old_again.join()).await.unwrap().unwrap();
    assert_eq!(after, before, "no rebalance took place");
    let mut newest = Member::new(cluster.clone(), named("two"));
    assert_eq!(timeout(LONG, newest.join()).await.unwrap().unwrap(), before);
    let fenced = old_again.heartbeat().await.unwrap_err();
    assert_eq!(fenced.kind, ErrorKind::Fenced, "{fenced}");
    assert_eq!(newest.heartbeat().await.unwrap(), Beat::Stable);
    one.stop().await;
}

#[tokio::test]
async fn a_static_member_that_gives_way_is_out_at_once() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let config = GroupConfig {
        // Far longer than the test waits.
        session_timeout: Duration::from_secs(300),
        ..config(&unique("group"), &topic)
    };
    let named = |name: &str| GroupConfig {
        instance_id: Some(name.to_owned()),
        ..config.clone()
    };
    let mut stuck = Member::new(cluster.clone(), named("one"));
    assert_eq!(stuck.join().await.unwrap().partitions, ids(0..2));
    stuck.pulse().give_way().await;
    let other = Living::start(Member::new(cluster.clone(), named("two")));
    assert_eq!(settled(&[&other], 2).await, [2]);
    assert_eq!(stuck.heartbeat().await.unwrap_err().kind, ErrorKind::Lost);
    let back = Living::start(stuck);
    assert_eq!(settled(&[&other, &back], 2).await, [1, 1]);
    for living in [other, back] {
        living.stop().await.pulse().give_way().await;
    }
}

#[tokio::test]
async fn another_clients_assignor_keeps_either_out_of_the_others_group() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let config = config(&unique("group"), &topic);
    let mut ours = Member::new(cluster.clone(), config.clone());
    ours.join().await.unwrap();
    // One topic `t`, nothing else.
    let metadata = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
    let broker = &stage.brokers[0];
    for assignor in ["range", "cooperative-sticky"] {
        let refused = common::raw::join(broker, &config.group_id, assignor, metadata).await;
        assert_eq!(
            refused.error_code, INCONSISTENT_GROUP_PROTOCOL,
            "{assignor}"
        );
    }
    assert_eq!(ours.heartbeat().await.unwrap(), Beat::Stable);
    ours.leave().await;
    let theirs = common::raw::join(broker, &config.group_id, "range", metadata).await;
    assert_eq!(theirs.error_code, 0);
    let refused = ours.join().await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Fatal, "{refused}");
    assert_eq!(refused.code, Some(INCONSISTENT_GROUP_PROTOCOL));
    let words = refused.to_string();
    assert!(words.contains("InconsistentGroupProtocol (23)"), "{words}");
    assert!(words.contains("kafka.groupID of their own"), "{words}");
}

#[tokio::test]
async fn a_member_whose_metadata_cannot_be_read_gets_nothing_and_keeps_nobody_waiting() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let config = config(&unique("group"), &topic);
    let mut ours = Member::new(cluster.clone(), config.clone());
    assert_eq!(ours.join().await.unwrap().strangers, None);
    let (broker, group) = (stage.brokers[0].clone(), config.group_id.clone());
    let joining =
        tokio::spawn(async move { common::raw::join(&broker, &group, "sluice-range", b"?").await });
    told_to_rebalance(&ours).await;
    let given = ours.join().await.unwrap();
    let stranger = joining.await.unwrap();
    assert_eq!(given.partitions, ids(0..2));
    let strangers = given.strangers.expect("it is named");
    assert!(
        strangers.contains(stranger.member_id.as_str()),
        "{strangers}"
    );
    assert_eq!(ours.heartbeat().await.unwrap(), Beat::Stable);
    ours.leave().await;
}

#[tokio::test]
async fn a_consumer_of_the_new_protocol_is_kept_out_or_named_where_it_was_there_first() {
    let stage = Stage::any().await;
    if stage.is_embedded() {
        println!("only on Apache Kafka 4: the embedded broker has no groups of the new protocol");
        return;
    }
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 4, &[]).await;
    let config = config(&unique("group"), &topic);
    let mut ours = Member::new(cluster.clone(), config.clone());
    assert_eq!(ours.join().await.unwrap().partitions, ids(0..4));
    let beat = async |member: &str, epoch| {
        let broker = &stage.brokers[0];
        common::raw::beat(broker, &config.group_id, member, epoch, &topic).await
    };
    // The broker takes nobody into a group whose assignor it could not replace.
    let refused = beat("", 0).await;
    assert_ne!(refused.error_code, 0, "{refused:?}");
    assert_eq!(ours.heartbeat().await.unwrap(), Beat::Stable);
    ours.leave().await;

    let stranger = beat("", 0).await;
    assert_eq!(stranger.error_code, 0, "{stranger:?}");
    let given = ours.join().await.unwrap();
    let strangers = given.strangers.expect("it is named");
    assert!(strangers.contains("KIP-848"), "{strangers}");
    let id = stranger.member_id.expect("an id");
    let left = beat(&id, -1).await;
    assert_eq!(left.error_code, 0, "{left:?}");
    // The group is one of the old protocol again, and whole.
    let whole = async {
        loop {
            told_to_rebalance(&ours).await;
            let given = ours.join().await.unwrap();
            if given.strangers.is_none() && given.partitions == ids(0..4) {
                return;
            }
        }
    };
    timeout(LONG, whole).await.expect("all partitions");
    ours.leave().await;
}

async fn told_to_rebalance(member: &Member) {
    let told = async {
        while member.heartbeat().await.unwrap() == Beat::Stable {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, told).await.expect("a rebalance");
}

#[tokio::test]
async fn a_join_that_is_dropped_can_be_taken_up_again() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let config = config(&unique("group"), &topic);
    let mut first = Member::new(cluster.clone(), config.clone());
    first.join().await.unwrap();
    let mut second = Member::new(cluster.clone(), config);
    // Waits for `first`, who does not come.
    tokio::select! {
        _ = second.join() => panic!("the first has not joined again"),
        () = told_to_rebalance(&first) => {}
    }
    let (first_share, second_share) = tokio::join!(first.join(), second.join());
    let (first_share, second_share) = (first_share.unwrap(), second_share.unwrap());
    assert_eq!(first_share.generation, second_share.generation);
    assert_eq!(first_share.partitions.len(), 1);
    assert_eq!(second_share.partitions.len(), 1);
    // No ghost of the dropped join is in the group: both are stable.
    assert_eq!(first.heartbeat().await.unwrap(), Beat::Stable);
    assert_eq!(second.heartbeat().await.unwrap(), Beat::Stable);
    first.leave().await;
    second.leave().await;
}
