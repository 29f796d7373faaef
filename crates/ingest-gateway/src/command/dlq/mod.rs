//! `ingest-gateway dlq list|show|replay`: what is in a producer DLQ, and sending it by hand.
//!
//! `list` and `show` only read, also beside a gateway that runs; `replay` wants the directory for
//! itself. With `--dir` it may be one of a gateway that is gone.

mod list;
mod replay;
mod show;
mod survey;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use pipeline_core::{
    BatchId,
    command::{Received, Sending},
    lifecycle::CommonArgs,
};

use super::{print, say};
use crate::dlq::{Reason, filter::Filter};

#[derive(Subcommand, Debug)]
pub enum DlqCommand {
    /// List the entries, oldest first
    List {
        #[command(flatten)]
        which: Which,
        /// NDJSON, one object an entry, instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the records of the entries as NDJSON
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Send the entries to Kafka: exit 0 when none of them is left, 1 when some are, 75 when a
    /// gateway that runs has the directory (it replays by itself)
    Replay {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: Sending,
    },
}

/// Where to look, and for what.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// The directory of the queue, where it is not the configuration's
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    received: Received,
    /// Only entries with a record of this site
    #[arg(long, value_name = "HOST")]
    site: Option<String>,
    /// Only entries that are here for this reason; may be given several times
    #[arg(long, value_name = "CODE",
        value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)))]
    reason: Vec<String>,
    /// Only entries of this batch: the batchId of an answer
    #[arg(long, value_name = "ID", value_parser = batch)]
    batch: Option<BatchId>,
}

impl DlqCommand {
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        let (Self::List { which, .. } | Self::Show { which } | Self::Replay { which, .. }) = &self;
        if let Some(code) = which.received.refused() {
            return code;
        }
        match self {
            Self::List { which, json } => {
                which.look(common, |look, out| list::run(look, json, out))
            }
            Self::Show { which } => which.look(common, show::run),
            Self::Replay { which, how } => {
                let mut config = common.load_or_exit();
                if let Some(dir) = &which.dir {
                    config.ingestion.producer_dlq_dir.clone_from(dir);
                }
                replay::run(config, which.filter(), &how)
            }
        }
    }
}

/// A directory and what is asked for in it.
struct Look {
    dir: PathBuf,
    filter: Filter,
}

impl Which {
    /// Looks without the lock, and without a configuration where the directory is named.
    fn look(
        self,
        common: &CommonArgs,
        run: impl FnOnce(&Look, &mut dyn Write) -> io::Result<()>,
    ) -> u8 {
        let filter = self.filter();
        let dir = self.dir.unwrap_or_else(|| {
            let config = common.load_or_exit();
            config.ingestion.producer_dlq_dir
        });
        let look = Look { dir, filter };
        print(&look.dir, |out| run(&look, out))
    }

    fn filter(&self) -> Filter {
        let wanted = |reason: &Reason| self.reason.iter().any(|code| code == reason.as_str());
        Filter {
            from_ms: self.received.from,
            to_ms: self.received.to,
            site: self.site.clone(),
            reasons: Reason::ALL.into_iter().filter(wanted).collect(),
            batch: self.batch,
        }
    }
}

fn batch(text: &str) -> Result<BatchId, String> {
    let digits = text.as_bytes().iter().filter(|b| b.is_ascii_hexdigit());
    if text.len() != 32 || digits.count() != 32 {
        return Err("a batch id has 32 hex digits".to_owned());
    }
    let id = u128::from_str_radix(text, 16).map_err(|error| error.to_string())?;
    Ok(BatchId(id.to_be_bytes()))
}
