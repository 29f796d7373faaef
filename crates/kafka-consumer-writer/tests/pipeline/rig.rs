//! A broker, a store directory, writers that are started, stopped and killed, and commands.

mod found;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use dev_broker::{Broker, Options};
pub use found::Stored;
use kafka_consumer_writer::{
    log_ends::LogEnds,
    service::{self, ServiceError},
    shared::Shared,
};
use kafka_link::{Acks, BatchEncoder, Cluster, ClusterConfig, Codec};
use pipeline_core::{
    BatchId, Offset, PartitionId,
    config::Config,
    envelope::{Envelope, HEADER_NAME},
    store::{Chain, Store},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// When [`Rig::send`] says that it was received.
pub const RECEIVED_MS: i64 = 1_600_000_000_000;
pub const TOPIC: &str = "logs";
pub const GROUP: &str = "writers";
/// Longest wait for anything that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Rig {
    pub broker: Broker,
    pub dir: tempfile::TempDir,
    pub producer: Cluster,
    partitions: i32,
}

/// A writer process's worth of members, as a task.
pub struct Writer {
    shared: Arc<Shared>,
    pub shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServiceError>>,
}

/// One record as it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    pub partition: i32,
    pub offset: i64,
    pub batch: u64,
    pub sequence: u32,
}

impl Rig {
    pub async fn new(partitions: i32) -> Self {
        Self::with(Options::default().topic(TOPIC, partitions), partitions).await
    }

    pub async fn with(options: Options, partitions: i32) -> Self {
        let broker = Broker::start(options).await.expect("the broker starts");
        let producer = Cluster::new(ClusterConfig {
            brokers: broker.bootstrap_servers(),
            client_id: "test".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            response_bytes_max: 64 << 20,
            security: Default::default(),
        });
        Self {
            broker,
            dir: tempfile::tempdir().expect("a directory"),
            producer,
            partitions,
        }
    }

    /// The configuration, with further lines for sections `kafka` and `consumer`.
    pub fn config(&self, dir: &Path, kafka: &str, consumer: &str) -> Config {
        let yaml = self.yaml(dir, kafka, consumer);
        Config::parse(&yaml, &|_| None).unwrap_or_else(|faults| panic!("{faults:?}\n{yaml}"))
    }

    /// As [`Self::config`], to be written to a file.
    pub fn yaml(&self, dir: &Path, kafka: &str, consumer: &str) -> String {
        let lines = |given: &str, defaults: &[&str]| {
            let given: Vec<&str> = given.split(';').map(str::trim).collect();
            let key = |line: &str| line.split(':').next().map(str::to_owned);
            defaults
                .iter()
                .filter(|default| !given.iter().any(|line| key(line) == key(default)))
                .chain(given.iter().filter(|line| !line.is_empty()))
                .map(|line| format!("  {line}\n"))
                .collect::<String>()
        };
        let brokers = format!("brokers: [{}]", self.broker.bootstrap());
        let group = format!("groupID: {GROUP}");
        format!(
            "dataDir: {}\nkafka:\n{}consumer:\n{}",
            dir.display(),
            lines(kafka, &[&brokers, &group]),
            lines(consumer, &["sessionTimeout: 6s", "flushInterval: 50ms"]),
        )
    }

    /// A writer on this rig's own directory.
    pub fn writer(&self, kafka: &str, consumer: &str) -> Writer {
        self.writer_in(self.dir.path(), kafka, consumer, false)
    }

    pub fn writer_in(&self, dir: &Path, kafka: &str, consumer: &str, adopt: bool) -> Writer {
        let config = self.config(dir, kafka, consumer);
        let shared = Arc::new(Shared::open(&config, adopt).expect("the store opens"));
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let running = shared.clone();
        let ends = LogEnds::new(shared.clone(), service::new_cluster(&config.kafka));
        let run = async move { service::run(running, ends, &config.kafka, token).await };
        Writer {
            shared,
            shutdown,
            task: tokio::spawn(run),
        }
    }

    /// The topic gets more partitions.
    pub fn grow(&mut self, partitions: i32) {
        self.broker.grow_topic(TOPIC, partitions).expect("it grows");
        self.producer.forget(TOPIC);
        self.partitions = partitions;
    }

    /// Produces records of one batch, with these sequences; gives the first offset.
    pub async fn send(&self, partition: i32, batch: u64, sequences: &[u32], since: i64) -> i64 {
        let timed = sequences.iter().map(|sequence| (*sequence, RECEIVED_MS));
        self.send_timed(partition, batch, timed, since).await
    }

    /// Each sequence with its time of receipt, as one batch of the log.
    pub async fn send_timed(
        &self,
        partition: i32,
        batch: u64,
        sequences: impl IntoIterator<Item = (u32, i64)>,
        since: i64,
    ) -> i64 {
        let mut encoder = BatchEncoder::new(1_700_000_000_000);
        for (sequence, received_ms) in sequences {
            let envelope = Envelope {
                batch: batch_id(batch),
                sequence,
                received_ms,
                since: Offset(since),
            };
            let value = line(batch, sequence);
            encoder.push(value.as_bytes(), Some((HEADER_NAME, &envelope.encode())));
        }
        let encoded = encoder.finish(Codec::None);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = self
                .producer
                .produce(
                    TOPIC,
                    Acks::All,
                    Duration::from_secs(10),
                    vec![(PartitionId(partition), encoded.clone())],
                )
                .await;
            match &sent[0].1 {
                Ok(offset) => return offset.0,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    pub fn store(&self, dir: &Path) -> Store {
        Store::open(&dir.join("logs")).expect("the store opens")
    }

    pub fn chain(&self, partition: i32) -> Chain {
        self.store(self.dir.path())
            .chain(TOPIC, PartitionId(partition))
    }

    pub fn log_end(&self, partition: i32) -> i64 {
        self.broker.log_end(TOPIC, partition).expect("it exists")
    }

    /// Where the chain ends; `None` before it is begun.
    pub fn next(&self, partition: i32) -> Option<i64> {
        let end = self.chain(partition).walk(None, &mut |_| true);
        end.expect("the chain holds together").map(|end| end.next.0)
    }

    /// Waits until every chain has come to its log's end, and is committed there.
    pub async fn caught_up(&self) {
        for partition in 0..self.partitions {
            let end = self.log_end(partition);
            wait_for(&format!("partition {partition} to reach {end}"), || {
                self.next(partition) == Some(end)
                    && self.committed(partition).is_some_and(|(at, _)| at == end)
            })
            .await;
        }
    }

    pub fn committed(&self, partition: i32) -> Option<(i64, String)> {
        self.broker.committed(GROUP, TOPIC, partition)
    }

    /// As [`Self::send`] of as many records; gives what to expect.
    pub async fn send_many(&self, partition: i32, batch: u64, records: u32) -> Vec<Sent> {
        let sequences: Vec<u32> = (0..records).collect();
        let first = self.send(partition, batch, &sequences, 0).await;
        let sent = |sequence| Sent {
            partition,
            offset: first + i64::from(sequence),
            batch,
            sequence,
        };
        sequences.into_iter().map(sent).collect()
    }
}

impl Writer {
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until these partitions stand still.
    pub async fn halted(&self, partitions: &[i32]) {
        wait_for(&format!("{partitions:?} to halt"), || {
            let books = &self.shared.books;
            partitions
                .iter()
                .all(|id| books.is_halted(PartitionId(*id)))
        })
        .await;
    }

    /// As SIGTERM: saves, commits, leaves.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task
            .await
            .expect("no panic")
            .expect("all is flushed in time");
    }

    /// As kill -9, except that what a thread has begun on the disk goes on.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// As SIGSTOP, where the thread that hangs in a save goes on one day: it lives for as long as
    /// what is given back counts it.
    pub async fn freeze(self) -> Weak<Shared> {
        let shared = Arc::downgrade(&self.shared);
        self.kill().await;
        shared
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), ServiceError> {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .expect("no panic")
    }
}

/// The built command, on this rig.
pub fn command(rig: &Rig, args: &[&str]) -> Child {
    let config = rig.dir.path().join("sluice.yaml");
    let yaml = format!(
        "dataDir: {}\nkafka:\n  brokers: [{}]\n  groupID: {GROUP}\n",
        rig.dir.path().display(),
        rig.broker.bootstrap()
    );
    std::fs::write(&config, yaml).expect("written");
    Command::new(env!("CARGO_BIN_EXE_kafka-consumer-writer"))
        .arg("--config")
        .arg(&config)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// Looks until it is so.
pub async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn batch_id(batch: u64) -> BatchId {
    let mut id = [0x5a; 16];
    id[..8].copy_from_slice(&batch.to_be_bytes());
    BatchId(id)
}

/// In canonical form, so that it is stored as it stands.
pub fn line(batch: u64, sequence: u32) -> String {
    format!(
        r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/{batch}/{sequence}","userAgent":"test"}}"#
    )
}
