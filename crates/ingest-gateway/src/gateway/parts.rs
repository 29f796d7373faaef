//! What a configuration makes of each part of the gateway. Starts nothing but the threads that own
//! files; which part belongs to which, `gateway` says.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use kafka_link::{Acks, Cluster, ClusterConfig, Codec};
use pipeline_core::{
    config::{Compression, Config},
    lifecycle::raise_descriptor_limit,
    retry::Backoff,
};
use tokio::{task::spawn_blocking, time::Instant};

use crate::{
    budget::Budget,
    decode::Limits,
    dlq::{Dlq, FileLimits, OpenError},
    http::{body::BodyLimits, logs::Ingest, room},
    producer::{drain::Drain, link::Link, send::Sender},
    queue::Queue,
    rejects::{Rejects, entry::RAW_BYTES_ASKED},
    telemetry,
};

/// How long a start waits for the directory of the dead letter queue.
const DLQ_WAIT_MAX: Duration = Duration::from_secs(5);
const DLQ_WAIT_STEP: Duration = Duration::from_millis(100);
const DLQ_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most of a request's (or the shutdown's) time that is kept for the disk and the last answers.
const RESERVE_MAX: Duration = Duration::from_secs(5);
/// An attempt on Kafka is given at least this long, where the configured times allow it.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);
/// Of the descriptors that the process may have, for all that is no client's connection.
const OTHER_DESCRIPTORS: usize = 256;
/// Longest pause between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

pub(super) fn memory(config: &Config) -> Arc<Budget> {
    let budget = Budget::new(config.server.memory_budget);
    let body = config.server.max_decoded_bytes;
    if body > budget.share_max() {
        tracing::warn!(
            "a body of server.maxDecodedBytes ({body}) would not fit into server.memoryBudget \
             ({}): what does not gets 413",
            budget.bytes_max()
        );
    }
    telemetry::memory(&budget);
    budget
}

/// What all workers encode at once fits into what is only taken by force.
pub(super) fn encoded_bytes_max(memory: &Budget) -> usize {
    let forced = memory.bytes_max() - memory.free_max();
    usize::try_from(forced).unwrap_or(usize::MAX)
}

/// `server.maxConnections`, or as many as there are descriptors and memory for.
pub(super) fn connections_max(config: &Config) -> usize {
    let server = &config.server;
    let configured = server.max_connections;
    let limit = raise_descriptor_limit().map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    // A quarter is left even where the limit is so low that this is hardly a service.
    let described = limit.saturating_sub(OTHER_DESCRIPTORS).max(limit / 4);
    if configured > described {
        tracing::warn!(
            "server.maxConnections is {configured}, but the process may open only {limit} files: \
             at most {described} connections are taken (raise the limit, as with LimitNOFILE=)"
        );
    }
    let roomy = room::connections_max(server.memory_budget, server.tls.is_some());
    if configured > roomy {
        tracing::info!(
            "server.maxConnections is {configured}, but connections may take only half of \
             server.memoryBudget ({}): at most {roomy} are taken",
            server.memory_budget
        );
    }
    configured.min(described).min(roomy)
}

/// What of `shutdownTimeout` belongs to the disk and the last answers.
pub(super) fn shutdown_reserve(timeout: Duration) -> Duration {
    (timeout / 4).min(RESERVE_MAX)
}

/// What of `requestTimeout` belongs to the dead letter queue's fsync.
pub(super) fn reserve(config: &Config) -> Duration {
    (config.server.request_timeout / 4).min(RESERVE_MAX)
}

/// With less time than this left, nothing is sent any more. A good part of a write's, so that a
/// batch that is nearly due does not cut the write of all that goes along; and a small part of the
/// whole time there is, so that there are attempts at all.
fn attempt_min(config: &Config) -> Duration {
    let write = config.ingestion.producer_write_timeout;
    let whole = config
        .server
        .request_timeout
        .min(config.server.shutdown_timeout);
    ATTEMPT_MIN.max(write / 4).min(write).min(whole / 4)
}

/// Another process may have the directory for a while: a gateway that drains, or a command.
/// What this service fills, and where.
pub(super) fn volumes(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let ingestion = &config.ingestion;
    let dlq = ("producer_dlq", ingestion.producer_dlq_dir.clone());
    let rejects = ingestion.rejects_dir.clone().map(|dir| ("rejects", dir));
    [dlq].into_iter().chain(rejects).collect()
}

pub(super) async fn open_dlq(config: &Config) -> Result<Dlq, OpenError> {
    let until = Instant::now() + DLQ_WAIT_MAX;
    let mut waits = false;
    loop {
        match start_dlq(config).await {
            Err(error @ OpenError::InUse { .. }) if Instant::now() < until => {
                if !waits {
                    tracing::warn!("{error}, waiting for at most {DLQ_WAIT_MAX:?}");
                    waits = true;
                }
                tokio::time::sleep(DLQ_WAIT_STEP).await;
            }
            started => return started,
        }
    }
}

/// Takes the directory of the dead letter queue and looks at what is there.
pub(crate) async fn start_dlq(config: &Config) -> Result<Dlq, OpenError> {
    let dir = config.ingestion.producer_dlq_dir.clone();
    let limits = FileLimits {
        bytes_max: config.ingestion.producer_dlq_max_bytes,
        file_bytes_max: DLQ_FILE_BYTES_MAX,
    };
    let opened = spawn_blocking({
        let dir = dir.clone();
        move || Dlq::start(&dir, limits)
    });
    opened.await.unwrap_or_else(|error| {
        Err(OpenError::Io {
            dir,
            error: io::Error::other(error),
        })
    })
}

pub(crate) fn cluster_config(config: &Config) -> ClusterConfig {
    ClusterConfig {
        brokers: config.kafka.brokers.clone(),
        client_id: "sluice-gateway".to_owned(),
        connect_timeout: CONNECT_TIMEOUT.min(config.ingestion.producer_write_timeout),
        request_timeout: LOOKUP_TIMEOUT,
        response_bytes_max: RESPONSE_BYTES_MAX,
        security: config.kafka.security.clone(),
    }
}

pub(crate) fn sender(
    config: &Config,
    cluster: Cluster,
    drain: Drain,
    memory: &Arc<Budget>,
) -> Sender {
    let (kafka, ingestion) = (&config.kafka, &config.ingestion);
    Sender {
        cluster,
        topic: kafka.topic.as_str().into(),
        acks: if kafka.require_all_acks {
            Acks::All
        } else {
            Acks::Leader
        },
        codec: match kafka.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        },
        batch_records_max: kafka.batch_size,
        batch_bytes_max: kafka.batch_bytes,
        write_timeout: ingestion.producer_write_timeout,
        attempt_min: attempt_min(config),
        retries_max: ingestion.producer_max_retries,
        backoff: Backoff {
            base: ingestion.producer_retry_backoff,
            max: BACKOFF_MAX.max(ingestion.producer_retry_backoff),
        },
        drain,
        memory: Arc::clone(memory),
    }
}

pub(super) fn ingest(
    config: &Config,
    queue: &Arc<Queue>,
    memory: &Arc<Budget>,
    link: &Link,
    drain: Drain,
) -> Ingest {
    let server = &config.server;
    let rejects = rejects(config);
    Ingest {
        queue: Arc::clone(queue),
        memory: Arc::clone(memory),
        view: link.view(),
        body: BodyLimits {
            wire_bytes_max: server.max_body_bytes,
            stall_max: server.body_timeout,
        },
        decoded_bytes_max: server.max_decoded_bytes,
        record_bytes_max: config.ingestion.max_record_bytes,
        limits: Limits {
            records_max: config.ingestion.max_batch_records,
            lines_bytes_max: u32::try_from(server.max_decoded_bytes.saturating_mul(2))
                .unwrap_or(u32::MAX),
            rejected_bytes_max: rejects.as_ref().map_or(0, |_| RAW_BYTES_ASKED),
            ..Limits::default()
        },
        invalid_records: config.ingestion.invalid_records,
        async_ack: config.kafka.async_ack,
        request_timeout: server.request_timeout,
        reserve: reserve(config),
        drain,
        rejects,
    }
}

fn rejects(config: &Config) -> Option<Rejects> {
    let ingestion = &config.ingestion;
    let dir = ingestion.rejects_dir.clone()?;
    let started = Rejects::start(dir, ingestion.rejects_max_bytes);
    started
        .inspect_err(|error| tracing::error!("rejected records are not kept: {error}"))
        .ok()
}
