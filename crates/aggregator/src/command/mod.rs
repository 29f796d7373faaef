//! What people ask of the aggregator beside counting.

mod export;
mod rebuild;
mod top;

use clap::Subcommand;
use pipeline_core::lifecycle::CommonArgs;

use crate::Portion;

#[derive(Subcommand, Debug)]
pub enum Command {
    Export(export::Export),
    Rebuild(rebuild::Rebuild),
    Top(top::Args),
}

impl Command {
    /// Runs to its end; gives the exit code.
    #[must_use]
    pub fn run(self, common: &CommonArgs, portion: Portion) -> u8 {
        match self {
            Self::Export(command) => command.run(&common.load_or_exit()),
            Self::Rebuild(command) => command.run(&common.load_or_exit(), portion),
            // It needs none where it is told a directory.
            Self::Top(command) => command.run(common),
        }
    }
}
