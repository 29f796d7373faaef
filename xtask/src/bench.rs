//! `cargo xtask bench`: records per CPU-second of each stage on Apache Kafka, each beside a
//! ceiling measured in the same run. CPU time is the service process's own, from `/proc`, so the
//! sender and the broker beside it on the same machine do not count.

mod aggregator;
mod asks;
mod ceiling;
mod cores;
mod figure;
mod gateway;
mod soak;
mod visible;
mod writer;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use testbed::{
    access_log,
    blast::{Blast, Load, Media, blast, bodies, bodies_of},
    kafka::Bounded,
    process::{Process, Profile, poll_until},
    service::Service,
    stand::{Plan, Stand, remove_dead_runs},
    summaries,
};

use self::{
    cores::{Cores, Split},
    figure::Figure,
};
use crate::shell::{build_services, require_broker, root};

const CONNECTIONS: usize = 16;
const PARTITIONS: u32 = 4;
/// What Kafka keeps of a run: of each record generously, and at least.
const KAFKA_BYTES_EACH: u64 = 1_000;
const KAFKA_BYTES_MIN: u64 = 2 << 30;
const WITHIN: Duration = Duration::from_secs(300);

/// Records per CPU-second of each stage, beside a ceiling of the same run
///
/// Release builds, on a real Kafka (`cargo xtask kafka up` starts one). Each figure stands beside
/// its ceiling, measured in the same run on the same records:
///
/// gateway: bodies of 100 and 1,000 records of about 195 bytes, NDJSON, gzipped NDJSON and JSON
/// arrays, over 16 connections; ceilings: batches of 1,000 records of that size, encoded and
/// produced, all partitions at once (CPU), and 16 clients that produce the same batches to Kafka
/// themselves and wait for each (records a second; at half of the gateway's maximum: p99).
/// With --soak, half of its maximum for so many minutes, and what the process holds meanwhile.
///
/// writer: a topic filled before, read to its end by a writer that starts, with flush settings
/// as they are by default and with 4,096 records/100 ms, with one and with two consumers; ceiling:
/// the same topic, only fetched. Then at low load how long a record takes from its POST to the
/// moment where its segment is there.
///
/// aggregator: without Kafka, a store that is made before, counted by `aggregator --once`; ceiling:
/// the same segments through `zstdcat | wc -l`; then a few new records over those, ticks with
/// nothing new over 10,000 segments, and all of it counted and archived; peers, where they are
/// installed: of --input, GoAccess, and DuckDB with two group-bys (which also checks every count of
/// every summary). At the end each figure that was asked for, beside what was asked.
///
/// pipeline: all of them at once, and what comes out at the other end.
///
/// The topic of a run is bounded on Kafka's disk and removed after it.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    what: What,
    /// The broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:19092")]
    kafka: String,
    /// Records for each figure
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Records to send: an access log (combined) or NDJSON; made ones by default
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// gateway only: run at half load for so long instead
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u64>,
    /// `kafka.compression` of the gateway
    #[arg(long, default_value = "none")]
    compression: String,
    /// Where everything happens; removed at the end
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Gateway,
    Writer,
    Aggregator,
    Pipeline,
}

pub fn run(args: &Args) -> Result<()> {
    if args.what == What::Aggregator {
        let runs = args.dir.clone();
        let dir = runs
            .unwrap_or_else(|| root().join("target/bench"))
            .join("aggregator");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        aggregator::run(args, &dir)?;
        return fs::remove_dir_all(&dir)
            .with_context(|| format!("cannot remove {}", dir.display()));
    }
    require_broker(&args.kafka)?;
    let plan = Plan {
        profile: Profile::Release,
        kafka: Some(args.kafka.clone()),
        partitions: PARTITIONS,
        aggregator: false,
        ..Plan::default()
    }
    .with("kafka.compression", &args.compression)
    .with("telemetry.log.level", "warn");
    let runs = args.dir.clone();
    let runs = runs.unwrap_or_else(|| root().join("target/bench"));
    remove_dead_runs(&runs)?;
    let dir = runs.join(&plan.topic);
    build_services(true)?;
    println!("everything happens in {}", dir.display());
    let done = measure(args, &dir, plan);
    // After trouble the services' logs stay; what they stored is large.
    let whole = dir.join(if done.is_ok() { "" } else { "logs" });
    if whole.exists() {
        fs::remove_dir_all(&whole).with_context(|| format!("cannot remove {}", whole.display()))?;
    }
    done
}

fn measure(args: &Args, dir: &Path, plan: Plan) -> Result<()> {
    // Read behind what is sent only by the gateway's benches: nothing has to stay for them.
    let kept = match args.what {
        What::Gateway => 0,
        _ => args.records * KAFKA_BYTES_EACH,
    };
    let kept = kept.max(KAFKA_BYTES_MIN) / u64::from(PARTITIONS);
    let _topic = Bounded::make(&args.kafka, &plan.topic, PARTITIONS, kept)?;
    match args.what {
        What::Gateway => match args.soak {
            Some(minutes) => soak::run(args, minutes, dir, plan),
            None => gateway::run(args, dir, plan),
        },
        What::Writer => writer::run(args, dir, plan),
        What::Aggregator => unreachable!("it needs no Kafka"),
        What::Pipeline => pipeline(args, dir, plan),
    }
}

fn pipeline(args: &Args, dir: &Path, mut plan: Plan) -> Result<()> {
    plan.aggregator = true;
    let mut stand = Stand::up(dir, plan)?;
    let cpu = |stand: &mut Stand| -> Result<Vec<Duration>> {
        stand
            .services()
            .map(|service| service.process()?.cpu())
            .collect()
    };
    let gateways: &[_] = &stand.gateways;
    let up = poll_until(WITHIN, || {
        Ok((Stand::metric(gateways, "kafka_up") == Some(1.0)).then_some(()))
    })?;
    up.context("the gateway does not reach Kafka")?;
    let before = cpu(&mut stand)?;
    let start = Instant::now();
    let bodies = made(args, Media::NdJson, 1_000)?;
    let (sent, _, _) = send(args, &mut stand, &load(&bodies, 1_000, args.records))?;
    wait_stored(&mut stand, args.records)?;
    let stored = start.elapsed();
    let analytics = stand.analytics_dir();
    let counted = poll_until(WITHIN, || {
        Ok((summaries::total(&analytics)? >= args.records).then_some(()))
    })?;
    counted.context("not everything is counted")?;
    let wall = start.elapsed();
    let after = cpu(&mut stand)?;

    figure::head("pipeline");
    sent.print("accepted (its CPU: the gateway's)", None);
    let names: Vec<String> = stand
        .services()
        .map(|service| service.name.clone())
        .collect();
    for ((name, before), after) in names.iter().zip(before).zip(after) {
        Figure {
            records: args.records,
            wall,
            cpu: after - before,
        }
        .print(name, None);
    }
    println!(
        "  sent in {:.1} s, stored after {:.1} s, counted after {:.1} s",
        sent.wall.as_secs_f64(),
        stored.as_secs_f64(),
        wall.as_secs_f64()
    );
    for service in stand.services() {
        service.terminate()?;
    }
    Ok(())
}

/// Sends at full speed; the CPU time is the gateway's.
fn send(args: &Args, stand: &mut Stand, load: &Load<'_>) -> Result<(Figure, Blast, Split)> {
    let address = stand.addresses[0];
    let gateway = stand.gateways[0].process()?;
    let cores = Cores::watch(args)?;
    let before = gateway.cpu()?;
    let done = blast(address, load)?;
    let figure = Figure {
        records: done.records,
        wall: done.took,
        cpu: gateway.cpu()? - before,
    };
    let split = cores.split("gateway", figure.cpu)?;
    if done.kept_dlq > 0 {
        bail!(
            "{} bodies went to the DLQ, as Kafka did not keep up: no figure for the way to Kafka",
            done.kept_dlq
        );
    }
    Ok((figure, done, split))
}

/// Many different records, and still in memory: 32 MB at the most. Those of a log in an order by
/// chance: the log over and over again would come out smaller than any real one, as what zstd
/// remembers is longer.
fn made(args: &Args, media: Media, each: u32) -> Result<Vec<Vec<u8>>> {
    let count = (160_000 / each).max(16) as usize;
    Ok(match &args.input {
        Some(file) => {
            let records = access_log::read(file)?;
            let mut random = fastrand::Rng::with_seed(u64::from(each));
            let picked =
                (0..count * each as usize).map(|_| &records[random.usize(..records.len())]);
            bodies_of(&picked.collect::<Vec<_>>(), media, count, each)
        }
        None => bodies(u64::from(each), media, count, each),
    })
}

fn load(bodies: &[Vec<u8>], each: u32, total: u64) -> Load<'_> {
    Load {
        media: Media::NdJson,
        encoding: None,
        bodies,
        records_each: each,
        connections: CONNECTIONS,
        total,
        rate: None,
    }
}

/// The first records make the topic; until that is there, they may go to the DLQ.
fn warm_up(stand: &mut Stand) -> Result<()> {
    let bodies = bodies(7, Media::NdJson, 16, 1_000);
    blast(stand.addresses[0], &load(&bodies, 1_000, 100_000))?;
    wait_dlq_empty(&stand.gateways)
}

fn wait_dlq_empty(gateways: &[Service]) -> Result<()> {
    let empty = poll_until(WITHIN, || {
        Ok((Stand::metric(gateways, "producer_dlq_records") == Some(0.0)).then_some(()))
    })?;
    empty.context("the producer DLQ does not empty")
}

/// Fills the topic through a gateway; no writer runs.
fn fill(args: &Args, stand: &mut Stand) -> Result<()> {
    stand.gateways[0].start()?;
    stand.gateways[0].wait_ready()?;
    let bodies = made(args, Media::NdJson, 1_000)?;
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!(
        "filling the topic with {} records of {} bytes",
        args.records,
        bytes / bodies.len() / 1_000
    );
    blast(stand.addresses[0], &load(&bodies, 1_000, args.records))?;
    wait_dlq_empty(&stand.gateways)?;
    stand.gateways[0].terminate()?;
    Ok(())
}

/// Starts the writer and waits until everything is stored; the CPU time is the writer's.
fn store_all(stand: &mut Stand, records: u64) -> Result<Figure> {
    let start = Instant::now();
    stand.writers[0].start()?;
    wait_stored(stand, records)?;
    let figure = Figure {
        records,
        wall: start.elapsed(),
        cpu: stand.writers[0].process()?.cpu()?,
    };
    stand.writers[0].terminate()?;
    Ok(figure)
}

fn wait_stored(stand: &mut Stand, records: u64) -> Result<()> {
    let writers: &[_] = &stand.writers;
    let mut stored = None;
    let all = poll_until(WITHIN, || {
        stored = Stand::metric(writers, "logs_ingested_total");
        Ok(stored.filter(|stored| *stored >= records as f64))
    })?;
    if all.is_none() {
        let process: &Process = stand.writers[0].process()?;
        bail!(
            "{stored:?} of {records} stored after {WITHIN:?}\n{}",
            process.log_tail(10)
        );
    }
    Ok(())
}
