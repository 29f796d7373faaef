//! Kafka is slow, away, weakly set, or faster in removing than the writers in reading.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    Expected, Wave,
    ground::{ASYNC, Ground, SOON},
    senders::{Sender, records, send},
};
use crate::{
    body::Mix,
    load::{self, Load},
    process::poll_until,
    service::Broker,
    stand::Stand,
};

pub const SLOW: Wave = Wave {
    name: "slow: Kafka takes a second and a half for each write",
    alerts: &[
        Expected {
            alert: "SluiceQueueNearlyFull",
            label: "ingest-gateway",
            cause: "more requests than slow writes carry",
        },
        Expected {
            alert: "SluiceClientsRefused",
            label: "ingest-gateway",
            cause: "429 queue_full",
        },
    ],
    cause: |ground| {
        let slow = json!({"do": "fault", "on": "Produce", "then": {"delay_answer": 1500}});
        ground.control()?.command(&slow)?;
        ground.senders = vec![crowd(ground)];
        Ok(())
    },
    mend: |ground| {
        ground.senders.clear();
        ground.control()?.command(&json!({"do": "clear_faults"}))
    },
};

pub const DOWN: Wave = Wave {
    name: "down: Kafka is killed, and a gateway with its dead letters beside it",
    alerts: &[
        Expected {
            alert: "SluiceKafkaDown",
            label: "ingest-gateway",
            cause: "kill -9 of Kafka",
        },
        Expected {
            alert: "SluiceKafkaDown",
            label: "kafka-consumer-writer",
            cause: "kill -9 of Kafka",
        },
        Expected {
            alert: "SluiceProducerDlqNearlyFull",
            label: "",
            cause: "64 MiB for what comes meanwhile",
        },
        Expected {
            alert: "SluiceProducerDlqDamaged",
            label: "",
            cause: "a byte of a dead letter file changed",
        },
        Expected {
            alert: "SluiceProducerDlqOld",
            label: "",
            cause: "the first dead letter waits",
        },
        Expected {
            alert: "SluiceProducerDlqGrowing",
            label: "",
            cause: "more come",
        },
        Expected {
            alert: "SluiceConsumerErrors",
            label: "",
            cause: "no call of the writer is answered",
        },
    ],
    cause: |ground| {
        broker(ground)?.kill()?;
        damage_dead_letters(ground)
    },
    mend: |ground| {
        back(ground)?;
        // It counts from its start.
        let gateway = &mut ground.stand.gateways[ASYNC];
        gateway.terminate()?;
        gateway.start()?;
        gateway.wait_ready()?;
        let kept = ground.runbook(
            ASYNC,
            "SluiceProducerDlqDamaged",
            "ls -l dlq/producer/damaged",
        )?;
        if kept.code != 0 {
            bail!("what is damaged is not set aside: {kept:?}");
        }
        Ok(())
    },
};

/// Of [`DOWN`] what a test has time for.
pub const QUICK: Wave = Wave {
    name: "quick: Kafka is killed",
    alerts: &[
        Expected {
            alert: "SluiceKafkaDown",
            label: "kafka-consumer-writer",
            cause: "kill -9 of Kafka",
        },
        Expected {
            alert: "SluiceProducerDlqGrowing",
            label: "",
            cause: "more comes than goes",
        },
    ],
    cause: |ground| broker(ground)?.kill(),
    mend: back,
};

pub const RETENTION: Wave = Wave {
    name: "retention: Kafka removes what a stopped writer has not read, and a setting is weak",
    alerts: &[
        Expected {
            alert: "SluiceTopicWeak",
            label: "min_insync_replicas",
            cause: "min.insync.replicas is 1",
        },
        Expected {
            alert: "SluiceRecordsLost",
            label: "",
            cause: "a log that begins behind the chain's end",
        },
    ],
    cause: |ground| {
        ground.has_lost = true;
        setting(ground, "1")?;
        ground.stand.writers[0].terminate()?;
        let load = ground.load.as_ref().context("a load")?;
        let wanted = load.accepted() + 200;
        if !load.wait_accepted(wanted, SOON) {
            bail!("nothing is accepted");
        }
        let ends = ground.control()?.ends(&ground.stand.plan.topic)?;
        let topic = ground.stand.plan.topic.clone();
        for (partition, end) in ends.into_iter().enumerate() {
            ground.control()?.command(&json!({
                "do": "delete_before", "topic": topic, "partition": partition, "offset": end,
            }))?;
        }
        let writer = &mut ground.stand.writers[0];
        writer.start()?;
        writer.wait_ready()
    },
    mend: |ground| {
        let lost = ground.runbook(0, "SluiceRecordsLost", "kafka-consumer-writer segments ls")?;
        if !lost.said.contains("\"lost\":") {
            bail!("the loss is not shown: {lost:?}");
        }
        setting(ground, "2")?;
        // A writer looks at the settings at its start.
        let writer = &mut ground.stand.writers[0];
        writer.terminate()?;
        writer.start()?;
        writer.wait_ready()
    },
};

/// Kafka answers again, and the dead letters go by themselves.
fn back(ground: &mut Ground) -> Result<()> {
    broker(ground)?.start()?;
    let found = ground.runbook(0, "SluiceKafkaDown", "kcat -L")?;
    if found.code != 0 {
        bail!("Kafka is back, and kcat says {found:?}");
    }
    let mut left = None;
    let gone = poll_until(SOON, || {
        left = Stand::metric(&ground.stand.gateways, "producer_dlq_records");
        Ok((left == Some(0.0)).then_some(()))
    })?;
    gone.with_context(|| format!("{left:?} dead letters are left"))
}

fn setting(ground: &Ground, value: &str) -> Result<()> {
    let topic = ground.stand.plan.topic.clone();
    ground.control()?.command(&json!({
        "do": "set_setting", "topic": topic, "name": "min.insync.replicas", "value": value,
    }))
}

fn broker(ground: &mut Ground) -> Result<&mut Broker> {
    ground.stand.broker.as_mut().context("the embedded broker")
}

/// Many clients at once, each with a small body: more than the queue has places.
fn crowd(ground: &Ground) -> Sender {
    let plan = load::Plan {
        mix: Mix {
            seed: 2,
            records: (1, 3),
            broken_every: 0,
            ..Mix::default()
        },
        connections: 64,
        rate: None,
        patience: Duration::from_millis(100),
        repeat: false,
        ..load::Plan::default()
    };
    let mut crowd = Some(Load::start(&ground.stand.addresses[..1], plan));
    // It ends with the sender.
    Sender::start(Duration::from_millis(50), move || {
        let _goes_on = &mut crowd;
    })
}

/// The second gateway is killed with dead letters, and comes back to a file that is damaged.
fn damage_dead_letters(ground: &mut Ground) -> Result<()> {
    let gateway = ground.stand.addresses[ASYNC];
    let body = records(20, 0);
    let mut written = None;
    let kept = poll_until(SOON, || {
        send(gateway, body.as_bytes());
        let gateways = &ground.stand.gateways[ASYNC..=ASYNC];
        written = Stand::metric(gateways, "producer_dlq_records");
        Ok(written.filter(|records| *records >= 200.0))
    })?;
    kept.with_context(|| format!("{written:?} records in the dead letter queue"))?;
    ground.stand.gateways[ASYNC].kill()?;
    let dir = ground.stand.dir.join(format!("dlq/producer-{}", ASYNC + 1));
    let mut damaged = 0;
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "pdlq") && damaged == 0 {
            let mut bytes = fs::read(&path)?;
            let middle = bytes.len() / 2;
            let byte = bytes.get_mut(middle).context("an empty file")?;
            *byte ^= 0xff;
            fs::write(&path, bytes)?;
            damaged += 1;
        }
    }
    if damaged == 0 {
        bail!("no dead letter file in {}", dir.display());
    }
    ground.stand.gateways[ASYNC].start()?;
    ground.stand.gateways[ASYNC].wait_ready()
}
