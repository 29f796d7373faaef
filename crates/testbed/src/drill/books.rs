//! Records that were accepted and are nowhere: what the books are for. With `kafka.async: true` a
//! gateway that is killed loses its queue, as the configuration's page says.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    BOOKS, Expected, Wave,
    ground::{ASYNC, Ground, SOON},
    senders::{records, send},
};
use crate::stand::Stand;

pub const LOST: Wave = Wave {
    name: "lost: a gateway that answers before anything is kept is killed with a full queue",
    alerts: &[Expected {
        alert: BOOKS,
        label: "",
        cause: "kafka.async: true, and kill -9 while Kafka is frozen",
    }],
    cause: |ground| {
        // Their margins, a few minutes of six hours as deployed, are half of a drill's minute: what
        // comes during them hides a loss of this size. So nobody else sends, and has not for most
        // of the window.
        ground.load.as_ref().context("a load")?.pause();
        ground.wait_above(NOBODY_SENDS, -1.0)?;
        // Before they have their window, they do not know what was in the log at its beginning.
        ground.books_balance()?;
        ground.has_lost = true;
        let gateway = ground.stand.addresses[ASYNC];
        let instance = ground.stand.gateways[ASYNC].admin;
        let accepted = format!("log_records_accepted_total{{instance=\"{instance}\"}}");
        let before = ground.prometheus.query(&accepted)?;
        let before = before.first().copied().unwrap_or(0.0);
        ground.control()?.command(&json!({"do": "pause"}))?;
        // One is on its way to each leader, and Kafka takes it later; the others wait.
        let body = records(200, 0);
        for _ in 0..6 {
            send(gateway, body.as_bytes());
        }
        ground.wait_above(&accepted, before + 1_100.0)?;
        // The rules see it a second later.
        sleep(Duration::from_millis(1_500));
        ground.stand.gateways[ASYNC].kill()?;
        ground.control()?.command(&json!({"do": "resume"}))?;
        ground.stand.gateways[ASYNC].start()?;
        ground.stand.gateways[ASYNC].wait_ready()
    },
    mend: |ground| {
        // What the runbook asks for says that the store itself is whole.
        let verify = "kafka-consumer-writer verify --config config.yaml --kafka";
        let whole = ground.runbook(0, BOOKS, verify)?;
        if whole.code != 0 {
            bail!("{whole:?}");
        }
        ground.load.as_ref().context("a load")?.resume();
        Ok(())
    },
};

/// 0 once no gateway has accepted anything for so long.
const NOBODY_SENDS: &str = "-sum_over_time(sluice:records_accepted:step30s[45s])";

impl Ground {
    /// The books have something to say, and nothing is missing.
    ///
    /// # Errors
    /// When they say nothing, or something is.
    pub fn books_balance(&mut self) -> Result<()> {
        let missing = "sluice:books_missing_records:sum6h";
        self.wait_above(missing, f64::NEG_INFINITY)?;
        let found = self.prometheus.query(missing)?;
        if found.iter().any(|missing| *missing > 0.0) || self.watch.fires(BOOKS, "") {
            bail!("{found:?} records are missing, and none was lost");
        }
        let waits = Stand::metric(&self.stand.gateways, "producer_dlq_records");
        if waits.is_none() {
            bail!("a gateway does not answer within {SOON:?}");
        }
        Ok(())
    }
}
