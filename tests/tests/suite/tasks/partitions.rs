//! "Grow the topic's partitions", and on a real Kafka what the page asks of Kafka's own tools.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::{
    kafka::Cluster,
    load::Load,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
};

use super::small_bodies;
use crate::{RunDir, assert_holds, book};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_topic_that_grows_while_its_gateways_are_stopped_loses_and_doubles_nothing() -> Result<()> {
    let tools = Tools::from_env()?;
    if Plan::from_env().kafka.is_some() && tools.is_none() {
        let why = "the tools of `cargo xtask kafka up` change it (--kafka-dir)";
        skip::optional("a topic that grows", why);
        return Ok(());
    }
    let dir = RunDir::new("grow");
    let plan = Plan {
        partitions: 2,
        ..Plan::from_env()
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
    match &tools {
        None => {
            let broker = stand.broker.as_ref().context("the embedded broker")?;
            let (control, topic) = (&broker.control, &stand.plan.topic);
            control.command(&json!({"do": "grow_topic", "topic": topic, "partitions": 5}))?;
        }
        Some(tools) => tools.as_the_page_has_it(&stand)?,
    }
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

/// Kafka's own tools, from the jars of `cargo xtask kafka up`, at its listener without TLS.
struct Tools {
    libs: PathBuf,
    broker: String,
}

impl Tools {
    fn from_env() -> Result<Option<Self>> {
        let Some(dir) = std::env::var_os("SLUICE_TEST_KAFKA_DIR").map(PathBuf::from) else {
            return Ok(None);
        };
        let broker = Cluster::open(&dir)?.bootstrap();
        let libs = dir.join("libs");
        Ok(Some(Self { libs, broker }))
    }

    /// The topic grows; what alerts ask for is asked for besides, as each start takes a second.
    fn as_the_page_has_it(&self, stand: &Stand) -> Result<()> {
        self.run(stand, "Grow the topic's partitions", "kafka-topics.sh")?;
        self.run(stand, "SluiceLagNearRetention", "kafka-configs.sh")?;
        let settings = self.run(stand, "SluiceTopicWeak", "kafka-configs.sh --bootstrap")?;
        for there in ["min.insync.replicas=", "retention.ms=1209600000"] {
            ensure!(settings.contains(there), "{settings}");
        }
        let members = self.run(stand, "SluiceGroupStrangers", "kafka-consumer-groups.sh")?;
        let group = format!("{}-writer", stand.plan.topic);
        ensure!(members.contains(&group), "{members}");
        Ok(())
    }

    fn run(&self, stand: &Stand, section: &str, start: &str) -> Result<String> {
        let tool = |class: &str| format!("java -cp '{}/*' {class}", self.libs.display());
        let topic = &stand.plan.topic;
        let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let names = [
            ("--partitions 24", "--partitions 5".to_owned()),
            (
                "kafka-topics.sh",
                tool("org.apache.kafka.tools.TopicCommand"),
            ),
            ("kafka-configs.sh", tool("kafka.admin.ConfigCommand")),
            ("kafka-consumer-groups.sh", tool(groups)),
            ("KAFKA", self.broker.clone()),
            ("TOPIC", topic.clone()),
            ("GROUP", format!("{topic}-writer")),
        ];
        let done = book::run(stand, section, start, &names)?;
        ensure!(done.code == 0, "{done:?}");
        Ok(done.said)
    }
}
