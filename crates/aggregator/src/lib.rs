//! Chains in, hourly analytics out, each record counted once.
//!
//! In the order of a record's way: `backlog` (what there is to read), `fold` (segment → counts),
//! `counts` and `hour` (what counts are), `state` and `manifest` (how they are kept), `keeper` (who
//! may go on), `render` and `summaries` (what people see); [`run`] is one run over all of it,
//! [`service`] the process around it.

mod hour;

mod backlog;
mod counts;
mod fold;

mod state;

mod keeper;
mod manifest;

mod render;
mod summaries;

pub mod run;
pub mod service;

pub use backlog::Portion;
pub use run::Aggregator;

#[cfg(test)]
mod tests;
