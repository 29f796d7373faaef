//! HTTP in, Kafka out; every 202 is kept.
//!
//! In the order a record meets them: [`http`] (request → body), [`auth`] (who sends it), [`decode`] (body → records),
//! [`identity`], [`queue`], [`producer`] (queue → Kafka), [`dlq`] (what Kafka does not take), [`rejects`] (what was refused).
//! [`Gateway`] puts them together; `main` gives it a configuration and signals. Never touches the
//! store.

pub mod http;

pub mod auth;

pub mod budget;

pub mod batch;
pub mod decode;
pub mod identity;

pub mod queue;

pub mod producer;

pub mod dlq;

pub mod rejects;

pub mod command;

mod gateway;
mod telemetry;

pub use gateway::{Gateway, StartError, check, file_faults};
