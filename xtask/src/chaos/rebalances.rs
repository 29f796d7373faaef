//! `cargo xtask chaos rebalances`: the plan from the command line, and its summary.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{
    body::Mix,
    load,
    rebalances::{self, Plan},
    stand,
};

use super::Args;

const PARTITIONS: u32 = 12;
const RATE: u32 = 5_000;

pub fn run(args: &Args) -> Result<()> {
    let stand = stand::Plan {
        profile: args.profile(),
        kafka: args.kafka.clone(),
        partitions: PARTITIONS,
        ..stand::Plan::default()
    };
    let rate = args.rate.unwrap_or(RATE);
    let dir = args.place(&stand);
    let plan = Plan {
        seed: args.seed,
        rounds: args.rounds,
        stand,
        load: load::Plan {
            mix: Mix {
                seed: args.seed,
                ..Mix::default()
            },
            rate: (rate > 0).then_some(rate),
            ..load::Plan::default()
        },
        rest_within: Duration::from_secs(300),
    };
    println!("building and starting in {}", dir.display());
    let outcome = rebalances::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    println!("\n{} rounds, {outcome}", plan.rounds);
    if !outcome.verdict.holds() {
        bail!(
            "the promise is broken; everything is left in {}",
            dir.display()
        );
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
