//! Segments are linked for the oracle while the aggregator removes them: long before each may go.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::store::Store;

const EVERY: Duration = Duration::from_millis(200);

/// A thread that links.
pub struct Kept {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    store: Mutex<Store>,
    fault: Mutex<Option<String>>,
    ended: AtomicBool,
}

impl Kept {
    /// Of one that keeps ([`Store::keeping`]).
    pub fn start(store: Store) -> Self {
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            fault: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let keeps = Arc::clone(&shared);
        let thread = spawn(move || keeps.run());
        Self {
            shared,
            thread: Some(thread),
        }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.shared.store)
    }

    /// # Errors
    /// When a segment has gone away that was not to be removed.
    pub fn check(&self) -> Result<()> {
        match &*lock(&self.shared.fault) {
            Some(fault) => bail!("{fault}"),
            None => Ok(()),
        }
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// As [`Kept::check`].
    pub fn end(mut self) -> Result<Store> {
        self.stop();
        self.check()?;
        let shared = Arc::clone(&self.shared);
        drop(self);
        let shared = Arc::into_inner(shared).context("the thread has ended")?;
        Ok(shared
            .store
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner))
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            if let Err(error) = lock(&self.store).keep() {
                *lock(&self.fault) = Some(format!("{error:#}"));
                return;
            }
            sleep(EVERY);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
