//! `cargo xtask drill`: each alert with a cause that can be made, seen firing and over in a real
//! Prometheus, mended by the runbook's own commands.

use std::{fs, path::PathBuf};

use anyhow::{Result, bail};
use testbed::{
    drill::{self, Plan},
    process::Profile,
    stand,
};

use crate::shell::{has, root, strict};

/// What a drill needs beside what is built: program, and the Debian package that has it.
const NEEDS: [(&str, &str); 5] = [
    ("prometheus", "prometheus"),
    ("kcat", "kcat"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("bash", "bash"),
];

/// Fire each alert in a real Prometheus, mend its cause with the runbook's commands, see it over
///
/// Starts the embedded broker with three nodes, three gateways, a writer, an aggregator, a load of
/// 300 records a second, and Prometheus with the configuration and rules of deploy/observability.
/// The times in the rules are shortened for it (`for:`, ranges and offsets are divided by 60,
/// the books' window of six hours is one minute, bounds that are times follow); all else of them is
/// as deployed. Then, wave by wave, something goes wrong: Kafka is slow, killed, refuses writes;
/// disks are full; services are killed; a segment, a dead letter file, a configuration are damaged;
/// poison comes; a segment does not answer; a stranger joins the writers; retention is too fast. Each alert has to fire. Then the commands under "Confirm" in
/// its section of docs/runbook.md are run as they stand there, what is wrong is mended by the
/// commands under "Do" where the page has some, and each alert has to end. The alert on the books
/// has to stay silent through all of it until records are lost on purpose.
///
/// It ends with a table, with 0 when all of it came so, and within about five minutes. The two waves
/// with a full disk mount a small tmpfs, which needs root. Which alerts it fires, and which only
/// promtool does, is in deploy/observability/README.md.
#[derive(clap::Args)]
pub struct Args {
    /// Four alerts in half a minute
    #[arg(long)]
    quick: bool,
    /// Only waves whose names have this in them; --list shows them
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the waves' names and do nothing
    #[arg(long)]
    list: bool,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where everything happens; made new for each run below it
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Optimised binaries: a longer build
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.list {
        for name in drill::names() {
            println!("{name}");
        }
        return Ok(());
    }
    let missing: Vec<_> = NEEDS.iter().filter(|(program, _)| !has(program)).collect();
    if let Some((program, package)) = missing.first() {
        if strict() {
            bail!("{program} is missing (Debian: apt-get install {package})");
        }
        println!("SKIPPED the drill: {program} is not installed (Debian: {package})");
        return Ok(());
    }

    let runs = args.dir.clone();
    let runs = runs.unwrap_or_else(|| root().join("target/drill"));
    stand::remove_dead_runs(&runs)?;
    let dir = runs.join(stand::fresh_name());
    let plan = Plan {
        seed: args.seed,
        profile: if args.release {
            Profile::Release
        } else {
            Profile::Dev
        },
        quick: args.quick,
        only: args.only.clone(),
        repository: root(),
    };
    println!("building and starting in {}", dir.display());
    let report = drill::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("\n{report}");
    if !report.holds() {
        bail!(
            "it is not as it should be; everything is left in {}",
            dir.display()
        );
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}
