//! What all members of the process share: the store, the bounds, the books.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::gauge;
use pipeline_core::{
    PartitionId,
    config::{Config, StartAt},
    record::Rules,
    store::{Chain, Store, StoreError},
    telemetry::catalog,
};
use tokio::sync::Semaphore;

use crate::{
    batcher::FlushLimits,
    books::Books,
    budget::{Budget, Reserved},
    dead_letters::{DeadLetters, Place},
    partition::Settings,
    save::SaveContext,
    scrub::Scrub,
    snapshots::Snapshots,
};

/// Bounds of one segment: large enough that fsync and zstd are cheap per record, small enough
/// that a reader takes it whole.
const BATCH_RECORDS_MAX: usize = 65_536;
const BATCH_BYTES_MAX: u64 = 8 << 20;
/// Saves and loads that may be on the disk at once; more partitions wait their turn.
const DISK_MAX: usize = 64;
/// Copies of failed saves written or removed at once: best effort, and never in the way.
const COPIES_MAX: usize = 2;
/// Bounds of one fetch.
const FETCH_BYTES_MAX: u64 = 8 << 20;
const FETCH_BYTES_MIN: u64 = 64 << 10;

#[derive(Debug)]
pub struct Shared {
    pub topic: String,
    pub group_id: String,
    pub group_instance_id: Option<String>,
    pub session_timeout: Duration,
    pub stall_timeout: Duration,
    pub shutdown_timeout: Duration,
    pub start_at: StartAt,
    pub dedup_max_batches: usize,
    pub settings: Settings,
    pub rules: Rules,
    pub consumers: usize,

    pub store: Store,
    pub dead_letters: DeadLetters,
    pub budget: Budget,
    pub books: Books,
    /// What is in the chains and in no snapshot yet.
    pub snapshots: Snapshots,
    /// How far they have been read to see that they are whole.
    pub scrub: Scrub,
    /// Id of this process, in every segment it writes.
    pub writer: [u8; 16],
    /// Segments being made, one for each core: that is what takes processor and memory.
    pub making: Arc<Semaphore>,
    /// Segments being published and chains being read.
    pub disk: Arc<Semaphore>,
    /// The one save whose poison is being made durable: a consumer DLQ that hangs holds one thread.
    pub aside: Arc<Semaphore>,
    pub copies: Arc<Semaphore>,
    /// What a partition does on the disk, one after the other, across sessions: where the disk
    /// hangs, each rebalance would leave another thread behind.
    lanes: Mutex<BTreeMap<PartitionId, Lane>>,
    running: AtomicUsize,
    /// `--adopt`, and the partitions that have used it: each may be adopted once.
    adopt: bool,
    adopted: Mutex<BTreeSet<PartitionId>>,
    /// Members of this process that see strangers in the group.
    strangers: Mutex<BTreeSet<usize>>,
}

/// Why the service cannot start here.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to open consumer DLQ {dir}: {cause}")]
    DeadLetters { dir: String, cause: std::io::Error },
    #[error("failed to get random bytes: {0}")]
    Random(getrandom::Error),
}

/// Held by what works on a partition's directory.
pub type Lane = Arc<tokio::sync::Mutex<()>>;

/// One partition as a blocking thread needs it.
#[derive(Clone, Debug)]
pub struct Held {
    pub shared: Arc<Shared>,
    pub chain: Chain,
    /// Of the topic that the last load has judged.
    pub place: Arc<Place>,
    pub lane: Lane,
}

/// The consumer DLQ, open for this process.
#[derive(Debug)]
pub struct OpenedQueue {
    writer: [u8; 16],
    dead_letters: DeadLetters,
}

impl OpenedQueue {
    /// Opens (or makes) it. Blocks, for as long as its files take to be read.
    ///
    /// # Errors
    /// Names what could not be opened.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let mut writer = [0; 16];
        getrandom::fill(&mut writer).map_err(OpenError::Random)?;
        let consumer = &config.consumer;
        let dead_letters = DeadLetters::open(&consumer.dlq_dir, consumer.dlq_max_bytes, writer)
            .map_err(|cause| OpenError::DeadLetters {
                dir: consumer.dlq_dir.display().to_string(),
                cause,
            })?;
        Ok(Self {
            writer,
            dead_letters,
        })
    }
}

impl Shared {
    /// Opens (or makes) the consumer DLQ and the store. Blocks.
    ///
    /// # Errors
    /// Names what could not be opened.
    pub fn open(config: &Config, adopt: bool) -> Result<Self, OpenError> {
        Self::open_store(config, adopt, OpenedQueue::open(config)?)
    }

    /// As [`Self::open`], with the consumer DLQ open already.
    ///
    /// # Errors
    /// Names what could not be opened.
    pub fn open_store(config: &Config, adopt: bool, queue: OpenedQueue) -> Result<Self, OpenError> {
        let consumer = &config.consumer;
        let OpenedQueue {
            writer,
            dead_letters,
        } = queue;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            topic: config.kafka.topic.clone(),
            group_id: config.kafka.group_id.clone(),
            group_instance_id: config.kafka.group_instance_id.clone(),
            session_timeout: consumer.session_timeout,
            stall_timeout: consumer.stall_timeout,
            shutdown_timeout: consumer.shutdown_timeout,
            start_at: consumer.start_at,
            dedup_max_batches: consumer.dedup_max_batches,
            settings: Settings {
                flush: FlushLimits {
                    flush_size: consumer.flush_size,
                    flush_interval: consumer.flush_interval,
                    batch_records_max: BATCH_RECORDS_MAX.max(consumer.flush_size),
                    batch_bytes_max: BATCH_BYTES_MAX.min(consumer.buffer_bytes / 4).max(1),
                },
                persist_timeout: consumer.persist_timeout,
            },
            rules: record_rules(config),
            consumers: config.kafka.consumers,
            store: Store::open(&config.storage.logs_dir)?,
            dead_letters,
            budget: Budget::new(consumer.buffer_bytes),
            books: Books::default(),
            snapshots: Snapshots::default(),
            scrub: Scrub::default(),
            writer,
            making: Arc::new(Semaphore::new(cores)),
            disk: Arc::new(Semaphore::new(DISK_MAX)),
            aside: Arc::new(Semaphore::new(1)),
            copies: Arc::new(Semaphore::new(COPIES_MAX)),
            lanes: Mutex::default(),
            running: AtomicUsize::new(0),
            adopt,
            adopted: Mutex::default(),
            strangers: Mutex::default(),
        })
    }

    /// How long the group waits for a member to save what it gives up.
    #[must_use]
    pub fn rebalance_timeout(&self) -> Duration {
        self.settings.persist_timeout + self.session_timeout
    }

    /// Longest flush of what is revoked.
    #[must_use]
    pub fn revoke_timeout(&self) -> Duration {
        self.settings.persist_timeout.min(self.rebalance_timeout())
    }

    /// Room for one fetch: as much as there is, between these.
    #[must_use]
    pub fn room_for_fetch(&self) -> Option<Reserved> {
        let each = self.budget.read_max() / (4 * self.consumers.max(1) as u64);
        let most = each.clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        self.budget.try_take(FETCH_BYTES_MIN, most)
    }

    /// Bytes with which a partition is not asked for more. One fetch may bring it above that: half
    /// of what there is to share is left for that, and for the others where it stays so.
    #[must_use]
    pub fn share(&self) -> u64 {
        let running = self.running.load(Ordering::Relaxed).max(1) as u64;
        (self.budget.read_max() / running / 2).max(1)
    }

    fn lane(&self, partition: PartitionId) -> Lane {
        let mut lanes = self.lanes.lock().expect("no panic under this lock");
        lanes.entry(partition).or_default().clone()
    }

    pub fn add_running(&self, partitions: usize) {
        self.running.fetch_add(partitions, Ordering::Relaxed);
    }

    pub fn remove_running(&self, partitions: usize) {
        self.running.fetch_sub(partitions, Ordering::Relaxed);
    }

    #[must_use]
    pub fn may_adopt(&self, partition: PartitionId) -> bool {
        self.adopt && !self.lock_adopted().contains(&partition)
    }

    /// From here on this partition's commits are ours.
    pub fn adopted(&self, partition: PartitionId) {
        self.lock_adopted().insert(partition);
    }

    /// Whether a member of this process sees members in the group that are no writers.
    pub fn set_strangers(&self, member: usize, sees: bool) {
        let mut seeing = self.strangers.lock().expect("no panic under this lock");
        if sees {
            seeing.insert(member);
        } else {
            seeing.remove(&member);
        }
        let value = if seeing.is_empty() { 0.0 } else { 1.0 };
        gauge!(catalog::CONSUMER_GROUP_STRANGERS).set(value);
    }

    fn lock_adopted(&self) -> std::sync::MutexGuard<'_, BTreeSet<PartitionId>> {
        self.adopted.lock().expect("no panic under this lock")
    }
}

impl Held {
    #[must_use]
    pub fn new(shared: &Arc<Shared>, partition: PartitionId) -> Self {
        Self {
            shared: shared.clone(),
            chain: shared.store.chain(&shared.topic, partition),
            place: Arc::new(Place {
                topic: shared.topic.clone(),
                topic_id: String::new(),
                partition,
            }),
            lane: shared.lane(partition),
        }
    }

    /// The topic is the one with this id: what is set aside from here on is of that one.
    pub fn set_topic_id(&mut self, topic_id: &str) {
        if self.place.topic_id != topic_id {
            topic_id.clone_into(&mut Arc::make_mut(&mut self.place).topic_id);
        }
    }

    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.place.partition
    }

    #[must_use]
    pub fn save_context(&self) -> SaveContext<'_> {
        SaveContext {
            chain: &self.chain,
            aside: &self.shared.dead_letters,
            place: &self.place,
            rules: &self.shared.rules,
            writer: self.shared.writer,
        }
    }
}

/// By which every message is checked: the gateway's own, sites as they stand.
#[must_use]
pub fn record_rules(config: &Config) -> Rules {
    Rules {
        record_bytes_max: config.ingestion.max_record_bytes,
        default_site: None,
        bound_site: None,
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}
