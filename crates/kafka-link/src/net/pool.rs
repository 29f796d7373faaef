//! The connections of one [`Cluster`](crate::Cluster): by broker address and by lane.
//!
//! A broker works through the requests of one connection one after the other, so what may wait
//! has connections of its own: a long poll, a join. Everything here is bounded, and a connection
//! that failed is never handed out again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};

use super::{CallError, Limits, connection::Connection};

/// Brokers close what is idle for ten minutes (`connections.max.idle.ms`); a request that meets
/// that moment has an unknown outcome. So ours are given up long before.
const IDLE_MAX: Duration = Duration::from_secs(240);
/// Most connections of a lane for one request each, over all brokers. Each such lane has its own
/// share: no number of long polls keeps a member from joining.
pub(crate) const EXCLUSIVE_MAX: usize = 64;
/// Longest silence that one answer imposes. A broker that means more does not read meanwhile, and
/// says it again; a number that is wrong must not keep us from it for weeks.
const THROTTLE_MAX: Duration = Duration::from_secs(60);

/// Produce requests that one broker works on side by side: connections that we share among them.
pub const PRODUCE_CONNECTIONS: usize = 4;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Lane {
    /// Lookups and topics.
    Control,
    Produce,
    /// Heartbeats, commits, leaving.
    Group,
    /// One long poll at a time.
    Fetch,
    /// One join or sync at a time.
    Join,
}

impl Lane {
    /// Most connections that share the lane's requests.
    fn shared_max(self) -> usize {
        match self {
            Self::Produce => PRODUCE_CONNECTIONS,
            Self::Control | Self::Group | Self::Fetch | Self::Join => 1,
        }
    }
}

type Lanes = HashMap<(Arc<str>, Lane), Arc<LaneConnections>>;

pub(crate) struct Pool {
    limits: Limits,
    lanes: Mutex<Lanes>,
    fetches: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: Mutex::new(HashMap::new()),
            fetches: Arc::new(Semaphore::new(EXCLUSIVE_MAX)),
            others: Arc::new(Semaphore::new(EXCLUSIVE_MAX)),
        }
    }

    pub(crate) fn lane(&self, address: &Arc<str>, lane: Lane) -> Arc<LaneConnections> {
        let mut lanes = lock(&self.lanes);
        let entry = lanes.entry((Arc::clone(address), lane));
        let made = entry.or_insert_with(|| {
            Arc::new(LaneConnections {
                address: Arc::clone(address),
                shared_max: lane.shared_max(),
                limits: self.limits.clone(),
                exclusive: Arc::clone(match lane {
                    Lane::Fetch => &self.fetches,
                    _ => &self.others,
                }),
                opening: tokio::sync::Mutex::new(()),
                state: Mutex::new(LaneState::default()),
            })
        });
        Arc::clone(made)
    }

    /// Forgets the brokers that are not in `addresses`; what is on the way there goes on.
    pub(crate) fn keep_only(&self, addresses: &HashSet<Arc<str>>) {
        lock(&self.lanes).retain(|(address, _), _| addresses.contains(address));
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self) {
        for (_, lane) in lock(&self.lanes).drain() {
            lane.close_all("disconnected");
        }
    }
}

/// The connections to one broker for one lane.
pub(crate) struct LaneConnections {
    address: Arc<str>,
    shared_max: usize,
    limits: Limits,
    exclusive: Arc<Semaphore>,
    /// Held while a shared connection is opened, so that callers at once open one.
    opening: tokio::sync::Mutex<()>,
    state: Mutex<LaneState>,
}

#[derive(Default)]
struct LaneState {
    /// All shared ones, or the idle exclusive ones.
    open: Vec<Arc<Connection>>,
    /// The last attempt to open one that failed.
    failed: Option<(Instant, CallError)>,
    /// The broker asked for silence until then.
    throttled_until: Option<Instant>,
}

impl LaneConnections {
    /// A connection that others may be using too.
    pub(crate) async fn shared(&self, deadline: Instant) -> Result<Arc<Connection>, CallError> {
        let started = Instant::now();
        if let Some(connection) = self.pick_shared() {
            return Ok(connection);
        }
        let opening = match self.opening.try_lock() {
            Ok(opening) => opening,
            Err(_) => {
                if let Some(connection) = self.least_loaded() {
                    return Ok(connection);
                }
                timeout_at(deadline.into(), self.opening.lock())
                    .await
                    .map_err(|_| self.no_time())?
            }
        };
        if let Some(connection) = self.pick_shared() {
            return Ok(connection);
        }
        // Whoever waited for an attempt that failed does not make everyone behind wait for
        // another.
        if let Some((at, error)) = &self.lock().failed
            && *at >= started
        {
            return Err(error.clone());
        }
        let opened = self.open(deadline).await;
        drop(opening);
        let connection = Arc::new(opened?);
        self.lock().open.push(Arc::clone(&connection));
        Ok(connection)
    }

    /// A connection for one request alone.
    pub(crate) async fn exclusive(self: &Arc<Self>, deadline: Instant) -> Result<Lease, CallError> {
        let permit = timeout_at(deadline.into(), Arc::clone(&self.exclusive).acquire_owned())
            .await
            .map_err(|_| self.no_time())?
            .expect("the semaphore is never closed");
        let idle = {
            let mut state = self.lock();
            drop_unusable(&mut state.open);
            state.open.pop()
        };
        let connection = match idle {
            Some(connection) => connection,
            None => Arc::new(self.open(deadline).await?),
        };
        Ok(Lease {
            connection,
            home: Arc::clone(self),
            _permit: permit,
        })
    }

    /// The broker asked for no more requests for `time` (KIP-219).
    pub(crate) fn throttle(&self, time_ms: i32) {
        let Some(time_ms) = u64::try_from(time_ms).ok().filter(|time_ms| *time_ms > 0) else {
            return;
        };
        let until = Instant::now() + Duration::from_millis(time_ms).min(THROTTLE_MAX);
        let mut state = self.lock();
        state.throttled_until = Some(state.throttled_until.map_or(until, |was| was.max(until)));
    }

    /// Waits until the broker takes requests again.
    pub(crate) async fn wait_turn(&self, deadline: Instant) -> Result<(), CallError> {
        let until = self.lock().throttled_until;
        let Some(until) = until.filter(|until| *until > Instant::now()) else {
            return Ok(());
        };
        if until >= deadline {
            return Err(CallError::unsent(format!(
                "broker {} throttles us for another {:?}, longer than the call may take",
                self.address,
                until.saturating_duration_since(Instant::now()),
            )));
        }
        tokio::time::sleep_until(until.into()).await;
        Ok(())
    }

    fn close_all(&self, reason: &str) {
        for connection in self.lock().open.drain(..) {
            connection.close(reason);
        }
    }

    async fn open(&self, deadline: Instant) -> Result<Connection, CallError> {
        let opened = timeout_at(
            deadline.into(),
            Connection::open(&self.address, &self.limits),
        )
        .await
        .unwrap_or_else(|_| Err(self.no_time()));
        let failed = opened.as_ref().err().cloned();
        self.lock().failed = failed.map(|error| (Instant::now(), error));
        opened
    }

    /// An idle connection, or the least loaded one where there may be no more.
    fn pick_shared(&self) -> Option<Arc<Connection>> {
        let best = self.least_loaded()?;
        let may_grow = self.lock().open.len() < self.shared_max;
        (best.in_flight() == 0 || !may_grow).then_some(best)
    }

    fn least_loaded(&self) -> Option<Arc<Connection>> {
        let mut state = self.lock();
        drop_unusable(&mut state.open);
        let best = state
            .open
            .iter()
            .min_by_key(|connection| connection.in_flight());
        best.cloned()
    }

    fn no_time(&self) -> CallError {
        CallError::unsent(format!("no time left to connect to {}", self.address))
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        lock(&self.state)
    }
}

/// A connection that one request has to itself. Dropped before [`finish`](Self::finish), it takes
/// the connection along, and so closes it: an answer nobody waits for may be on its way.
pub(crate) struct Lease {
    connection: Arc<Connection>,
    home: Arc<LaneConnections>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn home(&self) -> &LaneConnections {
        &self.home
    }

    /// Its request has its answer: the next may use it.
    pub(crate) fn finish(self) {
        if !self.connection.is_closed() {
            self.home.lock().open.push(Arc::clone(&self.connection));
        }
    }
}

fn drop_unusable(open: &mut Vec<Arc<Connection>>) {
    open.retain(|connection| {
        !connection.is_spent() && (connection.in_flight() > 0 || connection.idle_for() < IDLE_MAX)
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_silences_us_for_longer_than_a_bound() {
        let pool = Pool::new(Limits {
            client_id: "test".to_owned(),
            connect_timeout: Duration::ZERO,
            files_age_max: Duration::MAX,
            response_bytes_max: 0,
            security: Arc::default(),
        });
        let lane = pool.lane(&"a:1".into(), Lane::Produce);
        lane.throttle(i32::MAX);
        let until = lane.lock().throttled_until.unwrap();
        assert!(until <= Instant::now() + THROTTLE_MAX);
        // One that asks for less does not cut short what was asked for before.
        lane.throttle(1);
        assert_eq!(lane.lock().throttled_until, Some(until));
    }
}
