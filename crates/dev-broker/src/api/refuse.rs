//! Answers that only say an error code, for faults and for what cannot be served.

use super::partitions::{partitions, put_error};

use kafka_protocol::messages::{
    ApiVersionsResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteGroupsResponse,
    DeleteRecordsResponse, DeleteTopicsResponse, DescribeClusterResponse, DescribeConfigsResponse,
    DescribeGroupsResponse, FetchResponse, FindCoordinatorResponse, HeartbeatResponse,
    IncrementalAlterConfigsResponse, InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse,
    ListGroupsResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, OffsetForLeaderEpochResponse, ProduceResponse, RequestKind, ResponseKind,
    SyncGroupResponse, create_partitions_response as create_partitions,
    create_topics_response as create_topics, delete_groups_response as delete_groups,
    delete_topics_response as delete_topics, describe_configs_response as describe_configs,
    describe_groups_response as describe_groups, find_coordinator_response as find_coordinator,
    incremental_alter_configs_response as alter_configs, metadata_response as metadata,
    offset_fetch_response as offset_fetch,
};

/// The answer to a request of which nothing was done.
pub(crate) fn all(request: &RequestKind, version: i16, error: i16) -> ResponseKind {
    let mut answer = empty(request, version, error);
    for (topic, partition) in partitions(request) {
        put_error(&mut answer, &topic, partition, error);
    }
    answer
}

/// Tells the client that it is throttled, where the answer has a place for it.
pub(crate) fn set_throttle(answer: &mut ResponseKind, throttle_ms: i32) {
    match answer {
        ResponseKind::Produce(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::Fetch(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::ListOffsets(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::Metadata(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::FindCoordinator(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::JoinGroup(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::SyncGroup(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::Heartbeat(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::OffsetCommit(r) => r.throttle_time_ms = throttle_ms,
        ResponseKind::OffsetFetch(r) => r.throttle_time_ms = throttle_ms,
        _ => {}
    }
}

/// The answer without partitions; errors that stand above partitions are in it.
pub(crate) fn empty(request: &RequestKind, version: i16, error: i16) -> ResponseKind {
    match request {
        RequestKind::Produce(_) => ResponseKind::Produce(ProduceResponse::default()),
        RequestKind::Fetch(_) => ResponseKind::Fetch(FetchResponse::default()),
        RequestKind::ListOffsets(_) => ResponseKind::ListOffsets(ListOffsetsResponse::default()),
        RequestKind::OffsetCommit(_) => ResponseKind::OffsetCommit(OffsetCommitResponse::default()),
        RequestKind::OffsetForLeaderEpoch(_) => {
            ResponseKind::OffsetForLeaderEpoch(OffsetForLeaderEpochResponse::default())
        }
        RequestKind::DeleteRecords(_) => {
            ResponseKind::DeleteRecords(DeleteRecordsResponse::default())
        }
        RequestKind::OffsetFetch(r) => {
            let answer = OffsetFetchResponse::default();
            if version < 2 {
                let topics = r.topics.iter().flatten().map(|topic| {
                    let partitions = topic.partition_indexes.iter().map(|index| {
                        offset_fetch::OffsetFetchResponsePartition::default()
                            .with_partition_index(*index)
                            .with_committed_offset(-1)
                            .with_error_code(error)
                    });
                    offset_fetch::OffsetFetchResponseTopic::default()
                        .with_name(topic.name.clone())
                        .with_partitions(partitions.collect())
                });
                return ResponseKind::OffsetFetch(answer.with_topics(topics.collect()));
            }
            if version < 8 {
                return ResponseKind::OffsetFetch(answer.with_error_code(error));
            }
            let groups = r.groups.iter().map(|group| {
                offset_fetch::OffsetFetchResponseGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_error_code(error)
            });
            ResponseKind::OffsetFetch(answer.with_groups(groups.collect()))
        }
        RequestKind::Metadata(r) => {
            let topics = r.topics.iter().flatten().map(|topic| {
                metadata::MetadataResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_topic_id(topic.topic_id)
                    .with_error_code(error)
            });
            ResponseKind::Metadata(MetadataResponse::default().with_topics(topics.collect()))
        }
        RequestKind::FindCoordinator(r) if version >= 4 => {
            let each = r.coordinator_keys.iter().map(|key| {
                find_coordinator::Coordinator::default()
                    .with_key(key.clone())
                    .with_node_id((-1).into())
                    .with_port(-1)
                    .with_error_code(error)
            });
            let answer = FindCoordinatorResponse::default().with_coordinators(each.collect());
            ResponseKind::FindCoordinator(answer)
        }
        RequestKind::FindCoordinator(_) => ResponseKind::FindCoordinator(
            FindCoordinatorResponse::default()
                .with_node_id((-1).into())
                .with_port(-1)
                .with_error_code(error),
        ),
        RequestKind::JoinGroup(r) => {
            let protocol_name = (version < 7).then(Default::default);
            ResponseKind::JoinGroup(
                JoinGroupResponse::default()
                    .with_error_code(error)
                    .with_generation_id(-1)
                    .with_protocol_name(protocol_name)
                    .with_member_id(r.member_id.clone()),
            )
        }
        RequestKind::SyncGroup(_) => {
            ResponseKind::SyncGroup(SyncGroupResponse::default().with_error_code(error))
        }
        RequestKind::Heartbeat(_) => {
            ResponseKind::Heartbeat(HeartbeatResponse::default().with_error_code(error))
        }
        RequestKind::LeaveGroup(_) => {
            ResponseKind::LeaveGroup(LeaveGroupResponse::default().with_error_code(error))
        }
        RequestKind::ListGroups(_) => {
            ResponseKind::ListGroups(ListGroupsResponse::default().with_error_code(error))
        }
        RequestKind::DescribeCluster(_) => {
            ResponseKind::DescribeCluster(DescribeClusterResponse::default().with_error_code(error))
        }
        RequestKind::InitProducerId(_) => ResponseKind::InitProducerId(
            InitProducerIdResponse::default()
                .with_producer_id((-1).into())
                .with_producer_epoch(-1)
                .with_error_code(error),
        ),
        RequestKind::DescribeGroups(r) => {
            let groups = r.groups.iter().map(|group| {
                describe_groups::DescribedGroup::default()
                    .with_group_id(group.clone())
                    .with_error_code(error)
            });
            let answer = DescribeGroupsResponse::default().with_groups(groups.collect());
            ResponseKind::DescribeGroups(answer)
        }
        RequestKind::DeleteGroups(r) => {
            let results = r.groups_names.iter().map(|group| {
                delete_groups::DeletableGroupResult::default()
                    .with_group_id(group.clone())
                    .with_error_code(error)
            });
            let answer = DeleteGroupsResponse::default().with_results(results.collect());
            ResponseKind::DeleteGroups(answer)
        }
        RequestKind::CreateTopics(r) => {
            let topics = r.topics.iter().map(|topic| {
                create_topics::CreatableTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_error_code(error)
            });
            let answer = CreateTopicsResponse::default().with_topics(topics.collect());
            ResponseKind::CreateTopics(answer)
        }
        RequestKind::CreatePartitions(r) => {
            let results = r.topics.iter().map(|topic| {
                create_partitions::CreatePartitionsTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_error_code(error)
            });
            let answer = CreatePartitionsResponse::default().with_results(results.collect());
            ResponseKind::CreatePartitions(answer)
        }
        RequestKind::DeleteTopics(r) => {
            let by_name = r.topic_names.iter().cloned().map(Some);
            let named = by_name.chain(r.topics.iter().map(|t| t.name.clone()));
            let responses = named.map(|name| {
                delete_topics::DeletableTopicResult::default()
                    .with_name(name)
                    .with_error_code(error)
            });
            let answer = DeleteTopicsResponse::default().with_responses(responses.collect());
            ResponseKind::DeleteTopics(answer)
        }
        RequestKind::DescribeConfigs(r) => {
            let results = r.resources.iter().map(|resource| {
                describe_configs::DescribeConfigsResult::default()
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name.clone())
                    .with_error_code(error)
            });
            let answer = DescribeConfigsResponse::default().with_results(results.collect());
            ResponseKind::DescribeConfigs(answer)
        }
        RequestKind::IncrementalAlterConfigs(r) => {
            let responses = r.resources.iter().map(|resource| {
                alter_configs::AlterConfigsResourceResponse::default()
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name.clone())
                    .with_error_code(error)
            });
            ResponseKind::IncrementalAlterConfigs(
                IncrementalAlterConfigsResponse::default().with_responses(responses.collect()),
            )
        }
        // ApiVersions, and what is not served at all
        _ => ResponseKind::ApiVersions(ApiVersionsResponse::default().with_error_code(error)),
    }
}
