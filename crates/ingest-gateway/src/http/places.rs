//! All open connections: which of them are closed for their silence, and which one gives its
//! place to a new one when all places are taken.
//!
//! The rule: the one that has been without a request in work for longest; where there is none,
//! the one whose body comes slowest, if that is too slow; where there is none, nobody: the new one
//! waits. So who is silent never keeps out who is not, and no request in work is given up but one
//! that hardly comes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Spare};
use crate::telemetry;

/// How often silence is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A look at all connections finds places for this part of them, so that not each new connection
/// costs a look.
const PART_FOUND: usize = 64;
const FOUND_MIN: usize = 16;

#[derive(Debug, Default)]
pub struct Places(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Activity>>,
    /// Found at the last look, the most spare one first.
    spare: VecDeque<(Spare, Arc<Activity>)>,
}

/// One open connection; dropped, it is closed.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    id: u64,
    pub activity: Arc<Activity>,
}

impl Places {
    pub fn enter(self: &Arc<Self>, now: Instant) -> Place {
        let activity = Arc::new(Activity::new(now));
        let mut open = self.open();
        let id = open.next;
        open.next += 1;
        open.all.insert(id, Arc::clone(&activity));
        telemetry::connections(open.all.len());
        Place {
            places: Arc::clone(self),
            id,
            activity,
        }
    }

    /// Lets one connection give up its place; `false` where each is in use.
    pub fn make_room(&self, now: Instant) -> bool {
        let mut open = self.open();
        if open.spare.is_empty() {
            open.look(now);
        }
        while let Some((spare, activity)) = open.spare.pop_front() {
            if let Some(reason) = activity.give_up(spare, now) {
                telemetry::connection_ended(reason.as_str());
                return true;
            }
        }
        false
    }

    /// Tells those that are silent for too long, until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let now = Instant::now();
            for activity in self.open().all.values() {
                if let Some((_, reason)) = activity.due(now) {
                    telemetry::connection_ended(reason.as_str());
                }
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().expect("no panic under this lock")
    }
}

impl Open {
    fn look(&mut self, now: Instant) {
        let mut found: Vec<_> = self
            .all
            .values()
            .filter_map(|activity| Some((activity.spare(now)?, activity)))
            .collect();
        // The silent ones first, and of these the longest; then the slowest.
        found.sort_unstable_by_key(|(spare, _)| *spare);
        let most = (self.all.len() / PART_FOUND).max(FOUND_MIN);
        let found = found.into_iter().take(most);
        self.spare = found
            .map(|(spare, activity)| (spare, Arc::clone(activity)))
            .collect();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open();
        open.all.remove(&self.id);
        telemetry::connections(open.all.len());
    }
}
