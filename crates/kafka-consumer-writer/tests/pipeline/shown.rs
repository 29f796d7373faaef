//! What is lost, halted or cannot be read is said on `/metrics`, by the built binary.

use std::fs;

use kafka_consumer_writer::snapshots::make;
use pipeline_core::Offset;
use testbed::metrics::Metrics;

use crate::{
    binary::{Binary, stopped},
    rig::Rig,
};

fn halts(metrics: &Metrics, reason: &str) -> Option<f64> {
    metrics.with("consumer_partition_halts", &format!("reason=\"{reason}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_and_why_partitions_stand_still_is_on_metrics() {
    let rig = Rig::new(3).await;
    let binary = Binary::on(&rig, "");
    for partition in 0..3 {
        rig.send_many(partition, partition as u64, 10).await;
    }
    let writer = binary.start();
    rig.caught_up().await;
    let metrics = binary.shows("no lag", |it| it.sum("consumer_lag_records") == Some(0.0));
    assert_eq!(metrics.await.sum("consumer_partition_halts"), Some(0.0));
    assert_eq!(stopped(writer), Some(0));
    for partition in 0..3 {
        rig.send_many(partition, 10 + partition as u64, 10).await;
    }
    // Retention is faster than the writer; of two chains the end is damaged, and missing.
    rig.broker
        .delete_before(crate::rig::TOPIC, 0, 15)
        .expect("deleted");
    let damaged = rig.chain(1).segment_path(Offset(0));
    let whole = fs::read(&damaged).expect("it is there");
    let mut bytes = whole.clone();
    let end = bytes.len();
    bytes[end - 30] ^= 1;
    fs::write(&damaged, bytes).expect("written");
    fs::remove_file(rig.chain(2).start_path()).expect("removed");

    let writer = binary.start();
    let metrics = binary.shows("lost", |it| it.sum("consumer_lost_total") == Some(5.0));
    let lost = metrics.await.with("store_chain_records", "fate=\"lost\"");
    assert_eq!(lost, Some(5.0));
    let metrics = binary.shows("halts", |it| {
        it.sum("consumer_partitions_halted") == Some(2.0)
            && it.with("consumer_lag_records", "partition=\"0\"") == Some(0.0)
    });
    let metrics = metrics.await;
    assert_eq!(halts(&metrics, "damaged"), Some(1.0));
    assert_eq!(halts(&metrics, "missing"), Some(1.0));
    assert_eq!(metrics.sum("consumer_partition_halts"), Some(2.0));
    // Nothing is known of the damaged one: all of its log may have to be read.
    let lag = metrics.with("consumer_lag_records", "partition=\"1\"");
    assert_eq!(lag, Some(20.0));
    assert_eq!(stopped(writer), Some(0));
    fs::write(&damaged, whole).expect("written");

    // The chains' own totals say it to whoever comes next.
    let writer = binary.start();
    let metrics = binary.shows("the sums", |it| {
        it.with("store_chain_records", "fate=\"lost\"") == Some(5.0)
            && halts(it, "damaged") == Some(0.0)
            && halts(it, "missing") == Some(1.0)
    });
    assert_eq!(metrics.await.sum("consumer_lost_total"), Some(0.0));
    assert_eq!(stopped(writer), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_of_a_snapshot_that_cannot_be_read_is_counted() {
    let rig = Rig::new(1).await;
    let binary = Binary::on(&rig, "");
    for spoiled in 0..=2 {
        rig.send_many(0, 2 * spoiled as u64, 10).await;
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
        make(&rig.chain(0), 250_000).expect("a snapshot");
        let files = rig.chain(0).snapshots().expect("listed");
        for file in &files[..spoiled] {
            fs::write(&file.path, "cut off").expect("written");
        }
        let writer = binary.start();
        // It has taken the partition when it stores what is new.
        rig.send_many(0, 2 * spoiled as u64 + 1, 10).await;
        let metrics = binary.shows("it goes on", |it| {
            it.sum("logs_ingested_total") == Some(10.0)
        });
        let counted = metrics.await.sum("store_snapshots_unreadable_total");
        let counted = counted.expect("it is there");
        // A slow machine may have made another one meanwhile, and met them again.
        assert!(counted >= spoiled as f64, "{counted} of {spoiled}");
        assert_eq!(counted > 0.0, spoiled > 0);
        assert_eq!(stopped(writer), Some(0));
    }
}

/// The books' right side as one look at the metrics has it.
fn right_side(metrics: &Metrics) -> f64 {
    let chains: f64 = ["stored", "duplicate", "poison", "undecidable", "lost"]
        .map(|fate| metrics.with("store_chain_records", &format!("fate=\"{fate}\"")))
        .map(Option::unwrap_or_default)
        .iter()
        .sum();
    chains + metrics.sum("consumer_lag_records").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_look_at_the_metrics_misses_a_record_that_was_in_the_log_when_it_began() {
    let rig = Rig::new(2).await;
    let binary = Binary::on(&rig, "bufferBytes: 128KiB");
    let look = || Metrics::scrape(binary.admin);
    let mut sent: f64 = 0.0;
    let mut batch = 0;
    for life in 0..2 {
        // What nobody has read: of a first start there is not even a chain.
        for partition in 0..2 {
            batch += 1;
            rig.send_many(partition, batch, 500).await;
            sent += 500.0;
        }
        let mut writer = binary.start();
        let mut looks = 0;
        while looks < 60 {
            if let Ok(metrics) = look() {
                let right = right_side(&metrics);
                assert!(
                    right >= sent,
                    "{sent} in the log, but {right} in look {looks}"
                );
                looks += 1;
                batch += 1;
                rig.send_many(i32::from(batch % 2 == 0), batch, 300).await;
                sent += 300.0;
            }
        }
        if life == 0 {
            writer.kill().expect("killed");
        } else {
            rig.caught_up().await;
            let last = look().expect("it answers");
            assert_eq!(
                (right_side(&last), last.sum("consumer_lag_records")),
                (sent, Some(0.0))
            );
            assert_eq!(last.sum("consumer_log_ends_age_seconds"), Some(0.0));
            // Without Kafka it says how old that is; and a process that has never known, that.
            rig.broker.stop().await;
            binary
                .shows("an age", |it| {
                    it.sum("consumer_log_ends_age_seconds") > Some(1.0)
                })
                .await;
            writer.kill().expect("killed");
            writer = binary.start();
            let unknown = binary
                .shows("a look", |it| it.has("consumer_lag_records"))
                .await;
            assert!(unknown.sum("consumer_lag_records").is_some_and(f64::is_nan));
            assert_eq!(
                unknown.with("store_chain_records", "fate=\"stored\""),
                Some(sent)
            );
            drop(writer);
        }
    }
}
