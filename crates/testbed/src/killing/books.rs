//! The books, held against each other at every scrape while writers die, sleep and come back.
//!
//! ```text
//! scrape: gateways, logs' ends (kept for a while: a look may speak of older ones) ─▶ writers
//! judge (pure, `equations`): what one look must fulfil
//! ```
//!
//! Asked are the writers that run and are not stopped: what a stopped one has held another takes over,
//! and has found in the store when it started.

mod equations;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use self::equations::{Before, Look, Seen, Writers};
use crate::{kafka::logs::Logs, metrics::Metrics, stand::Stand, store::Store};

const SCRAPE_EVERY: Duration = Duration::from_millis(200);
/// How long the left sides are kept: the logs' ends that a look speaks of may be so old.
const KEPT: Duration = Duration::from_secs(30);
/// How long a log may be without a leader.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A thread that scrapes.
pub struct Books {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How often the books were compared.
#[derive(Clone, Copy, Default, Debug)]
pub struct Scrapes {
    /// With every term known.
    pub whole: u64,
    /// With the lag of some partition not known yet.
    pub without_lag: u64,
    /// Of both, while a writer was stopped or had just been woken.
    pub beside_a_sleeper: u64,
}

struct Shared {
    gateways: Vec<SocketAddr>,
    logs: Logs,
    partitions: u32,
    store: Arc<Mutex<Store>>,
    ended: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that run and are not stopped.
    writers: Vec<SocketAddr>,
    beside_a_sleeper: bool,
    scrapes: Scrapes,
    fault: Option<String>,
}

impl Books {
    /// # Errors
    /// When the brokers' addresses are none.
    pub fn watch(stand: &Stand, store: &Arc<Mutex<Store>>) -> Result<Self> {
        let partitions = stand.plan.partitions;
        let shared = Arc::new(Shared {
            gateways: stand.gateways.iter().map(|it| it.admin).collect(),
            logs: Logs::new(&stand.kafka(), &stand.plan.topic, partitions)?,
            partitions,
            store: Arc::clone(store),
            ended: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let watched = Arc::clone(&shared);
        let thread = spawn(move || watched.run());
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// From now on these run and are not stopped; no look that has begun before counts.
    pub fn ask(&self, writers: &[SocketAddr], beside_a_sleeper: bool) {
        let mut state = self.shared.state();
        state.writers = writers.to_vec();
        state.beside_a_sleeper = beside_a_sleeper;
    }

    /// # Errors
    /// When the books have not held.
    pub fn check(&self) -> Result<()> {
        match &self.shared.state().fault {
            Some(fault) => bail!("the books do not hold: {fault}"),
            None => Ok(()),
        }
    }

    /// Ends the thread; gives how often the books were compared.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn end(mut self) -> Result<Scrapes> {
        self.stop();
        self.check()?;
        Ok(self.shared.state().scrapes)
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
    fn run(&self) {
        let mut past: VecDeque<(Instant, Before)> = VecDeque::new();
        let mut seen = Seen::default();
        while !self.ended.load(Ordering::Relaxed) {
            sleep(SCRAPE_EVERY);
            let Some((accepted, waiting)) = self.gateways() else {
                continue;
            };
            seen.logs(&self.logs.ends());
            let now = Instant::now();
            past.push_back((
                now,
                Before {
                    accepted,
                    waiting,
                    in_logs: seen.in_logs(),
                },
            ));
            while past.front().is_some_and(|(at, _)| *at + KEPT < now) {
                past.pop_front();
            }
            if let Some(whole) = self.look(&mut seen, &past) {
                self.count(whole);
            }
        }
    }

    /// What they have accepted, and what waits in their queues.
    fn gateways(&self) -> Option<(f64, f64)> {
        let (mut accepted, mut waiting) = (0.0, 0.0);
        for gateway in &self.gateways {
            let metrics = Metrics::scrape(*gateway).ok()?;
            accepted += metrics.sum("log_records_accepted_total")?;
            waiting += metrics.sum("producer_dlq_records")?;
        }
        Some((accepted, waiting))
    }

    /// Whether every term was known; `None` where nobody was there to be looked at.
    fn look(&self, seen: &mut Seen, past: &VecDeque<(Instant, Before)>) -> Option<bool> {
        // It may be read just now; what was there before is there still.
        if let Ok(store) = self.store.try_lock() {
            seen.stored_at_least(store.lines());
        }
        let asked = self.state().writers.clone();
        let begun = Instant::now();
        let scraped: Result<Vec<Metrics>> = asked.iter().map(|it| Metrics::scrape(*it)).collect();
        let scraped = scraped.ok().filter(|scraped| !scraped.is_empty())?;
        let look = match Writers::read(&scraped, self.partitions) {
            Ok(writers) => Look { writers },
            Err(fault) => {
                self.fault(fault);
                return None;
            }
        };
        let mut older = past.iter().rev();
        let before = older.find(|(at, _)| *at + look.writers.age <= begun);
        let (_, before) = before?;
        // What the writers know of may be younger than what was asked before. Of a log that nobody
        // leads it is asked until somebody does.
        let looked = Instant::now();
        loop {
            let ends = self.logs.ends();
            seen.logs(&ends);
            let known = ends.iter().all(Option::is_some);
            if known || look.is_covered(seen) || looked.elapsed() > END_WITHIN {
                break;
            }
        }
        // One was killed, or stopped, meanwhile.
        if self.state().writers != asked {
            return None;
        }
        match look.judge(seen, before) {
            Ok(()) => Some(look.writers.knows_all_lags()),
            Err(fault) => {
                self.fault(format!("{fault} ({look:?}, {before:?}, {seen:?})"));
                None
            }
        }
    }

    fn count(&self, whole: bool) {
        let mut state = self.state();
        let beside = u64::from(state.beside_a_sleeper);
        let scrapes = &mut state.scrapes;
        scrapes.whole += u64::from(whole);
        scrapes.without_lag += u64::from(!whole);
        scrapes.beside_a_sleeper += beside;
    }

    fn fault(&self, fault: String) {
        self.state().fault.get_or_insert(fault);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
