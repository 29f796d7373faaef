//! Kafka stops under load: answers are 202 (kept in the DLQ), 429 or 503, none late; when it is
//! back, everything accepted reaches the store once and the DLQ empties by itself.
//!
//! On the embedded broker only: another one is not ours to stop (`chaos pipeline` does it to a
//! Kafka that `kafka up` started).

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use testbed::{
    load::Load,
    skip,
    stand::{Plan, Stand},
};

use crate::{RunDir, assert_holds, load};

/// Of the gateways in this test; the answers' bound.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// What a busy machine adds between the client's clock and the gateway's.
const MARGIN: Duration = Duration::from_secs(3);

#[test]
fn kafka_frozen_then_killed_costs_no_accepted_record() -> Result<()> {
    let plan = Plan::from_env();
    if plan.kafka.is_some() {
        skip::optional("Kafka frozen and killed", "this broker is not ours to stop");
        return Ok(());
    }
    let dir = RunDir::new("kafka-away");
    let timeout = format!("{}s", REQUEST_TIMEOUT.as_secs());
    let mut stand = Stand::up(&dir, plan.with("server.requestTimeout", timeout))?;
    let load = Load::start(&stand.addresses, load(31));
    assert!(
        load.wait_accepted(20_000, Duration::from_secs(60)),
        "no load: {}",
        load.stop()
    );

    let broker = stand.broker.as_mut().expect("the embedded broker runs");
    broker.process()?.freeze()?;
    // Longer than any answer may take: some requests spend their whole life without a Kafka.
    sleep(REQUEST_TIMEOUT + Duration::from_secs(3));
    broker.kill()?;
    sleep(Duration::from_secs(7));
    let kept = load.answered("202 dlq");
    assert!(kept > 0, "nothing was kept in the DLQ: {}", load.stop());
    broker.start()?;

    let before = load.answered("202 kafka");
    let again = testbed::process::poll_until(Duration::from_secs(60), || {
        Ok((load.answered("202 kafka") > before).then_some(()))
    })?;
    let ledger = load.stop();
    assert!(again.is_some(), "no batch reaches Kafka again: {ledger}");
    assert!(
        ledger.slowest < REQUEST_TIMEOUT + MARGIN,
        "an answer came late: {ledger}"
    );
    assert_eq!(ledger.answered("no answer"), 0, "{ledger}");
    let verdict = stand.settle(&ledger, Duration::from_secs(180))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}
