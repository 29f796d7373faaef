//! The life of a gateway: start, serve, drain.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use kafka_link::{
    Cluster,
    check::{Purpose, Report},
    security_faults,
};
use pipeline_core::{
    config::{Config, ConfigFile, Fault, NamedFiles},
    dlq::rate::SECONDS_LEFT_MAX,
    lifecycle::{
        Hangup, Hangups, Readiness, Shutdown,
        admin::{self, Admin},
        exit, manager,
    },
    telemetry::{catalog::Service, start_metrics, volumes::watch},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Access, reload::Reloader},
    dlq::{Dlq, OpenError, replay::Replayer},
    http::{
        App,
        connections::Connections,
        openapi::OpenApi,
        tls::{self, Tls},
    },
    producer::{
        drain::{DrainControl, drain},
        flight::Flight,
        link::{Link, LinkConfig},
        settle::Settler,
        worker::{Workers, sweep},
    },
    queue::{Queue, QueueLimits},
    telemetry,
};

use self::{
    listen::bind,
    parts::{
        cluster_config, connections_max, encoded_bytes_max, ingest, memory, open_dlq, reserve,
        sender, shutdown_reserve, volumes,
    },
};

mod listen;
pub(crate) mod parts;

/// The queue has one part in so many of the memory budget: the rest is for bodies on their way in
/// and for what workers make of batches.
const QUEUE_PART: u64 = 2;
/// How long the start looks for Kafka; it goes on without.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(2);
/// For connections to end by themselves once all else has ended.
const CLOSE_MAX: Duration = Duration::from_secs(1);

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
            Self::Listen { error, .. } | Self::Admin(error) => exit::of_listener(error),
            Self::Dlq(OpenError::InUse { .. }) => exit::TRY_LATER,
            Self::Dlq(OpenError::Io { .. }) => exit::FAILED,
        }
    }
}

/// What is wrong with files that the configuration names and only the gateway reads.
#[must_use]
pub fn file_faults(files: &NamedFiles) -> Vec<Fault> {
    let listener = files.server_tls.as_ref().map(tls::faults);
    let mut faults = listener.unwrap_or_default();
    faults.extend(security_faults(&files.kafka));
    faults
}

/// Looks whether Kafka has what this configuration needs.
pub async fn check(config: &Config) -> Report {
    let kafka = &config.kafka;
    let purpose = Purpose {
        topic: &kafka.topic,
        creates: kafka.create_topic.as_ref(),
        reads_as: None,
        principal: kafka.security.principal(),
    };
    Cluster::new(cluster_config(config)).check(&purpose).await
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
    drain_delay: Duration,
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
        manager::keep_told(&readiness);
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
        let listener = bind(server.addr, server.max_connections).map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let dlq = open_dlq(config).await?;

        let (drain_control, drain) = drain();
        let cluster = Cluster::new(cluster_config(config));
        let link = LinkConfig {
            topic: config.kafka.topic.as_str().into(),
            create: config.kafka.create_topic.clone(),
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
        for (volume, dir) in volumes(config) {
            let looks = watch(volume, dir);
            tasks.spawn(beside.clone().run_until_cancelled_owned(looks));
        }
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
            drain_delay: server.drain_delay,
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
        // A load balancer sees that before anybody is refused.
        if !self.drain_delay.is_zero() {
            tokio::time::sleep(self.drain_delay).await;
        }
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
