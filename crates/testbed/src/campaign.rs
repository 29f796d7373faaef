//! The campaign against the gateway: rounds of faults under load, each reproducible by its seed and
//! number, and the oracle at the end. Writer and aggregator run along unharmed.
//!
//! ```text
//! schedule (pure): seed, number ─▶ round ─▶ steps
//! act:             steps ─▶ gateway, Kafka (control port, nodes, proxies), disk
//! load:            all the time, each answer booked
//! oracle:          the book against store, consumer DLQ and summaries
//! ```

pub(crate) mod act;
pub mod schedule;

use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::{
    act::{Actor, Kafka},
    schedule::{Ground, Kind, Round},
};
use crate::{
    body::Mix,
    disk::SmallDisk,
    kafka::Cluster,
    ledger::Ledger,
    load::{self, Load},
    oracle::Verdict,
    process::poll_until,
    proxy::Proxies,
    stand::{self, Stand},
    store::Store,
};

/// `server.requestTimeout` in a campaign: short, so that a round sees it pass.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
const WRITE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long some clients wait for an answer: less than a gateway may be frozen.
const IMPATIENCE: [Duration; 2] = [Duration::from_millis(1_000), Duration::from_millis(2_500)];
const DISK_BYTES: u64 = 48 << 20;
/// The queue's bound where no disk can be filled.
const DLQ_BYTES: &str = "256KiB";
/// How long after a round the next record may take to be accepted.
const ALIVE_WITHIN: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub rounds: RangeInclusive<u32>,
    /// Records a second; 0 is as fast as it goes.
    pub rate: u32,
    /// Records in a body.
    pub records: (u32, u32),
    /// `consumer.dedupMaxBatches`; with one set, no client repeats what may have been taken.
    pub dedup_max_batches: Option<u32>,
    /// Where it happens; its own settings come on top of the campaign's.
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
    /// How often each kind of fault was begun.
    pub faults: BTreeMap<Kind, u32>,
    /// Answers by which a real Kafka's quota throttled the gateway.
    pub throttled: u64,
}

/// Runs the rounds and judges. `say` gets a line for each round. Everything stays in `dir`.
///
/// # Errors
/// When a service does not come back or does not come to rest, a store is damaged, or a record is
/// found twice while the rounds run. A verdict that does not hold is no error.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let small = dir.join("small-disk");
    let disk = SmallDisk::mount(&small, DISK_BYTES)?;
    let mut setup = settings(plan, disk.is_some());
    let kafka = match &plan.cluster {
        Some(cluster) => {
            let proxies = Proxies::start(&cluster.routes()?)?;
            setup.gateways_kafka = Some(proxies.bootstrap());
            Kafka::Apache(cluster.clone(), proxies)
        }
        None if plan.stand.kafka.is_some() => Kafka::Foreign,
        None => Kafka::Embedded,
    };
    say(match &disk {
        Some(_) => "dead letters are on a tmpfs of 48 MiB, which is filled",
        None => "no tmpfs can be mounted here: dead letters are bounded to 256 KiB instead",
    });
    let mut stand = Stand::up(dir, setup)?;
    let load = Load::start(&stand.addresses, load(plan));
    if !load.wait_accepted(1, ALIVE_WITHIN) {
        bail!("nothing was accepted in {ALIVE_WITHIN:?}: {}", load.stop());
    }
    let mut store = Store::new(&stand.logs_dir(), &stand.plan.topic, &load_mix(plan));
    let mut faults = BTreeMap::new();
    let ground = ground(plan);
    for number in plan.rounds.clone() {
        let round = schedule::round(plan.seed, number, ground);
        for (_, fault) in &round.faults {
            *faults.entry(fault.kind()).or_insert(0) += 1;
        }
        let before = Seen::now(&load);
        load.mark(&format!("round {}", round.number));
        let mut actor = Actor::new(&mut stand, &kafka, disk.as_ref());
        let mut done = disturb(&round, &load, &mut actor);
        if done.is_err() {
            actor.leave_kafka_up();
        }
        done = done
            .and_then(|()| calm(&round, &load, &stand, plan.rest_within))
            .and_then(|()| look(&load, &mut store));
        done.with_context(|| {
            format!(
                "{round} (again alone with --seed {} --only {})",
                round.seed, round.number
            )
        })?;
        say(&format!("{round}: {}", Seen::now(&load).since(&before)));
    }
    let ledger = load.stop();
    say(&format!("load: {ledger}"));
    let begun = Instant::now();
    let verdict = stand.settle(&ledger, plan.rest_within)?;
    let took = begun.elapsed().as_secs_f64();
    say(&format!("at rest and judged in {took:.1} s: {verdict}"));
    // Before the disk that its dead letters are on.
    drop(stand);
    let throttled = match &kafka {
        Kafka::Apache(_, proxies) => proxies.throttled(),
        Kafka::Embedded | Kafka::Foreign => 0,
    };
    Ok(Outcome {
        ledger,
        verdict,
        faults,
        throttled,
    })
}

fn ground(plan: &Plan) -> Ground {
    match &plan.cluster {
        Some(cluster) => Ground::apache(cluster.nodes().len() as u32),
        None if plan.stand.kafka.is_some() => Ground::FOREIGN,
        None => Ground::embedded(u32::from(plan.stand.nodes)),
    }
}

fn settings(plan: &Plan, disk: bool) -> stand::Plan {
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    let mut setup = plan.stand.clone();
    let own = std::mem::take(&mut setup.settings);
    setup = setup
        .with("server.requestTimeout", millis(REQUEST_TIMEOUT))
        .with("ingestion.producerWriteTimeout", millis(WRITE_TIMEOUT))
        .with("ingestion.producerRetryBackoff", "100ms");
    setup = if disk {
        setup.with("ingestion.producerDLQDir", "small-disk/producer")
    } else {
        setup.with("ingestion.producerDLQMaxBytes", DLQ_BYTES)
    };
    if let Some(batches) = plan.dedup_max_batches {
        setup = setup.with("consumer.dedupMaxBatches", batches);
        setup.may_be_undecidable = true;
    }
    setup.settings.extend(own);
    setup
}

fn load(plan: &Plan) -> load::Plan {
    let mut answer_within = vec![Duration::from_secs(90); 4];
    answer_within.extend(IMPATIENCE);
    load::Plan {
        mix: load_mix(plan),
        rate: (plan.rate > 0).then_some(plan.rate),
        connections: 12,
        answer_within,
        repeat: plan.dedup_max_batches.is_none(),
        give_up_every: Some(3),
        ..load::Plan::default()
    }
}

fn load_mix(plan: &Plan) -> Mix {
    Mix {
        seed: plan.seed,
        records: plan.records,
        ..Mix::default()
    }
}

fn disturb(round: &Round, load: &Load, actor: &mut Actor<'_>) -> Result<()> {
    sleep(Duration::from_millis(round.wait_ms));
    let start = Instant::now();
    for (at, step) in round.steps() {
        let due = start + Duration::from_millis(at);
        sleep(due.saturating_duration_since(Instant::now()));
        actor.act(&step).with_context(|| format!("at {step:?}"))?;
    }
    actor.heal().context("to make all whole again")?;
    // The faults must have been survived under load.
    let more = load.accepted() + 1;
    if !load.wait_accepted(more, ALIVE_WITHIN) {
        bail!("nothing more was accepted in {ALIVE_WITHIN:?}");
    }
    Ok(())
}

fn calm(round: &Round, load: &Load, stand: &Stand, within: Duration) -> Result<()> {
    if !round.rest {
        return Ok(());
    }
    let mut waiting = None;
    let empty = poll_until(within, || {
        waiting = Stand::metric(&stand.gateways, "producer_dlq_records");
        Ok((waiting == Some(0.0)).then_some(()))
    })?;
    if empty.is_none() {
        let accepted = load.accepted();
        bail!(
            "{waiting:?} records wait in the producer DLQ after {within:?} ({accepted} accepted)"
        );
    }
    Ok(())
}

/// What can be judged at any moment: no record twice, no answer against the contract.
fn look(load: &Load, store: &mut Store) -> Result<()> {
    if let Some(fault) = load.faults().first() {
        bail!("an answer against the contract: {fault}");
    }
    store.refresh()?;
    if let Some((request, index)) = store.twice().first() {
        let places = store.find(*request, *index)?;
        let about = load.about(*request);
        bail!("/t/{request}/{index} is stored twice ({about}, sequence {index}): {places:?}");
    }
    Ok(())
}

/// Answers so far.
struct Seen {
    accepted: u64,
    answers: Vec<(&'static str, u64)>,
}

impl Seen {
    fn now(load: &Load) -> Self {
        let kinds = [
            "202 kafka",
            "202 dlq",
            "429",
            "503",
            "no answer",
            "not sent",
        ];
        Self {
            accepted: load.accepted(),
            answers: kinds.map(|kind| (kind, load.answered(kind))).to_vec(),
        }
    }

    fn since(&self, before: &Self) -> String {
        let mut text = format!("{} records accepted;", self.accepted - before.accepted);
        for ((kind, now), (_, then)) in self.answers.iter().zip(&before.answers) {
            if now > then {
                text += &format!(" {kind}: {}", now - then);
            }
        }
        text
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults:")?;
        for (kind, count) in &self.faults {
            write!(f, " {kind:?} {count},")?;
        }
        if self.throttled > 0 {
            write!(f, " {} answers throttled by a quota", self.throttled)?;
        }
        write!(f, "\n{}\n{}", self.ledger, self.verdict)
    }
}
