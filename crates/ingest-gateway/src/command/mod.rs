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
    lifecycle::{CommonArgs, exit},
    record::timestamp,
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
    let mut out = io::BufWriter::new(io::stdout().lock());
    match run(&mut out).and_then(|()| out.flush()) {
        Ok(()) => exit::OK,
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(error) => {
            say(&format!("{}: {error}", dir.display()));
            exit::FAILED
        }
    }
}

/// To stderr; that it is closed changes nothing.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A time of the command line, in ms since 1970.
fn time(text: &str) -> Result<i64, String> {
    let time = timestamp::parse(text.as_bytes());
    let time = time.map_err(|error| format!("{error}; allowed is {}", timestamp::ALLOWED))?;
    Ok(time.to_ms())
}
