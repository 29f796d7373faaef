//! kill -9 at seeded moments under load: every record of a 202 stored once and counted once.
//! `cargo xtask chaos` does the same for longer and faster; the gateway's own faults are in
//! [`crate::campaign`].

use std::time::Duration;

use anyhow::Result;
use testbed::{
    chaos::{self, Target},
    counting, duckdb, killing, skip, stand,
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
fn a_writer_that_ends_at_any_step_stores_nothing_twice_and_loses_nothing() -> Result<()> {
    let mut stand = stand::Plan::from_env();
    let is_ours = stand.kafka.is_none();
    if !is_ours {
        skip::optional(
            "leaders killed under the writer",
            "this broker is not ours to hit (`chaos writer --apache` hits its own)",
        );
    } else {
        stand.nodes = 3;
        stand.replication = 3;
    }
    let dir = RunDir::new("kill-writer-at-steps");
    let plan = killing::Plan {
        seed: 25,
        rounds: 20,
        rate: 1_000,
        stand,
        cluster: None,
        rest_within: Duration::from_secs(180),
    };
    let outcome = killing::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("{outcome}");
    assert_holds(&outcome.verdict);
    let ends = |who: &str| outcome.tally.hits.keys().filter(|at| at.who == who).count();
    assert!(ends("writer") >= 8, "{:?}", outcome.tally.hits);
    assert!(ends("removal") >= 4, "{:?}", outcome.tally.hits);
    // Ten rounds with a wide window, judged; ten with a tiny one, out of which copies fall. How
    // many come late enough for that is up to the broker's speed: one that is not ours may have none.
    assert_eq!(outcome.tally.judged, 1);
    let decided = &outcome.decided;
    assert!(
        !is_ours || decided.replayed + decided.discarded > 0,
        "{outcome}"
    );
    // Round 6: stopped in a save past its session, and woken behind what was removed.
    assert!(outcome.removed > 0 && outcome.tally.frozen > 0, "{outcome}");
    // Where kcat is missing the order was skipped aloud, which CI forbids.
    let not_compared = outcome.not_compared();
    assert!(not_compared.is_empty(), "{not_compared:?}: {outcome}");
    dir.passed()
}

#[test]
fn an_aggregator_that_ends_at_any_step_counts_and_archives_each_record_once() -> Result<()> {
    if !duckdb::is_there() {
        skip::skipped(
            "the aggregator killed at its steps, judged by DuckDB",
            "python3 has no duckdb (pip install duckdb)",
        );
        return Ok(());
    }
    let dir = RunDir::new("kill-aggregator-at-steps");
    let plan = counting::Plan {
        seed: 26,
        rounds: 9,
        rate: 400,
        stand: stand::Plan::from_env(),
        pause_every: 5,
        until_removed: false,
        rest_within: Duration::from_secs(180),
    };
    let outcome = counting::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("{outcome}");
    assert_holds(&outcome.verdict);
    assert!(outcome.hits.len() >= 6, "{:?}", outcome.hits);
    // Round 6: asleep while another does its work. Round 8: a rebuild.
    assert!(outcome.frozen > 0 && outcome.rebuilds > 0, "{outcome}");
    assert!(outcome.looks.grown > 0 && outcome.scrapes > 0, "{outcome}");
    dir.passed()
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
    dir.passed()
}
