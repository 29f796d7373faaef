//! Several writes on the way, leaders that move, and brokers that stand still: what it costs whom.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use dev_broker::{Api, Broker, Fault, Options};
use tokio::task::JoinSet;

use crate::{
    harness::{Heard, LONG, Running, Stage, key_for, records},
    waiting::until,
};

const A_WHILE: Duration = Duration::from_secs(5);

async fn stage(nodes: usize, partitions: i32) -> Stage {
    let mut stage = Stage::with(Options::default().nodes(nodes).topic("logs", partitions)).await;
    stage.config.ingestion.producer_write_timeout = Duration::from_secs(100);
    stage.config.server.request_timeout = Duration::from_secs(200);
    stage
}

/// Ends when as many have come.
async fn produces_seen(broker: &Broker, count: u64) {
    until("the broker sees each write", async || {
        broker.requests_seen(Api::Produce) >= count
    })
    .await;
}

/// Posts to one partition, as many at once as the loads they go with: each is on its way before
/// the next comes.
async fn post_each_in_a_load(
    stage: &Stage,
    gateway: &Arc<Running>,
    (partition, of): (i32, u32),
    loads: u64,
) -> JoinSet<Heard> {
    let mut posts = JoinSet::new();
    let before = stage.broker.requests_seen(Api::Produce);
    for load in 1..=loads {
        let body = records([format!("{partition}-{load}").as_str()]);
        let key = key_for(&body, of, partition);
        let gateway = Arc::clone(gateway);
        posts.spawn(async move {
            let key = [("Idempotency-Key", key.as_str())];
            gateway.post_with(&body, &key).await
        });
        produces_seen(&stage.broker, before + load).await;
    }
    posts
}

async fn all_in_kafka(mut posts: JoinSet<Heard>) {
    while let Some(heard) = posts.join_next().await {
        assert_eq!(heard.unwrap().accepted().2, "kafka");
    }
}

async fn stop(gateway: Arc<Running>) {
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn several_writes_are_on_their_way_to_one_broker_at_once() {
    let mut stage = stage(1, 1).await;
    stage.config.ingestion.producer_workers = 4;
    let gateway = Arc::new(stage.start().await);
    stage
        .broker
        .faults()
        .on(Api::Produce)
        .times(4)
        .then(Fault::Delay(A_WHILE));
    // Each is seen by the broker while those before it wait for their answers.
    let posts = post_each_in_a_load(&stage, &gateway, (0, 1), 4).await;
    assert_eq!(stage.broker.log_end("logs", 0), Some(0), "none is done yet");
    all_in_kafka(posts).await;
    assert_eq!(stage.stored().await.len(), 4);
    stop(gateway).await;
}

#[tokio::test]
async fn a_leader_that_moves_under_load_costs_one_question_and_no_dead_letter() {
    let mut stage = stage(3, 3).await;
    stage.config.ingestion.producer_workers = 6;
    let gateway = Arc::new(stage.start().await);
    let old = stage.broker.leader("logs", 0).unwrap();
    // More than the circuit would take for an outage, were each its own.
    stage
        .broker
        .faults()
        .on(Api::Produce)
        .times(4)
        .then(Fault::Delay(A_WHILE));
    let posts = post_each_in_a_load(&stage, &gateway, (0, 3), 4).await;
    let asked = stage.broker.requests_seen(Api::Metadata);
    stage.broker.move_leader("logs", 0, old % 3 + 1).unwrap();
    all_in_kafka(posts).await;
    let asked = stage.broker.requests_seen(Api::Metadata) - asked;
    assert!(asked <= 2, "{asked} questions for one move");
    let stored = stage.stored().await;
    let distinct: BTreeSet<_> = stored.iter().map(|s| &s.value).collect();
    assert_eq!((stored.len(), distinct.len()), (4, 4));
    stop(gateway).await;
}

#[tokio::test]
async fn brokers_restarted_one_after_the_other_cost_no_dead_letter() {
    let stage = stage(3, 3).await;
    let gateway = stage.start().await;
    let mut sent = 0;
    for round in 0..2 {
        for node in 1..=3 {
            // As a shutdown does it: the leaders go first.
            for partition in 0..3 {
                if stage.broker.leader("logs", partition) == Some(node) {
                    let other = node % 3 + 1;
                    stage.broker.move_leader("logs", partition, other).unwrap();
                }
            }
            for partition in 0..3 {
                let body = records([format!("{round}-{node}-{partition}").as_str()]);
                let key = key_for(&body, 3, partition);
                let heard = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
                assert_eq!(heard.accepted().2, "kafka");
                sent += 1;
            }
            stage.broker.stop_node(node).unwrap();
            for partition in 0..3 {
                let body = records([format!("{round}-{node}-{partition}-b").as_str()]);
                let key = key_for(&body, 3, partition);
                let heard = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
                assert_eq!(heard.accepted().2, "kafka");
                sent += 1;
            }
            stage.broker.start_node(node).await.unwrap();
        }
    }
    assert_eq!(stage.stored().await.len(), sent);
    gateway.stop().await;
}

#[tokio::test]
async fn a_broker_that_stands_still_takes_no_worker_from_the_others() {
    let mut stage = stage(3, 3).await;
    stage.config.ingestion.producer_workers = 2;
    let gateway = Arc::new(stage.start().await);
    let still = stage.broker.leader("logs", 0).unwrap();
    assert_ne!(stage.broker.leader("logs", 1), Some(still));
    // All its workers wait for it, and more than those.
    let rule = stage.broker.faults().on(Api::Produce).node(still);
    rule.then(Fault::Delay(LONG));
    let mut waiting = post_each_in_a_load(&stage, &gateway, (0, 3), 2).await;
    let body = records(["more"]);
    let key = key_for(&body, 3, 0);
    let more = (0..5).map(|_| {
        let (gateway, body, key) = (Arc::clone(&gateway), body.clone(), key.clone());
        async move {
            let key = [("Idempotency-Key", key.as_str())];
            gateway.post_with(&body, &key).await
        }
    });
    let mut more: JoinSet<_> = more.collect();
    // Each behind those: the queue is served in order of age where it can be.
    for n in 0..10 {
        let body = records([format!("well-{n}").as_str()]);
        let key = key_for(&body, 3, 1);
        let heard = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
        assert_eq!(heard.accepted().2, "kafka");
    }
    assert!(waiting.try_join_next().is_none() && more.try_join_next().is_none());
    drop((waiting, more));
    gateway.request_shutdown();
}

#[tokio::test]
async fn a_broker_that_stands_still_does_not_fill_the_queue_that_others_need() {
    let mut stage = stage(3, 3).await;
    stage.config.ingestion.producer_workers = 2;
    stage.config.ingestion.queue_buffer_size = 10;
    let gateway = Arc::new(stage.start().await);
    let still = stage.broker.leader("logs", 0).unwrap();
    let rule = stage.broker.faults().on(Api::Produce).node(still);
    rule.then(Fault::Delay(LONG * 2));
    let waiting = post_each_in_a_load(&stage, &gateway, (0, 3), 2).await;
    // As many as the queue takes.
    let mut more = JoinSet::new();
    for n in 0..10 {
        let body = records([format!("more-{n}").as_str()]);
        let key = key_for(&body, 3, 0);
        let gateway = Arc::clone(&gateway);
        more.spawn(async move {
            let key = [("Idempotency-Key", key.as_str())];
            gateway.post_with(&body, &key).await
        });
    }
    // What is above half of it is kept at once.
    for _ in 0..5 {
        let heard = more.join_next().await.unwrap().unwrap();
        assert_eq!(heard.accepted().2, "dlq");
    }
    for n in 0..10 {
        let body = records([format!("well-{n}").as_str()]);
        let key = key_for(&body, 3, 1);
        let heard = gateway.post_with(&body, &[("Idempotency-Key", &key)]).await;
        assert_eq!(heard.accepted().2, "kafka");
    }
    assert!(more.try_join_next().is_none(), "the older half still waits");
    drop((waiting, more));
    gateway.request_shutdown();
}
