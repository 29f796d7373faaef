//! What is on its way to each broker: so many writes at once, and no more.
//!
//! A broker that stands still so has its own writes, and those of others go on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{Notify, futures::Notified};

/// `None`: nobody knows who leads.
pub type Leader = Option<i32>;

#[derive(Debug)]
pub struct Flight {
    /// To one broker.
    writes_max: usize,
    aloft: Mutex<HashMap<Leader, usize>>,
    landed: Notify,
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
        let writes = aloft.entry(leader).or_default();
        if *writes >= self.writes_max {
            return None;
        }
        *writes += 1;
        Some(Aloft {
            flight: Arc::clone(self),
            leader,
        })
    }

    #[must_use]
    pub fn writes_max(&self) -> usize {
        self.writes_max
    }

    /// Made before a look, it ends also when something lands before it is awaited.
    pub fn landed(&self) -> Notified<'_> {
        self.landed.notified()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Leader, usize>> {
        self.aloft.lock().expect("no panic under this lock")
    }
}

impl Aloft {
    /// Nothing else is on its way to this broker.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.flight.lock().get(&self.leader) == Some(&1)
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        let mut aloft = self.flight.lock();
        if let Some(writes) = aloft.get_mut(&self.leader) {
            *writes -= 1;
            if *writes == 0 {
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
        assert!(first.is_alone());
        let second = flight.start(Some(1)).unwrap();
        assert!(!first.is_alone());
        assert!(flight.start(Some(1)).is_none());
        assert!(flight.start(Some(2)).unwrap().is_alone());
        drop(first);
        assert!(second.is_alone());
        assert!(flight.start(Some(1)).is_some());
    }
}
