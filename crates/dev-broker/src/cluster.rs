//! Nodes and topics: who is there, who leads what, and the changes to it. Groups are next door
//! ([`crate::coordinator`]); requests come from [`crate::api`].

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use uuid::Uuid;

use crate::{
    Options, TopicSpec, error_code as code,
    log::Log,
    partition::Partition,
    settings::Settings,
    store::{Store, StoredPartition, StoredTopic},
};

pub(crate) struct Cluster {
    pub id: String,
    pub nodes: Vec<Node>,
    pub message_max_bytes: usize,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    store: Option<Store>,
    /// The node that coordinates all groups.
    coordinator: AtomicI32,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub id: i32,
    pub addr: SocketAddr,
    pub up: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub name: String,
    pub id: Uuid,
    pub replication: i16,
    settings: RwLock<Arc<Settings>>,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

/// An error code and what to say with it.
pub(crate) type Refusal = (i16, String);

impl Cluster {
    pub(crate) fn open(options: &Options, addrs: &[SocketAddr]) -> io::Result<Self> {
        let store = options.dir.as_deref().map(Store::open).transpose()?;
        let mut stored = store.as_ref().map(Store::load).transpose()?.flatten();
        let stored_id = stored.as_mut().map(|s| std::mem::take(&mut s.cluster_id));
        let nodes = (1..).zip(addrs).map(|(id, addr)| Node {
            id,
            addr: *addr,
            up: AtomicBool::new(true),
        });
        let cluster = Self {
            id: stored_id
                .or_else(|| options.cluster_id.clone())
                .unwrap_or_else(random_cluster_id),
            nodes: nodes.collect(),
            message_max_bytes: options.message_max_bytes,
            topics: RwLock::default(),
            store,
            coordinator: AtomicI32::new(1),
        };
        for topic in stored.map(|s| s.topics).unwrap_or_default() {
            cluster.reload(topic)?;
        }
        cluster.save();
        Ok(cluster)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.read_topics().get(name).cloned()
    }

    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.read_topics().values().find(|t| t.id == id).cloned()
    }

    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.read_topics().values().cloned().collect()
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.topic(topic)?.partition(index)
    }

    /// Checks as a real controller does, then makes the topic (unless only asked to check).
    pub(crate) fn create_topic(
        &self,
        spec: &TopicSpec,
        check_only: bool,
    ) -> Result<Arc<Topic>, Refusal> {
        check_name(&spec.name)?;
        if spec.partitions < 1 || spec.partitions > 10_000 {
            let why = format!(
                "number of partitions must be 1 to 10000, not {}",
                spec.partitions
            );
            return Err((code::INVALID_PARTITIONS, why));
        }
        if spec.replication < 1 || spec.replication as usize > self.nodes.len() {
            let why = format!(
                "replication factor {} with {} nodes",
                spec.replication,
                self.nodes.len()
            );
            return Err((code::INVALID_REPLICATION_FACTOR, why));
        }
        let settings = Settings::new(spec.settings.clone(), self.message_max_bytes)
            .map_err(|why| (code::INVALID_CONFIG, why))?;
        let id = Uuid::from_u128(fastrand::u128(2..));
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.contains_key(&spec.name) {
            let why = format!("topic '{}' already exists", spec.name);
            return Err((code::TOPIC_ALREADY_EXISTS, why));
        }
        let topic = Topic {
            name: spec.name.clone(),
            id,
            replication: spec.replication,
            settings: RwLock::new(Arc::new(settings)),
            partitions: RwLock::default(),
        };
        let topic = Arc::new(topic);
        if check_only {
            return Ok(topic);
        }
        if let Some(store) = &self.store {
            store.make_topic(id).map_err(storage_refusal)?;
        }
        self.add_partitions(&topic, spec.partitions)?;
        topics.insert(spec.name.clone(), Arc::clone(&topic));
        drop(topics);
        self.save();
        Ok(topic)
    }

    /// More partitions for a topic, up to `count`.
    pub(crate) fn grow_topic(&self, topic: &Topic, count: i32) -> Result<(), Refusal> {
        let now = topic.partitions().len() as i32;
        if count <= now || count > 10_000 {
            let why = format!("topic has {now} partitions, {count} is no increase");
            return Err((code::INVALID_PARTITIONS, why));
        }
        self.add_partitions(topic, count)?;
        self.save();
        Ok(())
    }

    /// The topic is gone; a new one of the same name has another id.
    pub(crate) fn delete_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.remove(name)?;
        drop(topics);
        for partition in topic.partitions() {
            let mut inner = partition.lock();
            // nobody leads it any more: whoever still holds the partition is refused
            inner.leader = -1;
            inner.wake();
        }
        self.save();
        if let Some(store) = &self.store {
            store.remove_topic(topic.id);
        }
        Some(topic)
    }

    pub(crate) fn set_leader(&self, partition: &Partition, node: i32) {
        let mut inner = partition.lock();
        inner.leader = node;
        inner.epoch += 1;
        if !inner.replicas.contains(&node) {
            inner.replicas.push(node);
        }
        inner.wake();
        drop(inner);
        self.save();
    }

    /// Partitions without a leader that is up get one, and so do the groups; `gone` counts as
    /// down.
    pub(crate) fn elect_without(&self, gone: i32) {
        let up = |id: i32| id != gone && self.node(id).is_some_and(Node::is_up);
        for topic in self.topics() {
            for partition in topic.partitions() {
                let mut inner = partition.lock();
                if up(inner.leader) {
                    continue;
                }
                if let Some(next) = inner.replicas.iter().copied().find(|id| up(*id)) {
                    inner.leader = next;
                    inner.epoch += 1;
                    inner.wake();
                }
            }
        }
        if !up(self.coordinator())
            && let Some(next) = self.nodes.iter().find(|node| up(node.id))
        {
            self.set_coordinator(next.id);
        }
        self.save();
    }

    /// Replicas that are up.
    pub(crate) fn in_sync(&self, replicas: &[i32]) -> Vec<i32> {
        let up = |id: &i32| self.node(*id).is_some_and(Node::is_up);
        replicas.iter().copied().filter(up).collect()
    }

    pub(crate) fn node(&self, id: i32) -> Option<&Node> {
        self.nodes.iter().find(|n| n.id == id)
    }

    pub(crate) fn coordinator(&self) -> i32 {
        self.coordinator.load(Ordering::Relaxed)
    }

    pub(crate) fn set_coordinator(&self, node: i32) {
        self.coordinator.store(node, Ordering::Relaxed);
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Writes topics, leaders and log starts to the directory, if there is one.
    pub(crate) fn save(&self) {
        let Some(store) = &self.store else { return };
        let topics = || self.topics().iter().map(|t| t.to_stored()).collect();
        if let Err(error) = store.save(&self.id, topics) {
            tracing::error!(%error, "failed to save the broker's topics");
        }
    }

    fn reload(&self, stored: StoredTopic) -> io::Result<()> {
        let id = Uuid::from_u128(stored.id);
        let settings =
            Settings::new(stored.settings, self.message_max_bytes).map_err(io::Error::other)?;
        let mut partitions = Vec::with_capacity(stored.partitions.len());
        for (index, kept) in (0..).zip(stored.partitions) {
            let path = self.store.as_ref().map(|store| store.log_path(id, index));
            let log =
                path.map_or_else(|| Ok(Log::in_memory()), |p| Log::in_file(&p, kept.start))?;
            let leader = self.node(kept.leader).map_or(1, |node| node.id);
            // a restart is an election: a real broker's epoch goes up, too
            let epoch = kept.epoch + 1;
            let known = |id: &i32| self.node(*id).is_some();
            let replicas = kept.replicas.into_iter().filter(known).collect();
            let partition = Partition::new(index, log, leader, epoch, replicas);
            partitions.push(Arc::new(partition));
        }
        let topic = Topic {
            name: stored.name.clone(),
            id,
            replication: stored.replication,
            settings: RwLock::new(Arc::new(settings)),
            partitions: RwLock::new(partitions),
        };
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(stored.name, Arc::new(topic));
        Ok(())
    }

    fn add_partitions(&self, topic: &Topic, count: i32) -> Result<(), Refusal> {
        let mut partitions = topic
            .partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let nodes = self.nodes.len() as i32;
        for index in partitions.len() as i32..count {
            let log = match &self.store {
                Some(store) => Log::in_file(&store.log_path(topic.id, index), 0),
                None => Ok(Log::in_memory()),
            };
            let log = log.map_err(storage_refusal)?;
            let replica = |k: i32| (index + k) % nodes + 1;
            let replicas: Vec<i32> = (0..i32::from(topic.replication)).map(replica).collect();
            let up = self.in_sync(&replicas);
            let leader = up.first().or(replicas.first()).copied().unwrap_or(1);
            partitions.push(Arc::new(Partition::new(index, log, leader, 0, replicas)));
        }
        Ok(())
    }

    fn read_topics(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Topic>>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.get(usize::try_from(index).ok()?).cloned()
    }

    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        let mut now = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(settings);
    }

    fn to_stored(&self) -> StoredTopic {
        let partitions = self.partitions();
        let partitions = partitions.iter().map(|partition| {
            let inner = partition.lock();
            StoredPartition {
                leader: inner.leader,
                epoch: inner.epoch,
                replicas: inner.replicas.clone(),
                start: inner.log.start(),
            }
        });
        StoredTopic {
            name: self.name.clone(),
            id: self.id.as_u128(),
            replication: self.replication,
            partitions: partitions.collect(),
            settings: self.settings().overrides().clone(),
        }
    }
}

/// The rule of Kafka's `Topic.validate`.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name.len() > 249
        || name == "."
        || name == ".."
        || !name.chars().all(legal)
    {
        let why = format!("topic name '{name}' is illegal");
        return Err((code::INVALID_TOPIC_EXCEPTION, why));
    }
    Ok(())
}

fn storage_refusal(error: io::Error) -> Refusal {
    (code::KAFKA_STORAGE_ERROR, error.to_string())
}

/// 22 characters, as a base64 UUID has.
fn random_cluster_id() -> String {
    (0..22).map(|_| fastrand::alphanumeric()).collect()
}
