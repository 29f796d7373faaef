//! `repair`: a damaged end is set aside where Kafka can say it once more, and only there.

use std::fs;

use kafka_consumer_writer::repair;
use pipeline_core::Offset;

use crate::rig::{Rig, TOPIC};

async fn repair(rig: &Rig, dry_run: bool) -> (u8, String) {
    let config = rig.config(rig.dir.path(), "", "");
    let mut out = Vec::new();
    let code = repair::run(&config, dry_run, &mut out).await;
    (
        code.expect("written"),
        String::from_utf8(out).expect("UTF-8"),
    )
}

/// Three segments of ten records each in partition 0; gives the path of the second.
async fn three_segments(rig: &Rig) -> std::path::PathBuf {
    let ten: Vec<u32> = (0..10).collect();
    for batch in 0..3 {
        rig.send(0, batch, &ten, 0).await;
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
    }
    rig.chain(0).segment_path(Offset(10))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_chain_is_read_from_kafka_once_more_and_each_record_is_stored_once() {
    let rig = Rig::new(2).await;
    assert_eq!(repair(&rig, false).await.0, 1, "there is no store");
    let second = three_segments(&rig).await;
    let (code, text) = repair(&rig, false).await;
    assert!(
        code == 0 && text.contains("2 chains whole, 0 damaged"),
        "{text}"
    );

    let mut bytes = fs::read(&second).expect("it is there");
    bytes[20] ^= 1;
    fs::write(&second, &bytes).expect("written");
    let (code, text) = repair(&rig, true).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(&format!("would set aside {}", second.display())),
        "{text}"
    );
    assert!(second.exists(), "it was a dry run");

    // While another writer is there, nothing is touched.
    let writer = rig.writer("", "");
    rig.caught_up().await;
    let (code, text) = repair(&rig, false).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("stop all writers first"), "{text}");
    assert!(second.exists(), "it is in use");
    writer.stop().await;

    let (code, text) = repair(&rig, false).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        !second.exists() && text.contains("reads on at 10"),
        "{text}"
    );
    assert_eq!(rig.next(0), Some(10));
    // Copies are still known: those before the damage by the chain, the others by what is read.
    let ten: Vec<u32> = (0..10).collect();
    for batch in 0..3 {
        rig.send(0, batch, &ten, 0).await;
    }
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    rig.check_exact((0..3).flat_map(|batch| ten.iter().map(move |it| (batch, *it))));
    assert_eq!(rig.totals().duplicate, 30);
    let aside = rig
        .dir
        .path()
        .join("logs/_aside")
        .join(TOPIC)
        .join("p00000");
    assert_eq!(fs::read_dir(aside).expect("there").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_repaired_that_kafka_does_not_have_any_more() {
    let rig = Rig::new(1).await;
    let second = three_segments(&rig).await;
    fs::remove_file(&second).expect("removed");
    rig.broker.delete_before(TOPIC, 0, 11).expect("deleted");
    for dry_run in [true, false] {
        let (code, text) = repair(&rig, dry_run).await;
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("Kafka has nothing before 11"), "{text}");
        assert!(
            text.contains("1 records from 10 on would be lost"),
            "{text}"
        );
    }
    assert!(rig.chain(0).segment_path(Offset(20)).exists());
    // Of another topic of this name, nothing can be read once more either.
    rig.broker.recreate_topic(TOPIC).expect("made anew");
    let (code, text) = repair(&rig, false).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("it was made anew"), "{text}");
}
