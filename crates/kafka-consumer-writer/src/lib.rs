//! Kafka in, immutable chains of segments out, exactly once.
//!
//! In the order a message meets them: [`batcher`] (the buffer, pure, in bytes of the [`budget`]),
//! [`partition`] (what to do next, pure), [`save`] (on a blocking thread: [`assemble`] decides
//! with the [`window`], [`dead_letters`] keeps what cannot go on).

pub mod service;

pub mod found;
pub mod log_ends;
pub mod member;
pub mod session;
pub mod shared;
pub mod steps;

pub mod batcher;
pub mod books;
pub mod budget;
pub mod partition;

pub mod aside;
pub mod assemble;
pub mod dead_letters;
pub mod load;
pub mod save;
pub mod scrub;
pub mod snapshots;
pub mod takeover;
pub mod window;

mod sequences;

pub mod command;
pub mod repair;
