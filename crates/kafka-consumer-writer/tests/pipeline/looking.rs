//! `segments ls|cat` show what is there, beside a writer and beside removal.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use kafka_consumer_writer::command::{Where, segments::Which};
use pipeline_core::{Offset, command::Received};
use serde_json::Value;

use crate::rig::{RECEIVED_MS, Rig, TOPIC, batch_id, line};

/// `send` of the rig says so, too.
const RECEIVED: &str = "2020-09-13T12:26:40";

fn text(run: impl FnOnce(&mut Vec<u8>) -> std::io::Result<u8>) -> (u8, String) {
    let mut out = Vec::new();
    let code = run(&mut out).expect("written");
    (code, String::from_utf8(out).expect("UTF-8"))
}

fn json_lines(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(parse).collect()
}

fn partition(partition: i32) -> Which {
    Which {
        place: Where {
            topic: Some(TOPIC.to_owned()),
            partition: Some(partition),
        },
        ..Which::default()
    }
}

async fn filled() -> Rig {
    let rig = Rig::new(2).await;
    for batch in 0..4 {
        rig.send(0, batch, &[0, 1, 1], 0).await;
        rig.send(1, 10 + batch, &[7], 0).await;
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
    }
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_listed_and_their_records_printed_by_place_and_time() {
    let rig = filled().await;
    let root = rig.dir.path().join("logs");
    let ls = |which: &Which| {
        let (code, text) = text(|out| which.ls(&root, true, out));
        assert_eq!(code, 0, "{text}");
        json_lines(&text)
    };
    let cat = |which: &Which, with_offsets| {
        let (code, text) = text(|out| which.cat(&root, with_offsets, out));
        assert_eq!(code, 0, "{text}");
        text
    };
    let all = ls(&Which::default());
    assert_eq!(all.len(), 8 + 1);
    assert_eq!(all[8]["totals"]["offsets"]["stored"], 12);
    assert_eq!(all[8]["totals"]["offsets"]["duplicate"], 4);
    let second = &ls(&partition(0))[1];
    assert_eq!((&second["first"], &second["next"]), (&3.into(), &6.into()));
    assert_eq!(second["offsets"]["duplicate"], 1);
    assert_eq!(second["receivedFrom"], format!("{RECEIVED}.000Z"));
    let (_, table) = text(|out| partition(1).ls(&root, false, out));
    assert!(table.contains("logs/p00001") && !table.contains("logs/p00000"));
    assert_eq!(table.lines().count(), 1 + 4 + 1, "{table}");

    assert_eq!(cat(&Which::default(), false).lines().count(), 12);
    let range = Which {
        from_offset: Some(4),
        to_offset: Some(7),
        ..partition(0)
    };
    // Offsets 2, 5, 8 are duplicates.
    let expected = format!("{}\n{}\n", line(1, 1), line(2, 0));
    assert_eq!(cat(&range, false), expected);
    assert_eq!(ls(&range).len(), 2 + 1);
    let one = Which {
        offset: Some(6),
        ..partition(0)
    };
    assert_eq!(cat(&one, false), format!("{}\n", line(2, 0)));
    assert_eq!(ls(&one).len(), 1 + 1);
    let framed = json_lines(&cat(&range, true));
    assert_eq!(framed[1]["offset"], 6);
    assert_eq!(framed[1]["batchId"], batch_id(2).to_string());
    assert_eq!(framed[1]["sequence"], 0);
    assert_eq!(framed[1]["received"], format!("{RECEIVED}.000Z"));
    assert_eq!(framed[1]["record"]["path"], "/2/0");

    let received_ms = RECEIVED_MS;
    for (from, to, records) in [
        (Some(received_ms), None, 12),
        (Some(received_ms + 1), None, 0),
        (None, Some(received_ms), 0),
        (None, Some(received_ms + 1), 12),
    ] {
        let which = Which {
            received: Received { from, to },
            ..Which::default()
        };
        assert_eq!(cat(&which, false).lines().count(), records);
        assert_eq!(ls(&which).len(), if records > 0 { 9 } else { 1 });
    }
    // Nothing in this range is no fault, nothing of that name is.
    let none = Which {
        from_offset: Some(1_000),
        ..partition(0)
    };
    assert_eq!(ls(&none).len(), 1);
    let other = Where {
        topic: Some("nope".to_owned()),
        partition: None,
    };
    let other = Which {
        place: other,
        ..Which::default()
    };
    for (which, named) in [
        (&partition(99), "no chain of topic logs partition 99"),
        (&other, "no chain of topic nope"),
    ] {
        let mut out = Vec::new();
        for ended in [
            which.ls(&root, false, &mut out),
            which.ls(&root, true, &mut out),
            which.cat(&root, false, &mut out),
        ] {
            assert_eq!(ended.expect_err("said").to_string(), named);
        }
        assert!(out.is_empty(), "no empty table");
    }
    let nowhere = rig.dir.path().join("nowhere");
    assert!(
        Which::default()
            .ls(&nowhere, true, &mut Vec::new())
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_segment_with_several_times_of_receipt_only_the_records_asked_for_are_printed() {
    let rig = Rig::new(1).await;
    let timed = (0..4).map(|at| (at, RECEIVED_MS + i64::from(at)));
    rig.send_timed(0, 1, timed, 0).await;
    let writer = rig.writer("", "");
    rig.caught_up().await;
    writer.stop().await;
    let root = rig.dir.path().join("logs");
    for (from, to, sequences) in [
        (None, None, 0..4),
        (Some(1), None, 1..4),
        (None, Some(3), 0..3),
        (Some(1), Some(3), 1..3),
        (Some(2), Some(2), 0..0),
        (Some(4), None, 0..0),
    ] {
        let time = |at: Option<i64>| at.map(|at| RECEIVED_MS + at);
        let which = Which {
            received: Received {
                from: time(from),
                to: time(to),
            },
            ..Which::default()
        };
        let (code, shown) = text(|out| which.cat(&root, false, out));
        let lines = sequences.map(|sequence| format!("{}\n", line(1, sequence)));
        assert_eq!((code, shown), (0, lines.collect()), "{from:?} to {to:?}");
    }
    let (_, listed) = text(|out| Which::default().ls(&root, true, out));
    assert_eq!(json_lines(&listed).len(), 1 + 1, "one segment holds them");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_hides_nothing_but_itself() {
    let rig = filled().await;
    let root = rig.dir.path().join("logs");
    let path = rig.chain(0).segment_path(Offset(3));
    let mut bytes = fs::read(&path).expect("read");
    bytes[12] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let (code, shown) = text(|out| Which::default().cat(&root, false, out));
    assert_eq!(code, 1);
    assert_eq!(shown.lines().count(), 10, "all but its two");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let (code, shown) = text(|out| Which::default().ls(&root, true, out));
    assert_eq!(code, 1);
    assert_eq!(shown.lines().count(), 7 + 1);
    // What is missing between two of them is no less a fault.
    fs::remove_file(&path).expect("removed");
    for (from, code) in [(0, 1), (4, 1), (6, 0)] {
        let which = Which {
            from_offset: Some(from),
            ..partition(0)
        };
        assert_eq!(text(|out| which.cat(&root, false, out)).0, code, "{from}");
        assert_eq!(text(|out| which.ls(&root, true, out)).0, code, "{from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_behind_the_reader_is_no_fault() {
    let rig = filled().await;
    let root = rig.dir.path().join("logs");
    let chain = rig.chain(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = usize::MAX;
            while !done.load(Ordering::Acquire) || last > 2 {
                let (code, shown) = text(|out| partition(0).cat(&root, false, out));
                assert_eq!(code, 0, "{shown}");
                let lines = shown.lines().count();
                assert!(lines <= last, "{last} then {lines}");
                last = lines;
            }
            assert_eq!(last, 2, "the chain's end stays");
        });
        for first in [3, 6, 9] {
            chain.put_watermark(Offset(first)).expect("put");
            fs::remove_file(chain.segment_path(Offset(first - 3))).expect("removed");
        }
        done.store(true, Ordering::Release);
    });
}
