//! What the store holds at the start, put into the books before anything is assigned: so `/metrics`
//! is complete from its first answer on. A directory that hangs is waited for only so long: its
//! chain counts as not read, and whatever comes of it later is put in then.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pipeline_core::{PartitionId, store::StoreError};
use tokio::sync::mpsc;

use crate::{
    shared::{Held, Shared},
    steps::on_disk,
};

/// Longest wait for all chains, in waits for one.
const PATIENCE_IN_ALL: u32 = 6;
/// Partitions that a line of the log names.
const NAMED_MAX: usize = 20;

/// Looks at the topic's chains, for as long as one answers within `patience` of the one before, and
/// not forever.
///
/// # Errors
/// Where the store cannot be listed.
pub async fn find_chains(shared: &Arc<Shared>, patience: Duration) -> Result<(), StoreError> {
    let mut partitions = list(shared).await?;
    for partition in &partitions {
        shared.books.listed(*partition);
    }
    let (answered, mut answers) = mpsc::channel(partitions.len().max(1));
    for partition in &partitions {
        let (held, answered) = (Held::new(shared, *partition), answered.clone());
        // Nobody waits for one that is late.
        tokio::spawn(async move {
            find(&held).await;
            let _ = answered.send(held.partition()).await;
        });
    }
    drop(answered);
    let deadline = Instant::now() + patience * PATIENCE_IN_ALL;
    while !partitions.is_empty() && Instant::now() < deadline {
        let Ok(Some(partition)) = tokio::time::timeout(patience, answers.recv()).await else {
            break;
        };
        partitions.retain(|waits| *waits != partition);
    }
    if !partitions.is_empty() {
        let named = partitions.iter().take(NAMED_MAX);
        let named: Vec<i32> = named.map(|partition| partition.0).collect();
        tracing::error!(
            topic = shared.topic,
            chains = partitions.len(),
            partitions = ?named,
            "chains could not be read within {patience:?}: the disk hangs or is slow; going on \
             without them, all of their logs count as not yet read"
        );
    }
    Ok(())
}

async fn list(shared: &Arc<Shared>) -> Result<Vec<PartitionId>, StoreError> {
    let (store, topic) = (shared.store.clone(), shared.topic.clone());
    let listed = tokio::task::spawn_blocking(move || store.chains_of(&topic)).await;
    let chains = listed.expect("listing does not panic")?;
    Ok(chains.iter().map(|chain| chain.partition()).collect())
}

async fn find(held: &Held) {
    match on_disk(held, |held| held.chain.newest()).await {
        Ok(newest) => held.shared.books.found(held.partition(), newest),
        // For its take-over to judge.
        Err(fault) => tracing::error!(
            topic = held.place.topic,
            partition = %held.partition(),
            %fault,
            "a chain cannot be read; all of its log counts as not yet read"
        ),
    }
}
