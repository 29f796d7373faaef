//! The life of a gateway: start, serve, drain.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use kafka_link::{Acks, Cluster, ClusterConfig, Codec};
use pipeline_core::{
    config::{Compression, Config, ConfigFile, Fault},
    lifecycle::{
        Hangup, Hangups, Readiness, Shutdown,
        admin::{self, Admin},
        exit, raise_descriptor_limit,
    },
    retry::Backoff,
    telemetry::{catalog::Service, start_metrics},
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Access, reload::Reloader},
    budget::Budget,
    decode::Limits,
    dlq::{Dlq, FileLimits, OpenError, rate::SECONDS_LEFT_MAX, replay::Replayer},
    http::{
        App,
        body::BodyLimits,
        connections::Connections,
        logs::Ingest,
        openapi::OpenApi,
        room,
        tls::{self, Tls},
    },
    producer::{
        drain::{Drain, DrainControl, drain},
        flight::Flight,
        link::{Link, LinkConfig},
        send::Sender,
        settle::Settler,
        worker::{Workers, sweep},
    },
    queue::{Queue, QueueLimits},
    rejects::{Rejects, entry::RAW_BYTES_ASKED},
    telemetry,
};

/// The queue has one part in so many of the memory budget: the rest is for bodies on their way in
/// and for what workers make of batches.
const QUEUE_PART: u64 = 2;
/// How long the start looks for Kafka; it goes on without.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(2);
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
/// For connections to end by themselves once all else has ended.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Longest pause between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to listen on {addr}: {error}")]
    Listen { addr: SocketAddr, error: io::Error },
    #[error(transparent)]
    Admin(io::Error),
    #[error(transparent)]
    Dlq(#[from] OpenError),
    #[error("{}", listed(.0))]
    Tls(Vec<Fault>),
    #[error("{0}")]
    TopicUnfit(String),
}

impl StartError {
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            // No restart helps: the configuration names what must not be used.
            Self::Tls(_) | Self::TopicUnfit(_) => exit::CONFIG,
            _ => exit::FAILED,
        }
    }
}

/// What is wrong with files that the configuration names and only the gateway reads.
#[must_use]
pub fn configuration_faults(config: &Config) -> Vec<Fault> {
    config
        .server
        .tls
        .as_ref()
        .map_or_else(Vec::new, tls::faults)
}

/// A gateway that serves.
pub struct Gateway {
    addr: SocketAddr,
    admin: Admin,
    app: Arc<App>,
    queue: Arc<Queue>,
    dlq: Dlq,
    workers: JoinHandle<()>,
    /// What workers have handed on and is not settled.
    settling: TaskTracker,
    /// What runs beside: ends at the beginning of a drain.
    beside: CancellationToken,
    /// The listener ends last, so that who asks is told.
    listening: CancellationToken,
    tasks: TaskTracker,
    drain: DrainControl,
    shutdown_timeout: Duration,
}

impl Gateway {
    /// Starts, also with Kafka away, and serves from then on. At each `hangup` it reads anew
    /// what the configuration names in files of their own.
    ///
    /// # Errors
    /// What keeps it from ever serving: addresses, the dead letter queue's directory, a topic
    /// that must not be used.
    pub async fn start(
        config: &Config,
        readiness: Readiness,
        hangup: &Hangup,
    ) -> Result<Self, StartError> {
        readiness.wait_for("start");
        let metrics = start_metrics(Service::Gateway);
        // Before it is known, too: 0 would be an alarm.
        telemetry::dlq_seconds_left(SECONDS_LEFT_MAX);
        let server = &config.server;
        let admin = admin::serve(
            server.admin_addr,
            "ingest-gateway",
            readiness.clone(),
            metrics,
        )
        .await
        .map_err(StartError::Admin)?;
        // Before they are read: what is changed while this starts is read anew.
        let hangups = hangup.listen();
        let tls = match &server.tls {
            Some(files) => Some(Arc::new(Tls::load(files).await.map_err(StartError::Tls)?)),
            None => None,
        };
        let listen = |error| StartError::Listen {
            addr: server.addr,
            error,
        };
        let listener = TcpListener::bind(server.addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let dlq = open_dlq(config).await?;

        let (drain_control, drain) = drain();
        let cluster = Cluster::new(cluster_config(config));
        let link = LinkConfig {
            topic: config.kafka.topic.as_str().into(),
            create: config.kafka.create_topic.clone(),
            all_acks: config.kafka.require_all_acks,
        };
        let mut link = Link::new(cluster.clone(), link);
        link.first_look(FIRST_LOOK_MAX)
            .await
            .map_err(StartError::TopicUnfit)?;

        let memory = memory(config);
        let queue = Arc::new(Queue::new(QueueLimits {
            batches_max: config.ingestion.queue_buffer_size,
            bytes_max: server.memory_budget / QUEUE_PART,
            high_water: config.ingestion.queue_high_water,
        }));
        let sender = sender(config, cluster, drain.clone(), &memory);
        let settler = Settler {
            dlq: dlq.clone(),
            queue: Arc::clone(&queue),
            view: link.view(),
            topic: Arc::clone(&sender.topic),
            sender: sender.clone(),
            tasks: TaskTracker::new(),
            attempts_max: server.request_timeout - reserve(config),
        };
        let settling = settler.tasks.clone();
        let workers = Workers {
            queue: Arc::clone(&queue),
            view: link.view(),
            sender: sender.clone(),
            settler: settler.clone(),
            linger: config.kafka.batch_timeout,
            encoded_bytes_max: encoded_bytes_max(&memory),
            flight: Flight::new(config.ingestion.producer_workers),
        };
        let workers = tokio::spawn(workers.run());
        let replayer = Replayer::new(dlq.clone(), sender, link.view(), Arc::clone(&queue));
        let access = Arc::new(Access::new(&config.auth));
        let connections_max = connections_max(config);
        let app = App::new(
            access,
            ingest(config, &queue, &memory, &link, drain),
            readiness.clone(),
            OpenApi::new(config),
        );
        let connections = Connections {
            listener,
            app: Arc::clone(&app),
            tls: tls.clone(),
            connections_max,
            close_max: CLOSE_MAX.min(shutdown_reserve(server.shutdown_timeout) / 2),
        };

        let tasks = TaskTracker::new();
        let (beside, listening) = (CancellationToken::new(), CancellationToken::new());
        let tick =
            (reserve(config) / 8).clamp(Duration::from_millis(10), Duration::from_millis(250));
        // It goes on through a drain: batches are overdue then, too.
        tasks.spawn(sweep(Arc::clone(&queue), settler, tick, listening.clone()));
        // As does this: nothing else closes the circuit of a partition that is back.
        tasks.spawn(link.keep(listening.clone()));
        tasks.spawn(replayer.run(beside.clone()));
        tasks.spawn(connections.serve(listening.clone()));
        if let Some(tls) = tls {
            tasks.spawn(tls.keep(hangups, listening.clone()));
        }
        tasks.close();
        readiness.met("start");
        tracing::info!(
            %addr,
            admin = %admin.addr(),
            topic = config.kafka.topic,
            connections_max,
            "gateway is ready"
        );
        Ok(Self {
            addr,
            admin,
            app,
            queue,
            dlq,
            workers,
            settling,
            beside,
            listening,
            tasks,
            drain: drain_control,
            shutdown_timeout: server.shutdown_timeout,
        })
    }

    /// From now on the API keys are those that `file`, with which it was started, holds at the
    /// last of `hangups`.
    pub fn reload_keys(&self, file: Arc<ConfigFile>, hangups: Hangups) {
        let reloader = Reloader {
            access: Arc::clone(&self.app.access),
            started: file,
            listening: self.addr,
        };
        self.tasks.spawn(reloader.run(hangups, self.beside.clone()));
    }

    /// Where it listens, also where port 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Serves until `shutdown`, then drains: requests in work are answered, the queue is emptied,
    /// and what Kafka will not take in time goes to the dead letter queue.
    pub async fn run(self, shutdown: Shutdown) {
        shutdown.requested().await;
        let reserve = shutdown_reserve(self.shutdown_timeout);
        let end = Instant::now() + self.shutdown_timeout - reserve;
        self.app.readiness.drain();
        self.app.drain();
        self.beside.cancel();
        self.drain.end_at(end.into_std());
        tracing::info!(queued = self.queue.len(), "draining");

        // After `end` each of these ends by itself; the time behind it is the disk's.
        self.app.idle().await;
        self.queue.close();
        if let Err(error) = self.workers.await {
            tracing::error!("the workers ended: {error}");
        }
        self.settling.close();
        self.settling.wait().await;
        self.dlq.stop().await;
        if let Some(rejects) = &self.app.ingest.rejects {
            // On a disk that hangs they are not worth the rest of the time.
            let _ = timeout(reserve / 4, rejects.stop()).await;
        }
        self.listening.cancel();
        self.tasks.wait().await;
        let left = self.dlq.totals();
        tracing::info!(
            dlq_records = left.records,
            dlq_bytes = left.bytes,
            "drained"
        );
    }
}

fn listed(faults: &[Fault]) -> String {
    let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
    faults.join("; ")
}

fn memory(config: &Config) -> Arc<Budget> {
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
fn encoded_bytes_max(memory: &Budget) -> usize {
    let forced = memory.bytes_max() - memory.free_max();
    usize::try_from(forced).unwrap_or(usize::MAX)
}

/// `server.maxConnections`, or as many as there are descriptors and memory for.
fn connections_max(config: &Config) -> usize {
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
fn shutdown_reserve(timeout: Duration) -> Duration {
    (timeout / 4).min(RESERVE_MAX)
}

/// What of `requestTimeout` belongs to the dead letter queue's fsync.
fn reserve(config: &Config) -> Duration {
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
async fn open_dlq(config: &Config) -> Result<Dlq, StartError> {
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
            started => return Ok(started?),
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

fn ingest(
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
