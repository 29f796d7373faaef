//! What people do with undecidable records, when all is over: those that are stored are thrown away,
//! those that are not go to Kafka again, by a `dlq replay` that is itself ended half way and run
//! again. Then each accepted record is stored once, and nothing waits.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    aside::Aside,
    ledger::{Fate, Ledger},
    oracle::{self, Verdict},
    process::{Process, poll_until},
    stand::Stand,
    store::{Store, place},
};

/// Of the replay that is ended; what there is takes it longer than it has.
const SLOW_RATE: &str = "50";
const ENDED_AFTER: Duration = Duration::from_millis(1_500);

/// What became of the messages that waited.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Decided {
    pub replayed: u64,
    pub discarded: u64,
}

/// Decides about all that the stand's consumer DLQs hold as undecidable. No service runs before,
/// and none behind it.
///
/// # Errors
/// When a command fails, or not every accepted record is stored once behind it.
pub fn decide(
    stand: &mut Stand,
    ledger: &Ledger,
    store: &mut Store,
    within: Duration,
) -> Result<Decided> {
    let mut decided = Decided::default();
    let mut wanted: HashSet<(u32, u32)> = HashSet::new();
    for number in 0..stand.writers.len() {
        let queue = Queue::of(stand, number);
        if !stand.dir.join(&queue.dir).exists() {
            continue;
        }
        let waiting = queue.waiting()?;
        let mut chosen = String::new();
        let mut replayed = 0;
        for line in &waiting {
            let record = record(line)?;
            let lacks = is_accepted(ledger, record) && store.copies(record.0, record.1) == 0;
            // Of several copies of one record the first.
            if lacks && wanted.insert(record) {
                chosen += &format!("{line}\n");
                replayed += 1;
            }
        }
        let file = stand.dir.join(format!("chosen-{number}.ndjson"));
        fs::write(&file, chosen)?;
        queue.replay(&file)?;
        let left = queue.waiting()?.len() as u64;
        ensure!(
            left + replayed == waiting.len() as u64,
            "{} messages waited, {replayed} were replayed, and {left} wait",
            waiting.len()
        );
        decided.replayed += replayed;
        decided.discarded += waiting.len() as u64 - replayed;
        queue.discard()?;
        let left = queue.waiting()?.len();
        ensure!(left == 0, "{left} messages wait after all was decided");
    }
    let verdict = stored_by_a_writer(stand, ledger, store, within)?;
    ensure!(
        verdict.holds() && verdict.undecidable == 0,
        "all was decided, but {verdict}"
    );
    Ok(decided)
}

/// A writer reads what was sent again; then nothing may be missing that is not put aside.
fn stored_by_a_writer(
    stand: &mut Stand,
    ledger: &Ledger,
    store: &mut Store,
    within: Duration,
) -> Result<Verdict> {
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;
    let nothing = Aside::default();
    let read = poll_until(within, || {
        store.refresh()?;
        let lacks = store.missing(ledger, &nothing).next().is_some();
        Ok((!lacks && stand.lag() == Some(0.0)).then_some(()))
    })?;
    if read.is_none() {
        let lacks: Vec<_> = store.missing(ledger, &nothing).take(10).collect();
        anyhow::bail!("replayed, and not stored after {within:?}: {lacks:?}");
    }
    stand.writers[0].terminate()?;
    stand.verify()?;
    stand.aggregate_once()?;
    store.refresh()?;
    let analytics = stand.analytics_dir();
    oracle::judge(ledger, store, &nothing, false, Some(&analytics))
}

fn is_accepted(ledger: &Ledger, (request, _): (u32, u32)) -> bool {
    let entry = ledger.entries.get(request as usize);
    entry.is_some_and(|entry| entry.fate == Fate::Accepted)
}

/// Of a line of `dlq show`.
fn record(line: &str) -> Result<(u32, u32)> {
    let shown: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    let value = shown["value"]
        .as_str()
        .with_context(|| format!("no value: {line}"))?;
    place(value.as_bytes()).with_context(|| format!("no record of the load: {line}"))
}

/// One writer's consumer DLQ, through its commands.
struct Queue {
    binary: PathBuf,
    config: PathBuf,
    dir: PathBuf,
    log: PathBuf,
}

impl Queue {
    fn of(stand: &Stand, number: usize) -> Self {
        let writer = &stand.writers[number];
        let dir = match number {
            0 => "dlq/consumer".to_owned(),
            _ => format!("dlq/consumer-{}", number + 1),
        };
        Self {
            binary: stand.binary("kafka-consumer-writer"),
            config: writer.config.clone(),
            dir: PathBuf::from(dir),
            log: stand.dir.join("services/dlq.log"),
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("dlq").args(words);
        command.args(["--kind", "undecidable", "--config"]);
        command.arg(&self.config);
        command
    }

    fn run(mut command: Command) -> Result<Output> {
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{command:?} ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }

    /// What waits for a decision, as `dlq show` prints it.
    fn waiting(&self) -> Result<Vec<String>> {
        let shown = Self::run(self.command(&["show"]))?;
        let text = String::from_utf8(shown.stdout)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Sends what is in the file; once ended half way, then to its end, then once more, as that
    /// changes nothing.
    fn replay(&self, file: &Path) -> Result<()> {
        let replay = |more: &[&str]| {
            let mut command = self.command(&["replay"]);
            command.arg("--corrected").arg(file).args(more);
            command
        };
        let mut slow = Process::spawn(replay(&["--rate", SLOW_RATE]), "replay", &self.log)?;
        sleep(ENDED_AFTER);
        if slow.ended()?.is_none() {
            slow.kill()?;
        }
        Self::run(replay(&[]))?;
        Self::run(replay(&[]))?;
        Ok(())
    }

    fn discard(&self) -> Result<()> {
        Self::run(self.command(&["discard", "--yes"])).map(|_| ())
    }
}
