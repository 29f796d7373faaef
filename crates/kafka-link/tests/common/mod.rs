//! A broker to test against: the embedded one, or the one that `SLUICE_TEST_KAFKA` names.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod raw;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dev_broker::{Broker, Options};
use kafka_link::{
    Acks, BatchEncoder, Cluster, ClusterConfig, Codec, EncodedBatch, FetchFrom, FetchOptions,
    Fetched, KafkaError, NewTopic,
};
use pipeline_core::{
    Offset, PartitionId,
    config::{Config, KafkaSecurity},
};

/// No call of a test takes this long unless something is broken.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Stage {
    broker: Option<Broker>,
    pub brokers: Vec<String>,
    security: KafkaSecurity,
}

impl Stage {
    /// Either broker: for what has to work on both.
    pub async fn any() -> Self {
        match std::env::var("SLUICE_TEST_KAFKA") {
            Ok(address) if !address.is_empty() => Self {
                broker: None,
                security: security_of(&address),
                brokers: vec![address],
            },
            _ => Self::embedded(Options::default()).await,
        }
    }

    /// The embedded broker: for what needs its hooks.
    pub async fn embedded(options: Options) -> Self {
        let broker = Broker::start(options)
            .await
            .expect("the embedded broker starts");
        Self {
            brokers: broker.bootstrap_servers(),
            broker: Some(broker),
            security: KafkaSecurity::default(),
        }
    }

    pub fn broker(&self) -> &Broker {
        self.broker
            .as_ref()
            .expect("the test uses the embedded broker")
    }

    pub fn is_embedded(&self) -> bool {
        self.broker.is_some()
    }

    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.config())
    }

    pub fn config(&self) -> ClusterConfig {
        ClusterConfig {
            brokers: self.brokers.clone(),
            client_id: "test".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            response_bytes_max: 64 << 20,
            security: self.security.clone(),
        }
    }
}

/// What `SLUICE_TEST_KAFKA_CONFIG` names: lines of the section `kafka`.
fn security_of(broker: &str) -> KafkaSecurity {
    let Ok(file) = std::env::var("SLUICE_TEST_KAFKA_CONFIG") else {
        return KafkaSecurity::default();
    };
    let mut yaml = format!("kafka:\n  brokers: [\"{broker}\"]\n  groupID: g\n");
    for line in std::fs::read_to_string(file).unwrap().lines() {
        yaml.push_str(&format!("  {line}\n"));
    }
    let config = Config::parse(&yaml, &|name| std::env::var(name).ok());
    config.expect("the section is good").kafka.security
}

/// A topic of its own for each test.
pub async fn new_topic(cluster: &Cluster, partitions: u32, settings: &[(&str, &str)]) -> String {
    let name = unique("topic");
    let topic = NewTopic {
        name: name.clone(),
        partitions,
        replication_factor: 1,
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    cluster
        .create_topic(&topic)
        .await
        .expect("the topic is made");
    name
}

/// A name that no other test has, in this run or another on the same broker.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{}-{}-{count}", std::process::id(), now_ms())
}

pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("the clock is after 1970").as_millis() as i64
}

pub fn batch(values: &[impl AsRef<[u8]>], codec: Codec) -> EncodedBatch {
    let mut encoder = BatchEncoder::new(now_ms());
    for value in values {
        encoder.push(value.as_ref(), Some(("sluice", b"identity")));
    }
    encoder.finish(codec)
}

pub fn options() -> FetchOptions {
    FetchOptions {
        wait_max: Duration::from_millis(500),
        bytes_min: 1,
        bytes_max: 16 << 20,
        partition_bytes_max: 4 << 20,
    }
}

pub fn from(partition: i32, offset: i64) -> FetchFrom {
    FetchFrom {
        topic_id: None,
        partition: PartitionId(partition),
        offset: Offset(offset),
    }
}

/// Values of one partition, in order.
pub fn values(fetched: &Fetched) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for block in &fetched.blocks {
        for message in &block.messages {
            values.push(block.value(message).unwrap_or_default().to_vec());
        }
    }
    values
}

/// The result of the only partition asked.
pub fn only<T>(mut results: Vec<(PartitionId, Result<T, KafkaError>)>) -> Result<T, KafkaError> {
    assert_eq!(results.len(), 1);
    results.remove(0).1
}

/// Produces one message to one partition.
pub async fn produce_one(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<Offset, KafkaError> {
    let batches = vec![(PartitionId(partition), batch(&["message"], Codec::None))];
    only(cluster.produce(topic, Acks::All, timeout, batches).await)
}
