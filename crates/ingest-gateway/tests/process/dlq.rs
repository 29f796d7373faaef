//! `dlq list|show|replay` on what a killed gateway has left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Child, Output, Stdio},
};

use dev_broker::{Api, Fault, RuleHandle, error_code};
use ingest_gateway::{
    batch::Progress,
    dlq::{
        entry::DATA_KIND,
        load::visit,
        names::{Listing, data_path},
    },
};
use pipeline_core::dlq::FrameWriter;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::http::{Client, Request};

use crate::{
    place::{Place, Serving, wait_for},
    topic::Stored,
};

fn kafka_away(place: &Place) -> RuleHandle {
    let produce = place.broker().faults().on(Api::Produce).always();
    produce.then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS))
}

/// Two records; gives the batch id. Kafka must be away.
fn keep(client: &mut Client, name: &str, site: &str) -> String {
    let records = ["a", "b"].map(|part| record(&format!("{name}-{part}"), site));
    let body = records.join("\n");
    let request = Request {
        method: "POST",
        target: "/logs",
        headers: &[("Content-Type", "application/x-ndjson")],
        body: body.as_bytes(),
    };
    let response = client.send(&request).unwrap();
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(answer["kept"], "dlq", "{answer}");
    answer["batchId"].as_str().unwrap().to_owned()
}

fn record(path: &str, site: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/{path}","userAgent":"test","site":"{site}"}}"#
    )
}

/// A gateway with these batches in its queue, killed; Kafka is still away. Gives the batch ids.
fn killed_with(place: &Place, batches: &[(&str, &str)]) -> Vec<String> {
    place.configure("");
    kafka_away(place);
    let mut serving = place.serve();
    let ids = kept(&serving, batches);
    serving.process.kill().unwrap();
    ids
}

fn kept(serving: &Serving, batches: &[(&str, &str)]) -> Vec<String> {
    let mut client = serving.client();
    let keep = |(name, site): &(&str, &str)| keep(&mut client, name, site);
    batches.iter().map(keep).collect()
}

fn ran(output: Output, code: i32) -> (String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    (out, err)
}

/// The rows of `list --json` and its totals.
fn list(place: &Place, arguments: &[&str]) -> (Vec<Value>, Value) {
    let all = [&["dlq", "list", "--json"], arguments].concat();
    let (out, _) = ran(place.output(&all), 0);
    let mut rows: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let totals = rows.pop().unwrap();
    (rows, totals["totals"].clone())
}

fn batch_ids(rows: &[Value]) -> Vec<&str> {
    rows.iter()
        .map(|row| row["batchId"].as_str().unwrap())
        .collect()
}

/// Names and bytes of the files, without what a look may leave: nothing.
fn snapshot(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

fn values(stored: &[Stored]) -> Vec<&str> {
    let mut values: Vec<_> = stored.iter().map(|s| s.value.as_str()).collect();
    values.sort_unstable();
    values
}

#[test]
fn what_a_killed_gateway_left_is_listed_shown_and_replayed_once() {
    let place = Place::new();
    let ids = killed_with(
        &place,
        &[
            ("x", "shop.example"),
            ("y", "blog.example"),
            ("z", "shop.example"),
        ],
    );
    let before = snapshot(&place.dlq_dir());

    let (rows, totals) = list(&place, &[]);
    assert_eq!(batch_ids(&rows), ids);
    assert_eq!(
        (&totals["entries"], &totals["records"]),
        (&3.into(), &6.into())
    );
    assert_eq!(totals["damage"], serde_json::json!([]));
    assert!(
        rows.iter()
            .all(|row| row["topic"] == "logs" && row["records"] == 2)
    );
    let (table, _) = ran(place.output(&["dlq", "list"]), 0);
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(ids.iter().all(|id| table.contains(id)), "{table}");
    assert!(table.trim_end().ends_with("ago"), "{table}");

    // Each filter alone.
    let (shop, _) = list(&place, &["--site", "SHOP.example"]);
    assert_eq!(batch_ids(&shop), [ids[0].as_str(), &ids[2]]);
    let received = rows[1]["received"].as_str().unwrap();
    let (from, _) = list(&place, &["--from", received]);
    let (to, _) = list(&place, &["--to", received]);
    assert_eq!((from.len(), to.len()), (2, 1));
    let reason = rows[0]["reason"].as_str().unwrap();
    let (same, _) = list(&place, &["--reason", reason]);
    let others = rows.iter().filter(|row| row["reason"] != reason).count();
    assert_eq!(same.len(), 3 - others);
    assert_eq!(list(&place, &["--reason", "poison"]).0.len(), 0);

    // Pure records, and the filters of list.
    let (shown, said) = ran(place.output(&["dlq", "show", "--batch", &ids[1]]), 0);
    let expected = ["y-a", "y-b"].map(|path| record(path, "blog.example"));
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    assert!(said.contains("2 records of 1 entries"), "{said}");

    place.broker().faults().clear();
    let (dry, _) = ran(place.output(&["dlq", "replay", "--dry-run"]), 0);
    assert!(dry.contains("would send"), "{dry}");
    assert_eq!(
        snapshot(&place.dlq_dir()),
        before,
        "nothing was changed by looking"
    );
    assert_eq!(place.stored(), []);

    // A part of it, then the rest, then nothing.
    let arguments = ["dlq", "replay", "--site", "blog.example"];
    let (_, said) = ran(place.output(&arguments), 0);
    assert!(said.contains("replayed 1 entries with 2 records"), "{said}");
    assert_eq!(values(&place.stored()), expected);
    assert_eq!(batch_ids(&list(&place, &[]).0), [ids[0].as_str(), &ids[2]]);
    ran(place.output(&["dlq", "replay"]), 0);
    let stored = place.stored();
    assert_eq!(stored.len(), 6);
    let distinct: BTreeSet<_> = stored
        .iter()
        .map(|s| (s.envelope.batch, s.envelope.sequence))
        .collect();
    assert_eq!(distinct.len(), 6, "each record once");
    let (_, said) = ran(place.output(&["dlq", "replay"]), 0);
    assert!(said.contains("nothing to send"), "{said}");
    assert_eq!(place.stored(), stored);
    assert_eq!(list(&place, &[]).1["entries"], 0);
}

/// Starts a replay and waits until the broker has seen what it sends.
fn replay_until_sent(place: &Place, arguments: &[&str]) -> Child {
    let before = place.broker().requests_seen(Api::Produce);
    let mut command = place.command(&[&["dlq", "replay"], arguments].concat());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("a send", || {
        place.broker().requests_seen(Api::Produce) > before
    });
    child
}

#[test]
fn the_mark_is_there_before_the_attempt_and_a_killed_replay_goes_on_with_the_same_identity() {
    let place = Place::new();
    killed_with(&place, &[("x", "shop.example"), ("y", "shop.example")]);
    place.broker().faults().clear();
    // It happens, and nobody is told.
    let produce = place.broker().faults().on(Api::Produce).always();
    produce.then(Fault::DropAnswer);
    let mut child = replay_until_sent(&place, &[]);
    wait_for("a copy", || !place.stored().is_empty());
    child.kill().unwrap();
    child.wait().unwrap();

    let mut marked = Vec::new();
    for file in Listing::read(&place.dlq_dir()).unwrap().files {
        visit(&place.dlq_dir(), &file, &mut |entry| {
            marked.push(entry.marks.progress_of(entry.head, entry.position));
        })
        .unwrap();
    }
    let sent = place.stored();
    assert_eq!(marked.len(), 2);
    assert!(!sent.is_empty());
    for copy in &sent {
        let of = |mark: &&Progress| mark.partition == Some(copy.partition);
        let mark = marked
            .iter()
            .filter(of)
            .find(|mark| mark.may_have_been_sent);
        let mark = mark.expect("what was sent was marked before");
        assert_eq!(mark.since, Some(copy.envelope.since));
    }

    place.broker().faults().clear();
    for _ in 0..2 {
        ran(place.output(&["dlq", "replay"]), 0);
    }
    let stored = place.stored();
    let envelopes: BTreeSet<_> = stored
        .iter()
        .map(|s| (s.envelope.encode(), s.value.clone(), s.partition))
        .collect();
    assert_eq!(envelopes.len(), 4, "every copy is the same message");
    assert_eq!(list(&place, &[]).1["entries"], 0);
}

#[test]
fn a_running_gateway_keeps_its_directory_and_says_who_it_is() {
    let place = Place::new();
    place.configure("ingestion:\n  producerDLQMaxBytes: 1MiB\n");
    kafka_away(&place);
    let serving = place.serve();
    let gauge = |name| serving.metrics().sum(name).unwrap();
    let year = 31_536_000.0;
    assert_eq!(gauge("producer_dlq_seconds_left"), year);
    assert_eq!(gauge("producer_dlq_oldest_age_seconds"), 0.0);
    let ids = kept(&serving, &[("x", "shop.example")]);
    assert!(gauge("producer_dlq_seconds_left") < year);
    wait_for("it to grow older", || {
        gauge("producer_dlq_oldest_age_seconds") > 0.5
    });
    let before = snapshot(&place.dlq_dir());
    assert_eq!(batch_ids(&list(&place, &[]).0), ids);
    for arguments in [&["dlq", "replay"][..], &["dlq", "replay", "--dry-run"]] {
        let (_, said) = ran(place.output(arguments), 75);
        let holder = format!("process {}", serving.process.id());
        assert!(
            said.contains(&holder) && said.contains("by itself"),
            "{said}"
        );
    }
    let same = |name: &String| snapshot(&place.dlq_dir()).get(name) == before.get(name);
    assert!(
        before
            .keys()
            .filter(|name| name.ends_with(".pdlq"))
            .all(same)
    );
    place.broker().faults().clear();
    wait_for("the gateway's own replay", || place.stored().len() == 2);
    // Files come and go beneath a look.
    for _ in 0..20 {
        list(&place, &[]);
    }
    serving.terminate();
}

#[test]
fn what_cannot_go_is_left_and_said() {
    let place = Place::new();
    let ids = killed_with(&place, &[("x", "shop.example"), ("y", "shop.example")]);
    // Kafka takes nothing for a while.
    let (_, said) = ran(place.output(&["dlq", "replay", "--wait", "5"]), 1);
    assert!(said.contains("left are 2 entries with 4 records"), "{said}");
    assert!(said.contains("kafka does not take them now"), "{said}");
    assert_eq!(batch_ids(&list(&place, &[]).0), ids);
    // Another topic, from a directory named by hand.
    place.broker().faults().clear();
    place
        .broker()
        .create_topic(&dev_broker::TopicSpec::new("others", 1))
        .unwrap();
    let moved = place.dlq_dir().with_file_name("moved");
    fs::rename(place.dlq_dir(), &moved).unwrap();
    let moved = moved.to_str().unwrap();
    let config = fs::read_to_string(place.config()).unwrap();
    fs::write(place.config(), format!("{config}  topic: others\n")).unwrap();
    let replay = ["dlq", "replay", "--dir", moved];
    let (_, said) = ran(place.output(&replay), 1);
    assert!(said.contains("for another cluster or topic"), "{said}");
    fs::write(place.config(), config).unwrap();
    ran(place.output(&replay), 0);
    assert_eq!(place.stored().len(), 4);
}

#[test]
fn what_only_another_version_can_read_is_not_nothing() {
    let place = Place::new();
    place.configure("");
    let dir = place.dlq_dir();
    fs::create_dir_all(&dir).unwrap();
    ran(place.output(&["dlq", "replay"]), 0);
    let mut writer = FrameWriter::create(&data_path(&dir, 1), DATA_KIND).unwrap();
    writer.append(b"\xff an entry of tomorrow").unwrap();
    for dry_run in [&[][..], &["--dry-run"]] {
        let replay = [&["dlq", "replay"], dry_run].concat();
        let (_, said) = ran(place.output(&replay), 1);
        assert!(said.contains("version 255"), "{said}");
    }
}

#[test]
fn a_replay_told_to_stop_ends_soon_and_goes_on_later() {
    let place = Place::new();
    let batches = ["a", "b", "c", "d", "e"].map(|name| (name, "shop.example"));
    killed_with(&place, &batches);
    place.broker().faults().clear();
    // Two records a second: an entry, then a pause.
    let child = replay_until_sent(&place, &["--rate", "2"]);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let (_, said) = ran(child.wait_with_output().unwrap(), 1);
    assert!(said.contains("run it again to go on"), "{said}");
    let left = list(&place, &[]).1["entries"].as_u64().unwrap();
    assert!((1..5).contains(&left), "{left} are left");
    ran(place.output(&["dlq", "replay"]), 0);
    let stored = place.stored();
    let distinct: BTreeSet<_> = stored.iter().map(|s| s.value.as_str()).collect();
    assert_eq!((stored.len(), distinct.len()), (10, 10));
}

#[test]
fn a_range_that_is_turned_around_is_a_wrong_command_line_and_a_missing_directory_has_no_table() {
    let place = Place::new();
    place.configure("");
    let range = [
        "--from",
        "2026-01-02T00:00:00Z",
        "--to",
        "2026-01-01T00:00:00Z",
    ];
    for command in [
        ["dlq", "list"],
        ["dlq", "show"],
        ["dlq", "replay"],
        ["rejects", "list"],
        ["rejects", "show"],
    ] {
        let (_, said) = ran(place.output(&[&command[..], &range].concat()), 2);
        assert_eq!(said, "error: --from is later than --to\n", "{command:?}");
    }
    let (table, said) = ran(place.output(&["dlq", "list"]), 1);
    assert_eq!(table, "", "{said}");
    assert!(said.contains("dlq/producer"), "{said}");
}
