//! What is left of a write that panics: nothing that a client was told is kept goes with it.
//!
//! Of each batch that nobody waits for any more (`kafka.async`) the write's records are held here
//! until it is settled. Who waits is told that the outcome is unknown, and asks again.

use std::{
    mem::take,
    sync::{Arc, Mutex},
};

use pipeline_core::Offset;

use super::{send::Settled, settle::Settler, view::TopicView};
use crate::{
    batch::{Batch, Progress, memory_of},
    budget::Share,
    dlq::Reason,
};

/// By the place of the batch in its write.
#[derive(Debug)]
pub struct Spares(Mutex<Vec<Option<Batch>>>);

impl Spares {
    #[must_use]
    pub fn of(view: &TopicView, batches: &[Batch]) -> Arc<Self> {
        let spares = batches.iter().map(|batch| {
            let nobody_waits = batch.answer.is_none();
            nobody_waits.then(|| spare(view, batch))
        });
        Arc::new(Self(Mutex::new(spares.collect())))
    }

    pub fn settled(&self, place: usize) {
        let mut spares = self.0.lock().expect("no panic under this lock");
        spares[place] = None;
    }

    fn left(&self) -> Vec<Batch> {
        let mut spares = self.0.lock().expect("no panic under this lock");
        take(&mut *spares).into_iter().flatten().collect()
    }
}

/// Runs a write that tells `spares` what it settles.
pub async fn run(
    write: impl Future<Output = ()> + Send + 'static,
    spares: Arc<Spares>,
    settler: Settler,
) {
    let ended = tokio::spawn(write).await;
    // Also where a part of it panicked, and it went on.
    let left = spares.left();
    if ended.is_ok() && left.is_empty() {
        return;
    }
    tracing::error!(
        batches = left.len(),
        records = left.iter().map(Batch::len).sum::<usize>(),
        "a write to kafka ended by itself ({}): what of it was answered with `\"kept\":\"queue\"` \
         goes to the dead letter queue, who waits is told that nothing is known",
        ended.map_or_else(|error| error.to_string(), |()| "in part".to_owned())
    );
    for mut batch in left {
        // The write's own share went with it.
        batch.memory = settler.sender.memory.forced(memory_of(&batch.records));
        settler.settle(batch, Settled::Left(Reason::RetriesExhausted));
    }
}

/// As the write may have sent it, for all that is known.
fn spare(view: &TopicView, batch: &Batch) -> Batch {
    let progress = &batch.progress;
    let partition = progress
        .partition
        .unwrap_or_else(|| view.partition_of(batch.id));
    // No copy that the write sends lies below what is known before it; nor below the log's start.
    let since = progress.since.or_else(|| view.end(partition));
    Batch {
        id: batch.id,
        received_ms: batch.received_ms,
        records: Arc::clone(&batch.records),
        progress: Progress {
            partition: Some(partition),
            since: since.or(Some(Offset(0))),
            may_have_been_sent: true,
            acknowledged: progress.acknowledged,
        },
        deadline: batch.deadline,
        answer: None,
        memory: Share::default(),
        held: Share::default(),
    }
}
