//! Connections, metadata, and the calls that need no group.

use std::{sync::Arc, time::Duration};

use pipeline_core::{Offset, PartitionId};

use crate::{EncodedBatch, KafkaError, MessageBlock};

#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `host:port`, IPv6 in brackets.
    pub brokers: Vec<String>,
    pub client_id: String,
    pub connect_timeout: Duration,
    /// For every call that has no timeout of its own.
    pub request_timeout: Duration,
    pub response_bytes_max: usize,
}

/// Cheap to clone; clones share connections and metadata.
#[derive(Clone)]
pub struct Cluster {
    #[allow(dead_code)]
    inner: Arc<()>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    All,
    Leader,
}

#[derive(Clone, Debug)]
pub struct PartitionInfo {
    pub id: PartitionId,
    pub leader: Option<i32>,
}

#[derive(Clone, Debug)]
pub struct TopicInfo {
    pub cluster_id: String,
    /// 32 hex digits; empty where the broker gives none.
    pub topic_id: String,
    /// In order of id, without gaps.
    pub partitions: Vec<PartitionInfo>,
}

/// What the broker says of a topic (DescribeConfigs) and of its replicas.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    pub cleanup_policy: String,
    pub min_insync_replicas: Option<u32>,
    pub unclean_leader_election: Option<bool>,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
    pub max_message_bytes: Option<usize>,
    pub replication: u32,
}

#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    pub partitions: u32,
    pub replication_factor: u16,
    /// As `("min.insync.replicas", "2")`.
    pub settings: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug)]
pub struct FetchFrom {
    pub partition: PartitionId,
    pub offset: Offset,
}

#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    pub wait_max: Duration,
    pub bytes_min: u32,
    pub bytes_max: u32,
    pub partition_bytes_max: u32,
}

/// What one partition gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub partition: PartitionId,
    pub blocks: Vec<MessageBlock>,
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Where to fetch from next (past the last block).
    pub next: Offset,
}

impl Cluster {
    /// Does no I/O.
    #[must_use]
    pub fn new(config: ClusterConfig) -> Self {
        let _ = config;
        todo!()
    }

    /// The topic, from the cache or asked anew.
    ///
    /// # Errors
    /// `Fatal` where the topic does not exist.
    pub async fn topic(&self, topic: &str) -> Result<Arc<TopicInfo>, KafkaError> {
        let _ = topic;
        todo!()
    }

    /// Drops what the cache has of `topic`.
    pub fn forget(&self, topic: &str) {
        let _ = topic;
        todo!()
    }

    /// # Errors
    /// `Fatal` where the answer does not hold them.
    pub async fn settings(&self, topic: &str) -> Result<TopicSettings, KafkaError> {
        let _ = topic;
        todo!()
    }

    /// Makes a topic; one that exists already is fine.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), KafkaError> {
        let _ = topic;
        todo!()
    }

    /// The first offsets in the logs, one result for each partition asked.
    pub async fn log_starts(
        &self,
        topic: &str,
        partitions: &[PartitionId],
    ) -> Vec<(PartitionId, Result<Offset, KafkaError>)> {
        let _ = (topic, partitions);
        todo!()
    }

    /// The ends of the logs (exclusive), one result for each partition asked.
    pub async fn log_ends(
        &self,
        topic: &str,
        partitions: &[PartitionId],
    ) -> Vec<(PartitionId, Result<Offset, KafkaError>)> {
        let _ = (topic, partitions);
        todo!()
    }

    /// Produces one batch to each partition named, one request per leader; one result (the base
    /// offset) for each. Never tries again by itself: a batch is sent at most once per call.
    /// A wall-clock `timeout` is `UnknownOutcome` for what was written to a connection.
    pub async fn produce(
        &self,
        topic: &str,
        acks: Acks,
        timeout: Duration,
        batches: Vec<(PartitionId, EncodedBatch)>,
    ) -> Vec<(PartitionId, Result<Offset, KafkaError>)> {
        let _ = (topic, acks, timeout, batches);
        todo!()
    }

    /// Long-polls the leaders of `from` (one request per leader side by side) and gives what came,
    /// one result for each partition that had data or an error.
    pub async fn fetch(
        &self,
        topic: &str,
        from: &[FetchFrom],
        options: FetchOptions,
    ) -> Vec<(PartitionId, Result<Fetched, KafkaError>)> {
        let _ = (topic, from, options);
        todo!()
    }

    /// Drops every connection, so that the next call starts afresh.
    pub fn disconnect(&self) {
        todo!()
    }
}
