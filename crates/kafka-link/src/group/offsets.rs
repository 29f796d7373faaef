//! A group's committed offsets.

use std::{collections::BTreeMap, time::Instant};

use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, TopicName,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    },
};
use pipeline_core::{Offset, PartitionId};

use super::{Committed, Manner, Seat, text};
use crate::{
    KafkaError,
    error::{Context, ErrorKind},
    net::{Call, Lane},
};

/// From this version on offsets of open transactions can be waited for.
const STABLE_VERSION: i16 = 7;
/// From this version on several groups may be asked for at once.
const MANY_GROUPS_VERSION: i16 = 8;
/// Until this version a commit says how long it is kept; -1 leaves it to the broker.
const RETENTION_VERSION_MAX: i16 = 4;
const LEADER_EPOCH_VERSION: i16 = 6;

impl Seat {
    pub(super) async fn commit(
        &self,
        offsets: &[(PartitionId, Committed)],
    ) -> Vec<(PartitionId, Result<(), KafkaError>)> {
        let place = self.place().clone();
        let Some(generation) = place.generation else {
            let error = self.not_a_member();
            return offsets
                .iter()
                .map(|(partition, _)| (*partition, Err(error.clone())))
                .collect();
        };
        let (ours, others): (Vec<_>, Vec<_>) = offsets
            .iter()
            .partition(|(partition, _)| place.partitions.contains(partition));
        let mut results: Vec<(PartitionId, Result<(), KafkaError>)> = others
            .into_iter()
            .map(|(partition, _)| {
                let what = format!(
                    "commit to group {}: partition {partition} is not ours",
                    self.config.group_id
                );
                (*partition, Err(KafkaError::new(ErrorKind::Lost, what)))
            })
            .collect();
        if ours.is_empty() {
            return results;
        }
        let build = |version| {
            let partitions = ours.iter().map(|(partition, committed)| {
                let partition = OffsetCommitRequestPartition::default()
                    .with_partition_index(partition.0)
                    .with_committed_offset(committed.offset.0)
                    .with_committed_metadata(Some(text(&committed.metadata)));
                if version < LEADER_EPOCH_VERSION {
                    partition
                } else {
                    partition.with_committed_leader_epoch(-1)
                }
            });
            let topic = OffsetCommitRequestTopic::default()
                .with_name(TopicName(text(&self.config.topic)))
                .with_partitions(partitions.collect());
            let request = OffsetCommitRequest::default()
                .with_group_id(self.group_id())
                .with_generation_id_or_member_epoch(generation)
                .with_member_id(text(&place.member_id))
                .with_group_instance_id(self.instance_id())
                .with_topics(vec![topic]);
            if version <= RETENTION_VERSION_MAX {
                request.with_retention_time_ms(-1)
            } else {
                request
            }
        };
        let answer = self
            .coordinator
            .ask(self.brief(Context::Commit), build, |answer| {
                let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
                partitions
                    .map(|partition| partition.error_code)
                    .collect::<Vec<_>>()
            })
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let ours = ours.into_iter();
                results.extend(ours.map(|(partition, _)| (*partition, Err(error.clone()))));
                return results;
            }
        };
        for (partition, _) in ours {
            let mut answered = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let answered = answered.find(|answered| answered.partition_index == partition.0);
            let result = match answered.map(|answered| answered.error_code) {
                Some(0) => Ok(()),
                Some(code) => {
                    let call = format!(
                        "commit to group {} partition {partition}",
                        self.config.group_id
                    );
                    Err(KafkaError::answered(Context::Commit, code, &call, None))
                }
                None => {
                    let what = format!(
                        "commit to group {}: the answer leaves out partition {partition}",
                        self.config.group_id
                    );
                    Err(KafkaError::new(ErrorKind::UnknownOutcome, what))
                }
            };
            if let Err(error) = &result {
                self.note(error, generation);
            }
            results.push((*partition, result));
        }
        results
    }

    pub(super) async fn committed(
        &self,
        partitions: &[PartitionId],
    ) -> Result<BTreeMap<PartitionId, Committed>, KafkaError> {
        let indexes: Vec<i32> = partitions.iter().map(|partition| partition.0).collect();
        let answer = self
            .coordinator
            .ask(
                self.brief(Context::Group),
                |version| self.offset_fetch(version, &indexes),
                |answer| {
                    Found::read(answer)
                        .into_iter()
                        .map(|found| found.code)
                        .collect::<Vec<_>>()
                },
            )
            .await?;
        let mut committed = BTreeMap::new();
        for found in Found::read(&answer) {
            if found.code != 0 {
                return Err(self.refused(OffsetFetchRequest::NAME, found.code));
            }
            let Some((topic, partition, offset, metadata)) = found.partition else {
                continue;
            };
            // -1: nothing was committed.
            if topic == self.config.topic && offset >= 0 && indexes.contains(&partition) {
                committed.insert(
                    PartitionId(partition),
                    Committed {
                        offset: Offset(offset),
                        metadata: metadata.unwrap_or("").to_owned(),
                    },
                );
            }
        }
        Ok(committed)
    }

    fn offset_fetch(&self, version: i16, indexes: &[i32]) -> OffsetFetchRequest {
        let mut request = OffsetFetchRequest::default();
        if version >= STABLE_VERSION {
            request.require_stable = true;
        }
        if version < MANY_GROUPS_VERSION {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(TopicName(text(&self.config.topic)))
                .with_partition_indexes(indexes.to_vec());
            return request
                .with_group_id(self.group_id())
                .with_topics(Some(vec![topic]));
        }
        let topic = OffsetFetchRequestTopics::default()
            .with_name(TopicName(text(&self.config.topic)))
            .with_partition_indexes(indexes.to_vec());
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(self.group_id())
            .with_topics(Some(vec![topic]));
        request.with_groups(vec![group])
    }

    fn brief(&self, context: Context) -> Manner {
        Manner {
            lane: Lane::Group,
            context,
            attempt: self.request_timeout(),
            deadline: Instant::now() + self.request_timeout(),
        }
    }
}

/// A piece of an offset fetch's answer, whatever its version.
struct Found<'a> {
    code: i16,
    /// Topic, index, offset, metadata.
    partition: Option<(&'a str, i32, i64, Option<&'a str>)>,
}

impl<'a> Found<'a> {
    fn read(answer: &'a OffsetFetchResponse) -> Vec<Self> {
        let whole = |code| Self {
            code,
            partition: None,
        };
        let mut all = vec![whole(answer.error_code)];
        for topic in &answer.topics {
            all.extend(topic.partitions.iter().map(|partition| Self {
                code: partition.error_code,
                partition: Some((
                    topic.name.as_str(),
                    partition.partition_index,
                    partition.committed_offset,
                    partition.metadata.as_deref(),
                )),
            }));
        }
        for group in &answer.groups {
            all.push(whole(group.error_code));
            for topic in &group.topics {
                all.extend(topic.partitions.iter().map(|partition| Self {
                    code: partition.error_code,
                    partition: Some((
                        topic.name.as_str(),
                        partition.partition_index,
                        partition.committed_offset,
                        partition.metadata.as_deref(),
                    )),
                }));
            }
        }
        all
    }
}
