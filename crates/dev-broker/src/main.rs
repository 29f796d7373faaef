//! `dev-broker`: the embedded broker as a process of its own, for the demo and for tests that
//! kill it.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use dev_broker::{Broker, Options, TopicSpec};
use tokio::signal::unix::{SignalKind, signal};

/// A small Kafka broker for development: loopback only, one process, never for production.
///
/// Prints `listening on HOST:PORT,…` when it is ready and runs until SIGTERM or SIGINT. With
/// --dir it keeps what it acknowledged over a kill -9 of itself (not over a power cut: it never
/// calls fsync).
///
/// Try it:
///   dev-broker --listen 127.0.0.1:19092 --topic logs:4 &
///   echo hello | kcat -b 127.0.0.1:19092 -t logs -P
///   kcat -b 127.0.0.1:19092 -t logs -C -e
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    /// Address of the first node; must be loopback. Port 0: any free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:19092")]
    listen: SocketAddr,
    /// Keep logs and committed offsets here; without it they are in memory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Make this topic unless it is there: NAME:PARTITIONS[,setting=value]… (may be repeated).
    #[arg(long = "topic", value_name = "NAME:PARTITIONS")]
    topics: Vec<TopicSpec>,
    /// Nodes of the cluster, each a listener on the next port.
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: usize,
    /// Serve the control port here, for faults and for looking:
    /// curl http://HOST:PORT/ and curl -d '{"do":"pause"}' http://HOST:PORT/
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dev-broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let broker = Broker::start(Options {
        listen: args.listen,
        nodes: args.nodes,
        dir: args.dir,
        topics: args.topics,
        ..Options::default()
    });
    let broker = Arc::new(broker.await?);
    if let Some(addr) = args.control {
        let addr = dev_broker::control::serve(Arc::clone(&broker), addr).await;
        println!("control on http://{}/", addr.context("no control port")?);
    }
    println!("listening on {}", broker.bootstrap());
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("failed to listen for SIGINT")?,
    }
    broker.stop().await;
    Ok(())
}
