//! Single partitions of requests and answers, for faults that concern one of them alone.

use kafka_protocol::messages::{
    RequestKind, ResponseKind, delete_records_response as delete_records, fetch_response as fetch,
    list_offsets_response as list_offsets, offset_commit_response as offset_commit,
    offset_for_leader_epoch_response as epochs, produce_response as produce,
};

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
        ResponseKind::Produce(r) => replace(
            &mut r.responses,
            |t| t.name == name,
            |t| &mut t.partition_responses,
            |p| p.index == partition,
            || produce::TopicProduceResponse::default().with_name(name.clone()),
            produce::PartitionProduceResponse::default()
                .with_index(partition)
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_error_code(error),
        ),
        ResponseKind::Fetch(r) => replace(
            &mut r.responses,
            |t| t.topic == name,
            |t| &mut t.partitions,
            |p| p.partition_index == partition,
            || fetch::FetchableTopicResponse::default().with_topic(name.clone()),
            fetch::PartitionData::default()
                .with_partition_index(partition)
                .with_high_watermark(-1)
                .with_aborted_transactions(None)
                .with_error_code(error),
        ),
        ResponseKind::ListOffsets(r) => replace(
            &mut r.topics,
            |t| t.name == name,
            |t| &mut t.partitions,
            |p| p.partition_index == partition,
            || list_offsets::ListOffsetsTopicResponse::default().with_name(name.clone()),
            list_offsets::ListOffsetsPartitionResponse::default()
                .with_partition_index(partition)
                .with_offset(-1)
                .with_timestamp(-1)
                .with_error_code(error),
        ),
        ResponseKind::OffsetCommit(r) => replace(
            &mut r.topics,
            |t| t.name == name,
            |t| &mut t.partitions,
            |p| p.partition_index == partition,
            || offset_commit::OffsetCommitResponseTopic::default().with_name(name.clone()),
            offset_commit::OffsetCommitResponsePartition::default()
                .with_partition_index(partition)
                .with_error_code(error),
        ),
        ResponseKind::OffsetForLeaderEpoch(r) => replace(
            &mut r.topics,
            |t| t.topic == name,
            |t| &mut t.partitions,
            |p| p.partition == partition,
            || epochs::OffsetForLeaderTopicResult::default().with_topic(name.clone()),
            epochs::EpochEndOffset::default()
                .with_partition(partition)
                .with_error_code(error),
        ),
        ResponseKind::DeleteRecords(r) => replace(
            &mut r.topics,
            |t| t.name == name,
            |t| &mut t.partitions,
            |p| p.partition_index == partition,
            || delete_records::DeleteRecordsTopicResult::default().with_name(name.clone()),
            delete_records::DeleteRecordsPartitionResult::default()
                .with_partition_index(partition)
                .with_low_watermark(-1)
                .with_error_code(error),
        ),
        _ => {}
    }
}

/// The topics and partitions that a request names, for APIs that go by partition.
pub(crate) fn partitions(request: &RequestKind) -> Vec<(String, i32)> {
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

/// `failed` in place of what stands for the same partition, wherever its topic stands.
fn replace<T, P>(
    topics: &mut Vec<T>,
    same_topic: impl Fn(&T) -> bool,
    partitions: impl Fn(&mut T) -> &mut Vec<P>,
    same_partition: impl Fn(&P) -> bool,
    fresh: impl FnOnce() -> T,
    failed: P,
) {
    for topic in topics.iter_mut().filter(|topic| same_topic(topic)) {
        partitions(topic).retain(|partition| !same_partition(partition));
    }
    let at = topics.iter().position(same_topic).unwrap_or_else(|| {
        topics.push(fresh());
        topics.len() - 1
    });
    partitions(&mut topics[at]).push(failed);
}
