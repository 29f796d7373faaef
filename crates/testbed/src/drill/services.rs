//! Services that are killed, once and again and again; the books balance all the while. And a stranger
//! among the writers.

use std::{thread::sleep, time::Duration};

use anyhow::Result;

use super::{Expected, Wave, ground::Ground, senders::Sender};
use crate::{kafka::group::Group, service::Service};

pub const KILLED: Wave = Wave {
    name: "killed: kill -9 of each service",
    alerts: &[
        Expected {
            alert: "SluiceServiceDown",
            label: "job=ingest-gateway",
            cause: "kill -9 of a gateway",
        },
        Expected {
            alert: "SluiceServiceDown",
            label: "job=kafka-consumer-writer",
            cause: "kill -9 of the writer",
        },
        Expected {
            alert: "SluiceServiceDown",
            label: "job=aggregator",
            cause: "kill -9 of the aggregator",
        },
    ],
    cause: |ground| {
        // From now on the books have something to say, and it is that nothing is missing.
        ground.books_balance()?;
        first_of_each(ground, Service::kill)
    },
    mend: |ground| {
        ground.runbook(
            0,
            "SluiceServiceDown",
            "ingest-gateway --config config.yaml --check",
        )?;
        first_of_each(ground, Service::start)?;
        first_of_each(ground, Service::wait_ready)?;
        ground.wait_stored()?;
        ground.books_balance()
    },
};

pub const LOOP: Wave = Wave {
    name: "loop: a service that ends again and again",
    alerts: &[Expected {
        alert: "SluiceRestartLoop",
        label: "job=aggregator",
        cause: "kill -9 of the aggregator, four times more",
    }],
    cause: |ground| {
        for _ in 0..4 {
            let start = "process_start_time_seconds{job=\"aggregator\"}";
            let before = ground.prometheus.query(start)?;
            let aggregator = &mut ground.stand.aggregator;
            aggregator.kill()?;
            // The time of a start has no fractions, and each life has to be seen.
            sleep(Duration::from_millis(1_100));
            aggregator.start()?;
            aggregator.wait_ready()?;
            ground.wait_above(start, before.last().copied().unwrap_or(0.0))?;
        }
        Ok(())
    },
    mend: |_| Ok(()),
};

pub const STRANGERS: Wave = Wave {
    name: "strangers: a member of the writers' group that speaks their protocol and is none of them",
    alerts: &[Expected {
        alert: "SluiceGroupStrangers",
        label: "",
        cause: "it joins, and nobody can read what it wants",
    }],
    cause: |ground| {
        let stand = &ground.stand;
        let name = format!("{}-writer", stand.plan.topic);
        let group = Group::new(&stand.kafka(), &name)?;
        ground.senders = vec![Sender::start(Duration::from_secs(2), move || {
            // Kafka is there; what does not come now comes next.
            let _ = group.intrude(PROTOCOL);
        })];
        Ok(())
    },
    // As the page has it: "stop them".
    mend: |ground| {
        ground.senders.clear();
        ground.wait_stored()
    },
};

/// Of the writers' group.
const PROTOCOL: &str = "sluice-range";

fn first_of_each(ground: &mut Ground, act: fn(&mut Service) -> Result<()>) -> Result<()> {
    let stand = &mut ground.stand;
    act(&mut stand.gateways[0])?;
    act(&mut stand.writers[0])?;
    act(&mut stand.aggregator)
}
