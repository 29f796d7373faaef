//! Every service is restarted under load, one after the other, as the runbook's "Upgrade and roll
//! back" has it: no client behind a load balancer notices, and nothing is lost or twice. And a
//! gateway that is stopped for good: its dead letters go from elsewhere.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use testbed::{
    balancer::Balancer,
    body::Mix,
    http::get,
    load::Load,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
};

use crate::{RunDir, assert_holds, book, load};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_rolling_restart_of_everything_fails_no_request_and_loses_nothing() -> Result<()> {
    let dir = RunDir::new("rolling-all");
    let plan = Plan {
        gateways: 2,
        writers: 2,
        ..Plan::from_env()
    };
    let plan = plan
        .with("server.drainDelay", "500ms")
        .with("kafka.groupInstanceID", "writer")
        .with("consumer.sessionTimeout", "6s");
    let mut stand = Stand::up(&dir, plan)?;
    let balancer = Balancer::start(&stand.addresses)?;
    let gentle = testbed::load::Plan {
        mix: Mix {
            seed: 71,
            records: (1, 60),
            ..Mix::default()
        },
        rate: Some(3_000),
        ..testbed::load::Plan::default()
    };
    let load = Load::start(&[balancer.address], gentle);

    stand.aggregator.terminate()?;
    stand.aggregator.start()?;
    stand.aggregator.wait_ready()?;
    for number in 0..2 {
        goes_on(&load)?;
        let writer = &mut stand.writers[number];
        writer.terminate()?;
        writer.start()?;
        writer.wait_ready()?;
        // It has its partitions again before the other one goes.
        let has_partitions = poll_until(WITHIN, || {
            let metrics = stand.writers[number].metrics()?;
            Ok((metrics.sum("consumer_partitions_assigned") > Some(0.0)).then_some(()))
        })?;
        has_partitions.context("the writer gets no partitions")?;
    }
    for number in 0..2 {
        goes_on(&load)?;
        let address = stand.addresses[number];
        let gateway = &mut stand.gateways[number];
        gateway.process()?.terminate()?;
        // Out of the balancer while it still takes what comes.
        let seen = poll_until(WITHIN, || {
            let unready = get(address, "/readyz").is_ok_and(|answer| answer.status == 503);
            Ok(unready.then_some(()))
        })?;
        seen.context("/readyz is not 503 while requests are still taken")?;
        gateway.wait_ended()?;
        gateway.start()?;
        gateway.wait_ready()?;
        let back = poll_until(WITHIN, || Ok(balancer.sends_to(number).then_some(())))?;
        back.context("it is not in the balancer again")?;
    }
    goes_on(&load)?;
    let ledger = load.stop();
    for number in 0..2 {
        assert!(
            balancer.requests(number) > 0,
            "gateway {number} got nothing"
        );
    }
    let all: u64 = ledger.answers.values().sum();
    assert_eq!(ledger.answered("202 kafka"), all, "{ledger}");
    let verdict = stand.settle(&ledger, Duration::from_secs(120))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}

#[test]
fn the_full_dead_letter_queue_of_a_gateway_that_is_gone_is_replayed_from_elsewhere() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional("a gateway that is gone", "this broker is not ours to stop");
        return Ok(());
    }
    let dir = RunDir::new("dlq-elsewhere");
    let plan = Plan {
        gateways: 2,
        ..Plan::default()
    };
    let plan = plan
        .with("ingestion.producerDLQMaxBytes", "256KiB")
        .with("ingestion.producerWriteTimeout", "1s")
        .with("server.requestTimeout", "4s");
    let mut stand = Stand::up(&dir, plan)?;
    // All of it goes to the second gateway, until its queue is full.
    let plan = testbed::load::Plan {
        patience: Duration::from_millis(100),
        repeat: false,
        ..load(72)
    };
    let load = Load::start(&stand.addresses[1..], plan);
    ensure!(load.wait_accepted(1_000, WITHIN), "{}", load.stop());
    let broker = stand.broker.as_mut().context("the embedded broker")?;
    broker.kill()?;
    let full = poll_until(WITHIN, || {
        Ok((load.answered("503 nowhere_to_keep") > 0).then_some(()))
    })?;
    let ledger = load.stop();
    full.with_context(|| format!("the dead letter queue is never full: {ledger}"))?;
    ensure!(ledger.answered("202 dlq") > 0, "{ledger}");
    let gone = &mut stand.gateways[1];
    gone.terminate()?;
    let volume = stand.dir.join("mnt/old/dlq");
    fs::create_dir_all(&volume)?;
    let volume = volume.join("producer");
    fs::rename(stand.dir.join("dlq/producer-2"), &volume)?;

    stand
        .broker
        .as_mut()
        .context("the embedded broker")?
        .start()?;
    // As the runbook has it, on the host of another gateway, beside it.
    let command = "ingest-gateway dlq replay --config config.yaml --dir";
    let replay = |more: &str| -> Result<String> {
        let names = [(
            "/mnt/old/dlq/producer",
            format!("{} {more}", volume.display()),
        )];
        let section = "Empty the DLQ volume of a gateway that is gone";
        let done = book::run(&stand, section, command, &names)?;
        ensure!(done.code == 0, "{done:?}");
        Ok(done.said)
    };
    let planned = replay("--dry-run")?;
    ensure!(planned.contains("records"), "{planned}");
    replay("")?;
    replay("")?;
    let verdict = stand.settle(&ledger, Duration::from_secs(120))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}

fn goes_on(load: &Load) -> Result<()> {
    let before = load.accepted();
    ensure!(
        load.wait_accepted(before + 1_000, WITHIN),
        "the load stands still"
    );
    Ok(())
}
