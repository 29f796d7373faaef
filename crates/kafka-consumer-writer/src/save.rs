//! One save, on a blocking thread: from a batch of messages to a segment in the chain.
//!
//! ```text
//! assemble, encode ─▶ poison and undecidable durable in the DLQ ─▶ publish ─▶ window takes it in
//!                                       (again) look at the chain ─┘
//! ```
//!
//! Three steps, as they wait for different things: [`prepare`] for a core, [`keep_aside`] for the
//! DLQ's disk, [`publish`] for the store's.
//!
//! Whatever fails, the same bytes are published again, after a look at the chain: so a save that
//! failed only in appearance is found there by its hash, and never stored twice.

use std::sync::Arc;

use pipeline_core::{
    record::Rules,
    store::{
        Chain, ChainEnd, ChainFault, Cursor, Encoded, Published, StoreError, Visited,
        segment::LEVEL,
    },
};

use crate::{
    aside,
    assemble::assemble,
    dead_letters::{Aside, Place},
    partition::{SaveJob, SaveOutcome},
};

/// The chain as a save sees it; [`Chain`] itself, and in tests a simulated one that fails at will.
pub trait ChainPort: Send + Sync {
    /// See [`Chain::publish`].
    ///
    /// # Errors
    /// The outcome is unknown then.
    fn publish(&self, segment: &Encoded) -> Result<Published, StoreError>;

    /// See [`Chain::walk`].
    ///
    /// # Errors
    /// The first fault met.
    fn walk(
        &self,
        from: Option<Cursor>,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<Option<ChainEnd>, ChainFault>;

    /// See [`Chain::sync`].
    ///
    /// # Errors
    /// Where fsync fails.
    fn sync(&self) -> Result<(), StoreError>;
}

impl ChainPort for Chain {
    fn publish(&self, segment: &Encoded) -> Result<Published, StoreError> {
        Self::publish(self, segment)
    }

    fn walk(
        &self,
        from: Option<Cursor>,
        visit: &mut dyn FnMut(Visited) -> bool,
    ) -> Result<Option<ChainEnd>, ChainFault> {
        Self::walk(self, from, visit)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Self::sync(self)
    }
}

/// What a save needs beside its job.
pub struct SaveContext<'a> {
    pub chain: &'a dyn ChainPort,
    pub aside: &'a dyn Aside,
    pub place: &'a Place,
    pub rules: &'a Rules,
    /// Id of this process.
    pub writer: [u8; 16],
}

/// Why a save has not landed.
#[derive(Debug, thiserror::Error)]
pub enum SaveTrouble {
    #[error("failed to keep messages in the consumer DLQ: {0}")]
    Aside(std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to look at the chain: {0}")]
    Look(ChainFault),
    #[error("another segment stands at offset {0}")]
    Taken(pipeline_core::Offset),
    #[error("the watermark is above offset {0}")]
    BelowWatermark(pipeline_core::Offset),
    #[error("what the segment at offset {0} goes on from is not in the chain any more")]
    Severed(pipeline_core::Offset),
}

/// The outcome, and for people what was in the way.
#[derive(Debug)]
pub struct SaveReport {
    pub outcome: SaveOutcome,
    pub trouble: Option<SaveTrouble>,
    /// The segment, where it was made.
    pub encoded: Option<Arc<Encoded>>,
}

/// Runs one save to its end.
#[must_use]
pub fn run(mut job: Box<SaveJob>, context: &SaveContext<'_>) -> SaveReport {
    prepare(&mut job, context);
    match keep_aside(&mut job, context) {
        Ok(()) => publish(job, context),
        Err(trouble) => failed(job, trouble),
    }
}

/// Makes the segment. Only the first try has anything to do. Touches no disk.
pub fn prepare(job: &mut SaveJob, context: &SaveContext<'_>) {
    if job.encoded.is_some() {
        return;
    }
    let assembled = assemble(
        &job.batch,
        &job.memory,
        context.rules,
        context.writer,
        Vec::new(),
    );
    let encoded = assembled.draft.encode(&assembled.ndjson, LEVEL);
    job.aside = aside::notes(assembled.aside);
    job.encoded = Some(Arc::new(encoded));
}

/// Makes durable what the segment sets aside; until that has come off, nothing is published.
///
/// # Errors
/// Where the consumer DLQ did not take it.
pub fn keep_aside(job: &mut SaveJob, context: &SaveContext<'_>) -> Result<(), SaveTrouble> {
    if job.aside.is_empty() {
        return Ok(());
    }
    let entries = aside::entries(&job.batch, &job.aside);
    context
        .aside
        .keep(context.place, &entries)
        .map_err(SaveTrouble::Aside)?;
    drop(entries);
    job.aside = Vec::new();
    Ok(())
}

/// Puts a prepared segment into the chain.
///
/// # Panics
/// Where the job was not prepared, or what it sets aside is not kept.
#[must_use]
pub fn publish(job: Box<SaveJob>, context: &SaveContext<'_>) -> SaveReport {
    let encoded = job
        .encoded
        .clone()
        .expect("prepared before it is published");
    assert!(job.aside.is_empty(), "kept before it is published");
    let first = encoded.trailer.first;
    if job.attempt > 0 {
        match look(&job, &encoded, context.chain) {
            Ok(Look::Absent) => {}
            Ok(Look::Ours) => return landed(*job, encoded),
            Ok(Look::Others) => return taken(encoded, SaveTrouble::Taken(first)),
            Err(fault) => return unknown_or_taken(job, encoded, fault),
        }
    }
    match context.chain.publish(&encoded) {
        Ok(Published::Linked) => landed(*job, encoded),
        Ok(Published::BelowWatermark) => taken(encoded, SaveTrouble::BelowWatermark(first)),
        Ok(Published::Severed) => taken(encoded, SaveTrouble::Severed(first)),
        Ok(Published::NameTaken) => match look(&job, &encoded, context.chain) {
            Ok(Look::Ours) => landed(*job, encoded),
            Ok(Look::Others | Look::Absent) => taken(encoded, SaveTrouble::Taken(first)),
            Err(fault) => unknown_or_taken(job, encoded, fault),
        },
        Err(error) => failed(job, error.into()),
    }
}

/// A step did not succeed: what became of the save is unknown.
#[must_use]
pub fn failed(job: Box<SaveJob>, trouble: SaveTrouble) -> SaveReport {
    SaveReport {
        encoded: job.encoded.clone(),
        outcome: SaveOutcome::Unknown(job),
        trouble: Some(trouble),
    }
}

enum Look {
    /// Nothing stands behind the end that the job knows.
    Absent,
    /// Our segment, and it is the chain's end.
    Ours,
    /// Someone else's segment, or ours and more behind it.
    Others,
}

fn look(job: &SaveJob, encoded: &Encoded, chain: &dyn ChainPort) -> Result<Look, ChainFault> {
    let from = Cursor {
        next: job.memory.end.next,
        last: job.memory.end.last,
    };
    let mut seen = Vec::new();
    chain.walk(Some(from), &mut |visited| {
        seen.push(visited.hash);
        seen.len() < 2
    })?;
    Ok(match seen.as_slice() {
        [] => Look::Absent,
        [only] if *only == encoded.hash => {
            // It may have been linked by a try whose directory fsync failed.
            chain.sync()?;
            Look::Ours
        }
        _ => Look::Others,
    })
}

fn landed(job: SaveJob, encoded: Arc<Encoded>) -> SaveReport {
    let mut memory = job.memory;
    let trailer = &encoded.trailer;
    memory.window.apply(&trailer.stored);
    memory.end = ChainEnd {
        next: trailer.next,
        last: Some(encoded.link()),
        totals: trailer.totals,
        last_message: trailer.last,
    };
    memory.aside = memory.aside.split_off(&trailer.next);
    SaveReport {
        outcome: SaveOutcome::Landed(memory),
        trouble: None,
        encoded: Some(encoded),
    }
}

fn taken(encoded: Arc<Encoded>, trouble: SaveTrouble) -> SaveReport {
    SaveReport {
        outcome: SaveOutcome::Taken,
        trouble: Some(trouble),
        encoded: Some(encoded),
    }
}

/// A disk that does not answer may answer later; a chain that does not hold together is for the
/// load to judge, from its beginning.
fn unknown_or_taken(job: Box<SaveJob>, encoded: Arc<Encoded>, fault: ChainFault) -> SaveReport {
    match fault {
        ChainFault::Io(_) => failed(job, SaveTrouble::Look(fault)),
        ChainFault::Damaged { .. } | ChainFault::Missing { .. } => {
            taken(encoded, SaveTrouble::Look(fault))
        }
    }
}
