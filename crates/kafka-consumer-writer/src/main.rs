//! `kafka-consumer-writer`: arguments, configuration, the runtime, the service, its end.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use kafka_consumer_writer::{
    command::Command,
    found,
    log_ends::LogEnds,
    service,
    shared::{OpenError, OpenedQueue, Shared},
};
use kafka_link::{check::check_connect, security_faults};
use pipeline_core::{
    config::{Config, NamedFiles},
    lifecycle::{CommonArgs, Readiness, Shutdown, admin, exit, manager},
    telemetry::{build, catalog::Service, end_logging, start_logging, start_metrics},
};

const NAME: &str = "kafka-consumer-writer";

/// Kafka in, immutable chains of segments out, exactly once
#[derive(Parser, Debug)]
#[command(name = NAME, version = build::version())]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Go on although the partitions were last committed by another store, or this store's
    /// directory is lost: begins new books
    #[arg(long)]
    adopt: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(command) = args.command
        && !args.common.check
    {
        return command.run(&args.common).into();
    }
    let judge = |files: &NamedFiles| security_faults(&files.kafka);
    let config = args.common.load_file_or_exit(judge).into_config();
    if args.common.connect {
        return check_connect(|| service::check(&config.kafka)).into();
    }
    args.common.answer_ready(config.consumer.admin_addr);
    start_logging(&config.telemetry);
    let metrics = start_metrics(Service::Writer);
    let readiness = Readiness::default();
    readiness.wait_for("directories");
    readiness.wait_for("admin listener");
    let shutdown = Shutdown::install(readiness.clone(), config.consumer.shutdown_timeout);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "failed to start the runtime");
            return exit::FAILED.into();
        }
    };
    let code = runtime.block_on(async {
        manager::keep_told(&readiness);
        let admin_addr = config.consumer.admin_addr;
        let admin = match admin::serve_before(admin_addr, NAME, readiness.clone()).await {
            Ok(admin) => admin,
            Err(error) => {
                tracing::error!("{error}");
                return exit::of_listener(&error);
            }
        };
        readiness.met("admin listener");
        let opened = tokio::select! {
            opened = open(&config, args.adopt) => opened,
            () = shutdown.token().cancelled_owned() => {
                tracing::info!("stopped before the store was open");
                return exit::OK;
            }
        };
        let shared = match opened {
            Ok(shared) => shared,
            Err(error) => {
                tracing::error!("{error}");
                return exit::FAILED;
            }
        };
        let log_ends = LogEnds::new(shared.clone(), service::new_cluster(&config.kafka));
        // Its sums are complete from the first answer on.
        admin.show_metrics(log_ends.render(metrics));
        readiness.met("directories");
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            store = shared.store.id().0,
            logs_dir = %config.storage.logs_dir.display(),
            topic = shared.topic,
            group = shared.group_id,
            consumers = shared.consumers,
            "started"
        );
        match service::run(shared, log_ends, &config.kafka, shutdown.token()).await {
            Ok(()) => {
                tracing::info!("stopped");
                exit::OK
            }
            Err(error) => {
                tracing::error!("{error}");
                exit::FAILED
            }
        }
    });
    // Threads in a hung disk are left behind.
    runtime.shutdown_background();
    end_logging();
    code.into()
}

/// Waits for the consumer DLQ and the store's root however long they hang, and for each chain only
/// so long.
async fn open(config: &Config, adopt: bool) -> Result<Arc<Shared>, OpenError> {
    let patience = config.consumer.persist_timeout;
    let (dlq_dir, logs_dir) = (&config.consumer.dlq_dir, &config.storage.logs_dir);
    let of_queue = config.clone();
    let opening = blocking(move || OpenedQueue::open(&of_queue));
    let queue = said_when_late(opening, patience, "the consumer DLQ", dlq_dir).await?;
    let of_store = config.clone();
    let opening = blocking(move || Shared::open_store(&of_store, adopt, queue));
    let shared = Arc::new(said_when_late(opening, patience, "the store", logs_dir).await?);
    let found = found::find_chains(&shared, patience);
    said_when_late(found, patience.saturating_mul(2), "the store", logs_dir).await?;
    Ok(shared)
}

async fn blocking<T: Send + 'static>(open: impl FnOnce() -> T + Send + 'static) -> T {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.expect("opening does not panic")
}

async fn said_when_late<T>(
    opening: impl Future<Output = T>,
    patience: Duration,
    what: &str,
    dir: &Path,
) -> T {
    tokio::pin!(opening);
    if let Ok(opened) = tokio::time::timeout(patience, &mut opening).await {
        return opened;
    }
    let dir = dir.display();
    tracing::error!(
        %dir,
        "{what} is not open yet: it is large, or the disk hangs or is slow; waiting"
    );
    opening.await
}
