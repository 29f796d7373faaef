//! `cargo xtask chaos`: kill -9 under load, many times, and the oracle at the end.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::ValueEnum;
use testbed::{
    body::Mix,
    chaos::{self, Target},
    kafka::Cluster,
    load,
    process::Profile,
    stand,
};

use crate::shell::{require_broker, root};

/// How long all of Kafka is away, once, in `pipeline`.
const OUTAGE: Duration = Duration::from_secs(20);
/// `server.requestTimeout` at its default, and what a busy machine adds.
const ANSWER_WITHIN: Duration = Duration::from_secs(33);

/// kill -9 under load at seeded moments, then the oracle
///
/// Starts a whole pipeline, sends at least 20,000 records a second over 8 connections (a tenth
/// of the requests twice, with their key), and in each round kills the service at a seeded moment
/// and starts it again. `pipeline` mixes all three and the broker, which is frozen for a while,
/// killed and started again on its data; once, in the middle, all of Kafka is away for 20 s.
///
/// At the end everything comes to rest, `verify` must say whole, and the oracle compares: each
/// record of a 202 stored once and counted once, no other record there but those whose answer
/// never came or was 503 unknown_outcome. The oracle reads with `zstdcat` (Debian: apt-get install
/// zstd) and shares no code with the product.
///
/// The same seed gives the same bodies and moments; what is in flight then is the machine's
/// choice, so a finding is shown again by more rounds, not by the seed alone.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    what: What,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// A broker that runs already. One that `cargo xtask kafka up` started is hit too by
    /// `pipeline`; of any other only the services are hit
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// The directory given to `kafka up` [default: .kafka in the repository]
    #[arg(long, value_name = "DIR")]
    kafka_dir: Option<PathBuf>,
    /// Records a second; 0 is as fast as it goes
    #[arg(long, default_value_t = 25_000)]
    rate: u32,
    /// Where everything happens; made new for each run below it
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Unoptimised binaries: a shorter build, but they may not keep up with the rate
    #[arg(long)]
    dev: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Gateway,
    Writer,
    Aggregator,
    Pipeline,
}

pub fn run(args: &Args) -> Result<()> {
    if let Some(kafka) = &args.kafka {
        require_broker(kafka)?;
    }
    let cluster = cluster(args)?;
    let mut targets = match args.what {
        What::Gateway => vec![Target::Gateway],
        What::Writer => vec![Target::Writer],
        What::Aggregator => vec![Target::Aggregator],
        What::Pipeline => vec![Target::Gateway, Target::Writer, Target::Aggregator],
    };
    let nodes = cluster.as_ref().map_or(1, |cluster| cluster.nodes().len());
    if args.what == What::Pipeline {
        if args.kafka.is_none() || cluster.is_some() {
            targets.push(Target::Kafka);
        } else {
            println!("this Kafka was not started by us: only the services are hit");
        }
    }
    let stand = stand::Plan {
        profile: if args.dev {
            Profile::Dev
        } else {
            Profile::Release
        },
        kafka: args.kafka.clone(),
        replication: u32::try_from(nodes)?,
        // Two of each where all are hit: partitions move, and one gateway goes on.
        gateways: if args.what == What::Pipeline { 2 } else { 1 },
        writers: if args.what == What::Pipeline { 2 } else { 1 },
        ..stand::Plan::default()
    };
    let load = load::Plan {
        mix: Mix {
            seed: args.seed,
            ..Mix::default()
        },
        rate: (args.rate > 0).then_some(args.rate),
        ..load::Plan::default()
    };
    let dir = args
        .dir
        .clone()
        .unwrap_or_else(|| root().join("target/chaos"))
        .join(&stand.topic);
    println!("building and starting in {}", dir.display());
    let plan = chaos::Plan {
        rounds: args.rounds,
        seed: args.seed,
        stand,
        load,
        outage: targets.contains(&Target::Kafka).then_some(OUTAGE),
        targets,
        cluster,
        rest_within: Duration::from_secs(180),
    };
    let (ledger, verdict) = chaos::run(&dir, &plan, &mut |line| println!("{line}"))?;
    if !verdict.holds() {
        bail!(
            "the promise is broken; everything is left in {}",
            dir.display()
        );
    }
    if ledger.slowest > ANSWER_WITHIN {
        bail!(
            "an answer took {:?}: longer than requestTimeout",
            ledger.slowest
        );
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// The Kafka of `kafka up`, if that is the one to run on.
fn cluster(args: &Args) -> Result<Option<Cluster>> {
    let Some(address) = &args.kafka else {
        return Ok(None);
    };
    let dir = args
        .kafka_dir
        .clone()
        .unwrap_or_else(|| root().join(".kafka"));
    let ours = Cluster::open(&dir).ok().filter(|cluster| {
        cluster
            .nodes()
            .iter()
            .any(|node| node.address().to_string() == *address)
    });
    if ours.is_none() && args.kafka_dir.is_some() {
        bail!("{address} is no node of the Kafka in {}", dir.display());
    }
    Ok(ours)
}
