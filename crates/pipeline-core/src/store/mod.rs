//! The file store: one chain of immutable segments per partition.
//!
//! ```text
//! <logsDir>/OWNER                                    the store's id
//! <logsDir>/_live/<topic>/p00003/START               where the chain begins
//! <logsDir>/_live/<topic>/p00003/w<20 digits>        watermark: names below belong to no chain
//! <logsDir>/_live/<topic>/p00003/<20 digits>.ndjson.zst
//! ```
//!
//! Everything here blocks; callers put it on a blocking thread. Nothing here knows Kafka or a
//! clock. The order of steps is the contract's Store section. In reading order: `trailer` says
//! what a segment knows of its offsets, `codec` and [`segment`] hold the bytes, `owner` the root,
//! [`chain`] one partition's directory, `walk` the way along it, [`verify`] the offline proof.

mod trailer;

mod codec;
pub mod segment;

mod owner;

pub mod chain;
mod walk;

pub mod verify;

#[cfg(test)]
mod tests;

pub use chain::{Chain, Published, Start};
pub use owner::{Store, StoreError, StoreId};
pub use segment::{Draft, Encoded, SegmentError, read_segment, read_trailer};
pub use trailer::{
    Fate, FateRun, LastMessage, Link, SegmentHash, StoredRecord, StoredRun, Totals, Trailer,
    message_hash,
};
pub use walk::{ChainEnd, ChainFault, Cursor, Visited};
