//! Rounds of kill -9 under load at seeded moments, and the oracle at the end.

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use rustix::process::Signal;

use crate::{
    kafka::{Cluster, Node},
    ledger::Ledger,
    load::{self, Load},
    oracle::Verdict,
    service::Broker,
    stand::{self, Stand},
};

/// What is hit in a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Gateway,
    Writer,
    Aggregator,
    /// Frozen for a while, then killed and started again on its data.
    Kafka,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub targets: Vec<Target>,
    pub rounds: u32,
    pub seed: u64,
    pub stand: stand::Plan,
    pub load: load::Plan,
    /// The real Kafka behind [`stand::Plan::kafka`], if its nodes may be hit.
    pub cluster: Option<Cluster>,
    /// Once, in the middle, all of Kafka is away for so long: frozen for the first half, dead for
    /// the second.
    pub outage: Option<Duration>,
    /// How long the pipeline may take to come to rest when the load has ended.
    pub rest_within: Duration,
}

/// Runs the rounds and judges. `say` gets a line for each step.
///
/// # Errors
/// When a service does not come back, does not come to rest, or its store is damaged. A verdict
/// that does not hold is no error.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<(Ledger, Verdict)> {
    let mut rng = Rng::with_seed(plan.seed);
    let mut stand = Stand::up(dir, plan.stand.clone())?;
    let load = Load::start(&stand.addresses, plan.load.clone());
    // Something must be in flight before the first blow.
    if !load.wait_accepted(1, Duration::from_secs(60)) {
        bail!("nothing was accepted in 60 s: {}", load.stop());
    }
    for round in 1..=plan.rounds {
        if let Some(outage) = plan.outage.filter(|_| round == plan.rounds.div_ceil(2)) {
            let accepted = load.accepted();
            away(&mut stand, plan.cluster.as_ref(), outage).context("Kafka away")?;
            say(&format!(
                "all of Kafka away for {outage:?}, {} records accepted meanwhile",
                load.accepted() - accepted
            ));
        }
        let target = plan.targets[rng.usize(0..plan.targets.len())];
        sleep(Duration::from_millis(rng.u64(100..1_500)));
        let accepted = load.accepted();
        let what = blow(&mut stand, target, plan.cluster.as_ref(), &mut rng)
            .with_context(|| format!("round {round}, {target:?}"))?;
        say(&format!(
            "round {round:>3}: {what}, {accepted} records accepted before"
        ));
    }
    // The last blow must have been survived under load, too.
    let before = load.accepted();
    if !load.wait_accepted(before + 1, Duration::from_secs(60)) {
        bail!("nothing more was accepted in 60 s: {}", load.stop());
    }
    let ledger = load.stop();
    say(&format!("load: {ledger}"));
    let begun = Instant::now();
    let verdict = stand.settle(&ledger, plan.rest_within)?;
    say(&format!(
        "at rest and judged in {:.1} s: {verdict}",
        begun.elapsed().as_secs_f64()
    ));
    Ok((ledger, verdict))
}

fn blow(
    stand: &mut Stand,
    target: Target,
    cluster: Option<&Cluster>,
    rng: &mut Rng,
) -> Result<String> {
    let away = Duration::from_millis(rng.u64(0..700));
    let services = match target {
        Target::Gateway => stand.gateways.as_mut_slice(),
        Target::Writer => stand.writers.as_mut_slice(),
        Target::Aggregator => std::slice::from_mut(&mut stand.aggregator),
        Target::Kafka => return blow_to_kafka(stand, cluster, rng),
    };
    let number = rng.usize(0..services.len());
    let service = &mut services[number];
    service.kill()?;
    sleep(away);
    service.start()?;
    service.wait_ready()?;
    Ok(format!(
        "{} killed and back after {} ms",
        service.name,
        away.as_millis()
    ))
}

fn blow_to_kafka(stand: &mut Stand, cluster: Option<&Cluster>, rng: &mut Rng) -> Result<String> {
    let frozen = Duration::from_millis(rng.u64(200..4_000));
    let away = Duration::from_millis(rng.u64(0..1_000));
    let mut brokers = brokers(stand, cluster)?;
    let number = rng.usize(0..brokers.len());
    let hit = &mut brokers[number];
    hit.freeze()?;
    sleep(frozen);
    hit.kill()?;
    sleep(away);
    hit.start()?;
    hit.wait()?;
    Ok(format!(
        "{} frozen for {} ms, killed, back",
        hit.name(),
        frozen.as_millis()
    ))
}

fn away(stand: &mut Stand, cluster: Option<&Cluster>, outage: Duration) -> Result<()> {
    let mut brokers = brokers(stand, cluster)?;
    brokers.iter_mut().try_for_each(Hit::freeze)?;
    sleep(outage / 2);
    brokers.iter_mut().try_for_each(Hit::kill)?;
    sleep(outage / 2);
    brokers.iter_mut().try_for_each(Hit::start)?;
    brokers.iter_mut().try_for_each(Hit::wait)
}

/// A broker that can be hit: the embedded one, or a node of a real one and how many there are.
enum Hit<'a> {
    Embedded(&'a mut Broker),
    Node(&'a Node, usize),
}

fn brokers<'a>(stand: &'a mut Stand, cluster: Option<&'a Cluster>) -> Result<Vec<Hit<'a>>> {
    match (&mut stand.broker, cluster) {
        (Some(broker), _) => Ok(vec![Hit::Embedded(broker)]),
        (None, Some(cluster)) => {
            let nodes = cluster.nodes();
            Ok(nodes
                .iter()
                .map(|node| Hit::Node(node, nodes.len()))
                .collect())
        }
        (None, None) => bail!("this Kafka was not started by us: nothing of it may be hit"),
    }
}

impl Hit<'_> {
    fn name(&self) -> String {
        match self {
            Hit::Embedded(_) => "dev-broker".to_owned(),
            Hit::Node(node, _) => format!("kafka node {}", node.id()),
        }
    }

    fn freeze(&mut self) -> Result<()> {
        match self {
            Hit::Embedded(broker) => broker.process()?.freeze(),
            Hit::Node(node, _) => node.signal(Signal::STOP),
        }
    }

    fn kill(&mut self) -> Result<()> {
        match self {
            Hit::Embedded(broker) => broker.kill(),
            Hit::Node(node, _) => {
                node.signal(Signal::KILL)?;
                if !node.wait_until_gone(Duration::from_secs(10))? {
                    bail!("it outlives a kill -9");
                }
                Ok(())
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        match self {
            Hit::Embedded(broker) => broker.start(),
            Hit::Node(node, _) => node.start(),
        }
    }

    /// Until it takes requests.
    fn wait(&mut self) -> Result<()> {
        match self {
            // Its start returns when it listens.
            Hit::Embedded(_) => Ok(()),
            Hit::Node(node, count) => node.wait_until_it_knows(*count),
        }
    }
}
