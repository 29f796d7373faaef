//! Every API in every version that the broker tells of: answered, and refused by a fault, in a
//! form that decodes to its last byte.

use crate::client::{Wire, fetch, name, produce};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use dev_broker::{Broker, Fault, Options, RawBatch, error_code};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
        DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
        DescribeConfigsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
        HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
        LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, RequestKind,
        ResponseKind, SyncGroupRequest, create_partitions_request::CreatePartitionsTopic,
        create_topics_request::CreatableTopic, delete_records_request::*,
        delete_topics_request::DeleteTopicState, describe_configs_request::DescribeConfigsResource,
        incremental_alter_configs_request::*, join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity, list_offsets_request::*,
        metadata_request::MetadataRequestTopic, offset_commit_request::*, offset_fetch_request::*,
        offset_for_leader_epoch_request::*,
    },
    protocol::StrBytes,
};

#[tokio::test]
async fn every_version_told_is_served_and_refused_whole() {
    let broker = Broker::start(Options::default().topic("logs", 2))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let versions = RequestKind::ApiVersions(ApiVersionsRequest::default());
    let answer = wire.call(ApiKey::ApiVersions, 0, &versions).await.unwrap();
    let ResponseKind::ApiVersions(told) = answer else {
        panic!("not versions: {answer:?}");
    };
    assert_eq!(told.api_keys.len(), 24);
    for api in told.api_keys {
        let key = ApiKey::try_from(api.api_key).expect("a known API");
        // produce is told from 0 on for old clients' sake, and served from 3 on
        let first = if key == ApiKey::Produce {
            3
        } else {
            api.min_version
        };
        for version in first..=api.max_version {
            let request = sample(key, version);
            let served = wire.call(key, version, &request).await;
            served.unwrap_or_else(|error| panic!("{key:?} v{version}: {error}"));
            let rule = broker
                .faults()
                .on(key)
                .then(Fault::AnswerError(error_code::REQUEST_TIMED_OUT));
            let refused = wire.call(key, version, &request).await;
            let refused = refused.unwrap_or_else(|error| panic!("{key:?} v{version}: {error}"));
            assert!(
                format!("{refused:?}").contains("error_code: 7"),
                "{key:?} v{version} does not say the error: {refused:?}"
            );
            rule.remove();
        }
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_client_from_the_future_is_told_the_versions_in_the_oldest_form() {
    let broker = Broker::start(Options::default()).await.unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    let mut request = BytesMut::new();
    request.put_i16(ApiKey::ApiVersions as i16);
    request.put_i16(99);
    request.put_i32(7);
    request.put_i16(-1);
    request.extend_from_slice(b"who knows what");
    wire.send_frame(&request).await.unwrap();
    let mut answer = wire.receive_frame().await.unwrap();
    assert_eq!(answer.get_i32(), 7);
    let answer = ResponseKind::decode(ApiKey::ApiVersions, &mut answer, 0).unwrap();
    let ResponseKind::ApiVersions(answer) = answer else {
        panic!("not versions: {answer:?}");
    };
    assert_eq!(answer.error_code, error_code::UNSUPPORTED_VERSION);
    assert!(!answer.api_keys.is_empty());
    broker.stop().await;
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection_and_no_other() {
    let broker = Broker::start(Options::default()).await.unwrap();
    let mut good = Wire::connect(broker.addr()).await;
    let metadata = RequestKind::Metadata(MetadataRequest::default());
    good.call(ApiKey::Metadata, 9, &metadata).await.unwrap();
    let frames: [&[u8]; 5] = [
        b"",
        b"GET / HTTP/1.1",
        &[0, 0, 0, 2, 0, 0, 0, 1, 255, 255],
        &[0, 0, 0, 9, 0, 0, 0, 1, 255, 255, 1, 2, 3],
        &[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 255, 255],
    ];
    for frame in frames {
        let mut wire = Wire::connect(broker.addr()).await;
        wire.send_frame(frame).await.unwrap();
        let ended = wire.receive_frame().await;
        assert!(ended.is_err(), "{frame:?} got an answer: {ended:?}");
    }
    good.call(ApiKey::Metadata, 9, &metadata).await.unwrap();
    broker.stop().await;
}

fn sample(api: ApiKey, version: i16) -> RequestKind {
    let group = GroupId(text(&format!("group-{api:?}-{version}")));
    match api {
        ApiKey::Produce => {
            let values = vec!["a".to_owned(), "b".to_owned()];
            produce(1, &[("logs", 0, RawBatch::Plain { values }.encode())])
        }
        ApiKey::Fetch => {
            let mut request = fetch(&[("logs", 0, 0), ("absent", 0, 0)]);
            request.isolation_level = 1;
            RequestKind::Fetch(request)
        }
        ApiKey::ListOffsets => {
            let each = [-1, -2, 0].map(|time| {
                let partition = ListOffsetsPartition::default().with_timestamp(time);
                ListOffsetsTopic::default()
                    .with_name(name("logs"))
                    .with_partitions(vec![partition])
            });
            RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(each.to_vec()))
        }
        ApiKey::Metadata => {
            let topics = ["logs", "absent", "not a name"]
                .map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
            let mut topics = topics.to_vec();
            if version >= 12 {
                let unknown = MetadataRequestTopic::default().with_name(None);
                topics.push(unknown.with_topic_id(uuid::Uuid::from_u128(77)));
            }
            RequestKind::Metadata(MetadataRequest::default().with_topics(Some(topics)))
        }
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default()
                .with_committed_offset(5)
                .with_committed_metadata(Some(text("by hand")));
            let topic = OffsetCommitRequestTopic::default()
                .with_name(name("logs"))
                .with_partitions(vec![partition]);
            RequestKind::OffsetCommit(
                OffsetCommitRequest::default()
                    .with_group_id(group)
                    .with_generation_id_or_member_epoch(-1)
                    .with_topics(vec![topic]),
            )
        }
        ApiKey::OffsetFetch if version >= 8 => {
            let topic = OffsetFetchRequestTopics::default()
                .with_name(name("logs"))
                .with_partition_indexes(vec![0, 1]);
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(group)
                .with_topics(Some(vec![topic]));
            RequestKind::OffsetFetch(OffsetFetchRequest::default().with_groups(vec![group]))
        }
        ApiKey::OffsetFetch => {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(name("logs"))
                .with_partition_indexes(vec![0, 1]);
            RequestKind::OffsetFetch(
                OffsetFetchRequest::default()
                    .with_group_id(group)
                    .with_topics(Some(vec![topic])),
            )
        }
        ApiKey::FindCoordinator if version >= 4 => {
            let keys = vec![text("group")];
            RequestKind::FindCoordinator(
                FindCoordinatorRequest::default().with_coordinator_keys(keys),
            )
        }
        ApiKey::FindCoordinator => {
            RequestKind::FindCoordinator(FindCoordinatorRequest::default().with_key(text("group")))
        }
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"m"));
            RequestKind::JoinGroup(
                JoinGroupRequest::default()
                    .with_group_id(group)
                    .with_session_timeout_ms(10_000)
                    .with_rebalance_timeout_ms(if version >= 1 { 10_000 } else { -1 })
                    .with_protocol_type(text("consumer"))
                    .with_protocols(vec![protocol]),
            )
        }
        ApiKey::Heartbeat => {
            RequestKind::Heartbeat(HeartbeatRequest::default().with_group_id(group))
        }
        ApiKey::LeaveGroup if version >= 3 => {
            let member = MemberIdentity::default().with_member_id(text("nobody"));
            RequestKind::LeaveGroup(
                LeaveGroupRequest::default()
                    .with_group_id(group)
                    .with_members(vec![member]),
            )
        }
        ApiKey::LeaveGroup => RequestKind::LeaveGroup(
            LeaveGroupRequest::default()
                .with_group_id(group)
                .with_member_id(text("nobody")),
        ),
        ApiKey::SyncGroup => {
            RequestKind::SyncGroup(SyncGroupRequest::default().with_group_id(group))
        }
        ApiKey::DescribeGroups => {
            // the groups that the samples of JoinGroup have made, and one that is not there
            let groups = [0, 5, 9].map(|v| GroupId(text(&format!("group-JoinGroup-{v}"))));
            let groups = groups.into_iter().chain([group]).collect();
            RequestKind::DescribeGroups(DescribeGroupsRequest::default().with_groups(groups))
        }
        ApiKey::ListGroups => RequestKind::ListGroups(ListGroupsRequest::default()),
        ApiKey::DeleteGroups => {
            RequestKind::DeleteGroups(DeleteGroupsRequest::default().with_groups_names(vec![group]))
        }
        ApiKey::ApiVersions => RequestKind::ApiVersions(ApiVersionsRequest::default()),
        ApiKey::InitProducerId => RequestKind::InitProducerId(InitProducerIdRequest::default()),
        ApiKey::DescribeCluster => RequestKind::DescribeCluster(DescribeClusterRequest::default()),
        ApiKey::CreateTopics => {
            let topic = |topic: &str, replicas| {
                CreatableTopic::default()
                    .with_name(name(topic))
                    .with_num_partitions(2)
                    .with_replication_factor(replicas)
            };
            let topics = vec![topic(&format!("made-{version}"), 1), topic("too-many", 3)];
            RequestKind::CreateTopics(CreateTopicsRequest::default().with_topics(topics))
        }
        ApiKey::CreatePartitions => {
            let topics = ["logs", "absent"].map(|topic| {
                CreatePartitionsTopic::default()
                    .with_name(name(topic))
                    .with_count(3 + i32::from(version))
            });
            RequestKind::CreatePartitions(
                CreatePartitionsRequest::default().with_topics(topics.to_vec()),
            )
        }
        ApiKey::DeleteTopics if version >= 6 => {
            let made = DeleteTopicState::default().with_name(Some(name("made-7")));
            let absent = DeleteTopicState::default().with_topic_id(uuid::Uuid::from_u128(77));
            let topics = vec![made, absent.with_name(None)];
            RequestKind::DeleteTopics(DeleteTopicsRequest::default().with_topics(topics))
        }
        ApiKey::DeleteTopics => {
            let names = vec![name(&format!("made-{version}")), name("absent")];
            RequestKind::DeleteTopics(DeleteTopicsRequest::default().with_topic_names(names))
        }
        ApiKey::DeleteRecords => {
            let topics = ["logs", "absent"].map(|topic| {
                DeleteRecordsTopic::default()
                    .with_name(name(topic))
                    .with_partitions(vec![DeleteRecordsPartition::default().with_offset(1)])
            });
            RequestKind::DeleteRecords(DeleteRecordsRequest::default().with_topics(topics.to_vec()))
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partitions = vec![OffsetForLeaderPartition::default()];
            let topics = ["logs", "absent"].map(|topic| {
                OffsetForLeaderTopic::default()
                    .with_topic(name(topic))
                    .with_partitions(partitions.clone())
            });
            RequestKind::OffsetForLeaderEpoch(
                OffsetForLeaderEpochRequest::default().with_topics(topics.to_vec()),
            )
        }
        ApiKey::DescribeConfigs => {
            let resources = [(2, "logs"), (2, "absent"), (4, "1")].map(|(kind, name)| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            });
            let request = DescribeConfigsRequest::default().with_resources(resources.to_vec());
            RequestKind::DescribeConfigs(request)
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1000")));
            let resource = AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("logs"))
                .with_configs(vec![config]);
            RequestKind::IncrementalAlterConfigs(
                IncrementalAlterConfigsRequest::default().with_resources(vec![resource]),
            )
        }
        other => panic!("no sample of {other:?}: it is told, so it is tested"),
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
