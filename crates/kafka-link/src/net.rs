//! Bytes to and from brokers: one connection, the pool of them, and the versions of calls.
//!
//! Knows frames, correlation and time; never what an answer means.

mod calls;
mod connection;
mod frame;
mod pool;
mod race;
mod shape;
mod socket;
mod trouble;

pub(crate) use calls::Call;
pub(crate) use connection::{Limits, Pending};
pub use pool::PRODUCE_CONNECTIONS;
pub(crate) use pool::{EXCLUSIVE_MAX, Lane, Lease, Pool};
pub(crate) use race::{first_answer, join_all};
pub(crate) use trouble::CallError;
