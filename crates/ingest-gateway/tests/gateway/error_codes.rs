//! Every error code of Kafka, answered to produce for a while or for good: what the client hears
//! and where its records are.
//!
//! One partition for each code, so that all of them happen at once, each to its own batch.

use std::collections::{BTreeMap, BTreeSet};

use dev_broker::{Api, Fault};
use ingest_gateway::dlq::{Reason, load::visit, names::Listing};
use kafka_link::{ErrorKind, produce_errors};
use tokio::task::JoinSet;

use crate::harness::{Running, Stage, Stored, ask, key_for, records};

/// A code of a broker that is newer than this release.
const OF_TOMORROW: i16 = 1_000;

/// One code, and the batch that meets it.
struct Case {
    partition: i32,
    code: i16,
    name: String,
    kind: ErrorKind,
    batch: String,
    kept: String,
}

/// How the faults end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Times(u64),
    UntilLifted,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_code_once_is_a_202_and_what_may_pass_is_in_kafka() {
    let walk = Walk::start(Lasting::Times(1), Fault::AnswerError).await;
    for case in &walk.cases {
        let expected = if passes(case.kind) { "kafka" } else { "dlq" };
        assert_eq!(case.kept, expected, "{case}");
    }
    walk.end(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_code_a_few_times_is_a_202_and_what_may_pass_is_in_kafka() {
    let walk = Walk::start(Lasting::Times(2), Fault::AnswerError).await;
    for case in &walk.cases {
        let expected = if passes(case.kind) { "kafka" } else { "dlq" };
        assert_eq!(case.kept, expected, "{case}");
    }
    walk.end(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_code_for_good_is_a_202_from_the_dead_letter_queue_with_its_reason() {
    let walk = Walk::start(Lasting::UntilLifted, Fault::AnswerError).await;
    let dead = dead_letters(&walk.stage);
    for case in &walk.cases {
        assert_eq!(case.kept, "dlq", "{case}");
        let reason = dead.get(&case.batch).copied();
        let fits = match case.kind {
            ErrorKind::Poison => reason == Some(Reason::Poison),
            ErrorKind::TooLarge => reason == Some(Reason::TooLarge),
            ErrorKind::Fatal => reason == Some(Reason::Refused),
            _ => reason == Some(Reason::RetriesExhausted) || reason == Some(Reason::KafkaAway),
        };
        assert!(fits, "{case}: {reason:?}");
    }
    assert!(walk.stage.stored().await.is_empty());
    walk.end(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_and_answered_with_a_code_is_one_record_to_the_writer() {
    for lasting in [Lasting::Times(1), Lasting::UntilLifted] {
        let walk = Walk::start(lasting, Fault::DoneButError).await;
        walk.end(u64::MAX).await;
    }
}

fn passes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Retry | ErrorKind::RefreshAndRetry | ErrorKind::UnknownOutcome
    )
}

struct Walk {
    stage: Stage,
    gateway: Running,
    cases: Vec<Case>,
}

impl Walk {
    /// Posts one record to each code.
    async fn start(lasting: Lasting, fault: fn(i16) -> Fault) -> Self {
        let codes = produce_errors().chain([(
            OF_TOMORROW,
            "of tomorrow".to_owned(),
            ErrorKind::UnknownOutcome,
        )]);
        // A broker that has done it and says otherwise is believed where the table says so.
        let happens = |kind: ErrorKind| {
            fault(1) == Fault::AnswerError(1) || kind == ErrorKind::UnknownOutcome
        };
        let codes: Vec<_> = codes.filter(|(_, _, kind)| happens(*kind)).collect();
        assert!(codes.len() > 5);
        let partitions = i32::try_from(codes.len()).unwrap();
        let mut stage = Stage::new(partitions).await;
        stage.config.server.max_connections = 1_000;
        stage.config.ingestion.queue_buffer_size = 1_000;
        let gateway = stage.start().await;
        let mut posts = JoinSet::new();
        for (partition, (code, name, kind)) in (0..).zip(codes) {
            let rule = stage.broker.faults().on(Api::Produce);
            let rule = rule.partition("logs", partition);
            match lasting {
                Lasting::Times(times) => rule.times(times).then(fault(code)),
                Lasting::UntilLifted => rule.always().then(fault(code)),
            };
            let addr = gateway.addr;
            posts.spawn(async move {
                let body = records([format!("code-{code}").as_str()]);
                let key = key_for(&body, u32::try_from(partitions).unwrap(), partition);
                let headers = [
                    ("Content-Type", "application/json"),
                    ("Idempotency-Key", key.as_str()),
                ];
                let heard = ask(addr, "POST", "/logs", &headers, body.as_bytes()).await;
                let (accepted, _, kept) = heard.accepted();
                assert_eq!(accepted, 1);
                Case {
                    partition,
                    code,
                    name,
                    kind,
                    batch: heard.batch_id(),
                    kept,
                }
            });
        }
        let cases = posts.join_all().await;
        Self {
            stage,
            gateway,
            cases,
        }
    }

    /// Lifts the faults, and looks where everything is in the end. A record may be in the topic
    /// so often.
    async fn end(self, copies_max: u64) {
        let Self {
            stage,
            gateway,
            cases,
        } = self;
        stage.broker.faults().clear();
        // What was refused for good is tried again, but not so soon.
        let may_stay = |case: &Case| matches!(case.kind, ErrorKind::Poison | ErrorKind::TooLarge);
        let must_come = cases.iter().filter(|case| !may_stay(case));
        let must_come: BTreeSet<_> = must_come.map(|case| case.batch.clone()).collect();
        loop {
            let stored = stage.stored().await;
            let there: BTreeSet<_> = stored.iter().map(batch_of).collect();
            let dead = dead_letters(&stage);
            let waits = |batch: &&String| !there.contains(*batch) || dead.contains_key(*batch);
            if !must_come.iter().any(|batch| waits(&batch)) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        gateway.stop().await;
        let dead = dead_letters(&stage);
        let mut copies: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
        for stored in stage.stored().await {
            copies.entry(batch_of(&stored)).or_default().push(stored);
        }
        for case in &cases {
            let copies = copies.remove(&case.batch).unwrap_or_default();
            let reason = dead.get(&case.batch);
            match (copies.len() as u64, reason) {
                (0, Some(reason)) => {
                    assert!(may_stay(case), "{case}: {reason:?}");
                    assert_eq!(reason.as_str(), case.kind.as_str(), "{case}");
                }
                (n, None) => assert!((1..=copies_max).contains(&n), "{case}: {n} copies"),
                (n, Some(_)) => panic!("{case}: {n} copies, and a dead letter"),
            }
            for copy in &copies {
                assert_eq!(copy.partition.0, case.partition, "{case}");
                assert_eq!(copy.envelope, copies[0].envelope, "{case}");
                assert!(copy.envelope.since <= copy.offset, "{case}");
            }
        }
        assert!(copies.is_empty(), "nobody sent {copies:?}");
        assert!(
            dead.keys()
                .all(|id| cases.iter().any(|case| case.batch == *id))
        );
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.kind.as_str();
        write!(f, "{} ({}, {kind})", self.name, self.code)
    }
}

fn batch_of(stored: &Stored) -> String {
    stored.envelope.batch.to_string()
}

/// Batches of the dead letter queue that are not done, with their reasons.
fn dead_letters(stage: &Stage) -> BTreeMap<String, Reason> {
    let dir = stage.dlq_dir();
    let mut dead = BTreeMap::new();
    for file in Listing::read(&dir).unwrap().files {
        let mut entries = Vec::new();
        let seen = visit(&dir, &file, &mut |entry| {
            entries.push((entry.head.batch.to_string(), entry.head.reason));
        });
        // It may leave meanwhile.
        if seen.is_ok() {
            dead.extend(entries);
        }
    }
    dead
}
