//! Bytes to and from brokers: one connection (with TLS and SASL where they are on), the pool of
//! them, and the versions of calls.
//!
//! Knows frames, correlation and time; never what an answer means.

mod calls;
mod connection;
mod frame;
mod pool;
mod race;
mod refusal;
mod sasl;
mod scram;
mod security;
mod shape;
mod socket;
mod tls;
mod trouble;

pub(crate) use calls::Call;
pub(crate) use connection::{Limits, Pending};
pub use pool::PRODUCE_CONNECTIONS;
pub(crate) use pool::{EXCLUSIVE_MAX, Lane, Lease, Pool};
pub(crate) use race::{first_answer, join_all};
pub use security::security_faults;
pub(crate) use security::{FILES_AGE_MAX, Security};
pub(crate) use trouble::CallError;
