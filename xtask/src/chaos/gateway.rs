//! `cargo xtask chaos gateway`: the campaign's plan from the command line, and its summary.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{
    campaign::{
        self, Plan, REQUEST_TIMEOUT,
        schedule::{self, Ground},
    },
    kafka::Cluster,
    stand,
};

use super::Args;
use crate::{kafka::Temporary, shell::root};

const RATE: u32 = 3_000;
/// Small enough that a partition sees far more than ten batches in a round.
const RECORDS: (u32, u32) = (1, 300);
/// How long two freezes in one round hold an answer up, and what a busy machine adds.
const FROZEN: Duration = Duration::from_secs(10);
/// What each client may produce at each node of a real Kafka: a little more than the load, so that
/// what an outage has left over is throttled.
const QUOTA_BYTES_PER_RECORD: u32 = 350;

pub fn run(args: &Args, given: Option<Cluster>) -> Result<()> {
    let nodes: u16 = args.nodes.parse()?;
    let rate = args.rate.unwrap_or(RATE);
    let mut stand = stand::Plan {
        profile: args.profile(),
        kafka: args.kafka.clone(),
        nodes,
        replication: u32::from(nodes),
        ..stand::Plan::default()
    };
    let rounds = match args.only {
        Some(number) => number..=number,
        None => args.from..=args.from + args.rounds - 1,
    };
    if args.list {
        let ground = match (&given, &args.kafka) {
            (Some(cluster), _) => Ground::apache(u32::try_from(cluster.nodes().len())?),
            (None, Some(_)) => Ground::FOREIGN,
            (None, None) if args.apache => Ground::apache(u32::from(nodes)),
            (None, None) => Ground::embedded(u32::from(nodes)),
        };
        for number in rounds {
            println!("{}", schedule::round(args.seed, number, ground));
        }
        return Ok(());
    }
    let mut temporary = None;
    let mut cluster = given;
    if args.apache {
        let dir = args.kafka_dir.clone();
        let dir = dir.unwrap_or_else(|| root().join("target/chaos-kafka"));
        let own = temporary.insert(Temporary::up(&dir, nodes)?);
        if rate > 0 {
            let quota = rate.saturating_mul(QUOTA_BYTES_PER_RECORD);
            own.cluster().throttle_producers(quota)?;
        }
        cluster = Some(own.cluster().clone());
    }
    match &cluster {
        Some(cluster) => {
            stand.kafka = Some(cluster.bootstrap_all());
            stand.replication = u32::try_from(cluster.nodes().len())?;
        }
        None if stand.kafka.is_some() => {
            stand.replication = 1;
            println!("this Kafka was not started by us: only the gateway is hit");
        }
        None => {}
    }
    let dir = args.place(&stand);
    let plan = plan(args, stand, rounds, cluster, rate);
    println!("building and starting in {}", dir.display());
    let outcome = campaign::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    println!("\n{} rounds, {outcome}", plan.rounds.count());
    if !outcome.verdict.holds() {
        bail!(
            "the promise is broken; everything is left in {}",
            dir.display()
        );
    }
    if outcome.ledger.slowest > REQUEST_TIMEOUT + FROZEN {
        bail!(
            "an answer took {:?}: longer than requestTimeout and all freezes",
            outcome.ledger.slowest
        );
    }
    std::fs::remove_dir_all(&dir)?;
    temporary.map_or(Ok(()), Temporary::down)
}

fn plan(
    args: &Args,
    stand: stand::Plan,
    rounds: std::ops::RangeInclusive<u32>,
    cluster: Option<Cluster>,
    rate: u32,
) -> Plan {
    Plan {
        seed: args.seed,
        rounds,
        rate,
        records: RECORDS,
        dedup_max_batches: args.dedup_max_batches,
        stand,
        cluster,
        rest_within: Duration::from_secs(180),
    }
}
