//! What `ingest-gateway` does besides serving: its commands, each in a file of its own. They
//! print and end; none of them listens or talks to a gateway that runs.

pub mod keys;

use clap::Subcommand;
use pipeline_core::lifecycle::CommonArgs;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// API keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

impl Command {
    /// Runs to its end; gives the exit code. One that needs the configuration takes it from
    /// `common`.
    #[must_use]
    pub fn run(self, _common: &CommonArgs) -> u8 {
        match self {
            Self::Keys(command) => command.run(),
        }
    }
}
