//! One YAML file for all three services: types, defaults, and every fault at once.
//!
//! The field names are the contract's, in snake case. A `Config` that exists is valid: nothing
//! behind it checks a knob again.
//!
//! [`keys`] lists every key; [`yaml`] reads the file as a tree, [`walk`] turns it into values by
//! path ([`value`], [`units`], [`expand`], [`nearest`]) and [`build`] into a [`Config`], with the rules between keys.

mod keys;

mod auth;
mod build;
mod expand;
mod file;
mod nearest;
mod units;
mod value;
mod walk;
mod yaml;

#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub use auth::{ApiKey, KeyHash};
pub use file::ConfigFile;

/// The whole file. Paths are absolute (joined to `dataDir`).
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub server: Server,
    pub auth: Auth,
    pub ingestion: Ingestion,
    pub kafka: Kafka,
    pub consumer: Consumer,
    pub storage: Storage,
    pub aggregation: Aggregation,
    pub telemetry: Telemetry,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub addr: SocketAddr,
    pub admin_addr: SocketAddr,
    pub max_body_bytes: u64,
    pub max_decoded_bytes: u64,
    pub body_timeout: Duration,
    pub request_timeout: Duration,
    pub max_connections: usize,
    pub memory_budget: u64,
    pub shutdown_timeout: Duration,
    /// Of [`Self::shutdown_timeout`], before the drain begins.
    pub drain_delay: Duration,
    pub tls: Option<ServerTls>,
}

/// Files of the gateway's own TLS; what is in them is for the gateway to judge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Auth {
    pub enabled: bool,
    pub allow_anonymous: bool,
    /// Carries the key, as does `Authorization: Bearer`.
    pub header_name: String,
    pub keys: Vec<ApiKey>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidRecords {
    Skip,
    Reject,
}

#[derive(Clone, Debug)]
pub struct Ingestion {
    /// In batches.
    pub queue_buffer_size: usize,
    pub producer_workers: usize,
    pub producer_write_timeout: Duration,
    pub producer_max_retries: u32,
    pub producer_retry_backoff: Duration,
    /// As a fraction, 0 to 1.
    pub queue_high_water: f64,
    pub producer_dlq_dir: PathBuf,
    pub producer_dlq_max_bytes: u64,
    pub rejects_dir: Option<PathBuf>,
    pub rejects_max_bytes: u64,
    pub invalid_records: InvalidRecords,
    pub max_record_bytes: usize,
    pub max_batch_records: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Debug)]
pub struct CreateTopic {
    pub partitions: u32,
    pub replication_factor: u16,
}

#[derive(Clone, Debug)]
pub struct Kafka {
    pub brokers: Vec<String>,
    pub topic: String,
    pub group_id: String,
    pub group_instance_id: Option<String>,
    pub batch_size: usize,
    pub batch_bytes: usize,
    pub batch_timeout: Duration,
    pub compression: Compression,
    pub async_ack: bool,
    pub consumers: usize,
    pub require_all_acks: bool,
    pub create_topic: Option<CreateTopic>,
    pub security: KafkaSecurity,
}

/// How connections to the brokers are protected, and who we are to them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KafkaSecurity {
    pub tls: Option<KafkaTls>,
    pub sasl: Option<KafkaSasl>,
}

impl KafkaSecurity {
    /// Who we are to the brokers, as their rights name it; that of a certificate is theirs to make.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        let sasl = self.sasl.as_ref()?;
        Some(format!("User:{}", sasl.username))
    }
}

/// Files of the TLS to the brokers; what is in them is for `kafka-link` to judge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KafkaTls {
    /// The authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    pub client: Option<ClientCertificate>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificate {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KafkaSasl {
    pub mechanism: SaslMechanism,
    pub username: String,
    pub password: Password,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl SaslMechanism {
    /// As the protocol spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Password {
    Given(Secret),
    /// Read at each connection, so that it can be changed.
    File(PathBuf),
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// For whoever has to send or hash it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    Earliest,
    Latest,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    pub flush_size: usize,
    pub flush_interval: Duration,
    pub persist_timeout: Duration,
    pub dlq_dir: PathBuf,
    pub dlq_max_bytes: u64,
    pub buffer_bytes: u64,
    pub dedup_max_batches: usize,
    pub session_timeout: Duration,
    pub stall_timeout: Duration,
    pub start_at: StartAt,
    pub admin_addr: SocketAddr,
    pub shutdown_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct Storage {
    pub logs_dir: PathBuf,
    pub analytics_dir: PathBuf,
    pub archive_dir: PathBuf,
    pub live_retention: Duration,
    pub archive_retention: Option<Duration>,
    pub analytics_retention: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Aggregation {
    pub interval: Duration,
    pub archive_after: Duration,
    pub archive_max_wait: Duration,
    pub max_keys_per_hour: usize,
    pub strip_query: bool,
    pub admin_addr: SocketAddr,
    pub shutdown_timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug)]
pub struct Telemetry {
    /// A `tracing` filter: `info`, or `info,kafka_link=debug`.
    pub log_level: String,
    pub log_format: LogFormat,
}

/// One thing wrong with the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// YAML path, as `kafka.brokers[0]`.
    pub path: String,
    /// What stands there (`***` for secrets), or `nothing`.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            found,
            allowed,
        } = self;
        write!(f, "{path}: found {found}, allowed: {allowed}")
    }
}

/// The files whose content a service judges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NamedFiles {
    pub server_tls: Option<ServerTls>,
    pub kafka: KafkaSecurity,
}

/// What is wrong with a file, and what it names nevertheless.
#[derive(Debug, Default)]
struct Faulty {
    faults: Vec<Fault>,
    files: Box<NamedFiles>,
}

/// Why there is no configuration; displayed one fault a line, each with the file's name.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{}: {message}", file.display())]
    File { file: PathBuf, message: String },
    #[error("{}", listed(file, faults))]
    Faults { file: PathBuf, faults: Vec<Fault> },
}

impl Config {
    /// Reads and parses `file`, with the variables of the process's environment.
    ///
    /// # Errors
    /// Where the file cannot be read, is not YAML, or has faults.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        ConfigFile::load(file).map(ConfigFile::into_config)
    }

    /// Expands `${NAME:-default}` and validates; all faults at once.
    ///
    /// # Errors
    /// Every fault: in the order of the file, then missing keys, then keys that contradict
    /// each other.
    pub fn parse(yaml: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Fault>> {
        match parse(yaml, env) {
            Ok((config, _)) => Ok(config),
            Err(Faulty { faults, .. }) => Err(faults),
        }
    }

    #[must_use]
    pub fn named_files(&self) -> NamedFiles {
        NamedFiles {
            server_tls: self.server.tls.clone(),
            kafka: self.kafka.security.clone(),
        }
    }
}

/// Whether the file may have something at `path`, an index being `[]`; for tests of what is written about it.
#[cfg(test)]
pub(crate) fn is_key_or_section(path: &str) -> bool {
    keys::find(path).is_some() || !keys::children(path).is_empty()
}

/// The configuration, and its values by the paths of their keys.
fn parse(
    yaml: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, value::Item), Faulty> {
    let root = yaml::parse(yaml).map_err(|fault| Faulty {
        faults: vec![fault],
        ..Faulty::default()
    })?;
    build::build(walk::walk(&root, env))
}

fn listed(file: &Path, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| format!("{}: {fault}", file.display()))
        .collect();
    lines.join("\n")
}
