//! The binary as people and their supervisors meet it: commands, signals, the configuration file,
//! the log.

mod keys;
mod place;
