//! What goes out together: one share for each broker, of one record batch for each partition.
//! Pure.

use std::collections::{BTreeMap, HashMap};

use pipeline_core::PartitionId;

use super::{
    flight::{Aloft, Leader},
    send::{Size, size_of},
};
use crate::batch::Batch;

#[derive(Clone, Copy, Debug)]
pub struct LoadLimits {
    /// Of one partition.
    pub records_max: usize,
    pub bytes_max: usize,
    /// Of all partitions of one broker, unless one batch alone has more.
    pub share_bytes_max: usize,
}

#[derive(Debug)]
pub struct Load {
    limits: LoadLimits,
    shares: BTreeMap<Leader, Share>,
    full: bool,
}

/// What goes to one broker.
#[derive(Debug, Default)]
pub struct Share {
    pub batches: Vec<Batch>,
    /// Its place among the writes to the broker; none where nothing is written.
    pub aloft: Option<Aloft>,
    by_partition: HashMap<PartitionId, Size>,
    bytes: usize,
}

impl Load {
    #[must_use]
    pub fn new(limits: LoadLimits) -> Self {
        Self {
            limits,
            shares: BTreeMap::new(),
            full: false,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether each of its brokers could work on it at once.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        let mut aloft = self.shares.values().filter_map(|s| s.aloft.as_ref());
        aloft.all(Aloft::is_eager)
    }

    #[must_use]
    pub fn has_share(&self, leader: Leader) -> bool {
        self.shares.contains_key(&leader)
    }

    /// Whether the batch fits. One that is larger than a whole record batch is wanted where it is
    /// the first.
    #[must_use]
    pub fn wants(&self, leader: Leader, partition: PartitionId, batch: &Batch) -> bool {
        if self.full {
            return false;
        }
        let Some(share) = self.shares.get(&leader) else {
            return true;
        };
        let (more, limits) = (size_of(batch), &self.limits);
        if share.bytes + more.bytes > limits.share_bytes_max {
            return false;
        }
        let Some(size) = share.by_partition.get(&partition) else {
            return true;
        };
        size.records + more.records <= limits.records_max
            && size.bytes + more.bytes <= limits.bytes_max
    }

    /// Adds a batch; `aloft` where it is the first for its broker.
    pub fn add(
        &mut self,
        leader: Leader,
        partition: PartitionId,
        batch: Batch,
        aloft: Option<Aloft>,
    ) {
        let (more, limits) = (size_of(&batch), &self.limits);
        let share = self.shares.entry(leader).or_default();
        if aloft.is_some() {
            share.aloft = aloft;
        }
        let size = share.by_partition.entry(partition).or_default();
        size.records += more.records;
        size.bytes += more.bytes;
        share.bytes += more.bytes;
        share.batches.push(batch);
        self.full |= size.records >= limits.records_max
            || size.bytes >= limits.bytes_max
            || share.bytes >= limits.share_bytes_max;
    }

    pub fn into_shares(self) -> impl Iterator<Item = Share> {
        self.shares.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::test::batch_of, producer::flight::Flight};

    const P: [PartitionId; 2] = [PartitionId(0), PartitionId(1)];
    const A: Leader = Some(1);

    fn load(records_max: usize, bytes_max: usize, share_bytes_max: usize) -> Load {
        Load::new(LoadLimits {
            records_max,
            bytes_max,
            share_bytes_max,
        })
    }

    #[test]
    fn a_load_is_full_when_one_partition_is() {
        let mut load = load(3, usize::MAX, usize::MAX);
        let two = || batch_of(1, &["a", "b"]);
        assert!(load.wants(A, P[0], &two()));
        load.add(A, P[0], two(), None);
        assert!(!load.wants(A, P[0], &two()), "four records are too many");
        assert!(load.wants(A, P[1], &two()));
        load.add(A, P[1], two(), None);
        load.add(A, P[1], batch_of(2, &["c"]), None);
        assert!(load.is_full());
        assert!(!load.wants(A, P[0], &batch_of(2, &["c"])));
    }

    #[test]
    fn a_batch_larger_than_a_record_batch_goes_alone() {
        let mut load = load(10, 50, usize::MAX);
        let large = batch_of(1, &["0123456789", "0123456789"]);
        assert!(load.wants(A, P[0], &large));
        load.add(A, P[0], large, None);
        assert!(load.is_full());
    }

    #[test]
    fn a_share_is_bounded_over_all_partitions_and_one_batch_always_goes() {
        let large = || batch_of(1, &["0123456789"; 10]);
        let bytes = size_of(&large()).bytes;
        let mut small = load(100, usize::MAX, bytes / 2);
        assert!(small.wants(A, P[0], &large()));
        small.add(A, P[0], large(), None);
        assert!(small.is_full());
        let mut load = load(100, usize::MAX, 2 * bytes - 1);
        load.add(A, P[0], large(), None);
        assert!(!load.wants(A, P[1], &large()), "two are too many");
        assert!(load.wants(A, P[1], &batch_of(2, &["c"])));
        assert!(load.wants(Some(2), P[1], &large()), "another broker's");
    }

    #[test]
    fn a_load_is_eager_when_each_of_its_brokers_can_work_on_it() {
        let flight = Flight::new(100);
        let mut load = load(10, 1 << 20, 1 << 20);
        let others: Vec<_> = (0..50).map(|_| flight.start(Some(2))).collect();
        load.add(A, P[0], batch_of(1, &["a"]), flight.start(A));
        assert!(load.is_eager());
        load.add(Some(2), P[1], batch_of(2, &["a"]), flight.start(Some(2)));
        assert!(!load.is_eager());
        drop(others);
        assert!(load.is_eager());
    }
}
