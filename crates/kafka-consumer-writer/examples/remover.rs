//! Removes what may be removed from the chains of one topic, once, as the aggregator asks for it
//! through pipeline-core: for `cargo xtask chaos writer`, which ends it at every step
//! (`pipeline_core::fsx::kill`: an example has what tests have, no product does).
//!
//! `remover LOGS_DIR TOPIC PARTITION=OFFSET…`: of each partition the segments that end at or before
//! the offset. A snapshot is put first, as writers that never live for long put few.

use std::path::Path;

use anyhow::{Context, Result};
use kafka_consumer_writer::snapshots::make;
use pipeline_core::{Offset, PartitionId, store::Store};

/// `consumer.dedupMaxBatches` of the campaign's writers: a snapshot of less would forget batches.
const WINDOW: usize = 250_000;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let root = words.next().context("a store's directory")?;
    let topic = words.next().context("a topic")?;
    let store = Store::open(Path::new(&root))?;
    for word in words {
        let (partition, before) = word.split_once('=').context("PARTITION=OFFSET")?;
        let chain = store.chain(&topic, PartitionId(partition.parse()?));
        make(&chain, WINDOW).context(word.clone())?;
        let before = Offset(before.parse()?);
        let removal = chain.remove_before(before, &mut || true);
        println!("{topic} {word}: {:?}", removal.context(word.clone())?);
    }
    Ok(())
}
