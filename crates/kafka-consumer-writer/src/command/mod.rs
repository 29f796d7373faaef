//! What `kafka-consumer-writer` does besides writing: its commands, each in a file of its own. They
//! print and end; all but `repair` may be used beside a writer that runs.

pub mod dlq;
pub mod segments;
pub mod verify;

use clap::{Subcommand, value_parser};
use pipeline_core::{
    PartitionId,
    command::{Received, say},
    lifecycle::{CommonArgs, exit},
};

use crate::repair;

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Prove that nothing is missing in the store and nothing is there twice: exit 0 when it is
    /// whole, 1 with the place when not
    Verify(verify::Verify),
    /// Set the damaged end of a chain aside, if Kafka still has its offsets: the writer reads them
    /// once more. Stop all writers first; exit 0 when nothing is damaged any more, 1 when not, 75
    /// when only Kafka does not answer
    Repair {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Look into the store
    #[command(subcommand)]
    Segments(segments::SegmentsCommand),
    /// The consumer dead letter queue: messages that did not go into the store
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
}

impl Command {
    /// Runs to its end; gives the exit code.
    #[must_use]
    pub fn run(self, common: &CommonArgs) -> u8 {
        match self {
            Self::Verify(command) => command.run(common),
            Self::Repair { dry_run } => repair::command(&common.load_or_exit(), dry_run),
            Self::Segments(command) => command.run(common),
            Self::Dlq(command) => command.run(common),
        }
    }
}

/// Says what is wrong with a range that nothing can lie in; gives the exit code then.
fn refuse_turned(
    from_offset: Option<i64>,
    to_offset: Option<i64>,
    received: &Received,
) -> Option<u8> {
    let turned = from_offset.zip(to_offset).filter(|(from, to)| from > to);
    let Some((from, to)) = turned else {
        return received.refused();
    };
    say(&format!(
        "error: --from-offset {from} is above --to-offset {to}"
    ));
    Some(exit::USAGE)
}

/// Which partitions are meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Where {
    /// Only this topic
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
}

impl Where {
    #[must_use]
    pub fn partition(&self) -> Option<PartitionId> {
        self.partition.map(PartitionId)
    }

    /// What to say where no chain is one of these; `None`: all are meant, and there may be none.
    #[must_use]
    pub fn no_chain(&self) -> Option<String> {
        let names_one = self.topic.is_some() || self.partition.is_some();
        names_one.then(|| format!("no chain of {self}"))
    }
}

impl std::fmt::Display for Where {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, "topic {topic} partition {partition}"),
            (Some(topic), None) => write!(f, "topic {topic}"),
            (None, Some(partition)) => write!(f, "partition {partition}"),
            (None, None) => f.write_str("any topic"),
        }
    }
}
