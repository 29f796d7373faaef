//! `dlq list|show|replay|discard`: what is in a consumer DLQ, and what becomes of it once someone has
//! decided.
//!
//! `list` and `show` only read; of the others one may run at a time. All of them may be used beside
//! writers that run. With `--dir` it may be the directory of a writer that is gone.

mod corrections;
pub mod discard;
mod list;
mod records;
pub mod replay;
pub mod send;
mod show;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Subcommand, builder::PossibleValuesParser, value_parser};
use pipeline_core::{
    Offset,
    command::{Received, failed, in_use, print, say},
    envelope::Envelope,
    fsx::{Lock, LockError},
    lifecycle::{CommonArgs, exit},
};

use super::{Where, refuse_turned};
use crate::dead_letters::{
    Entry, EntryHeader, EntryKind, Seen, Survey, marks::Marks, survey, tidy,
};

#[derive(Subcommand, Debug)]
pub enum DlqCommand {
    /// List the messages: poison, undecidable, and copies of those whose save failed
    List {
        #[command(flatten)]
        which: Which,
        /// NDJSON, one object a message, instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the messages as NDJSON, each with where it comes from, why it is here, and its value
    Show {
        #[command(flatten)]
        which: Which,
        /// The values alone, one a line
        #[arg(long)]
        values: bool,
    },
    /// Send poison that passes the rules by now, or is corrected, and undecidable messages to their
    /// partitions again: exit 0 when none of them is left, 1 when some are, 75 when another command
    /// has the directory
    Replay {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: replay::How,
    },
    /// Throw poison and undecidable messages away: shows them in sum and asks first. The books go on
    /// counting them as what they were. `show` prints them, to be kept elsewhere before
    Discard {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: discard::How,
    },
}

/// Where to look, and for what.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Which {
    /// The directory of the queue, where it is not the configuration's consumer.dlqDir
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    #[command(flatten)]
    pub place: Where,
    /// Only messages that are here as this; may be given several times
    #[arg(long, value_name = "KIND",
        value_parser = PossibleValuesParser::new(EntryKind::ALL.map(EntryKind::as_str)))]
    pub kind: Vec<String>,
    /// Only from this offset on
    #[arg(long, value_name = "N", value_parser = value_parser!(i64).range(0..))]
    pub from_offset: Option<i64>,
    /// Only below this offset
    #[arg(long, value_name = "N", value_parser = value_parser!(i64).range(0..))]
    pub to_offset: Option<i64>,
    #[command(flatten)]
    pub received: Received,
    /// Also what has been replayed or thrown away already and is still in a file
    #[arg(long)]
    pub done: bool,
}

impl DlqCommand {
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        let which = match &self {
            Self::List { which, .. }
            | Self::Show { which, .. }
            | Self::Replay { which, .. }
            | Self::Discard { which, .. } => which,
        };
        let (from, to) = (which.from_offset, which.to_offset);
        if let Some(code) = refuse_turned(from, to, &which.received) {
            return code;
        }
        match self {
            Self::List { which, json } => {
                let dir = which.dir(common);
                print(&dir, |out| which.list(&dir, json, out).map(|()| exit::OK))
            }
            Self::Show { which, values } => {
                let dir = which.dir(common);
                print(&dir, |out| which.show(&dir, values, out).map(|()| exit::OK))
            }
            Self::Discard { which, how } => {
                let (dir, bytes_max) = match &which.dir {
                    // Its bound is known to its writer alone, which keeps it at its next start.
                    Some(dir) => (dir.clone(), u64::MAX),
                    None => {
                        let consumer = common.load_or_exit().consumer;
                        (consumer.dlq_dir, consumer.dlq_max_bytes)
                    }
                };
                discard::run(&dir, bytes_max, &which, how)
            }
            Self::Replay { which, how } => {
                let mut config = common.load_or_exit();
                if let Some(dir) = &which.dir {
                    config.consumer.dlq_dir.clone_from(dir);
                }
                replay::run(&config, &which, &how)
            }
        }
    }
}

impl Which {
    /// The configuration is read only where no directory is named.
    fn dir(&self, common: &CommonArgs) -> PathBuf {
        let configured = || common.load_or_exit().consumer.dlq_dir;
        self.dir.clone().unwrap_or_else(configured)
    }

    /// Lists what is in `dir`.
    ///
    /// # Errors
    /// Where the directory cannot be listed, or `out` does not take it.
    pub fn list(&self, dir: &Path, json: bool, out: &mut dyn Write) -> io::Result<()> {
        list::run(self, dir, json, out)
    }

    /// Prints what is in `dir`.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn show(&self, dir: &Path, values: bool, out: &mut dyn Write) -> io::Result<()> {
        show::run(self, dir, values, out)
    }

    fn wants(&self, seen: &Seen<'_>) -> bool {
        let (place, entry) = (seen.place, seen.entry);
        let received_ms = received_ms(entry);
        let kind = entry.kind.as_str();
        let topic = self.place.topic.as_ref();
        topic.is_none_or(|topic| *topic == place.topic)
            && self
                .place
                .partition()
                .is_none_or(|it| it == place.partition)
            && (self.kind.is_empty() || self.kind.iter().any(|wanted| wanted == kind))
            && self.from_offset.is_none_or(|from| from <= entry.offset.0)
            && self.to_offset.is_none_or(|to| entry.offset.0 < to)
            && self.received.has(received_ms)
            && (self.done || !seen.progress.is_done())
    }

    /// Gives what is wanted of `dir`.
    fn survey(
        &self,
        dir: &Path,
        each: &mut dyn FnMut(&Seen<'_>) -> io::Result<()>,
    ) -> io::Result<Survey> {
        self.survey_with(dir, &Marks::read(dir)?, each)
    }

    fn survey_with(
        &self,
        dir: &Path,
        marks: &Marks,
        each: &mut dyn FnMut(&Seen<'_>) -> io::Result<()>,
    ) -> io::Result<Survey> {
        survey(dir, marks, &mut |seen| {
            if self.wants(seen) { each(seen) } else { Ok(()) }
        })
    }
}

/// The right to mark messages of a directory that is there, or the exit code without it. A dry run
/// needs none: it only reads, as `list` does.
fn lock(dir: &Path, dry_run: bool) -> Result<Option<Lock>, u8> {
    std::fs::read_dir(dir).map_err(|error| failed(dir, &error))?;
    if dry_run {
        return Ok(None);
    }
    let locked = tidy::lock_replay(dir).map_err(|error| match error {
        LockError::Io(error) => failed(dir, &format!("cannot be locked: {error}")),
        LockError::Held { by } => in_use(dir, by.as_deref().unwrap_or("another command"), ""),
    });
    locked.map(Some)
}

fn say_damage(survey: &Survey) {
    for line in &survey.damage {
        say(&format!("damage: {line}"));
    }
}

/// What came with the message, if that can be understood.
fn envelope(entry: &Entry<'_>) -> Option<Envelope> {
    match entry.header {
        EntryHeader::Bytes(bytes) => Envelope::decode(bytes).ok(),
        EntryHeader::Absent | EntryHeader::Null | EntryHeader::Repeated => None,
    }
}

/// The time of first receipt, or where nobody knows it that of the message.
fn received_ms(entry: &Entry<'_>) -> i64 {
    envelope(entry).map_or(entry.timestamp_ms, |envelope| envelope.received_ms)
}

/// What its reason has in common with others of its kind: without what was found, which stands
/// behind the colon, and without numbers.
fn kind_of_reason(entry: &Entry<'_>) -> String {
    let kind = entry.detail.split(':').next().unwrap_or_default();
    let mut common = String::with_capacity(kind.len());
    for char in kind.chars() {
        if !char.is_ascii_digit() {
            common.push(char);
        } else if !common.ends_with('N') {
            common.push('N');
        }
    }
    common
}

/// What has become of it, for people.
fn state(seen: &Seen<'_>) -> String {
    let progress = &seen.progress;
    match (seen.entry.kind, progress.landed, progress.since) {
        (EntryKind::Unsaved, _, _) => "in kafka".to_owned(),
        (_, Some(Offset(landed)), _) => format!("replayed at {landed}"),
        _ if progress.discarded_ms.is_some() => "thrown away".to_owned(),
        (_, None, Some(_)) => "may be sent".to_owned(),
        (_, None, None) => "waits".to_owned(),
    }
}
