//! The file store: one chain of immutable segments per partition.
//!
//! ```text
//! <logsDir>/OWNER                                    the store's id
//! <logsDir>/_live/<topic>/p00003/START               where the chain begins
//! <logsDir>/_live/<topic>/p00003/w<20 digits>        watermark: names below belong to no chain
//! <logsDir>/_live/<topic>/p00003/<20 digits>.ndjson.zst
//! <logsDir>/_live/<topic>/p00003/<20 digits>.window-a, -b   snapshot of the duplicate window
//! <logsDir>/_aside/<topic>/p00003/...                what a repair has set aside
//! ```
//!
//! Everything here blocks; callers put it on a blocking thread. Nothing here knows Kafka or a
//! clock. The order of steps is the contract's Store section. In reading order: `trailer` says
//! what a segment knows of its offsets, `codec` and [`segment`] hold the bytes, `records` reads them
//! one by one, `owner` the root, [`chain`] one partition's directory, `walk` the way along it, `look` at single segments,
//! `snapshot`, `shelf` and `shelve` what lets a walk begin near the end, [`removal`] what lets go of its
//! beginning, `taken` what became of files whose removers died, [`verify`] the offline proof,
//! [`repair`] and [`mend`] what can be done where it fails.

mod trailer;

mod codec;
mod records;
pub mod segment;
mod varint;

mod owner;

pub mod chain;
mod look;
mod walk;

pub mod removal;
mod shelf;
mod shelve;
mod snapshot;
mod taken;

pub mod mend;
pub mod repair;
pub mod verify;

#[cfg(test)]
mod tests;

pub use chain::{Chain, Published, Start};
pub use owner::{Store, StoreError, StoreId};
pub use records::Records;
pub use removal::Removal;
pub use segment::{Draft, Encoded, SegmentError, read_segment, read_trailer};
pub use shelf::{Resumed, SnapshotFile};
pub use snapshot::{
    BatchRuns, EncodedSnapshot, SnapshotBatch, SnapshotHead, SnapshotReader, SnapshotWriter,
};
pub use taken::Settled;
pub use trailer::{
    Fate, FateRun, LastMessage, Link, SegmentHash, StoredRecord, StoredRun, Totals, Trailer,
    message_hash,
};
pub use walk::{ChainEnd, ChainFault, Cursor, Visited};
