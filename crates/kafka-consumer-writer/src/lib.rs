//! Kafka in, immutable chains of segments out, exactly once.
//!
//! In the order a message meets them: [`batcher`] (buffer, pure), [`window`] (duplicates, pure).

pub mod batcher;
pub mod budget;
pub mod partition;
pub mod window;

mod sequences;
