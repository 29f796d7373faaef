//! The gateway under every fault that it has to bear, seeded: a short form of
//! `cargo xtask chaos gateway`.

use std::time::Duration;

use anyhow::Result;
use testbed::{
    campaign::{self, Plan},
    skip, stand,
};

use crate::{RunDir, assert_holds};

#[test]
fn no_fault_of_the_gateways_world_loses_or_doubles_a_record() -> Result<()> {
    run("campaign", 14, 51, None)
}

#[test]
fn with_a_tiny_duplicate_window_nothing_is_guessed() -> Result<()> {
    run("campaign-tiny-window", 7, 52, Some(10))
}

fn run(name: &str, rounds: u32, seed: u64, dedup_max_batches: Option<u32>) -> Result<()> {
    let mut stand = stand::Plan::from_env();
    let rounds = if stand.kafka.is_some() {
        skip::optional(
            "faults between gateway and Kafka",
            "this broker is not ours to hit (`chaos gateway --apache` hits its own)",
        );
        3
    } else {
        stand.nodes = 3;
        stand.replication = 3;
        rounds
    };
    let plan = Plan {
        seed,
        rounds: 1..=rounds,
        rate: 1_500,
        records: (1, 200),
        dedup_max_batches,
        stand,
        cluster: None,
        rest_within: Duration::from_secs(180),
    };
    let dir = RunDir::new(name);
    let outcome = campaign::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("{outcome}");
    assert_holds(&outcome.verdict);
    dir.passed()
}
