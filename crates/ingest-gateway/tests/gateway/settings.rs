//! What the topic's settings are when the gateway runs already: learnt anew, judged anew.

use std::time::Duration;

use dev_broker::{Api, Fault, error_code};
use ingest_gateway::dlq::{Reason, load::visit, names::Listing};

use crate::{
    harness::{LONG, Running, Stage, record, records},
    waiting::until,
};

/// Asks for the settings anew, as an answer that they leave no reason for makes the gateway do.
async fn doubt_settings(stage: &Stage, gateway: &Running) {
    let asked = stage.broker.requests_seen(Api::DescribeConfigs);
    let rule = stage.broker.faults().on(Api::Produce).times(1);
    rule.then(Fault::AnswerError(error_code::MESSAGE_TOO_LARGE));
    // In smaller pieces it goes.
    let heard = gateway.post(&records(["two", "records"])).await;
    assert_eq!(heard.accepted(), (2, 0, "kafka".to_owned()));
    let anew = async {
        until("the settings are asked for", async || {
            stage.broker.requests_seen(Api::DescribeConfigs) != asked
        })
        .await;
    };
    let anew = tokio::time::timeout(LONG / 2, anew).await;
    anew.expect("long before it would ask in any case");
}

#[tokio::test]
async fn a_topic_that_takes_less_is_known_soon_and_a_larger_record_is_its_clients_error() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let set = |bytes| stage.broker.set_setting("logs", "max.message.bytes", bytes);
    set("20000").unwrap();
    let large = "x".repeat(30_000);
    // Nobody has said so yet: it is kept.
    let heard = gateway.post(&record(&large)).await;
    assert_eq!(heard.accepted().2, "dlq");
    let rejected = async {
        loop {
            let heard = gateway.post(&records(["a", &large, "c"])).await;
            if heard.accepted().1 > 0 {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let heard = tokio::time::timeout(LONG / 2, rejected).await;
    let heard = heard.expect("long before it would ask in any case");
    assert_eq!(heard.accepted(), (2, 1, "kafka".to_owned()));
    let error = &heard.json()["errors"][0];
    assert_eq!(error["index"], 1, "{error}");
    assert_eq!(error["code"], "too_large", "{error}");
    // Alone, it leaves nothing to accept.
    let heard = gateway.post(&record(&large)).await;
    assert_eq!(heard.problem(), (400, "no_valid_record".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_compacted_later_gets_nothing_more_and_nothing_is_lost() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let set = |policy| stage.broker.set_setting("logs", "cleanup.policy", policy);
    set("compact").unwrap();
    doubt_settings(&stage, &gateway).await;
    let kept = async {
        until("it is refused now", async || {
            gateway.post(&record("late")).await.accepted().2 == "dlq"
        })
        .await;
    };
    tokio::time::timeout(LONG, kept).await.unwrap();
    let end = stage.broker.log_end("logs", 0);
    assert_eq!(gateway.post(&record("later")).await.accepted().2, "dlq");
    gateway.stop().await;
    assert_eq!(stage.broker.log_end("logs", 0), end);
    let error = stage.try_start().await.err().expect("it must not start");
    assert_eq!(error.exit_code(), 78, "{error}");
    let mut reasons = Vec::new();
    for file in Listing::read(&stage.dlq_dir()).unwrap().files {
        let seen = visit(&stage.dlq_dir(), &file, &mut |entry| {
            reasons.push(entry.head.reason);
        });
        seen.unwrap();
    }
    assert_eq!(reasons, [Reason::TopicUnfit; 2]);
    set("delete").unwrap();
    let gateway = stage.start().await;
    let end = usize::try_from(end.unwrap()).unwrap();
    stage.stored_when(end + 2).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_setting_that_weakens_the_promise_later_is_in_the_metrics() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let set = |value| {
        let name = "unclean.leader.election.enable";
        stage.broker.set_setting("logs", name, value)
    };
    let weak = r#"kafka_topic_weak{setting="unclean_leader_election"} 1"#;
    assert!(!gateway.metrics().await.contains(weak));
    set("true").unwrap();
    // Other gateways of this process say there what they know of their topics.
    let said = async {
        'asked: loop {
            doubt_settings(&stage, &gateway).await;
            for _ in 0..20 {
                if gateway.metrics().await.contains(weak) {
                    break 'asked;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(LONG, said).await.unwrap();
    gateway.stop().await;
}
