//! `segments ls|cat`: what is in the store, by topic, partition, offset or time of receipt. Goes by
//! the names, so it reads beside a writer and beside removal, and damage hides nothing but itself.

mod cat;
mod ls;

use std::{
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use pipeline_core::{
    Offset,
    command::{Received, print, say},
    lifecycle::{CommonArgs, exit},
    store::{Chain, ChainFault, Store, StoredRun, Visited},
};

use super::{Where, refuse_turned};

#[derive(Subcommand, Debug)]
pub enum SegmentsCommand {
    /// List the segments: offsets, what became of them, bytes, times
    Ls {
        #[command(flatten)]
        which: Which,
        /// NDJSON, one object a segment, instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the stored records as NDJSON
    Cat {
        #[command(flatten)]
        which: Which,
        /// Each record within an object that says where it comes from: topic, partition, offset,
        /// time of receipt, batch and sequence
        #[arg(long)]
        with_offsets: bool,
    },
}

/// Where to look, and for what.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Which {
    /// The store, where it is not the configuration's storage.logsDir
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub place: Where,
    /// Only this offset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..),
        conflicts_with_all = ["from_offset", "to_offset"])]
    pub offset: Option<i64>,
    /// Only from this offset on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub from_offset: Option<i64>,
    /// Only below this offset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub to_offset: Option<i64>,
    #[command(flatten)]
    pub received: Received,
}

impl SegmentsCommand {
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        match self {
            Self::Ls { which, json } => which.print(common, |root, out| which.ls(root, json, out)),
            Self::Cat {
                which,
                with_offsets,
            } => which.print(common, |root, out| which.cat(root, with_offsets, out)),
        }
    }
}

impl Which {
    fn print(
        &self,
        common: &CommonArgs,
        run: impl FnOnce(&Path, &mut dyn Write) -> io::Result<u8>,
    ) -> u8 {
        let refused = refuse_turned(self.from_offset, self.to_offset, &self.received);
        if let Some(code) = refused {
            return code;
        }
        let configured = || common.load_or_exit().storage.logs_dir;
        let root = self.dir.clone().unwrap_or_else(configured);
        print(&root, |out| run(&root, out))
    }

    /// Lists the segments of the store at `root`; gives the exit code.
    ///
    /// # Errors
    /// Where there is no store or no chain that is meant, it cannot be listed, or `out` does not
    /// take it.
    pub fn ls(&self, root: &Path, json: bool, out: &mut dyn Write) -> io::Result<u8> {
        ls::run(self, root, json, out)
    }

    /// Prints the records of the store at `root`; gives the exit code.
    ///
    /// # Errors
    /// As [`Self::ls`].
    pub fn cat(&self, root: &Path, with_offsets: bool, out: &mut dyn Write) -> io::Result<u8> {
        cat::run(self, root, with_offsets, out)
    }

    fn offsets(&self) -> Range<Offset> {
        if let Some(only) = self.offset {
            return Offset(only)..Offset(only.saturating_add(1));
        }
        let from = Offset(self.from_offset.unwrap_or(0));
        from..Offset(self.to_offset.unwrap_or(i64::MAX))
    }

    fn wants(&self, visited: &Visited) -> bool {
        let (trailer, offsets) = (&visited.trailer, self.offsets());
        let in_time = |run: &StoredRun| self.received.has(run.received_ms);
        offsets.start < offsets.end
            && trailer.first < offsets.end
            && offsets.start < trailer.next
            && (!self.received.is_asked() || trailer.stored.iter().any(in_time))
    }

    /// The chains that are meant.
    fn chains(&self, root: &Path) -> io::Result<Found> {
        let store = Store::open_existing(root).map_err(io::Error::other)?;
        let store = store.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no store is here (no file OWNER)")
        })?;
        let mut found = Found {
            chains: Vec::new(),
            code: exit::OK,
        };
        for topic in store.topics().map_err(io::Error::other)? {
            if self.place.topic.as_ref().is_some_and(|it| *it != topic) {
                continue;
            }
            match store.chains_of(&topic) {
                Ok(of_topic) => found.chains.extend(of_topic),
                Err(error) => found.failed(&error.to_string()),
            }
        }
        found.chains.retain(|chain| {
            let wanted = self.place.partition();
            wanted.is_none_or(|wanted| wanted == chain.partition())
        });
        match self.place.no_chain() {
            Some(none) if found.chains.is_empty() && found.code == exit::OK => {
                Err(io::Error::new(io::ErrorKind::NotFound, none))
            }
            _ => Ok(found),
        }
    }

    /// Visits of each chain the segments that may hold something wanted, and says what is missing
    /// between them, as each visit gives where its segment ends; gives the exit code.
    fn each(
        &self,
        mut found: Found,
        visit: &mut dyn FnMut(&Chain, Offset) -> Looked,
    ) -> io::Result<u8> {
        for chain in std::mem::take(&mut found.chains) {
            let names = match chain.names(&self.offsets()) {
                Ok(names) => names,
                Err(error) => {
                    found.failed(&error.to_string());
                    continue;
                }
            };
            let mut expected = None;
            for name in names {
                // One that stands is removed before those behind it.
                if let Some(gone) = expected.filter(|expected| *expected < name)
                    && let Err(ChainFault::Missing { path, .. }) = chain.look(gone)
                {
                    let (path, later) = (path.display(), chain.segment_path(name));
                    let later = later.file_name().unwrap_or_default().to_string_lossy();
                    found.failed(&format!("missing {path}: {later} is there"));
                }
                expected = None;
                match visit(&chain, name) {
                    Ok(next) => expected = next,
                    Err(LookError::Out(error)) => return Err(error),
                    Err(LookError::Chain(fault)) => found.failed(&fault.to_string()),
                }
            }
        }
        Ok(found.code)
    }
}

/// Chains to look into.
struct Found {
    chains: Vec<Chain>,
    code: u8,
}

impl Found {
    /// Something cannot be read: that is said, and is why the exit code is 1.
    fn failed(&mut self, error: &str) {
        say(error);
        self.code = exit::FAILED;
    }
}

/// Where the segment ends; `None`: it has been removed behind the watermark.
type Looked = Result<Option<Offset>, LookError>;

/// Only the second ends the command.
enum LookError {
    Chain(ChainFault),
    Out(io::Error),
}

impl From<ChainFault> for LookError {
    fn from(fault: ChainFault) -> Self {
        Self::Chain(fault)
    }
}

impl From<io::Error> for LookError {
    fn from(error: io::Error) -> Self {
        Self::Out(error)
    }
}
