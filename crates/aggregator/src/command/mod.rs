//! What people ask of the aggregator beside counting.

mod export;
mod rebuild;

use clap::Subcommand;
use pipeline_core::lifecycle::CommonArgs;

#[derive(Subcommand, Debug)]
pub enum Command {
    Export(export::Export),
    Rebuild(rebuild::Rebuild),
}

impl Command {
    /// Runs to its end; gives the exit code.
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        let config = common.load_or_exit();
        match self {
            Self::Export(command) => command.run(&config),
            Self::Rebuild(command) => command.run(&config),
        }
    }
}
