//! What the store holds, put into the books: at the start, before anything is assigned, so that
//! `/metrics` is complete from its first answer on; and again, while others go on with what is in
//! these books. At the start a directory that hangs is waited for only so long: its chain counts as
//! not read, and whatever comes of it later is put in then.

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
/// Between two rounds of looks at chains that others have, and how many times as long as they took.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
const FOLLOW_REST: u32 = 10;
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

/// Follows the chains that others have, until the books let them go; runs until it is dropped. A
/// directory that hangs is waited for, so that there is never a second look at it.
pub async fn follow_others(shared: Arc<Shared>) {
    loop {
        let begun = Instant::now();
        for partition in shared.books.others_behind() {
            let held = Held::new(&shared, partition);
            // What cannot be read is for its holder to judge, and to say.
            if let Ok(Some(newest)) = on_disk(&held, |held| held.chain.newest()).await {
                shared.books.gone_on(partition, newest);
            }
        }
        tokio::time::sleep(FOLLOW_EVERY.max(begun.elapsed() * FOLLOW_REST)).await;
    }
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
