//! What is on its way to each broker: so many writes at once, and no more.
//!
//! A broker that stands still so has its own writes, and those of others go on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::Notified};

/// A broker from which nothing has landed for so long, with writes on their way, stands still: a
/// hundred times what a write takes that goes well.
const STILL_AFTER: Duration = Duration::from_secs(1);

/// So many writes a broker works on side by side: while it has fewer, to wait for a fuller load
/// leaves it idle and adds nothing but delay. Measured with 16 clients and one broker on two cores:
/// with 1, a third of the machine stood idle; from 4 on, 5 to 8 % of it.
const EAGER_MAX: usize = kafka_link::PRODUCE_CONNECTIONS;

/// `None`: nobody knows who leads.
pub type Leader = Option<i32>;

#[derive(Debug)]
pub struct Flight {
    /// To one broker.
    writes_max: usize,
    aloft: Mutex<HashMap<Leader, Writes>>,
    landed: Notify,
}

/// On their way to one broker.
#[derive(Debug)]
struct Writes {
    count: usize,
    /// When the last one landed, or the first of these started.
    moved: Instant,
}

/// One write on its way; it has landed when this is dropped.
#[derive(Debug)]
pub struct Aloft {
    flight: Arc<Flight>,
    leader: Leader,
}

impl Flight {
    #[must_use]
    pub fn new(writes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            writes_max: writes_max.max(1),
            aloft: Mutex::default(),
            landed: Notify::new(),
        })
    }

    /// One more to this broker, unless as many are on their way there as may be.
    #[must_use]
    pub fn start(self: &Arc<Self>, leader: Leader) -> Option<Aloft> {
        let mut aloft = self.lock();
        let writes = aloft.entry(leader).or_insert_with(|| Writes {
            count: 0,
            moved: Instant::now(),
        });
        if writes.count >= self.writes_max {
            return None;
        }
        writes.count += 1;
        Some(Aloft {
            flight: Arc::clone(self),
            leader,
        })
    }

    #[must_use]
    pub fn writes_max(&self) -> usize {
        self.writes_max
    }

    /// Whether writes are on their way to this broker and none has landed for long.
    #[must_use]
    pub fn stands_still(&self, leader: Leader, now: Instant) -> bool {
        let aloft = self.lock();
        let writes = aloft.get(&leader);
        writes.is_some_and(|writes| now.saturating_duration_since(writes.moved) >= STILL_AFTER)
    }

    /// Made before a look, it ends also when something lands before it is awaited.
    pub fn landed(&self) -> Notified<'_> {
        self.landed.notified()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Leader, Writes>> {
        self.aloft.lock().expect("no panic under this lock")
    }
}

impl Aloft {
    /// The broker could work on it at once.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        let aloft = self.flight.lock();
        aloft
            .get(&self.leader)
            .is_some_and(|w| w.count <= EAGER_MAX)
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        let mut aloft = self.flight.lock();
        if let Some(writes) = aloft.get_mut(&self.leader) {
            writes.count -= 1;
            writes.moved = Instant::now();
            if writes.count == 0 {
                // Brokers come and go.
                aloft.remove(&self.leader);
            }
        }
        drop(aloft);
        self.flight.landed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broker_has_its_own_writes_and_no_more() {
        let flight = Flight::new(2);
        let first = flight.start(Some(1)).unwrap();
        let _second = flight.start(Some(1)).unwrap();
        assert!(flight.start(Some(1)).is_none());
        assert!(flight.start(Some(2)).is_some());
        drop(first);
        assert!(flight.start(Some(1)).is_some());
    }

    #[test]
    fn a_write_is_eager_while_its_broker_can_work_on_all_at_once() {
        let flight = Flight::new(EAGER_MAX + 1);
        let mut writes: Vec<_> = (0..EAGER_MAX)
            .map(|_| flight.start(Some(1)).unwrap())
            .collect();
        assert!(writes.iter().all(Aloft::is_eager));
        let one_more = flight.start(Some(1)).unwrap();
        assert!(!one_more.is_eager());
        assert!(flight.start(Some(2)).unwrap().is_eager(), "another broker");
        writes.pop();
        assert!(one_more.is_eager());
    }

    #[test]
    fn a_broker_stands_still_while_nothing_lands() {
        let flight = Flight::new(2);
        let before = Instant::now();
        assert!(!flight.stands_still(Some(1), before + STILL_AFTER));
        let first = flight.start(Some(1)).unwrap();
        let _second = flight.start(Some(1)).unwrap();
        let started = Instant::now();
        assert!(!flight.stands_still(Some(1), before));
        assert!(flight.stands_still(Some(1), started + STILL_AFTER));
        assert!(!flight.stands_still(Some(2), started + STILL_AFTER));
        drop(first);
        let moved = flight.lock()[&Some(1)].moved;
        assert!(moved >= started);
        assert!(!flight.stands_still(Some(1), moved + STILL_AFTER / 2));
    }
}
