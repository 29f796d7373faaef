use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::archive::{Archiving, Clock, Place, Policy, files, to_ms};

pub(super) const MINUTE: i64 = 60_000;

/// A world with a clock of its own, which begins now.
pub(super) struct Archived {
    pub world: World,
    pub now_ms: Arc<AtomicI64>,
    pub policy: Policy,
    /// All lines by where they stand.
    pub lines: BTreeMap<(i32, i64), String>,
}

/// A row as it is read.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Read {
    place: Place,
    site: Option<String>,
    timestamp_us: i64,
    line: Value,
}

impl Archived {
    pub(super) fn new(seed: u64) -> Self {
        let now = to_ms(std::time::SystemTime::now());
        Self {
            world: World::new(seed),
            now_ms: Arc::new(AtomicI64::new(now)),
            policy: Policy {
                after: Duration::from_secs(900),
                max_wait: Duration::from_secs(6 * 3600),
                file_bytes: 4_000,
                plan_bytes: 6_000,
                // Most plans do not fit.
                memory_bytes: 2_000,
                plans_max: usize::MAX,
                live_retention: Duration::from_secs(3600),
                archive_retention: None,
                analytics_retention: None,
            },
            lines: BTreeMap::new(),
        }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.world.dir.path().join("archive")
    }

    pub(super) fn aggregator(&self) -> Aggregator {
        let now_ms = self.now_ms.clone();
        self.world.aggregator_with(small()).with_archive(Archiving {
            dir: self.dir(),
            policy: self.policy.clone(),
            clock: Clock::new(move || now_ms.load(Ordering::SeqCst)),
        })
    }

    pub(super) fn run(&self) -> Report {
        self.aggregator().run(&mut |_| true).unwrap()
    }

    pub(super) fn pass(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Records of several hours, one of which is ahead and one long ago.
    pub(super) fn publish(&mut self, partition: i32, records: usize) {
        let chain = self.world.chain(partition);
        let end = chain.walk(None, &mut |_| true).unwrap();
        let first = end.map_or(self.world.start_at, |end| end.next.0);
        let mut lines = Vec::new();
        for _ in 0..records {
            let record = self.world.random_record();
            let mut line = self.world.line(&record);
            match self.world.rng.u8(..12) {
                0 => {
                    line = line.replace("2015-", "2099-");
                    assert!(line.contains("2099-"), "{line}");
                    self.world.aside += 1;
                }
                1 => line = line.replace("2015-", "1970-"),
                _ => {}
            }
            self.lines
                .insert((partition, first + lines.len() as i64), line.clone());
            lines.push(line);
        }
        self.world.publish_lines(partition, &lines);
    }

    pub(super) fn publish_all(&mut self) {
        for partition in 0..3 {
            for _ in 0..2 {
                self.publish(partition, 12);
            }
        }
    }

    /// All rows of the archive by where their records stand; each once.
    pub(super) fn rows(&self) -> BTreeMap<(i32, i64), Read> {
        let mut rows = BTreeMap::new();
        for found in files::list(&self.dir(), |_| true).unwrap() {
            let archived = found.open().unwrap();
            let mut last = None;
            for columns in archived.groups(&found.path) {
                let columns = columns.unwrap();
                for row in columns.rows() {
                    assert_eq!(row.topic(), "logs");
                    assert_eq!(row.received_ms(), BASE_MS);
                    let mut line = Vec::new();
                    row.append_json(&mut line);
                    let read = Read {
                        place: found.place,
                        site: row.site().map(str::to_owned),
                        timestamp_us: row.timestamp_us(),
                        line: serde_json::from_slice(&line).unwrap(),
                    };
                    let place = Some((read.site.clone(), read.timestamp_us));
                    assert!(last <= place, "sorted by site and time");
                    last = place;
                    let key = (row.partition(), row.offset());
                    assert!(rows.insert(key, read).is_none(), "{key:?} stands twice");
                }
            }
        }
        rows
    }

    pub(super) fn assert_archived(&self) {
        let rows = self.rows();
        let expected: Vec<_> = self.lines.keys().collect();
        assert_eq!(rows.keys().collect::<Vec<_>>(), expected);
        for (key, row) in &rows {
            let mut line: Value = serde_json::from_str(&self.lines[key]).unwrap();
            // A time and a number may be written in several ways: 474.0 is 474.
            let time = line["timestamp"].as_str().unwrap().replace(".000Z", "Z");
            line["timestamp"] = json!(time);
            if let Some(ms) = line.get("durationMs").and_then(Value::as_f64)
                && ms.fract() == 0.0
            {
                line["durationMs"] = json!(ms as u64);
            }
            assert_eq!(row.line, line);
            let ms = pipeline_core::record::read(self.lines[key].as_bytes())
                .unwrap()
                .timestamp_ms;
            assert_eq!(row.place, Place::of(ms, BASE_MS));
        }
        let manifest = self.world.manifest();
        assert_eq!(manifest["archive"]["archived"], json!(self.lines.len()));
        assert_eq!(manifest["archive"]["plan"], json!([]));
        assert_eq!(manifest["archive"]["pending"], json!({}));
        assert_eq!(manifest["aside"], json!(self.world.aside));
    }

    /// The archive's files by their paths.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = files_below(&self.dir());
        let aside = self.dir().with_file_name("archive-aside");
        let aside = files_below(&aside).into_iter();
        files.extend(aside.map(|(name, bytes)| (format!("aside/{name}"), bytes)));
        files
    }
}

#[test]
fn each_record_is_archived_once_and_whole_and_no_file_is_written_twice() {
    let mut archived = Archived::new(1);
    archived.publish_all();
    let report = archived.run();
    assert_eq!(report.records, 72);
    assert_eq!(
        (report.archived, archived.rows().len()),
        (0, 0),
        "not quiet yet"
    );
    archived.pass(15 * MINUTE);
    let report = archived.run();
    assert_eq!(report.archived + archived.world.aside, 72);
    assert!(archived.rows().len() < 72, "what is ahead waits");
    archived.pass(6 * 60 * MINUTE);
    assert_eq!(archived.run().archived, archived.world.aside);
    archived.assert_archived();
    let before = archived.files();
    assert!(
        before.keys().all(|name| name.ends_with(".parquet")),
        "{:?}",
        before.keys()
    );
    assert!(
        before
            .keys()
            .any(|name| name.starts_with("date=2015-05-17/hour=10/"))
    );
    assert!(
        before
            .keys()
            .any(|name| name.starts_with("aside/date=2099-05-1"))
    );
    let report = archived.run();
    assert_eq!((report.archived, report.commits), (0, 0));

    // Late ones: files beside those that stand.
    archived.publish(1, 30);
    assert_eq!(archived.run().archived, 30);
    archived.assert_archived();
    let after = archived.files();
    assert!(after.len() > before.len());
    for (name, bytes) in before {
        assert_eq!(after[&name], bytes);
    }
}

#[test]
fn killed_before_any_step_each_record_is_archived_once_and_no_reader_sees_one_twice() {
    let begin = || {
        let mut archived = Archived::new(2);
        archived.publish(0, 9);
        archived.publish(1, 9);
        archived.run();
        archived.pass(7 * 60 * MINUTE);
        archived.publish(0, 5);
        archived
    };
    let mut at = 0;
    let mut steps = BTreeSet::new();
    loop {
        let archived = begin();
        let mut kill = kill_at(at);
        let mut last = None;
        let killed = archived.aggregator().run(&mut |step| {
            if matches!(
                step,
                Step::PublishFile | Step::SyncArchive | Step::PutManifest
            ) {
                // Each row once, each file whole.
                archived.rows();
            }
            last = Some(step);
            kill(step)
        });
        steps.extend(last.map(|step| format!("{step:?}")));
        archived.rows();
        let over = killed.is_ok();
        archived.run();
        archived.pass(7 * 60 * MINUTE);
        archived.run();
        archived.assert_archived();
        if over {
            break;
        }
        at += 1;
    }
    for step in [
        "ReadForArchive",
        "PublishFile",
        "SyncArchive",
        "PutManifest",
        "LookForGreater",
    ] {
        assert!(steps.contains(step), "{step} is in {steps:?}");
    }
    assert!(at > 20, "{at} steps");
}

#[test]
fn another_aggregator_between_any_two_steps_archives_no_record_twice() {
    let mut at = 0;
    let mut superseded = 0;
    loop {
        let mut archived = Archived::new(3);
        archived.publish(0, 9);
        archived.publish(1, 9);
        archived.run();
        archived.pass(7 * 60 * MINUTE);
        let mut step = 0;
        let outcome = archived.aggregator().run(&mut |_| {
            if step == at {
                archived.run();
            }
            step += 1;
            true
        });
        match outcome {
            Ok(_) => {}
            Err(RunError::Superseded { .. }) => superseded += 1,
            Err(error) => panic!("interrupted at step {at}: {error}"),
        }
        archived.run();
        archived.assert_archived();
        if step <= at {
            break;
        }
        at += 1;
    }
    assert!(superseded > 5, "{superseded} of {at}");
}

#[test]
fn a_damaged_segment_keeps_back_the_files_with_its_records_alone() {
    let mut archived = Archived::new(4);
    archived.publish_all();
    archived.run();
    archived.pass(7 * 60 * MINUTE);
    let path = archived.world.segments(1).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    fs::write(&path, damaged).unwrap();
    let report = archived.run();
    assert_eq!(report.halted.len(), 1, "{:?}", report.halted);
    assert_eq!(report.halted[0].partition, PartitionId(1));
    assert!(report.halted[0].fault.contains(path.to_str().unwrap()));
    let rows = archived.rows();
    assert!(!rows.is_empty() && rows.keys().all(|(partition, _)| *partition != 1));
    archived.publish(2, 9);
    assert_eq!(archived.run().archived, 9, "the others go on");
    fs::write(&path, whole).unwrap();
    archived.run();
    archived.assert_archived();
}

#[test]
fn an_archive_without_a_manifest_is_damage_and_no_first_start() {
    let mut archived = Archived::new(5);
    archived.publish(0, 5);
    archived.run();
    archived.pass(7 * 60 * MINUTE);
    archived.run();
    fs::remove_dir_all(archived.world.analytics()).unwrap();
    let error = archived.aggregator().run(&mut |_| true).unwrap_err();
    assert!(matches!(error, RunError::NoManifest { .. }), "{error}");
    assert!(error.to_string().contains(".parquet"), "{error}");
    assert!(error.to_string().contains("aggregator rebuild"), "{error}");
    assert!(archived.world.manifests().is_empty());
}

#[test]
fn what_a_killed_process_left_half_written_is_removed_later() {
    let mut archived = Archived::new(6);
    archived.publish(0, 5);
    archived.run();
    archived.pass(7 * 60 * MINUTE);
    archived.run();
    let path = archived.dir().join(".tmp-1-2-3");
    fs::write(&path, b"half").unwrap();
    archived.run();
    assert!(path.exists(), "it may be of a process that lives");
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(old)
        .unwrap();
    archived.run();
    assert!(!path.exists());
    archived.assert_archived();
}
