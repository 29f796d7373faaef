//! The oracle sees every kind of lie.

use std::{fs, io::Write, path::PathBuf};

use super::*;
use crate::{body::Mix, ledger::Entry};

/// Two accepted requests, one of unknown outcome and one refused, and a store and summaries
/// of exactly these records.
struct World {
    _dir: tempfile::TempDir,
    root: PathBuf,
    ledger: Ledger,
}

impl World {
    fn new(stored: &[(u32, u32)], counted: &[(u32, u32)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().to_owned();
        let mix = Mix {
            records: (3, 3),
            broken_every: 0,
            ..Mix::default()
        };
        let entry = |fate, broken| Entry {
            count: 3,
            broken,
            fate,
        };
        let entries = vec![
            entry(Fate::Accepted, None),
            entry(Fate::Accepted, Some(1)),
            entry(Fate::Unknown, None),
            entry(Fate::Refused, None),
        ];
        let ledger = Ledger {
            mix,
            entries,
            ..Ledger::default()
        };
        let world = Self {
            _dir: dir,
            root,
            ledger,
        };
        world.write_store(stored);
        world.write_summaries(counted);
        world
    }

    fn write_store(&self, records: &[(u32, u32)]) {
        let partition = self.root.join("logs/_live/t/p00000");
        fs::create_dir_all(&partition).expect("a directory");
        let file = fs::File::create(partition.join("00000000000000000000.ndjson.zst"));
        let mut out = zstd::Encoder::new(file.expect("a file"), 1).expect("an encoder");
        for (request, index) in records {
            let e = self
                .ledger
                .mix
                .record(&self.ledger.mix.shape(*request), *index);
            let mut json = serde_json::json!({
                "timestamp": e.time.to_string(), "path": e.path, "userAgent": e.agent,
            });
            if let (Some(site), Some(status), Some(bytes)) = (e.site, e.status, e.bytes) {
                json["site"] = site.into();
                json["status"] = status.into();
                json["bytes"] = bytes.into();
            }
            writeln!(out, "{json}").expect("written");
        }
        out.finish().expect("written");
    }

    fn write_summaries(&self, records: &[(u32, u32)]) {
        let mut hours = std::collections::BTreeMap::<_, serde_json::Value>::new();
        for (request, index) in records {
            let hour = hours.entry(self.ledger.mix.hour(*request, *index)).or_insert_with(
                || serde_json::json!({"requests": 0, "requestsPerPath": {}, "requestsPerUserAgent": {"a": 0}}),
            );
            let path = format!("/t/{request}/{index}");
            bump(&mut hour["requests"]);
            bump(&mut hour["requestsPerUserAgent"]["a"]);
            bump(&mut hour["requestsPerPath"][path]);
        }
        for (hour, summary) in hours {
            let (day, hour) = hour_name(hour);
            let dir = self.root.join("analytics").join(day);
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(
                dir.join(format!("summary_{hour:02}.json")),
                summary.to_string(),
            )
            .expect("written");
        }
    }

    fn put_aside(&self, records: &[(u32, u32)]) {
        let dir = self.root.join("dlq/consumer");
        fs::create_dir_all(&dir).expect("a directory");
        let value = |(request, index)| format!(r#"{{"path":"/t/{request}/{index}"}}"#);
        let values: Vec<_> = records.iter().copied().map(value).collect();
        let file = crate::aside::tests::file_of(&values);
        fs::write(dir.join("records-1-000000.dlq"), file).expect("written");
    }

    fn verdict(&self) -> Verdict {
        self.verdict_with(false)
    }

    fn verdict_with(&self, may_be_aside: bool) -> Verdict {
        let mut store = Store::new(&self.root.join("logs"), "t", &self.ledger.mix);
        store.refresh().expect("zstdcat reads it");
        let aside = Aside::read(&self.root).expect("readable");
        let analytics = self.root.join("analytics");
        judge(&self.ledger, &store, &aside, may_be_aside, Some(&analytics)).expect("readable")
    }
}

fn bump(count: &mut serde_json::Value) {
    *count = (count.as_u64().unwrap_or(0) + 1).into();
}

const RIGHT: [(u32, u32); 5] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)];

fn have_zstdcat() -> bool {
    let found = std::process::Command::new("zstdcat")
        .arg("--version")
        .output()
        .is_ok();
    if !found {
        crate::skip::skipped("the oracle's own tests", "zstdcat is not installed");
    }
    found
}

#[test]
fn what_was_promised_and_no_more_holds() {
    if !have_zstdcat() {
        return;
    }
    let verdict = World::new(&RIGHT, &RIGHT).verdict();
    assert!(verdict.holds(), "{verdict}");
    let with_unknown: Vec<_> = RIGHT.into_iter().chain([(2, 1)]).collect();
    let verdict = World::new(&with_unknown, &with_unknown).verdict();
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.unknown_there, 1);
}

#[test]
fn undecidable_records_are_kept_only_where_the_window_is_short() {
    if !have_zstdcat() {
        return;
    }
    let world = World::new(&RIGHT[1..], &RIGHT[1..]);
    world.put_aside(&[(0, 0), (0, 1)]);
    let verdict = world.verdict_with(true);
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.undecidable, 1, "the other is stored: {verdict}");
    assert!(!world.verdict_with(false).holds());
    // Set aside, but not those that are missing; and one that was refused.
    for wrong in [(0, 1), (3, 0)] {
        let world = World::new(&RIGHT[1..], &RIGHT[1..]);
        world.put_aside(&[wrong]);
        assert!(!world.verdict_with(true).holds(), "{wrong:?}");
    }
    let world = World::new(&RIGHT, &RIGHT);
    world.put_aside(&[(3, 0)]);
    assert!(!world.verdict_with(true).holds(), "refused, and yet kept");
}

#[test]
fn what_is_missing_is_named() {
    if !have_zstdcat() {
        return;
    }
    let world = World::new(&RIGHT[1..], &RIGHT[1..]);
    let missing = |world: &World| {
        let mut store = Store::new(&world.root.join("logs"), "t", &world.ledger.mix);
        store.refresh().expect("zstdcat reads it");
        let aside = Aside::read(&world.root).expect("readable");
        store.missing(&world.ledger, &aside).collect::<Vec<_>>()
    };
    assert_eq!(missing(&world), [(0, 0)]);
    world.put_aside(&[(0, 0)]);
    assert_eq!(missing(&world), []);
}

#[test]
fn every_kind_of_lie_is_seen() {
    if !have_zstdcat() {
        return;
    }
    let lacking = &RIGHT[1..];
    let plus = |more: (u32, u32)| RIGHT.into_iter().chain([more]).collect::<Vec<_>>();
    let cases = [
        (
            "a promised record is missing",
            lacking.to_vec(),
            lacking.to_vec(),
        ),
        (
            "a promised record is there twice",
            plus((0, 0)),
            plus((0, 0)),
        ),
        ("a broken record is there", plus((1, 1)), plus((1, 1))),
        ("a refused record is there", plus((3, 0)), plus((3, 0))),
        ("a record that nobody sent", plus((9, 0)), RIGHT.to_vec()),
        ("stored, not counted", RIGHT.to_vec(), lacking.to_vec()),
        ("counted twice", RIGHT.to_vec(), plus((0, 2))),
        ("counted, not stored", RIGHT.to_vec(), plus((2, 0))),
        ("counted, but nobody sent it", RIGHT.to_vec(), plus((9, 0))),
    ];
    for (what, stored, counted) in cases {
        let verdict = World::new(&stored, &counted).verdict();
        assert!(!verdict.holds(), "{what}: {verdict}");
    }
}
