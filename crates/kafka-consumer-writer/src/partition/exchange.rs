//! What goes between a partition's core and those who act for it: what to do, and what became of it.

use std::{collections::BTreeSet, sync::Arc};

use pipeline_core::{
    Offset,
    store::{ChainEnd, Encoded},
};

use crate::{aside::Note, batcher::Batch, budget::Reserved, window::Window};

/// What is known of the chain; changes only with it.
#[derive(Debug)]
pub struct Memory {
    pub window: Window,
    pub end: ChainEnd,
    /// Behind the end: messages that were put aside when they were read before. They are not stored
    /// now; what was decided about them then goes on counting.
    pub aside: BTreeSet<Offset>,
}

/// One segment on its way into the chain. Goes to a blocking thread and comes back.
#[derive(Debug)]
pub struct SaveJob {
    pub serial: u64,
    pub batch: Arc<Batch>,
    pub memory: Box<Memory>,
    /// Made by the first try; every further try publishes the same bytes.
    pub encoded: Option<Arc<Encoded>>,
    /// What `encoded` takes of the budget.
    pub reserved: Option<Reserved>,
    /// What must be durable in the consumer DLQ before it is published.
    pub aside: Vec<Note>,
    /// 0 is the first try.
    pub attempt: u32,
}

/// What became of a save.
#[derive(Debug)]
pub enum SaveOutcome {
    /// Its segment is in the chain, durably; the memory is up to date with it.
    Landed(Box<Memory>),
    /// A step failed: it may be in the chain or not.
    Unknown(Box<SaveJob>),
    /// Another segment stands in its place, or the chain went past it.
    Taken,
}

/// What became of reading the chain and comparing it with the log.
#[derive(Debug)]
pub enum LoadOutcome {
    Ready(Box<Memory>),
    /// The disk or the broker did not answer.
    Retry,
    /// Chain and log differ, or the chain is damaged.
    Halt,
}

/// What the caller does now.
#[derive(Debug)]
pub enum Action {
    /// Read the chain, compare it with the log, answer with [`PartitionCore::loaded`].
    Load,
    /// Run the save on a blocking thread, answer with [`PartitionCore::saved`].
    Save(Box<SaveJob>),
    /// This save is later than the persist timeout: say so. It is not given up.
    Late(Arc<Batch>),
}
