//! Writers come and go under load: rounds of starting, ending, killing and freezing them at seeded
//! moments, some while the group still rebalances, and at the end oracle and order.

use std::{
    fmt,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;

use crate::{
    ledger::Ledger,
    load::{self, Load},
    oracle::Verdict,
    order::{self, Order},
    process::poll_until,
    stand::{self, Stand},
};

/// `consumer.sessionTimeout`: the shortest that every broker allows by default.
const SESSION: Duration = Duration::from_secs(6);
/// Most writers at once; each has one member, and the topic no fewer partitions.
const WRITERS_MAX: usize = 4;
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// Records accepted between two rounds, so that each of them hits something.
const BETWEEN: u64 = 500;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub rounds: u32,
    pub stand: stand::Plan,
    pub load: load::Plan,
    /// How long the pipeline may take to come to rest when the load has ended.
    pub rest_within: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub ledger: Ledger,
    pub verdict: Verdict,
    /// `None` where it could not be checked here.
    pub order: Option<Order>,
    /// Rounds after which the group was waited for, so at least as many rebalances.
    pub settled: u32,
}

/// What happens to one writer; each makes the group rebalance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Move {
    Start,
    /// SIGTERM: it leaves the group.
    End,
    /// kill -9: the group waits for its session to end.
    Kill,
    /// SIGSTOP past its session, until the others have its partitions; then it goes on.
    Freeze,
}

/// Runs the rounds and judges. `say` gets a line for each.
///
/// # Errors
/// When the group does not settle, a service does not come back or to rest, the store is damaged,
/// or a chain is not in its log's order. A verdict that does not hold is no error.
pub fn run(dir: &Path, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let mut rng = Rng::with_seed(plan.seed);
    let session = format!("{}s", SESSION.as_secs());
    let mut setup = plan.stand.clone().with("consumer.sessionTimeout", session);
    setup.writers = WRITERS_MAX;
    setup.consumers = 1;
    let partitions = setup.partitions;
    ensure!(
        partitions as usize >= WRITERS_MAX,
        "{partitions} partitions are too few for {WRITERS_MAX} writers"
    );
    let mut stand = Stand::up(dir, setup)?;
    let load = Load::start(&stand.addresses, plan.load.clone());
    let mut settled = 0;
    assigned(&stand, partitions, &[])?;
    for round in 1..=plan.rounds {
        let before = load.accepted();
        if !load.wait_accepted(before + BETWEEN, Duration::from_secs(60)) {
            bail!("too little is accepted: {}", load.stop());
        }
        sleep(Duration::from_millis(rng.u64(0..400)));
        let (number, what) = choose(&stand, &mut rng);
        // Every third move comes while the group is still at the one before.
        let wait = what == Move::Freeze || rng.u32(0..3) > 0 || round == plan.rounds;
        let begun = Instant::now();
        make(&mut stand, number, what, partitions)
            .and_then(|()| {
                if wait {
                    assigned(&stand, partitions, &[])
                } else {
                    Ok(())
                }
            })
            .with_context(|| format!("round {round}: {what:?} of writer {number}"))?;
        settled += u32::from(wait);
        say(&format!(
            "round {round:>3}: {what:?} of writer {number}, {} run, {} after {:.1} s, {} records \
             accepted",
            running(&stand).len(),
            if wait { "settled" } else { "on" },
            begun.elapsed().as_secs_f64(),
            load.accepted()
        ));
    }
    let ledger = load.stop();
    say(&format!("load: {ledger}"));
    let verdict = stand.settle(&ledger, plan.rest_within)?;
    let order = order::check_if_possible(&stand, &stand.topic_dir(), None)?;
    Ok(Outcome {
        ledger,
        verdict,
        order,
        settled,
    })
}

/// One that runs is always left, and none is started that runs.
fn choose(stand: &Stand, rng: &mut Rng) -> (usize, Move) {
    let running = running(stand);
    let stopped: Vec<usize> = (0..stand.writers.len())
        .filter(|number| !running.contains(number))
        .collect();
    let start = running.len() < 2 || (!stopped.is_empty() && rng.u32(0..2) == 0);
    if start {
        return (stopped[rng.usize(0..stopped.len())], Move::Start);
    }
    let what = match rng.u32(0..6) {
        0..3 => Move::End,
        3..5 => Move::Kill,
        _ => Move::Freeze,
    };
    (running[rng.usize(0..running.len())], what)
}

fn make(stand: &mut Stand, number: usize, what: Move, partitions: u32) -> Result<()> {
    let writer = &mut stand.writers[number];
    match what {
        Move::Start => {
            writer.start()?;
            writer.wait_ready()
        }
        Move::End => writer.terminate().map(|_| ()),
        Move::Kill => writer.kill(),
        Move::Freeze => {
            writer.process()?.freeze()?;
            let taken_over = assigned(stand, partitions, &[number]);
            stand.writers[number].process()?.thaw()?;
            taken_over
        }
    }
}

/// Waits until all partitions belong to the writers that run, and each of them has some; `frozen`
/// are left aside.
fn assigned(stand: &Stand, partitions: u32, frozen: &[usize]) -> Result<()> {
    let running = running(stand);
    let asked: Vec<usize> = running
        .into_iter()
        .filter(|number| !frozen.contains(number))
        .collect();
    ensure!(!asked.is_empty(), "no writer is left");
    let mut last = Vec::new();
    let settled = poll_until(SETTLED_WITHIN, || {
        last = asked
            .iter()
            .map(|number| {
                let writer = std::slice::from_ref(&stand.writers[*number]);
                Stand::metric(writer, "consumer_partitions_assigned")
            })
            .collect();
        let sum: Option<f64> = last.iter().copied().sum();
        let each = last.iter().all(|some| *some > Some(0.0));
        Ok((each && sum == Some(f64::from(partitions))).then_some(()))
    })?;
    ensure!(
        settled.is_some(),
        "the partitions do not come to writers {asked:?}: {last:?}"
    );
    Ok(())
}

fn running(stand: &Stand) -> Vec<usize> {
    let writers = stand.writers.iter().enumerate();
    let running = writers.filter(|(_, writer)| writer.is_running());
    running.map(|(number, _)| number).collect()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the group settled {} times; {}; {}",
            self.settled,
            self.verdict,
            match &self.order {
                Some(order) => order.to_string(),
                None => "order not checked".to_owned(),
            }
        )
    }
}
