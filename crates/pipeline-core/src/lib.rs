//! What every Sluice service shares. The services depend on this crate, never on each other.
//!
//! In the order a record meets them: [`record`] (validation, one canonical line), [`envelope`]
//! (batch identity on the wire), [`retry`], [`dlq`] (framed, checksummed files), [`store`]
//! (chains of segments); and around them [`config`], [`telemetry`], [`lifecycle`],
//! [`command`].

pub mod ids;

pub mod envelope;
pub mod record;

pub mod dlq;
pub mod fsx;
pub mod retry;
pub mod store;

pub mod command;
pub mod config;
pub mod lifecycle;
pub mod pem;
pub mod telemetry;

#[cfg(test)]
mod documents;

pub use ids::{BatchId, Offset, PartitionId};
