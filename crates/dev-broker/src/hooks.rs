//! What a test reaches into the broker with, besides faults: leaders, logs, topics, pauses, and
//! looking.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;

use crate::{
    Api, Broker, RawBatch, TopicSpec,
    batch::BatchHead,
    cluster::{Refusal, Topic},
    partition::Partition,
    settings::Settings,
};

/// Why a hook could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("no topic {0}")]
    UnknownTopic(String),
    #[error("no partition {1} in topic {0}")]
    UnknownPartition(String, i32),
    #[error("no node {0}")]
    UnknownNode(i32),
    #[error("refused with error code {code}: {why}")]
    Refused { code: i16, why: String },
    #[error("failed to listen on {addr} again: {cause}")]
    Listen {
        addr: SocketAddr,
        cause: std::io::Error,
    },
    #[error("not one whole record batch of magic 2")]
    NotABatch,
    #[error("{0}")]
    Command(String),
    #[error("failed to change the log: {0}")]
    Log(#[from] std::io::Error),
}

/// Pausing: as SIGSTOP, connections stay open and nothing is answered.
impl Broker {
    /// Every node stops answering, and group timers stand still.
    pub fn pause(&self) {
        self.set_paused(None, true);
    }

    pub fn resume(&self) {
        self.set_paused(None, false);
    }

    pub fn pause_node(&self, id: i32) {
        self.set_paused(Some(id), true);
    }

    pub fn resume_node(&self, id: i32) {
        self.set_paused(Some(id), false);
    }

    fn set_paused(&self, node: Option<i32>, paused: bool) {
        for (id, sender) in (1..).zip(&self.shared.paused) {
            if node.is_none_or(|node| node == id) {
                sender.send_replace(paused);
            }
        }
    }
}

/// Topics.
impl Broker {
    pub fn create_topic(&self, spec: &TopicSpec) -> Result<(), HookError> {
        let mut spec = spec.clone();
        spec.replication = spec.replication.min(self.shared.cluster.nodes.len() as i16);
        let made = self.shared.cluster.create_topic(&spec, false);
        made.map(|_| ()).map_err(refused)
    }

    /// The topic is gone with its records and the groups' offsets of it.
    pub fn delete_topic(&self, name: &str) -> Result<(), HookError> {
        let gone = self.shared.delete_topic(name);
        gone.map(|_| ()).ok_or_else(|| unknown_topic(name))
    }

    /// Deletes the topic and makes an empty one of the same name, partitions and settings: it
    /// has another topic id.
    pub fn recreate_topic(&self, name: &str) -> Result<(), HookError> {
        let gone = self.shared.delete_topic(name);
        let gone = gone.ok_or_else(|| unknown_topic(name))?;
        self.create_topic(&TopicSpec {
            name: name.to_owned(),
            partitions: gone.partitions().len() as i32,
            replication: gone.replication,
            settings: gone.settings().overrides().clone(),
        })
    }

    pub fn grow_topic(&self, name: &str, partitions: i32) -> Result<(), HookError> {
        let topic = self.topic(name)?;
        let grown = self.shared.cluster.grow_topic(&topic, partitions);
        grown.map_err(refused)
    }

    /// Sets one of the topic's settings, as an admin tool would.
    pub fn set_setting(&self, topic: &str, name: &str, value: &str) -> Result<(), HookError> {
        let topic = self.topic(topic)?;
        let mut overrides: BTreeMap<_, _> = topic.settings().overrides().clone();
        overrides.insert(name.to_owned(), value.to_owned());
        let settings = Settings::new(overrides, self.shared.cluster.message_max_bytes);
        let code = crate::error_code::INVALID_CONFIG;
        topic.set_settings(settings.map_err(|why| HookError::Refused { code, why })?);
        self.shared.cluster.save();
        Ok(())
    }

    /// The 16 bytes of the topic's id.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<[u8; 16]> {
        let topic = self.shared.cluster.topic(name)?;
        Some(topic.id.into_bytes())
    }
}

/// Leaders and logs.
impl Broker {
    /// The partition is led by this node from now on, in a new epoch; the old leader refuses.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<(), HookError> {
        let partition = self.partition(topic, partition)?;
        let cluster = &self.shared.cluster;
        cluster.node(node).ok_or(HookError::UnknownNode(node))?;
        cluster.set_leader(&partition, node);
        Ok(())
    }

    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let partition = self.shared.cluster.partition(topic, partition)?;
        Some(partition.lock().leader)
    }

    /// All groups are coordinated by this node from now on; the old one refuses.
    pub fn move_coordinator(&self, node: i32) -> Result<(), HookError> {
        let cluster = &self.shared.cluster;
        cluster.node(node).ok_or(HookError::UnknownNode(node))?;
        cluster.set_coordinator(node);
        Ok(())
    }

    /// What lies at or after `offset` is gone, in whole batches, as after an unclean election.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<(), HookError> {
        let partition = self.partition(topic, partition)?;
        let mut inner = partition.lock();
        inner.log.truncate(offset)?;
        inner.epoch += 1;
        inner.wake();
        drop(inner);
        self.shared.cluster.save();
        Ok(())
    }

    /// Moves the log start, as retention does.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) -> Result<(), HookError> {
        let partition = self.partition(topic, partition)?;
        let mut inner = partition.lock();
        inner.log.delete_before(offset);
        inner.wake();
        drop(inner);
        self.shared.cluster.save();
        Ok(())
    }

    /// Appends one record batch as it is, whatever a real broker would say to it: control
    /// batches, transactions, gaps as compaction leaves them, a wrong checksum. Only its base
    /// offset and leader epoch are set. Returns the base offset.
    pub fn append_raw(&self, topic: &str, partition: i32, batch: &[u8]) -> Result<i64, HookError> {
        let head = BatchHead::read(batch).filter(|head| head.len == batch.len());
        let head = head.ok_or(HookError::NotABatch)?;
        let partition = self.partition(topic, partition)?;
        let mut inner = partition.lock();
        let epoch = inner.epoch;
        let base = inner.log.append(batch, &head, epoch)?;
        inner.wake();
        Ok(base)
    }

    /// Appends a batch that no client could write, and returns its base offset.
    pub fn append(&self, topic: &str, partition: i32, batch: &RawBatch) -> Result<i64, HookError> {
        self.append_raw(topic, partition, &batch.encode())
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn log_start(&self, topic: &str, partition: i32) -> Option<i64> {
        let partition = self.shared.cluster.partition(topic, partition)?;
        Some(partition.lock().log.start())
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn log_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let partition = self.shared.cluster.partition(topic, partition)?;
        Some(partition.lock().log.end())
    }

    /// Every stored batch of the partition, back to back.
    #[must_use]
    pub fn stored(&self, topic: &str, partition: i32) -> Option<Bytes> {
        let partition = self.shared.cluster.partition(topic, partition)?;
        let inner = partition.lock();
        let (start, end) = (inner.log.start(), inner.log.end());
        inner.log.read(start, end, usize::MAX, true).ok()?.ok()
    }

    /// What the group has committed for the partition: the next offset to read, and its metadata.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<(i64, String)> {
        self.shared.coordinator.with(group, |entry| {
            let committed = entry?.offsets.get(&(topic.to_owned(), partition))?;
            Some((committed.offset, committed.metadata.clone()))
        })
    }

    /// The group's state (as DescribeGroups names it), generation, and member ids.
    #[must_use]
    pub fn group(&self, group: &str) -> Option<(String, i32, Vec<String>)> {
        self.shared.coordinator.with(group, |entry| {
            let group = &entry?.group;
            let members = group.members().map(|(id, _)| id.clone()).collect();
            Some((group.state_name().to_owned(), group.generation(), members))
        })
    }

    /// Requests of this API that have arrived, at all nodes.
    #[must_use]
    pub fn requests_seen(&self, api: Api) -> u64 {
        self.shared.seen.get(api)
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, HookError> {
        let topic = self.shared.cluster.topic(name);
        topic.ok_or_else(|| unknown_topic(name))
    }

    fn partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, HookError> {
        let found = self.topic(topic)?.partition(index);
        found.ok_or_else(|| HookError::UnknownPartition(topic.to_owned(), index))
    }
}

fn unknown_topic(name: &str) -> HookError {
    HookError::UnknownTopic(name.to_owned())
}

fn refused((code, why): Refusal) -> HookError {
    HookError::Refused { code, why }
}
