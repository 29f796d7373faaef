//! The books, held against each other at every scrape while the writer dies and comes back: what
//! the gateway has accepted is at no moment more than what the chains count, what is not yet read,
//! and what waits in the producer DLQ.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::metrics::Metrics;

const SCRAPE_EVERY: Duration = Duration::from_millis(200);
/// A writer asks for the logs' ends every second or so: the left side is so much older.
const OLDER: Duration = Duration::from_secs(3);

/// A thread that scrapes.
pub struct Books {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    paused: AtomicBool,
    scrapes: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl Books {
    pub fn watch(gateway: SocketAddr, writer: SocketAddr, partitions: u32) -> Self {
        let shared = Arc::<Shared>::default();
        let watched = Arc::clone(&shared);
        let thread = spawn(move || watched.run(gateway, writer, partitions));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// No comparison while more than one writer has partitions, or one sleeps: a part of the right
    /// side would be missing, or older than the left one.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::Relaxed);
    }

    /// # Errors
    /// When the books have not held.
    pub fn check(&self) -> Result<()> {
        let fault = self.shared.fault.lock();
        match &*fault.unwrap_or_else(PoisonError::into_inner) {
            Some(fault) => bail!("the books do not hold: {fault}"),
            None => Ok(()),
        }
    }

    /// Ends the thread; gives how often the books were compared.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn end(mut self) -> Result<u64> {
        self.stop();
        self.check()?;
        Ok(self.shared.scrapes.load(Ordering::Relaxed))
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self, gateway: SocketAddr, writer: SocketAddr, partitions: u32) {
        let mut accepted: Vec<(Instant, f64)> = Vec::new();
        while !self.ended.load(Ordering::Relaxed) {
            sleep(SCRAPE_EVERY);
            let Ok(metrics) = Metrics::scrape(gateway) else {
                continue;
            };
            let now = Instant::now();
            let Some(waiting) = metrics.sum("producer_dlq_records") else {
                continue;
            };
            if let Some(total) = metrics.sum("log_records_accepted_total") {
                accepted.push((now, total));
            }
            let old = accepted.partition_point(|(at, _)| *at + OLDER <= now);
            let Some((_, left)) = old.checked_sub(1).map(|at| accepted[at]) else {
                continue;
            };
            accepted.drain(..old - 1);
            // Most of the time the writer is dead or has not looked at all logs yet.
            let Some(right) = Metrics::scrape(writer)
                .ok()
                .and_then(|metrics| right_side(&metrics, partitions))
                .filter(|_| !self.paused.load(Ordering::Relaxed))
            else {
                continue;
            };
            self.scrapes.fetch_add(1, Ordering::Relaxed);
            if left > right + waiting {
                let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
                fault.get_or_insert(format!(
                    "{left} accepted, but {right} in the chains or not yet read, and {waiting} in \
                     the producer DLQ"
                ));
            }
        }
    }
}

/// `None` where the lag of some partition is not known.
fn right_side(metrics: &Metrics, partitions: u32) -> Option<f64> {
    let mut sum = 0.0;
    for fate in ["stored", "duplicate", "poison", "undecidable", "lost"] {
        sum += metrics.with("store_chain_records", &format!("fate=\"{fate}\""))?;
    }
    for partition in 0..partitions {
        let label = format!("partition=\"{partition}\"");
        sum += metrics.with("consumer_lag_records", &label)?;
    }
    Some(sum)
}
