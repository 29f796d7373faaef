//! What all connections of a broker share, and nothing that does work by itself.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use kafka_protocol::messages::ApiKey;
use tokio::sync::watch;

use crate::{
    Options,
    cluster::{Cluster, Topic},
    coordinator::Coordinator,
    faults::Faults,
};

pub(crate) struct Shared {
    pub options: Options,
    pub cluster: Cluster,
    pub coordinator: Coordinator,
    pub faults: Faults,
    pub seen: Counters,
    /// One for each node, in order of their ids.
    pub paused: Vec<watch::Sender<bool>>,
    pub next_producer_id: AtomicI64,
}

/// Requests by API, as they arrived.
pub(crate) struct Counters([AtomicU64; 128]);

impl Shared {
    /// The topic is gone, and what groups have committed for it.
    pub(crate) fn delete_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let gone = self.cluster.delete_topic(name)?;
        self.coordinator.forget_topic(self.cluster.store(), name);
        Some(gone)
    }

    /// Waits while the node is paused, as a stopped process would.
    pub(crate) async fn unpaused(&self, node: i32) {
        if let Some(paused) = self.paused.get((node - 1) as usize)
            && *paused.borrow()
        {
            // an error means that the broker is going: no longer paused, either
            let _ = paused.subscribe().wait_for(|paused| !paused).await;
        }
    }
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 128])
    }

    pub(crate) fn count(&self, api: ApiKey) {
        if let Some(counter) = self.0.get(api as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, api: ApiKey) -> u64 {
        self.0
            .get(api as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}
