//! Kafka that answers wrongly, late or not at all, whatever it is asked: a client is told 202, and
//! everything is in the topic once Kafka is well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dev_broker::{Api, Fault, Options, RuleHandle, TopicSpec};
use tokio::task::JoinSet;

use crate::{
    harness::{LONG, Running, Stage, record},
    waiting::until,
};

const FAULTS: [Fault; 15] = [
    Fault::Cut,
    Fault::CutAnswer,
    Fault::Drop,
    Fault::DropAnswer,
    Fault::Delay(Duration::from_secs(8)),
    Fault::Throttle(Duration::from_millis(300)),
    Fault::ClaimLength(i32::MAX),
    Fault::ClaimLength(-5),
    Fault::HalfAnswer,
    Fault::Zeros,
    Fault::OtherCorrelation,
    Fault::EmptyAnswer,
    // LeaderNotAvailable, NotLeaderOrFollower, ClusterAuthorizationFailed.
    Fault::AnswerError(5),
    Fault::AnswerError(6),
    Fault::AnswerError(31),
];

#[derive(Clone, Copy)]
struct Case {
    api: Api,
    fault: Fault,
    /// 0: until it is lifted.
    times: u64,
}

impl Case {
    fn put_in_force(self, stage: &Stage) -> RuleHandle {
        let rule = stage.broker.faults().on(self.api);
        let rule = rule.client_id("sluice-gateway");
        match self.times {
            0 => rule.then(self.fault),
            times => rule.times(times).then(self.fault),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_kafka_answers_wrongly_costs_no_record_and_no_client_a_refusal() {
    let apis = [
        Api::ApiVersions,
        Api::Metadata,
        Api::ListOffsets,
        Api::DescribeConfigs,
        Api::Produce,
    ];
    let cases = apis.into_iter().flat_map(|api| {
        let faults = FAULTS.into_iter();
        faults.flat_map(move |fault| [1, 0].map(|times| Case { api, fault, times }))
    });
    let mut cases = cases.collect::<Vec<_>>().into_iter();
    let mut running = JoinSet::new();
    // They wait for the most part.
    for case in cases.by_ref().take(30) {
        running.spawn(lives_through(case));
    }
    let mut hit = 0;
    while let Some(done) = running.join_next().await {
        hit += u64::from(done.unwrap() > 0);
        if let Some(case) = cases.next() {
            running.spawn(lives_through(case));
        }
    }
    assert!(hit >= 140, "{hit} of 150 faults were come to");
}

/// A gateway that starts into the fault, and comes into it again while it runs.
async fn lives_through(case: Case) -> u64 {
    let what = format!("{:?} {:?} {}", case.api, case.fault, case.times);
    let mut stage = Stage::with(Options::default().nodes(2).topic("logs", 2)).await;
    stage.config.ingestion.producer_write_timeout = Duration::from_millis(500);
    stage.config.server.request_timeout = Duration::from_secs(16);
    let rule = case.put_in_force(&stage);
    let gateway = stage.start().await;
    let mut sent = Vec::new();
    post(&gateway, &mut sent, "cold", &what).await;
    let mut hits = rule.hits();
    rule.remove();
    all_in_the_topic(&stage, &sent, &what).await;

    // Now there are connections, a view and ends.
    let rule = case.put_in_force(&stage);
    for partition in 0..2 {
        let leader = stage.broker.leader("logs", partition).unwrap();
        let other = leader % 2 + 1;
        stage.broker.move_leader("logs", partition, other).unwrap();
    }
    post(&gateway, &mut sent, "moved", &what).await;
    for api in [Api::Produce, Api::ListOffsets] {
        // The next connection has to be made first.
        let rule = stage.broker.faults().on(api).client_id("sluice-gateway");
        rule.times(2).then(Fault::Cut);
    }
    post(&gateway, &mut sent, "cut", &what).await;
    hits += rule.hits();
    rule.remove();
    all_in_the_topic(&stage, &sent, &what).await;
    gateway.stop().await;
    hits
}

async fn post(gateway: &Running, sent: &mut Vec<String>, when: &str, what: &str) {
    for n in 0..3 {
        let body = record(&format!("{when}-{n}"));
        let heard = gateway.post(&body).await;
        assert_eq!(heard.status, 202, "{what}: {heard:?}");
        sent.push(body);
    }
}

/// Copies of a record are one record to the writer.
async fn all_in_the_topic(stage: &Stage, sent: &[String], what: &str) {
    let look = async {
        loop {
            let mut envelopes = BTreeMap::new();
            for stored in stage.stored().await {
                let envelope = envelopes.entry(stored.value).or_insert(stored.envelope);
                assert_eq!(*envelope, stored.envelope, "{what}");
                assert!(stored.envelope.since <= stored.offset, "{what}");
            }
            if sent.iter().all(|body| envelopes.contains_key(body)) {
                let ours: BTreeSet<_> = sent.iter().collect();
                assert!(envelopes.keys().all(|value| ours.contains(value)), "{what}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let came = tokio::time::timeout(2 * LONG, look).await;
    assert!(came.is_ok(), "{what}: not all of it came");
}

#[tokio::test]
async fn a_partition_without_a_leader_is_kept_until_it_has_one() {
    let mut spec = TopicSpec::new("logs", 2);
    spec.replication = 1;
    let mut options = Options::default().nodes(2);
    options.topics.push(spec);
    let stage = Stage::with(options).await;
    let gateway = stage.start().await;
    let mut sent = Vec::new();
    post(&gateway, &mut sent, "before", "").await;
    let gone = stage.broker.leader("logs", 0).unwrap();
    stage.broker.stop_node(gone).unwrap();
    let body = record("nobody leads");
    let key = crate::harness::key_for(&body, 2, 0);
    let heard = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
    assert_eq!(heard.accepted().2, "dlq");
    sent.push(body);
    // The other goes on.
    let body = record("somebody leads");
    let key = crate::harness::key_for(&body, 2, 1);
    let heard = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
    assert_eq!(heard.accepted().2, "kafka");
    sent.push(body);
    stage.broker.start_node(gone).await.unwrap();
    all_in_the_topic(&stage, &sent, "").await;
    gateway.stop().await;
}

#[tokio::test]
async fn kafka_that_takes_requests_and_answers_none_costs_few_attempts() {
    let mut stage = Stage::new(2).await;
    stage.config.ingestion.producer_write_timeout = Duration::from_millis(500);
    let gateway = stage.start().await;
    let mut sent = Vec::new();
    post(&gateway, &mut sent, "before", "").await;
    let frozen = stage.broker.faults().on_any();
    let frozen = frozen.client_id("sluice-gateway").then(Fault::Drop);
    // One attempt for each partition finds out; it may have come to Kafka, and is kept.
    let produces = || stage.broker.requests_seen(Api::Produce);
    let before = produces();
    for n in 0..100 {
        let body = record(&format!("frozen-{n}"));
        assert_eq!(gateway.post(&body).await.accepted().2, "dlq");
        sent.push(body);
    }
    let attempts = produces() - before;
    assert!(attempts <= 4, "{attempts} attempts for 100 batches");
    frozen.remove();
    all_in_the_topic(&stage, &sent, "frozen").await;
    // It closes by itself.
    let body = record("after");
    until("Kafka takes it again", async || {
        gateway.post(&body).await.accepted().2 == "kafka"
    })
    .await;
    gateway.stop().await;
}
