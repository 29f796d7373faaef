//! A small Kafka broker inside the process, for the demo and the tests: never for production.
//!
//! It speaks the real protocol over TCP on loopback: topics with partitions, produce, fetch with
//! long poll, consumer groups with real session timeouts, in memory or in a directory. It keeps a
//! real broker's limits (batch sizes, checksums, timestamps, replicas in sync), so that a client
//! that gets away with something here gets away with it there. What it leaves out: transactions,
//! duplicate detection for idempotent producers, fetch sessions, retention by time, compaction,
//! fsync.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use dev_broker::{Api, Broker, Fault, Options};
//!
//! let broker = Broker::start(Options::default().topic("logs", 4)).await.unwrap();
//! broker.faults().on(Api::Produce).nth(3).then(Fault::DoneButError(7));
//! println!("clients may come to {}", broker.bootstrap());
//! broker.stop().await;
//! # });
//! ```

mod api;
mod batch;
mod cluster;
mod connection;
pub mod control;
mod coordinator;
pub mod error_code;
mod faults;
mod group;
mod hooks;
mod log;
mod options;
mod partition;
mod raw;
mod settings;
mod shared;
mod store;
mod txn;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use faults::{Api, Fault, Faults, RuleBuilder, RuleHandle};
pub use hooks::HookError;
pub use options::{Options, StartError, TopicSpec};
pub use raw::RawBatch;

use cluster::Cluster;
use coordinator::Coordinator;
use shared::{Counters, Shared};

/// A running broker. Dropping it ends it, without waiting; [`Broker::stop`] waits.
pub struct Broker {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    all: CancellationToken,
    /// One for each node, in order of their ids.
    nodes: Mutex<Vec<CancellationToken>>,
    /// A node that is down keeps its own.
    _ports: Vec<TcpSocket>,
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long the listener of a node that was stopped may take to close.
const CLOSING_MAX: Duration = Duration::from_secs(5);

impl Broker {
    /// Listens, loads what the directory holds, makes the topics, and serves on tasks of the
    /// current runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        if !options.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        if !(1..=64).contains(&options.nodes) {
            return Err(StartError::Nodes(options.nodes));
        }
        let listeners = listen(&options).await?;
        let mut addrs = Vec::with_capacity(listeners.len());
        for (_, listener) in &listeners {
            let addr = listener.local_addr();
            addrs.push(addr.map_err(|cause| listen_error(options.listen, cause))?);
        }
        let (cluster, coordinator) = open(&options, &addrs)?;
        let shared = Arc::new(Shared {
            cluster,
            coordinator,
            faults: Faults::default(),
            seen: Counters::new(),
            paused: addrs.iter().map(|_| watch::Sender::new(false)).collect(),
            next_producer_id: AtomicI64::new(1000),
            options,
        });
        let (ports, listeners): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        let broker = Self {
            shared,
            _ports: ports,
            tasks: TaskTracker::new(),
            all: CancellationToken::new(),
            nodes: Mutex::default(),
        };
        for (id, listener) in (1..).zip(listeners) {
            let cancel = broker.serve(id, listener);
            broker.lock_nodes().push(cancel);
        }
        let timers = run_timers(Arc::clone(&broker.shared));
        let until_stopped = broker.all.clone().run_until_cancelled_owned(timers);
        broker.tasks.spawn(until_stopped);
        tracing::warn!(
            bootstrap = broker.bootstrap(),
            "embedded development broker, not for production"
        );
        Ok(broker)
    }

    /// Address of the first node.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.shared.cluster.nodes[0].addr
    }

    /// What a client is configured with: `host:port` of every node, with commas between.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.bootstrap_servers().join(",")
    }

    #[must_use]
    pub fn bootstrap_servers(&self) -> Vec<String> {
        let nodes = self.shared.cluster.nodes.iter();
        nodes.map(|node| node.addr.to_string()).collect()
    }

    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster.id
    }

    /// The rules that make requests fail.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Closes listeners and connections and waits until every task is gone.
    pub async fn stop(&self) {
        self.all.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The node's listener and connections close, as when its process is killed. Its partitions
    /// move to replicas that are up, and so do the groups.
    pub fn stop_node(&self, id: i32) -> Result<(), HookError> {
        let node = self.shared.cluster.node(id);
        let node = node.ok_or(HookError::UnknownNode(id))?;
        node.up.store(false, Ordering::Relaxed);
        self.lock_nodes()[(id - 1) as usize].cancel();
        self.shared.cluster.elect_without(id);
        Ok(())
    }

    /// Serves again at the same address. Leaders stay where they are, except of partitions that
    /// have none that is up.
    pub async fn start_node(&self, id: i32) -> Result<(), HookError> {
        let node = self.shared.cluster.node(id);
        let node = node.ok_or(HookError::UnknownNode(id))?;
        if node.is_up() {
            return Ok(());
        }
        let (addr, until) = (node.addr, Instant::now() + CLOSING_MAX);
        let listener = loop {
            match bind(addr).and_then(|socket| socket.listen(BACKLOG)) {
                Ok(listener) => break listener,
                Err(cause) if Instant::now() >= until => {
                    return Err(HookError::Listen { addr, cause });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let cancel = self.serve(id, listener);
        self.lock_nodes()[(id - 1) as usize] = cancel;
        node.up.store(true, Ordering::Relaxed);
        self.shared.cluster.elect_without(0);
        Ok(())
    }

    fn serve(&self, node: i32, listener: TcpListener) -> CancellationToken {
        let cancel = self.all.child_token();
        let accepting = accept(
            Arc::clone(&self.shared),
            node,
            listener,
            self.tasks.clone(),
            cancel.clone(),
        );
        self.tasks.spawn(accepting);
        cancel
    }

    fn lock_nodes(&self) -> std::sync::MutexGuard<'_, Vec<CancellationToken>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.all.cancel();
    }
}

/// Each node's port, held for as long as the broker is there, and its listener.
async fn listen(options: &Options) -> Result<Vec<(TcpSocket, TcpListener)>, StartError> {
    let mut listeners = Vec::with_capacity(options.nodes);
    for nth in 0..options.nodes {
        let mut addr = options.listen;
        if addr.port() != 0 {
            let port = usize::from(addr.port()) + nth;
            addr.set_port(u16::try_from(port).unwrap_or(0));
        }
        let bound = bind(addr).and_then(|held| {
            let listener = bind(held.local_addr()?)?.listen(BACKLOG)?;
            Ok((held, listener))
        });
        listeners.push(bound.map_err(|cause| listen_error(addr, cause))?);
    }
    Ok(listeners)
}

/// A socket that does not listen keeps the port from others of this machine, and lets another of
/// ours listen.
fn bind(addr: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn listen_error(addr: SocketAddr, cause: std::io::Error) -> StartError {
    StartError::Listen { addr, cause }
}

fn open(options: &Options, addrs: &[SocketAddr]) -> Result<(Cluster, Coordinator), StartError> {
    let failed = |error: std::io::Error| StartError::Dir {
        dir: options.dir.clone().unwrap_or_default(),
        reason: error.to_string(),
    };
    let cluster = Cluster::open(options, addrs).map_err(failed)?;
    let delay = options.initial_rebalance_delay;
    let coordinator = Coordinator::open(cluster.store(), delay).map_err(failed)?;
    for spec in &options.topics {
        let mut spec = spec.clone();
        spec.replication = spec.replication.min(options.nodes as i16);
        match cluster.create_topic(&spec, false) {
            Ok(_) | Err((error_code::TOPIC_ALREADY_EXISTS, _)) => {}
            Err((_, reason)) => {
                let name = spec.name;
                return Err(StartError::Topic { name, reason });
            }
        }
    }
    Ok((cluster, coordinator))
}

/// Group timers: sessions, rounds. Late while the broker is paused, as in a stopped process.
async fn run_timers(shared: Arc<Shared>) {
    loop {
        shared.coordinator.timer_due().await;
        shared.unpaused(shared.cluster.coordinator()).await;
        shared.coordinator.tick();
    }
}

async fn accept(
    shared: Arc<Shared>,
    node: i32,
    listener: TcpListener,
    tasks: TaskTracker,
    cancel: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serving = connection::serve(Arc::clone(&shared), node, stream, peer);
                tasks.spawn(cancel.clone().run_until_cancelled_owned(serving));
            }
            Err(error) => {
                // out of file descriptors, mostly: the next try may do better
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
