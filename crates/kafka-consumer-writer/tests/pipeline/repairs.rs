//! `repair`: a damaged end is set aside where Kafka can say it once more, and only there.

use std::fs;

use kafka_consumer_writer::{repair, snapshots::make};
use pipeline_core::{
    Offset,
    fsx::{
        Step,
        faults::{Fault, under},
    },
    store::verify::{self, Report, Which},
};

use crate::{
    binary::{Binary, stopped},
    rig::{Rig, TOPIC, wait_for},
};

async fn repair(rig: &Rig, dry_run: bool) -> (u8, String) {
    let config = rig.config(rig.dir.path(), "", "");
    let mut out = Vec::new();
    let code = repair::run(&config, dry_run, &mut out).await;
    (
        code.expect("written"),
        String::from_utf8(out).expect("UTF-8"),
    )
}

fn verify(rig: &Rig) -> Report {
    let root = rig.dir.path().join("logs");
    verify::verify(&root, &Which::default(), &|_, _| {}).expect("a store")
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
    assert!(text.contains("`aggregator rebuild`"), "{text}");
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
async fn beside_a_writer_nothing_is_repaired_though_the_repair_be_given_all_partitions() {
    let rig = Rig::new(1).await;
    let second = three_segments(&rig).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    let mut bytes = fs::read(&second).expect("it is there");
    bytes[20] ^= 1;
    fs::write(&second, &bytes).expect("written");
    // Which of two members has the one partition is by their ids, which are random.
    for _ in 0..4 {
        let (code, text) = repair(&rig, false).await;
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("nothing is repaired: other members"),
            "{text}"
        );
        assert!(text.contains("stop all writers first"), "{text}");
        assert_eq!(fs::read(&second).expect("it is in use"), bytes);
    }
    writer.stop().await;
    let (code, text) = repair(&rig, false).await;
    assert_eq!(code, 0, "{text}");
    assert!(!second.exists(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_repaired_that_kafka_does_not_have_any_more() {
    let rig = Rig::new(1).await;
    let second = three_segments(&rig).await;
    fs::remove_file(&second).expect("removed");
    let damage = format!("{TOPIC} p00000: missing {}", second.display());
    rig.broker.delete_before(TOPIC, 0, 11).expect("deleted");
    for dry_run in [true, false] {
        let (code, text) = repair(&rig, dry_run).await;
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(&damage), "{text}");
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

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_and_can_be_repaired_later_where_kafka_does_not_answer() {
    let rig = Rig::new(2).await;
    let writer = rig.writer("", "");
    for partition in 0..2 {
        rig.send(partition, partition as u64, &[0, 1], 0).await;
    }
    rig.caught_up().await;
    writer.stop().await;
    let damaged = rig.chain(0).segment_path(Offset(0));
    let mut bytes = fs::read(&damaged).expect("it is there");
    bytes[20] ^= 1;
    fs::write(&damaged, bytes).expect("written");
    // The binary is asked, as the exit code is what scripts look at.
    let away = rig.yaml(rig.dir.path(), "brokers: [127.0.0.1:1]", "");
    let binary = Binary::on(&rig, "");
    fs::write(binary.config(), away).expect("written");
    let run = |args: &[&str]| {
        let output = binary.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    for args in [&["repair"][..], &["repair", "--dry-run"]] {
        let (code, text) = run(args);
        assert_eq!(code, Some(75), "{text}");
        let name = format!("{TOPIC} p00000: damaged {}", damaged.display());
        assert!(text.contains(&name), "{text}");
        assert!(text.contains("Kafka does not answer"), "{text}");
        assert!(damaged.exists());
    }
    // What waiting for Kafka does not mend is 1.
    fs::remove_file(rig.chain(1).start_path()).expect("removed");
    let (code, text) = run(&["repair", "--dry-run"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("restore START from a backup"), "{text}");
    assert!(text.contains("Kafka does not answer"), "{text}");
}

/// The built binary, on a chain whose beginning is removed and whose damage lies before its newest
/// snapshot: as it is wherever a store has run for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_repairs_a_store_as_it_stands_after_hours() {
    const WINDOW: usize = 250_000;
    let rig = Rig::new(1).await;
    let binary = Binary::on(&rig, "");
    let chain = rig.chain(0);
    let ten: Vec<u32> = (0..10).collect();
    for batch in 0..6 {
        rig.send(0, batch, &ten, 0).await;
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
        make(&chain, WINDOW).expect("made");
    }
    let removal = chain.remove_before(Offset(10), &mut || true);
    assert_eq!(removal.expect("removed").segments, 1);
    let damaged = chain.segment_path(Offset(40));
    let mut bytes = fs::read(&damaged).expect("it is there");
    bytes[20] ^= 1;
    fs::write(&damaged, bytes).expect("written");
    let run = |args: &[&str]| {
        let output = binary.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    assert_eq!(run(&["verify"]).0, Some(1));
    let (code, text) = run(&["repair", "--dry-run"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("would read on at 40"), "{text}");
    let writer = binary.start();
    rig.send(0, 6, &ten, 0).await;
    rig.caught_up().await;
    let (code, text) = run(&["repair"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("stop all writers first"), "{text}");
    assert_eq!(stopped(writer), Some(0));
    assert!(damaged.exists(), "nothing was touched");

    let (code, text) = run(&["repair"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the writer reads on at 40"), "{text}");
    let (code, text) = run(&["verify"]);
    assert_eq!((code, rig.next(0)), (Some(0), Some(40)), "{text}");
    let writer = binary.start();
    // Copies from before the damage, and from behind it.
    for batch in [1, 3, 4, 6] {
        rig.send(0, batch, &ten, 0).await;
    }
    rig.caught_up().await;
    assert_eq!(stopped(writer), Some(0));
    let totals = rig.totals();
    assert_eq!((totals.stored, totals.duplicate, totals.lost), (70, 40, 0));
    assert_eq!(run(&["repair"]).0, Some(0), "nothing is damaged");

    // Kafka has forgotten what would have to be read.
    let mut bytes = fs::read(chain.segment_path(Offset(40))).expect("it is there");
    bytes[20] ^= 1;
    fs::write(chain.segment_path(Offset(40)), bytes).expect("written");
    rig.broker.delete_before(TOPIC, 0, 50).expect("deleted");
    let (code, text) = run(&["repair"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("10 records from 40 on would be lost"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_frozen_over_a_repair_extends_nothing_when_it_wakes() {
    let rig = Rig::new(1).await;
    let ten: Vec<u32> = (0..10).collect();
    let first = rig.writer("", "sessionTimeout: 1s; flushSize: 10");
    rig.send(0, 0, &ten, 0).await;
    rig.caught_up().await;
    let chain = rig.chain(0);
    let disk = under(chain.dir()).step(Step::Link).nth(1);
    let disk = disk.then(Fault::Hangs);
    rig.send(0, 1, &ten, 0).await;
    wait_for("its save", || disk.hits() == 1).await;
    let frozen = first.freeze().await;
    let damaged = chain.segment_path(Offset(0));
    let mut bytes = fs::read(&damaged).expect("it is there");
    bytes[20] ^= 1;
    fs::write(&damaged, bytes).expect("written");
    let (code, text) = repair(&rig, false).await;
    assert_eq!(code, 0, "{text}");
    // The next one stores both in one segment, so that the frozen one's name is free.
    let second = rig.writer("", "flushSize: 20; flushInterval: 10s");
    rig.caught_up().await;
    let name = chain.segment_path(Offset(10));
    assert!(!name.exists(), "the name is free");
    disk.release();
    wait_for("what woke to end", || frozen.strong_count() == 0).await;
    assert!(!name.exists(), "it has taken its file back");
    let twenty: Vec<u32> = (0..20).collect();
    rig.send(0, 2, &twenty, 0).await;
    rig.caught_up().await;
    second.stop().await;
    let both = (0..2).flat_map(|batch| ten.iter().map(move |at| (batch, *at)));
    rig.check_exact(both.chain((0..20).map(|at| (2, at))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_stays_in_the_group_while_the_disk_is_slow_and_stops_when_others_come() {
    let rig = Rig::new(1).await;
    let second = three_segments(&rig).await;
    let mut bytes = fs::read(&second).expect("it is there");
    bytes[20] ^= 1;
    fs::write(&second, bytes).expect("written");
    let config = rig.config(rig.dir.path(), "", "sessionTimeout: 1s");
    let aside = rig.dir.path().join("logs/_aside");
    let hung = under(&aside).step(Step::Link).nth(1).then(Fault::Hangs);
    let repairing = async {
        let mut out = Vec::new();
        let code = repair::run(&config, false, &mut out).await;
        let text = String::from_utf8(out).expect("UTF-8");
        (code.expect("written"), text)
    };
    let coming = async {
        wait_for("the first file", || hung.hits() == 1).await;
        let group = || rig.broker.group(crate::rig::GROUP).expect("it is there");
        let (_, repairs, _) = group();
        // Longer than its session without a heartbeat.
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        assert_eq!(group().2.len(), 1, "it has stayed");
        let writer = rig.writer("", "");
        // It does not fight for its place: the writer alone is left.
        wait_for("the writer's generation", || {
            let (state, generation, members) = group();
            state == "Stable" && generation > repairs && members.len() == 1
        })
        .await;
        hung.release();
        writer
    };
    let ((code, text), writer) = tokio::join!(repairing, coming);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("others came into the group"), "{text}");
    assert!(second.exists(), "it has stopped in time");
    writer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoiled_snapshot_is_made_anew_from_its_other_file_and_without_any_there_is_no_hope() {
    let rig = Rig::new(1).await;
    three_segments(&rig).await;
    let chain = rig.chain(0);
    make(&chain, 250_000).expect("a snapshot");
    let removal = chain.remove_before(Offset(i64::MAX), &mut || true);
    assert!(removal.expect("removed").segments > 0);
    let files = chain.snapshots().expect("listed");
    let whole = fs::read(&files[1].path).expect("it is there");
    fs::write(&files[0].path, "cut off").expect("written");
    let (code, text) = repair(&rig, true).await;
    assert!(code == 0 && !text.contains("again"), "dry: {text}");
    let (code, text) = repair(&rig, false).await;
    assert!(
        code == 0 && text.contains("stands in two files again"),
        "{text}"
    );
    assert_eq!(fs::read(&files[0].path).expect("it is there"), whole);

    // An older one that newer ones replace.
    let older = chain.dir().join(format!("{:020}.window-b", 20));
    fs::write(&older, "cut off").expect("written");
    let (code, text) = repair(&rig, true).await;
    let would = format!("would make anew or set aside {}", older.display());
    assert!(code == 0 && text.contains(&would), "{text}");
    assert!(older.exists(), "it was a dry run");
    let (code, text) = repair(&rig, false).await;
    assert!(code == 0 && text.contains("_aside"), "{text}");
    assert!(!older.exists());
    assert!(verify(&rig).is_whole());

    for file in chain.snapshots().expect("listed") {
        fs::write(&file.path, "cut off").expect("written");
    }
    let (code, text) = repair(&rig, false).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("not repaired"), "{text}");
    assert!(text.contains("restore one from a backup"), "{text}");
}
