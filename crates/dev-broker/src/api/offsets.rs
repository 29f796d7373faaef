//! OffsetCommit and OffsetFetch.

use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    offset_commit_request::OffsetCommitRequestPartition,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
};

use super::{Context, groups::check_group, text, topic_name};
use crate::{
    coordinator::{Committed, METADATA_BYTES_MAX},
    error_code as code,
    group::Who,
};

/// A partition that is asked for, and what is known of it.
type Known = (i32, Option<Committed>);

pub(crate) fn commit(context: &Context<'_>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let who = Who {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    // what is wrong with a partition in itself, and what is to be kept of the others
    let mut wrong = Vec::new();
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let found = context.shared.cluster.topic(&topic.name);
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let known = found.as_ref().and_then(|t| t.partition(index)).is_some();
            let error = check(partition, known);
            wrong.push(error);
            if error == code::NONE {
                let key = (topic.name.to_string(), index);
                offsets.push((key, committed(partition)));
            }
        }
    }
    let store = context.shared.cluster.store();
    let done = check_group(context, &request.group_id).and_then(|()| {
        let coordinator = &context.shared.coordinator;
        coordinator.commit(store, &request.group_id, who, offsets)
    });
    let mut wrong = wrong.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let own = wrong.next().unwrap_or(code::NONE);
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(done.err().unwrap_or(own))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

pub(crate) fn fetch(context: &Context<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let answer = OffsetFetchResponse::default();
    if context.version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let topics = group.topics.map(|topics| {
                let each = topics.into_iter();
                each.map(|t| (t.name.to_string(), t.partition_indexes))
                    .collect()
            });
            let known = known(context, &group.group_id, topics);
            let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
            match known {
                Ok(topics) => answer.with_topics(topics.into_iter().map(batched).collect()),
                Err(error) => answer.with_error_code(error),
            }
        });
        return answer.with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        let each = topics.into_iter();
        each.map(|t| (t.name.to_string(), t.partition_indexes))
            .collect()
    });
    match known(context, &request.group_id, topics) {
        Ok(topics) => {
            let single = |known| single(context, known);
            answer.with_topics(topics.into_iter().map(single).collect())
        }
        Err(error) if context.version >= 2 => answer.with_error_code(error),
        Err(_) => answer,
    }
}

fn check(partition: &OffsetCommitRequestPartition, known: bool) -> i16 {
    let metadata = partition.committed_metadata.as_ref();
    if !known {
        code::UNKNOWN_TOPIC_OR_PARTITION
    } else if metadata.is_some_and(|m| m.len() > METADATA_BYTES_MAX) {
        code::OFFSET_METADATA_TOO_LARGE
    } else {
        code::NONE
    }
}

fn committed(partition: &OffsetCommitRequestPartition) -> Committed {
    let metadata = partition.committed_metadata.as_deref();
    Committed {
        offset: partition.committed_offset,
        epoch: partition.committed_leader_epoch,
        metadata: metadata.unwrap_or_default().to_owned(),
    }
}

/// What the group has committed for these topics, or for all (`None`).
fn known(
    context: &Context<'_>,
    group: &str,
    topics: Option<Vec<(String, Vec<i32>)>>,
) -> Result<Vec<(String, Vec<Known>)>, i16> {
    check_group(context, group)?;
    context.shared.coordinator.with(group, |entry| {
        let offsets = entry.map(|entry| &entry.offsets);
        if let Some(topics) = topics {
            let of = |topic: &String, index: i32| {
                let found = offsets.and_then(|o| o.get(&(topic.clone(), index)));
                (index, found.cloned())
            };
            let each = topics.into_iter().map(|(topic, indexes)| {
                let known = indexes.iter().map(|index| of(&topic, *index)).collect();
                (topic, known)
            });
            return Ok(each.collect());
        }
        let mut all: Vec<(String, Vec<Known>)> = Vec::new();
        for ((topic, index), committed) in offsets.into_iter().flatten() {
            let one = (*index, Some(committed.clone()));
            match all.last_mut() {
                Some((last, known)) if last == topic => known.push(one),
                _ => all.push((topic.clone(), vec![one])),
            }
        }
        Ok(all)
    })
}

fn single(context: &Context<'_>, (topic, known): (String, Vec<Known>)) -> OffsetFetchResponseTopic {
    let partitions = known.into_iter().map(|(index, committed)| {
        let answer = OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(text("")));
        match committed {
            None => answer,
            Some(committed) => {
                let epoch = if context.version >= 5 {
                    committed.epoch
                } else {
                    -1
                };
                answer
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(Some(text(&committed.metadata)))
            }
        }
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic_name(&topic))
        .with_partitions(partitions.collect())
}

fn batched((topic, known): (String, Vec<Known>)) -> OffsetFetchResponseTopics {
    let partitions = known.into_iter().map(|(index, committed)| {
        let answer = OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(text("")));
        match committed {
            None => answer,
            Some(committed) => answer
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.epoch)
                .with_metadata(Some(text(&committed.metadata))),
        }
    });
    OffsetFetchResponseTopics::default()
        .with_name(topic_name(&topic))
        .with_partitions(partitions.collect())
}
