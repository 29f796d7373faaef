//! The aggregator's books at every scrape, through all of its lives: what it has read is counted or
//! set aside, and never less than before.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::metrics::Metrics;

const SCRAPE_EVERY: Duration = Duration::from_millis(20);

/// A thread that scrapes.
pub struct Books {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    scrapes: AtomicU64,
    runs: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl Books {
    pub fn watch(aggregator: SocketAddr) -> Self {
        let shared = Arc::<Shared>::default();
        let watched = Arc::clone(&shared);
        let thread = spawn(move || watched.run(aggregator));
        Self {
            shared,
            thread: Some(thread),
        }
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

    /// Ends the thread; gives how often the books were compared, and in how many runs at least.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn end(mut self) -> Result<(u64, u64)> {
        self.stop();
        self.check()?;
        let [scrapes, runs] = [&self.shared.scrapes, &self.shared.runs];
        Ok((
            scrapes.load(Ordering::Relaxed),
            runs.load(Ordering::Relaxed),
        ))
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
    fn run(&self, aggregator: SocketAddr) {
        let mut before = 0.0;
        let mut runs = 0.0;
        while !self.ended.load(Ordering::Relaxed) {
            sleep(SCRAPE_EVERY);
            // It is dead now and then.
            let Ok(metrics) = Metrics::scrape(aggregator) else {
                continue;
            };
            let Some(counts) = counts(&metrics) else {
                continue;
            };
            if let Some(now) = metrics.sum("aggregation_runs_total") {
                // Fewer: a new life.
                let more = if now < runs { now } else { now - runs };
                self.runs.fetch_add(more as u64, Ordering::Relaxed);
                runs = now;
            }
            if let Some(fault) = fault(before, &counts) {
                let mut known = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
                known.get_or_insert(fault);
            }
            if counts[0] > 0.0 {
                before = counts[0];
            }
            self.scrapes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Read, counted, set aside.
fn counts(metrics: &Metrics) -> Option<[f64; 3]> {
    let of = |name: &str| metrics.sum(&format!("aggregation_{name}_records"));
    Some([of("read")?, of("counted")?, of("set_aside")?])
}

/// What of it does not hold. One that has only just begun has read nothing yet.
fn fault(before: f64, [read, counted, aside]: &[f64; 3]) -> Option<String> {
    if *read != counted + aside {
        return Some(format!("{read} read, {counted} counted, {aside} set aside"));
    }
    (*read > 0.0 && *read < before).then(|| format!("{read} read, it were {before} before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_counted_or_aside_and_no_less_than_before() {
        assert_eq!(fault(9.0, &[10.0, 8.0, 2.0]), None);
        assert_eq!(fault(9.0, &[0.0, 0.0, 0.0]), None);
        assert!(fault(9.0, &[10.0, 8.0, 1.0]).is_some());
        assert!(fault(11.0, &[10.0, 8.0, 2.0]).is_some());
    }
}
