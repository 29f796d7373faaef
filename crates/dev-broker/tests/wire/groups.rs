//! Groups over the wire: the clock is the real one here, so sessions are short.

use std::time::Duration;

use bytes::Bytes;
use dev_broker::{Broker, Options, error_code};
use kafka_protocol::{
    messages::{
        ApiKey, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
        JoinGroupResponse, OffsetCommitRequest, OffsetFetchRequest, RequestKind, ResponseKind,
        SyncGroupRequest, SyncGroupResponse,
        join_group_request::JoinGroupRequestProtocol,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::OffsetFetchRequestGroup,
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};

use crate::client::{Wire, name};

const SESSION_MS: i32 = 5000;

async fn start() -> Broker {
    Broker::start(Options::default().topic("logs", 2))
        .await
        .unwrap()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group() -> GroupId {
    GroupId(text("readers"))
}

fn join_request(member: &str) -> RequestKind {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"logs"));
    RequestKind::JoinGroup(
        JoinGroupRequest::default()
            .with_group_id(group())
            .with_member_id(text(member))
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]),
    )
}

async fn join(wire: &mut Wire, member: &str) -> JoinGroupResponse {
    let answer = wire.call(ApiKey::JoinGroup, 9, &join_request(member)).await;
    match answer.unwrap() {
        ResponseKind::JoinGroup(answer) => answer,
        other => panic!("not an answer to a join: {other:?}"),
    }
}

/// Asks for an id, then joins with it.
async fn enter(wire: &mut Wire) -> JoinGroupResponse {
    let given = join(wire, "").await;
    assert_eq!(given.error_code, error_code::MEMBER_ID_REQUIRED);
    join(wire, &given.member_id).await
}

async fn sync(
    wire: &mut Wire,
    joined: &JoinGroupResponse,
    parts: &[(&str, &'static str)],
) -> SyncGroupResponse {
    let assignments = parts.iter().map(|(member, part)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::from_static(part.as_bytes()))
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.collect());
    let answer = wire
        .call(ApiKey::SyncGroup, 5, &RequestKind::SyncGroup(request))
        .await;
    match answer.unwrap() {
        ResponseKind::SyncGroup(answer) => answer,
        other => panic!("not an answer to a sync: {other:?}"),
    }
}

async fn heartbeat(wire: &mut Wire, joined: &JoinGroupResponse) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    let answer = wire
        .call(ApiKey::Heartbeat, 4, &RequestKind::Heartbeat(request))
        .await;
    match answer.unwrap() {
        ResponseKind::Heartbeat(answer) => answer.error_code,
        other => panic!("not an answer to a heartbeat: {other:?}"),
    }
}

async fn commit(wire: &mut Wire, member: &str, generation: i32, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("store")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("logs"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![topic]);
    let answer = wire
        .call(ApiKey::OffsetCommit, 9, &RequestKind::OffsetCommit(request))
        .await;
    match answer.unwrap() {
        ResponseKind::OffsetCommit(answer) => answer.topics[0].partitions[0].error_code,
        other => panic!("not an answer to a commit: {other:?}"),
    }
}

#[tokio::test]
async fn a_member_that_freezes_loses_its_place_after_its_session() {
    let broker = start().await;
    let mut frozen = Wire::connect(broker.addr()).await;
    let mut living = Wire::connect(broker.addr()).await;
    let first = enter(&mut frozen).await;
    let given = join(&mut living, "").await;
    living
        .send(ApiKey::JoinGroup, 9, &join_request(&given.member_id))
        .await
        .unwrap();
    // the first hears of it by its heartbeat, and joins again
    loop {
        match heartbeat(&mut frozen, &first).await {
            error_code::REBALANCE_IN_PROGRESS => break,
            error => assert_eq!(error, error_code::NONE),
        }
        tokio::task::yield_now().await;
    }
    let first = join(&mut frozen, &first.member_id).await;
    let ResponseKind::JoinGroup(second) = living.receive(ApiKey::JoinGroup, 9).await.unwrap()
    else {
        panic!("not an answer to a join");
    };
    assert_eq!((first.generation_id, second.generation_id), (2, 2));
    assert_eq!(first.members.len(), 2);
    let parts = [
        (first.member_id.as_str(), "p0"),
        (second.member_id.as_str(), "p1"),
    ];
    assert_eq!(sync(&mut frozen, &first, &parts).await.assignment, "p0");
    assert_eq!(sync(&mut living, &second, &[]).await.assignment, "p1");
    // from here on the first is silent; the other lives until it is told
    let told = loop {
        match heartbeat(&mut living, &second).await {
            error_code::NONE => tokio::time::sleep(Duration::from_millis(5)).await,
            error => break error,
        }
    };
    assert_eq!(told, error_code::REBALANCE_IN_PROGRESS);
    let alone = join(&mut living, &second.member_id).await;
    assert_eq!((alone.generation_id, alone.members.len()), (3, 1));
    sync(&mut living, &alone, &[]).await;
    let woken = commit(&mut frozen, &first.member_id, first.generation_id, 10).await;
    assert_eq!(woken, error_code::UNKNOWN_MEMBER_ID);
    let current = commit(&mut living, &alone.member_id, 3, 11).await;
    assert_eq!(current, error_code::NONE);
    assert_eq!(
        broker.committed("readers", "logs", 1),
        Some((11, "store".to_owned()))
    );
    broker.stop().await;
}

#[tokio::test]
async fn a_session_outside_of_the_brokers_limits_is_refused() {
    let asked = Duration::from_millis(SESSION_MS as u64);
    let tick = Duration::from_millis(1);
    for (min, max) in [(asked + tick, 2 * asked), (tick, asked - tick)] {
        let broker = Broker::start(Options {
            session_timeout_min: min,
            session_timeout_max: max,
            ..Options::default()
        });
        let broker = broker.await.unwrap();
        let mut wire = Wire::connect(broker.addr()).await;
        let joined = join(&mut wire, "").await;
        assert_eq!(joined.error_code, error_code::INVALID_SESSION_TIMEOUT);
        broker.stop().await;
    }
}

#[tokio::test]
async fn only_the_coordinator_serves_groups() {
    let broker = Broker::start(Options::default().nodes(2).topic("logs", 2))
        .await
        .unwrap();
    let servers = broker.bootstrap_servers();
    let mut one = Wire::connect(servers[0].parse().unwrap()).await;
    assert_eq!(commit(&mut one, "", -1, 5).await, error_code::NONE);
    broker.move_coordinator(2).unwrap();
    assert_eq!(
        commit(&mut one, "", -1, 6).await,
        error_code::NOT_COORDINATOR
    );
    let keys = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("readers")]);
    let request = RequestKind::FindCoordinator(keys);
    let answer = one
        .call(ApiKey::FindCoordinator, 4, &request)
        .await
        .unwrap();
    let ResponseKind::FindCoordinator(answer) = answer else {
        panic!("not an answer to a coordinator: {answer:?}");
    };
    let found = &answer.coordinators[0];
    assert_eq!(format!("{}:{}", found.host, found.port), servers[1]);
    let mut two = Wire::connect(servers[1].parse().unwrap()).await;
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    let request = RequestKind::OffsetFetch(request);
    let answer = two.call(ApiKey::OffsetFetch, 9, &request).await.unwrap();
    let ResponseKind::OffsetFetch(answer) = answer else {
        panic!("not an answer to offsets: {answer:?}");
    };
    let kept = &answer.groups[0].topics[0].partitions[0];
    assert_eq!(
        (kept.partition_index, kept.committed_offset),
        (1, 5),
        "groups move whole"
    );
    broker.stop().await;
}

#[tokio::test]
async fn a_deleted_topic_takes_its_committed_offsets_along() {
    let broker = start().await;
    let mut wire = Wire::connect(broker.addr()).await;
    assert_eq!(commit(&mut wire, "", -1, 5).await, error_code::NONE);
    broker.recreate_topic("logs").unwrap();
    assert_eq!(broker.committed("readers", "logs", 1), None);
    broker.delete_topic("logs").unwrap();
    let refused = commit(&mut wire, "", -1, 5).await;
    assert_eq!(refused, error_code::UNKNOWN_TOPIC_OR_PARTITION);
    broker.stop().await;
}

/// As a tool does it, in a group without members.
pub async fn commit_by_hand(wire: &mut Wire, offset: i64) {
    assert_eq!(commit(wire, "", -1, offset).await, error_code::NONE);
}
