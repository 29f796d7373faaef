//! Whether what lies in the chains is still what was written: a task of the process that reads their
//! segments in its time, each byte of each, and compares them with their hashes. A take-over reads
//! only the chain's end whole (`load`), and a save nothing of what is before it; what goes bad on
//! the disk behind them would be known when somebody reads it, and by then Kafka may have nothing
//! left to repair it with.
//!
//! Oldest first: whatever is damaged, a repair reads Kafka again from there to the end, and Kafka
//! lets go of its oldest first. One chain after the other, one segment at a time, at a rate; so
//! there is one thread of it in the disk at most, whatever hangs, and it holds nothing that saves
//! wait for.
//!
//! [`Rounds`] decides, purely; [`keep`] acts. A segment found damaged is *doubted*: its partition's
//! session takes the chain anew, and `load` reads that segment, too: so it halts there or, mended,
//! goes on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use metrics::counter;
use pipeline_core::{
    Offset, PartitionId,
    store::{Chain, ChainFault},
    telemetry::catalog,
};

use crate::{shared::Shared, steps::blocking};

/// Read by this process in one second, whatever the number of its partitions.
const BYTES_PER_SECOND: u64 = 32 << 20;
/// What a segment costs at least: it is opened, too.
const SEGMENT_COST_MIN: u64 = 64 << 10;
/// Read in one go (or one segment that is larger), and then rested for.
const SLICE_COST: u64 = 1 << 20;
/// After a take-over: the disk has enough to do.
pub const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// From the end of a round to the next one of that chain.
const AGAIN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// After a disk that gave an error.
const REST: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(500);

/// How far each chain of this process has been read.
#[derive(Debug, Default)]
pub struct Scrub(Mutex<Rounds>);

/// See [`Scrub`].
#[derive(Debug, Default)]
pub struct Rounds {
    /// Of those that were let go, too: a rebalance begins nothing anew.
    rounds: BTreeMap<PartitionId, Round>,
    /// At most one of each chain: what is behind it is not gone on with.
    doubted: BTreeMap<PartitionId, Offset>,
}

#[derive(Debug)]
struct Round {
    held: bool,
    due: Instant,
    /// Names below have been read in this round.
    from: Offset,
}

impl Rounds {
    /// The partition's chain has been taken. A load may end when its session has let the partition
    /// go: then a chain that is another's is read in the background, which changes nothing, and what
    /// is found damaged waits for the next load here, which judges it anew.
    pub fn taken(&mut self, partition: PartitionId, now: Instant) {
        let round = self.rounds.entry(partition).or_insert(Round {
            held: true,
            due: now + SETTLED_AFTER,
            from: Offset(0),
        });
        round.held = true;
    }

    pub fn let_go(&mut self, partition: PartitionId) {
        if let Some(round) = self.rounds.get_mut(&partition) {
            round.held = false;
        }
    }

    /// The chain that has waited longest, and from which name on it is to be read.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<(PartitionId, Offset)> {
        self.rounds
            .iter()
            .filter(|(partition, round)| round.due <= now && self.wants(**partition))
            .min_by_key(|(_, round)| round.due)
            .map(|(partition, round)| (*partition, round.from))
    }

    /// Whether reading on is of use.
    #[must_use]
    pub fn wants(&self, partition: PartitionId) -> bool {
        let held = self.rounds.get(&partition).is_some_and(|it| it.held);
        held && !self.doubted.contains_key(&partition)
    }

    /// Names below `from` have been read.
    pub fn passed(&mut self, partition: PartitionId, from: Offset) {
        if let Some(round) = self.rounds.get_mut(&partition) {
            round.from = from;
        }
    }

    /// The segment that begins there is damaged or missing.
    pub fn found(&mut self, partition: PartitionId, name: Offset) {
        self.doubted.insert(partition, name);
    }

    /// The next round begins in a day.
    pub fn ended(&mut self, partition: PartitionId, now: Instant) {
        self.passed(partition, Offset(0));
        self.begin_at(partition, now + AGAIN_AFTER);
    }

    /// The disk did not answer as it should: says nothing of the chain.
    pub fn failed(&mut self, partition: PartitionId, now: Instant) {
        self.begin_at(partition, now + REST);
    }

    /// Its round begins, or goes on, then.
    pub fn begin_at(&mut self, partition: PartitionId, due: Instant) {
        if let Some(round) = self.rounds.get_mut(&partition) {
            round.due = due;
        }
    }

    /// What a load of this chain has to look at.
    #[must_use]
    pub fn doubted(&self, partition: PartitionId) -> Option<Offset> {
        self.doubted.get(&partition).copied()
    }

    pub fn all_doubted(&self) -> impl Iterator<Item = PartitionId> {
        self.doubted.keys().copied()
    }

    /// A load has judged it, and the chain holds.
    pub fn cleared(&mut self, partition: PartitionId, name: Offset) {
        if self.doubted(partition) == Some(name) {
            self.doubted.remove(&partition);
        }
    }
}

impl Scrub {
    pub fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.0.lock().expect("no panic under this lock")
    }
}

/// Reads what is due until it is dropped.
pub async fn keep(shared: Arc<Shared>) {
    loop {
        let next = shared.scrub.lock().next(Instant::now());
        match next {
            Some((partition, from)) => read_chain(&shared, partition, from).await,
            None => tokio::time::sleep(TICK).await,
        }
    }
}

/// From `from` to what is the chain's end now, while it is ours.
async fn read_chain(shared: &Shared, partition: PartitionId, from: Offset) {
    let (topic, scrub) = (&shared.topic, &shared.scrub);
    let chain = shared.store.chain(topic, partition);
    let of_listing = chain.clone();
    let listed = blocking(move || of_listing.names(&(from..Offset(i64::MAX)))).await;
    let names: Arc<[Offset]> = match listed {
        // The first one may only reach to there.
        Ok(names) => names.into_iter().filter(|name| *name >= from).collect(),
        Err(error) => {
            tracing::error!(topic, %partition, %error, "cannot read what is stored, to check it");
            scrub.lock().failed(partition, Instant::now());
            return;
        }
    };
    let mut at = 0;
    while at < names.len() {
        let (chain, of_slice) = (chain.clone(), names.clone());
        let slice = blocking(move || read_slice(&chain, &of_slice[at..])).await;
        counter!(catalog::STORE_SCRUBBED_BYTES).increment(slice.bytes);
        at += slice.whole;
        let now = Instant::now();
        // In one go: who lets go and takes again meanwhile finds all of it, or nothing.
        let goes_on = {
            let mut rounds = scrub.lock();
            let behind = |name: &Offset| Offset(name.0 + 1);
            rounds.passed(partition, names[..at].last().map_or(from, behind));
            match &slice.fault {
                Some(fault @ ChainFault::Io(_)) => {
                    tracing::error!(topic, %partition, %fault, "cannot read what is stored, to check it");
                    rounds.passed(partition, behind(&names[at]));
                    rounds.failed(partition, now);
                }
                Some(fault) => {
                    tracing::error!(topic, %partition, %fault, "what is stored is not what was written");
                    rounds.found(partition, names[at]);
                }
                None if at == names.len() => rounds.ended(partition, now),
                None => {}
            }
            slice.fault.is_none() && rounds.wants(partition)
        };
        tokio::time::sleep(time_of(slice.cost)).await;
        if !goes_on {
            return;
        }
    }
    if names.is_empty() {
        scrub.lock().ended(partition, Instant::now());
    }
}

/// What was read in one go.
#[derive(Debug, Default)]
struct Slice {
    /// So many segments are whole, or gone behind the watermark.
    whole: usize,
    bytes: u64,
    cost: u64,
    /// Of the one behind those.
    fault: Option<ChainFault>,
}

/// Blocks.
fn read_slice(chain: &Chain, names: &[Offset]) -> Slice {
    let mut slice = Slice::default();
    for name in names {
        match chain.check(*name) {
            Ok(read) => {
                let bytes = read.unwrap_or_default();
                slice.whole += 1;
                slice.bytes += bytes;
                slice.cost += bytes.max(SEGMENT_COST_MIN);
            }
            Err(fault) => {
                slice.fault = Some(fault);
                break;
            }
        }
        if slice.cost >= SLICE_COST {
            break;
        }
    }
    slice
}

/// How long the rate takes for so much.
fn time_of(cost: u64) -> Duration {
    Duration::from_micros(cost * 1_000_000 / BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(1);
    const Q: PartitionId = PartitionId(2);

    #[test]
    fn a_chain_is_read_once_it_is_settled_and_again_a_day_later() {
        let mut rounds = Rounds::default();
        let now = Instant::now();
        assert_eq!(rounds.next(now), None);
        rounds.taken(P, now);
        assert_eq!(rounds.next(now), None);
        let settled = now + SETTLED_AFTER;
        assert_eq!(rounds.next(settled), Some((P, Offset(0))));
        rounds.passed(P, Offset(7));
        assert_eq!(rounds.next(settled), Some((P, Offset(7))));
        rounds.ended(P, settled);
        // Loads and rebalances begin nothing anew.
        rounds.let_go(P);
        rounds.taken(P, settled);
        let later = settled + AGAIN_AFTER;
        assert_eq!(rounds.next(later - TICK), None);
        assert_eq!(rounds.next(later), Some((P, Offset(0))));
    }

    #[test]
    fn a_chain_that_is_let_go_is_gone_on_with_when_it_is_ours_again() {
        let mut rounds = Rounds::default();
        let now = Instant::now();
        rounds.taken(P, now);
        rounds.passed(P, Offset(7));
        rounds.let_go(P);
        assert!(!rounds.wants(P));
        assert_eq!(rounds.next(now + SETTLED_AFTER), None);
        rounds.taken(P, now + SETTLED_AFTER);
        assert_eq!(rounds.next(now + SETTLED_AFTER), Some((P, Offset(7))));
    }

    #[test]
    fn the_one_that_waits_longest_is_next_and_a_failure_keeps_up_no_other() {
        let mut rounds = Rounds::default();
        let now = Instant::now();
        rounds.taken(Q, now);
        rounds.taken(P, now + TICK);
        let settled = now + TICK + SETTLED_AFTER;
        assert_eq!(rounds.next(settled), Some((Q, Offset(0))));
        rounds.failed(Q, settled);
        assert_eq!(rounds.next(settled), Some((P, Offset(0))));
        rounds.ended(P, settled);
        assert_eq!(rounds.next(settled), None);
        assert_eq!(rounds.next(settled + REST), Some((Q, Offset(0))));
    }

    #[test]
    fn what_is_doubted_stays_so_until_a_load_has_judged_that_very_segment() {
        let mut rounds = Rounds::default();
        let taken = Instant::now();
        let now = taken + SETTLED_AFTER;
        rounds.taken(P, taken);
        rounds.found(P, Offset(30));
        assert_eq!(rounds.doubted(P), Some(Offset(30)));
        assert_eq!(rounds.all_doubted().collect::<Vec<_>>(), [P]);
        assert_eq!(rounds.next(now), None, "nothing more to find out");
        rounds.let_go(P);
        rounds.taken(P, now);
        rounds.cleared(P, Offset(20));
        assert_eq!(rounds.doubted(P), Some(Offset(30)));
        rounds.cleared(P, Offset(30));
        assert_eq!(rounds.doubted(P), None);
        assert_eq!(rounds.next(now), Some((P, Offset(0))));
    }

    #[test]
    fn no_more_is_read_in_a_second_than_the_rate_says_and_small_segments_count_for_more() {
        assert_eq!(time_of(BYTES_PER_SECOND), Duration::from_secs(1));
        assert_eq!(time_of(1 << 30), Duration::from_secs(32));
        let dir = tempfile::tempdir().unwrap();
        let store = pipeline_core::store::Store::open(dir.path()).unwrap();
        let chain = store.chain("logs", P);
        assert!(chain.put_start(&start()).is_ok());
        let mut last = None;
        for first in 0..40 {
            last = Some(publish(&chain, first, last.as_ref()));
        }
        let names = chain.names(&(Offset(0)..Offset(i64::MAX))).unwrap();
        let slice = read_slice(&chain, &names);
        assert_eq!(slice.whole as u64, SLICE_COST / SEGMENT_COST_MIN);
        assert_eq!(slice.cost, SLICE_COST);
        assert!(slice.fault.is_none() && slice.bytes > 0);
    }

    fn start() -> pipeline_core::store::Start {
        pipeline_core::store::Start {
            format: pipeline_core::store::chain::FORMAT,
            cluster_id: "c".to_owned(),
            topic_id: "t".to_owned(),
            first_offset: Offset(0),
        }
    }

    fn publish(
        chain: &Chain,
        first: i64,
        last: Option<&pipeline_core::store::Encoded>,
    ) -> pipeline_core::store::Encoded {
        use pipeline_core::store::{Draft, Encoded, Fate, FateRun, Totals};
        let draft = Draft {
            first: Offset(first),
            next: Offset(first + 1),
            previous: last.map(Encoded::link),
            writer: [1; 16],
            fates: vec![FateRun {
                fate: Fate::Lost,
                count: 1,
            }],
            stored: Vec::new(),
            totals_before: last.map_or_else(Totals::default, |last| last.trailer.totals),
            last: None,
        };
        let encoded = draft.encode(b"", 1);
        std::fs::write(chain.segment_path(Offset(first)), &encoded.bytes).unwrap();
        encoded
    }
}
