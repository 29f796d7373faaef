//! Each step of the store and of the consumer DLQ made to fail in each way: the partition tries
//! again until it works, nothing is lost or twice, and the other partition does not notice.

use std::fmt;

use pipeline_core::fsx::{
    Step,
    faults::{Fault, Rule, under},
};
use tokio::task::JoinSet;

use crate::{
    raw,
    rig::{Rig, Sent, TOPIC, wait_for},
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// How many rigs stand side by side.
const SIDE_BY_SIDE: usize = 6;
/// What each publish does.
const STEPS: [Step; 5] = [
    Step::Create,
    Step::Write,
    Step::Sync,
    Step::Link,
    Step::SyncDir,
];

#[derive(Clone, Copy, Debug)]
enum Lasting {
    /// The n-th such step alone.
    Nth(u64),
    /// Each such step, until it is lifted after some tries.
    UntilLifted,
}

#[derive(Clone, Copy)]
struct Case {
    step: Step,
    fault: Fault,
    lasting: Lasting,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.step, self.fault, self.lasting)
    }
}

impl Case {
    /// How often it is met at least.
    fn hits(self) -> u64 {
        match (self.step, self.fault, self.lasting) {
            (_, _, Lasting::Nth(_)) => 1,
            // What was done is found to be there, and not done again.
            (Step::Link | Step::MakeDir, Fault::DoneButFails(_), _) => 1,
            (_, _, Lasting::UntilLifted) => 3,
        }
    }

    fn in_force(self, dir: &std::path::Path) -> Rule {
        let rule = under(dir).step(self.step);
        match self.lasting {
            Lasting::Nth(nth) => rule.nth(nth),
            Lasting::UntilLifted => rule,
        }
        .then(self.fault)
    }
}

fn matrix(steps: &[Step]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &step in steps {
        for fault in [
            Fault::Fails(ENOSPC),
            Fault::Fails(EIO),
            Fault::HalfDone(ENOSPC),
            Fault::DoneButFails(EIO),
        ] {
            // Only a write can be half done.
            if matches!(fault, Fault::HalfDone(_)) && step != Step::Write {
                continue;
            }
            for lasting in [Lasting::Nth(1), Lasting::Nth(2), Lasting::UntilLifted] {
                cases.push(Case {
                    step,
                    fault,
                    lasting,
                });
            }
        }
    }
    cases
}

async fn run_all<F>(cases: Vec<Case>, run: impl Fn(Case) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    for case in cases {
        if running.len() >= SIDE_BY_SIDE {
            running.join_next().await.expect("one runs").expect("holds");
        }
        running.spawn(run(case));
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("holds");
    }
}

/// Four batches into partition 0, each on its own, and one into partition 1.
async fn send_some(rig: &Rig, sent: &mut Vec<Sent>) {
    for batch in 10..14 {
        sent.extend(rig.send_many(0, batch, 3).await);
    }
    sent.extend(rig.send_many(1, 14, 3).await);
}

/// Sends more, one batch after the other, until the fault has been met.
async fn met(rig: &Rig, rule: &Rule, case: Case, sent: &mut Vec<Sent>) {
    for batch in 100..104 {
        let end = rig.log_end(0);
        let saved = || rig.committed(0).is_some_and(|(offset, _)| offset == end);
        let what = format!("the fault: {case}");
        wait_for(&what, || rule.hits() >= case.hits() || saved()).await;
        if rule.hits() >= case.hits() {
            return;
        }
        sent.extend(rig.send_many(0, batch, 1).await);
    }
    panic!("nothing does this: {case}");
}

async fn other_partition_goes_on(rig: &Rig, case: Case) {
    wait_for(&format!("the other partition to go on: {case}"), || {
        rig.next(1) == Some(rig.log_end(1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_save_that_fails_costs_its_partition_time_and_nothing_else() {
    run_all(matrix(&STEPS), saves_come_through).await;
}

async fn saves_come_through(case: Case) {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "flushInterval: 10ms");
    let mut sent = rig.send_many(0, 1, 1).await;
    sent.extend(rig.send_many(1, 2, 1).await);
    rig.caught_up().await;
    let rule = case.in_force(rig.chain(0).dir());
    send_some(&rig, &mut sent).await;
    other_partition_goes_on(&rig, case).await;
    met(&rig, &rule, case, &mut sent).await;
    drop(rule);
    rig.caught_up().await;
    wait_for(&format!("copies to go: {case}"), || {
        rig.dead_letter_files("unsaved-").is_empty()
    })
    .await;
    writer.stop().await;
    rig.check_in_order(&sent);
    let left = std::fs::read_dir(rig.chain(0).dir()).expect("listed");
    let temporary = left.filter(|entry| {
        let name = entry.as_ref().expect("listed").file_name();
        name.to_string_lossy().starts_with(".tmp-")
    });
    assert_eq!(temporary.count(), 0, "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_after_a_failed_step_is_looked_at_even_where_the_look_fails_too() {
    for (step, looks) in [(Step::SyncDir, Step::List), (Step::Link, Step::Open)] {
        let case = Case {
            step,
            fault: Fault::DoneButFails(EIO),
            lasting: Lasting::Nth(1),
        };
        let rig = Rig::new(2).await;
        let writer = rig.writer("", "flushInterval: 10ms");
        let mut sent = rig.send_many(0, 1, 1).await;
        rig.caught_up().await;
        let dir = rig.chain(0).dir().to_owned();
        let rule = case.in_force(&dir);
        let blind = under(&dir).step(looks).times(3).then(Fault::Fails(EIO));
        send_some(&rig, &mut sent).await;
        other_partition_goes_on(&rig, case).await;
        wait_for("looks that fail", || rule.hits() > 0 && blind.hits() > 2).await;
        drop((rule, blind));
        rig.caught_up().await;
        writer.stop().await;
        rig.check_in_order(&sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_begun_once_the_disk_lets_it() {
    let steps = [
        Step::MakeDir,
        Step::Create,
        Step::Write,
        Step::Sync,
        Step::Link,
        Step::SyncDir,
        Step::Open,
        Step::List,
    ];
    run_all(matrix(&steps), begins).await;
}

async fn begins(case: Case) {
    let rig = Rig::new(2).await;
    let mut sent = Vec::new();
    send_some(&rig, &mut sent).await;
    let rule = case.in_force(rig.chain(0).dir());
    let writer = rig.writer("", "flushInterval: 10ms");
    other_partition_goes_on(&rig, case).await;
    // A directory is made once.
    if !matches!((case.step, case.lasting), (Step::MakeDir, Lasting::Nth(2))) {
        met(&rig, &rule, case, &mut sent).await;
    }
    drop(rule);
    rig.caught_up().await;
    writer.stop().await;
    rig.check_in_order(&sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_waits_for_a_dead_letter_queue_that_fails_and_only_its_partition_with_it() {
    let steps = [Step::Create, Step::Write, Step::Sync, Step::SyncDir];
    run_all(matrix(&steps), poison_comes_through).await;
}

async fn poison_comes_through(case: Case) {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "flushInterval: 10ms");
    let mut sent = rig.send_many(0, 1, 1).await;
    rig.caught_up().await;
    let dir = rig.dir.path().join("dlq/consumer");
    let rule = case.in_force(&dir);
    let poison = raw::one(Some(b"not json"), &[]);
    let at = rig.log_end(0);
    rig.broker.append_raw(TOPIC, 0, &poison).expect("appended");
    send_some(&rig, &mut sent).await;
    other_partition_goes_on(&rig, case).await;
    if matches!(case.lasting, Lasting::UntilLifted) {
        wait_for(&format!("further tries: {case}"), || {
            rule.hits() >= case.hits()
        })
        .await;
        assert_eq!(
            rig.next(0),
            Some(at),
            "not linked before it is kept: {case}"
        );
    }
    drop(rule);
    rig.caught_up().await;
    writer.stop().await;
    rig.check_in_order(&sent);
    let kept: Vec<_> = rig.dead_letters().into_keys().collect();
    assert_eq!(kept, [(0, at)], "{case}");
    let files = rig.dead_letter_files("records-");
    assert_eq!(files.len(), 1, "{case}: nothing is left of failed files");
}
