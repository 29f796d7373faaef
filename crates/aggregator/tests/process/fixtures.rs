//! What released versions wrote is gone on from: manifest, states, day files, summaries and archive
//! under tests/fixtures. And what a version of tomorrow wrote is refused by name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use testbed::fixtures;

use crate::Place;

const BOT: &str = "Mozilla/5.0 (compatible; GPTBot/1.2; +https://openai.com/gptbot)";

fn record(hour: u32, site: &str, agent: &str) -> String {
    json!({
        "timestamp": format!("2015-05-17T{hour:02}:05:03Z"),
        "path": format!("/{hour}"),
        "userAgent": agent,
        "site": site,
        "status": 200 + hour,
        "bytes": u64::from(hour) * 1000,
        "durationMs": 12.5,
        "method": "GET",
        "referer": "https://other.example/x",
        "mine": {"kept": [hour]},
    })
    .to_string()
}

/// A place with a configuration that archives at once.
fn place() -> Place {
    let place = Place::new();
    let config = place.dir.path().join("config.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, format!("{text}  archiveAfter: 0s\n")).unwrap();
    place
}

/// Two hours are counted and archived, the third is counted alone.
fn make(dir: &Path) {
    let made = place();
    made.store_lines(&[
        record(9, "a.example", "-"),
        record(9, "b.example", BOT),
        record(10, "a.example", BOT),
    ]);
    assert_eq!(made.output(&["--once"]).status.code(), Some(0));
    let late = record(10, "a.example", "-").replace("2015-05-17T10", "2015-05-20T10");
    // A day and more ahead of its receipt, so counted aside.
    made.store_lines(&[late]);
    assert_eq!(made.output(&["--once"]).status.code(), Some(0));
    for path in fixtures::files(&made.data()).unwrap() {
        let to = dir.join(path.strip_prefix(made.data()).unwrap());
        // Pages are made anew whenever their template is another.
        let is_page = path.extension().is_some_and(|it| it == "html");
        let is_lock = path.ends_with("LOCK");
        if !is_page && !is_lock {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&path, to).unwrap();
        }
    }
}

fn committed() -> Place {
    let place = place();
    fixtures::copy_to(&place.data(), "analytics", make);
    place
}

fn summary(place: &Place, name: &str) -> Value {
    let path = place.data().join("analytics/2015-05-17").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn check(place: &Place, at_ten: u64) {
    let nine = summary(place, "summary_09.json");
    assert_eq!(nine["requests"], 2);
    assert_eq!(nine["sites"]["b.example"]["requestsPerClient"]["bot"], 1);
    assert_eq!(summary(place, "summary_10.json")["requests"], at_ten);
    let day = summary(place, "summary.json");
    assert_eq!(day["requests"], 2 + at_ten);
    assert_eq!(day["requestsPerClient"]["bot"], 2, "{day}");
}

/// The records of the archive and of what is not archived yet.
fn exported(place: &Place) -> Vec<Value> {
    let output = place.output(&["export"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    records.sort_by_key(|record| format!("{}{}", record["timestamp"], record["site"]));
    records
}

#[test]
fn analytics_and_archive_of_each_version_are_read_and_gone_on_from() {
    let place = committed();
    let summaries = summary(&place, "summary.json");
    check(&place, 1);
    let records = exported(&place);
    assert_eq!(records.len(), 3, "{records:?}");
    let sent: Value = serde_json::from_str(&record(9, "b.example", BOT)).unwrap();
    assert_eq!(records[1], sent);

    // Cursor, counts and archive go on: what is new is counted to what was.
    assert_eq!(place.output(&["--once"]).status.code(), Some(0));
    assert_eq!(summary(&place, "summary.json"), summaries);
    place.store_lines(&[record(10, "a.example", "-")]);
    let once = place.output(&["--once"]);
    assert_eq!(once.status.code(), Some(0), "{once:?}");
    check(&place, 2);
    assert_eq!(exported(&place).len(), 4);

    // And all of it can be made anew of the archive.
    fs::remove_dir_all(place.data().join("analytics")).unwrap();
    let rebuilt = place.output(&["rebuild"]);
    assert_eq!(rebuilt.status.code(), Some(0), "{rebuilt:?}");
    check(&place, 2);
}

/// Changes the one file below `dir` that has `part` in its path.
fn change(dir: &Path, part: &str, from: &[u8], to: &[u8]) {
    let files = fixtures::files(dir).unwrap();
    let mut files = files
        .iter()
        .filter(|it| it.to_str().unwrap().contains(part));
    let path = files.next().unwrap_or_else(|| panic!("no {part}"));
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).position(|it| it == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
}

#[test]
fn states_and_archive_of_tomorrow_are_refused_by_the_version_that_they_name() {
    let place = committed();
    place.store_lines(&[record(10, "a.example", "-")]);
    for path in fixtures::files(&place.data().join("analytics/_state/counts")).unwrap() {
        let name = path.to_str().unwrap();
        change(path.parent().unwrap(), name, b"SLST\x02", b"SLST\x03");
    }
    let once = place.output(&["--once"]);
    assert_eq!(once.status.code(), Some(1));
    let log = String::from_utf8(once.stderr).unwrap();
    assert!(log.contains("has version 3, known is 2"), "{log}");

    let place = committed();
    place.store_lines(&[record(10, "a.example", "-")]);
    let state = place.data().join("analytics/_state");
    change(
        &state,
        "m00000000000000000007",
        b"\"format\":2",
        b"\"format\":3",
    );
    let before = contents(&place.data().join("analytics"));
    let once = place.output(&["--once"]);
    assert_eq!(once.status.code(), Some(1));
    let log = String::from_utf8(once.stderr).unwrap();
    assert!(log.contains("has format 3, known is 2"), "{log}");
    assert_eq!(contents(&place.data().join("analytics")), before);

    let place = committed();
    fs::remove_dir_all(place.data().join("analytics")).unwrap();
    let archive = place.data().join("archive");
    change(&archive, "hour=09", b"\"format\":1", b"\"format\":2");
    let rebuilt = place.output(&["rebuild"]);
    assert_eq!(rebuilt.status.code(), Some(1));
    let log = String::from_utf8(rebuilt.stderr).unwrap();
    assert!(log.contains("format 2"), "{log}");
}

/// All that is in a directory, but for the lock.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = fixtures::files(dir).unwrap();
    files.retain(|path| !path.ends_with("LOCK"));
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    files.into_iter().map(read).collect()
}

/// They are no state, so nobody has to stop for them.
#[test]
fn what_reports_of_tomorrow_show_of_a_day_is_made_anew() {
    let place = committed();
    assert_eq!(place.output(&["--once"]).status.code(), Some(0));
    let days = place.data().join("analytics/_state/reports");
    let day = days.join("2015-05-17");
    let page = place.data().join("analytics/reports/a.example.html");
    let (today, shown) = (fs::read(&day).unwrap(), fs::read(&page).unwrap());
    change(&days, "2015-05-17", b"\"format\":2", b"\"format\":3");
    fs::remove_file(&page).unwrap();
    assert_eq!(place.output(&["--once"]).status.code(), Some(0));
    assert_eq!(fs::read(&day).unwrap(), today);
    assert_eq!(fs::read(&page).unwrap(), shown);
}
