//! "Grow the topic's partitions", while a load repeats what was not answered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::{
    load::Load,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
};

use super::small_bodies;
use crate::{RunDir, assert_holds};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_topic_that_grows_while_its_gateways_are_stopped_loses_and_doubles_nothing() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional("a topic that grows", "the embedded broker is asked for it");
        return Ok(());
    }
    let dir = RunDir::new("grow");
    let plan = Plan {
        partitions: 2,
        ..Plan::default()
    };
    let mut stand = Stand::up(&dir, plan)?;
    // Nobody says a second time what was answered 202: across the growth that is stored twice, as the
    // page says.
    let plan = testbed::load::Plan {
        mix: small_bodies(75),
        repeat: false,
        ..testbed::load::Plan::default()
    };
    let load = Load::start(&stand.addresses, plan);
    ensure!(load.wait_accepted(2_000, WITHIN), "{}", load.stop());
    // "Those that repeat under a key may do so only after step 3 for batches that were never
    // answered 202": none is on its way.
    load.pause();
    let waits = Stand::metric(&stand.gateways, "producer_dlq_records");
    ensure!(waits == Some(0.0), "{waits:?} dead letters");
    stand.gateways[0].terminate()?;
    let control = &stand
        .broker
        .as_ref()
        .context("the embedded broker")?
        .control;
    let topic = stand.plan.topic.clone();
    control.command(&json!({"do": "grow_topic", "topic": topic, "partitions": 5}))?;
    stand.plan.partitions = 5;
    stand.gateways[0].start()?;
    stand.gateways[0].wait_ready()?;
    // Nobody waits here for the minute after which a writer asks by itself
    // (kafka-consumer-writer's own tests do).
    stand.writers[0].terminate()?;
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;
    let assigned = poll_until(WITHIN, || {
        let assigned = Stand::metric(&stand.writers, "consumer_partitions_assigned");
        Ok((assigned == Some(5.0)).then_some(()))
    })?;
    assigned.context("the new partitions are nobody's")?;
    load.resume();
    let before = load.accepted();
    ensure!(
        load.wait_accepted(before + 4_000, WITHIN),
        "{}",
        load.stop()
    );
    let ledger = load.stop();
    let verdict = stand.settle(&ledger, WITHIN)?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    let chains = stand.verify()?;
    let chains = chains["chains"].as_array().context("chains")?;
    ensure!(chains.len() == 5, "{chains:?}");
    let used = chains.iter().filter(|it| it["next"].as_u64() > Some(0));
    ensure!(used.count() == 5, "not all are used: {chains:?}");
    dir.passed()
}
