//! `cargo xtask chaos writer`: the campaign's plan from the command line, and its summary.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::killing::{self, Plan, schedule};

use super::{
    Args,
    ground::{Ground, place},
};

const RATE: u32 = 3_000;
/// From so many rounds on every step must have been reached.
const ROUNDS_FOR_ALL: u32 = 250;

pub fn run(args: &Args) -> Result<()> {
    if args.list {
        for number in 1..=args.rounds {
            println!("{}", schedule::round(args.seed, number));
        }
        return Ok(());
    }
    let ground = Ground::prepare(args)?;
    let stand = ground.stand(args)?;
    let dir = place(args, &stand);
    let plan = Plan {
        seed: args.seed,
        rounds: args.rounds,
        rate: args.rate.unwrap_or(RATE),
        stand,
        cluster: ground.cluster.clone(),
        rest_within: Duration::from_secs(180),
    };
    let outcome = killing::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    println!("\n{} rounds, {outcome}", plan.rounds);
    let missed: Vec<String> = schedule::all()
        .iter()
        .filter(|point| !outcome.tally.hits.contains_key(point))
        .map(ToString::to_string)
        .collect();
    println!(
        "{} of {} points hit{}{}",
        schedule::all().len() - missed.len(),
        schedule::all().len(),
        if missed.is_empty() { "" } else { "; none " },
        missed.join(", none ")
    );
    if plan.rounds >= ROUNDS_FOR_ALL && !missed.is_empty() {
        bail!("steps at which nothing has ended: {}", missed.join(", "));
    }
    let not_compared = outcome.not_compared();
    if !not_compared.is_empty() {
        bail!("never compared: {}", not_compared.join(", "));
    }
    ground.end(&dir, &plan.stand.topic, outcome.verdict.holds())
}
