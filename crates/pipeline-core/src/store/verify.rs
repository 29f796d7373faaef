//! The offline proof that a store is whole.

use std::path::{Path, PathBuf};

use super::{Totals, chain::StoreError};
use crate::ids::{Offset, PartitionId};

/// What `verify` found of one chain.
#[derive(Clone, Debug)]
pub struct ChainReport {
    pub topic: String,
    pub partition: PartitionId,
    pub first: Offset,
    pub next: Offset,
    pub segments: u64,
    pub bytes: u64,
    pub totals: Totals,
    /// Each with the file it lies in; empty when the chain is whole.
    pub damage: Vec<Damage>,
}

#[derive(Clone, Debug)]
pub struct Damage {
    pub path: PathBuf,
    pub detail: String,
}

/// Checks every chain from its watermark on, data and trailers. `progress(done, total)` counts
/// segments.
///
/// # Errors
/// Where the store cannot be listed at all.
pub fn verify(
    root: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<ChainReport>, StoreError> {
    let _ = (root, progress);
    todo!()
}
