//! Drives the built binaries from outside and judges what they did.
//!
//! It shares no code with the product and names none of its crates: what it knows, it knows from
//! the contract. It is plain threads and blocking sockets, so that a fault in the product's
//! runtime or formats cannot hide in the judge too.

pub mod access_log;
pub mod aside;
pub mod balancer;
pub mod blast;
pub mod body;
pub mod bomb;
pub mod campaign;
pub mod chaos;
pub mod clock;
pub mod config;
pub mod control;
pub mod counting;
pub mod disk;
pub mod documents;
pub mod drill;
pub mod duckdb;
pub mod fixtures;
pub mod generate;
pub mod http;
pub mod kafka;
pub mod killing;
pub mod ledger;
pub mod load;
pub mod metrics;
pub mod oracle;
pub mod order;
pub mod overload;
pub mod pages;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod rebalances;
pub mod service;
pub mod skip;
pub mod stand;
pub mod store;
pub mod summaries;
