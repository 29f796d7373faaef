//! `cargo xtask chaos aggregator`: the campaign's plan from the command line, and its summary.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{
    counting::{self, Plan, schedule},
    duckdb, stand,
};

use super::{
    Args,
    ground::{Ground, place},
};

const RATE: u32 = 500;
const PAUSE_EVERY: u32 = 40;
/// From so many rounds on every step must have been reached.
const ROUNDS_FOR_ALL: u32 = 300;

pub fn run(args: &Args) -> Result<()> {
    if args.list {
        for number in 1..=args.rounds {
            println!("{}", schedule::round(args.seed, number));
        }
        return Ok(());
    }
    if !duckdb::is_there() {
        bail!("python3 has no duckdb (pip install duckdb), and it is the judge");
    }
    let ground = Ground::prepare(args)?;
    let stand = stand::Plan {
        nodes: 1,
        replication: 1,
        ..ground.stand(args)?
    };
    let dir = place(args, &stand);
    let plan = Plan {
        seed: args.seed,
        rounds: args.rounds,
        rate: args.rate.unwrap_or(RATE),
        stand,
        pause_every: PAUSE_EVERY,
        until_removed: true,
        rest_within: Duration::from_secs(180),
    };
    let outcome = counting::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    println!("\n{} rounds, {outcome}", plan.rounds);
    let all = schedule::all();
    let missed = all.iter().filter(|point| !outcome.hits.contains_key(point));
    let missed: Vec<String> = missed.map(ToString::to_string).collect();
    println!("{} of {} points hit", all.len() - missed.len(), all.len());
    if !missed.is_empty() {
        println!("none {}", missed.join(", none "));
    }
    if plan.rounds >= ROUNDS_FOR_ALL && !missed.is_empty() {
        bail!("steps at which nothing has ended: {}", missed.join(", "));
    }
    ground.end(&dir, &plan.stand.topic, outcome.verdict.holds())
}
