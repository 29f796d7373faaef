//! `cargo xtask counts`: whether the numbers are right at full size. The test run has the same
//! comparisons on small sets.

mod compare;
mod distinct;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command as Process,
};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::shell::{build_aggregator, root};

/// Prove the summaries' numbers at full size (release builds, no Kafka)
#[derive(Subcommand)]
pub enum Command {
    Compare(compare::Args),
    Distinct(distinct::Args),
}

pub fn run(command: &Command) -> Result<()> {
    build_aggregator(&["--examples"])?;
    let dir = root().join("target/counts");
    let (resume, keep) = match command {
        Command::Compare(_) => (false, false),
        Command::Distinct(args) => (args.resume, args.keep),
    };
    if !resume {
        remove(&dir)?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    match command {
        Command::Compare(args) => compare::run(args, &dir)?,
        Command::Distinct(args) => distinct::run(args, &dir)?,
    }
    // After trouble it stays, too.
    if keep { Ok(()) } else { remove(&dir) }
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// The place of one aggregator: `logs`, `analytics` and `archive` below `dir`.
fn config(dir: &Path, aggregation: &str) -> Result<PathBuf> {
    let file = dir.join("config.yaml");
    let yaml = format!(
        "dataDir: {}\nkafka: {{brokers: [\"127.0.0.1:9\"], groupID: counts}}\n\
         storage: {{liveRetention: 36500d}}\naggregation: {{{aggregation}}}\n\
         telemetry: {{log: {{level: warn}}}}\n",
        dir.display()
    );
    fs::write(&file, yaml).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn aggregator(config: &Path) -> Process {
    let mut aggregator = Process::new(root().join("target/release/aggregator"));
    aggregator.arg("--config").arg(config);
    aggregator
}

/// Makes records and appends them to the store in `dir`.
fn store(dir: &Path) -> Process {
    let mut store = example("store");
    store.arg("--logs").arg(dir.join("logs"));
    store
}

fn example(name: &str) -> Process {
    Process::new(root().join("target/release/examples").join(name))
}

fn succeeds(command: &mut Process) -> Result<()> {
    let name = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}
