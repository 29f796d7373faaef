//! The aggregator's life: arguments, configuration, telemetry, runs, exit code.

use std::process::ExitCode;

use aggregator::{Portion, command::Command, service};
use clap::Parser;
use pipeline_core::{
    lifecycle::{CommonArgs, Readiness, Shutdown, allocator, exit},
    telemetry::{self, catalog::Service},
};

/// Counts what is new in the store and brings the hourly summaries up to date
#[derive(Parser)]
#[command(name = "aggregator", version = telemetry::build::version())]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    /// One run, for cron: exit 0 when all that was stored at its start is counted, else 1
    #[arg(long)]
    once: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Measured with `cargo xtask counts distinct`: at 1 MiB 394 MiB are resident after 10 million
/// distinct paths and no more come to it; left alone 1,080 MiB after 28 million, and growing.
const MAPPED_FROM_BYTES: i32 = 1 << 20;

fn main() -> ExitCode {
    run(Portion::default())
}

/// Public for `examples/to_be_killed`, which is the same.
pub fn run(portion: Portion) -> ExitCode {
    allocator::map_from(MAPPED_FROM_BYTES);
    let cli = Cli::parse();
    if let Some(command) = cli.command
        && !cli.common.check
    {
        return command.run(&cli.common, portion).into();
    }
    let config = cli.common.load_or_exit();
    if cli.common.connect {
        pipeline_core::command::say(
            "the aggregator does not talk to Kafka: there is nothing to connect to",
        );
        return exit::OK.into();
    }
    cli.common.answer_ready(config.aggregation.admin_addr);
    telemetry::start_logging(&config.telemetry);
    let metrics = telemetry::start_metrics(Service::Aggregator);
    let readiness = Readiness::default();
    let shutdown = Shutdown::install(readiness.clone(), config.aggregation.shutdown_timeout);

    // Runs block a thread of their own; this one answers operators.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a process that cannot start a runtime cannot start");
    let outcome = runtime.block_on(async {
        if cli.once {
            service::once(&config, portion, shutdown).await
        } else {
            service::serve(&config, portion, readiness, shutdown, metrics).await
        }
    });
    let code = outcome.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        // Nothing else here is one as it came from the system.
        let listener = error.downcast_ref::<std::io::Error>();
        listener.map_or(exit::FAILED, exit::of_listener)
    });
    telemetry::end_logging();
    code.into()
}
