//! Whole runs over real stores; here what they share: a store that remembers what was put into it.

mod adopted;
mod archive;
mod bounds;
mod damage;
mod duckdb;
mod expected;
mod faults;
mod killed;
mod mixed;
mod rebuild;
mod reports;
mod retention;
mod runs;
mod two;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pipeline_core::{
    BatchId, Offset, PartitionId,
    store::{Chain, Draft, Fate, FateRun, Published, SegmentHash, Start, Store, StoredRun},
};
use serde_json::{Map, Value, json};

use crate::{
    Aggregator, HeldBounds, Limits, Portion, Settings,
    run::{Report, RunError, Step},
};

/// 2015-05-17T10:00:00Z
const BASE_MS: i64 = 1_431_856_800_000;
const HOUR_MS: i64 = 3_600_000;

/// With what each must be counted as.
const AGENTS: [(&str, &str); 4] = [
    ("-", "empty"),
    ("\"quoted\" \u{e9}", "unknown"),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0",
        "human",
    ),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "bot",
    ),
];

/// One record as it was put into the store.
#[derive(Clone)]
struct Put {
    hour_ms: i64,
    site: Option<String>,
    path: String,
    agent: String,
    rest: Option<Rest>,
}

/// What a record may have.
#[derive(Clone)]
struct Rest {
    method: String,
    status: u16,
    bytes: u64,
    duration_ms: f64,
    referring_host: Option<String>,
}

/// A store in a directory of its own, and all that was put into it.
struct World {
    dir: tempfile::TempDir,
    rng: fastrand::Rng,
    put: Vec<Put>,
    aside: u64,
    /// Where chains begin.
    start_at: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        // In memory where there is such a place: hundreds of runs are slow with a disk's fsync,
        // and nothing here is about what a power cut leaves.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        Store::open(&dir.path().join("logs")).unwrap();
        Self {
            dir,
            rng: fastrand::Rng::with_seed(seed),
            put: Vec::new(),
            aside: 0,
            start_at: 5,
        }
    }

    /// With some segments in three partitions.
    fn with_records(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for partition in 0..3 {
            for _ in 0..3 {
                world.publish_random(partition, 12);
            }
        }
        world
    }

    fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    fn analytics(&self) -> PathBuf {
        self.dir.path().join("analytics")
    }

    fn chain(&self, partition: i32) -> Chain {
        let store = Store::open(&self.logs()).unwrap();
        store.chain("logs", PartitionId(partition))
    }

    fn aggregator(&self) -> Aggregator {
        self.aggregator_set(Settings::default())
    }

    /// That commits each portion by itself.
    fn aggregator_with(&self, portion: Portion) -> Aggregator {
        self.aggregator_set(Settings {
            portion,
            held: NOTHING_HELD,
            ..Settings::default()
        })
    }

    fn aggregator_set(&self, settings: Settings) -> Aggregator {
        Aggregator::open(&self.logs(), &self.analytics(), settings).unwrap()
    }

    /// A new process that runs to its end.
    fn run(&self) -> Result<Report, RunError> {
        self.aggregator().run(&mut |_| true)
    }

    fn random_record(&mut self) -> Put {
        let rng = &mut self.rng;
        Put {
            hour_ms: BASE_MS + [-34, -1, 0, 2][rng.usize(..4)] * HOUR_MS,
            site: [None, Some("a.example"), Some("b.example")][rng.usize(..3)].map(str::to_owned),
            path: format!("/p{}?q={}", rng.u8(..8), rng.u8(..3)),
            agent: AGENTS[rng.usize(..4)].0.to_owned(),
            rest: rng.bool().then(|| Rest {
                method: ["GET", "POST"][rng.usize(..2)].to_owned(),
                status: [200, 204, 301, 404, 500][rng.usize(..5)],
                bytes: rng.u64(..10_000),
                duration_ms: f64::from(rng.u32(..2_000)) / 4.0,
                referring_host: rng.bool().then(|| format!("r{}.example", rng.u8(..3))),
            }),
        }
    }

    fn publish_random(&mut self, partition: i32, records: usize) {
        let records = (0..records).map(|_| self.random_record()).collect();
        self.publish(partition, records);
    }

    /// Appends a segment with these records, and something that is not stored behind them.
    fn publish(&mut self, partition: i32, records: Vec<Put>) {
        let lines: Vec<String> = records.iter().map(|record| self.line(record)).collect();
        self.publish_lines(partition, &lines);
        self.put.extend(records);
    }

    fn line(&mut self, record: &Put) -> String {
        let ms = self.rng.i64(0..HOUR_MS);
        Self::line_at(record, record.hour_ms + ms)
    }

    fn line_at(record: &Put, ms: i64) -> String {
        let mut line = json!({
            "timestamp": pipeline_core::record::timestamp::format_utc(ms),
            "path": record.path,
            "userAgent": record.agent,
            "extra": {"n": [1, 2]},
        });
        if let Some(site) = &record.site {
            line["site"] = json!(site);
        }
        if let Some(rest) = &record.rest {
            line["method"] = json!(rest.method);
            line["status"] = json!(rest.status);
            line["bytes"] = json!(rest.bytes);
            line["durationMs"] = json!(rest.duration_ms);
            line["referer"] = json!(match &rest.referring_host {
                None => "-".to_owned(),
                Some(host) => format!("https://{host}/from?x"),
            });
        }
        line.to_string()
    }

    fn publish_lines(&mut self, partition: i32, lines: &[String]) {
        let skipped = self.rng.u64(1..4);
        self.publish_and_skip(partition, lines, skipped);
    }

    /// A segment that stores nothing.
    fn skip(&mut self, partition: i32, offsets: i64) {
        self.publish_and_skip(partition, &[], offsets as u64);
    }

    fn publish_and_skip(&mut self, partition: i32, lines: &[String], skipped: u64) {
        let chain = self.chain(partition);
        let start = Start {
            format: 1,
            cluster_id: "cluster".to_owned(),
            topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
            first_offset: Offset(self.start_at),
        };
        chain.put_start(&start).unwrap();
        let end = chain.walk(None, &mut |_| true).unwrap().unwrap();
        let count = lines.len() as u32;
        let draft = Draft {
            first: end.next,
            next: Offset(end.next.0 + i64::from(count) + skipped as i64),
            previous: end.last,
            writer: [1; 16],
            fates: [(Fate::Stored, u64::from(count)), (Fate::Skipped, skipped)]
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(fate, count)| FateRun { fate, count })
                .collect(),
            stored: (count > 0)
                .then_some(StoredRun {
                    first: end.next,
                    count,
                    received_ms: BASE_MS,
                    batch: Some(BatchId([self.rng.u8(..); 16])),
                    first_sequence: 0,
                })
                .into_iter()
                .collect(),
            totals_before: end.totals,
            last: end.last_message,
        };
        let ndjson: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let segment = draft.encode(ndjson.as_bytes(), 1);
        assert_eq!(chain.publish(&segment).unwrap(), Published::Linked);
    }

    /// The paths of a partition's segments, in order.
    fn segments(&self, partition: i32) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let mut last = SegmentHash([0; 32]);
        self.chain(partition)
            .walk(None, &mut |visited| {
                assert_ne!(visited.hash, last);
                last = visited.hash;
                paths.push(visited.path);
                true
            })
            .unwrap();
        paths
    }

    /// All summaries that stand there, as [`World::expected`] has them.
    fn found(&self) -> BTreeMap<String, Value> {
        self.summaries()
            .into_iter()
            .filter(|(file, _)| file.ends_with(".json"))
            .map(|(file, bytes)| {
                let mut summary: Value = serde_json::from_slice(&bytes).unwrap();
                let fields = summary.as_object_mut().unwrap();
                assert!(fields.remove("manifest").unwrap().as_u64().unwrap() > 1);
                assert!(fields.remove("classification").is_some());
                (file, summary)
            })
            .collect()
    }

    /// Every file of the analytics that is not state, by its path; reports too.
    fn summaries(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = files_below(&self.analytics());
        files.retain(|file, _| !file.starts_with("_state/"));
        files
    }

    /// The greatest manifest.
    fn manifest(&self) -> Value {
        let bytes = fs::read(self.manifests().pop().unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn manifests(&self) -> Vec<PathBuf> {
        let state = files_below(&self.analytics().join("_state"));
        let manifests = state.into_keys().filter(|file| file.starts_with('m'));
        manifests
            .map(|file| self.analytics().join("_state").join(file))
            .collect()
    }
}

/// Every file below `dir`, by its path there.
fn files_below(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Ends a run before its step number `at`, as a kill would.
fn kill_at(at: usize) -> impl FnMut(Step) -> bool {
    let mut step = 0;
    move |_| {
        step += 1;
        step <= at
    }
}

/// Each portion is committed by itself.
const NOTHING_HELD: HeldBounds = HeldBounds {
    bytes_max: 0,
    day_bytes_max: 0,
    records_max: 0,
    pieces_max: 0,
    segments_max: 0,
};

/// Small enough that a run commits several times.
fn small() -> Portion {
    Portion {
        plain_bytes_max: 3_000,
        counts_bytes_max: 1 << 20,
    }
}
