//! Memory of a writer process that is given many partitions and is far behind.

use std::{fs, time::Duration};

use kafka_link::{Acks, BatchEncoder, Codec};
use pipeline_core::{
    BatchId, Offset, PartitionId,
    envelope::{Envelope, HEADER_NAME},
};
use testbed::process::{Process, poll_until};

use crate::rig::{Rig, TOPIC};

const MIB: u64 = 1 << 20;
/// As `dedupMaxBatches`: windows are full.
const BATCHES: usize = 1_000;

/// One message of every batch, so that each costs the window an entry.
async fn fill(rig: &Rig, partitions: i32, random: &mut fastrand::Rng) {
    for partition in 0..partitions {
        let mut encoder = BatchEncoder::new(1_700_000_000_000);
        for _ in 0..BATCHES {
            let mut id = [0; 16];
            id.fill_with(|| random.u8(..));
            let envelope = Envelope {
                batch: BatchId(id),
                sequence: 0,
                received_ms: 1_600_000_000_000,
                since: Offset(0),
            };
            let path: String = (0..100).map(|_| random.alphanumeric()).collect();
            let value = format!(
                r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/{path}","userAgent":"test"}}"#
            );
            encoder.push(value.as_bytes(), Some((HEADER_NAME, &envelope.encode())));
        }
        let batch = vec![(PartitionId(partition), encoder.finish(Codec::None))];
        let timeout = Duration::from_secs(30);
        let sent = rig.producer.produce(TOPIC, Acks::All, timeout, batch).await;
        sent[0].1.as_ref().expect("acknowledged");
    }
}

/// The most that was resident while it caught up with `rounds` full windows in each partition.
async fn peak_bytes(partitions: i32, rounds: usize, buffer_bytes: u64) -> u64 {
    let rig = Rig::new(partitions).await;
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..rounds {
        fill(&rig, partitions, &mut random).await;
    }
    let admin = format!("127.0.0.1:{}", testbed::process::free_port());
    let consumer = format!(
        "adminAddr: {admin}; bufferBytes: {buffer_bytes}; dedupMaxBatches: {BATCHES}; sessionTimeout: 30s"
    );
    let config = rig.dir.path().join("config.yaml");
    fs::write(&config, rig.yaml(rig.dir.path(), "", &consumer)).expect("written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-consumer-writer"));
    command.arg("--config").arg(&config);
    let log = rig.dir.path().join("writer.log");
    let mut writer = Process::spawn(command, "writer", &log).expect("started");
    let end = (rounds * BATCHES) as i64;
    let done = |partition: i32| {
        let committed = rig.committed(partition);
        committed.is_some_and(|(offset, _)| offset == end)
    };
    let mut begun = 0;
    let all = poll_until(Duration::from_secs(300), || {
        begun = (0..partitions).filter(|partition| done(*partition)).count();
        Ok((begun == partitions as usize).then_some(()))
    });
    assert!(
        all.expect("asked").is_some(),
        "{begun} of {partitions} partitions are done\n{}",
        writer.log_tail(20)
    );
    let memory = writer.memory().expect("it runs");
    println!("{partitions} partitions: {memory:?}");
    writer.terminate().expect("signalled");
    let ended = writer.wait(Duration::from_secs(31)).expect("in time");
    assert_eq!(ended.code(), Some(0), "{}", writer.log_tail(20));
    memory.peak_bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_partitions_far_behind_take_their_buffers_and_little_more() {
    let peak = peak_bytes(100, 3, 16 * MIB).await;
    assert!(peak <= 80 * MIB, "{} MiB", peak / MIB);
}

/// `cargo test -p kafka-consumer-writer --test pipeline a_thousand -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of some minutes"]
async fn a_thousand_partitions_far_behind_stay_below_512_mib() {
    let peak = peak_bytes(1_000, 3, 256 * MIB).await;
    assert!(peak <= 512 * MIB, "{} MiB", peak / MIB);
}
