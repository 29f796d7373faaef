//! The closed lists that labels take their values from. Names no metric.

/// Codes of answers that say the request was wrong (4xx without 429).
pub const INVALID_REQUEST_CODES: [&str; 11] = [
    "unreadable_body",
    "no_valid_record",
    "invalid_records",
    "bad_request",
    "unauthorized",
    "foreign_site",
    "not_found",
    "method_not_allowed",
    "body_timeout",
    "too_large",
    "unsupported_media_type",
];

/// Codes of answers that say the trouble is ours (429 and 503).
pub const REFUSED_REQUEST_CODES: [&str; 6] = [
    "queue_full",
    "quota",
    "memory",
    "draining",
    "nowhere_to_keep",
    "unknown_outcome",
];

/// Kinds of Kafka errors, as `kafka_link::ErrorKind` spells them.
pub const KAFKA_ERROR_KINDS: [&str; 12] = [
    "retry",
    "refresh",
    "auth",
    "too_large",
    "poison",
    "fatal",
    "unknown_outcome",
    "rejoin",
    "lost",
    "fenced",
    "offset_out_of_range",
    "other_topic",
];

/// What came of reading the configuration anew.
pub const RELOAD_OUTCOMES: [&str; 2] = ["applied", "refused"];

/// Why a rejected record was not kept in `ingestion.rejectsDir`.
pub const REJECTS_DROPPED_REASONS: [&str; 2] = ["full", "disk"];

/// Where an accepted record was kept when it was answered.
pub const KEPT: [&str; 3] = ["kafka", "dlq", "queue"];

/// What became of an offset, as the trailers say it.
pub const FATES: [&str; 6] = [
    "stored",
    "duplicate",
    "poison",
    "undecidable",
    "skipped",
    "lost",
];

/// Why a batch was flushed.
pub const FLUSH_REASONS: [&str; 5] = ["size", "bytes", "interval", "revoke", "shutdown"];

/// How a run of the aggregator ended; `halted`: some chain is damaged, the others were counted.
pub const RUN_OUTCOMES: [&str; 6] = [
    "counted",
    "nothing_new",
    "halted",
    "stopped",
    "superseded",
    "failed",
];

/// What became of a snapshot of a duplicate window.
pub const SNAPSHOT_OUTCOMES: [&str; 2] = ["written", "failed"];

/// Why a partition stands still, as `kafka_consumer_writer::takeover::HaltReason` spells it.
pub const HALT_REASONS: [&str; 8] = [
    "damaged",
    "missing",
    "other_store",
    "directory_lost",
    "other_topic",
    "log_truncated",
    "other_message",
    "unreadable_log",
];

/// Settings of a topic that weaken the promise where they are not as it needs them.
pub const WEAK_SETTINGS: [&str; 4] = [
    "replication_factor",
    "min_insync_replicas",
    "unclean_leader_election",
    "retention",
];

/// Why the gateway closed a connection that its client would have kept.
pub const CONNECTION_END_REASONS: [&str; 5] =
    ["handshake", "idle", "slow_head", "slow_body", "made_room"];

/// What is kept on a disk.
pub const VOLUMES: [&str; 6] = [
    "producer_dlq",
    "rejects",
    "store",
    "consumer_dlq",
    "analytics",
    "archive",
];
