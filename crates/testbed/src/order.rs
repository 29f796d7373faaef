//! Order: what is stored of a partition is what its log holds, in the log's order, each record
//! where it came first. `kcat` reads the log and `zstdcat` the segments, so that no code is shared
//! with what is judged. Every record of the log must come from a load.

use std::{
    collections::HashSet,
    fmt,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    skip,
    stand::Stand,
    store::{place, segments_of},
};

/// Longest that reading one log may take, in seconds.
const LOG_WITHIN: &str = "120";

/// What was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    pub partitions: u32,
    pub records: u64,
    /// Copies in the logs, which are stored once.
    pub copies: u64,
    /// Messages that are no records: they are in no chain.
    pub poison: u64,
}

/// What poison that a campaign sends begins with.
pub const POISON: &str = "poison ";

/// [`check`], where it can run; else says so.
///
/// # Errors
/// As [`check`].
pub fn check_if_possible(stand: &Stand, chains: &Path) -> Result<Option<Order>> {
    if can_check() {
        return check(stand, chains).map(Some);
    }
    skip::skipped("order in each partition", "kcat is not installed");
    Ok(None)
}

/// Whether [`check_if_possible`] checks here.
pub fn can_check() -> bool {
    let there = |program: &str| Command::new(program).arg("-V").output().is_ok();
    there("kcat") && there("zstdcat")
}

/// Compares the chain of each partition's directory in `chains` with its log. All that was produced
/// must have been stored, and nothing of the log or the chain been removed.
///
/// # Errors
/// Where they differ, with the place; or where they cannot be read.
fn check(stand: &Stand, chains: &Path) -> Result<Order> {
    let broker = stand.kafka();
    let mut order = Order {
        partitions: stand.plan.partitions,
        records: 0,
        copies: 0,
        poison: 0,
    };
    for partition in 0..stand.plan.partitions {
        check_partition(&broker, &stand.plan.topic, chains, partition, &mut order)
            .with_context(|| format!("partition {partition}"))?;
    }
    Ok(order)
}

fn check_partition(
    broker: &str,
    name: &str,
    topic: &Path,
    partition: u32,
    order: &mut Order,
) -> Result<()> {
    let mut log = Command::new("timeout");
    log.args([
        LOG_WITHIN, "kcat", "-C", "-e", "-q", "-b", broker, "-t", name,
    ])
    .args(["-p", &partition.to_string(), "-o", "beginning"]);
    let mut log = Places::of(log)?;
    let files = segments_of(&topic.join(format!("p{partition:05}")))?;
    let mut chain = Command::new("zstdcat");
    // Without a file it would read its input.
    chain.arg("--").args(&files);
    let mut chain = if files.is_empty() {
        None
    } else {
        Some(Places::of(chain)?)
    };
    let mut seen = HashSet::new();
    while let Some(logged) = log.read()? {
        let Some(logged) = logged else {
            order.poison += 1;
            continue;
        };
        if !seen.insert(logged) {
            order.copies += 1;
            continue;
        }
        let stored = chain.as_mut().map_or(Ok(None), Places::read)?;
        ensure!(
            stored == Some(Some(logged)),
            "at record {} the log has {logged:?} and the chain {stored:?}",
            seen.len()
        );
        order.records += 1;
    }
    if let Some(mut chain) = chain {
        if let Some(more) = chain.read()? {
            bail!("the chain has {more:?}, which the log has not");
        }
        chain.end()?;
    }
    log.end()
}

/// The numbers of the records that a program prints, one a line.
struct Places {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    line: Vec<u8>,
}

impl Places {
    fn of(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let output = child.stdout.take().context("it has an output")?;
        Ok(Self {
            child,
            lines: BufReader::with_capacity(1 << 18, output),
            line: Vec::new(),
        })
    }

    /// The next one; poison has no number.
    fn read(&mut self) -> Result<Option<Option<(u32, u32)>>> {
        self.line.clear();
        if self.lines.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.starts_with(POISON.as_bytes()) {
            return Ok(Some(None));
        }
        let found = place(&self.line);
        let found = found.with_context(|| {
            format!(
                "no record of the load: {}",
                String::from_utf8_lossy(&self.line)
            )
        })?;
        Ok(Some(Some(found)))
    }

    fn end(mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "it could not be read to its end: {status}"
        );
        Ok(())
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records in {} partitions stand in their logs' order ({} copies stored once, {} \
             poison)",
            self.records, self.partitions, self.copies, self.poison
        )
    }
}
