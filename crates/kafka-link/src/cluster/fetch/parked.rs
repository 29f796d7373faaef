//! Fetches on the way that nobody waits for at the moment.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use kafka_protocol::messages::FetchRequest;
use pipeline_core::{Offset, PartitionId};

use crate::{
    TopicId,
    net::{EXCLUSIVE_MAX, Lease, Pending},
};

/// Most of them at a time. Each has a permit of its lane, of which others need some.
const PARKED_MAX: usize = EXCLUSIVE_MAX / 2;

/// Who is asked for what.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Question {
    pub topic: Arc<str>,
    pub topic_id: Option<TopicId>,
    pub leader: Arc<str>,
    /// By partition.
    pub from: Vec<(PartitionId, Offset)>,
}

/// A request on the way.
pub(super) struct Flight {
    pub pending: Pending<FetchRequest>,
    pub lease: Lease,
    /// The first partition of the request: the only one a broker promises a whole batch of.
    pub first: Option<PartitionId>,
    pub deadline: Instant,
    pub expires: Instant,
}

#[derive(Default)]
pub(in crate::cluster) struct Parked {
    flights: Mutex<HashMap<Question, Flight>>,
    /// Moves the order of partitions on with each request.
    turns: AtomicUsize,
}

impl Parked {
    pub(in crate::cluster) fn clear(&self) {
        let flights = mem::take(&mut *self.lock());
        drop(flights);
    }

    pub(super) fn take(&self, question: &Question) -> Option<Flight> {
        let flight = self.lock().remove(question)?;
        (!flight.lease.connection().is_closed()).then_some(flight)
    }

    /// Drops what has expired.
    pub(super) fn purge(&self) {
        let now = Instant::now();
        self.lock().retain(|_, flight| flight.expires > now);
    }

    /// Which of `count` partitions comes first in the next request: each has its turn, as the
    /// room in an answer goes to partitions in their order.
    pub(super) fn turn(&self, count: usize) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed) % count.max(1)
    }

    fn put(&self, question: Question, flight: Flight) {
        self.purge();
        let mut flights = self.lock();
        if flights.len() >= PARKED_MAX {
            let oldest = flights.iter().min_by_key(|(_, flight)| flight.expires);
            if let Some(oldest) = oldest.map(|(question, _)| question.clone()) {
                flights.remove(&oldest);
            }
        }
        flights.insert(question, flight);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, Flight>> {
        self.flights
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

/// Parks the flight when its waiter goes away.
pub(super) struct Watched<'a> {
    pub parked: &'a Parked,
    pub question: Question,
    pub flight: Option<Flight>,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.parked.put(self.question.clone(), flight);
        }
    }
}
