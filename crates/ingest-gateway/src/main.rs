//! The `ingest-gateway` process.

use std::process::ExitCode;

use clap::Parser;
use ingest_gateway::{Gateway, command::Command};
use pipeline_core::{
    config::Config,
    lifecycle::{CommonArgs, Hangup, Readiness, Shutdown, exit},
    telemetry,
};

/// Takes access logs over HTTP and keeps every record it has accepted
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
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
    telemetry::start_logging(&config.telemetry);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a process that cannot have threads cannot serve");
    runtime.block_on(serve(&config)).into()
}

async fn serve(config: &Config) -> u8 {
    let readiness = Readiness::default();
    let shutdown = Shutdown::install(readiness.clone(), config.server.shutdown_timeout);
    let hangup = Hangup::install();
    match Gateway::start(config, readiness, &hangup).await {
        Ok(gateway) => {
            gateway.run(shutdown).await;
            exit::OK
        }
        Err(error) => {
            tracing::error!("failed to start: {error}");
            error.exit_code()
        }
    }
}
