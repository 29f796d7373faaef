//! The campaign against the aggregator: in each round its process ends, as by kill -9, at one seeded
//! step of counting, rendering, archiving or removing, or is stopped there until another has done
//! its work, or a rebuild ends; under load, with archive and retention on, while its writer dies or
//! stands now and then. At pauses and at the end, DuckDB. Each round follows from the seed and its
//! number alone.
//!
//! The aggregator is a build of its own (`examples/to_be_killed`): the environment names the step
//! and how often it is let pass.
//!
//! ```text
//! schedule (pure): seed, number ─▶ round
//! looks:           DuckDB on the archive, again and again, while all of it happens
//! kept:            every segment, linked for the oracle before it is removed
//! books:           the aggregator's own sums at every scrape
//! freeze, tree:    one that sleeps changes nothing when it is woken: all files, before and after
//! rebuild:         ended at its steps, with the state at hand or lost
//! proof:           raw NDJSON of all segments that ever were, against summaries and archive
//! ```

mod books;
mod freeze;
mod kept;
mod looks;
mod outcome;
mod proof;
mod rebuild;
pub mod schedule;
mod tree;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use self::{
    books::Books,
    kept::Kept,
    looks::Looks,
    proof::Records,
    schedule::{Blow, Round, What},
};
pub use self::{looks::Seen, outcome::Outcome};
use crate::{
    body::Mix,
    killing::{KILL_AT, schedule::Point},
    load::{self, Load},
    process::{Bins, poll_until},
    stand::{self, Stand},
    store::{Store, segments},
};

/// What the stand is set to.
const MAX_WAIT: Duration = Duration::from_secs(4);
const LIVE_RETENTION: Duration = Duration::from_secs(3);
/// Older than any day of the load, younger than 1970: what is removed with its day is known.
const DAYS_STAY: &str = "15000d";
const ALIVE_WITHIN: Duration = Duration::from_secs(60);
/// Beyond what is promised of segments: snapshots, ticks, a busy machine.
const MARGIN: Duration = Duration::from_secs(90);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub rounds: u32,
    /// Records a second.
    pub rate: u32,
    pub stand: stand::Plan,
    /// Rounds between two comparisons of every count.
    pub pause_every: u32,
    /// Wait at the end, under load, until every segment of one moment is removed.
    pub until_removed: bool,
    /// How long the pipeline may take to come to rest.
    pub rest_within: Duration,
}

/// Runs the rounds and judges. Everything stays in `dir`.
///
/// # Errors
/// When a service does not come back or does not come to rest, a store is damaged, DuckDB or the
/// books find a fault, or a sleeper changes anything. A verdict that does not hold is no error.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let faulty = Bins::aggregator_to_be_killed(plan.stand.profile)?;
    let mut stand = Stand::prepare(dir, setup(plan))?;
    stand.aggregator.binary = faulty;
    stand.start_broker()?;
    stand.start_others()?;
    stand.writers[0].start()?;
    let load = Load::start(&stand.addresses, load(plan));
    if !load.wait_accepted(1, ALIVE_WITHIN) {
        bail!("nothing was accepted in {ALIVE_WITHIN:?}: {}", load.stop());
    }
    let store = Store::new(&stand.logs_dir(), &stand.plan.topic, &mix(plan));
    let mut campaign = Campaign {
        kept: Kept::start(store.keeping(&stand.dir.join("kept"))),
        records: Records::new(&stand.dir)?,
        books: Books::watch(stand.aggregator.admin),
        looks: Looks::start(&stand.dir.join("archive"), &stand.analytics_dir())?,
        tally: Tally::default(),
    };
    for number in 1..=plan.rounds {
        let round = schedule::round(plan.seed, number);
        load.mark(&format!("round {number}"));
        let how = campaign
            .round(&round, &mut stand)
            .and_then(|how| campaign.look(&load).map(|()| how))
            .with_context(|| format!("{round}"))?;
        say(&format!("{round}: {how}, {} accepted", load.accepted()));
        if number.is_multiple_of(plan.pause_every) {
            let compared = campaign.pause(&mut stand).context("at a pause")?;
            let looks = campaign.looks.check()?;
            say(&format!("  pause: {compared}; {looks}"));
        }
    }
    campaign.end(plan, stand, load, say)
}

fn setup(plan: &Plan) -> stand::Plan {
    let mut setup = plan.stand.clone();
    let own = std::mem::take(&mut setup.settings);
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    setup = setup
        .with("kafka.groupInstanceID", "counted")
        // It is stopped for a while, and stays a member.
        .with("consumer.sessionTimeout", "20s")
        .with("consumer.flushInterval", "150ms")
        .with("aggregation.interval", "100ms")
        .with("aggregation.archiveAfter", "1s")
        .with("aggregation.archiveMaxWait", seconds(MAX_WAIT))
        .with("storage.liveRetention", seconds(LIVE_RETENTION))
        .with("storage.archiveRetention", DAYS_STAY)
        .with("storage.analyticsRetention", DAYS_STAY);
    setup.settings.extend(own);
    setup.aggregator = false;
    setup
}

fn load(plan: &Plan) -> load::Plan {
    load::Plan {
        mix: mix(plan),
        rate: (plan.rate > 0).then_some(plan.rate),
        connections: 4,
        ..load::Plan::default()
    }
}

fn mix(plan: &Plan) -> Mix {
    Mix {
        seed: plan.seed,
        records: (1, 60),
        // So that many hours are counted and archived side by side.
        records_per_hour: 3_000,
        strays_every: 40,
        ..Mix::default()
    }
}

#[derive(Default)]
struct Tally {
    hits: BTreeMap<Point, u32>,
    elsewhere: u32,
    frozen: u32,
    rebuilds: u32,
    blows: u32,
    compared: Vec<String>,
}

struct Campaign {
    kept: Kept,
    records: Records,
    books: Books,
    looks: Looks,
    tally: Tally,
}

impl Campaign {
    /// One life of the aggregator; says how it ended.
    fn round(&mut self, round: &Round, stand: &mut Stand) -> Result<String> {
        let how = match round.what {
            What::Kill => self.kill(round, stand)?,
            What::Freeze => {
                let how = freeze::freeze(stand, round)?;
                self.tally.frozen += 1;
                how
            }
            What::Rebuild { lost } => {
                let killed = rebuild::rebuild(stand, round, lost)?;
                self.tally.rebuilds += 1;
                self.ended(round, killed);
                let how = if killed { "killed there" } else { "not killed" };
                format!("{how}, then all made anew")
            }
        };
        sleep(Duration::from_millis(round.away_ms));
        Ok(how)
    }

    fn kill(&mut self, round: &Round, stand: &mut Stand) -> Result<String> {
        let aggregator = &mut stand.aggregator;
        aggregator.env = round.environment(KILL_AT);
        aggregator.start()?;
        aggregator.env.clear();
        if let Some(blow) = round.writer {
            let writer = &mut stand.writers[0];
            match blow {
                Blow::Kill { away_ms } => {
                    writer.kill()?;
                    sleep(Duration::from_millis(away_ms));
                    writer.start()?;
                }
                Blow::Freeze { for_ms } => {
                    writer.process()?.freeze()?;
                    sleep(Duration::from_millis(for_ms));
                    writer.process()?.thaw()?;
                }
            }
            self.tally.blows += 1;
        }
        let process = stand.aggregator.process()?;
        let begun = Instant::now();
        let there = loop {
            if let Some(status) = process.ended()? {
                if status.signal() != Some(Signal::KILL.as_raw()) {
                    bail!(
                        "the aggregator ended with {status}\n{}",
                        process.log_tail(20)
                    );
                }
                break true;
            }
            if begun.elapsed() >= round.within {
                process.kill()?;
                break false;
            }
            sleep(Duration::from_millis(2));
        };
        stand.aggregator.forget_ended();
        self.ended(round, there);
        Ok(match there {
            true => format!("killed there after {} ms", begun.elapsed().as_millis()),
            false => "the step did not come; killed elsewhere".to_owned(),
        })
    }

    fn ended(&mut self, round: &Round, there: bool) {
        if there {
            *self.tally.hits.entry(round.hit.point).or_default() += 1;
        } else {
            self.tally.elsewhere += 1;
        }
    }

    /// What can be judged at any moment.
    fn look(&self, load: &Load) -> Result<()> {
        self.books.check()?;
        self.looks.check()?;
        self.kept.check()?;
        match load.faults().first() {
            Some(fault) => bail!("an answer against the contract: {fault}"),
            None => Ok(()),
        }
    }

    /// Every count of every summary, of all that is stored by now.
    fn pause(&mut self, stand: &mut Stand) -> Result<String> {
        stand.writers[0].terminate()?;
        stand.aggregate_once()?;
        stand.verify()?;
        let compared = self.compare(stand)?;
        stand.writers[0].start()?;
        Ok(compared)
    }

    fn compare(&mut self, stand: &Stand) -> Result<String> {
        let mut store = self.kept.store();
        store.refresh()?;
        self.records.refresh(store.topic())?;
        drop(store);
        let compared = self.records.check(&stand.analytics_dir())?;
        let compared = format!(
            "{} records, {} of them strays: {compared}",
            self.records.count, self.records.strays
        );
        self.tally.compared.push(compared.clone());
        Ok(compared)
    }

    /// What segments there are goes in time though strays come on and on; then everything at rest,
    /// and the end of all accounts.
    fn end(
        mut self,
        plan: &Plan,
        mut stand: Stand,
        load: Load,
        say: &mut dyn FnMut(&str),
    ) -> Result<Outcome> {
        stand.aggregator.start()?;
        stand.aggregator.wait_ready()?;
        let gone_within = plan.until_removed.then(|| all_removed(&stand));
        let gone_within = gone_within.transpose();
        let gone_within = gone_within.context("while strays come on and on")?;
        self.look(&load)?;
        let ledger = load.stop();
        say(&format!("load: {ledger}"));
        let mut store = self.kept.end()?;
        let verdict = stand.settle_with(&ledger, &mut store, plan.rest_within)?;
        say(&verdict.to_string());
        self.kept = Kept::start(store);
        say(&self.compare(&stand)?);

        stand.aggregator.start()?;
        let archived = poll_until(MAX_WAIT + MARGIN, || {
            // Both of one look: before its first run an aggregator says 0 of either.
            let metrics = stand.aggregator.metrics().ok();
            let of = |name| metrics.as_ref().and_then(|metrics| metrics.sum(name));
            let done =
                of("aggregation_archive_waiting_records") == Some(0.0) && of(READ) > Some(0.0);
            Ok(done.then_some(()))
        })?;
        archived.context("not all of it is archived in time")?;
        stand.aggregator.terminate()?;
        let (scrapes, runs) = self.books.end()?;
        let looks = self.looks.end()?;
        let archive = stand.dir.join("archive");
        self.tally
            .compared
            .push(self.records.check_archive(&archive)?);
        stand.verify()?;
        let store = self.kept.end()?;
        let there = |dir: &Path| segments(dir).map(|found| found.len() as u64);
        let removed = there(store.topic())? - there(&stand.topic_dir())?;
        let Tally {
            hits,
            elsewhere,
            frozen,
            rebuilds,
            blows,
            compared,
        } = self.tally;
        Ok(Outcome {
            ledger,
            verdict,
            hits,
            elsewhere,
            frozen,
            rebuilds,
            blows,
            scrapes,
            runs,
            looks,
            compared,
            removed,
            gone_within,
        })
    }
}

const READ: &str = "aggregation_read_records";

/// Waits until every segment is gone that is there now; says how long that took.
fn all_removed(stand: &Stand) -> Result<Duration> {
    let begun = Instant::now();
    let there = segments(&stand.topic_dir())?;
    ensure!(!there.is_empty(), "there are no live segments");
    let mut left: Vec<PathBuf> = Vec::new();
    let gone = poll_until(MAX_WAIT + LIVE_RETENTION + MARGIN, || {
        left = there.iter().filter(|path| path.exists()).cloned().collect();
        Ok(left.is_empty().then_some(()))
    })?;
    gone.with_context(|| {
        format!(
            "{} of {} segments are still there after {:?}, as {}",
            left.len(),
            there.len(),
            begun.elapsed(),
            left[0].display()
        )
    })?;
    Ok(begun.elapsed())
}
