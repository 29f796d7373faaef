//! What a caller is told when a broker fails it, and that nothing is ever sent twice.

mod common;

use std::time::Duration;

use common::{LONG, Stage, batch, from, new_topic, only, options, produce_one, values};
use dev_broker::{Api, Fault, Options, RawBatch};
use kafka_link::{Acks, Cluster, Codec, ErrorKind, FetchOptions, HeaderSlot, check::Purpose};
use pipeline_core::{Offset, PartitionId, lifecycle::exit};

const BRIEF: Duration = Duration::from_secs(1);

async fn stage() -> (Stage, Cluster, String) {
    let stage = Stage::embedded(Options::default()).await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    (stage, cluster, topic)
}

#[tokio::test]
async fn a_produce_without_an_answer_is_unknown_and_was_sent_once() {
    let (stage, cluster, topic) = stage().await;
    let faults = [
        (Fault::DropAnswer, 1),
        (Fault::CutAnswer, 1),
        (Fault::HalfAnswer, 1),
        (Fault::ClaimLength(i32::MAX), 1),
        (Fault::ClaimLength(-5), 1),
        (Fault::Zeros, 1),
        (Fault::OtherCorrelation, 1),
        (Fault::EmptyAnswer, 1),
        (Fault::Drop, 0),
        (Fault::Cut, 0),
    ];
    let mut end = 0;
    for (nth, (fault, appended)) in (1..).zip(faults) {
        let rule = stage
            .broker()
            .faults()
            .on(Api::Produce)
            .times(1)
            .then(fault);
        let error = produce_one(&cluster, &topic, 0, BRIEF).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UnknownOutcome, "{fault:?}: {error}");
        assert_eq!(rule.hits(), 1);
        end += appended;
        assert_eq!(stage.broker().log_end(&topic, 0), Some(end), "{fault:?}");
        // The next call has a fresh connection.
        let offset = produce_one(&cluster, &topic, 0, LONG).await.unwrap();
        assert_eq!(offset, Offset(end));
        end += 1;
        assert_eq!(stage.broker().requests_seen(Api::Produce), nth * 2);
    }
}

#[tokio::test]
async fn errors_of_one_partition_are_its_own() {
    let (stage, cluster, topic) = stage().await;
    let expected = [
        (7, ErrorKind::UnknownOutcome),
        (19, ErrorKind::Retry),
        (20, ErrorKind::UnknownOutcome),
        (10, ErrorKind::TooLarge),
        (29, ErrorKind::Fatal),
        (87, ErrorKind::Poison),
        (3, ErrorKind::RefreshAndRetry),
    ];
    for (round, (code, kind)) in (0..).zip(expected) {
        let rule = stage.broker().faults().on(Api::Produce);
        let rule = rule.partition(&topic, 0).then(Fault::AnswerError(code));
        let both = (0..2).map(|id| (PartitionId(id), batch(&["x"], Codec::None)));
        let mut results = cluster
            .produce(&topic, Acks::All, LONG, both.collect())
            .await;
        rule.remove();
        results.sort_by_key(|result| result.0);
        let error = results[0].1.as_ref().unwrap_err();
        assert_eq!((error.kind, error.code), (kind, Some(code)), "{error}");
        assert!(
            error
                .message
                .contains(&format!("topic {topic} partition 0"))
        );
        assert_eq!(results[1].1.as_ref().unwrap(), &Offset(round));
    }
    assert_eq!(stage.broker().log_end(&topic, 0), Some(0));
}

#[tokio::test]
async fn a_throttled_batch_is_not_sent_again_and_the_next_one_waits() {
    let (stage, cluster, topic) = stage().await;
    let throttle = Fault::Throttle(Duration::from_secs(3));
    let rule = stage
        .broker()
        .faults()
        .on(Api::Produce)
        .times(1)
        .then(throttle);
    assert_eq!(
        produce_one(&cluster, &topic, 0, LONG).await.unwrap(),
        Offset(0)
    );
    assert_eq!(rule.hits(), 1);
    // There is no time to wait: nothing is sent, and that is said.
    let error = produce_one(&cluster, &topic, 0, Duration::from_millis(100)).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
    assert!(error.message.contains("throttles"), "{error}");
    assert_eq!(stage.broker().requests_seen(Api::Produce), 1);
    assert_eq!(
        produce_one(&cluster, &topic, 0, LONG).await.unwrap(),
        Offset(1)
    );
    assert_eq!(stage.broker().requests_seen(Api::Produce), 2);
}

#[tokio::test]
async fn a_broker_that_is_not_there_means_that_nothing_happened() {
    let (stage, cluster, topic) = stage().await;
    produce_one(&cluster, &topic, 0, LONG).await.unwrap();
    stage.broker().stop_node(1).unwrap();
    // The connection that was open may take the request yet; then it is cut.
    let first = produce_one(&cluster, &topic, 0, LONG).await.unwrap_err();
    assert!(
        matches!(first.kind, ErrorKind::Retry | ErrorKind::UnknownOutcome),
        "{first}"
    );
    let error = produce_one(&cluster, &topic, 0, LONG).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry, "{error}");
    assert!(error.message.contains("connect"), "{error}");
    let error = only(cluster.log_ends(&topic, &[PartitionId(0)]).await).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry, "{error}");
    stage.broker().start_node(1).await.unwrap();
    assert_eq!(
        produce_one(&cluster, &topic, 0, LONG).await.unwrap(),
        Offset(1)
    );
}

#[tokio::test]
async fn every_call_to_a_frozen_broker_ends_in_time() {
    let stage = Stage::embedded(Options::default()).await;
    let mut config = stage.config();
    config.request_timeout = BRIEF;
    config.connect_timeout = BRIEF;
    let topic = new_topic(&stage.cluster(), 1, &[]).await;
    let warm = Cluster::new(config.clone());
    produce_one(&warm, &topic, 0, LONG).await.unwrap();
    let cold = Cluster::new(config);
    stage.broker().pause();
    let error = produce_one(&warm, &topic, 0, BRIEF).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnknownOutcome, "{error}");
    for cluster in [&warm, &cold] {
        // Not even a connection: so nothing was sent.
        let error = produce_one(cluster, &topic, 0, BRIEF).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Retry, "{error}");
        assert_eq!(
            cluster.topic(&topic).await.unwrap_err().kind,
            ErrorKind::Retry
        );
        let brief = FetchOptions {
            wait_max: BRIEF,
            ..options()
        };
        let error = only(cluster.fetch(&topic, &[from(0, 0)], brief).await).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Retry, "{error}");
        let edges = cluster.log_ends(&topic, &[PartitionId(0)]).await;
        assert_eq!(only(edges).unwrap_err().kind, ErrorKind::Retry);
        assert_eq!(
            cluster.settings(&topic).await.unwrap_err().kind,
            ErrorKind::Retry
        );
    }
    let before = stage.broker().requests_seen(Api::Produce);
    stage.broker().resume();
    for cluster in [&warm, &cold] {
        produce_one(cluster, &topic, 0, LONG).await.unwrap();
    }
    assert!(stage.broker().requests_seen(Api::Produce) <= before + 3);
}

#[tokio::test]
async fn callers_at_once_share_one_question_about_a_topic() {
    let stage = Stage::embedded(Options::default().topic("logs", 3)).await;
    let cluster = stage.cluster();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let cluster = cluster.clone();
        tasks.spawn(async move { cluster.topic("logs").await.unwrap() });
    }
    tasks.join_all().await;
    assert_eq!(stage.broker().requests_seen(Api::Metadata), 1);
    cluster.topic("logs").await.unwrap();
    assert_eq!(stage.broker().requests_seen(Api::Metadata), 1);
    cluster.forget("logs");
    cluster.topic("logs").await.unwrap();
    assert_eq!(stage.broker().requests_seen(Api::Metadata), 2);
}

#[tokio::test]
async fn after_disconnect_everything_is_made_anew() {
    let (stage, cluster, topic) = stage().await;
    produce_one(&cluster, &topic, 0, LONG).await.unwrap();
    let asked = stage.broker().requests_seen(Api::Metadata);
    let connected = stage.broker().requests_seen(Api::ApiVersions);
    cluster.disconnect();
    produce_one(&cluster, &topic, 0, LONG).await.unwrap();
    assert_eq!(stage.broker().requests_seen(Api::Metadata), asked + 1);
    assert!(stage.broker().requests_seen(Api::ApiVersions) > connected);
}

#[tokio::test]
async fn a_batch_that_is_damaged_in_the_log_names_its_partition_and_offset() {
    let (stage, cluster, topic) = stage().await;
    produce_one(&cluster, &topic, 1, LONG).await.unwrap();
    let mut damaged = batch(&["damaged"], Codec::None).bytes.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    stage.broker().append_raw(&topic, 1, &damaged).unwrap();
    let fetched = only(cluster.fetch(&topic, &[from(1, 0)], options()).await).unwrap();
    assert_eq!((values(&fetched).len(), fetched.next), (1, Offset(1)));
    let error = only(cluster.fetch(&topic, &[from(1, 1)], options()).await).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Poison);
    let place = format!("topic {topic} partition 1");
    assert!(error.message.contains(&place), "{error}");
    assert!(error.message.contains("offset 1"), "{error}");
}

#[tokio::test]
async fn aborted_records_markers_and_gaps_are_stepped_over() {
    let (stage, cluster, topic) = stage().await;
    let transactional = |value: &str| RawBatch::Transactional {
        producer_id: 77,
        values: vec![value.to_owned()],
    };
    let marker = |commit| RawBatch::Marker {
        producer_id: 77,
        commit,
    };
    let gaps = RawBatch::Gaps {
        values: vec![(2, "kept".to_owned()), (5, "kept too".to_owned())],
        last_delta: 9,
    };
    let batches = [
        transactional("aborted"),
        marker(false),
        transactional("committed"),
        marker(true),
        gaps,
    ];
    for batch in &batches {
        stage.broker().append(&topic, 0, batch).unwrap();
    }
    let (mut next, mut got) = (0, Vec::new());
    while next < 14 {
        let at = [from(0, next)];
        let fetched = only(cluster.fetch(&topic, &at, options()).await).unwrap();
        assert!(fetched.next.0 > next, "stuck at {next}");
        next = fetched.next.0;
        for block in &fetched.blocks {
            for message in &block.messages {
                got.push((message.offset.0, block.value(message).unwrap().to_vec()));
            }
        }
    }
    assert_eq!(next, 14);
    let want = [(2, "committed"), (6, "kept"), (9, "kept too")];
    assert_eq!(got, want.map(|(at, value)| (at, value.as_bytes().to_vec())));
}

#[tokio::test]
async fn odd_headers_and_nulls_are_told_apart() {
    let (stage, cluster, topic) = stage().await;
    let headers = |headers: &[(&str, Option<&str>)]| RawBatch::Headers {
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect(),
        values: vec!["v".to_owned()],
    };
    let batches = [
        headers(&[("other", None)]),
        headers(&[("sluice", None)]),
        headers(&[("sluice", Some("a")), ("sluice", Some("b"))]),
        headers(&[("other", None), ("sluice", Some("a"))]),
        RawBatch::NullValues { count: 1 },
    ];
    for batch in &batches {
        stage.broker().append(&topic, 0, batch).unwrap();
    }
    let fetched = only(cluster.fetch(&topic, &[from(0, 0)], options()).await).unwrap();
    let slots: Vec<HeaderSlot> = fetched
        .blocks
        .iter()
        .flat_map(|block| &block.messages)
        .map(|message| message.header)
        .collect();
    assert!(matches!(
        slots[..],
        [
            HeaderSlot::Absent,
            HeaderSlot::Null,
            HeaderSlot::Repeated,
            HeaderSlot::At { .. },
            HeaderSlot::Absent,
        ]
    ));
    let (block, last) = (&fetched.blocks[3], fetched.blocks.last().unwrap());
    assert_eq!(block.header(&block.messages[0]), Some(&b"a"[..]));
    assert_eq!(last.messages[0].value, None);
}

/// As on a new cluster, which makes the topic of its groups when the first one is asked for.
#[tokio::test]
async fn a_check_waits_for_groups_that_are_not_up_yet() {
    let (stage, cluster, topic) = stage().await;
    let faults = stage.broker().faults();
    let rule = faults
        .on(Api::FindCoordinator)
        .times(2)
        .then(Fault::AnswerError(15));
    let purpose = Purpose {
        topic: &topic,
        creates: None,
        reads_as: Some("readers"),
        principal: None,
    };
    let report = cluster.check(&purpose).await;
    assert_eq!(rule.hits(), 2);
    assert_eq!(report.exit_code(), exit::OK, "{report}");
}
