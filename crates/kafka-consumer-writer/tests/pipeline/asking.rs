//! The commands as scripts use them: exit codes.

use std::fs;

use kafka_consumer_writer::dead_letters::{
    Aside, DeadLetters, Entry, EntryHeader, EntryKind, Place, tidy::lock_replay,
};
use pipeline_core::{Offset, PartitionId};

use crate::{
    binary::Binary,
    rig::{Rig, TOPIC},
};

fn code(binary: &Binary, args: &[&str]) -> (Option<i32>, String) {
    let ended = binary.run(args);
    let said = [ended.stdout, ended.stderr].concat();
    (ended.status.code(), String::from_utf8(said).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_turned_around_is_a_wrong_command_line() {
    let rig = Rig::new(1).await;
    let binary = Binary::on(&rig, "");
    let offsets = ["--from-offset", "10", "--to-offset", "5"];
    let times = [
        "--from",
        "2026-01-02T00:00:00Z",
        "--to",
        "2026-01-01T00:00:00Z",
    ];
    for range in [offsets, times] {
        for command in [
            ["segments", "ls"],
            ["segments", "cat"],
            ["dlq", "list"],
            ["dlq", "show"],
        ] {
            let (code, said) = code(&binary, &[&command[..], &range].concat());
            assert_eq!(code, Some(2), "{command:?}: {said}");
            assert!(said.contains(range[0]) && said.contains(range[2]), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_cannot_be_read_are_named_and_a_dry_run_waits_for_nobody() {
    let rig = Rig::new(1).await;
    let binary = Binary::on(&rig, "");
    let dir = rig.dir.path().join("dlq/consumer");
    let (ended, said) = code(&binary, &["dlq", "list"]);
    assert_eq!(ended, Some(1), "{said}");
    assert!(!said.contains("OFFSET"), "no empty table: {said}");

    let queue = DeadLetters::open(&dir, 1 << 20, [1; 16]).expect("opens");
    let place = Place {
        topic: TOPIC.to_owned(),
        topic_id: "id".to_owned(),
        partition: PartitionId(0),
    };
    let entry = Entry {
        kind: EntryKind::Poison,
        offset: Offset(7),
        timestamp_ms: 1,
        header: EntryHeader::Absent,
        value: None,
        detail: "the value is null".into(),
    };
    queue.keep(&place, &[entry]).expect("kept");
    for command in ["list", "show"] {
        assert_eq!(code(&binary, &["dlq", command]).0, Some(0));
    }
    // Another command is at work.
    let lock = lock_replay(&dir).expect("free");
    for command in ["discard", "replay"] {
        let (ended, said) = code(&binary, &["dlq", command]);
        assert_eq!(ended, Some(75), "{said}");
        let (ended, said) = code(&binary, &["dlq", command, "--dry-run"]);
        assert_eq!(ended, Some(0), "{said}");
        assert!(said.contains("the value is null"), "{said}");
    }
    drop(lock);
    fs::write(dir.join("records-foreign-0.dlq"), "nonsense ".repeat(30)).expect("written");
    for command in [&["list"][..], &["list", "--json"], &["show"]] {
        let (ended, said) = code(&binary, &[&["dlq"], command].concat());
        assert_eq!(ended, Some(0), "{said}");
        assert!(said.contains("records-foreign-0.dlq"), "{said}");
    }
}
