//! Backpressure, clients that go away, and the end of the process.

use std::{sync::Arc, time::Duration};

use dev_broker::{Api, Fault, error_code};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use crate::{
    bounds::in_work,
    harness::{PATIENT, Stage, head, hear, record, records},
    waiting::until,
};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test]
async fn a_full_queue_is_429_with_retry_after_and_nothing_of_it_is_stored() {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.queue_buffer_size = 1;
    stage.config.ingestion.producer_workers = 1;
    stage.config.ingestion.producer_write_timeout = PATIENT;
    let gateway = Arc::new(stage.start().await);
    // Nothing leaves while the broker stands still.
    stage.broker.pause();
    let mut posts = JoinSet::new();
    for n in 0..10 {
        let gateway = gateway.clone();
        posts.spawn(async move { gateway.post(&record(&format!("n{n}"))).await });
    }
    // The first to be answered is one that is not taken.
    let refused = posts.join_next().await.unwrap().unwrap();
    assert_eq!(refused.problem(), (429, "queue_full".to_owned()));
    assert!(refused.headers["retry-after"].parse::<u32>().unwrap() >= 1);
    stage.broker.resume();
    let mut accepted = 0;
    while let Some(heard) = posts.join_next().await {
        let heard = heard.unwrap();
        match heard.status {
            202 => accepted += 1,
            _ => assert_eq!(heard.problem(), (429, "queue_full".to_owned())),
        }
    }
    assert!(accepted > 0, "all of them are refused");
    let mut distinct: Vec<_> = stage
        .stored_when(accepted)
        .await
        .into_iter()
        .map(|s| s.value)
        .collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), accepted);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn a_client_gone_before_its_body_is_whole_leaves_nothing() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let body = records(["gone"]);
    let head = head("POST", "/logs", &[JSON], body.len() + 1);
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(gateway.post(&records(["here"])).await.status, 202);
    gateway.stop().await;
    let stored = stage.stored().await;
    assert_eq!(stored.len(), 1);
    assert!(stored[0].value.contains("/here"));
}

#[tokio::test]
async fn a_client_gone_after_its_batch_was_queued_changes_nothing() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let rule = stage
        .broker
        .faults()
        .on(Api::Produce)
        .nth(1)
        .then(Fault::Delay(Duration::from_millis(300)));
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let body = records(["gone"]);
    let head = head("POST", "/logs", &[JSON], body.len());
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    until("it is on its way", async || rule.hits() > 0).await;
    drop(stream);
    let stored = stage.stored_when(1).await;
    assert!(stored[0].value.contains("/gone"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_drain_answers_what_is_in_work_and_tells_others_to_come_again() {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.producer_write_timeout = PATIENT;
    let gateway = stage.start().await;
    let rule = stage
        .broker
        .faults()
        .on(Api::Produce)
        .nth(1)
        .then(Fault::Delay(Duration::from_secs(3)));
    let mut in_work = TcpStream::connect(gateway.addr).await.unwrap();
    let mut idle = TcpStream::connect(gateway.addr).await.unwrap();
    idle.write_all(head("GET", "/readyz", &[], 0).as_bytes())
        .await
        .unwrap();
    assert_eq!(hear(&mut idle).await.status, 200);
    let body = records(["a"]);
    let request = head("POST", "/logs", &[JSON], body.len()) + &body;
    in_work.write_all(request.as_bytes()).await.unwrap();
    until("it is on its way", async || rule.hits() > 0).await;
    gateway.request_shutdown();
    loop {
        let heard = gateway.ask("GET", "/readyz", &[], b"").await;
        if heard.status == 503 {
            break;
        }
    }
    idle.write_all(request.as_bytes()).await.unwrap();
    let heard = hear(&mut idle).await;
    assert_eq!(heard.problem(), (503, "draining".to_owned()));
    assert_eq!(heard.headers["connection"], "close");
    assert!(heard.headers.contains_key("retry-after"));
    let heard = hear(&mut in_work).await;
    assert_eq!(heard.accepted(), (1, 0, "kafka".to_owned()));
    gateway.ended().await;
    assert_eq!(stage.stored().await.len(), 1);
}

#[tokio::test]
async fn a_drain_with_kafka_standing_still_keeps_everything_within_its_time() {
    let mut stage = Stage::new(1).await;
    stage.config.server.shutdown_timeout = Duration::from_secs(2);
    let gateway = stage.start().await;
    stage.broker.pause();
    let mut clients = Vec::new();
    for n in 0..5 {
        let body = record(&format!("n{n}"));
        let mut stream = in_work(&gateway, body.len()).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    // One that never ends its body is told so.
    let mut slow = in_work(&gateway, 1000).await;
    gateway.request_shutdown();
    for mut client in clients {
        assert_eq!(hear(&mut client).await.accepted().2, "dlq");
    }
    assert_eq!(
        hear(&mut slow).await.problem(),
        (503, "draining".to_owned())
    );
    gateway.ended().await;
    stage.broker.resume();
    let gateway = stage.start().await;
    let mut stored: Vec<_> = stage
        .stored_when(5)
        .await
        .into_iter()
        .map(|s| s.value)
        .collect();
    stored.sort();
    stored.dedup();
    assert_eq!(stored.len(), 5);
    gateway.stop().await;
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    gateway.hang_up();
    assert_eq!(gateway.post(&records(["a"])).await.status, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let _idle = TcpStream::connect(gateway.addr).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_drain_tries_again_what_a_full_disk_refused() {
    let mut stage = Stage::new(1).await;
    stage.config.kafka.async_ack = true;
    stage.config.ingestion.producer_dlq_max_bytes = 0;
    let gateway = stage.start().await;
    let rule = stage
        .broker
        .faults()
        .on(Api::Produce)
        .always()
        .then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    let heard = gateway.post(&records(["a"])).await;
    assert_eq!(heard.accepted(), (1, 0, "queue".to_owned()));
    gateway.request_shutdown();
    // Refused by both by now, or about to be: the circuit is open.
    until("it was tried three times", async || rule.hits() >= 3).await;
    rule.remove();
    gateway.ended().await;
    assert_eq!(stage.stored().await.len(), 1);
}
