//! What the gateway counts, by the catalog's names. Decides nothing.

use std::time::Duration;

use kafka_link::ErrorKind;
use metrics::{Counter, counter, gauge, histogram};
use pipeline_core::{
    record::RecordErrorCode,
    telemetry::catalog::{self, label},
};

use crate::{batch::Kept, budget::Budget, dlq::Totals, http::problem::Code};

/// What came of reading the configuration, or what it names, anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    Applied,
    Refused,
}

impl Reload {
    fn as_str(self) -> &'static str {
        let [applied, refused] = catalog::RELOAD_OUTCOMES;
        match self {
            Self::Applied => applied,
            Self::Refused => refused,
        }
    }
}

pub fn reloaded(reload: Reload) {
    counter!(catalog::CONFIG_RELOADS, label::OUTCOME => reload.as_str()).increment(1);
}

pub fn tls_reloaded(reload: Reload) {
    counter!(catalog::TLS_RELOADS, label::OUTCOME => reload.as_str()).increment(1);
}

/// Seconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn tls_certificate_ends(at: i64) {
    gauge!(catalog::TLS_CERTIFICATE_ENDS).set(at as f64);
}

pub fn batch_received() {
    counter!(catalog::LOG_BATCHES_RECEIVED).increment(1);
}

pub fn records_rejected(code: RecordErrorCode, records: u64) {
    counter!(catalog::LOG_RECORDS_REJECTED, label::CODE => code.as_str()).increment(records);
}

/// Why rejected records were not kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// More came than waits for the disk.
    Full,
    Disk,
}

pub fn rejects_dropped(why: Dropped, records: usize) {
    let reason = match why {
        Dropped::Full => "full",
        Dropped::Disk => "disk",
    };
    counter!(catalog::REJECTS_DROPPED, label::REASON => reason).increment(records as u64);
}

pub fn rejects_written(records: usize) {
    counter!(catalog::REJECTS_WRITTEN).increment(records as u64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn rejects_bytes(bytes: u64) {
    gauge!(catalog::REJECTS_BYTES).set(bytes as f64);
}

/// A 202 counts them, and this is where they are.
pub fn records_accepted(records: usize, kept: Kept) {
    let records = records as u64;
    counter!(catalog::LOG_RECORDS_ACCEPTED).increment(records);
    counter!(catalog::LOG_RECORDS_KEPT, label::KEPT => kept.as_str()).increment(records);
}

/// Its head is none, or too long: 400 or 431 without a word more, from hyper itself.
pub fn request_unread() {
    counter!(catalog::INVALID_REQUESTS, label::CODE => Code::BadRequest.as_str()).increment(1);
}

pub fn request_ended(refusal: Option<Code>, took: Duration) {
    histogram!(catalog::HTTP_REQUEST_DURATION).record(took);
    if let Some(code) = refusal {
        let name = if code.is_ours() {
            catalog::REFUSED_REQUESTS
        } else {
            catalog::INVALID_REQUESTS
        };
        counter!(name, label::CODE => code.as_str()).increment(1);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn connections(open: usize) {
    gauge!(catalog::HTTP_CONNECTIONS).set(open as f64);
}

/// The reason of a connection that was closed because its TLS handshake failed.
pub const HANDSHAKE: &str = catalog::CONNECTION_END_REASONS[0];

pub fn connection_ended(reason: &'static str) {
    counter!(catalog::HTTP_CONNECTIONS_ENDED, label::REASON => reason).increment(1);
}

/// To be held by whoever counts often.
pub fn received_bytes() -> Counter {
    counter!(catalog::HTTP_RECEIVED)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn queue_capacity(batches: usize) {
    gauge!(catalog::INGESTION_WORK_QUEUE_CAPACITY).set(batches as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn queue_fill(depth: usize, bytes: u64, ratio: f64) {
    gauge!(catalog::INGESTION_WORK_QUEUE_DEPTH).set(depth as f64);
    gauge!(catalog::INGESTION_WORK_QUEUE_BYTES).set(bytes as f64);
    gauge!(catalog::INGESTION_WORK_QUEUE_FILL_RATIO).set(ratio);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn queue_oldest_age(ms: i64) {
    gauge!(catalog::INGESTION_WORK_QUEUE_OLDEST_AGE).set(ms as f64 / 1000.0);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn memory(budget: &Budget) {
    gauge!(catalog::MEMORY_BUDGET).set(budget.bytes_max() as f64);
    gauge!(catalog::MEMORY_USED).set(budget.used() as f64);
}

pub fn producer_write(took: Duration) {
    histogram!(catalog::PRODUCER_WRITE_DURATION).record(took);
}

pub fn producer_error(kind: ErrorKind) {
    counter!(catalog::PRODUCER_ERRORS, label::KIND => kind.as_str()).increment(1);
}

pub fn producer_retry() {
    counter!(catalog::PRODUCER_RETRIES).increment(1);
}

pub fn kafka(up: bool, circuit_open: bool) {
    gauge!(catalog::KAFKA_UP).set(f64::from(u8::from(up)));
    gauge!(catalog::PRODUCER_CIRCUIT_OPEN).set(f64::from(u8::from(circuit_open)));
}

/// Sets each weak setting to whether it is one of `weak`.
pub fn topic_weak(weak: &[&str]) {
    for setting in catalog::WEAK_SETTINGS {
        let is_weak = f64::from(u8::from(weak.contains(&setting)));
        gauge!(catalog::KAFKA_TOPIC_WEAK, label::SETTING => setting).set(is_weak);
    }
}

/// `None`: not known; negative: for ever.
#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn topic_retention(ms: Option<i64>) {
    let seconds = ms.unwrap_or_default().max(0) as f64 / 1000.0;
    gauge!(catalog::KAFKA_TOPIC_RETENTION).set(seconds);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub fn dlq(totals: Totals, seconds_left: f64, oldest_age_ms: i64) {
    gauge!(catalog::PRODUCER_DLQ_RECORDS).set(totals.records as f64);
    gauge!(catalog::PRODUCER_DLQ_BYTES).set(totals.bytes as f64);
    gauge!(catalog::PRODUCER_DLQ_OLDEST_AGE).set(oldest_age_ms as f64 / 1000.0);
    dlq_seconds_left(seconds_left);
}

pub fn dlq_seconds_left(seconds: f64) {
    gauge!(catalog::PRODUCER_DLQ_SECONDS_LEFT).set(seconds);
}

pub fn dlq_written(records: usize) {
    counter!(catalog::PRODUCER_DLQ_WRITTEN).increment(records as u64);
}

pub fn dlq_replayed(records: u64) {
    counter!(catalog::PRODUCER_DLQ_REPLAYED).increment(records);
}

pub fn dlq_damaged(bytes: u64) {
    counter!(catalog::PRODUCER_DLQ_DAMAGED).increment(bytes);
}
