//! `cargo xtask chaos rebalances`: the plan from the command line, and its summary.

use std::time::Duration;

use anyhow::{Context, Result};
use testbed::{
    rebalances::{self, Plan},
    stand,
};

use super::{
    Args,
    ground::{Ground, place},
};

const PARTITIONS: u32 = 12;
const RATE: u32 = 5_000;

pub fn run(args: &Args) -> Result<()> {
    let ground = Ground::prepare(args)?;
    let stand = stand::Plan {
        partitions: PARTITIONS,
        ..ground.stand(args)?
    };
    let dir = place(args, &stand);
    let plan = Plan {
        seed: args.seed,
        rounds: args.rounds,
        stand,
        load: args.load(RATE),
        rest_within: Duration::from_secs(300),
    };
    let outcome = rebalances::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    println!("\n{} rounds, {outcome}", plan.rounds);
    ground.end(&dir, &plan.stand.topic, outcome.verdict.holds())
}
