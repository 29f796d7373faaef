//! `cargo xtask chaos writer`: the campaign's plan from the command line, and its summary.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{
    kafka::Cluster,
    killing::{self, Plan, schedule},
    stand,
};

use super::Args;
use crate::{kafka::Temporary, shell::root};

const RATE: u32 = 3_000;
/// From so many rounds on every step must have been reached.
const ROUNDS_FOR_ALL: u32 = 300;

pub fn run(args: &Args, given: Option<Cluster>) -> Result<()> {
    if args.list {
        for number in 1..=args.rounds {
            println!("{}", schedule::round(args.seed, number));
        }
        return Ok(());
    }
    let nodes: u16 = args.nodes.parse()?;
    let mut stand = stand::Plan {
        profile: args.profile(),
        kafka: args.kafka.clone(),
        nodes,
        replication: u32::from(nodes),
        ..stand::Plan::default()
    };
    let mut temporary = None;
    let mut cluster = given;
    if args.apache {
        let dir = args.kafka_dir.clone();
        let dir = dir.unwrap_or_else(|| root().join("target/chaos-kafka"));
        let own = temporary.insert(Temporary::up(&dir, nodes)?);
        cluster = Some(own.cluster().clone());
    }
    match &cluster {
        Some(cluster) => {
            stand.kafka = Some(cluster.bootstrap_all());
            stand.replication = u32::try_from(cluster.nodes().len())?;
        }
        None if stand.kafka.is_some() => {
            stand.replication = 1;
            println!("this Kafka was not started by us: only the writer is hit");
        }
        None => {}
    }
    let dir = args.place(&stand);
    let plan = Plan {
        seed: args.seed,
        rounds: args.rounds,
        rate: args.rate.unwrap_or(RATE),
        stand,
        cluster,
        rest_within: Duration::from_secs(180),
    };
    println!("building and starting in {}", dir.display());
    let outcome = killing::run(&dir, &plan, &mut |line| println!("{line}"))
        .with_context(|| format!("everything is left in {}", dir.display()))?;
    println!("\n{} rounds, {outcome}", plan.rounds);
    if !outcome.verdict.holds() {
        bail!(
            "the promise is broken; everything is left in {}",
            dir.display()
        );
    }
    let missed: Vec<String> = schedule::all()
        .iter()
        .filter(|point| !outcome.hits.contains_key(point))
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
    std::fs::remove_dir_all(&dir)?;
    temporary.map_or(Ok(()), Temporary::down)
}
