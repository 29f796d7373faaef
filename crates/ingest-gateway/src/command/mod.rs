//! What `ingest-gateway` does besides serving: its commands, each in a file of its own. They
//! print and end; none of them listens or talks to a gateway that runs.

pub mod dlq;
pub mod keys;
pub mod rejects;

use std::{
    io::{self, Write},
    path::Path,
};

use clap::Subcommand;
use pipeline_core::{
    command::{self, say},
    lifecycle::{CommonArgs, exit},
};

#[derive(Subcommand, Debug)]
pub enum Command {
    /// The dead letter queue: batches that Kafka did not take
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Rejected records with their reasons (`ingestion.rejectsDir`)
    #[command(subcommand)]
    Rejects(rejects::RejectsCommand),
}

impl Command {
    /// Runs to its end; gives the exit code. One that needs the configuration takes it from
    /// `common`.
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        match self {
            Self::Dlq(command) => command.run(common),
            Self::Keys(command) => command.run(),
            Self::Rejects(command) => command.run(common),
        }
    }
}

/// Prints what is in `dir`; gives the exit code.
fn print(dir: &Path, run: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> u8 {
    command::print(dir, |out| run(out).map(|()| exit::OK))
}
