//! Several brokers: leaders and coordinators that move, and one broker that is silent.

mod common;

use std::time::Duration;

use common::{LONG, Stage, from, options, produce_one, values};
use dev_broker::{Api, Fault, Options, TopicSpec};
use kafka_link::{
    Beat, Cluster, ClusterConfig, Committed, ErrorKind, FetchFrom, FetchOptions, GroupConfig,
    KafkaError, Member, TopicInfo,
};
use pipeline_core::{Offset, PartitionId};
use tokio::time::timeout;

const TOPIC: &str = "logs";

/// Three brokers; partition 0 is led by the first and so on.
async fn stage() -> (Stage, Cluster) {
    let stage = Stage::embedded(Options::default().nodes(3).topic(TOPIC, 3)).await;
    for partition in 0..3 {
        stage
            .broker()
            .move_leader(TOPIC, partition, partition + 1)
            .unwrap();
    }
    let cluster = stage.cluster();
    (stage, cluster)
}

fn member(cluster: &Cluster) -> Member {
    Member::new(
        cluster.clone(),
        GroupConfig {
            group_id: "g".to_owned(),
            instance_id: None,
            topic: TOPIC.to_owned(),
            session_timeout: Duration::from_secs(6),
            rebalance_timeout: Duration::from_secs(6),
        },
    )
}

fn at(offset: i64) -> Vec<(PartitionId, Committed)> {
    let committed = Committed {
        offset: Offset(offset),
        metadata: String::new(),
    };
    vec![(PartitionId(0), committed)]
}

/// As callers do: again while nothing happened.
async fn produce_until_done(cluster: &Cluster, partition: i32) -> (Offset, Vec<ErrorKind>) {
    let mut kinds = Vec::new();
    let done = async {
        loop {
            match produce_one(cluster, TOPIC, partition, LONG).await {
                Ok(offset) => return offset,
                Err(error) => {
                    assert!(
                        matches!(error.kind, ErrorKind::Retry | ErrorKind::RefreshAndRetry),
                        "{error}"
                    );
                    kinds.push(error.kind);
                }
            }
        }
    };
    let offset = timeout(LONG, done).await.expect("it is taken in the end");
    (offset, kinds)
}

#[tokio::test]
async fn a_moved_leader_is_followed_after_one_refusal() {
    let (stage, cluster) = stage().await;
    assert_eq!(produce_until_done(&cluster, 0).await, (Offset(0), vec![]));
    stage.broker().move_leader(TOPIC, 0, 2).unwrap();
    let (offset, kinds) = produce_until_done(&cluster, 0).await;
    assert_eq!(offset, Offset(1));
    assert_eq!(kinds, [ErrorKind::RefreshAndRetry]);
    // Reading finds it too.
    stage.broker().move_leader(TOPIC, 0, 3).unwrap();
    let refused = common::only(cluster.fetch(TOPIC, &[from(0, 0)], options()).await);
    assert_eq!(refused.unwrap_err().kind, ErrorKind::RefreshAndRetry);
    let fetched = common::only(cluster.fetch(TOPIC, &[from(0, 0)], options()).await);
    assert_eq!(fetched.unwrap().next, Offset(2));
    stage.broker().move_leader(TOPIC, 0, 1).unwrap();
    let ends = || cluster.log_ends(TOPIC, &[PartitionId(0)]);
    let refused = common::only(ends().await).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::RefreshAndRetry);
    assert_eq!(common::only(ends().await).unwrap(), Offset(2));
}

#[tokio::test]
async fn a_leader_that_dies_is_replaced() {
    let (stage, cluster) = stage().await;
    stage.broker().stop_node(1).unwrap();
    // Never connected before: so it is sure that nothing was sent.
    let (offset, _) = produce_until_done(&cluster, 0).await;
    assert_eq!(offset, Offset(0));
    assert_ne!(stage.broker().leader(TOPIC, 0), Some(1));
}

#[tokio::test]
async fn one_frozen_broker_does_not_keep_the_others_from_telling_what_they_know() {
    let (stage, _) = stage().await;
    stage.broker().pause_node(2);
    for first in 0..3 {
        let mut config = stage.config();
        config.brokers.rotate_left(first);
        let cluster = Cluster::new(config);
        let info = timeout(LONG, cluster.topic(TOPIC)).await.unwrap().unwrap();
        assert_eq!(info.partitions.len(), 3);
        assert_eq!(produce_until_done(&cluster, 0).await.1, []);
    }
}

#[tokio::test]
async fn data_of_one_leader_does_not_wait_for_the_silence_of_another() {
    let (stage, cluster) = stage().await;
    let long = FetchOptions {
        wait_max: Duration::from_secs(8),
        ..options()
    };
    let fetches = || stage.broker().requests_seen(Api::Fetch);
    let mut next = 0;
    for round in 0..5 {
        produce_one(&cluster, TOPIC, 1, LONG).await.unwrap();
        let asked = [from(0, 0), from(1, next), from(2, 0)];
        let fetched = timeout(LONG, cluster.fetch(TOPIC, &asked, long));
        let fetched = common::only(fetched.await.expect("nobody waits for a long poll"));
        let fetched = fetched.unwrap();
        assert_eq!(fetched.partition, PartitionId(1));
        next = fetched.next.0;
        // The two that were silent have not been asked again.
        assert_eq!(fetches(), 3 + round);
    }
    // What came to them meanwhile is not lost.
    produce_one(&cluster, TOPIC, 0, LONG).await.unwrap();
    let asked = [from(0, 0), from(1, next), from(2, 0)];
    let fetched = common::only(cluster.fetch(TOPIC, &asked, long).await).unwrap();
    assert_eq!(fetched.partition, PartitionId(0));
    assert_eq!(values(&fetched), [b"message"]);
    assert!(fetches() <= 8, "{}", fetches());
}

#[tokio::test]
async fn a_member_follows_its_coordinator() {
    let (stage, cluster) = stage().await;
    let mut member = member(&cluster);
    let joined = timeout(LONG, member.join()).await.unwrap().unwrap();
    assert_eq!(joined.partitions.len(), 3);
    for node in [2, 3, 1] {
        stage.broker().move_coordinator(node).unwrap();
        assert_eq!(member.heartbeat().await.unwrap(), Beat::Stable);
        stage.broker().move_coordinator(node % 3 + 1).unwrap();
        common::only(member.commit(&at(i64::from(node))).await).unwrap();
        stage.broker().move_coordinator(node).unwrap();
        let committed = member.committed(&[PartitionId(0)]).await.unwrap();
        assert_eq!(committed[&PartitionId(0)].offset.0, i64::from(node));
    }
    stage.broker().stop_node(1).unwrap();
    assert_eq!(member.heartbeat().await.unwrap(), Beat::Stable);
    member.leave().await;
    let (_, _, members) = stage.broker().group("g").unwrap();
    assert!(members.is_empty(), "{members:?}");
}

#[tokio::test]
async fn a_coordinator_that_is_not_ready_is_asked_again() {
    let (stage, cluster) = stage().await;
    let faults = stage.broker().faults();
    for code in [14, 15, 16] {
        for api in [Api::FindCoordinator, Api::JoinGroup, Api::SyncGroup] {
            faults.on(api).times(1).then(Fault::AnswerError(code));
        }
        let mut member = member(&cluster);
        timeout(LONG, member.join()).await.unwrap().unwrap();
        for api in [Api::Heartbeat, Api::OffsetCommit, Api::OffsetFetch] {
            faults.on(api).times(1).then(Fault::AnswerError(code));
        }
        assert_eq!(member.heartbeat().await.unwrap(), Beat::Stable);
        common::only(member.commit(&at(1)).await).unwrap();
        member.committed(&[PartitionId(0)]).await.unwrap();
        member.leave().await;
    }
}

#[tokio::test]
async fn a_cut_connection_costs_a_member_nothing() {
    let (stage, cluster) = stage().await;
    let faults = stage.broker().faults();
    let mut member = member(&cluster);
    for api in [Api::FindCoordinator, Api::JoinGroup, Api::SyncGroup] {
        faults.on(api).times(1).then(Fault::Cut);
    }
    timeout(LONG, member.join()).await.unwrap().unwrap();
    for api in [Api::Heartbeat, Api::OffsetCommit, Api::OffsetFetch] {
        faults.on(api).times(1).then(Fault::CutAnswer);
    }
    assert_eq!(member.heartbeat().await.unwrap(), Beat::Stable);
    common::only(member.commit(&at(1)).await).unwrap();
    member.committed(&[PartitionId(0)]).await.unwrap();
}

#[tokio::test]
async fn what_a_group_refuses_is_told_in_words() {
    let (stage, cluster) = stage().await;
    let refuse = |api, code| {
        let rule = stage.broker().faults().on(api);
        rule.times(1).then(Fault::AnswerError(code));
    };
    let mut member = member(&cluster);
    let expect = |error: KafkaError, kind, words: &str| {
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(words), "{error}");
    };
    refuse(Api::JoinGroup, 23);
    let error = member.join().await.unwrap_err();
    expect(error, ErrorKind::Fatal, "a kafka.groupID of their own");
    refuse(Api::JoinGroup, 26);
    let error = member.join().await.unwrap_err();
    expect(error, ErrorKind::Fatal, "group.max.session.timeout.ms");
    refuse(Api::JoinGroup, 82);
    let error = member.join().await.unwrap_err();
    expect(error, ErrorKind::Fenced, "group instance id");
    refuse(Api::JoinGroup, 30);
    let error = member.join().await.unwrap_err();
    expect(error, ErrorKind::Fatal, "GroupAuthorizationFailed");
    // A member that is not known is a new one; a rebalance in the middle is joined anew.
    refuse(Api::JoinGroup, 25);
    refuse(Api::SyncGroup, 27);
    timeout(LONG, member.join()).await.unwrap().unwrap();
    refuse(Api::Heartbeat, 27);
    assert_eq!(member.heartbeat().await.unwrap(), Beat::Rebalance);
    refuse(Api::OffsetCommit, 27);
    let error = common::only(member.commit(&at(1)).await).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejoin);
    refuse(Api::Heartbeat, 22);
    assert_eq!(member.heartbeat().await.unwrap_err().kind, ErrorKind::Lost);
    // From then on it knows by itself.
    let beats = stage.broker().requests_seen(Api::Heartbeat);
    assert_eq!(member.heartbeat().await.unwrap_err().kind, ErrorKind::Lost);
    assert_eq!(stage.broker().requests_seen(Api::Heartbeat), beats);
}

#[tokio::test]
async fn a_leader_whose_topic_has_grown_asks_for_a_rebalance() {
    let (stage, cluster) = stage().await;
    let mut member = member(&cluster);
    member.join().await.unwrap();
    stage.broker().grow_topic(TOPIC, 5).unwrap();
    cluster.forget(TOPIC);
    cluster.topic(TOPIC).await.unwrap();
    assert_eq!(member.heartbeat().await.unwrap(), Beat::Rebalance);
    let joined = member.join().await.unwrap();
    assert_eq!(joined.partitions.len(), 5);
    assert_eq!(member.heartbeat().await.unwrap(), Beat::Stable);
}

#[tokio::test]
async fn a_topic_made_anew_has_another_id_and_a_deleted_one_is_not_believed_at_once() {
    let (stage, cluster) = stage().await;
    let before = cluster.topic(TOPIC).await.unwrap();
    stage.broker().recreate_topic(TOPIC).unwrap();
    cluster.forget(TOPIC);
    let after = cluster.topic(TOPIC).await.unwrap();
    assert_ne!(before.topic_id, after.topic_id);
    assert_eq!(before.cluster_id, after.cluster_id);
    stage.broker().delete_topic(TOPIC).unwrap();
    cluster.forget(TOPIC);
    let error = cluster.topic(TOPIC).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RefreshAndRetry, "{error}");
}

#[tokio::test]
async fn a_fetch_is_of_the_topic_it_means_and_of_no_other_by_its_name() {
    let (stage, cluster) = stage().await;
    for _ in 0..3 {
        produce_until_done(&cluster, 0).await;
    }
    let before = cluster.topic(TOPIC).await.unwrap();
    let of = |info: &TopicInfo, partition, offset| FetchFrom {
        topic_id: info.id,
        ..from(partition, offset)
    };
    let fetch = async |from| common::only(cluster.fetch(TOPIC, &[from], options()).await);
    assert_eq!(fetch(of(&before, 0, 2)).await.unwrap().next, Offset(3));

    stage.broker().delete_topic(TOPIC).unwrap();
    let spec = TopicSpec::new(TOPIC, 2);
    stage.broker().create_topic(&spec).unwrap();
    let other = stage.cluster();
    for _ in 0..5 {
        produce_until_done(&other, 0).await;
    }
    // The metadata is of the old topic; the broker is asked for it, not for the name.
    let gone = fetch(of(&before, 0, 2)).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::RefreshAndRetry, "{gone}");
    assert_eq!(gone.code, Some(100), "{gone}");
    for partition in [0, 2] {
        let told = fetch(of(&before, partition, 2)).await.unwrap_err();
        assert_eq!(told.kind, ErrorKind::OtherTopic, "{told}");
        assert!(told.message.contains("made anew"), "{told}");
    }
    let after = cluster.topic(TOPIC).await.unwrap();
    assert_eq!(fetch(of(&after, 0, 2)).await.unwrap().next, Offset(5));
    let told = fetch(of(&after, 2, 0)).await.unwrap_err();
    assert_eq!(told.kind, ErrorKind::OtherTopic, "{told}");
    assert!(told.message.contains("it has 2"), "{told}");
}

#[tokio::test]
async fn a_silent_leader_stalls_no_other_and_is_told_of_in_the_end() {
    let (stage, _) = stage().await;
    let cluster = |request_timeout| {
        let config = ClusterConfig {
            request_timeout,
            ..stage.config()
        };
        Cluster::new(config)
    };
    let asked = [from(0, 0), from(1, 0)];
    let short = FetchOptions {
        wait_max: Duration::from_millis(50),
        ..options()
    };
    // Both have their connections.
    let patient = cluster(30 * LONG);
    let impatient = cluster(Duration::from_secs(3));
    for cluster in [&patient, &impatient] {
        for _ in 0..4 {
            let nothing = cluster.fetch(TOPIC, &asked, short).await;
            assert!(nothing.is_empty(), "{nothing:?}");
        }
    }
    stage.broker().pause_node(2);
    let hears = async |cluster: &Cluster, wanted: PartitionId| loop {
        let heard = cluster.fetch(TOPIC, &asked, short).await;
        if let Some((_, result)) = heard.into_iter().find(|(id, _)| *id == wanted) {
            return result;
        }
    };
    // The first has no news for some rounds, and then some.
    for _ in 0..3 {
        let nothing = timeout(LONG, patient.fetch(TOPIC, &asked, short));
        assert!(nothing.await.expect("one has answered").is_empty());
    }
    let told = timeout(LONG, hears(&impatient, PartitionId(1))).await;
    let told = told.expect("it is not silent about a silent broker");
    assert_eq!(told.unwrap_err().kind, ErrorKind::Retry);
    produce_until_done(&patient, 0).await;
    let read = timeout(LONG, hears(&patient, PartitionId(0))).await;
    assert_eq!(read.expect("it is read").unwrap().next, Offset(1));
}
