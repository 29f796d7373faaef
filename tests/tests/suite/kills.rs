//! kill -9 at seeded moments under load: every record of a 202 stored once and counted once.
//! `cargo xtask chaos` does the same for longer and faster; the gateway's own faults are in
//! [`crate::campaign`].

use std::time::Duration;

use anyhow::Result;
use testbed::{
    chaos::{self, Target},
    stand,
};

use crate::{RunDir, assert_holds, load};

#[test]
fn a_killed_writer_stores_nothing_twice_and_loses_nothing() -> Result<()> {
    rounds(
        "kill-writer",
        &[Target::Writer],
        22,
        stand::Plan::from_env(),
    )
}

#[test]
fn a_killed_aggregator_counts_nothing_twice_and_forgets_nothing() -> Result<()> {
    rounds(
        "kill-aggregator",
        &[Target::Aggregator],
        23,
        stand::Plan::from_env(),
    )
}

#[test]
fn all_of_them_killed_in_turn_break_no_promise() -> Result<()> {
    let plan = stand::Plan {
        gateways: 2,
        writers: 2,
        ..stand::Plan::from_env()
    };
    let targets = [Target::Gateway, Target::Writer, Target::Aggregator];
    rounds("kill-any", &targets, 24, plan)
}

fn rounds(name: &str, targets: &[Target], seed: u64, stand: stand::Plan) -> Result<()> {
    let dir = RunDir::new(name);
    let plan = chaos::Plan {
        targets: targets.to_vec(),
        rounds: 4,
        seed,
        stand,
        load: load(seed),
        cluster: None,
        outage: None,
        rest_within: Duration::from_secs(180),
    };
    let (_, verdict) = chaos::run(&dir, &plan, &mut |line| println!("{line}"))?;
    assert_holds(&verdict);
    Ok(())
}
