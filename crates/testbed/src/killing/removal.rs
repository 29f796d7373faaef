//! Removal behind the writers while they run and die: what the aggregator asks for of a real store,
//! done again and again by a process that is itself ended at seeded steps.
//!
//! Only what the oracle has read and kept, and what `aggregator --once` has counted, is removed.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;

use super::{
    KILL_AT,
    schedule::{self, Point},
};
use crate::{
    process::Process,
    service::run_to_end,
    stand::Stand,
    store::{Store, kept, newest},
};

const WITHIN: Duration = Duration::from_secs(60);

/// A thread that removes.
pub struct Removal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// How often it ended at each point.
    pub hits: BTreeMap<Point, u32>,
    /// How often it did all of its work.
    pub whole: u32,
}

struct Shared {
    seed: u64,
    remover: PathBuf,
    /// Program and configuration.
    aggregator: (PathBuf, PathBuf),
    dir: PathBuf,
    logs_dir: PathBuf,
    topic: String,
    store: Arc<Mutex<Store>>,
    ended: AtomicBool,
    whole: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hits: BTreeMap<Point, u32>,
    fault: Option<anyhow::Error>,
}

impl Removal {
    /// Begins; every segment that goes is in `store` before.
    pub fn start(seed: u64, remover: PathBuf, stand: &Stand, store: &Arc<Mutex<Store>>) -> Self {
        let aggregator = &stand.aggregator;
        let shared = Arc::new(Shared {
            seed,
            remover,
            aggregator: (aggregator.binary.clone(), aggregator.config.clone()),
            dir: stand.dir.clone(),
            logs_dir: stand.logs_dir(),
            topic: stand.plan.topic.clone(),
            store: Arc::clone(store),
            ended: AtomicBool::new(false),
            whole: AtomicU32::new(0),
            state: Mutex::default(),
        });
        let runs = Arc::clone(&shared);
        let thread = spawn(move || {
            if let Err(fault) = runs.run() {
                runs.state().fault = Some(fault);
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// # Errors
    /// When a removal, or a run of the aggregator, has failed.
    pub fn check(&self) -> Result<()> {
        match &self.shared.state().fault {
            Some(fault) => Err(anyhow!("{fault:#}")).context("removal behind the writers"),
            None => Ok(()),
        }
    }

    /// Lets the one that runs end, and says what all have done.
    ///
    /// # Errors
    /// As [`Removal::check`].
    pub fn end(mut self) -> Result<Removed> {
        self.stop();
        self.check()?;
        Ok(Removed {
            hits: std::mem::take(&mut self.shared.state().hits),
            whole: self.shared.whole.load(Ordering::Relaxed),
        })
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) -> Result<()> {
        for number in 1.. {
            if self.ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            let pass = schedule::pass(self.seed, number);
            let done = self.pass(pass.hit.as_ref());
            done.with_context(|| format!("removal {number}, {:?}", pass.hit))?;
            sleep(Duration::from_millis(pass.pause_ms));
        }
        Ok(())
    }

    fn pass(&self, hit: Option<&schedule::Hit>) -> Result<()> {
        let read = {
            let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            store.refresh()?;
            newest(store.topic())?
        };
        let (binary, config) = &self.aggregator;
        let mut counted = Command::new(binary);
        counted.arg("--config").arg(config).arg("--once");
        let log = self.dir.join("services/aggregator-once.log");
        run_to_end(counted, "aggregator --once", &log)?;

        let mut command = Command::new(&self.remover);
        command.arg(&self.logs_dir).arg(&self.topic);
        // The last one that was read is the first to stay.
        command.args(read.iter().map(|(partition, last)| {
            let first = kept::first_offset(last);
            format!("{partition}={first}")
        }));
        if let Some(hit) = hit {
            command.env(KILL_AT, hit.at());
        }
        let log = self.dir.join("services/remover.log");
        let mut process = Process::spawn(command, "remover", &log)?;
        let status = process.wait(WITHIN)?;
        match hit {
            Some(hit) if status.signal() == Some(Signal::KILL.as_raw()) => {
                *self.state().hits.entry(hit.point).or_default() += 1;
            }
            _ if status.success() => {
                self.whole.fetch_add(1, Ordering::Relaxed);
            }
            _ => bail!("it ended with {status}\n{}", process.log_tail(20)),
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
