//! Connections, metadata, and the calls that need no group.
//!
//! Each call is sent at most once, unless it says otherwise: trying again is the caller's, who
//! knows its deadline and what an unknown outcome means to it.

mod fetch;
mod lookup;
mod metadata;
mod produce;
mod topics;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline_core::{Offset, PartitionId, config::KafkaSecurity};
use uuid::Uuid;

use crate::{
    EncodedBatch, KafkaError, MessageBlock,
    error::{Context, ErrorKind},
    net::{Call, FILES_AGE_MAX, Lane, Limits, Pool, Security},
};
use fetch::{Growth, Parked};
use metadata::Metadata;
pub use topics::NewTopic;

pub(crate) use metadata::{TopicView, address_of};

#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `host:port`, IPv6 in brackets.
    pub brokers: Vec<String>,
    pub client_id: String,
    pub connect_timeout: Duration,
    /// For every call that has no timeout of its own.
    pub request_timeout: Duration,
    pub response_bytes_max: usize,
    pub security: KafkaSecurity,
}

/// Cheap to clone; clones share connections and metadata.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: ClusterConfig,
    pool: Pool,
    metadata: Metadata,
    /// Fetches on the way that nobody waits for at the moment.
    parked: Parked,
    growth: Growth,
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

/// What a topic keeps for life: one made anew under the same name has another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicId(pub(crate) Uuid);

impl TopicId {
    /// From 32 hex digits; none of anything else.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        let id = u128::from_str_radix(hex, 16).ok()?;
        (hex.len() == 32 && id != 0).then_some(Self(Uuid::from_u128(id)))
    }
}

#[derive(Clone, Debug)]
pub struct TopicInfo {
    pub cluster_id: String,
    /// 32 hex digits; empty where the broker gives none.
    pub topic_id: String,
    /// The same; none where the broker gives none.
    pub id: Option<TopicId>,
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

#[derive(Clone, Copy, Debug)]
pub struct FetchFrom {
    /// The topic that the offset is of, where the caller knows: of no other is anything given.
    pub topic_id: Option<TopicId>,
    pub partition: PartitionId,
    pub offset: Offset,
}

/// Bytes are of memory, decompressed. One batch always comes, however large.
#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    pub wait_max: Duration,
    /// Of an answer as it is sent.
    pub bytes_min: u32,
    pub bytes_max: u32,
    pub partition_bytes_max: u32,
}

/// What one partition gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub partition: PartitionId,
    pub blocks: Vec<MessageBlock>,
    /// -1 where the broker does not say (before Kafka 1.0).
    pub log_start: Offset,
    pub high_watermark: Offset,
    /// Where to fetch from next (past the last block).
    pub next: Offset,
}

impl Cluster {
    /// Does no I/O.
    #[must_use]
    pub fn new(config: ClusterConfig) -> Self {
        let limits = Limits {
            client_id: config.client_id.clone(),
            connect_timeout: config.connect_timeout,
            files_age_max: FILES_AGE_MAX,
            response_bytes_max: config.response_bytes_max,
            security: Arc::new(Security::new(config.security.clone())),
        };
        Self {
            inner: Arc::new(Inner {
                pool: Pool::new(limits),
                metadata: Metadata::new(&config.brokers),
                parked: Parked::default(),
                growth: Growth::default(),
                config,
            }),
        }
    }

    /// The topic, from the cache or asked anew.
    ///
    /// # Errors
    /// `Fatal` where the topic does not exist.
    pub async fn topic(&self, topic: &str) -> Result<Arc<TopicInfo>, KafkaError> {
        let view = self.inner.view(topic, self.deadline()).await?;
        Ok(Arc::clone(&view.info))
    }

    /// The topic, asked anew; what the cache had is used by others until the answer is there.
    ///
    /// # Errors
    /// As [`Self::topic`].
    pub async fn topic_now(&self, topic: &str) -> Result<Arc<TopicInfo>, KafkaError> {
        let view = self.inner.ask_topic(topic, self.deadline()).await?;
        Ok(Arc::clone(&view.info))
    }

    /// Drops what the cache has of `topic`.
    pub fn forget(&self, topic: &str) {
        self.inner.metadata.forget(topic);
    }

    /// Asks the brokers anew.
    ///
    /// # Errors
    /// `Fatal` where the answer does not hold them.
    pub async fn settings(&self, topic: &str) -> Result<TopicSettings, KafkaError> {
        self.inner.settings(topic, self.deadline()).await
    }

    /// Makes a topic; one that exists already is fine. Ends once all its partitions have leaders.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), KafkaError> {
        self.inner.create_topic(topic, self.deadline()).await
    }

    /// The first offsets in the logs, one result for each partition asked.
    pub async fn log_starts(
        &self,
        topic: &str,
        partitions: &[PartitionId],
    ) -> Vec<(PartitionId, Result<Offset, KafkaError>)> {
        let at = lookup::LogEdge::Start;
        self.inner
            .log_edges(topic, partitions, at, self.deadline())
            .await
    }

    /// The ends of the logs (exclusive), one result for each partition asked.
    pub async fn log_ends(
        &self,
        topic: &str,
        partitions: &[PartitionId],
    ) -> Vec<(PartitionId, Result<Offset, KafkaError>)> {
        let at = lookup::LogEdge::End;
        self.inner
            .log_edges(topic, partitions, at, self.deadline())
            .await
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
        let deadline = Instant::now() + timeout;
        self.inner.produce(topic, acks, deadline, batches).await
    }

    /// Where the brokers know topic ids, what comes is of the topic of `from` and no other: one that
    /// has been made anew gives `OtherTopic`. So does a partition that the topic does not have.
    ///
    /// Long-polls the leaders of `from` (one request per leader side by side) and gives what came,
    /// one result for each partition that had data or an error. Ends as soon as one leader has
    /// answered, if only that it has nothing.
    ///
    /// May be dropped at any moment, as in `select!`: what is on the way then, and what is on the
    /// way from slower leaders when this ends, is picked up by the next call that asks that leader
    /// for the same offsets.
    pub async fn fetch(
        &self,
        topic: &str,
        from: &[FetchFrom],
        options: FetchOptions,
    ) -> Vec<(PartitionId, Result<Fetched, KafkaError>)> {
        self.inner.fetch(topic, from, options).await
    }

    /// Drops every connection and what is known of topics, so that the next call starts afresh.
    pub fn disconnect(&self) {
        self.inner.parked.clear();
        self.inner.pool.close_all();
        self.inner.metadata.forget_all();
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.inner.config.request_timeout
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("brokers", &self.inner.config.brokers)
            .finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.config
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether there is a connection to it, or can be one.
    pub(crate) async fn reach(
        &self,
        address: &Arc<str>,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        let lane = self.pool.lane(address, Lane::Control);
        let opened = lane.shared(deadline).await.map(|_| ());
        opened.map_err(|error| error.in_context(Context::Lookup))
    }

    /// One request on a shared connection of `lane`, and its answer. `build` makes the request
    /// for the version that is spoken there.
    pub(crate) async fn call<R: Call>(
        &self,
        address: &Arc<str>,
        lane: Lane,
        context: Context,
        deadline: Instant,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, KafkaError> {
        let lane = self.pool.lane(address, lane);
        let answer = async {
            let connection = lane.shared(deadline).await?;
            let version = connection.version::<R>()?;
            connection
                .start(&build(version), version)?
                .wait(deadline)
                .await
        };
        answer
            .await
            .map_err(|error| error.in_context(context).within(R::NAME))
    }

    /// One request on a connection it has to itself: for what the broker may answer late.
    pub(crate) async fn call_alone<R: Call>(
        &self,
        address: &Arc<str>,
        lane: Lane,
        context: Context,
        deadline: Instant,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, KafkaError> {
        let lane = self.pool.lane(address, lane);
        let answer = async {
            let lease = lane.exclusive(deadline).await?;
            let version = lease.connection().version::<R>()?;
            let mut pending = lease.connection().start(&build(version), version)?;
            let answer = pending.wait(deadline).await?;
            lease.finish();
            Ok(answer)
        };
        answer
            .await
            .map_err(|error: crate::net::CallError| error.in_context(context).within(R::NAME))
    }
}

/// What belongs to one leader.
struct LeaderShare<T> {
    address: Arc<str>,
    items: Vec<(PartitionId, T)>,
}

/// Sorts `items` by the leaders of their partitions. Those without a leader get an error each.
fn by_leader<T>(
    view: &TopicView,
    items: impl IntoIterator<Item = (PartitionId, T)>,
) -> (Vec<LeaderShare<T>>, Vec<(PartitionId, KafkaError)>) {
    let mut shares: Vec<LeaderShare<T>> = Vec::new();
    let mut leaderless = Vec::new();
    for (partition, item) in items {
        match view.leader_of(partition) {
            Ok(address) => match shares.iter_mut().find(|share| share.address == *address) {
                Some(share) => share.items.push((partition, item)),
                None => shares.push(LeaderShare {
                    address: Arc::clone(address),
                    items: vec![(partition, item)],
                }),
            },
            Err(message) => {
                let error = KafkaError::new(ErrorKind::RefreshAndRetry, message);
                leaderless.push((partition, error));
            }
        }
    }
    (shares, leaderless)
}
