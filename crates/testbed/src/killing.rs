//! The campaign against the writer: in each round its process ends, as by kill -9, at one seeded
//! step of publish, commit or what is around them, under load, or it is stopped there until another
//! has its partitions; meanwhile segments are removed behind it, by a process that is ended at its
//! steps, too. In every second stretch of rounds the duplicate window is tiny, so that copies fall
//! out of it. The oracle judges after each stretch and at the end. Each round follows from the seed
//! and its number alone.
//!
//! Writer and remover are builds of their own, with the feature `fault-injection`: the environment
//! names the step and how often it is let pass.
//!
//! ```text
//! schedule (pure): seed, number ─▶ round, removal
//! removal:         oracle reads, `aggregator --once` counts ─▶ remover, again and again
//! freeze:          a writer stopped in a step, another in its place, woken behind the watermark
//! beside:          what comes past the gateway, and pauses with the load:
//! poison, echo:    messages that are no records, and copies of what is in the logs
//! books:           both sides compared at every scrape
//! rest:            the load pauses, all comes to rest: what is stored is what was accepted
//! accounts:        then, the chains' own totals against what was read and kept aside
//! decide:          at the end, what is undecidable is replayed or thrown away
//! ```

mod accounts;
mod beside;
mod books;
mod decide;
mod echo;
pub(crate) mod freeze;
mod outcome;
mod poison;
mod removal;
mod rest;
pub mod schedule;

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use self::{
    beside::Beside,
    books::Books,
    outcome::Tally,
    removal::Removal,
    schedule::{Round, STRETCH},
};
use crate::{
    aside::Aside,
    body::Mix,
    campaign::act::{Actor, Kafka},
    campaign::schedule::Step,
    config::quoted,
    kafka::Cluster,
    ledger::Ledger,
    load::{self, Load},
    order,
    process::Bins,
    proxy::Proxies,
    stand::{self, Stand},
    store::{Store, segments},
};

pub use self::outcome::Outcome;

pub(crate) const KILL_AT: &str = "SLUICE_KILL_AT";
pub(crate) const FREEZE_AT: &str = "SLUICE_FREEZE_AT";
/// `consumer.dedupMaxBatches`, if it is not the default.
const WINDOW: &str = "SLUICE_WINDOW";
const WINDOW_SET: &str = "${SLUICE_WINDOW:-250000}";
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

/// Runs the rounds and judges. Everything stays in `dir`.
///
/// # Errors
/// When a service does not come back or does not come to rest, a store is damaged, a record is
/// found twice, what is stored after a stretch is not what was accepted, the books do not hold, a
/// chain is not in its log's order, its totals are not what is there, or what is undecidable cannot
/// be decided. A last verdict that does not hold is no error.
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
    let poison = poison::start(&stand);
    let echo = echo::start(plan.seed, &stand)?;
    let store = Store::new(&stand.logs_dir(), &stand.plan.topic, &mix(plan));
    let store = store.keeping(&stand.dir.join("kept"));
    let store = Arc::new(Mutex::new(store));
    let mut campaign = Campaign {
        outcome: Tally::default(),
        books: Books::watch(&stand, &store)?,
        removal: Removal::start(plan.seed, faulty.remover, &stand, &store),
        store,
        echo,
        poison,
        gateway_sleeps: false,
        judged_to: Vec::new(),
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
        // At the end all is judged anyway.
        if number.is_multiple_of(STRETCH) && number < plan.rounds {
            let next = schedule::round(plan.seed, number + 1);
            let judged = campaign.rest(&round, &next, &load, &mut stand, plan.rest_within);
            say(&judged.with_context(|| format!("at rest after {round}"))?);
        }
    }
    campaign.stop_gateway(&mut stand, false)?;
    // With the window of the last round: what that has put aside as undecidable, and not linked
    // before it was ended, a wider one may know for a duplicate.
    let last = schedule::round(plan.seed, plan.rounds);
    let writer = &mut stand.writers[0];
    writer.env = environment(&last, None);
    writer.start()?;
    writer.wait_ready()?;
    campaign.books.ask(&[writer.admin], false);
    let ledger = load.stop();
    say(&format!("load: {ledger}"));
    let poison = campaign.poison.take();
    poison
        .map_or(Ok(()), Beside::end)
        .context("poison by kcat")?;
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
        .with("consumer.dedupMaxBatches", quoted(WINDOW_SET))
        .with("consumer.flushInterval", "50ms");
    setup.settings.extend(own);
    // The second one comes only while the first is stopped. What is counted is removed later, so
    // the aggregator is run before each removal.
    setup.writers = 2;
    setup.gateways = 2;
    setup.aggregator = false;
    setup.may_be_undecidable = plan.rounds > STRETCH;
    setup
}

/// Of a writer in this round, which goes to its point or just runs.
fn environment(round: &Round, at: Option<&str>) -> Vec<(String, String)> {
    let at = at.map(|name| (name.to_owned(), round.hit.at()));
    let window = round
        .window
        .map(|size| (WINDOW.to_owned(), size.to_string()));
    at.into_iter().chain(window).collect()
}

struct Campaign {
    outcome: Tally,
    books: Books,
    removal: Removal,
    store: Arc<Mutex<Store>>,
    echo: Beside,
    /// None without kcat.
    poison: Option<Beside>,
    gateway_sleeps: bool,
    /// Where the logs ended when what was stored was judged last.
    judged_to: Vec<i64>,
    may_hit_kafka: bool,
}

impl Campaign {
    /// One life of the writer; says how it ended.
    fn round(&mut self, round: &Round, actor: &mut Actor<'_>) -> Result<String> {
        self.stop_gateway(actor.stand, round.gateway_sleeps)?;
        let leader = round.leader_pick.filter(|_| self.may_hit_kafka);
        if let Some(partition_pick) = leader {
            actor.act(&Step::KillNode { partition_pick })?;
            self.outcome.leaders_killed += 1;
        }
        let how = if round.freeze {
            let kept = lock(&self.store).topic().to_owned();
            self.books.ask(&[actor.stand.writers[0].admin], false);
            let check = || self.removal.check().and_then(|()| self.books.check());
            let (there, how) = freeze::freeze(actor.stand, round, &kept, &self.books, &check)?;
            self.outcome.frozen += 1;
            self.outcome.frozen_there += u32::from(there);
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

    /// The second one, or lets it go on.
    fn stop_gateway(&mut self, stand: &mut Stand, stopped: bool) -> Result<()> {
        let process = stand.gateways[1].process()?;
        match (self.gateway_sleeps, stopped) {
            (false, true) => process.freeze()?,
            (true, false) => process.thaw()?,
            _ => {}
        }
        self.gateway_sleeps = stopped;
        Ok(())
    }

    fn kill(&mut self, round: &Round, stand: &mut Stand) -> Result<String> {
        let writer = &mut stand.writers[0];
        writer.env = environment(round, Some(KILL_AT));
        self.books.ask(&[writer.admin], false);
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
            echo,
            poison,
            ..
        } = self;
        echo.end().context("copies of batches")?;
        let poison = poison.map_or(Ok(()), Beside::end);
        poison.context("poison by kcat")?;
        let removed = removal.end()?;
        let mut store = lock(&store);
        let verdict = stand.settle_with(&ledger, &mut store, plan.rest_within)?;
        let scrapes = books.end()?;
        let tiny = (plan.rounds > STRETCH).then(|| schedule::tiny_window(plan.seed));
        let order = order::check_if_possible(&stand, store.topic(), tiny)?;
        let aside = Aside::read(&stand.dir)?;
        accounts::compare(&stand.verify()?, &verdict, &aside, order.as_ref())?;
        outcome.hits.extend(removed.hits);
        let segments = |dir: &Path| Ok::<_, anyhow::Error>(segments(dir)?.len() as u64);
        let removed_segments =
            segments(store.topic())?.saturating_sub(segments(&stand.topic_dir())?);
        // All is linked: from here on the window may be another.
        stand.writers[0].env.clear();
        let decided = if verdict.holds() && aside.undecidable() > 0 {
            decide::decide(&mut stand, &ledger, &mut store, plan.rest_within)?
        } else {
            decide::Decided::default()
        };
        Ok(Outcome {
            ledger,
            verdict,
            tally: outcome,
            whole_removals: removed.whole,
            removed: removed_segments,
            order,
            scrapes,
            decided,
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
