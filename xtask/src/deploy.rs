//! `cargo xtask deploy`: holds `deploy/` against the built services and against tools that know the
//! formats. Never deploys anything, and asks no network.

mod chart;
mod compose;
mod images;
mod manifests;
mod systemd;
mod tools;
mod yaml;

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::shell::{build_services, root, strict};
use tools::Tools;

/// Hold what stands under deploy/ against the services and the tools that know the formats
#[derive(Subcommand)]
pub enum Command {
    /// Verify units, Dockerfile, compose.yaml and chart with the tools at hand, and each
    /// configuration in them with the built services
    ///
    /// Tools: systemd-analyze, hadolint, ldd, promtool, docker-compose, helm and
    /// kubernetes-validate. One that is missing is named as SKIPPED; with CI=true that is a
    /// failure. deploy/README.md says what this does not show.
    Check,
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Check => check(),
    }
}

/// The services: program, and where their `shutdownTimeout` stands.
const SERVICES: [(&str, &str); 3] = [
    ("ingest-gateway", "server.shutdownTimeout"),
    ("kafka-consumer-writer", "consumer.shutdownTimeout"),
    ("aggregator", "aggregation.shutdownTimeout"),
];

fn check() -> Result<()> {
    let start = Instant::now();
    build_services(false)?;
    let mut tools = Tools::default();
    println!();
    systemd::check(&mut tools)?;
    images::check(&mut tools)?;
    compose::check(&mut tools)?;
    chart::check(&mut tools)?;
    for missing in tools.missing() {
        println!("SKIPPED {missing}");
    }
    if !tools.missing().is_empty() && strict() {
        bail!("CI=true allows no gap: `.ci/run` installs these");
    }
    println!(
        "deploy check: passed in {:.0} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// An empty directory under `target/deploy`.
fn scratch(name: &str) -> Result<PathBuf> {
    let dir = root().join("target/deploy").join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn built(service: &str) -> PathBuf {
    root().join("target/debug").join(service)
}
