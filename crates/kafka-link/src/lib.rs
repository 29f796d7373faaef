//! Everything Kafka. The services see the types here and nothing of any client library.
//!
//! A [`Cluster`] is a bounded set of connections with a metadata cache; every call ends within a
//! wall-clock timeout. [`batch`] makes and reads record batches (KIP-98 format, magic 2) over
//! plain bytes; [`fitness`] judges whether a topic keeps the promise; [`group`] is classic group
//! membership (KIP-62, KIP-345).

pub mod batch;
pub mod check;
pub mod cluster;
pub mod error;
pub mod fitness;
pub mod group;
mod net;

pub use batch::{
    BATCH_MEMORY_MAX, BatchEncoder, Codec, EncodedBatch, HeaderSlot, Message, MessageBlock,
};
pub use cluster::{
    Acks, Cluster, ClusterConfig, FetchFrom, FetchOptions, Fetched, NewTopic, PartitionInfo,
    TopicId, TopicInfo, TopicSettings,
};
pub use error::{ErrorKind, KafkaError, produce_errors};
pub use group::{Assignment, Beat, Committed, GroupConfig, Member, Pulse};
pub use net::{PRODUCE_CONNECTIONS, security_faults};
