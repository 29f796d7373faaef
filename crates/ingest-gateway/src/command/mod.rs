//! What `ingest-gateway` does besides serving: its commands, each in a file of its own. They
//! print and end; none of them listens or talks to a gateway that runs.

pub mod dlq;
pub mod keys;

use clap::Subcommand;
use pipeline_core::lifecycle::CommonArgs;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// The dead letter queue: batches that Kafka did not take
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

impl Command {
    /// Runs to its end; gives the exit code. One that needs the configuration takes it from
    /// `common`.
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        match self {
            Self::Dlq(command) => command.run(common),
            Self::Keys(command) => command.run(),
        }
    }
}
