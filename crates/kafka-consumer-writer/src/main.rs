//! `kafka-consumer-writer`: arguments, configuration, the runtime, the service, its end.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use kafka_consumer_writer::{
    command::Command,
    service,
    shared::{OpenError, Shared},
};
use pipeline_core::{
    config::Config,
    lifecycle::{CommonArgs, Readiness, Shutdown, admin, exit},
    telemetry::{catalog::Service, start_logging, start_metrics},
};

const NAME: &str = "kafka-consumer-writer";

/// Kafka in, immutable chains of segments out, exactly once
#[derive(Parser, Debug)]
#[command(name = NAME, version)]
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
    let config = args.common.load_or_exit();
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
        // Before /metrics: its sums are complete from the first answer on.
        let shared = match open(&config, args.adopt).await {
            Ok(shared) => Arc::new(shared),
            Err(error) => {
                tracing::error!("{error}");
                return exit::FAILED;
            }
        };
        readiness.met("directories");
        let admin = admin::serve(config.consumer.admin_addr, NAME, readiness.clone(), metrics);
        let _admin = match admin.await {
            Ok(admin) => admin,
            Err(error) => {
                tracing::error!("{error}");
                return exit::FAILED;
            }
        };
        readiness.met("admin listener");
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            store = shared.store.id().0,
            logs_dir = %config.storage.logs_dir.display(),
            topic = shared.topic,
            group = shared.group_id,
            consumers = shared.consumers,
            "started"
        );
        match service::run(shared, &config.kafka, shutdown.token()).await {
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
    code.into()
}

async fn open(config: &Config, adopt: bool) -> Result<Shared, OpenError> {
    let config = config.clone();
    tokio::task::spawn_blocking(move || {
        let shared = Shared::open(&config, adopt)?;
        shared.find_chains()?;
        Ok(shared)
    })
    .await
    .expect("opening does not panic")
}
