//! What no chain shows alone: that another one is the same, and that one is not there.

use std::path::Path;

use super::{
    super::{
        chain::Chain,
        trailer::{SegmentHash, Trailer},
    },
    report::Damage,
};
use crate::ids::PartitionId;

/// Partitions of a topic, both included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absent {
    pub topic: String,
    pub first: PartitionId,
    pub last: PartitionId,
}

/// By which a chain is known: its first and its last segment that hold records of batches. A batch
/// goes to one partition, so no other chain has the same; segments without any may be alike.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    first: Option<SegmentHash>,
    last: Option<SegmentHash>,
}

impl Marks {
    pub(super) fn saw(&mut self, trailer: &Trailer, hash: SegmentHash) {
        if trailer.stored.iter().any(|run| run.batch.is_some()) {
            self.first.get_or_insert(hash);
            self.last = Some(hash);
        }
    }

    fn is_of(&self, other: &Self) -> bool {
        let same = |a: Option<SegmentHash>, b| a.is_some() && a == b;
        same(self.first, other.first) || same(self.last, other.last)
    }
}

/// Chains that are there twice, each named once.
pub(super) fn copies<'a>(chains: impl Iterator<Item = (&'a Path, Marks)>) -> Vec<Damage> {
    let chains: Vec<_> = chains.collect();
    let mut found = Vec::new();
    for (at, (dir, marks)) in chains.iter().enumerate() {
        let mut before = chains[..at].iter();
        if let Some((other, _)) = before.find(|(_, other)| marks.is_of(other)) {
            found.push(Damage {
                path: dir.to_path_buf(),
                detail: format!(
                    "holds the same segments as {}: one is a copy",
                    other.display()
                ),
            });
        }
    }
    found
}

/// Of chains in order of topic and partition.
pub(super) fn absent<'a>(chains: impl Iterator<Item = &'a Chain>) -> Vec<Absent> {
    let mut found = Vec::new();
    let mut before: Option<&Chain> = None;
    for chain in chains {
        let of_topic = before.filter(|it| it.topic() == chain.topic());
        let first = of_topic.map_or(0, |it| it.partition().0 + 1);
        if first < chain.partition().0 {
            found.push(Absent {
                topic: chain.topic().to_owned(),
                first: PartitionId(first),
                last: PartitionId(chain.partition().0 - 1),
            });
        }
        before = Some(chain);
    }
    found
}
