//! Copies in the stream: batches that stand in a log are put at its end again, byte for byte, some
//! at once and some when a tiny duplicate window has long lost them; as a gateway's are whose
//! acknowledgement came late or never. What of it came to the logs, the logs say.

use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;

use super::beside::Beside;
use crate::{kafka::logs::Logs, stand::Stand};

const EVERY: Duration = Duration::from_millis(300);
/// How many messages before the end a copy is taken from: of a batch that even a tiny window holds,
/// and of one that it does not.
const YOUNG: i64 = 60;
const OLD: i64 = 3_000;

/// # Errors
/// When the brokers' addresses are none.
pub fn start(seed: u64, stand: &Stand) -> Result<Beside> {
    let partitions = stand.plan.partitions;
    let logs = Logs::new(&stand.kafka(), &stand.plan.topic, partitions)?;
    let mut rng = Rng::with_seed(seed);
    Ok(Beside::start(EVERY, move || {
        send(&logs, partitions, &mut rng)
    }))
}

fn send(logs: &Logs, partitions: u32, rng: &mut Rng) -> Result<bool> {
    let partition = rng.u32(..partitions);
    let far = if rng.bool() { YOUNG } else { OLD };
    let back = rng.i64(1..=far);
    let end = logs.ends()[partition as usize];
    let Some(end) = end.filter(|end| *end > 0) else {
        return Ok(false);
    };
    let batch = logs.batch_at(partition, (end - back).max(0))?;
    logs.append(partition, &batch)?;
    Ok(true)
}
