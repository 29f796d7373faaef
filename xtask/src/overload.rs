//! `cargo xtask overload`: many times what the gateway can carry while Kafka stands still, and
//! its memory.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use testbed::{
    body::Mix,
    clock::Millis,
    load,
    overload::{self, Plan},
    process::Profile,
    stand,
};

use crate::shell::root;

const MIB: u64 = 1 << 20;
/// Ten years of hours with 20,000 records each.
const HOURS_BACK: i64 = 10 * 8_766;
/// What the process may have beside its budget.
const BESIDE_BYTES: u64 = 64 * MIB;

/// Overload with Kafka frozen: the gateway's memory stays within its budget and 64 MiB
///
/// Starts a whole pipeline on the embedded broker, freezes that, and sends from many connections
/// at once, as fast as answers come. Then Kafka goes on: normal service must come back, nothing of
/// the budget may stay in use, and the oracle must find each accepted record stored and counted
/// once. Needs `zstdcat` (Debian: apt-get install zstd).
#[derive(clap::Args)]
pub struct Args {
    /// How long Kafka stands still
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// `server.memoryBudget`, in MiB
    #[arg(long, default_value_t = 64)]
    budget: u64,
    /// Each with a body on its way all the time
    #[arg(long, default_value_t = 512)]
    connections: usize,
    /// Most records of a body, of about 200 bytes
    #[arg(long, default_value_t = 5_000)]
    records: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where everything happens; made new for each run below it
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Unoptimised binaries: a shorter build
    #[arg(long)]
    dev: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let profile = if args.dev {
        Profile::Dev
    } else {
        Profile::Release
    };
    let stand = stand::Plan {
        profile,
        ..stand::Plan::default()
    }
    .with("server.memoryBudget", format!("{}MiB", args.budget));
    let runs = args.dir.clone();
    let runs = runs.unwrap_or_else(|| root().join("target/overload"));
    // One that failed is kept to be looked at, until the next.
    stand::remove_dead_runs(&runs)?;
    let dir = runs.join(&stand.topic);
    let plan = Plan {
        stand,
        load: load::Plan {
            mix: Mix {
                seed: args.seed,
                records: (args.records.div_ceil(10), args.records),
                // Refused requests use up their hours, too; none may lie ahead of today.
                first_hour: Millis::now().hour() - HOURS_BACK,
                ..Mix::default()
            },
            connections: args.connections,
            rate: None,
            requests: None,
            patience: Duration::from_secs(2),
            ..load::Plan::default()
        },
        frozen: Duration::from_secs(args.seconds),
        rest_within: Duration::from_secs(600),
    };
    let outcome = overload::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("{outcome}");
    let allowed = args.budget * MIB + BESIDE_BYTES;
    if outcome.peak_bytes > allowed {
        bail!(
            "{} bytes were resident, allowed are {allowed}",
            outcome.peak_bytes
        );
    }
    if !outcome.ledger.faults.is_empty() || !outcome.verdict.holds() {
        bail!("it does not hold: {:?}", outcome.ledger.faults);
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
