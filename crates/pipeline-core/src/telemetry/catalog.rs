//! Every metric of Sluice: name, type, unit, help, labels. Nothing else names a metric.
//!
//! Names are the contract's; a metric has at most one label, whose values come from a closed list
//! (only partitions are learnt while running), but for the one that says what was built. Each metric of a service is there from its start,
//! at zero. To count: `metrics::counter!(catalog::LOG_BATCHES_RECEIVED).increment(1)`, with a
//! label `metrics::counter!(catalog::PRODUCER_ERRORS, label::KIND => error.kind.as_str())`.

mod values;

use crate::record::RecordErrorCode;
pub use values::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    Gateway,
    Writer,
    Aggregator,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

#[derive(Clone, Copy, Debug)]
pub enum Label {
    Enum {
        name: &'static str,
        values: fn() -> Vec<&'static str>,
    },
    /// Values are learnt while running.
    Open { name: &'static str },
    /// One series, at 1, whose labels are [`super::build`]'s.
    Build,
}

#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: &'static str,
    pub help: &'static str,
    pub label: Option<Label>,
    pub services: &'static [Service],
}

/// Names of labels.
pub mod label {
    pub const CODE: &str = "code";
    pub const KIND: &str = "kind";
    pub const KEPT: &str = "kept";
    pub const PARTITION: &str = "partition";
    pub const FATE: &str = "fate";
    pub const REASON: &str = "reason";
    pub const OUTCOME: &str = "outcome";
    pub const SETTING: &str = "setting";
    pub const VOLUME: &str = "volume";
    /// Those of the one metric that says what was built.
    pub const BUILD: [&str; 3] = ["service", "version", "commit"];
}

const GATEWAY: &[Service] = &[Service::Gateway];
const WRITER: &[Service] = &[Service::Writer];
const AGGREGATOR: &[Service] = &[Service::Aggregator];
const ON_KAFKA: &[Service] = &[Service::Gateway, Service::Writer];
const EVERYWHERE: &[Service] = &[Service::Gateway, Service::Writer, Service::Aggregator];

/// From a millisecond to the longest wait a knob allows by default.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
const RUN_SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];
const RECORDS: &[f64] = &[
    1.0, 16.0, 64.0, 256.0, 512.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0,
];
const BYTES: &[f64] = &[
    1024.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// One constant for each metric, and [`ALL`] of them, from one list.
macro_rules! catalog {
    ($($constant:ident = $metric:expr;)*) => {
        $(pub const $constant: &str = $metric.name;)*
        /// Every metric, in the order a record meets them.
        pub const ALL: &[Metric] = &[$($metric),*];
    };
}

catalog! {
    // gateway: the way in
    LOG_BATCHES_RECEIVED = counter(GATEWAY, "log_batches_received_total", "batches",
        "Bodies that were read and decoded.");
    LOG_RECORDS_ACCEPTED = counter(GATEWAY, "log_records_accepted_total", "records",
        "Records that a 202 counted as accepted.");
    LOG_RECORDS_KEPT = counter(GATEWAY, "log_records_kept_total", "records",
        "Accepted records by where they were kept when they were answered.")
        .with(label::KEPT, || KEPT.to_vec());
    LOG_RECORDS_REJECTED = counter(GATEWAY, "log_records_rejected_total", "records",
        "Records that were refused, by reason.")
        .with(label::CODE, || RecordErrorCode::ALL.map(RecordErrorCode::as_str).to_vec());
    REJECTS_WRITTEN = counter(GATEWAY, "rejects_written_records_total", "records",
        "Rejected records that were put into the rejects' directory.");
    REJECTS_DROPPED = counter(GATEWAY, "rejects_dropped_records_total", "records",
        "Rejected records that were to be put there and were not: too many at once, or no disk.")
        .with(label::REASON, || REJECTS_DROPPED_REASONS.to_vec());
    REJECTS_BYTES = gauge(GATEWAY, "rejects_bytes", "bytes",
        "Bytes of rejected records on disk.");
    INVALID_REQUESTS = counter(GATEWAY, "invalid_requests_total", "requests",
        "Requests answered with a 4xx other than 429, by code.")
        .with(label::CODE, || INVALID_REQUEST_CODES.to_vec());
    REFUSED_REQUESTS = counter(GATEWAY, "refused_requests_total", "requests",
        "Requests answered with 429 or 503, by code.")
        .with(label::CODE, || REFUSED_REQUEST_CODES.to_vec());
    HTTP_REQUEST_DURATION = histogram(GATEWAY, "http_request_duration_seconds", "seconds", SECONDS,
        "From the end of a request's headers to its answer.");
    HTTP_CONNECTIONS = gauge(GATEWAY, "http_connections", "connections",
        "Open client connections.");
    HTTP_CONNECTIONS_ENDED = counter(GATEWAY, "http_connections_ended_total", "connections",
        "Connections that were closed though their clients had not asked for it, by reason.")
        .with(label::REASON, || CONNECTION_END_REASONS.to_vec());
    HTTP_RECEIVED = counter(GATEWAY, "http_received_bytes_total", "bytes",
        "Bytes read from clients, heads and refused bodies included, TLS taken off.");
    TLS_RELOADS = counter(GATEWAY, "tls_reloads_total", "reloads",
        "Times the listener's certificate was read anew, by how that ended.")
        .with(label::OUTCOME, || RELOAD_OUTCOMES.to_vec());
    TLS_CERTIFICATE_ENDS = gauge(GATEWAY, "tls_certificate_not_after_timestamp_seconds", "seconds",
        "When the first certificate of the listener's chain ends, since 1970; 0 without TLS.");
    CONFIG_RELOADS = counter(GATEWAY, "config_reloads_total", "reloads",
        "Hangups at which the configuration was read anew, by what came of it.")
        .with(label::OUTCOME, || RELOAD_OUTCOMES.to_vec());

    // gateway: the channel
    INGESTION_WORK_QUEUE_DEPTH = gauge(GATEWAY, "ingestion_work_queue_depth", "batches",
        "Batches waiting for a producer worker.");
    INGESTION_WORK_QUEUE_CAPACITY = gauge(GATEWAY, "ingestion_work_queue_capacity", "batches",
        "Batches the queue takes.");
    INGESTION_WORK_QUEUE_BYTES = gauge(GATEWAY, "ingestion_work_queue_bytes", "bytes",
        "Bytes of the batches in the queue.");
    INGESTION_WORK_QUEUE_FILL_RATIO = gauge(GATEWAY, "ingestion_work_queue_fill_ratio", "ratio",
        "How full the queue is, 0 to 1: the larger of batches over capacity and bytes over budget.");
    INGESTION_WORK_QUEUE_OLDEST_AGE = gauge(GATEWAY, "ingestion_work_queue_oldest_age_seconds",
        "seconds", "Since the receipt of the batch that waits longest; 0 when none waits.");
    MEMORY_BUDGET = gauge(GATEWAY, "ingestion_memory_budget_bytes", "bytes",
        "Bytes of memory that bodies, queue and workers share (server.memoryBudget).");
    MEMORY_USED = gauge(GATEWAY, "ingestion_memory_used_bytes", "bytes",
        "Bytes of that budget in use; 0 when nobody is connected and nothing is on its way.");

    // gateway: out to Kafka, or aside
    PRODUCER_WRITE_DURATION = histogram(GATEWAY, "producer_write_duration_seconds", "seconds", SECONDS,
        "One write to Kafka, from the request to its answer or its failure.");
    PRODUCER_ERRORS = counter(GATEWAY, "producer_errors_total", "writes",
        "Writes to Kafka that failed, by what can be done about it.")
        .with(label::KIND, || KAFKA_ERROR_KINDS.to_vec());
    PRODUCER_RETRIES = counter(GATEWAY, "producer_retries_total", "writes",
        "Writes to Kafka that were tried again.");
    PRODUCER_CIRCUIT_OPEN = gauge(GATEWAY, "producer_circuit_open", "bool",
        "1 while Kafka counts as away and batches go straight to the dead letter queue.");
    PRODUCER_DLQ_RECORDS = gauge(GATEWAY, "producer_dlq_records", "records",
        "Records in the producer's dead letter queue.");
    PRODUCER_DLQ_BYTES = gauge(GATEWAY, "producer_dlq_bytes", "bytes",
        "Bytes of the producer's dead letter queue on disk.");
    PRODUCER_DLQ_SECONDS_LEFT = gauge(GATEWAY, "producer_dlq_seconds_left", "seconds",
        "Until the producer's dead letter queue is full at the rate of the last minute or so; at \
         most a year (31536000), which it also says while nothing is written there.");
    PRODUCER_DLQ_OLDEST_AGE = gauge(GATEWAY, "producer_dlq_oldest_age_seconds", "seconds",
        "Since the first receipt of the oldest entry of the producer's dead letter queue; 0 when \
         it is empty.");
    PRODUCER_DLQ_WRITTEN = counter(GATEWAY, "producer_dlq_written_records_total", "records",
        "Records that were put into the producer's dead letter queue.");
    PRODUCER_DLQ_REPLAYED = counter(GATEWAY, "producer_dlq_replayed_records_total", "records",
        "Records of the producer's dead letter queue that Kafka has taken.");
    PRODUCER_DLQ_DAMAGED = counter(GATEWAY, "producer_dlq_damaged_bytes_total", "bytes",
        "Bytes of the producer's dead letter queue that could not be read.");

    // gateway and writer: Kafka
    KAFKA_CLIENT_CERTIFICATE_ENDS = gauge(ON_KAFKA,
        "kafka_client_certificate_expiry_timestamp_seconds", "seconds",
        "When the first certificate of kafka.tls.certFile ends, as new connections to Kafka use \
         it, since 1970; 0 without one.");
    KAFKA_UP = gauge(ON_KAFKA, "kafka_up", "bool",
        "1 while Kafka answers this service.");
    KAFKA_TOPIC_WEAK = gauge(ON_KAFKA, "kafka_topic_weak", "bool",
        "1 where this setting of the topic weakens the promise that a 202 is kept.")
        .with(label::SETTING, || WEAK_SETTINGS.to_vec());

    KAFKA_TOPIC_RETENTION = gauge(GATEWAY, "kafka_topic_retention_seconds", "seconds",
        "How long the topic keeps a record (retention.ms); 0 where that is for ever or not known.");

    // writer: out of Kafka
    CONSUMER_ERRORS = counter(WRITER, "consumer_errors_total", "errors",
        "Calls to Kafka that failed, by what can be done about it.")
        .with(label::KIND, || KAFKA_ERROR_KINDS.to_vec());
    CONSUMER_REBALANCES = counter(WRITER, "consumer_rebalances_total", "rebalances",
        "Assignments of partitions that a member of this process was given.");
    CONSUMER_STALLS = counter(WRITER, "consumer_stalls_total", "stalls",
        "Times a member of this process left the group because nothing got saved.");
    CONSUMER_GROUP_STRANGERS = gauge(WRITER, "consumer_group_strangers", "bool",
        "1 while the consumer group has members that are no writers: what they hold is not stored.");
    CONSUMER_PARTITIONS_ASSIGNED = gauge(WRITER, "consumer_partitions_assigned", "partitions",
        "Partitions that the members of this process hold.");
    CONSUMER_PARTITIONS_HALTED = gauge(WRITER, "consumer_partitions_halted", "partitions",
        "Partitions of this process that stand still until someone looks at them.");
    CONSUMER_PARTITION_HALTS = gauge(WRITER, "consumer_partition_halts", "partitions",
        "The same by why they do: the sum over the reasons is consumer_partitions_halted.")
        .with(label::REASON, || HALT_REASONS.to_vec());
    CONSUMER_LAG = gauge(WRITER, "consumer_lag_records", "records",
        "Records in the log that are not in the chain yet, for each partition of this process, and \
         for up to three minutes for those that it has given up or that are new in the topic; all \
         of the log where the chain cannot be read or is of another log. NaN until Kafka has said \
         where the log ends.")
        .with_open(label::PARTITION);
    CONSUMER_LOG_ENDS_AGE = gauge(WRITER, "consumer_log_ends_age_seconds", "seconds",
        "How much older than this look the ends of the logs are that consumer_lag_records was \
         counted from: 0 while Kafka answers.");
    CONSUMER_LAG_SECONDS = gauge(WRITER, "consumer_lag_seconds", "seconds",
        "How long the oldest record that is not in the chain has been in the log, for each \
         partition: by Kafka's time where it has been read, else since this process has seen it; \
         NaN until Kafka has said where the log ends.")
        .with_open(label::PARTITION);
    CONSUMER_DEDUP_REACH = gauge(WRITER, "consumer_dedup_reach_seconds", "seconds",
        "How far back the duplicate window reaches, in the partition where it reaches least.");
    CONSUMER_BUFFER_BYTES = gauge(WRITER, "consumer_buffer_bytes", "bytes",
        "Bytes of messages that are read and not saved yet.");

    // writer: into the store
    BATCH_FLUSHES = counter(WRITER, "batch_flushes_total", "flushes",
        "Batches that were handed to the store, by what made them due.")
        .with(label::REASON, || FLUSH_REASONS.to_vec());
    BATCH_FLUSH_RECORDS = histogram(WRITER, "batch_flush_records", "records", RECORDS,
        "Messages in one flush.");
    BATCH_FLUSH_BYTES = histogram(WRITER, "batch_flush_bytes", "bytes", BYTES,
        "Bytes of the messages in one flush, before compression.");
    BATCH_FLUSH_DURATION = histogram(WRITER, "batch_flush_duration_seconds", "seconds", SECONDS,
        "One save, from the full batch to the durable segment.");
    BATCH_FLUSH_FAILURES = counter(WRITER, "batch_flush_failures_total", "flushes",
        "Saves that failed or did not end in time.");
    LOGS_INGESTED = counter(WRITER, "logs_ingested_total", "records",
        "Records that this process has stored.");
    CONSUMER_DUPLICATES = counter(WRITER, "consumer_duplicates_total", "records",
        "Messages that this process found to be stored already.");
    CONSUMER_POISON = counter(WRITER, "consumer_poison_total", "records",
        "Messages that are no records, put aside by this process.");
    CONSUMER_UNDECIDABLE = counter(WRITER, "consumer_undecidable_total", "records",
        "Messages older than the duplicate window reaches, put aside by this process.");
    CONSUMER_LOST = counter(WRITER, "consumer_lost_total", "records",
        "Offsets that Kafka's retention removed before this process could read them.");
    CONSUMER_DLQ_RECORDS = gauge(WRITER, "consumer_dlq_records", "records",
        "Records in the consumer's dead letter queue.");
    CONSUMER_DLQ_BYTES = gauge(WRITER, "consumer_dlq_bytes", "bytes",
        "Bytes of the consumer's dead letter queue on disk.");
    CONSUMER_DLQ_OLDEST_AGE = gauge(WRITER, "consumer_dlq_oldest_age_seconds", "seconds",
        "Since Kafka took the oldest record that waits in the consumer's dead letter queue for a \
         decision; 0 when none does.");
    CONSUMER_DLQ_SECONDS_LEFT = gauge(WRITER, "consumer_dlq_seconds_left", "seconds",
        "Until the consumer's dead letter queue is full at the rate of the last minute or so; at \
         most a year (31536000), which it also says while nothing is written there.");
    CONSUMER_TAKEOVER_DURATION = histogram(WRITER, "consumer_takeover_duration_seconds", "seconds",
        SECONDS, "Reading a partition's chain when it is taken over.");
    STORE_SNAPSHOTS = counter(WRITER, "store_snapshots_total", "snapshots",
        "Snapshots of duplicate windows that were due, by what became of them.")
        .with(label::OUTCOME, || SNAPSHOT_OUTCOMES.to_vec());
    STORE_SNAPSHOTS_UNREADABLE = counter(WRITER, "store_snapshots_unreadable_total", "files",
        "Files of snapshots that could not be read when a chain was; its trailers or another file \
         were used instead, or the partition has halted.");
    STORE_SCRUBBED_BYTES = counter(WRITER, "store_scrubbed_bytes_total", "bytes",
        "Segments of the chains this process holds, read again to see that they are whole.");
    STORE_CHAINS_UNREAD = gauge(WRITER, "store_chains_unread", "chains",
        "Chains that are there, or were assigned, and could not be read yet: what they hold is not \
         in store_chain_records, and all of their logs count as lag.");
    STORE_CHAIN_RECORDS = gauge(WRITER, "store_chain_records", "records",
        "Offsets by what became of them, since the beginning of the chains this process holds.")
        .with(label::FATE, || FATES.to_vec());

    // aggregator
    AGGREGATION_RUNS = counter(AGGREGATOR, "aggregation_runs_total", "runs",
        "Runs, by how they ended.")
        .with(label::OUTCOME, || RUN_OUTCOMES.to_vec());
    AGGREGATION_RUN_DURATION = histogram(AGGREGATOR, "aggregation_run_duration_seconds", "seconds",
        RUN_SECONDS, "One run, from the look at the chains to the last summary.");
    AGGREGATION_LAG = gauge(AGGREGATOR, "aggregation_lag_seconds", "seconds",
        "Age of the oldest stored record that is not counted yet; 0 when all are.");
    AGGREGATION_RECORDS = counter(AGGREGATOR, "aggregation_records_total", "records",
        "Records that this process has counted.");
    AGGREGATION_RECORDS_ASIDE = counter(AGGREGATOR, "aggregation_aside_records_total", "records",
        "Records counted aside because they lie more than 24 hours ahead of their receipt.");
    AGGREGATION_READ = gauge(AGGREGATOR, "aggregation_read_records", "records",
        "Records read from the chains and committed, since the store's beginning: those counted and \
         those set aside.");
    AGGREGATION_COUNTED = gauge(AGGREGATOR, "aggregation_counted_records", "records",
        "Records counted in hours and days, since the store's beginning.");
    AGGREGATION_SET_ASIDE = gauge(AGGREGATOR, "aggregation_set_aside_records", "records",
        "Records counted aside, as they are more than 24 h ahead of their receipt, since the \
         store's beginning.");
    AGGREGATION_CHAINS_HALTED = gauge(AGGREGATOR, "aggregation_chains_halted", "chains",
        "Chains that are not counted on until someone looks at them.");
    AGGREGATION_REPORTS = counter(AGGREGATOR, "aggregation_reports_total", "pages",
        "Pages of reports written, the index included.");
    AGGREGATION_REPORT_BYTES = counter(AGGREGATOR, "aggregation_report_bytes_total", "bytes",
        "Bytes of the pages of reports that were written.");
    AGGREGATION_REPORTS_DURATION = histogram(AGGREGATOR, "aggregation_reports_duration_seconds", "seconds",
        RUN_SECONDS, "Time to bring the reports up to date, where any was due.");
    AGGREGATION_ARCHIVED = counter(AGGREGATOR, "aggregation_archived_records_total", "records",
        "Records that this process has archived.");
    AGGREGATION_ARCHIVE_WAITING = gauge(AGGREGATOR, "aggregation_archive_waiting_records", "records",
        "Records that are counted and not archived yet.");
    AGGREGATION_SEGMENTS_REMOVED = counter(AGGREGATOR, "aggregation_removed_segments_total",
        "segments", "Live segments removed because all of their records are archived.");

    // every service
    BUILD_INFO = gauge(EVERYWHERE, "sluice_build_info", "info",
        "Always 1; its labels say which service, version and commit this is.")
        .of_build();
    VOLUME_SIZE = gauge(EVERYWHERE, "volume_size_bytes", "bytes",
        "Size of the file system that this is on; 0 where this service does not use it.")
        .with(label::VOLUME, || VOLUMES.to_vec());
    VOLUME_FREE = gauge(EVERYWHERE, "volume_free_bytes", "bytes",
        "What of it a service may still write; 0 also where this service does not use it.")
        .with(label::VOLUME, || VOLUMES.to_vec());
    PROCESS_DRAINING = gauge(EVERYWHERE, "process_draining", "bool",
        "1 from the request to shut down on.");
    RUNTIME_TASKS = gauge(EVERYWHERE, "runtime_tasks", "tasks",
        "Tasks of the async runtime that are alive.");
    RUNTIME_QUEUE_DEPTH = gauge(EVERYWHERE, "runtime_queue_depth", "tasks",
        "Tasks that wait in the async runtime's global queue for a thread.");
    PROCESS_CPU = counter(EVERYWHERE, "process_cpu_seconds_total", "seconds",
        "Processor time used, by program and kernel, in whole seconds.");
    PROCESS_RESIDENT = gauge(EVERYWHERE, "process_resident_memory_bytes", "bytes",
        "Memory of the process that is in RAM.");
    PROCESS_VIRTUAL = gauge(EVERYWHERE, "process_virtual_memory_bytes", "bytes",
        "Address space of the process.");
    PROCESS_OPEN_FDS = gauge(EVERYWHERE, "process_open_fds", "files",
        "Open file descriptors.");
    PROCESS_MAX_FDS = gauge(EVERYWHERE, "process_max_fds", "files",
        "File descriptors that the process may have open; 0 for no limit.");
    PROCESS_THREADS = gauge(EVERYWHERE, "process_threads", "threads",
        "Threads of the process.");
    PROCESS_START = gauge(EVERYWHERE, "process_start_time_seconds", "seconds",
        "When the process was started, since 1970.");
}

impl Metric {
    const fn with(mut self, name: &'static str, values: fn() -> Vec<&'static str>) -> Self {
        self.label = Some(Label::Enum { name, values });
        self
    }

    const fn with_open(mut self, name: &'static str) -> Self {
        self.label = Some(Label::Open { name });
        self
    }

    const fn of_build(mut self) -> Self {
        self.label = Some(Label::Build);
        self
    }

    /// The names of its labels.
    #[must_use]
    pub fn labels(&self) -> &[&'static str] {
        match &self.label {
            None => &[],
            Some(Label::Enum { name, .. } | Label::Open { name }) => std::slice::from_ref(name),
            Some(Label::Build) => &label::BUILD,
        }
    }
}

type Text = &'static str;

const fn counter(services: &'static [Service], name: Text, unit: Text, help: Text) -> Metric {
    metric(services, name, Kind::Counter, unit, help)
}

const fn gauge(services: &'static [Service], name: Text, unit: Text, help: Text) -> Metric {
    metric(services, name, Kind::Gauge, unit, help)
}

const fn histogram(
    services: &'static [Service],
    name: Text,
    unit: Text,
    buckets: &'static [f64],
    help: Text,
) -> Metric {
    metric(services, name, Kind::Histogram(buckets), unit, help)
}

const fn metric(
    services: &'static [Service],
    name: Text,
    kind: Kind,
    unit: Text,
    help: Text,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
        label: None,
        services,
    }
}
