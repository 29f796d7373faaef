//! The campaign against the writer: in each round its process ends, as by kill -9, at one seeded
//! step of publish, commit or what is around them, under load, or it is stopped there until another
//! has its partitions; meanwhile segments are removed behind it, by a process that is ended at its
//! steps, too. At the end the oracle. Each round follows from the seed and its number alone.
//!
//! Writer and remover are builds of their own, with the feature `fault-injection`: the environment
//! names the step and how often it is let pass.
//!
//! ```text
//! schedule (pure): seed, number ─▶ round, removal
//! removal:         oracle reads, `aggregator --once` counts ─▶ remover, again and again
//! freeze:          a writer stopped in a step, another in its place, woken behind the watermark
//! poison:          messages that are no records, so that something is put aside
//! books:           both sides compared at every scrape
//! accounts:        at the end, the chains' own totals against what was read and kept aside
//! ```

mod accounts;
mod books;
mod freeze;
mod poison;
mod removal;
pub mod schedule;

use std::{
    collections::BTreeMap,
    fmt,
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use self::{
    books::Books,
    poison::Poison,
    removal::Removal,
    schedule::{Point, Round},
};
use crate::{
    aside::Aside,
    body::Mix,
    campaign::act::{Actor, Kafka},
    campaign::schedule::Step,
    kafka::Cluster,
    ledger::Ledger,
    load::{self, Load},
    oracle::Verdict,
    order::{self, Order},
    process::Bins,
    proxy::Proxies,
    stand::{self, Stand},
    store::{Store, segments},
};

const KILL_AT: &str = "SLUICE_KILL_AT";
const FREEZE_AT: &str = "SLUICE_FREEZE_AT";
/// `consumer.sessionTimeout`, so that another takes over soon: of brokers that allow it, and the
/// shortest that all allow by default.
const SESSION: &str = "4s";
const SESSION_ANYWHERE: &str = "6s";
const ALIVE_WITHIN: Duration = Duration::from_secs(60);
/// Rounds between two proofs of the chains.
const VERIFY_EVERY: u32 = 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub rounds: u32,
    /// Records a second; 0 is as fast as it goes.
    pub rate: u32,
    pub stand: stand::Plan,
    /// The real Kafka behind [`stand::Plan::kafka`], if its nodes may be hit.
    pub cluster: Option<Cluster>,
    /// How long the pipeline may take to come to rest.
    pub rest_within: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub ledger: Ledger,
    pub verdict: Verdict,
    /// How often writer or removal ended at each point.
    pub hits: BTreeMap<Point, u32>,
    /// Rounds whose step did not come in time: killed wherever it was.
    pub elsewhere: u32,
    /// How often a writer was stopped and woken behind removed segments.
    pub frozen: u32,
    pub leaders_killed: u32,
    /// Removals that did all of their work.
    pub whole_removals: u32,
    /// Segments removed.
    pub removed: u64,
    /// `None` where it could not be checked.
    pub order: Option<Order>,
    /// Scrapes at which the books were held against each other.
    pub scrapes: u64,
}

/// Runs the rounds and judges. Everything stays in `dir`.
///
/// # Errors
/// When a service does not come back or does not come to rest, a store is damaged, a record is
/// found twice, the books do not hold, a chain is not in its log's order, or its totals are not what
/// is there. A verdict that does not hold is no error.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let faulty = Bins::to_be_killed(plan.stand.profile)?;
    let kafka = match &plan.cluster {
        Some(cluster) => Kafka::Apache(cluster.clone(), Proxies::start(&cluster.routes()?)?),
        None if plan.stand.kafka.is_some() => Kafka::Foreign,
        None => Kafka::Embedded,
    };
    let mut stand = Stand::prepare(dir, setup(plan, &kafka))?;
    stand.writers[0].binary = faulty.writer;
    stand.start_broker()?;
    stand.start_others()?;
    let load = Load::start(&stand.addresses, load(plan));
    if !load.wait_accepted(1, ALIVE_WITHIN) {
        bail!("nothing was accepted in {ALIVE_WITHIN:?}: {}", load.stop());
    }
    let poison = Poison::start(&stand);
    let store = Store::new(&stand.logs_dir(), &stand.plan.topic, &mix(plan));
    let store = store.keeping(&stand.dir.join("kept"));
    let store = Arc::new(Mutex::new(store));
    let mut campaign = Campaign {
        outcome: Tally::default(),
        books: Books::watch(
            stand.gateways[0].admin,
            stand.writers[0].admin,
            stand.plan.partitions,
        ),
        removal: Removal::start(plan.seed, faulty.remover, &stand, &store),
        store,
        may_hit_kafka: !matches!(kafka, Kafka::Foreign) && plan.stand.replication > 1,
    };
    for number in 1..=plan.rounds {
        let round = schedule::round(plan.seed, number);
        load.mark(&format!("round {number}"));
        let mut actor = Actor::new(&mut stand, &kafka, None);
        let done = campaign.round(&round, &mut actor);
        if done.is_err() {
            actor.leave_kafka_up();
        }
        let how = done
            .and_then(|how| campaign.look(&load, &stand, number).map(|()| how))
            .with_context(|| format!("{round}"))?;
        say(&format!(
            "{round}: {how}, {} records accepted",
            load.accepted()
        ));
    }
    let writer = &mut stand.writers[0];
    writer.env.clear();
    writer.start()?;
    writer.wait_ready()?;
    let ledger = load.stop();
    say(&format!("load: {ledger}"));
    poison.map_or(Ok(()), Poison::end)?;
    campaign.end(plan, stand, ledger)
}

fn setup(plan: &Plan, kafka: &Kafka) -> stand::Plan {
    let mut setup = plan.stand.clone();
    let own = std::mem::take(&mut setup.settings);
    let session = match kafka {
        Kafka::Foreign => SESSION_ANYWHERE,
        Kafka::Embedded | Kafka::Apache(..) => SESSION,
    };
    setup = setup
        // A member of this name takes its place back at once, whatever became of it.
        .with("kafka.groupInstanceID", "killed")
        .with("consumer.sessionTimeout", session)
        .with("consumer.flushInterval", "50ms");
    setup.settings.extend(own);
    // The second one comes only while the first is stopped. What is counted is removed later, so
    // the aggregator is run before each removal.
    setup.writers = 2;
    setup.aggregator = false;
    setup
}

#[derive(Default)]
struct Tally {
    hits: BTreeMap<Point, u32>,
    elsewhere: u32,
    frozen: u32,
    leaders_killed: u32,
}

struct Campaign {
    outcome: Tally,
    books: Books,
    removal: Removal,
    store: Arc<Mutex<Store>>,
    may_hit_kafka: bool,
}

impl Campaign {
    /// One life of the writer; says how it ended.
    fn round(&mut self, round: &Round, actor: &mut Actor<'_>) -> Result<String> {
        let leader = round.leader_pick.filter(|_| self.may_hit_kafka);
        if let Some(partition_pick) = leader {
            actor.act(&Step::KillNode { partition_pick })?;
            self.outcome.leaders_killed += 1;
        }
        let how = if round.freeze {
            self.books.pause(true);
            let kept = lock(&self.store).topic().to_owned();
            let how = freeze::freeze(actor.stand, round, &kept, &|| self.removal.check())?;
            self.outcome.frozen += 1;
            self.books.pause(false);
            how
        } else {
            self.kill(round, actor.stand)?
        };
        if leader.is_some() {
            actor.act(&Step::HealNodes)?;
            actor.wait_for_nodes()?;
        }
        sleep(Duration::from_millis(round.away_ms));
        Ok(how)
    }

    fn kill(&mut self, round: &Round, stand: &mut Stand) -> Result<String> {
        let writer = &mut stand.writers[0];
        writer.env = vec![(KILL_AT.to_owned(), round.hit.at())];
        writer.start()?;
        let process = writer.process()?;
        let begun = Instant::now();
        let how = loop {
            if let Some(status) = process.ended()? {
                if status.signal() != Some(Signal::KILL.as_raw()) {
                    bail!("the writer ended with {status}\n{}", process.log_tail(20));
                }
                *self.outcome.hits.entry(round.hit.point).or_default() += 1;
                break format!("killed there after {} ms", begun.elapsed().as_millis());
            }
            if begun.elapsed() >= round.within {
                self.outcome.elsewhere += 1;
                process.kill()?;
                break "the step did not come; killed elsewhere".to_owned();
            }
            sleep(Duration::from_millis(2));
        };
        writer.forget_ended();
        Ok(how)
    }

    /// What can be judged at any moment; the chains now and then, while no writer runs.
    fn look(&mut self, load: &Load, stand: &Stand, number: u32) -> Result<()> {
        self.books.check()?;
        self.removal.check()?;
        if let Some(fault) = load.faults().first() {
            bail!("an answer against the contract: {fault}");
        }
        let mut store = lock(&self.store);
        store.refresh()?;
        if let Some((request, index)) = store.twice().first() {
            let places = store.find(*request, *index)?;
            let about = load.about(*request);
            bail!("/t/{request}/{index} is stored twice ({about}): {places:?}");
        }
        drop(store);
        if number.is_multiple_of(VERIFY_EVERY) {
            stand.verify()?;
        }
        Ok(())
    }

    /// Everything at rest, and the end of all accounts.
    fn end(self, plan: &Plan, mut stand: Stand, ledger: Ledger) -> Result<Outcome> {
        let Self {
            mut outcome,
            books,
            removal,
            store,
            ..
        } = self;
        let removed = removal.end()?;
        let mut store = lock(&store);
        let verdict = stand.settle_with(&ledger, &mut store, plan.rest_within)?;
        let scrapes = books.end()?;
        let order = order::check_if_possible(&stand, store.topic())?;
        let totals = stand.verify()?;
        let aside = Aside::read(&stand.dir)?;
        accounts::compare(&totals, &verdict, &aside, order.as_ref())?;
        outcome.hits.extend(removed.hits);
        let segments = |dir: &Path| Ok::<_, anyhow::Error>(segments(dir)?.len() as u64);
        Ok(Outcome {
            ledger,
            verdict,
            hits: outcome.hits,
            elsewhere: outcome.elsewhere,
            frozen: outcome.frozen,
            leaders_killed: outcome.leaders_killed,
            whole_removals: removed.whole,
            removed: segments(store.topic())?.saturating_sub(segments(&stand.topic_dir())?),
            order,
            scrapes,
        })
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(plan: &Plan) -> load::Plan {
    load::Plan {
        mix: mix(plan),
        rate: (plan.rate > 0).then_some(plan.rate),
        connections: 8,
        ..load::Plan::default()
    }
}

fn mix(plan: &Plan) -> Mix {
    Mix {
        seed: plan.seed,
        records: (1, 200),
        ..Mix::default()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let killed: u32 = self.hits.values().sum();
        writeln!(
            f,
            "killed {killed} times at a step and {} times elsewhere, frozen and woken {} times, {} \
             leaders killed; {} segments removed, {} removals not disturbed; the books held at {} \
             scrapes",
            self.elsewhere,
            self.frozen,
            self.leaders_killed,
            self.removed,
            self.whole_removals,
            self.scrapes
        )?;
        for (point, count) in &self.hits {
            writeln!(f, "  {count:>5} {point}")?;
        }
        match &self.order {
            Some(order) => writeln!(f, "{order}")?,
            None => writeln!(f, "order not checked")?,
        }
        write!(f, "{}\n{}", self.ledger, self.verdict)
    }
}
