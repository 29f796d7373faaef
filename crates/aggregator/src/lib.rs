//! Chains in, hourly analytics out, each record counted once.
//!
//! In the order of a record's way: `backlog` (what there is to read), `bots` and `classes` (who asked),
//! `fold` (segment → counts), `hour`, `client`, `table`, `sketch` and `counts` (what counts are),
//! `state` and `manifest` (how they are kept), `keeper` (who may go on), `held` (counts that wait
//! for a commit) and `days` (counts added to what is kept), `render`, `summaries`, [`report`] and `reports` (what people see), [`archive`]
//! (each record, whole, for other tools), `retention` (what goes again), `rebuild` (all of it made
//! anew), [`command`] (what people ask); [`run`] is one run over all of it, [`service`] the process
//! around it.

pub mod hour;

mod backlog;
mod held;

mod client;
mod counts;
mod sketch;
mod table;

pub mod bots;
mod classes;
mod fold;

mod state;

mod keeper;
mod manifest;

mod days;

pub mod archive;
mod rebuild;
mod retention;

mod render;
mod summaries;

pub mod report;
mod reports;

pub mod command;
pub mod run;
pub mod service;

pub use archive::{Archiving, Clock, Policy};
pub use backlog::Portion;
pub use counts::Limits;
pub use held::Bounds as HeldBounds;
pub use run::{Aggregator, Settings};

#[cfg(test)]
mod tests;
