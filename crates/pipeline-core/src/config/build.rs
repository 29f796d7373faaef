//! From values by path to a [`Config`], with the rules between keys.

mod kafka;
mod named;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Aggregation, Auth, Config, Consumer, Faulty, Ingestion, InvalidRecords, LogFormat, Server,
    StartAt, Storage, Telemetry, auth,
    value::{Item, Value},
    walk::Walked,
};

/// Directories that must not be the same one.
const DIRS: [&str; 6] = [
    "storage.logsDir",
    "storage.analyticsDir",
    "storage.archiveDir",
    "ingestion.producerDLQDir",
    "consumer.dlqDir",
    "ingestion.rejectsDir",
];

/// Listeners that must not share a port.
const LISTENERS: [&str; 4] = [
    "server.addr",
    "server.adminAddr",
    "consumer.adminAddr",
    "aggregation.adminAddr",
];

pub(super) fn build(mut walked: Walked) -> Result<(Config, Item), Faulty> {
    let data_dir = data_dir(&mut walked);
    auth::check(&mut walked, &data_dir);
    kafka::check(&mut walked);
    check_write_timeout(&mut walked);
    check_stall_timeout(&mut walked);
    check_drain_delay(&mut walked);
    check_listeners(&mut walked);
    check_dirs(&mut walked, &data_dir);
    let values = Good {
        walked: &walked,
        data_dir,
    };
    if !walked.faults.is_empty() {
        let files = Box::new(named::named(&values));
        let faults = walked.faults;
        return Err(Faulty { faults, files });
    }
    let config = config(&values);
    Ok((config, walked.into_values()))
}

fn config(v: &Good<'_>) -> Config {
    Config {
        data_dir: v.data_dir.clone(),
        server: Server {
            addr: v.addr("server.addr"),
            admin_addr: v.addr("server.adminAddr"),
            max_body_bytes: v.number("server.maxBodyBytes"),
            max_decoded_bytes: v.number("server.maxDecodedBytes"),
            body_timeout: v.duration("server.bodyTimeout"),
            request_timeout: v.duration("server.requestTimeout"),
            max_connections: v.count("server.maxConnections"),
            memory_budget: v.number("server.memoryBudget"),
            shutdown_timeout: v.duration("server.shutdownTimeout"),
            drain_delay: v.duration("server.drainDelay"),
            tls: (*v.value("server.tls") == Value::Section).then(|| named::server_tls(v)),
        },
        auth: Auth {
            enabled: v.bool("auth.enabled"),
            allow_anonymous: v.bool("auth.allowAnonymous"),
            header_name: v.text("auth.headerName").to_owned(),
            keys: auth::keys(v.items("auth.keys")),
        },
        ingestion: Ingestion {
            queue_buffer_size: v.count("ingestion.queueBufferSize"),
            producer_workers: v.count("ingestion.producerWorkers"),
            producer_write_timeout: write_timeout(v),
            producer_max_retries: v.small("ingestion.producerMaxRetries"),
            producer_retry_backoff: v.duration("ingestion.producerRetryBackoff"),
            queue_high_water: v.share("ingestion.queueHighWaterPercent"),
            producer_dlq_dir: v.path("ingestion.producerDLQDir"),
            producer_dlq_max_bytes: v.number("ingestion.producerDLQMaxBytes"),
            rejects_dir: v.optional("ingestion.rejectsDir", Good::path),
            rejects_max_bytes: v.number("ingestion.rejectsMaxBytes"),
            invalid_records: match v.text("ingestion.invalidRecords") {
                "reject" => InvalidRecords::Reject,
                _ => InvalidRecords::Skip,
            },
            max_record_bytes: v.count("ingestion.maxRecordBytes"),
            max_batch_records: v.small("ingestion.maxBatchRecords"),
        },
        kafka: kafka::kafka(v),
        consumer: Consumer {
            flush_size: v.count("consumer.flushSize"),
            flush_interval: v.duration("consumer.flushInterval"),
            persist_timeout: v.duration("consumer.persistTimeout"),
            dlq_dir: v.path("consumer.dlqDir"),
            dlq_max_bytes: v.number("consumer.dlqMaxBytes"),
            buffer_bytes: v.number("consumer.bufferBytes"),
            dedup_max_batches: v.count("consumer.dedupMaxBatches"),
            session_timeout: v.duration("consumer.sessionTimeout"),
            stall_timeout: stall_timeout(v),
            start_at: match v.text("consumer.startAt") {
                "latest" => StartAt::Latest,
                _ => StartAt::Earliest,
            },
            admin_addr: v.addr("consumer.adminAddr"),
            shutdown_timeout: v.duration("consumer.shutdownTimeout"),
        },
        storage: Storage {
            logs_dir: v.path("storage.logsDir"),
            analytics_dir: v.path("storage.analyticsDir"),
            archive_dir: v.path("storage.archiveDir"),
            live_retention: v.duration("storage.liveRetention"),
            archive_retention: v.optional("storage.archiveRetention", Good::duration),
            analytics_retention: v.optional("storage.analyticsRetention", Good::duration),
        },
        aggregation: Aggregation {
            interval: v.duration("aggregation.interval"),
            archive_after: v.duration("aggregation.archiveAfter"),
            archive_max_wait: v.duration("aggregation.archiveMaxWait"),
            max_keys_per_hour: v.count("aggregation.maxKeysPerHour"),
            strip_query: v.bool("aggregation.stripQuery"),
            admin_addr: v.addr("aggregation.adminAddr"),
            shutdown_timeout: v.duration("aggregation.shutdownTimeout"),
        },
        telemetry: Telemetry {
            log_level: v.text("telemetry.log.level").to_owned(),
            log_format: match v.text("telemetry.log.format") {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        },
    }
}

/// Where only `requestTimeout` was set, the default follows it instead of contradicting it.
fn write_timeout(v: &Good<'_>) -> Duration {
    let timeout = v.duration("ingestion.producerWriteTimeout");
    if v.walked.is_given("ingestion.producerWriteTimeout") {
        timeout
    } else {
        timeout.min(v.duration("server.requestTimeout") / 2)
    }
}

fn check_write_timeout(walked: &mut Walked) {
    let path = "ingestion.producerWriteTimeout";
    if let (Some(Value::Duration(write)), Some(Value::Duration(request))) =
        (walked.get(path), walked.get("server.requestTimeout"))
        && write >= request
        && walked.is_given(path)
    {
        let found = format!("{write:?}");
        let allowed = format!("less than server.requestTimeout ({request:?})");
        walked.fault(path, found, allowed);
    }
}

fn check_drain_delay(walked: &mut Walked) {
    let path = "server.drainDelay";
    if let (Some(Value::Duration(delay)), Some(Value::Duration(shutdown))) =
        (walked.get(path), walked.get("server.shutdownTimeout"))
        && *delay > *shutdown / 2
    {
        let found = format!("{delay:?}");
        let allowed = format!("at most half of server.shutdownTimeout ({shutdown:?})");
        walked.fault(path, found, allowed);
    }
}

/// Where only `persistTimeout` was set, the default follows it instead of contradicting it.
fn stall_timeout(v: &Good<'_>) -> Duration {
    let timeout = v.duration("consumer.stallTimeout");
    if v.walked.is_given("consumer.stallTimeout") {
        timeout
    } else {
        timeout.max(2 * v.duration("consumer.persistTimeout"))
    }
}

fn check_stall_timeout(walked: &mut Walked) {
    let path = "consumer.stallTimeout";
    if let (Some(Value::Duration(stall)), Some(Value::Duration(persist))) =
        (walked.get(path), walked.get("consumer.persistTimeout"))
        && stall < persist
        && walked.is_given(path)
    {
        let found = format!("{stall:?}");
        let allowed = format!("not less than consumer.persistTimeout ({persist:?})");
        walked.fault(path, found, allowed);
    }
}

fn check_listeners(walked: &mut Walked) {
    for (index, path) in LISTENERS.iter().enumerate() {
        let Some(Value::Addr(addr)) = walked.get(path).cloned() else {
            continue;
        };
        let taken = LISTENERS[..index].iter().find(
            |other| matches!(walked.get(other), Some(Value::Addr(other)) if collide(*other, addr)),
        );
        if let Some(other) = taken {
            walked.fault(
                path,
                addr.to_string(),
                format!("another port than that of {other}"),
            );
        }
    }
}

/// An unspecified address takes the port of every other.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn data_dir(walked: &mut Walked) -> PathBuf {
    let Some(Value::Text(dir)) = walked.get("dataDir") else {
        return PathBuf::new();
    };
    let dir = PathBuf::from(dir);
    match std::env::current_dir() {
        Ok(working) => plain(&working.join(dir)),
        Err(_) if dir.is_absolute() => plain(&dir),
        Err(error) => {
            walked.fault(
                "dataDir",
                format!("no working directory ({error})"),
                "an absolute path",
            );
            dir
        }
    }
}

fn check_dirs(walked: &mut Walked, data_dir: &Path) {
    let absolute = |walked: &Walked, path: &str| match walked.get(path) {
        Some(Value::Text(dir)) => Some(plain(&data_dir.join(dir))),
        _ => None,
    };
    let logs = absolute(walked, "storage.logsDir");
    for (index, path) in DIRS.iter().enumerate() {
        let Some(dir) = absolute(walked, path) else {
            continue;
        };
        let found = dir.display().to_string();
        let taken = DIRS[..index]
            .iter()
            .find(|other| absolute(walked, other).as_ref() == Some(&dir));
        if let Some(other) = taken {
            walked.fault(path, found, format!("another directory than {other}"));
        } else if index > 0
            && logs
                .as_ref()
                .is_some_and(|logs| dir.starts_with(logs.join("_live")))
        {
            walked.fault(
                path,
                found,
                "a directory outside of the store's chains (_live in storage.logsDir)",
            );
        }
    }
}

/// Without `.`; `..` stays, as what it leads to depends on links.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// Values of a file without faults, each there and of its kind; of one with faults, only those that
/// were looked for before they are taken.
struct Good<'a> {
    walked: &'a Walked,
    data_dir: PathBuf,
}

impl Good<'_> {
    fn value(&self, path: &str) -> &Value {
        self.walked
            .get(path)
            .expect("a file without faults has a value for every key")
    }

    fn optional<T>(&self, path: &str, get: fn(&Self, &str) -> T) -> Option<T> {
        (*self.value(path) != Value::Off).then(|| get(self, path))
    }

    fn addr(&self, path: &str) -> SocketAddr {
        match self.value(path) {
            Value::Addr(addr) => *addr,
            other => other_kind(path, other),
        }
    }

    fn bool(&self, path: &str) -> bool {
        match self.value(path) {
            Value::Bool(value) => *value,
            other => other_kind(path, other),
        }
    }

    fn duration(&self, path: &str) -> Duration {
        match self.value(path) {
            Value::Duration(duration) => *duration,
            other => other_kind(path, other),
        }
    }

    fn number(&self, path: &str) -> u64 {
        match self.value(path) {
            Value::Number(number) => *number,
            other => other_kind(path, other),
        }
    }

    fn count(&self, path: &str) -> usize {
        usize::try_from(self.number(path)).unwrap_or(usize::MAX)
    }

    fn small<T: TryFrom<u64>>(&self, path: &str) -> T {
        let number = T::try_from(self.number(path)).ok();
        number.expect("the key's range fits its type")
    }

    fn share(&self, path: &str) -> f64 {
        match self.value(path) {
            Value::Share(share) => *share,
            other => other_kind(path, other),
        }
    }

    fn text(&self, path: &str) -> &str {
        match self.value(path) {
            Value::Text(text) => text,
            other => other_kind(path, other),
        }
    }

    fn list(&self, path: &str) -> &[String] {
        match self.value(path) {
            Value::List(list) => list,
            other => other_kind(path, other),
        }
    }

    fn items(&self, path: &str) -> &[Item] {
        match self.value(path) {
            Value::Sections(items) => items,
            other => other_kind(path, other),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        plain(&self.data_dir.join(self.text(path)))
    }
}

fn other_kind(path: &str, value: &Value) -> ! {
    unreachable!("{path} is read as another kind than its own: {value:?}")
}
