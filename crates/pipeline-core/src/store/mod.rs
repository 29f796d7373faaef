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
//! clock. The order of steps is the contract's Store section; `segment` holds the bytes, `chain`
//! the directory, `verify` the offline proof.

pub mod chain;
pub mod segment;
pub mod verify;

pub use chain::{
    Chain, ChainEnd, ChainFault, Cursor, Published, Start, Store, StoreError, StoreId,
};
pub use segment::{
    Draft, Encoded, Fate, FateRun, LastMessage, Link, SegmentHash, StoredRun, Totals, Trailer,
};
