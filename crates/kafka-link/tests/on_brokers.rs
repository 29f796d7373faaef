//! Produce, fetch and lookups, the same on the embedded broker and on Apache Kafka.

mod common;

use std::time::Duration;

use common::{LONG, Stage, batch, from, new_topic, only, options, values};
use kafka_link::{Acks, Codec, ErrorKind, FetchOptions, NewTopic, check::Purpose};
use pipeline_core::{Offset, PartitionId, config::CreateTopic, lifecycle::exit};

#[tokio::test]
async fn what_is_produced_with_any_codec_is_fetched_as_it_was() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 3, &[]).await;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut sent: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 3];
    for codec in Codec::ALL {
        for acks in [Acks::All, Acks::Leader] {
            let mut batches = Vec::new();
            for (partition, sent) in sent.iter_mut().enumerate() {
                let count = rng.usize(1..300);
                let messages: Vec<Vec<u8>> = (0..count)
                    .map(|n| format!("{partition} {codec:?} {n} {}", rng.u64(..)).into_bytes())
                    .collect();
                batches.push((PartitionId(partition as i32), batch(&messages, codec)));
                sent.extend(messages);
            }
            let before: Vec<i64> = batches
                .iter()
                .map(|(id, batch)| sent[id.0 as usize].len() as i64 - i64::from(batch.count))
                .collect();
            let mut acknowledged = cluster.produce(&topic, acks, LONG, batches).await;
            acknowledged.sort_by_key(|outcome| outcome.0);
            for ((id, base), before) in acknowledged.into_iter().zip(before) {
                assert_eq!(base.unwrap(), Offset(before), "{codec:?} {acks:?} {id}");
            }
        }
    }
    let mut next = [0; 3];
    let mut got: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 3];
    // Small answers, so that it takes many.
    let options = FetchOptions {
        bytes_max: 30_000,
        partition_bytes_max: 10_000,
        ..options()
    };
    while got
        .iter()
        .zip(&sent)
        .any(|(got, sent)| got.len() < sent.len())
    {
        let asked: Vec<_> = (0..3).map(|id| from(id, next[id as usize])).collect();
        let results = cluster.fetch(&topic, &asked, options).await;
        assert!(!results.is_empty(), "stuck at {next:?}");
        for (id, result) in results {
            let fetched = result.unwrap();
            let id = id.0 as usize;
            assert_eq!(fetched.high_watermark.0, sent[id].len() as i64);
            assert_eq!(fetched.log_start, Offset(0));
            for block in &fetched.blocks {
                assert_eq!(block.first.0, next[id]);
                next[id] = block.next.0;
                for message in &block.messages {
                    assert_eq!(block.header(message), Some(&b"identity"[..]));
                }
            }
            assert_eq!(fetched.next.0, next[id]);
            got[id].extend(values(&fetched));
        }
    }
    assert!(got == sent);
}

#[tokio::test]
async fn the_edges_of_a_log_are_found() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let three = batch(&["a", "b", "c"], Codec::None);
    let produced = cluster
        .produce(&topic, Acks::All, LONG, vec![(PartitionId(1), three)])
        .await;
    assert_eq!(only(produced).unwrap(), Offset(0));
    let all = [PartitionId(0), PartitionId(1)];
    let edges = |results: Vec<(PartitionId, Result<Offset, _>)>| {
        let mut edges: Vec<_> = results
            .into_iter()
            .map(
                |(id, offset): (_, Result<Offset, kafka_link::KafkaError>)| {
                    (id.0, offset.unwrap().0)
                },
            )
            .collect();
        edges.sort_unstable();
        edges
    };
    assert_eq!(
        edges(cluster.log_starts(&topic, &all).await),
        [(0, 0), (1, 0)]
    );
    assert_eq!(
        edges(cluster.log_ends(&topic, &all).await),
        [(0, 0), (1, 3)]
    );
    let beyond = only(cluster.log_ends(&topic, &[PartitionId(9)]).await).unwrap_err();
    assert_eq!(beyond.kind, ErrorKind::RefreshAndRetry);
}

#[tokio::test]
async fn an_offset_that_is_not_in_the_log_is_told_as_such() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 1, &[]).await;
    let error = only(cluster.fetch(&topic, &[from(0, 5)], options()).await).unwrap_err();
    assert_eq!(error.kind, ErrorKind::OffsetOutOfRange, "{error}");
    assert!(error.message.contains("offset 5"), "{error}");
}

#[tokio::test]
async fn a_long_poll_at_the_end_gives_nothing_and_then_what_comes() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 1, &[]).await;
    let short = FetchOptions {
        wait_max: Duration::from_millis(50),
        ..options()
    };
    assert!(cluster.fetch(&topic, &[from(0, 0)], short).await.is_empty());
    let poll = FetchOptions {
        wait_max: Duration::from_secs(8),
        ..options()
    };
    let at = [from(0, 0)];
    let waiting = cluster.fetch(&topic, &at, poll);
    // On the same cluster: the long poll stands in nobody's way.
    let producing = async {
        tokio::task::yield_now().await;
        let batches = vec![(PartitionId(0), batch(&["late"], Codec::None))];
        only(cluster.produce(&topic, Acks::All, LONG, batches).await).unwrap()
    };
    let (fetched, produced) = tokio::join!(waiting, producing);
    assert_eq!(produced, Offset(0));
    assert_eq!(values(&only(fetched).unwrap()), [b"late"]);
}

#[tokio::test]
async fn a_fetch_dropped_in_select_loses_nothing() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let mut next = [0_i64; 2];
    let mut got = Vec::new();
    for round in 0..40 {
        let batches = vec![(
            PartitionId(round % 2),
            batch(&[format!("{round}")], Codec::Lz4),
        )];
        only(cluster.produce(&topic, Acks::All, LONG, batches).await).unwrap();
        for attempt in 0.. {
            if next.iter().sum::<i64>() > i64::from(round) {
                break;
            }
            let asked = [from(0, next[0]), from(1, next[1])];
            let results = tokio::select! {
                biased;
                results = cluster.fetch(&topic, &asked, options()) => results,
                // Ready after a few turns: the fetch is dropped at a place that differs.
                () = turns(round % 7, attempt) => continue,
            };
            for (id, result) in results {
                let fetched = result.unwrap();
                next[id.0 as usize] = fetched.next.0;
                got.extend(values(&fetched));
            }
        }
    }
    let want: Vec<Vec<u8>> = (0..40).map(|n| format!("{n}").into_bytes()).collect();
    assert_eq!(got, want);
}

async fn turns(count: i32, attempt: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
    // A real pause, or the broker's answer never gets its turn; longer and longer, as a new
    // connection may have to shake hands first.
    tokio::time::sleep(Duration::from_millis(1 << (attempt / 8).min(10))).await;
}

#[tokio::test]
async fn a_topic_has_its_settings_its_id_and_its_leaders() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let settings = [
        ("min.insync.replicas", "1"),
        ("retention.ms", "86400000"),
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "500000"),
    ];
    let topic = new_topic(&cluster, 4, &settings).await;
    let info = cluster.topic(&topic).await.unwrap();
    assert_eq!(info.partitions.len(), 4);
    assert!(
        info.partitions
            .iter()
            .all(|partition| partition.leader.is_some())
    );
    assert_eq!(info.topic_id.len(), 32, "{}", info.topic_id);
    assert!(!info.cluster_id.is_empty());
    let found = cluster.settings(&topic).await.unwrap();
    assert_eq!(found.cleanup_policy, "delete");
    assert_eq!(found.min_insync_replicas, Some(1));
    assert_eq!(found.retention_ms, Some(86_400_000));
    assert_eq!(found.max_message_bytes, Some(500_000));
    assert_eq!(found.unclean_leader_election, Some(false));
    assert_eq!(found.replication, 1);
}

#[tokio::test]
async fn a_topic_that_is_there_is_made_again_without_a_word() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let name = new_topic(&cluster, 2, &[]).await;
    let again = NewTopic {
        name,
        partitions: 2,
        replication_factor: 1,
        settings: Vec::new(),
    };
    cluster.create_topic(&again).await.unwrap();
    stage.cluster().create_topic(&again).await.unwrap();
    let bad = NewTopic {
        name: common::unique("topic"),
        settings: vec![("retention.ms".into(), "soon".into())],
        ..again
    };
    let error = cluster.create_topic(&bad).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal, "{error}");
}

#[tokio::test]
async fn a_check_says_whether_the_topic_could_be_made_and_makes_none() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = common::unique("topic");
    let look = async |replication_factor| {
        let create = CreateTopic {
            partitions: 2,
            replication_factor,
        };
        let purpose = Purpose {
            topic: &topic,
            creates: Some(&create),
            reads_as: None,
            principal: None,
        };
        cluster.check(&purpose).await
    };
    for _ in 0..2 {
        let report = look(1).await;
        let said = report.to_string();
        let expected = format!("topic {topic} does not exist; it will be made");
        assert!(said.contains(&expected), "{said}");
        assert_eq!(report.exit_code(), exit::OK, "{said}");
    }
    let report = look(1000).await;
    let said = report.to_string();
    assert!(said.contains(&format!("create topic {topic}: ")), "{said}");
    assert_eq!(report.exit_code(), exit::CONFIG, "{said}");
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_fatal() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let error = cluster.topic("no-such-topic").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    assert!(
        error.message.contains("no-such-topic does not exist"),
        "{error}"
    );
    let batches = vec![(PartitionId(0), batch(&["x"], Codec::None))];
    let produced = cluster
        .produce("no-such-topic", Acks::All, LONG, batches)
        .await;
    assert_eq!(only(produced).unwrap_err().kind, ErrorKind::Fatal);
}

#[tokio::test]
async fn a_batch_over_the_topics_limit_is_too_large_and_its_neighbour_is_not() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[("max.message.bytes", "10000")]).await;
    let large = batch(&[vec![b'x'; 20_000]], Codec::None);
    let small = batch(&["small"], Codec::None);
    let batches = vec![(PartitionId(0), large), (PartitionId(1), small)];
    let mut results = cluster.produce(&topic, Acks::All, LONG, batches).await;
    results.sort_by_key(|result| result.0);
    assert_eq!(results[0].1.as_ref().unwrap_err().kind, ErrorKind::TooLarge);
    assert_eq!(results[1].1.as_ref().unwrap(), &Offset(0));
}

#[tokio::test]
async fn a_batch_with_a_wrong_checksum_is_poison() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 1, &[]).await;
    let mut broken = batch(&["a"], Codec::None);
    let mut bytes = broken.bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    broken.bytes = bytes.into();
    let results = cluster
        .produce(&topic, Acks::All, LONG, vec![(PartitionId(0), broken)])
        .await;
    let error = only(results).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Poison, "{error}");
}

#[tokio::test]
async fn a_batch_larger_than_the_fetch_comes_whole() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    let large = || batch(&[vec![b'x'; 200_000]], Codec::None);
    let batches = vec![(PartitionId(0), large()), (PartitionId(1), large())];
    for (_, result) in cluster.produce(&topic, Acks::All, LONG, batches).await {
        result.unwrap();
    }
    let tiny = FetchOptions {
        bytes_max: 1_000,
        partition_bytes_max: 1_000,
        ..options()
    };
    let mut done = [false; 2];
    // Each partition has its turn to be the first, which alone is sure to come whole.
    for _ in 0..4 {
        let asked: Vec<_> = (0..2)
            .filter(|id| !done[*id as usize])
            .map(|id| from(id, 0))
            .collect();
        for (id, result) in cluster.fetch(&topic, &asked, tiny).await {
            assert_eq!(values(&result.unwrap())[0].len(), 200_000);
            done[id.0 as usize] = true;
        }
    }
    assert_eq!(done, [true; 2]);
}

#[tokio::test]
async fn a_busy_partition_does_not_starve_its_neighbour() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 2, &[]).await;
    for partition in [0, 0, 0, 0, 0, 0, 1] {
        let large = batch(&[vec![b'x'; 100_000]], Codec::None);
        let batches = vec![(PartitionId(partition), large)];
        only(cluster.produce(&topic, Acks::All, LONG, batches).await).unwrap();
    }
    let tiny = FetchOptions {
        bytes_max: 1_000,
        partition_bytes_max: 1_000,
        ..options()
    };
    let mut next = [0; 2];
    // Each answer has room for one batch, and partition 0 always has one.
    for _ in 0..4 {
        let asked = [from(0, next[0]), from(1, next[1])];
        for (id, result) in cluster.fetch(&topic, &asked, tiny).await {
            next[id.0 as usize] = result.unwrap().next.0;
        }
    }
    assert!(next[0] < 6, "{next:?}");
    assert_eq!(next[1], 1);
}

#[tokio::test]
async fn many_produces_at_once_all_land() {
    let stage = Stage::any().await;
    let cluster = stage.cluster();
    let topic = new_topic(&cluster, 4, &[]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let (cluster, topic) = (cluster.clone(), topic.clone());
        tasks.spawn(async move {
            let batches = vec![(PartitionId(n % 4), batch(&["a", "b"], Codec::Snappy))];
            only(cluster.produce(&topic, Acks::All, LONG, batches).await).unwrap()
        });
    }
    let mut bases: Vec<i64> = tasks
        .join_all()
        .await
        .into_iter()
        .map(|base| base.0)
        .collect();
    bases.sort_unstable();
    let want: Vec<i64> = (0..25).flat_map(|n| [n * 2; 4]).collect();
    assert_eq!(bases, want);
}
