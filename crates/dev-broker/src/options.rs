//! How a broker is started. Defaults are those of a real broker where a client can notice.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// What [`crate::Broker::start`] takes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the first node; the others take the ports after it, or any where it is 0.
    /// Anything but loopback is refused.
    pub listen: SocketAddr,
    /// Nodes of the cluster, each a listener of this process; ids from 1.
    pub nodes: usize,
    /// Where logs and committed offsets are kept; `None`: in memory, and gone at the end.
    pub dir: Option<PathBuf>,
    /// Made at the start, where they are not there yet.
    pub topics: Vec<TopicSpec>,
    /// `message.max.bytes`: of one record batch, for topics without a setting of their own.
    pub message_max_bytes: usize,
    /// `socket.request.max.bytes`: a longer request ends its connection.
    pub request_max_bytes: usize,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members. A real
    /// broker's default is 3 s; tests set 0.
    pub initial_rebalance_delay: Duration,
    /// Minted at random where `None` (kept in `dir`).
    pub cluster_id: Option<String>,
}

/// A topic to make at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    /// Capped at the number of nodes.
    pub replication: i16,
    /// `retention.ms`, `max.message.bytes`, `cleanup.policy`, `min.insync.replicas`, …
    pub settings: BTreeMap<String, String>,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the development broker listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    #[error("a broker has 1 to 64 nodes, not {0}")]
    Nodes(usize),
    #[error("failed to listen on {addr}: {cause}")]
    Listen {
        addr: SocketAddr,
        cause: std::io::Error,
    },
    #[error("failed to open the broker's directory {dir}: {reason}")]
    Dir { dir: PathBuf, reason: String },
    #[error("failed to make topic {name}: {reason}")]
    Topic { name: String, reason: String },
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            nodes: 1,
            dir: None,
            topics: Vec::new(),
            message_max_bytes: 1_048_588,
            request_max_bytes: 104_857_600,
            session_timeout_min: Duration::from_secs(1),
            session_timeout_max: Duration::from_secs(1800),
            initial_rebalance_delay: Duration::ZERO,
            cluster_id: None,
        }
    }
}

impl Options {
    /// Adds a topic without settings.
    #[must_use]
    pub fn topic(mut self, name: &str, partitions: i32) -> Self {
        self.topics.push(TopicSpec::new(name, partitions));
        self
    }

    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }
}

impl TopicSpec {
    #[must_use]
    pub fn new(name: &str, partitions: i32) -> Self {
        Self {
            name: name.to_owned(),
            partitions,
            replication: 3,
            settings: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl std::str::FromStr for TopicSpec {
    type Err = String;

    /// `NAME:PARTITIONS`, then `,setting=value` as often as wanted.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or_default();
        let (name, partitions) = head
            .rsplit_once(':')
            .ok_or_else(|| format!("expected NAME:PARTITIONS[,setting=value], found `{text}`"))?;
        let partitions = partitions
            .parse()
            .map_err(|_| format!("expected a number of partitions, found `{partitions}`"))?;
        let mut spec = Self::new(name, partitions);
        for part in parts {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("expected setting=value, found `{part}`"))?;
            spec = spec.setting(key, value);
        }
        Ok(spec)
    }
}
