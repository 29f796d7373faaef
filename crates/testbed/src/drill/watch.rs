//! Looks at Prometheus' alerts all the while, and remembers what it has seen of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    process::poll_until,
    prometheus::{Alert, alerts},
};

/// Those on disks of the drill's own.
const OUR_VOLUMES: [&str; 2] = ["volume=store", "volume=analytics"];
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A thread that looks. It ends with its value.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Of the last look.
    now: Vec<Alert>,
    looks: u64,
    /// By name and labels, when it was last seen firing.
    last: BTreeMap<(String, String), Instant>,
}

impl Watch {
    pub fn start(prometheus: SocketAddr) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let end = Arc::<AtomicBool>::default();
        let (of_thread, ends) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                // One that does not answer has nothing new to say; whoever waits runs into a bound.
                if let Ok(found) = alerts(prometheus) {
                    let mut seen = lock(&of_thread);
                    for alert in found.iter().filter(|alert| alert.firing) {
                        let of = (alert.name.clone(), alert.shown.clone());
                        seen.last.insert(of, Instant::now());
                    }
                    seen.now = found;
                    seen.looks += 1;
                }
                sleep(LOOK_EVERY);
            }
        });
        Self {
            seen,
            end,
            thread: Some(thread),
        }
    }

    /// Whether one whose labels have this in them fires now.
    pub fn fires(&self, alert: &str, label: &str) -> bool {
        let seen = lock(&self.seen);
        let mut firing = seen.now.iter().filter(|it| it.firing && it.name == alert);
        firing.any(|it| it.shown.contains(label))
    }

    /// All that fire now.
    pub fn firing(&self) -> Vec<String> {
        let seen = lock(&self.seen);
        let firing = seen.now.iter().filter(|it| it.firing);
        firing.map(|it| it.shown.clone()).collect()
    }

    /// When it was last seen firing.
    pub fn last(&self, alert: &str, label: &str) -> Option<Instant> {
        let seen = lock(&self.seen);
        let of_it = seen.last.iter();
        let of_it = of_it.filter(|((name, shown), _)| name == alert && shown.contains(label));
        of_it.map(|(_, at)| *at).max()
    }

    /// Names of all that have ever fired.
    pub fn ever(&self) -> Vec<String> {
        let seen = lock(&self.seen);
        let names: BTreeSet<_> = seen.last.keys().map(|(name, _)| name).collect();
        names.into_iter().cloned().collect()
    }

    /// Waits until nothing fires but what the machine's own disk is to blame for. Returns what
    /// still does.
    pub fn quiet(&self, within: Duration) -> Vec<String> {
        let of_drill = || {
            let mut firing = self.firing();
            let ours = |it: &str| OUR_VOLUMES.iter().any(|volume| it.contains(volume));
            firing.retain(|it| !it.contains("volume=") || ours(it));
            firing
        };
        // What is left is the answer, in time or not.
        let _ = poll_until(within, || Ok(of_drill().is_empty().then_some(())));
        of_drill()
    }

    /// Waits until it fires, or does no more.
    ///
    /// # Errors
    /// When that takes longer; what fires instead is in the error.
    pub fn wait(&self, alert: &str, label: &str, fires: bool, within: Duration) -> Result<()> {
        let before = lock(&self.seen).looks;
        let came = poll_until(within, || {
            let fresh = lock(&self.seen).looks > before;
            Ok((fresh && self.fires(alert, label) == fires).then_some(()))
        })?;
        if came.is_none() {
            let wanted = if fires {
                "does not fire"
            } else {
                "still fires"
            };
            let seen = lock(&self.seen);
            let now: Vec<_> = seen.now.iter().map(|it| (&it.shown, it.firing)).collect();
            bail!("{alert} {label} {wanted} after {within:?}; alerts: {now:?}");
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
