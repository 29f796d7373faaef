//! The binary as people and their supervisors meet it: arguments, exit codes, signals, listener.

mod compare;
mod export;
mod fixtures;
mod top;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, Instant},
};

use pipeline_core::{
    Offset, PartitionId,
    store::{Draft, Fate, FateRun, Published, Start, Store, StoredRun},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for something that is certain to come.
const PATIENCE: Duration = Duration::from_secs(60);

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "dataDir: {}\nkafka:\n  brokers: [127.0.0.1:9092]\n  groupID: test\naggregation:\n  \
             interval: 20ms\n  adminAddr: 127.0.0.1:0\n",
            dir.path().join("data").display()
        );
        fs::write(dir.path().join("config.yaml"), config).unwrap();
        Self { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aggregator"));
        command
            .arg("--config")
            .arg(self.dir.path().join("config.yaml"))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Appends a segment of `count` records to partition 0 and gives its path.
    fn store(&self, count: u32) -> PathBuf {
        let line = "{\"timestamp\":\"2015-05-17T10:05:03Z\",\"path\":\"/\",\"userAgent\":\"-\"}";
        self.store_lines(&vec![line; count as usize])
    }

    fn store_lines(&self, lines: &[impl AsRef<str>]) -> PathBuf {
        let count = lines.len() as u32;
        let store = Store::open(&self.data().join("logs")).unwrap();
        let chain = store.chain("logs", PartitionId(0));
        let start = Start {
            format: 1,
            cluster_id: "cluster".to_owned(),
            topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
            first_offset: Offset(0),
        };
        chain.put_start(&start).unwrap();
        let end = chain.walk(None, &mut |_| true).unwrap().unwrap();
        let draft = Draft {
            first: end.next,
            next: Offset(end.next.0 + i64::from(count)),
            previous: end.last,
            writer: [1; 16],
            fates: vec![FateRun {
                fate: Fate::Stored,
                count: count.into(),
            }],
            stored: vec![StoredRun {
                first: end.next,
                count,
                received_ms: 1_431_856_800_000,
                batch: None,
                first_sequence: 0,
            }],
            totals_before: end.totals,
            last: None,
        };
        let ndjson: String = lines
            .iter()
            .map(|line| format!("{}\n", line.as_ref()))
            .collect();
        let segment = draft.encode(ndjson.as_bytes(), 1);
        assert_eq!(chain.publish(&segment).unwrap(), Published::Linked);
        chain.segment_path(end.next)
    }

    /// What the hour's summary says.
    fn requests(&self) -> Option<u64> {
        let path = self.data().join("analytics/2015-05-17/summary_10.json");
        let summary: Value = serde_json::from_slice(&fs::read(path).ok()?).unwrap();
        summary["requests"].as_u64()
    }

    fn serve(&self) -> Serving {
        let mut child = self.command(&[]).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let addr = loop {
            line.clear();
            assert_ne!(
                log.read_line(&mut line).unwrap(),
                0,
                "ended before it listened"
            );
            if let Some((_, addr)) = line.trim_end().split_once("admin listens on ") {
                break addr.to_owned();
            }
        };
        Serving { child, log, addr }
    }
}

struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
    addr: String,
}

impl Serving {
    fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn metric(&self, name: &str) -> f64 {
        let answer = self.ask("/metrics");
        let line = answer.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        line.unwrap_or_else(|| panic!("no {name} in {answer}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    fn ends(mut self, signal: Option<Signal>) -> (Option<i32>, String) {
        if let Some(signal) = signal {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        // What is waited for needs the cores, too.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[12] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

#[test]
fn arguments_are_answered_as_promised() {
    let place = Place::new();
    let help = place.output(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for option in ["--config", "--check", "--once", "--version"] {
        assert!(text.contains(option), "{text}");
    }
    let version = place.output(&["--version"]);
    let expected = format!("aggregator {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
    assert_eq!(place.output(&["--check"]).status.code(), Some(0));
    assert!(!place.data().exists(), "a check writes nothing");
    assert_eq!(place.output(&["--twice"]).status.code(), Some(2));
    fs::write(place.dir.path().join("config.yaml"), "kafka: {}\n").unwrap();
    for arguments in [vec!["--check"], vec!["--once"], vec![]] {
        assert_eq!(
            place.output(&arguments).status.code(),
            Some(78),
            "{arguments:?}"
        );
    }
}

#[test]
fn once_counts_what_is_stored_and_says_where_it_could_not() {
    let place = Place::new();
    assert_eq!(
        place.output(&["--once"]).status.code(),
        Some(0),
        "no store yet"
    );
    place.store(3);
    place.store(2);
    assert_eq!(place.output(&["--once"]).status.code(), Some(0));
    assert_eq!(place.requests(), Some(5));
    let damaged = place.store(4);
    damage(&damaged);
    let output = place.output(&["--once"]);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains(damaged.to_str().unwrap()), "{log}");
    assert_eq!(place.requests(), Some(5));
}

#[test]
fn a_port_that_another_process_has_is_named_and_later_it_may_work() {
    let place = Place::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let config = fs::read_to_string(place.dir.path().join("config.yaml")).unwrap();
    let config = config.replace("adminAddr: 127.0.0.1:0", &format!("adminAddr: {taken}"));
    fs::write(place.dir.path().join("config.yaml"), config).unwrap();
    let output = place.output(&[]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{log}");
    assert!(log.contains(&taken), "{log}");
}

/// Where each file's path would be too long for the system, for whoever runs this: root, too.
#[test]
fn a_directory_that_takes_no_files_is_named_at_the_start() {
    let place = Place::new();
    let config = fs::read_to_string(place.dir.path().join("config.yaml")).unwrap();
    // What is made below it has room, `_state/counts` and `-aside`; no file there has.
    let mut deep = place.dir.path().to_owned();
    const PATH_MAX: usize = 4096;
    while PATH_MAX - deep.as_os_str().len() > 200 {
        deep.push("d".repeat(100));
    }
    let left = PATH_MAX - deep.as_os_str().len();
    deep.push("d".repeat(left - 20));
    fs::create_dir_all(&deep).unwrap();
    place.store(1);
    fs::copy(place.data().join("logs/OWNER"), deep.join("OWNER")).unwrap();
    for key in ["analyticsDir", "archiveDir", "logsDir"] {
        let config = format!("{config}storage:\n  {key}: {}\n", deep.display());
        fs::write(place.dir.path().join("config.yaml"), config).unwrap();
        for arguments in [vec!["--once"], vec![]] {
            let output = place.output(&arguments);
            assert_eq!(output.status.code(), Some(1), "{key} {arguments:?}");
            let log = String::from_utf8(output.stderr).unwrap();
            let probe = format!("failed to write a probe file in {}", deep.display());
            assert!(log.contains(&probe), "{key}: {log}");
            assert_eq!(log.matches("too long").count(), 1, "{key}: {log}");
        }
    }
}

/// As where the log is a file on a disk that is full.
#[test]
fn a_log_that_takes_nothing_stops_nothing() {
    let place = Place::new();
    place.store(3);
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let once = place.command(&["--once"]).stderr(full.unwrap()).status();
    assert_eq!(once.unwrap().code(), Some(0));
    assert_eq!(place.requests(), Some(3));
}

#[test]
fn lost_manifests_end_both_ways_of_running() {
    let place = Place::new();
    place.store(3);
    assert_eq!(place.output(&["--once"]).status.code(), Some(0));
    fs::remove_dir_all(place.data().join("analytics/_state")).unwrap();
    for arguments in [vec!["--once"], vec![]] {
        let output = place.output(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("the manifests are lost"), "{log}");
    }
}

#[test]
fn the_service_counts_on_its_interval_and_drains_on_a_signal() {
    let place = Place::new();
    let serving = place.serve();
    assert_eq!(serving.metric("aggregation_records_total"), 0.0);
    assert!(serving.ask("/livez").starts_with("HTTP/1.1 200"));
    wait_for("readiness", || {
        serving.ask("/readyz").starts_with("HTTP/1.1 200")
    });
    assert!(serving.ask("/version").contains("\"aggregator\""));
    for count in [3, 5] {
        place.store(count);
    }
    wait_for("all records", || {
        serving.metric("aggregation_records_total") == 8.0
    });
    wait_for("the summary", || place.requests() == Some(8));
    wait_for("no lag", || {
        serving.metric("aggregation_lag_seconds") == 0.0
    });
    let (code, log) = serving.ends(Some(Signal::TERM));
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn the_service_stays_up_with_a_damaged_chain_and_says_so() {
    let place = Place::new();
    let path = place.store(3);
    let whole = fs::read(&path).unwrap();
    damage(&path);
    let serving = place.serve();
    wait_for("the halt", || {
        serving.metric("aggregation_chains_halted") == 1.0
    });
    wait_for("the lag", || {
        serving.metric("aggregation_lag_seconds") > 0.0
    });
    assert!(serving.metric("aggregation_runs_total{outcome=\"halted\"}") >= 1.0);
    assert!(serving.ask("/livez").starts_with("HTTP/1.1 200"));
    fs::write(&path, whole).unwrap();
    wait_for("all records", || {
        serving.metric("aggregation_records_total") == 3.0
    });
    wait_for("no halt", || {
        serving.metric("aggregation_chains_halted") == 0.0
    });
    // The index and the page of what names no site.
    wait_for("pages", || {
        serving.metric("aggregation_reports_total") >= 2.0
    });
    assert!(serving.metric("aggregation_report_bytes_total") > 2.0 * 50_000.0);
    let (code, log) = serving.ends(Some(Signal::INT));
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(path.to_str().unwrap()), "{log}");
}

#[test]
fn killed_at_any_moment_it_counts_all_once() {
    let mut rng = fastrand::Rng::with_seed(1);
    let place = Place::new();
    let mut stored = 0;
    for _ in 0..12 {
        let serving = place.serve();
        let mut new = 0;
        for _ in 0..rng.u32(1..8) {
            let count = rng.u32(1..50);
            place.store(count);
            new += count;
        }
        stored += u64::from(new);
        let enough = f64::from(rng.u32(0..=new));
        wait_for("a part of it", || {
            serving.metric("aggregation_records_total") >= enough
        });
        serving.ends(Some(Signal::KILL));
    }
    assert_eq!(place.output(&["--once"]).status.code(), Some(0));
    assert_eq!(place.requests(), Some(stored));
}
