//! A topic at one moment, as the brokers describe it.

use std::{collections::HashMap, sync::Arc};

use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use pipeline_core::PartitionId;

use crate::{
    KafkaError,
    cluster::{PartitionInfo, TopicId, TopicInfo},
    error::ErrorKind,
};

/// A topic, and where its leaders are, at one moment.
#[derive(Debug)]
pub(crate) struct TopicView {
    pub info: Arc<TopicInfo>,
    pub(super) partitions: Vec<PartitionView>,
}

#[derive(Clone, Debug)]
pub(super) struct PartitionView {
    leader: Option<Arc<str>>,
    leader_id: i32,
    /// -1 where the broker does not say.
    leader_epoch: i32,
    replicas: u32,
}

impl TopicView {
    /// What an answer says of a topic. `known` is what was known before.
    pub(super) fn read(
        cluster_id: String,
        topic: &str,
        described: MetadataResponseTopic,
        brokers: &HashMap<i32, Arc<str>>,
        known: Option<&TopicView>,
    ) -> Result<TopicView, KafkaError> {
        let id = (!described.topic_id.is_nil()).then_some(TopicId(described.topic_id));
        let topic_id = id.map_or_else(String::new, |id| id.0.simple().to_string());
        // Brokers do not all learn of a new leader at once: what one says may be older than what
        // another has said. Only the same topic's epochs can be compared.
        let known = known.filter(|known| !topic_id.is_empty() && known.info.topic_id == topic_id);
        let mut described = described.partitions;
        described.sort_unstable_by_key(|partition| partition.partition_index);
        let mut partitions = Vec::with_capacity(described.len());
        for (index, partition) in described.iter().enumerate() {
            if usize::try_from(partition.partition_index) != Ok(index) {
                let what = format!("metadata of topic {topic}: partition {index} is left out");
                return Err(KafkaError::new(ErrorKind::Retry, what));
            }
            let said = partition_view(partition, brokers);
            let newer = known
                .and_then(|known| known.partitions.get(index))
                .filter(|known| said.leader_epoch >= 0 && known.leader_epoch > said.leader_epoch);
            partitions.push(newer.cloned().unwrap_or(said));
        }
        if partitions.is_empty() {
            let what = format!("metadata of topic {topic}: it has no partitions yet");
            return Err(KafkaError::new(ErrorKind::Retry, what));
        }
        let info = TopicInfo {
            cluster_id,
            topic_id,
            id,
            partitions: partitions
                .iter()
                .zip(0..)
                .map(|(partition, id)| PartitionInfo {
                    id: PartitionId(id),
                    leader: partition.leader.is_some().then_some(partition.leader_id),
                })
                .collect(),
        };
        Ok(TopicView {
            info: Arc::new(info),
            partitions,
        })
    }

    /// The leader's address.
    pub(crate) fn leader_of(&self, partition: PartitionId) -> Result<&Arc<str>, String> {
        let found = usize::try_from(partition.0)
            .ok()
            .and_then(|index| self.partitions.get(index))
            .ok_or_else(|| {
                format!(
                    "partition {partition} is not known, the topic has {}",
                    self.partitions.len()
                )
            })?;
        found
            .leader
            .as_ref()
            .ok_or_else(|| format!("partition {partition} has no leader at the moment"))
    }

    pub(crate) fn has(&self, partition: PartitionId) -> bool {
        usize::try_from(partition.0).is_ok_and(|index| index < self.partitions.len())
    }

    pub(crate) fn all_have_leaders(&self) -> bool {
        self.partitions
            .iter()
            .all(|partition| partition.leader.is_some())
    }

    /// The least number of replicas of a partition.
    pub(crate) fn replication(&self) -> u32 {
        let replicas = self.partitions.iter().map(|partition| partition.replicas);
        replicas.min().unwrap_or(0)
    }
}

fn partition_view(
    partition: &MetadataResponsePartition,
    brokers: &HashMap<i32, Arc<str>>,
) -> PartitionView {
    PartitionView {
        leader: brokers.get(&partition.leader_id.0).cloned(),
        leader_id: partition.leader_id.0,
        leader_epoch: partition.leader_epoch,
        replicas: u32::try_from(partition.replica_nodes.len()).unwrap_or(u32::MAX),
    }
}

/// As [`Connection::open`](crate::net::Connection::open) takes it.
pub(crate) fn address_of(host: &str, port: i32) -> Arc<str> {
    if host.contains(':') {
        format!("[{host}]:{port}").into()
    } else {
        format!("{host}:{port}").into()
    }
}
