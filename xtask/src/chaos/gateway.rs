//! `cargo xtask chaos gateway`: the campaign's plan from the command line, and its summary.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{
    campaign::{self, Plan, REQUEST_TIMEOUT, schedule},
    kafka::Cluster,
    stand,
};

use super::{
    Args,
    ground::{Ground, given, place},
};

const RATE: u32 = 3_000;
/// Small enough that a partition sees far more than ten batches in a round.
const RECORDS: (u32, u32) = (1, 300);
/// How long two freezes in one round hold an answer up, and what a busy machine adds.
const FROZEN: Duration = Duration::from_secs(10);
/// What each client may produce at each node of a real Kafka: a little more than the load, so that
/// what an outage has left over is throttled.
const QUOTA_BYTES_PER_RECORD: u32 = 350;

pub fn run(args: &Args) -> Result<()> {
    let rounds = match args.only {
        Some(number) => number..=number,
        None => args.from..=args.from + args.rounds - 1,
    };
    if args.list {
        return list(args, rounds);
    }
    let rate = args.rate.unwrap_or(RATE);
    let ground = Ground::prepare(args)?;
    if let Some(own) = ground.cluster.as_ref().filter(|_| ground.is_own())
        && rate > 0
    {
        own.throttle_producers(rate.saturating_mul(QUOTA_BYTES_PER_RECORD))?;
    }
    let stand = ground.stand(args)?;
    let dir = place(args, &stand);
    let plan = plan(args, stand, rounds, ground.cluster.clone(), rate);
    let outcome = campaign::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    println!("\n{} rounds, {outcome}", plan.rounds.count());
    if outcome.ledger.slowest > REQUEST_TIMEOUT + FROZEN {
        bail!(
            "an answer took {:?}: longer than requestTimeout and all freezes",
            outcome.ledger.slowest
        );
    }
    ground.end(&dir, &plan.stand.topic, outcome.verdict.holds())
}

fn list(args: &Args, rounds: std::ops::RangeInclusive<u32>) -> Result<()> {
    let nodes: u32 = args.nodes.parse()?;
    let ground = match (given(args)?, &args.kafka) {
        (Some(cluster), _) => schedule::Ground::apache(u32::try_from(cluster.nodes().len())?),
        (None, Some(_)) => schedule::Ground::FOREIGN,
        (None, None) if args.apache => schedule::Ground::apache(nodes),
        (None, None) => schedule::Ground::embedded(nodes),
    };
    for number in rounds {
        println!("{}", schedule::round(args.seed, number, ground));
    }
    Ok(())
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
