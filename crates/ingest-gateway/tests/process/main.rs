//! The binary as people and their supervisors meet it: commands, signals, the configuration file,
//! the log.

mod dlq;
mod drain;
mod examples;
mod fixtures;
mod keys;
mod place;
mod slow;
mod strangers;
mod taken;
mod tls;
#[path = "../common/topic.rs"]
mod topic;
mod upload;
