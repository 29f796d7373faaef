//! On an embedded broker, where what counts is the order in which batches are settled.

use dev_broker::{Api, Broker, Fault, Options, error_code};
use kafka_link::ClusterConfig;

use super::*;
use crate::{batch::test::batch_of, producer::drain::drain};

const SECOND: Duration = Duration::from_secs(1);

fn sender(broker: &Broker) -> Sender {
    let (control, drain) = drain();
    // Nobody drains.
    drop(control);
    Sender {
        cluster: Cluster::new(ClusterConfig {
            brokers: broker.bootstrap_servers(),
            client_id: "test".to_owned(),
            connect_timeout: 30 * SECOND,
            request_timeout: 30 * SECOND,
            response_bytes_max: 1 << 20,
            security: Default::default(),
        }),
        topic: "logs".into(),
        acks: Acks::All,
        codec: Codec::None,
        batch_records_max: 1,
        batch_bytes_max: 1_000_000,
        write_timeout: 60 * SECOND,
        attempt_min: SECOND / 10,
        retries_max: 5,
        backoff: Backoff {
            base: SECOND / 10,
            max: SECOND / 10,
        },
        drain,
        memory: Budget::new(1 << 20),
    }
}

#[tokio::test]
async fn a_batch_that_pauses_is_not_held_up_by_anothers_write() {
    let broker = Broker::start(Options::default().topic("logs", 2))
        .await
        .unwrap();
    let faults = broker.faults();
    faults
        .on(Api::Produce)
        .partition("logs", 0)
        .always()
        .then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    // The second piece of the other partition, while this one pauses.
    faults
        .on(Api::Produce)
        .partition("logs", 1)
        .nth(2)
        .then(Fault::Delay(8 * SECOND));
    let mut pausing = batch_of(0, &["a"]);
    pausing.progress.partition = Some(PartitionId(0));
    pausing.deadline = Instant::now() + 3 * SECOND;
    let mut writing = batch_of(1, &["b", "c"]);
    writing.progress.partition = Some(PartitionId(1));
    let mut sender = sender(&broker);
    sender.backoff.base = SECOND / 2;
    sender.backoff.max = SECOND / 2;
    let view = TopicView::new("c", "t", 2);
    let mut settled = Vec::new();
    let mut settle = |_, batch: Batch, how| settled.push((batch.id.0[0], how));
    sender
        .send(&view, vec![pausing, writing], &mut settle)
        .await;
    assert_eq!(
        settled,
        [
            (0, Settled::Left(Reason::Deadline)),
            (1, Settled::Acknowledged)
        ]
    );
}

#[tokio::test]
async fn a_lookup_that_hangs_does_not_outlive_the_drain() {
    let broker = Broker::start(Options::default().topic("logs", 1))
        .await
        .unwrap();
    let faults = broker.faults();
    let rule = faults.on(Api::ListOffsets).always();
    rule.then(Fault::Delay(600 * SECOND));
    let (control, drain) = drain();
    let mut sender = sender(&broker);
    sender.drain = drain;
    let view = TopicView::new("c", "t", 1);
    let mut settled = Vec::new();
    let mut settle = |_, batch: Batch, how| settled.push((batch.id.0[0], how));
    let send = sender.send(&view, vec![batch_of(0, &["a"])], &mut settle);
    let drains_later = async {
        // Its lookup is on its way: it was given all the time that a write has.
        while broker.requests_seen(Api::ListOffsets) == 0 {
            tokio::time::sleep(SECOND / 100).await;
        }
        control.end_at(Instant::now());
    };
    let ended = async { tokio::join!(send, drains_later) };
    let ended = tokio::time::timeout(20 * SECOND, ended).await;
    ended.expect("the send goes on after the drain");
    assert_eq!(settled, [(0, Settled::Left(Reason::SinceUnknown))]);
}
