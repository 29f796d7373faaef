//! Many times the load that a gateway can carry while Kafka stands still: how much memory it
//! takes, what it refuses, and whether it kept what it accepted.

use std::{
    fmt,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    ledger::Ledger,
    load::{self, Load},
    oracle::Verdict,
    process::{Memory, poll_until},
    stand::{self, Stand},
};

const USED: &str = "ingestion_memory_used_bytes";
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// For the load to begin, and for service to be normal again.
const SOON: Duration = Duration::from_secs(90);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub stand: stand::Plan,
    pub load: load::Plan,
    /// How long Kafka stands still under the load.
    pub frozen: Duration,
    pub rest_within: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub ledger: Ledger,
    pub verdict: Verdict,
    /// Of the gateway, before the load.
    pub idle_bytes: u64,
    /// The most that it had in memory.
    pub peak_bytes: u64,
    /// With nothing left to do.
    pub after_bytes: u64,
    /// Of the memory budget, by its metric: the most while Kafka stood still.
    pub used_max: f64,
}

/// Runs it. `say` gets a line for each step.
///
/// # Errors
/// When the gateway ends, does not serve again once Kafka is back, keeps memory for nothing, or
/// does not come to rest. A verdict that does not hold is no error.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let mut stand = Stand::up(dir, plan.stand.clone())?;
    let idle_bytes = memory(&mut stand)?.resident_bytes;
    let load = Load::start(&stand.addresses, plan.load.clone());
    if !load.wait_accepted(1, SOON) {
        bail!("nothing was accepted in {SOON:?}: {}", load.stop());
    }
    let broker = stand.broker.as_mut().context("the embedded broker")?;
    broker.process()?.freeze()?;
    let used_max = most_used(&stand, plan.frozen);
    say(&format!(
        "Kafka stood still for {:?}: {} MiB resident at most, {} records accepted so far",
        plan.frozen,
        memory(&mut stand)?.peak_bytes >> 20,
        load.accepted()
    ));
    let broker = stand.broker.as_mut().context("the embedded broker")?;
    broker.process()?.thaw()?;
    let before = load.answered("202 kafka");
    let again = poll_until(SOON, || {
        Ok((load.answered("202 kafka") > before).then_some(()))
    })?;
    let ledger = load.stop();
    again.with_context(|| format!("no batch reaches Kafka again: {ledger}"))?;
    say(&format!("load: {ledger}"));
    at_zero(&stand)?;
    let memory = memory(&mut stand)?;
    let verdict = stand.settle(&ledger, plan.rest_within)?;
    Ok(Outcome {
        ledger,
        verdict,
        idle_bytes,
        peak_bytes: memory.peak_bytes,
        after_bytes: memory.resident_bytes,
        used_max,
    })
}

/// The most of the memory budget that is in use in so long a time.
fn most_used(stand: &Stand, during: Duration) -> f64 {
    let until = Instant::now() + during;
    let mut most: f64 = 0.0;
    while Instant::now() < until {
        // A busy gateway may answer late.
        most = most.max(Stand::metric(&stand.gateways, USED).unwrap_or(0.0));
        sleep(SAMPLE_EVERY);
    }
    most
}

/// Until nothing of the memory budget is in use: what is never given back is found here.
fn at_zero(stand: &Stand) -> Result<()> {
    let mut used = None;
    let zero = poll_until(SOON, || {
        used = Stand::metric(&stand.gateways, USED);
        Ok((used == Some(0.0)).then_some(()))
    })?;
    zero.with_context(|| format!("{used:?} bytes of the budget are in use with nothing to do"))
}

fn memory(stand: &mut Stand) -> Result<Memory> {
    stand.gateways[0].process()?.memory()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "resident: idle {:.1} MiB, at most {:.1} MiB, after it {:.1} MiB; of the budget at \
             most {:.1} MiB in use; {}",
            mib(self.idle_bytes),
            mib(self.peak_bytes),
            mib(self.after_bytes),
            self.used_max / f64::from(1 << 20),
            self.verdict
        )
    }
}
