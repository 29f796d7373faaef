//! Answers that only say an error code, for faults: of a whole request, or of one partition of
//! it. And the little that rules ask of a request: which partitions it names.

use kafka_protocol::messages::{
    ApiVersionsResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteGroupsResponse,
    DeleteRecordsResponse, DeleteTopicsResponse, DescribeClusterResponse, DescribeConfigsResponse,
    DescribeGroupsResponse, FetchResponse, FindCoordinatorResponse, HeartbeatResponse,
    IncrementalAlterConfigsResponse, InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse,
    ListGroupsResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, OffsetForLeaderEpochResponse, ProduceResponse, RequestKind, ResponseKind,
    SyncGroupResponse, create_partitions_response as create_partitions,
    create_topics_response as create_topics, delete_groups_response as delete_groups,
    delete_records_response as delete_records, delete_topics_response as delete_topics,
    describe_configs_response as describe_configs, describe_groups_response as describe_groups,
    fetch_response as fetch, find_coordinator_response as find_coordinator,
    incremental_alter_configs_response as alter_configs, list_offsets_response as list_offsets,
    metadata_response as metadata, offset_commit_response as offset_commit,
    offset_fetch_response as offset_fetch, offset_for_leader_epoch_response as epochs,
    produce_response as produce,
};

/// The answer to a request of which nothing was done.
pub(crate) fn all(request: &RequestKind, version: i16, error: i16) -> ResponseKind {
    let mut answer = empty(request, version, error);
    for (topic, partition) in partitions(request) {
        put_error(&mut answer, &topic, partition, error);
    }
    answer
}

/// Whether a request names the topic, and the partition where one is given.
pub(crate) fn names(request: &RequestKind, topic: &str, partition: Option<i32>) -> bool {
    partitions(request)
        .iter()
        .any(|(t, p)| t == topic && partition.is_none_or(|wanted| wanted == *p))
}

/// Removes one partition from a request, so that the others alone are done.
pub(crate) fn take_out(request: &mut RequestKind, topic: &str, partition: i32) {
    match request {
        RequestKind::Produce(r) => {
            for t in r.topic_data.iter_mut().filter(|t| t.name.as_str() == topic) {
                t.partition_data.retain(|p| p.index != partition);
            }
        }
        RequestKind::Fetch(r) => {
            for t in r.topics.iter_mut().filter(|t| t.topic.as_str() == topic) {
                t.partitions.retain(|p| p.partition != partition);
            }
        }
        RequestKind::ListOffsets(r) => {
            for t in r.topics.iter_mut().filter(|t| t.name.as_str() == topic) {
                t.partitions.retain(|p| p.partition_index != partition);
            }
        }
        RequestKind::OffsetCommit(r) => {
            for t in r.topics.iter_mut().filter(|t| t.name.as_str() == topic) {
                t.partitions.retain(|p| p.partition_index != partition);
            }
        }
        _ => {}
    }
}

/// Sets the error of one partition, over whatever the answer says of it.
pub(crate) fn put_error(answer: &mut ResponseKind, topic: &str, partition: i32, error: i16) {
    let name = super::topic_name(topic);
    match answer {
        ResponseKind::Produce(r) => {
            let t = entry(
                &mut r.responses,
                |t| t.name == name,
                || produce::TopicProduceResponse::default().with_name(name.clone()),
            );
            t.partition_responses.retain(|p| p.index != partition);
            t.partition_responses.push(
                produce::PartitionProduceResponse::default()
                    .with_index(partition)
                    .with_base_offset(-1)
                    .with_log_append_time_ms(-1)
                    .with_error_code(error),
            );
        }
        ResponseKind::Fetch(r) => {
            let t = entry(
                &mut r.responses,
                |t| t.topic == name,
                || fetch::FetchableTopicResponse::default().with_topic(name.clone()),
            );
            t.partitions.retain(|p| p.partition_index != partition);
            t.partitions.push(
                fetch::PartitionData::default()
                    .with_partition_index(partition)
                    .with_high_watermark(-1)
                    .with_aborted_transactions(None)
                    .with_error_code(error),
            );
        }
        ResponseKind::ListOffsets(r) => {
            let t = entry(
                &mut r.topics,
                |t| t.name == name,
                || list_offsets::ListOffsetsTopicResponse::default().with_name(name.clone()),
            );
            t.partitions.retain(|p| p.partition_index != partition);
            t.partitions.push(
                list_offsets::ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition)
                    .with_offset(-1)
                    .with_timestamp(-1)
                    .with_error_code(error),
            );
        }
        ResponseKind::OffsetCommit(r) => {
            let t = entry(
                &mut r.topics,
                |t| t.name == name,
                || offset_commit::OffsetCommitResponseTopic::default().with_name(name.clone()),
            );
            t.partitions.retain(|p| p.partition_index != partition);
            t.partitions.push(
                offset_commit::OffsetCommitResponsePartition::default()
                    .with_partition_index(partition)
                    .with_error_code(error),
            );
        }
        ResponseKind::OffsetForLeaderEpoch(r) => {
            let t = entry(
                &mut r.topics,
                |t| t.topic == name,
                || epochs::OffsetForLeaderTopicResult::default().with_topic(name.clone()),
            );
            t.partitions.retain(|p| p.partition != partition);
            t.partitions.push(
                epochs::EpochEndOffset::default()
                    .with_partition(partition)
                    .with_error_code(error),
            );
        }
        ResponseKind::DeleteRecords(r) => {
            let t = entry(
                &mut r.topics,
                |t| t.name == name,
                || delete_records::DeleteRecordsTopicResult::default().with_name(name.clone()),
            );
            t.partitions.retain(|p| p.partition_index != partition);
            t.partitions.push(
                delete_records::DeleteRecordsPartitionResult::default()
                    .with_partition_index(partition)
                    .with_low_watermark(-1)
                    .with_error_code(error),
            );
        }
        _ => {}
    }
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

/// The topics and partitions that a request names, for APIs that go by partition.
fn partitions(request: &RequestKind) -> Vec<(String, i32)> {
    fn pairs<T>(topic: &str, partitions: &[T], index: impl Fn(&T) -> i32) -> Vec<(String, i32)> {
        partitions
            .iter()
            .map(|p| (topic.to_owned(), index(p)))
            .collect()
    }
    match request {
        RequestKind::Produce(r) => {
            let each = r.topic_data.iter();
            each.flat_map(|t| pairs(&t.name, &t.partition_data, |p| p.index))
                .collect()
        }
        RequestKind::Fetch(r) => {
            let each = r.topics.iter();
            each.flat_map(|t| pairs(&t.topic, &t.partitions, |p| p.partition))
                .collect()
        }
        RequestKind::ListOffsets(r) => {
            let each = r.topics.iter();
            each.flat_map(|t| pairs(&t.name, &t.partitions, |p| p.partition_index))
                .collect()
        }
        RequestKind::OffsetCommit(r) => {
            let each = r.topics.iter();
            each.flat_map(|t| pairs(&t.name, &t.partitions, |p| p.partition_index))
                .collect()
        }
        RequestKind::OffsetForLeaderEpoch(r) => {
            let each = r.topics.iter();
            each.flat_map(|t| pairs(&t.topic, &t.partitions, |p| p.partition))
                .collect()
        }
        RequestKind::DeleteRecords(r) => {
            let each = r.topics.iter();
            each.flat_map(|t| pairs(&t.name, &t.partitions, |p| p.partition_index))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn entry<T>(list: &mut Vec<T>, fits: impl Fn(&T) -> bool, fresh: impl FnOnce() -> T) -> &mut T {
    let at = list.iter().position(fits).unwrap_or_else(|| {
        list.push(fresh());
        list.len() - 1
    });
    &mut list[at]
}

/// The answer without partitions; errors that stand above partitions are in it.
fn empty(request: &RequestKind, version: i16, error: i16) -> ResponseKind {
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
