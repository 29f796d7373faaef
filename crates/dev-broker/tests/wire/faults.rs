//! Each fault does what it says, to the requests that its rule names, and to no others.

use std::time::Duration;

use crate::client::{Wire, produce};
use bytes::Bytes;
use dev_broker::{Api, Broker, Fault, Options, RawBatch, error_code};
use kafka_protocol::messages::{ApiKey, MetadataRequest, RequestKind, ResponseKind};

const TIMED_OUT: i16 = error_code::REQUEST_TIMED_OUT;
/// Long enough that no test gets there.
const FOREVER: Duration = Duration::from_secs(600);

async fn start() -> (Broker, Wire) {
    let broker = Broker::start(Options::default().topic("logs", 2))
        .await
        .unwrap();
    let wire = Wire::connect(broker.addr()).await;
    (broker, wire)
}

fn batch() -> Bytes {
    let values = vec!["a".to_owned()];
    RawBatch::Plain { values }.encode()
}

async fn write(wire: &mut Wire) -> std::io::Result<i16> {
    let answer = wire.produce(9, -1, ("logs", 0), batch()).await?;
    Ok(answer.error_code)
}

/// The connection goes on: its next answer is that of the next request.
async fn still_answers(wire: &mut Wire) {
    let request = RequestKind::Metadata(MetadataRequest::default());
    wire.call(ApiKey::Metadata, 9, &request)
        .await
        .expect("an answer");
}

#[tokio::test]
async fn the_nth_request_alone_is_hit() {
    let (broker, mut wire) = start().await;
    let rule = broker
        .faults()
        .on(Api::Produce)
        .nth(3)
        .then(Fault::AnswerError(TIMED_OUT));
    let mut errors = Vec::new();
    for _ in 0..5 {
        errors.push(write(&mut wire).await.unwrap());
    }
    assert_eq!(errors, [0, 0, TIMED_OUT, 0, 0]);
    assert_eq!(rule.hits(), 1);
    assert_eq!(broker.log_end("logs", 0), Some(4), "refused, so not done");
    broker.stop().await;
}

#[tokio::test]
async fn rules_count_skip_and_end() {
    let (broker, mut wire) = start().await;
    let rule = broker
        .faults()
        .on(Api::Produce)
        .after(1)
        .times(2)
        .then(Fault::AnswerError(1));
    let mut errors = Vec::new();
    for _ in 0..4 {
        errors.push(write(&mut wire).await.unwrap());
    }
    assert_eq!(errors, [0, 1, 1, 0]);
    let always = broker
        .faults()
        .on_any()
        .always()
        .then(Fault::AnswerError(2));
    assert_eq!(write(&mut wire).await.unwrap(), 2);
    always.remove();
    assert_eq!(write(&mut wire).await.unwrap(), 0);
    broker.faults().on(Api::Produce).then(Fault::AnswerError(3));
    broker.faults().clear();
    assert_eq!(write(&mut wire).await.unwrap(), 0);
    assert_eq!(rule.hits(), 2);
    broker.stop().await;
}

#[tokio::test]
async fn a_produce_happens_and_is_reported_as_a_timeout() {
    let (broker, mut wire) = start().await;
    broker
        .faults()
        .on(Api::Produce)
        .times(1)
        .then(Fault::DoneButError(TIMED_OUT));
    assert_eq!(write(&mut wire).await.unwrap(), TIMED_OUT);
    assert_eq!(broker.log_end("logs", 0), Some(1));
    broker.stop().await;
}

#[tokio::test]
async fn what_one_of_two_rules_refuses_is_not_done() {
    for first_is_refusal in [true, false] {
        let (broker, mut wire) = start().await;
        let refuse = || {
            broker
                .faults()
                .on(Api::Produce)
                .then(Fault::AnswerError(19))
        };
        if first_is_refusal {
            refuse();
        }
        broker
            .faults()
            .on(Api::Produce)
            .partition("logs", 0)
            .then(Fault::DoneButError(TIMED_OUT));
        if !first_is_refusal {
            refuse();
        }
        assert_eq!(write(&mut wire).await.unwrap(), 19);
        assert_eq!(broker.log_end("logs", 0), Some(0));
        broker.stop().await;
    }
}

#[tokio::test]
async fn one_partition_fails_and_its_neighbour_does_not() {
    for (fault, kept) in [
        (Fault::AnswerError(TIMED_OUT), 0),
        (Fault::DoneButError(TIMED_OUT), 1),
    ] {
        let (broker, mut wire) = start().await;
        broker
            .faults()
            .on(Api::Produce)
            .partition("logs", 1)
            .then(fault);
        let request = produce(-1, &[("logs", 0, batch()), ("logs", 1, batch())]);
        let answer = wire.call(ApiKey::Produce, 9, &request).await.unwrap();
        let ResponseKind::Produce(answer) = answer else {
            panic!("not an answer to a produce");
        };
        let mut errors = Vec::new();
        for topic in &answer.responses {
            let each = topic.partition_responses.iter();
            errors.extend(each.map(|p| (p.index, p.error_code)));
        }
        errors.sort_unstable();
        assert_eq!(errors, [(0, 0), (1, TIMED_OUT)], "{fault:?}");
        assert_eq!(broker.log_end("logs", 0), Some(1));
        assert_eq!(broker.log_end("logs", 1), Some(kept), "{fault:?}");
        assert_eq!(
            write(&mut wire).await.unwrap(),
            0,
            "partition 0 alone is not hit"
        );
        broker.stop().await;
    }
}

#[tokio::test]
async fn unanswered_requests_are_done_or_not_and_the_connection_goes_on() {
    for (fault, kept) in [(Fault::Drop, 0), (Fault::DropAnswer, 1)] {
        let (broker, mut wire) = start().await;
        broker.faults().on(Api::Produce).then(fault);
        let request = produce(-1, &[("logs", 0, batch())]);
        wire.send(ApiKey::Produce, 9, &request).await.unwrap();
        still_answers(&mut wire).await;
        assert_eq!(broker.log_end("logs", 0), Some(kept), "{fault:?}");
        broker.stop().await;
    }
}

#[tokio::test]
async fn cut_connections_end_before_or_after_the_work() {
    for (fault, kept) in [(Fault::Cut, 0), (Fault::CutAnswer, 1)] {
        let (broker, mut wire) = start().await;
        broker.faults().on(Api::Produce).nth(1).then(fault);
        write(&mut wire).await.expect_err("closed");
        assert_eq!(broker.log_end("logs", 0), Some(kept), "{fault:?}");
        let mut other = Wire::connect(broker.addr()).await;
        assert_eq!(write(&mut other).await.unwrap(), 0);
        broker.stop().await;
    }
}

#[tokio::test]
async fn delayed_requests_wait_and_delayed_answers_do_not() {
    for (fault, done) in [
        (Fault::Delay(FOREVER), false),
        (Fault::DelayAnswer(FOREVER), true),
    ] {
        let (broker, mut wire) = start().await;
        let rule = broker.faults().on(Api::Produce).then(fault);
        let request = produce(-1, &[("logs", 0, batch())]);
        wire.send(ApiKey::Produce, 9, &request).await.unwrap();
        while rule.hits() == 0 || (done && broker.log_end("logs", 0) == Some(0)) {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            broker.log_end("logs", 0),
            Some(i64::from(done)),
            "{fault:?}"
        );
        let mut other = Wire::connect(broker.addr()).await;
        still_answers(&mut other).await;
        // and a broker that stops does not wait for them
        broker.stop().await;
    }
}

#[tokio::test]
async fn throttled_answers_say_so() {
    let (broker, mut wire) = start().await;
    let short = Duration::from_millis(3);
    broker
        .faults()
        .on(Api::Produce)
        .times(1)
        .then(Fault::Throttle(short));
    for throttled in [3, 0] {
        let request = produce(-1, &[("logs", 0, batch())]);
        let answer = wire.call(ApiKey::Produce, 9, &request).await.unwrap();
        let ResponseKind::Produce(answer) = answer else {
            panic!("not an answer to a produce");
        };
        assert_eq!(answer.throttle_time_ms, throttled);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    assert_eq!(broker.log_end("logs", 0), Some(2), "done once each");
    broker.stop().await;
}

#[tokio::test]
async fn broken_answers_are_broken() {
    let (broker, mut wire) = start().await;
    let rule = broker
        .faults()
        .on(Api::Produce)
        .then(Fault::ClaimLength(2_000_000_000));
    let request = produce(-1, &[("logs", 0, batch())]);
    wire.send(ApiKey::Produce, 9, &request).await.unwrap();
    assert_eq!(wire.receive_length().await.unwrap(), 2_000_000_000);
    rule.remove();
    let mut wire = Wire::connect(broker.addr()).await;
    let half = broker.faults().on(Api::Produce).then(Fault::HalfAnswer);
    wire.send(ApiKey::Produce, 9, &request).await.unwrap();
    let length = wire.receive_length().await.unwrap();
    half.remove();
    // what comes after the half is the next answer, with its own length in front
    wire.send(ApiKey::Produce, 9, &request).await.unwrap();
    let rest = wire.receive_bytes(length as usize).await.unwrap();
    let next = rest
        .windows(4)
        .position(|four| four == length.to_be_bytes());
    assert!(
        next.is_some_and(|at| at < length as usize),
        "the first answer was cut"
    );
    broker.stop().await;
}

#[tokio::test]
async fn wrong_answers_are_of_the_right_length_and_all_is_done() {
    let (broker, mut wire) = start().await;
    let request = produce(-1, &[("logs", 0, batch())]);
    let mut answers = Vec::new();
    for fault in [
        None,
        Some(Fault::Zeros),
        Some(Fault::OtherCorrelation),
        Some(Fault::EmptyAnswer),
    ] {
        let rule = fault.map(|fault| broker.faults().on(Api::Produce).then(fault));
        wire.send(ApiKey::Produce, 9, &request).await.unwrap();
        let length = wire.receive_length().await.unwrap();
        answers.push(wire.receive_bytes(length as usize).await.unwrap());
        if let Some(rule) = rule {
            rule.remove();
        }
    }
    assert_eq!(broker.log_end("logs", 0), Some(4));
    let correlation = |at: usize| i32::from_be_bytes(answers[at][..4].try_into().unwrap());
    assert_eq!(correlation(1), correlation(0) + 1);
    assert_ne!(correlation(2), correlation(0) + 2);
    assert_eq!(answers[1].len(), answers[0].len());
    assert!(answers[1][4..].iter().all(|byte| *byte == 0));
    assert_eq!(answers[2][4..].len(), answers[0][4..].len());
    assert!(answers[3].len() < answers[0].len());
    broker.stop().await;
}

#[tokio::test]
async fn rules_name_clients_and_nodes() {
    let broker = Broker::start(Options::default().nodes(2).topic("logs", 2))
        .await
        .unwrap();
    let mut wire = Wire::connect(broker.addr()).await;
    broker
        .faults()
        .on(Api::Produce)
        .client_id("other")
        .then(Fault::AnswerError(9));
    assert_eq!(write(&mut wire).await.unwrap(), 0);
    broker
        .faults()
        .on(Api::Produce)
        .client_id("wi")
        .node(2)
        .then(Fault::AnswerError(9));
    assert_eq!(write(&mut wire).await.unwrap(), 0);
    broker
        .faults()
        .on(Api::Produce)
        .client_id("wi")
        .node(1)
        .then(Fault::AnswerError(9));
    assert_eq!(write(&mut wire).await.unwrap(), 9);
    broker.stop().await;
}

#[tokio::test]
async fn a_paused_broker_takes_connections_and_answers_when_it_goes_on() {
    let (broker, mut wire) = start().await;
    broker.pause();
    let request = produce(-1, &[("logs", 0, batch())]);
    wire.send(ApiKey::Produce, 9, &request).await.unwrap();
    let mut other = Wire::connect(broker.addr()).await;
    let late = tokio::spawn(async move {
        still_answers(&mut other).await;
    });
    tokio::task::yield_now().await;
    assert!(!late.is_finished());
    assert_eq!(broker.log_end("logs", 0), Some(0));
    broker.resume();
    late.await.unwrap();
    wire.receive(ApiKey::Produce, 9).await.unwrap();
    assert_eq!(broker.log_end("logs", 0), Some(1));
    broker.stop().await;
}

#[tokio::test]
async fn a_stopped_node_is_gone_and_its_partitions_and_groups_move() {
    let broker = Broker::start(Options::default().nodes(2).topic("logs", 1))
        .await
        .unwrap();
    let servers = broker.bootstrap_servers();
    let mut one = Wire::connect(servers[0].parse().unwrap()).await;
    assert_eq!(write(&mut one).await.unwrap(), 0);
    broker.stop_node(1).unwrap();
    write(&mut one).await.expect_err("closed");
    assert_eq!(broker.leader("logs", 0), Some(2));
    let mut two = Wire::connect(servers[1].parse().unwrap()).await;
    assert_eq!(write(&mut two).await.unwrap(), 0);
    broker.start_node(1).await.unwrap();
    let mut one = Wire::connect(servers[0].parse().unwrap()).await;
    assert_eq!(
        write(&mut one).await.unwrap(),
        error_code::NOT_LEADER_OR_FOLLOWER
    );
    broker.stop().await;
}
