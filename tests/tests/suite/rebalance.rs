//! Writers come, go, and sleep: partitions move between them, and each record is stored once.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use testbed::{
    load::Load,
    stand::{Plan, Stand},
};

use crate::{RunDir, assert_holds, load};

const SESSION: Duration = Duration::from_secs(6);

#[test]
fn a_killed_a_new_and_a_frozen_writer_store_each_record_once() -> Result<()> {
    let dir = RunDir::new("rebalance");
    let plan = Plan {
        partitions: 6,
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
    // Past the killed one's session: its partitions belong to others by then.
    sleep(SESSION + Duration::from_secs(2));

    stand.writers[1].process()?.freeze()?;
    sleep(SESSION + Duration::from_secs(3));
    stand.writers[1].process()?.thaw()?;
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;

    let before = load.accepted();
    assert!(
        load.wait_accepted(before + 20_000, Duration::from_secs(60)),
        "{}",
        load.stop()
    );
    let ledger = load.stop();
    let verdict = stand.settle(&ledger, Duration::from_secs(180))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    Ok(())
}
