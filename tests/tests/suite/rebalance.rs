//! Writers come, go, and sleep: partitions move between them, and each record is stored once.

use std::time::Duration;

use anyhow::Result;
use testbed::{
    load::Load,
    process::poll_until,
    rebalances,
    service::Service,
    stand::{Plan, Stand},
};

use crate::{RunDir, assert_holds, load};

const SESSION: Duration = Duration::from_secs(6);
const PARTITIONS: u32 = 6;
const WITHIN: Duration = Duration::from_secs(60);
/// Sooner than a writer forgets the partitions that others have: a minute after it began.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(40);

#[test]
fn a_killed_a_new_and_a_frozen_writer_store_each_record_once() -> Result<()> {
    let dir = RunDir::new("rebalance");
    let plan = Plan {
        partitions: PARTITIONS,
        writers: 2,
        consumers: 2,
        ..Plan::from_env()
    };
    let session = format!("{}s", SESSION.as_secs());
    let mut stand = Stand::up(&dir, plan.with("consumer.sessionTimeout", session))?;
    let load = Load::start(&stand.addresses, load(41));
    assert!(
        load.wait_accepted(20_000, Duration::from_secs(60)),
        "no load: {}",
        load.stop()
    );

    stand.writers[0].kill()?;
    let third = stand.add_writer()?;
    third.start()?;
    third.wait_ready()?;
    // Past the killed one's session its partitions belong to the two that run.
    assigned(&stand, &[1, 2])?;

    let frozen_with = assigned_to(&stand.writers[1]);
    assert!(frozen_with > Some(0.0), "nothing to take over");
    stand.writers[1].process()?.freeze()?;
    // Past the frozen one's session all belong to the third, and it stores what they hold.
    assigned(&stand, &[2])?;
    let stored = Stand::metric(&stand.writers[2..], "logs_ingested_total");
    let more = poll_until(WITHIN, || {
        let now = Stand::metric(&stand.writers[2..], "logs_ingested_total");
        Ok((now > stored.map(|before| before + 20_000.0)).then_some(()))
    })?;
    assert!(more.is_some(), "the third writer stores nothing");
    stand.writers[1].process()?.thaw()?;
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;
    assigned(&stand, &[0, 1, 2])?;

    let before = load.accepted();
    assert!(
        load.wait_accepted(before + 20_000, Duration::from_secs(60)),
        "{}",
        load.stop()
    );
    let ledger = load.stop();
    // Each of them says what is true of all that is in its books, those of others included.
    let no_lag = poll_until(FOLLOWED_WITHIN, || {
        Ok((stand.lag() == Some(0.0)).then_some(()))
    })?;
    assert!(no_lag.is_some(), "a lag of {:?} stands still", stand.lag());
    let verdict = stand.settle(&ledger, Duration::from_secs(180))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}

/// `cargo xtask chaos rebalances` does the same fifty times.
#[test]
fn writers_that_come_and_go_under_load_store_each_record_once_and_in_order() -> Result<()> {
    let dir = RunDir::new("rebalances");
    let plan = rebalances::Plan {
        seed: 45,
        rounds: 8,
        stand: Plan {
            partitions: PARTITIONS,
            ..Plan::from_env()
        },
        load: load(45),
        rest_within: Duration::from_secs(180),
    };
    let outcome = rebalances::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("{outcome}");
    assert_holds(&outcome.verdict);
    dir.passed()
}

/// Waits until all partitions belong to these writers, and each of them has some.
fn assigned(stand: &Stand, writers: &[usize]) -> Result<()> {
    let settled = poll_until(WITHIN, || {
        let each: Vec<_> = writers
            .iter()
            .map(|at| assigned_to(&stand.writers[*at]).unwrap_or(0.0))
            .collect();
        let all = each.iter().sum::<f64>() == f64::from(PARTITIONS);
        Ok((all && each.iter().all(|n| *n > 0.0)).then_some(()))
    })?;
    assert!(settled.is_some(), "partitions do not move to {writers:?}");
    Ok(())
}

fn assigned_to(writer: &Service) -> Option<f64> {
    Stand::metric(std::slice::from_ref(writer), "consumer_partitions_assigned")
}
