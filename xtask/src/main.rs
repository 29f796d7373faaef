//! `cargo xtask`: the commands that build, show, prove and measure Sluice. One file a command.
//!
//! Never part of the product: it starts the built binaries and looks at them from outside.

mod shell;

mod bench;
mod bots;
mod chaos;
mod ci;
mod counts;
mod demo;
mod deploy;
#[cfg(test)]
mod documents;
mod drill;
mod fuzz;
mod kafka;
mod overload;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The commands of this repository.
///
/// `cargo xtask COMMAND --help` tells what a command does, what it needs and what it leaves behind.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    max_term_width = 100,
    after_help = TEACHES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const TEACHES: &str = "\
New here:         cargo xtask demo
Before a change:  cargo xtask test
On a real Kafka:  cargo xtask kafka up, then cargo xtask test --kafka 127.0.0.1:19092
Is it fast:       cargo xtask bench gateway (with that Kafka)
Does it hold:     cargo xtask chaos pipeline --seed 1 --rounds 5
CONTRIBUTING.md says how things are added.";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Test(test::Args),
    #[command(subcommand)]
    Kafka(kafka::Command),
    Chaos(chaos::Args),
    Bench(bench::Args),
    #[command(subcommand)]
    Counts(counts::Command),
    #[command(subcommand)]
    Bots(bots::Command),
    #[command(subcommand)]
    Deploy(deploy::Command),
    Drill(drill::Args),
    Fuzz(fuzz::Args),
    Overload(overload::Args),
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Kafka(command) => kafka::run(&command),
        Command::Bench(args) => bench::run(&args),
        Command::Bots(command) => bots::run(&command),
        Command::Deploy(command) => deploy::run(&command),
        Command::Drill(args) => drill::run(&args),
        Command::Counts(command) => counts::run(&command),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Overload(args) => overload::run(&args),
        Command::Ci(args) => ci::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
