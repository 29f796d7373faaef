//! The power is cut under a writer: what it had committed is in the chains, what they count as
//! poison is in the consumer DLQ, and a writer that starts there goes on.

use std::path::Path;

use kafka_consumer_writer::dead_letters::{FILE_KIND, read_payload};
use pipeline_core::{
    PartitionId,
    dlq::read_frames,
    fsx::recording::{Recording, record},
    store::{
        Fate, Store,
        verify::{Which, verify},
    },
};

use crate::{
    halts::commit,
    raw,
    rig::{Rig, Sent, TOPIC, wait_for},
};

const PARTITIONS: i32 = 2;
/// States that a writer is started on; the others are only looked at.
const STARTS: usize = 6;

fn promise(partition: i32, offset: i64) -> u64 {
    (u64::try_from(partition).expect("not negative") << 32) | u64::try_from(offset).expect("small")
}

/// The last of each partition.
fn promised(recording: &Recording, cut: usize) -> [Option<i64>; PARTITIONS as usize] {
    let mut last = [None; PARTITIONS as usize];
    for promise in recording.promised(cut) {
        last[(promise >> 32) as usize] = Some((promise & 0xffff_ffff) as i64);
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_wherever_the_power_is_cut() {
    let rig = Rig::new(PARTITIONS).await;
    let recording = std::sync::Arc::new(record(rig.dir.path()));
    let writer = rig.writer("", "flushInterval: 5ms");
    let mut sent: Vec<Sent> = Vec::new();
    for batch in 0..12_u64 {
        let partition = (batch % 2) as i32;
        sent.extend(rig.send_many(partition, batch, 5).await);
        if batch % 3 == 0 {
            let poison = raw::one(Some(b"not json"), &[]);
            rig.broker
                .append_raw(TOPIC, partition, &poison)
                .expect("appended");
        }
        // What the group has acknowledged was promised before.
        wait_for("a commit", || {
            for partition in 0..PARTITIONS {
                if let Some((offset, _)) = rig.committed(partition) {
                    recording.mark(promise(partition, offset));
                }
            }
            rig.committed(partition)
                .is_some_and(|(offset, _)| offset == rig.log_end(partition))
        })
        .await;
    }
    writer.stop().await;
    // Of this store; those that start below may have lost its id and have another.
    let store = rig.committed(0).expect("committed").1;
    let cuts = recording.len();
    let mut random = fastrand::Rng::with_seed(7);
    for cut in 0..=cuts {
        let after = tempfile::tempdir().expect("a directory");
        recording
            .power_cut(cut, &mut random, after.path())
            .expect("made");
        let case = format!("cut behind {cut} of {cuts}");
        holds(after.path(), promised(&recording, cut), &case);
        if cut % (cuts / STARTS) == 0 {
            for (partition, offset) in (0..).zip(promised(&recording, cut)) {
                // As the group's log has it: nothing committed is no promise of this store.
                let metadata = offset.map_or("", |_| store.as_str());
                commit(&rig, partition, offset.unwrap_or(0), metadata).await;
            }
            goes_on(&rig, after.path(), &sent, &case).await;
        }
    }
}

/// No chain is damaged or behind what was promised, and its poison is kept.
fn holds(dir: &Path, promised: [Option<i64>; PARTITIONS as usize], case: &str) {
    let logs = dir.join("logs");
    if !logs.join("OWNER").exists() {
        assert_eq!(promised, [None; PARTITIONS as usize], "{case}");
        return;
    }
    let report = verify(&logs, &Which::default(), &|_, _| {}).expect("listed");
    assert!(report.is_whole(), "{case}: {report:?}");
    let mut kept = Vec::new();
    let dlq = dir.join("dlq/consumer");
    for entry in std::fs::read_dir(dlq).into_iter().flatten() {
        // What is torn was never relied upon.
        let _ = read_frames(
            &entry.expect("listed").path(),
            FILE_KIND,
            &mut |_, payload| {
                let _ = read_payload(payload, &mut |place, entry| {
                    kept.push((place.partition.0, entry.offset.0));
                });
            },
        );
    }
    let store = Store::open(&logs).expect("opens");
    for (partition, promised) in (0..).zip(promised) {
        let chain = store.chain(TOPIC, PartitionId(partition));
        let mut poison = Vec::new();
        let end = chain.walk(None, &mut |visited| {
            let mut at = visited.trailer.first.0;
            for run in &visited.trailer.fates {
                let next = at + run.count as i64;
                if run.fate == Fate::Poison {
                    poison.extend(at..next);
                }
                at = next;
            }
            true
        });
        let end = end.expect("whole").map(|end| end.next.0);
        assert!(end >= promised, "{case}: {end:?} but promised {promised:?}");
        for offset in poison {
            assert!(
                kept.contains(&(partition, offset)),
                "{case}: poison {offset} of {partition} is not kept"
            );
        }
    }
}

async fn goes_on(rig: &Rig, dir: &Path, sent: &[Sent], case: &str) {
    let writer = rig.writer_in(dir, "", "flushInterval: 5ms", false);
    let next = |partition| {
        let chain = rig.store(dir).chain(TOPIC, PartitionId(partition));
        let end = chain.walk(None, &mut |_| true).expect("whole");
        end.map(|end| end.next.0)
    };
    wait_for(&format!("the chains to reach their ends: {case}"), || {
        (0..PARTITIONS).all(|partition| next(partition) == Some(rig.log_end(partition)))
    })
    .await;
    writer.stop().await;
    rig.check_in_order_in(dir, sent);
}
