//! The campaign against the writer: in each round its process ends, as by kill -9, at one seeded
//! step of publish, commit or what is around them, under load; at the end the oracle. Each round
//! follows from the seed and its number alone.
//!
//! The writer is a build of its own, with the feature `fault-injection`: the environment variable
//! `SLUICE_KILL_AT` names the step and how often it is let pass.

mod books;
pub mod schedule;

use std::{
    collections::BTreeMap,
    fmt,
    os::unix::process::ExitStatusExt,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use self::{
    books::Books,
    schedule::{Point, Round},
};
use crate::{
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
    skip,
    stand::{self, Stand},
    store::Store,
};

const KILL_AT: &str = "SLUICE_KILL_AT";
/// How long a step may take to come; then the process is killed where it is.
const STEP_WITHIN: Duration = Duration::from_secs(15);
const ALIVE_WITHIN: Duration = Duration::from_secs(60);
/// Between looks at the store.
const LOOK_EVERY: u32 = 10;

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
    /// How often the writer ended at each point.
    pub hits: BTreeMap<Point, u32>,
    /// Rounds whose step did not come in time: killed wherever it was.
    pub elsewhere: u32,
    pub leaders_killed: u32,
    /// `None` where it could not be checked.
    pub order: Option<Order>,
    /// Scrapes at which the books were held against each other.
    pub scrapes: u64,
}

/// Runs the rounds and judges. Everything stays in `dir`.
///
/// # Errors
/// When a service does not come back or does not come to rest, a store is damaged, a record is
/// found twice, the books do not hold, or a chain is not in its log's order. A verdict that does not hold is no error.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let faulty = Bins::writer_to_be_killed(plan.stand.profile)?;
    let kafka = match &plan.cluster {
        Some(cluster) => Kafka::Apache(cluster.clone(), Proxies::start(&cluster.routes()?)?),
        None if plan.stand.kafka.is_some() => Kafka::Foreign,
        None => Kafka::Embedded,
    };
    let mut setup = plan.stand.clone();
    let own = std::mem::take(&mut setup.settings);
    setup = setup
        // A member of this name takes its place back at once, whatever became of it.
        .with("kafka.groupInstanceID", "killed")
        .with("consumer.flushInterval", "50ms");
    setup.settings.extend(own);
    let mut stand = Stand::prepare(dir, setup)?;
    stand.writers[0].binary = faulty;
    stand.start_broker()?;
    stand.start_others()?;
    let load = Load::start(&stand.addresses, load(plan));
    if !load.wait_accepted(1, ALIVE_WITHIN) {
        bail!("nothing was accepted in {ALIVE_WITHIN:?}: {}", load.stop());
    }
    let books = Books::watch(
        stand.gateways[0].admin,
        stand.writers[0].admin,
        stand.plan.partitions,
    );
    let mut campaign = Campaign {
        outcome: Tally::default(),
        store: Store::new(&stand.logs_dir(), &stand.plan.topic, &mix(plan)),
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
        let how = done.with_context(|| format!("{round}"))?;
        books.check().with_context(|| format!("after {round}"))?;
        say(&format!(
            "{round}: {how}, {} records accepted",
            load.accepted()
        ));
        if number % LOOK_EVERY == 0 {
            campaign.look(&load)?;
        }
    }
    let writer = &mut stand.writers[0];
    writer.env.clear();
    writer.start()?;
    writer.wait_ready()?;
    let ledger = load.stop();
    say(&format!("load: {ledger}"));
    let verdict = stand.settle(&ledger, plan.rest_within)?;
    let scrapes = books.end()?;
    let order = if order::can_check() {
        Some(order::check(&stand)?)
    } else {
        skip::skipped("order in each partition", "kcat is not installed");
        None
    };
    let Tally {
        hits,
        elsewhere,
        leaders_killed,
    } = campaign.outcome;
    Ok(Outcome {
        ledger,
        verdict,
        hits,
        elsewhere,
        leaders_killed,
        order,
        scrapes,
    })
}

#[derive(Default)]
struct Tally {
    hits: BTreeMap<Point, u32>,
    elsewhere: u32,
    leaders_killed: u32,
}

struct Campaign {
    outcome: Tally,
    store: Store,
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
        let writer = &mut actor.stand.writers[0];
        writer.env = vec![(KILL_AT.to_owned(), round.kill_at())];
        writer.start()?;
        let process = writer.process()?;
        let begun = Instant::now();
        let how = loop {
            if let Some(status) = process.ended()? {
                if status.signal() != Some(Signal::KILL.as_raw()) {
                    bail!("the writer ended with {status}\n{}", process.log_tail(20));
                }
                *self.outcome.hits.entry(round.point).or_default() += 1;
                break format!("killed there after {} ms", begun.elapsed().as_millis());
            }
            if begun.elapsed() >= STEP_WITHIN {
                self.outcome.elsewhere += 1;
                process.kill()?;
                break "the step did not come; killed elsewhere".to_owned();
            }
            sleep(Duration::from_millis(2));
        };
        writer.forget_ended();
        if leader.is_some() {
            actor.act(&Step::HealNodes)?;
            actor.wait_for_nodes()?;
        }
        sleep(Duration::from_millis(round.away_ms));
        Ok(how)
    }

    /// What can be judged at any moment.
    fn look(&mut self, load: &Load) -> Result<()> {
        if let Some(fault) = load.faults().first() {
            bail!("an answer against the contract: {fault}");
        }
        self.store.refresh()?;
        if let Some((request, index)) = self.store.twice().first() {
            let places = self.store.find(*request, *index)?;
            let about = load.about(*request);
            bail!("/t/{request}/{index} is stored twice ({about}): {places:?}");
        }
        Ok(())
    }
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
            "killed {killed} times at a step and {} times elsewhere, {} leaders killed; the books \
             held at {} scrapes",
            self.elsewhere, self.leaders_killed, self.scrapes
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
