//! Every key of the file: its path, kind, default and meaning. The one list from which unknown
//! keys are refused, absent ones get their defaults, and the reference page and both examples are
//! written.

use std::borrow::Cow;

use super::value::Kind::{self, *};

/// One key of the file.
#[derive(Debug)]
pub(super) struct Key {
    pub path: &'static str,
    pub kind: Kind,
    /// As it would stand in the file; [`REQUIRED`] where there is none.
    pub default: &'static str,
    /// In plain words, for people.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only tests write documentation")
    )]
    pub help: &'static str,
}

/// The default of a key that has none.
pub(super) const REQUIRED: &str = "";
/// The default of a key that may be absent.
pub(super) const OFF: &str = "off";

/// Keys under which no value is ever shown.
pub(super) const SECRET: &[&str] = &["auth.keys", "kafka.sasl"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn size(min: u64, max: u64) -> Kind {
    Size { min, max }
}

/// In milliseconds.
const fn duration(min: u64, max: u64) -> Kind {
    Duration { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Count { min, max }
}

const fn key(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        help,
    }
}

/// What each section is about, in the order of the file.
#[cfg(test)]
pub(super) const SECTIONS: &[(&str, &str)] = &[
    (
        "server",
        "The gateway's listeners and what one request may cost.",
    ),
    ("auth", "Who may send logs."),
    (
        "ingestion",
        "The gateway between HTTP and Kafka: the queue, the workers, the producer's dead letter queue.",
    ),
    ("kafka", "Where Kafka is, and how all services use it."),
    ("consumer", "The writer between Kafka and the store."),
    ("storage", "Where things are kept, and how long."),
    (
        "aggregation",
        "The aggregator: store in, analytics and archive out.",
    ),
    ("telemetry", "What the services say about themselves."),
];

/// In the order of the file.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("dataDir", Path, ".",
        "Directory that all relative paths of this file begin at; the default is the working directory."),

    key("server.addr", Addr, "127.0.0.1:8080",
        "Where the gateway takes logs. Any address that is not loopback needs `auth.enabled` or `auth.allowAnonymous`. Port 0 takes a free one, the log says which."),
    key("server.adminAddr", Addr, "127.0.0.1:9101",
        "Where the gateway answers /livez, /readyz, /metrics and /version."),
    key("server.maxBodyBytes", size(1, 16 * GIB), "16MiB",
        "Longest request body as it is received, before decompression; a longer one gets 413."),
    key("server.maxDecodedBytes", size(1, 16 * GIB), "128MiB",
        "Longest request body after decompression; a longer one gets 413."),
    key("server.bodyTimeout", duration(1, HOUR), "10s",
        "Longest wait for the next byte of a body; then the request gets 408."),
    key("server.requestTimeout", duration(100, HOUR), "30s",
        "Longest time from the end of a request's headers to its answer, all attempts to reach Kafka and the dead letter queue included."),
    key("server.maxConnections", count(1, 1_000_000), "4096",
        "Most client connections at once. A further one takes the place of the one that has been without a request for longest (1 s at least), or else of one whose body comes at less than 1 KiB a second; where there is none it waits. Fewer are taken where the process may open fewer files, or where they would take over half of memoryBudget (52 KiB each, 64 KiB with TLS, 128 KiB more with HTTP/2)."),
    key("server.memoryBudget", size(16 * MIB, TIB), "512MiB",
        "Memory that connections, bodies, queue and workers share; a request that does not fit now is refused with 429 or 503, one that never would with 413. A sixteenth is kept for requests that take no more than 64 KiB, an eighth for what has been accepted. A body takes its decoded length and often as much again."),
    key("server.shutdownTimeout", duration(100, HOUR), "30s",
        "Longest time from SIGTERM to the end of the gateway, its last flush included."),
    key("server.drainDelay", duration(0, 5 * MINUTE), "0s",
        "How long requests are still taken after SIGTERM, while `/readyz` says 503 already, so that a load balancer sees that before requests are refused. Part of `shutdownTimeout`; at most half of it."),
    key("server.tls", Section, OFF,
        "TLS 1.2 and 1.3 of the gateway's own, for `server.addr`. Both files are read anew on SIGHUP; while they cannot be used, the former ones are."),
    key("server.tls.certFile", Path, REQUIRED,
        "PEM file with the certificate chain, the server's own first."),
    key("server.tls.keyFile", Path, REQUIRED,
        "PEM file with its private key, not encrypted."),

    key("auth.enabled", Bool, "false",
        "Whether a POST needs an API key."),
    key("auth.allowAnonymous", Bool, "false",
        "Whether `server.addr` may be other than loopback while `auth.enabled` is false. Only where something in front decides who gets through."),
    key("auth.headerName", HeaderName, "X-API-Key",
        "The header that carries the API key; `Authorization: Bearer` is taken too."),
    key("auth.keys", Sections, "[]",
        "The API keys; `ingest-gateway keys new` prints a fresh one and its line for here. All of `auth` is read anew on SIGHUP."),
    key("auth.keys[].id", Name, REQUIRED,
        "Names the key in logs and batch identities; not secret."),
    key("auth.keys[].sha256", Sha256, REQUIRED,
        "SHA-256 of the key, in hexadecimal digits."),
    key("auth.keys[].sha256File", Path, OFF,
        "File to read `sha256` from, instead of it."),
    key("auth.keys[].site", Host, OFF,
        "Binds the key to one site: its records get that site, others are rejected."),
    key("auth.keys[].recordsPerSecond", count(1, 1_000_000_000), OFF,
        "Records that the key may send in a second, on average, rejected ones included; after more it gets 429 until that time has passed."),

    key("ingestion.queueBufferSize", count(1, 1_000_000), "10000",
        "Batches (request bodies) that may wait for a worker; more get 429."),
    key("ingestion.producerWorkers", count(1, 1024), "10",
        "Writes that are on their way to one broker side by side."),
    key("ingestion.producerWriteTimeout", duration(10, 10 * MINUTE), "10s",
        "Longest wait for Kafka's answer to one write. Less than `server.requestTimeout`; where that is set and this is not, at most half of it."),
    key("ingestion.producerMaxRetries", count(0, 1000), "3",
        "Times a failed write is tried again before the batch goes to the dead letter queue; the time left for the request may end it earlier."),
    key("ingestion.producerRetryBackoff", duration(1, MINUTE), "200ms",
        "Pause before the first retry at most; doubles with each further one, and each is a random part of it."),
    key("ingestion.queueHighWaterPercent", Share, "0.9",
        "How full the queue may get before the log warns, as a share (0.9) or in percent (90)."),
    key("ingestion.producerDLQDir", Path, "dlq/producer",
        "Directory of batches that Kafka did not take; they are sent again by themselves."),
    key("ingestion.producerDLQMaxBytes", size(KIB, 1024 * TIB), "10GiB",
        "Most bytes of that directory; over it batches that Kafka does not take get 503."),
    key("ingestion.rejectsDir", Path, OFF,
        "Directory for rejected records with their reasons, up to 100 of each body and 4 KiB of each, for `ingest-gateway rejects list`. They are personal data as your users sent it: only the gateway's own user may read the files."),
    key("ingestion.rejectsMaxBytes", size(MIB, 1024 * TIB), "1GiB",
        "Most bytes of that directory; over it the oldest files leave."),
    key("ingestion.invalidRecords", Choice(&["skip", "reject"]), "skip",
        "What becomes of a batch with invalid records: `skip` takes the valid ones, `reject` refuses the whole batch."),
    key("ingestion.maxRecordBytes", size(64, 64 * MIB), "256KiB",
        "Longest record as one line of JSON; a longer one is invalid, its neighbours are not."),
    key("ingestion.maxBatchRecords", count(1, 1_000_000_000), "1000000",
        "Most records of one request, invalid ones included; over it the request gets 413."),

    key("kafka.brokers", Brokers, REQUIRED,
        "Brokers to ask first, each as host:port; the others are learnt from them."),
    key("kafka.topic", Topic, "logs",
        "The topic that carries the records, one message each."),
    key("kafka.groupID", Name, REQUIRED,
        "The consumer group of the writers. All writers of one store share it."),
    key("kafka.groupInstanceID", Name, OFF,
        "Fixed name of this writer in its group, another for each writer: a restart within `consumer.sessionTimeout` moves no partitions. With more than one of `consumers` each member adds its number (`-0`, `-1`, …). A writer that is stopped for good keeps its partitions until that timeout; of two with one name the earlier ends with an error."),
    key("kafka.batchSize", count(1, 1_000_000), "5000",
        "Most records of one write to one partition."),
    key("kafka.batchBytes", size(KIB, 64 * MIB), "1000000",
        "Most bytes of one write to one partition; the topic's `max.message.bytes` caps it, and a batch that is larger is split."),
    key("kafka.batchTimeout", duration(0, MINUTE), "5ms",
        "How long a worker waits for more batches to send together, while four writes are on their \
         way to the broker; with fewer none waits."),
    key("kafka.compression", Choice(&["none", "gzip", "snappy", "lz4", "zstd"]), "none",
        "Compression of what is written to Kafka."),
    key("kafka.async", Bool, "false",
        "true answers 202 as soon as the batch is in the queue, in memory: what is there when the gateway is killed is lost."),
    key("kafka.consumers", count(1, 256), "1",
        "Members of the consumer group in one writer process."),
    key("kafka.requireAllAcks", Bool, "true",
        "false is content with the leader's acknowledgement: what only a lost leader had is lost."),
    key("kafka.createTopic", Section, OFF,
        "Makes the topic where it does not exist, and sets its `min.insync.replicas`. Never changes one that does."),
    key("kafka.createTopic.partitions", count(1, 100_000), REQUIRED,
        "Partitions of a topic that is made."),
    key("kafka.createTopic.replicationFactor", count(1, 100), REQUIRED,
        "Copies of each partition of a topic that is made; 3 or more to bear the loss of a broker."),
    key("kafka.tls", Section, OFF,
        "TLS 1.2 and 1.3 to the brokers, verified; `{}` for the system's authorities and no client certificate. The files are read anew for each connection that is made; while they cannot be used, what was read before is."),
    key("kafka.tls.caFile", Path, OFF,
        "PEM file with the authorities to trust; off trusts the system's."),
    key("kafka.tls.certFile", Path, OFF,
        "PEM file with a client certificate and its chain, the client's own first; needs keyFile."),
    key("kafka.tls.keyFile", Path, OFF,
        "PEM file with the client certificate's private key, not encrypted."),
    key("kafka.sasl", Section, OFF,
        "Authentication at the brokers; PLAIN without kafka.tls sends the password readable, and warns."),
    key("kafka.sasl.mechanism", Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), REQUIRED,
        "How to authenticate."),
    key("kafka.sasl.username", Name, REQUIRED,
        "The user."),
    key("kafka.sasl.password", Secret, REQUIRED,
        "The password; better from a file or the environment, as `${KAFKA_PASSWORD}`."),
    key("kafka.sasl.passwordFile", Path, OFF,
        "File to read the password from, instead of `password`: one line, read anew for each connection that is made."),

    key("consumer.flushSize", count(1, 1_000_000), "512",
        "Records of one partition that make a save due."),
    key("consumer.flushInterval", duration(1, HOUR), "500ms",
        "Time after which a save is due, however few records there are."),
    key("consumer.persistTimeout", duration(10, HOUR), "5s",
        "Time after which a save counts as unknown: it is said, a copy is kept, and the chain is looked at before anything is written again."),
    key("consumer.dlqDir", Path, "dlq/consumer",
        "Directory of messages that are no records or cannot be decided, and of copies of failed saves."),
    key("consumer.dlqMaxBytes", size(KIB, 1024 * TIB), "1GiB",
        "Most bytes of that directory; over it a partition waits before such a message."),
    key("consumer.bufferBytes", size(64 * KIB, TIB), "256MiB",
        "Most bytes of messages that are read and not saved yet and of the segments being made of them, over all partitions; a partition over its share is paused."),
    key("consumer.dedupMaxBatches", count(1, 100_000_000), "250000",
        "Batches that each partition remembers to tell duplicates by."),
    key("consumer.sessionTimeout", duration(SECOND, 30 * MINUTE), "10s",
        "Time without a heartbeat after which the group gives a member's partitions to others."),
    key("consumer.stallTimeout", duration(SECOND, DAY), "5m",
        "Time in which not one save of a member ends although messages wait (the disk hangs, or refuses every file) after which the member leaves the group, so that another writer can have its partitions; it joins again when the store takes files. Not less than `consumer.persistTimeout`; where that is set and this is not, at least twice it."),
    key("consumer.startAt", Choice(&["earliest", "latest"]), "earliest",
        "Where a partition begins that has no chain yet."),
    key("consumer.adminAddr", Addr, "127.0.0.1:9102",
        "Where the writer answers /livez, /readyz, /metrics and /version."),
    key("consumer.shutdownTimeout", duration(100, HOUR), "30s",
        "Longest time from SIGTERM to the end of the writer, its last save included."),

    key("storage.logsDir", Path, "logs",
        "The store: every record, in chains of immutable segments."),
    key("storage.analyticsDir", Path, "analytics",
        "Hourly and daily summaries."),
    key("storage.archiveDir", Path, "archive",
        "The archive for other tools (records counted aside go beside it)."),
    key("storage.liveRetention", duration(0, 36_500 * DAY), "1h",
        "How long segments stay once their records are counted and archived; they go oldest first, as far as the writer's snapshots cover them."),
    key("storage.archiveRetention", duration(HOUR, 36_500 * DAY), OFF,
        "Age at which whole days of the archive are removed."),
    key("storage.analyticsRetention", duration(HOUR, 36_500 * DAY), OFF,
        "Age at which whole days of the analytics are removed."),

    key("aggregation.interval", duration(10, DAY), "30s",
        "Pause between two runs."),
    key("aggregation.archiveAfter", duration(0, 365 * DAY), "15m",
        "How long nothing may have come for an hour that is over before it is archived."),
    key("aggregation.archiveMaxWait", duration(SECOND, 365 * DAY), "6h",
        "Longest time from storing a record to archiving it."),
    key("aggregation.maxKeysPerHour", count(1, 100_000_000), "100000",
        "Most paths, agents and so on that are counted one by one, for each site, hour and day; the rest is `other`."),
    key("aggregation.stripQuery", Bool, "false",
        "Whether paths are counted without their query."),
    key("aggregation.adminAddr", Addr, "127.0.0.1:9103",
        "Where the aggregator answers /livez, /readyz, /metrics and /version."),
    key("aggregation.shutdownTimeout", duration(100, HOUR), "30s",
        "Longest time from SIGTERM to the end of the aggregator."),

    key("telemetry.log.level", LogFilter, "info",
        "error, warn, info, debug, trace or off, also for parts of the code, as `info,kafka_link=debug`."),
    key("telemetry.log.format", Choice(&["text", "json"]), "text",
        "Lines for people, or one JSON object a line."),
];

/// The key at `path`; in a list whatever the index is.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let path = any_index(path);
    KEYS.iter().find(|key| key.path == path)
}

/// Names that may stand in the section `path` (empty: the top of the file), in order.
pub(super) fn children(path: &str) -> Vec<&'static str> {
    let path = any_index(path);
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
        let below = match &*path {
            "" => Some(key.path),
            _ => key
                .path
                .strip_prefix(&*path)
                .and_then(|rest| rest.strip_prefix('.')),
        };
        let Some(name) = below.and_then(|rest| rest.split(['.', '[']).next()) else {
            continue;
        };
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether no value at `path` may be shown.
pub(super) fn is_secret(path: &str) -> bool {
    match find(path).map(|key| &key.kind) {
        Some(Secret | Sha256) => true,
        // One of a few words that stand in the documentation.
        Some(Choice(_)) => false,
        _ => SECRET.iter().any(|secret| is_at_or_below(path, secret)),
    }
}

/// `a[0].b` as it stands in the list: `a[].b`.
fn any_index(path: &str) -> Cow<'_, str> {
    let Some((before, (index, behind))) = path
        .split_once('[')
        .and_then(|(before, rest)| Some((before, rest.split_once(']')?)))
    else {
        return Cow::Borrowed(path);
    };
    if index.bytes().all(|byte| byte.is_ascii_digit()) {
        Cow::Owned(format!("{before}[]{behind}"))
    } else {
        Cow::Borrowed(path)
    }
}

/// `a.b`, `a.b.c` and `a.b[0]` are at or below `a.b`; `a.bc` is not.
fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
