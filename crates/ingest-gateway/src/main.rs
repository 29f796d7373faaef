//! The `ingest-gateway` process.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use ingest_gateway::{Gateway, command::Command};
use kafka_link::check::check_connect;
use pipeline_core::{
    config::ConfigFile,
    lifecycle::{CommonArgs, Hangup, Readiness, Shutdown, allocator, exit},
    telemetry,
};

/// Takes access logs over HTTP and keeps every record it has accepted
#[derive(Parser, Debug)]
#[command(version = telemetry::build::version())]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Measured with `cargo xtask overload --dev --budget 64 --connections 256`, one run each: at 256 KiB
/// a peak of 99 MiB and 58 MiB afterwards, at 1 MiB 120 and 102, left alone 127 and 106; jemalloc
/// 122 and 91.
const MAPPED_FROM_BYTES: i32 = 256 * 1024;

fn main() -> ExitCode {
    allocator::map_from(MAPPED_FROM_BYTES);
    let args = Args::parse();
    if let Some(command) = args.command
        && !args.common.check
    {
        return command.run(&args.common).into();
    }
    let judge = ingest_gateway::file_faults;
    let file = Arc::new(args.common.load_file_or_exit(judge));
    if args.common.connect {
        return check_connect(|| ingest_gateway::check(file.config())).into();
    }
    args.common.answer_ready(file.config().server.admin_addr);
    telemetry::start_logging(&file.config().telemetry);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a process that cannot have threads cannot serve");
    let code = runtime.block_on(serve(file));
    // What has to be on the disk was waited for; what hangs there still is not.
    runtime.shutdown_background();
    telemetry::end_logging();
    code.into()
}

async fn serve(file: Arc<ConfigFile>) -> u8 {
    let config = file.config();
    let readiness = Readiness::default();
    let shutdown = Shutdown::install(readiness.clone(), config.server.shutdown_timeout);
    let hangup = Hangup::install();
    let hangups = hangup.listen();
    match Gateway::start(config, readiness, &hangup).await {
        Ok(gateway) => {
            gateway.reload_keys(Arc::clone(&file), hangups);
            gateway.run(shutdown).await;
            exit::OK
        }
        Err(error) => {
            tracing::error!("failed to start: {error}");
            error.exit_code()
        }
    }
}
