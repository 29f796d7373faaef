//! Every step of the dead letter queue on the disk, failing in every way: once, for a while, for
//! good. What a client hears is true after a restart, and nothing has to be restarted for it.

use std::{collections::BTreeMap, fmt, time::Duration};

use dev_broker::{Api, Fault as KafkaFault, error_code};
use ingest_gateway::dlq::{FileLimits, Files, load::visit, names::Listing};
use pipeline_core::fsx::{
    Step,
    faults::{Fault, Rule, under},
};
use tokio::task::JoinSet;

use crate::harness::{LONG, Stage, record};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

const FAULTS: [Fault; 7] = [
    Fault::Fails(ENOSPC),
    Fault::Fails(EDQUOT),
    Fault::Fails(EIO),
    Fault::Fails(EROFS),
    Fault::Fails(EMFILE),
    Fault::HalfDone(ENOSPC),
    Fault::DoneButFails(EIO),
];

/// How long a step fails.
#[derive(Clone, Copy, Debug)]
enum Lasting {
    /// The n-th, alone.
    Nth(u64),
    Times(u64),
    UntilLifted,
}

const LASTING: [Lasting; 6] = [
    Lasting::Nth(1),
    Lasting::Nth(2),
    Lasting::Nth(3),
    Lasting::Nth(4),
    Lasting::Times(3),
    Lasting::UntilLifted,
];

/// One place of the matrix.
#[derive(Clone, Copy)]
struct Case {
    step: Step,
    fault: Fault,
    lasting: Lasting,
    /// Fails once as well, so that the step is come to.
    before: Option<(Step, u64)>,
}

impl Case {
    fn put_in_force(&self, stage: &Stage) -> (Rule, Option<Rule>) {
        let dir = stage.dlq_dir();
        let before = self.before.map(|(step, nth)| {
            let rule = under(&dir).step(step).nth(nth);
            rule.then(Fault::HalfDone(EIO))
        });
        let rule = under(&dir).step(self.step);
        let rule = match self.lasting {
            Lasting::Nth(n) => rule.nth(n),
            Lasting::Times(n) => rule.times(n),
            Lasting::UntilLifted => rule,
        };
        (rule.then(self.fault), before)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, fault, lasting) = (self.step, self.fault, self.lasting);
        write!(f, "{step:?} {fault:?} {lasting:?}")?;
        match self.before {
            Some(before) => write!(f, " after {before:?}"),
            None => Ok(()),
        }
    }
}

/// All of these steps with all faults; those that only follow a failure, after one.
fn matrix(plain: &[Step], after_a_failure: &[Step]) -> Vec<Case> {
    let plain = plain.iter().map(|step| (*step, None));
    let after = after_a_failure.iter().flat_map(|step| {
        let failures = [(Step::Write, 2), (Step::Sync, 2), (Step::SyncDir, 1)];
        failures.map(|before| (*step, Some(before)))
    });
    let steps = plain.chain(after);
    let faults = steps.flat_map(|at| FAULTS.map(|fault| (at, fault)));
    let cases = faults.flat_map(|((step, before), fault)| {
        LASTING.map(|lasting| Case {
            step,
            fault,
            lasting,
            before,
        })
    });
    cases.collect()
}

/// Runs all, some at a time. Gives how many rules were hit.
async fn run_all<F>(cases: Vec<Case>, at_once: usize, run: fn(Case) -> F) -> usize
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut cases = cases.into_iter();
    let mut running = JoinSet::new();
    for case in cases.by_ref().take(at_once) {
        running.spawn(run(case));
    }
    let mut hit = 0;
    while let Some(done) = running.join_next().await {
        hit += usize::from(done.unwrap());
        if let Some(case) = cases.next() {
            running.spawn(run(case));
        }
    }
    hit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_kafka_away_each_failing_step_is_told_as_it_is() {
    let cases = matrix(
        &[Step::Create, Step::Write, Step::Sync, Step::SyncDir],
        &[Step::Open, Step::Truncate, Step::Sync, Step::Remove],
    );
    let hit = run_all(cases, 6, told_as_it_is).await;
    assert!(hit > 300, "{hit} of the faults were come to");
}

/// Posts under the fault and after it, and compares with what a restart finds.
async fn told_as_it_is(case: Case) -> bool {
    let stage = Stage::new(1).await;
    stage.broker.stop_node(1).unwrap();
    let gateway = stage.start().await;
    let rules = case.put_in_force(&stage);
    // What each batch's client heard: kept, not kept, or that nobody knows.
    let mut heard = BTreeMap::new();
    for n in 0..5 {
        let key = format!("k{n}");
        let body = record(&format!("r{n}"));
        let answer = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
        let said = match answer.status {
            202 => {
                assert_eq!(answer.accepted(), (1, 0, "dlq".to_owned()), "{case}");
                Some(true)
            }
            503 => match answer.problem().1.as_str() {
                "nowhere_to_keep" => Some(false),
                "unknown_outcome" => None,
                code => panic!("{case}: {code}"),
            },
            status => panic!("{case}: {status}"),
        };
        assert!(said == Some(true) || answer.headers.contains_key("retry-after"));
        heard.insert(body, said);
    }
    let hit = rules.0.hits() > 0;
    drop(rules);
    for n in 0..2 {
        let body = record(&format!("after-{n}"));
        let kept = gateway.post(&body).await.accepted().2;
        assert_eq!(kept, "dlq", "{case}: the disk is well again");
        heard.insert(body, Some(true));
    }
    gateway.stop().await;
    let found = found_after_restart(&stage);
    for (body, said) in &heard {
        let times = found.get(body).copied().unwrap_or(0);
        match said {
            Some(true) => assert_eq!(times, 1, "{case}: {body}"),
            Some(false) => assert_eq!(times, 0, "{case}: {body} was said not to be kept"),
            None => assert!(times <= 1, "{case}: {body}"),
        }
    }
    hit
}

/// How often each record is in the directory, once a process has opened it anew.
fn found_after_restart(stage: &Stage) -> BTreeMap<String, usize> {
    let limits = FileLimits {
        bytes_max: 64 << 20,
        file_bytes_max: 64 << 20,
    };
    let dir = stage.dlq_dir();
    let files = Files::open(&dir, limits).unwrap();
    let mut found = BTreeMap::new();
    let mut records = 0;
    for file in Listing::read(&dir).unwrap().files {
        let seen = visit(&dir, &file, &mut |entry| {
            let (_, batch) = ingest_gateway::dlq::entry::decode(entry.payload).unwrap();
            let line = String::from_utf8(batch.lines).unwrap();
            *found.entry(line).or_default() += 1;
            records += 1;
        });
        let (seen, _) = seen.unwrap();
        let damage: Vec<_> = seen.damage.iter().filter(|d| !d.torn).collect();
        assert!(damage.is_empty(), "{damage:?}");
    }
    assert_eq!(files.totals().records, records);
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_hangs_holds_up_no_answer_beyond_the_time_of_a_request() {
    for step in [Step::Create, Step::Write, Step::Sync, Step::SyncDir] {
        let mut stage = Stage::new(1).await;
        stage.config.server.request_timeout = Duration::from_secs(2);
        stage.broker.stop_node(1).unwrap();
        let gateway = stage.start().await;
        let rule = under(&stage.dlq_dir()).step(step).then(Fault::Hangs);
        // It hangs until it is let go, so each of these is an answer in spite of it.
        for _ in 0..2 {
            let heard = gateway.post(&record("hangs")).await;
            let problem = heard.problem();
            assert_eq!(problem, (503, "unknown_outcome".to_owned()), "{step:?}");
            assert!(heard.headers.contains_key("retry-after"));
        }
        assert_eq!(rule.hits(), 1, "{step:?}");
        assert_eq!(gateway.ask("GET", "/livez", &[], b"").await.status, 200);
        assert!(gateway.metrics().await.contains("producer_dlq_records"));
        rule.release();
        // Behind those that hung: the first ones may not be in time either.
        let mut tries = (0..20).map(|n| record(&format!("after-{n}")));
        let kept = loop {
            let body = tries.next().expect("one of them is in time");
            let heard = gateway.post(&body).await;
            if heard.status == 202 {
                assert_eq!(heard.accepted().2, "dlq", "{step:?}");
                break body;
            }
            assert_eq!(heard.problem().1, "unknown_outcome", "{step:?}");
        };
        gateway.stop().await;
        assert_eq!(found_after_restart(&stage)[&kept], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_through_a_failing_disk_brings_everything_to_kafka() {
    let steps = [
        Step::Create,
        Step::Open,
        Step::Write,
        Step::Sync,
        Step::SyncDir,
        Step::Remove,
        Step::Truncate,
    ];
    let mut cases = matrix(&steps, &[]);
    cases.retain(|case| {
        let lasting = matches!(case.lasting, Lasting::Nth(1 | 2) | Lasting::UntilLifted);
        lasting && !matches!(case.fault, Fault::Fails(EDQUOT | EROFS))
    });
    // They wait for the most part.
    let hit = run_all(cases, 30, replayed_through).await;
    assert!(hit > 50, "{hit} of the faults were come to");
}

async fn replayed_through(case: Case) -> bool {
    let stage = Stage::new(1).await;
    let produce = stage.broker.faults().on(Api::Produce);
    let away = produce.then(KafkaFault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    let gateway = stage.start().await;
    let mut bodies = Vec::new();
    for n in 0..3 {
        let body = record(&format!("kept-{n}"));
        assert_eq!(gateway.post(&body).await.accepted().2, "dlq");
        bodies.push(body);
    }
    let rules = case.put_in_force(&stage);
    away.remove();
    // Kafka is well: live traffic does not hear of the disk.
    for n in 0..10 {
        let body = record(&format!("live-{n}"));
        let heard = gateway.post(&body).await;
        match heard.status {
            202 => bodies.push(body),
            // Its circuit was not closed yet.
            503 => {
                heard.problem();
            }
            status => panic!("{case}: {status}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let hit = rules.0.hits() > 0;
    drop(rules);
    let everything = async {
        while distinct(&stage, &bodies).await < bodies.len()
            || !Listing::read(&stage.dlq_dir()).unwrap().files.is_empty()
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let came = tokio::time::timeout(2 * LONG, everything).await;
    assert!(came.is_ok(), "{case}: {:?}", left_in(&stage));
    gateway.stop().await;
    hit
}

fn left_in(stage: &Stage) -> Vec<String> {
    let names = std::fs::read_dir(stage.dlq_dir()).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    names.map(name).collect()
}

/// How many of these are in the topic; each copy of one is the same message.
async fn distinct(stage: &Stage, bodies: &[String]) -> usize {
    let mut by_value = BTreeMap::new();
    for stored in stage.stored().await {
        let envelope = *by_value
            .entry(stored.value.clone())
            .or_insert(stored.envelope);
        assert_eq!(envelope, stored.envelope, "{}", stored.value);
    }
    let there = |body: &&String| by_value.contains_key(*body);
    bodies.iter().filter(there).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_failing_disk_loses_nothing() {
    let mut cases = matrix(&Step::ALL, &[]);
    cases.retain(|case| matches!(case.lasting, Lasting::Nth(1 | 2) | Lasting::UntilLifted));
    let hit = run_all(cases, 6, started_through).await;
    assert!(hit > 50, "{hit} of the faults were come to");
}

async fn started_through(case: Case) -> bool {
    let stage = Stage::new(1).await;
    stage.broker.stop_node(1).unwrap();
    let gateway = stage.start().await;
    let mut bodies = Vec::new();
    for n in 0..2 {
        let body = record(&format!("kept-{n}"));
        assert_eq!(gateway.post(&body).await.accepted().2, "dlq");
        bodies.push(body);
    }
    gateway.stop().await;
    // What was being written when the process died.
    let path = Listing::read(&stage.dlq_dir()).unwrap().files[0].path(&stage.dlq_dir());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_within(bytes.len() - 30..);
    std::fs::write(&path, bytes).unwrap();
    let rules = case.put_in_force(&stage);
    match stage.try_start().await {
        Ok(gateway) => {
            let heard = gateway.post(&record("live")).await;
            assert!(matches!(heard.status, 202 | 503), "{case}: {heard:?}");
            gateway.stop().await;
        }
        Err(error) => {
            assert_eq!(error.exit_code(), 1, "{case}: {error}");
            let named = error.to_string().contains("dead letter queue");
            assert!(named, "{case}: {error}");
        }
    }
    let hit = rules.0.hits() > 0;
    drop(rules);
    stage.broker.start_node(1).await.unwrap();
    let gateway = stage.start().await;
    stage.stored_when(bodies.len()).await;
    while distinct(&stage, &bodies).await < bodies.len() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.stop().await;
    hit
}
