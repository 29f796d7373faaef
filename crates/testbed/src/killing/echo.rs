//! Copies in the stream: batches that stand in a log are put at its end again, byte for byte, some
//! at once and some when a tiny duplicate window has long lost them; as a gateway's are whose
//! acknowledgement came late or never. What of it came to the logs, the logs say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Result, ensure};
use fastrand::Rng;

use crate::{kafka::logs::Logs, stand::Stand};

const EVERY: Duration = Duration::from_millis(300);
/// How many messages before the end a copy is taken from: of a batch that even a tiny window holds,
/// and of one that it does not.
const YOUNG: i64 = 60;
const OLD: i64 = 3_000;

/// A thread that sends. Ends with its value.
pub struct Echo {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    logs: Logs,
    partitions: u32,
    ended: AtomicBool,
    paused: AtomicBool,
    /// Nothing is being sent now.
    still: AtomicBool,
    sent: AtomicU32,
}

impl Echo {
    /// # Errors
    /// When the brokers' addresses are none.
    pub fn start(seed: u64, stand: &Stand) -> Result<Self> {
        let partitions = stand.plan.partitions;
        let shared = Arc::new(Shared {
            logs: Logs::new(&stand.kafka(), &stand.plan.topic, partitions)?,
            partitions,
            ended: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            still: AtomicBool::new(false),
            sent: AtomicU32::new(0),
        });
        let sends = Arc::clone(&shared);
        let thread = spawn(move || sends.run(Rng::with_seed(seed)));
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Sends nothing until it is told to go on; returns when nothing is under way.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::SeqCst);
        while paused && !self.shared.still.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(2));
        }
    }

    /// Sends no more.
    ///
    /// # Errors
    /// When nothing at all could be sent.
    pub fn end(mut self) -> Result<()> {
        self.stop();
        let sent = self.shared.sent.load(Ordering::Relaxed);
        ensure!(sent > 0, "no batch could be sent again");
        Ok(())
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self, mut rng: Rng) {
        while !self.ended.load(Ordering::Relaxed) {
            self.still.store(true, Ordering::SeqCst);
            sleep(EVERY);
            self.still.store(false, Ordering::SeqCst);
            if self.paused.load(Ordering::SeqCst) {
                continue;
            }
            // What fails, as a node is away, may be there or not.
            if self.send(&mut rng).is_ok_and(|sent| sent) {
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.still.store(true, Ordering::SeqCst);
    }

    fn send(&self, rng: &mut Rng) -> Result<bool> {
        let partition = rng.u32(..self.partitions);
        let far = if rng.bool() { YOUNG } else { OLD };
        let back = rng.i64(1..=far);
        let end = self.logs.ends()[partition as usize];
        let Some(end) = end.filter(|end| *end > 0) else {
            return Ok(false);
        };
        let batch = self.logs.batch_at(partition, (end - back).max(0))?;
        self.logs.append(partition, &batch)?;
        Ok(true)
    }
}
