//! `cargo xtask demo`: real access logs through the whole pipeline, with a writer killed on the
//! way, and the books at the end. Needs nothing but Rust and a C compiler.

mod send;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testbed::{
    clock::Millis,
    generate::{Piece, from_file, generate},
    process::Profile,
    stand::{CONFIG, Plan, Stand, fresh_name},
    store::Counter,
    summaries,
};

use crate::shell::{build_services, require_broker, root};

/// Only a directory with this file in it is ever emptied.
const MARKER: &str = ".sluice-demo";
const LINES_PER_BODY: usize = 500;
const STORED_WITHIN: Duration = Duration::from_secs(120);
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// Access logs through the whole pipeline, before your eyes
///
/// Builds the services, starts a broker (the embedded one, or yours with --kafka) and the three
/// services as separate processes with a real configuration file, sends logs over HTTP, kills the
/// writer with SIGKILL in the middle and starts it again, waits until everything is stored and
/// counted, and prints the books: sent, accepted, rejected with reasons, stored, counted.
///
/// Ends with 0 when accepted = stored = counted, else with 1. The data stays in --dir.
///
/// Needs nothing but Rust and a C compiler.
#[derive(clap::Args)]
pub struct Args {
    /// A log file to send (Apache/nginx combined or common lines) [default: generated logs of
    /// three sites over the last two days, some lines broken]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Where data, configuration and logs go; emptied first if it is an earlier demo's
    /// [default: demo-data in the repository]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A Kafka broker that runs already; the demo makes a topic of its own on it
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// How many records to generate
    #[arg(long, default_value_t = 40_000, conflicts_with = "input")]
    records: u32,
    /// Generates the same logs again (their times follow the clock)
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Build and run with optimisation: a longer build, a faster run
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let pieces = match &args.input {
        Some(file) => {
            let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            from_file(&text, LINES_PER_BODY)
        }
        None => generate(args.seed, args.records, Millis::now()),
    };
    if pieces.is_empty() {
        bail!("nothing to send: no line that is not blank");
    }
    if let Some(kafka) = &args.kafka {
        require_broker(kafka)?;
    }
    build_services(args.release)?;
    let dir = args.dir.clone().unwrap_or_else(|| root().join("demo-data"));
    empty(&dir)?;

    let mut stand = Stand::up(&dir, plan(args))?;
    println!("\nstarted in {}", stand.dir.display());
    announce(&mut stand, args)?;

    let sent = send_all(&mut stand, &pieces)?;
    let stored = wait_stored(&stand, sent.accepted)?;
    let counted = wait_counted(&stand, sent.accepted)?;
    let verified = stand.verify();
    for service in stand.services() {
        service.terminate()?;
    }
    println!("all services ended by SIGTERM with exit code 0");
    bring_pages_up_to_date(&stand)?;

    let books = table::Books {
        sent: &sent,
        stored,
        counted,
        whole: verified.is_ok(),
    };
    table::print(&stand, &books)?;
    verified?;
    if !books.add_up() {
        bail!(
            "the numbers do not add up; logs of the services are in {}",
            services(&stand)
        );
    }
    Ok(())
}

/// The aggregator was told to end once all was counted, which is before its pages are made.
fn bring_pages_up_to_date(stand: &Stand) -> Result<()> {
    let aggregator = &stand.aggregator;
    let mut once = Command::new(&aggregator.binary);
    let output = once
        .arg("--config")
        .arg(&aggregator.config)
        .arg("--once")
        .output()
        .context("cannot start the aggregator")?;
    if !output.status.success() {
        bail!(
            "aggregator --once: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn plan(args: &Args) -> Plan {
    let topic = match &args.kafka {
        None => "logs".to_owned(),
        Some(_) => fresh_name(),
    };
    let profile = if args.release {
        Profile::Release
    } else {
        Profile::Dev
    };
    Plan {
        profile,
        kafka: args.kafka.clone(),
        topic,
        ..Plan::default()
    }
}

/// A demo begins with an empty store; what is not a demo's is left alone.
fn empty(dir: &Path) -> Result<()> {
    let used = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if used {
        if !dir.join(MARKER).exists() {
            bail!(
                "{} is not empty and not from an earlier demo: give another --dir",
                dir.display()
            );
        }
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    fs::write(
        dir.join(MARKER),
        "Made by `cargo xtask demo`, which may empty this directory.\n",
    )
    .with_context(|| format!("cannot write into {}", dir.display()))
}

fn announce(stand: &mut Stand, args: &Args) -> Result<()> {
    match (&args.kafka, &mut stand.broker) {
        (None, Some(broker)) => {
            let pid = broker.process()?.id();
            println!(
                "  dev-broker             pid {pid:<8} speaks Kafka on {}",
                broker.address
            );
        }
        (kafka, _) => println!(
            "  Kafka                  {}, topic {}",
            kafka.as_deref().unwrap_or_default(),
            stand.plan.topic
        ),
    }
    let address = stand.addresses[0];
    for service in stand.services() {
        let pid = service.process()?.id();
        let does = match service.name.as_str() {
            "ingest-gateway" => format!("takes POST http://{address}/logs"),
            "kafka-consumer-writer" => "stores what is in the topic".to_owned(),
            _ => "counts what is stored".to_owned(),
        };
        println!(
            "  {:<22} pid {pid:<8} {does}; admin http://{}",
            service.name, service.admin
        );
    }
    println!(
        "  configuration          {}",
        stand.dir.join(CONFIG).display()
    );
    Ok(())
}

/// Sends everything; the writer is killed after two fifths and comes back after three.
fn send_all(stand: &mut Stand, pieces: &[Piece]) -> Result<send::Sent> {
    let total: u64 = pieces.iter().map(|piece| piece.records).sum();
    println!("\nsending {total} records in {} bodies", pieces.len());
    let mut sender = send::Sender::new(stand.addresses[0]);
    let (kill_at, start_at) = (pieces.len() * 2 / 5, pieces.len() * 3 / 5);
    let mut shown = Instant::now();
    for (number, piece) in pieces.iter().enumerate() {
        if number == kill_at {
            stand.writers[0].kill()?;
            println!("  kill -9 of kafka-consumer-writer: records wait in Kafka meanwhile");
        }
        if number == start_at {
            restart_writer(stand)?;
        }
        sender.send(piece)?;
        if shown.elapsed() > Duration::from_millis(500) || number + 1 == pieces.len() {
            shown = Instant::now();
            let sent = sender.sent();
            let running = stand.writers[0].is_running();
            let stored = if running { "" } else { "   (no writer)" };
            println!(
                "  sent {:>8}   accepted {:>8}{stored}",
                sent.records, sent.accepted
            );
        }
    }
    if !stand.writers[0].is_running() {
        restart_writer(stand)?;
    }
    Ok(sender.into_sent())
}

fn restart_writer(stand: &mut Stand) -> Result<()> {
    let writer = &mut stand.writers[0];
    writer.start()?;
    writer.wait_ready()?;
    println!(
        "  kafka-consumer-writer is back (pid {}): it goes on where its chains end",
        writer.process()?.id()
    );
    Ok(())
}

/// Until as much is stored as was accepted; a little longer, in case more comes.
fn wait_stored(stand: &Stand, accepted: u64) -> Result<u64> {
    println!("\nwaiting until everything is stored and counted");
    let mut counter = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    let rest = || {
        Stand::metric(&stand.gateways, "producer_dlq_records") == Some(0.0)
            && stand.lag() == Some(0.0)
    };
    wait(
        "stored",
        accepted,
        STORED_WITHIN,
        || counter.records(),
        rest,
    )?;
    counter.records()
}

fn wait_counted(stand: &Stand, accepted: u64) -> Result<u64> {
    let analytics = stand.analytics_dir();
    wait(
        "counted",
        accepted,
        COUNTED_WITHIN,
        || summaries::total(&analytics),
        || true,
    )
}

fn wait(
    what: &str,
    wanted: u64,
    within: Duration,
    mut count: impl FnMut() -> Result<u64>,
    at_rest: impl Fn() -> bool,
) -> Result<u64> {
    let start = Instant::now();
    let mut shown = None;
    loop {
        let now = count()?;
        if shown.is_none_or(|(then, at): (u64, Instant)| {
            then != now && at.elapsed() > Duration::from_millis(500)
        }) {
            println!("  {what:<8} {now:>8} of {wanted}");
            shown = Some((now, Instant::now()));
        }
        if (now >= wanted && at_rest()) || start.elapsed() > within {
            if shown.is_none_or(|(then, _)| then != now) {
                println!("  {what:<8} {now:>8} of {wanted}");
            }
            return Ok(now);
        }
        sleep(Duration::from_millis(50));
    }
}

fn services(stand: &Stand) -> String {
    stand.dir.join("services").display().to_string()
}
