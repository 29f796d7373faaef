//! `cargo xtask ci`: what a change must pass, in order; `.ci/run` installs what it needs and calls it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testbed::kafka::Listener;

use crate::{
    kafka,
    shell::{cargo, has, root, step, strict},
};

/// Everything a change must pass (`.ci/run` installs what this needs)
///
/// In order: cargo deny (licences, bans, sources; the advisory database where it can be reached),
/// `test`, `bots check`, `deploy check`, `demo`, then a fresh one-node Apache Kafka of its own and on it `test --kafka` over TLS with
/// SCRAM, a part of it over mutual TLS and over none, and `demo --kafka`, then eleven rounds of `chaos gateway` on three nodes. Stops at the first failure;
/// the Kafka it started ends with it.
#[derive(clap::Args)]
pub struct Args {
    /// Only the parts that need no Java
    #[arg(long)]
    no_kafka: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let start = Instant::now();
    let mut done: Vec<(String, Duration)> = Vec::new();
    // Now: the tests may build xtask anew, and the running one then has no name any more.
    let this = std::env::current_exe()?;
    let mut xtask = |words: &[&str]| -> Result<()> {
        let took = step(Command::new(&this).args(words).current_dir(root()))?;
        done.push((words.join(" "), took));
        Ok(())
    };

    deny()?;
    xtask(&["test"])?;
    xtask(&["bots", "check"])?;
    xtask(&["deploy", "check"])?;
    xtask(&["demo", "--dir", "target/ci-demo"])?;
    if args.no_kafka {
        println!("\nSKIPPED the parts on Apache Kafka: --no-kafka");
    } else {
        let dir = root().join("target/ci-kafka");
        let nodes = kafka::Temporary::up(&dir, 1)?;
        on_each_listener(&nodes, &mut xtask)?;
        xtask(&[
            "demo",
            "--dir",
            "target/ci-demo-kafka",
            "--kafka",
            nodes.address(),
        ])?;
        nodes.down()?;
        // As many rounds as there are kinds of fault there.
        let campaign = ["chaos", "gateway", "--apache", "--dev", "--rounds", "11"];
        xtask(&[campaign.as_slice(), &["--kafka-dir", "target/ci-kafka"]].concat())?;
    }

    println!("\nci: passed in {:.0} s", start.elapsed().as_secs_f64());
    for (what, took) in &done {
        println!("  {what:<60} {:>6.1} s", took.as_secs_f64());
    }
    Ok(())
}

/// The whole suite over TLS and SCRAM, and what goes the longest way through it over the others.
fn on_each_listener(
    nodes: &kafka::Temporary,
    xtask: &mut impl FnMut(&[&str]) -> Result<()>,
) -> Result<()> {
    let cluster = nodes.cluster();
    let (dir, secure) = (cluster.dir().display().to_string(), cluster.secure());
    let scram = secure.sasl_config("SCRAM-SHA-512").display().to_string();
    let mutual = secure.mutual_tls_config().display().to_string();
    let test = |listener| {
        let address = cluster.bootstrap_by(listener);
        ["test".to_owned(), "--kafka".to_owned(), address]
    };
    let some = ["end_to_end::", "shutdown::", "groups::"].map(|name| ["--only", name]);
    let some = some.concat();
    for (listener, more) in [
        (
            Listener::SaslSsl,
            vec!["--kafka-config", &scram, "--kafka-dir", &dir],
        ),
        (
            Listener::MutualTls,
            [&["--kafka-config", &mutual][..], &some].concat(),
        ),
        (Listener::Plaintext, some.clone()),
    ] {
        let words = test(listener);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more).collect();
        xtask(&words)?;
    }
    Ok(())
}

fn deny() -> Result<()> {
    if !has("cargo-deny") {
        if strict() {
            bail!("cargo-deny is missing: `.ci/run` installs it");
        }
        println!("SKIPPED cargo deny: cargo-deny is not installed");
        return Ok(());
    }
    step(&mut cargo(&[
        "deny", "--locked", "check", "licenses", "bans", "sources",
    ]))?;
    // The database lives on a host that not every machine reaches: what it says counts, its
    // absence does not.
    println!("\n▸ cargo deny check advisories");
    let mut check = cargo(&["deny", "--locked", "check", "advisories"]);
    let output = check.output().context("cannot start cargo deny")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        println!("advisories ok");
    } else if said.contains("failed to fetch advisory database") {
        println!("SKIPPED advisories: their database cannot be reached from here");
    } else {
        bail!("cargo deny check advisories failed:\n{said}");
    }
    Ok(())
}
