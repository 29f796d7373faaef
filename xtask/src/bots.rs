//! `cargo xtask bots`: the lists by which bots are told apart, and how well that works.

mod agents;
mod check;
mod packages;
mod update;

use anyhow::Result;
use clap::Subcommand;

/// Renew the lists by which bots are told apart, and see how well that works
#[derive(Subcommand)]
pub enum Command {
    Update(update::Args),
    Check(check::Args),
}

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Update(args) => update::run(args),
        Command::Check(args) => check::run(args),
    }
}
