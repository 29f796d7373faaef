//! A writer that is frozen past its session in the middle of a save, while another takes over,
//! writes on, and what both had written is removed: woken, it extends nothing.

use std::collections::{BTreeMap, BTreeSet};

use kafka_consumer_writer::snapshots::make;
use pipeline_core::{
    Offset,
    fsx::{
        Step,
        faults::{self, Fault},
    },
};

use crate::rig::{Rig, Stored, batch_id, wait_for};

const WINDOW: usize = 250_000;
const SHORT: &str = "sessionTimeout: 1s; flushSize: 10";

#[tokio::test(flavor = "multi_thread")]
async fn woken_behind_the_watermark_a_writer_extends_nothing_at_whichever_step_it_was_frozen() {
    for step in [
        Step::Create,
        Step::Write,
        Step::Sync,
        Step::Link,
        Step::SyncDir,
    ] {
        frozen_at(step).await;
    }
}

async fn frozen_at(step: Step) {
    let rig = Rig::new(1).await;
    let ten: Vec<u32> = (0..10).collect();
    let first = rig.writer("", SHORT);
    rig.send(0, 0, &ten, 0).await;
    rig.caught_up().await;
    let chain = rig.chain(0);
    let disk = faults::under(chain.dir())
        .step(step)
        .nth(1)
        .then(Fault::Hangs);
    rig.send(0, 1, &ten, 0).await;
    wait_for(&format!("a save to stop at {step:?}"), || disk.hits() == 1).await;
    let frozen = first.freeze().await;
    let second = rig.writer("", SHORT);
    for batch in 2..8 {
        rig.send(0, batch, &ten, 0).await;
        rig.caught_up().await;
    }
    let mut stored = by_offset(rig.stored());
    make(&chain, WINDOW).expect("snapshots");
    let removal = chain.remove_before(Offset(i64::MAX), &mut || true);
    assert!(removal.expect("removed").segments > 1);
    let name = chain.segment_path(Offset(10));
    assert!(!name.exists(), "the name is free again");

    disk.release();
    wait_for(&format!("what woke at {step:?} to end"), || {
        frozen.strong_count() == 0
    })
    .await;
    assert!(!name.exists(), "it stands behind the watermark: {step:?}");
    rig.send(0, 8, &ten, 0).await;
    rig.caught_up().await;
    second.stop().await;
    for (offset, record) in by_offset(rig.stored()) {
        let before = stored.insert(offset, record.clone());
        assert!(before.is_none_or(|before| before == record), "{step:?}");
    }
    let identities: BTreeSet<_> = stored.values().map(|record| record.identity).collect();
    let sent = (0..9).flat_map(|batch| ten.iter().map(move |at| Some((batch_id(batch), *at))));
    assert_eq!(identities, sent.collect(), "{step:?}");
    assert_eq!(stored.len(), 90, "nothing is there twice: {step:?}");
    assert_eq!(rig.totals().stored, 90, "{step:?}");
}

fn by_offset(stored: Vec<Stored>) -> BTreeMap<i64, Stored> {
    let stored = stored.into_iter();
    stored.map(|record| (record.offset, record)).collect()
}
