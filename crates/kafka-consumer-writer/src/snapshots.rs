//! When the duplicate window of a partition is written beside its chain, and by whom: a task of
//! the process, apart from all saves, which reads the chain as a take-over does. So nothing waits
//! for a snapshot, and each one proves that the chain up to it can be read; where it cannot, the
//! partition's session takes it over anew, and halts it if that is so.
//!
//! [`Backlog`] decides, purely; [`keep`] acts. A partition has one snapshot on its way at most, and
//! one that hangs holds up no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use metrics::counter;
use pipeline_core::{
    PartitionId,
    store::{Chain, ChainFault},
    telemetry::catalog::{self, label},
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

use crate::{load, shared::Shared};

/// So many segments behind the last snapshot and the next one is due: what a take-over reads.
pub const SEGMENTS_MAX: u64 = 256;
/// A snapshot is due so long after the first segment behind the last one, plus the time in which
/// the last one's bytes pass at this rate: on a quiet partition a large window is written seldom.
const AGE: Duration = Duration::from_secs(5);
const AGE_BYTES_PER_SECOND: u64 = 64 << 10;
/// After a failure, or a chain that cannot be read.
const REST: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(500);
/// So many may hang, each with a window in memory; then the others wait for them.
const AT_ONCE_MAX: usize = 4;
/// Of its time, the task works at most one part in so many (and rests at most so long).
const DUTY: u32 = 5;
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the partitions of this process have in their chains and not in a snapshot.
#[derive(Debug, Default)]
pub struct Snapshots(Mutex<Backlog>);

/// See [`Snapshots`].
#[derive(Debug, Default)]
pub struct Backlog {
    partitions: BTreeMap<PartitionId, Behind>,
    /// On their way, also of partitions that were let go meanwhile.
    making: BTreeSet<PartitionId>,
    /// Their chains did not hold together when they were read.
    doubtful: BTreeSet<PartitionId>,
}

#[derive(Debug, Default)]
struct Behind {
    segments: u64,
    /// When the first of them was stored, or found.
    since: Option<Instant>,
    /// Bytes of the last snapshot.
    bytes: u64,
    not_before: Option<Instant>,
}

impl Backlog {
    /// The partition's chain has been read, with so many segments behind its snapshot.
    pub fn taken(&mut self, partition: PartitionId, behind: u64, now: Instant) {
        let segments = behind;
        let since = (segments > 0).then_some(now);
        let behind = Behind {
            segments,
            since,
            ..Behind::default()
        };
        self.partitions.insert(partition, behind);
    }

    pub fn let_go(&mut self, partition: PartitionId) {
        self.partitions.remove(&partition);
        self.doubtful.remove(&partition);
    }

    /// One more segment is in the chain.
    pub fn landed(&mut self, partition: PartitionId, now: Instant) {
        if let Some(behind) = self.partitions.get_mut(&partition) {
            behind.segments += 1;
            behind.since.get_or_insert(now);
        }
    }

    /// The partition that needs a snapshot most, and how many segments it is behind.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<(PartitionId, u64)> {
        self.partitions
            .iter()
            .filter(|(partition, behind)| behind.is_due(now) && !self.making.contains(partition))
            .map(|(partition, behind)| (*partition, behind.segments))
            .max_by_key(|(_, segments)| *segments)
    }

    /// What is due is on its way.
    pub fn begin(&mut self, now: Instant) -> Option<(PartitionId, u64)> {
        let due = self.due(now)?;
        self.making.insert(due.0);
        Some(due)
    }

    /// Partitions whose chains have to be judged anew.
    pub fn take_doubtful(
        &mut self,
        mut ours: impl FnMut(&PartitionId) -> bool,
    ) -> Vec<PartitionId> {
        self.doubtful
            .extract_if(.., |partition| ours(partition))
            .collect()
    }

    /// A snapshot of `bytes` covers `segments` of those that were behind.
    pub fn made(&mut self, partition: PartitionId, segments: u64, bytes: u64, now: Instant) {
        self.making.remove(&partition);
        if let Some(behind) = self.partitions.get_mut(&partition) {
            behind.segments = behind.segments.saturating_sub(segments);
            behind.since = (behind.segments > 0).then_some(now);
            behind.bytes = bytes;
            behind.not_before = None;
        }
    }

    /// It could not be made; `doubtful`: as the chain does not hold together.
    pub fn failed(&mut self, partition: PartitionId, doubtful: bool, now: Instant) {
        self.making.remove(&partition);
        if let Some(behind) = self.partitions.get_mut(&partition) {
            behind.not_before = Some(now + REST);
            if doubtful {
                self.doubtful.insert(partition);
            }
        }
    }
}

impl Behind {
    fn is_due(&self, now: Instant) -> bool {
        let age = AGE + Duration::from_secs(self.bytes / AGE_BYTES_PER_SECOND);
        let old = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) >= age);
        let rests = self.not_before.is_some_and(|at| now < at);
        !rests && self.segments > 0 && (old || self.segments >= SEGMENTS_MAX)
    }
}

impl Snapshots {
    pub fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.0.lock().expect("no panic under this lock")
    }
}

/// Writes what is due until it is dropped, one after the other; one that takes too long is left to
/// itself, and few of those are at work at once.
pub async fn keep(shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let mut making = JoinSet::new();
    loop {
        tokio::time::sleep(TICK).await;
        loop {
            while let Some(ended) = making.try_join_next() {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            let place = places.clone().acquire_owned().await;
            let place = place.expect("nobody closes the semaphore");
            let Some((partition, segments)) = shared.snapshots.lock().begin(Instant::now()) else {
                break;
            };
            let started = Instant::now();
            let (done, ended) = oneshot::channel::<()>();
            let one = make_one(shared.clone(), partition, segments);
            making.spawn(async move {
                one.await;
                drop((place, done));
            });
            let patience = shared.settings.persist_timeout;
            // Closed when it has ended.
            if tokio::time::timeout(patience, ended).await.is_err() {
                tracing::error!(
                    topic = shared.topic,
                    %partition,
                    "a snapshot of the duplicate window is not written within {patience:?}: the \
                     disk hangs or is slow; going on with the others"
                );
            }
            let pause = (started.elapsed() * (DUTY - 1)).min(PAUSE_MAX);
            tokio::time::sleep(pause).await;
        }
    }
}

async fn make_one(shared: Arc<Shared>, partition: PartitionId, segments: u64) {
    if shared.scrub.lock().doubted(partition).is_some() {
        // Not over damage: a repair goes on from one that ends before it.
        let now = Instant::now();
        shared.snapshots.lock().failed(partition, false, now);
        return;
    }
    let chain = shared.store.chain(&shared.topic, partition);
    let batches_max = shared.dedup_max_batches;
    let made = tokio::task::spawn_blocking(move || make(&chain, batches_max)).await;
    let made = match made {
        Ok(made) => made,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime ends.
        Err(_) => return,
    };
    let now = Instant::now();
    let outcome = match &made {
        Ok(_) => "written",
        Err(error) => {
            tracing::error!(
                topic = shared.topic,
                %partition,
                %error,
                "failed to write a snapshot of the duplicate window"
            );
            "failed"
        }
    };
    counter!(catalog::STORE_SNAPSHOTS, label::OUTCOME => outcome).increment(1);
    let mut backlog = shared.snapshots.lock();
    match made {
        Ok(bytes) => backlog.made(partition, segments, bytes, now),
        Err(fault) => backlog.failed(partition, !matches!(fault, ChainFault::Io(_)), now),
    }
}

/// Reads the chain and puts a snapshot of what it holds; gives its length. Blocks.
///
/// # Errors
/// The first fault met: of the chain, or of the disk.
pub fn make(chain: &Chain, batches_max: usize) -> Result<u64, ChainFault> {
    let Some(loaded) = load::load(chain, batches_max)? else {
        return Ok(0);
    };
    if loaded.behind == 0 {
        return Ok(0);
    }
    let memory = loaded.memory;
    let snapshot = memory.window.save(&memory.end, loaded.names);
    drop(memory);
    if !chain.put_snapshot(&snapshot)? {
        return Err(ChainFault::Missing {
            path: chain.segment_path(snapshot.last.first),
            detail: "the chain was cut while a snapshot of it was made".to_owned(),
        });
    }
    Ok(snapshot.bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(1);

    #[test]
    fn a_snapshot_is_due_after_many_segments_or_some_time() {
        let mut backlog = Backlog::default();
        let now = Instant::now();
        backlog.landed(P, now);
        assert_eq!(backlog.due(now + REST), None, "not ours");
        backlog.taken(P, 0, now);
        assert_eq!(backlog.due(now + REST), None, "nothing is behind");
        backlog.landed(P, now);
        assert_eq!(backlog.due(now), None);
        assert_eq!(backlog.due(now + AGE), Some((P, 1)));
        for _ in 1..SEGMENTS_MAX {
            backlog.landed(P, now);
        }
        assert_eq!(backlog.due(now), Some((P, SEGMENTS_MAX)));
        // One that landed while it was made is behind it.
        backlog.landed(P, now);
        backlog.made(P, SEGMENTS_MAX, 64 << 20, now);
        assert_eq!(
            backlog.due(now + AGE),
            None,
            "large ones are written seldom"
        );
        let seldom = AGE + Duration::from_secs((64 << 20) / AGE_BYTES_PER_SECOND);
        assert_eq!(backlog.due(now + seldom), Some((P, 1)));
        backlog.failed(P, false, now + seldom);
        assert_eq!(backlog.due(now + seldom), None);
        assert_eq!(backlog.due(now + seldom + REST), Some((P, 1)));
        backlog.let_go(P);
        assert_eq!(backlog.due(now + seldom + REST), None);
    }

    #[test]
    fn one_is_on_its_way_at_a_time_also_over_a_rebalance() {
        let mut backlog = Backlog::default();
        let now = Instant::now();
        backlog.taken(P, SEGMENTS_MAX, now);
        assert_eq!(backlog.begin(now), Some((P, SEGMENTS_MAX)));
        backlog.let_go(P);
        backlog.taken(P, SEGMENTS_MAX, now);
        assert_eq!(backlog.begin(now), None, "the first one hangs");
        backlog.failed(P, false, now);
        assert_eq!(backlog.begin(now + REST), Some((P, SEGMENTS_MAX)));
    }

    #[test]
    fn a_chain_that_does_not_hold_together_is_told_once_to_whoever_has_it() {
        let mut backlog = Backlog::default();
        let now = Instant::now();
        backlog.failed(P, true, now);
        assert_eq!(backlog.take_doubtful(|_| true), [], "not ours any more");
        backlog.taken(P, 1, now);
        backlog.failed(P, true, now);
        assert_eq!(backlog.take_doubtful(|_| false), []);
        assert_eq!(backlog.take_doubtful(|_| true), [P]);
        assert_eq!(backlog.take_doubtful(|_| true), []);
    }

    #[test]
    fn the_partition_that_is_most_behind_is_first() {
        let mut backlog = Backlog::default();
        let now = Instant::now();
        for (partition, behind) in [(1, 300), (2, 9_000), (3, 0), (4, 255)] {
            backlog.taken(PartitionId(partition), behind, now);
        }
        assert_eq!(backlog.due(now), Some((PartitionId(2), 9_000)));
        backlog.made(PartitionId(2), 9_000, 0, now);
        assert_eq!(backlog.due(now), Some((PartitionId(1), 300)));
        backlog.made(PartitionId(1), 300, 0, now);
        assert_eq!(backlog.due(now), None);
    }
}
