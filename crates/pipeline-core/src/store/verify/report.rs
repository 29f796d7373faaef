//! What a proof is asked of, and what it has found.

use std::path::PathBuf;

use super::super::{
    chain::{Chain, Start},
    owner::StoreId,
    trailer::Totals,
};
use super::Absent;
use crate::ids::{Offset, PartitionId};

/// What `verify` found of one chain.
#[derive(Clone, Debug)]
pub struct ChainReport {
    pub topic: String,
    pub partition: PartitionId,
    /// `None` where it cannot be read, or the chain has not been begun.
    pub start: Option<Start>,
    /// Where the part that was checked begins: the watermark, or START.
    pub first: Offset,
    pub next: Offset,
    pub segments: u64,
    pub bytes: u64,
    /// Running totals, from START on.
    pub totals: Totals,
    /// Each with the file it lies in; empty when the chain is whole.
    pub damage: Vec<Damage>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    pub path: PathBuf,
    pub detail: String,
}

/// Which chains are checked; `None` leaves it open.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Which {
    pub topic: Option<String>,
    pub partition: Option<PartitionId>,
}

impl Which {
    pub(super) fn wants(&self, chain: &Chain) -> bool {
        self.partition
            .is_none_or(|wanted| wanted == chain.partition())
    }
}

/// What `verify` found of a store.
#[derive(Clone, Debug)]
pub struct Report {
    pub store: StoreId,
    /// In order of topic and partition.
    pub chains: Vec<ChainReport>,
    /// Partitions without a chain, though later ones have one. A writer that was killed while it
    /// took a topic for the first time leaves that, too: the files cannot tell.
    pub absent: Vec<Absent>,
    /// What lies in no chain alone: a topic's directory that cannot be listed, a chain that is
    /// there twice.
    pub damage: Vec<Damage>,
}

impl Report {
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let whole = |chain: &ChainReport| chain.damage.is_empty();
        self.damage.is_empty() && self.chains.iter().all(whole)
    }
}
