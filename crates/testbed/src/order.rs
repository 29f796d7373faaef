//! Order: what is stored of a partition is what its log holds, in the log's order, each record
//! where it came first that was not put aside. Each message has one fate: stored, a copy of what is
//! stored, or put aside in the consumer DLQ, under its own offset. `kcat` reads the log and `zstdcat`
//! the segments, so that no code is shared with what is judged. Every record of the log must come
//! from a load.

mod reach;

use std::{
    collections::HashSet,
    fmt,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use self::reach::Reach;
use crate::{
    aside::{Aside, Message},
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
    /// Messages that were put aside, as copies of them may have left the duplicate window.
    pub undecidable: u64,
}

/// What poison that a campaign sends begins with.
pub const POISON: &str = "poison ";

/// [`check`], where it can run; else says so.
///
/// # Errors
/// As [`check`].
pub fn check_if_possible(
    stand: &Stand,
    chains: &Path,
    window: Option<u32>,
) -> Result<Option<Order>> {
    if can_check() {
        return check(stand, chains, window).map(Some);
    }
    skip::skipped("order in each partition", "kcat is not installed");
    Ok(None)
}

/// Whether [`check_if_possible`] checks here.
pub fn can_check() -> bool {
    let there = |program: &str| Command::new(program).arg("-V").output().is_ok();
    there("kcat") && there("zstdcat")
}

/// Compares the chain of each partition's directory in `chains` with its log and the consumer DLQ.
/// All that was produced must have been stored or put aside, and nothing of the log or the chain
/// been removed. `window`: the least that `consumer.dedupMaxBatches` ever was; none is undecidable
/// while so few batches were stored behind its *since*.
///
/// # Errors
/// Where they differ, with the place; or where they cannot be read.
fn check(stand: &Stand, chains: &Path, window: Option<u32>) -> Result<Order> {
    let aside = Aside::read(&stand.dir)?;
    let mut order = Order {
        partitions: stand.plan.partitions,
        records: 0,
        copies: 0,
        poison: 0,
        undecidable: 0,
    };
    for partition in 0..stand.plan.partitions {
        let mut log = Command::new("timeout");
        log.args([LOG_WITHIN, "kcat", "-C", "-e", "-q", "-b", &stand.kafka()])
            .args(["-t", &stand.plan.topic, "-p", &partition.to_string()])
            .args(["-o", "beginning", "-f", "%o %s\\n"]);
        let files = segments_of(&chains.join(format!("p{partition:05}")))?;
        Walk {
            partition,
            chain: chain(&files)?,
            aside: &aside,
            seen: HashSet::new(),
            reach: Reach::default(),
            window,
        }
        .over(Lines::of(log)?, &mut order)
        .with_context(|| format!("partition {partition}"))?;
    }
    Ok(order)
}

/// `None` where there is no file: `zstdcat` would read its input.
fn chain(files: &[PathBuf]) -> Result<Option<Lines>> {
    let mut chain = Command::new("zstdcat");
    chain.arg("--").args(files);
    (!files.is_empty()).then(|| Lines::of(chain)).transpose()
}

/// Along one partition's log.
struct Walk<'a> {
    partition: u32,
    chain: Option<Lines>,
    aside: &'a Aside,
    seen: HashSet<(u32, u32)>,
    reach: Reach,
    window: Option<u32>,
}

impl Walk<'_> {
    fn over(mut self, mut log: Lines, order: &mut Order) -> Result<()> {
        let mut put_aside = 0;
        while let Some(line) = log.read()? {
            let (offset, value) = logged(line)?;
            let aside = self.aside.at(self.partition, offset);
            put_aside += u64::from(aside.is_some());
            match (number(value)?, aside) {
                (None, Some(Message::Poison)) => order.poison += 1,
                (Some(_), Some(Message::Undecidable { since })) => {
                    order.undecidable += 1;
                    self.undecidable(offset, since)?;
                }
                (Some(record), None) if self.seen.contains(&record) => order.copies += 1,
                (Some(record), None) => {
                    self.stored(offset, record)?;
                    order.records += 1;
                }
                (number, aside) => bail!(
                    "offset {offset} is record {number:?}, and in the consumer DLQ as {aside:?}"
                ),
            }
        }
        let there = self.aside.messages_of(self.partition);
        ensure!(
            put_aside == there,
            "of {there} messages in the consumer DLQ {put_aside} are in the log"
        );
        if let Some(mut chain) = self.chain {
            if let Some(more) = chain.read()? {
                let more = number(more)?;
                bail!("the chain has {more:?}, which the log has not");
            }
            chain.end()?;
        }
        log.end()
    }

    fn stored(&mut self, offset: i64, record: (u32, u32)) -> Result<()> {
        let line = self.chain.as_mut().map_or(Ok(None), Lines::read)?;
        let stored = line.map(number).transpose()?;
        ensure!(
            stored == Some(Some(record)),
            "at offset {offset} the log has {record:?} and the chain {stored:?}"
        );
        self.seen.insert(record);
        self.reach.stored(offset, record.0);
        Ok(())
    }

    fn undecidable(&self, offset: i64, since: Option<i64>) -> Result<()> {
        let since = since.context("undecidable without a since")?;
        let window = self.window.context("with a window that holds all")?;
        let behind = self.reach.behind(since);
        ensure!(
            behind > u64::from(window),
            "offset {offset} is undecidable with since {since}, behind which {behind} batches were \
             stored, and the window holds {window}"
        );
        Ok(())
    }
}

/// Offset and value, as the log's reader prints them.
fn logged(line: &[u8]) -> Result<(i64, &[u8])> {
    let at = line.iter().position(|byte| *byte == b' ');
    let (offset, value) = line.split_at(at.context("no offset")?);
    Ok((std::str::from_utf8(offset)?.parse()?, &value[1..]))
}

/// The number of a record; poison has none.
fn number(value: &[u8]) -> Result<Option<(u32, u32)>> {
    if value.starts_with(POISON.as_bytes()) {
        return Ok(None);
    }
    let found = place(value);
    let found = found
        .with_context(|| format!("no record of the load: {}", String::from_utf8_lossy(value)))?;
    Ok(Some(found))
}

/// What a program prints.
struct Lines {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    line: Vec<u8>,
}

impl Lines {
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

    fn read(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let read = self.lines.read_until(b'\n', &mut self.line)?;
        Ok((read > 0).then_some(&self.line))
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
