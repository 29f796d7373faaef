//! The integration suite: the built services as processes, driven over HTTP and judged from
//! outside. On the embedded broker, or on the one that `SLUICE_TEST_KAFKA` names.
//!
//! One binary, so that it links once; each test has a directory, a topic and ports of its own.

mod analytics;
mod bad_input;
mod book;
mod campaign;
mod documents;
mod drill;
mod end_to_end;
mod follow;
mod groups;
mod kafka_access;
mod kafka_away;
mod kcat;
mod kills;
mod logs;
mod manager;
mod memory;
mod observability;
mod operation;
mod rebalance;
mod rolling;
mod shutdown;
mod tasks;
mod upgrade;

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use testbed::{body::Mix, load, oracle::Verdict, stand::fresh_name};

/// A directory of this test alone: removed when it has passed, kept and named when it fails, whether
/// it panics or ends with an error.
struct RunDir {
    path: PathBuf,
    passed: AtomicBool,
}

impl RunDir {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", fresh_name()));
        fs::create_dir_all(&path).expect("the target directory takes files");
        Self {
            path,
            passed: AtomicBool::new(false),
        }
    }

    /// How a test ends that has come to its end.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the last line of tests that may fail"
    )]
    fn passed(&self) -> Result<()> {
        self.passed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Deref for RunDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.passed.load(Ordering::Relaxed) && !std::thread::panicking() {
            // A directory left over is no failure.
            let _ = fs::remove_dir_all(&self.path);
        } else {
            eprintln!("everything of this run is in {}", self.path.display());
        }
    }
}

#[test]
fn what_a_failed_run_leaves_is_kept_whether_it_panics_or_ends_with_an_error() {
    let run = |how: fn(&RunDir) -> Result<()>| {
        let dir = RunDir::new("kept");
        let path = dir.to_path_buf();
        let ended = std::thread::spawn(move || how(&dir)).join();
        let passed = matches!(ended, Ok(Ok(())));
        let kept = path.exists();
        let _ = fs::remove_dir_all(path);
        (passed, kept)
    };
    assert_eq!(run(|dir| dir.passed()), (true, false));
    assert_eq!(run(|_| anyhow::bail!("it fails")), (false, true));
    assert_eq!(run(|_| panic!("on purpose")), (false, true));
}

/// The load of most tests: what a small machine takes with unoptimised services.
fn load(seed: u64) -> load::Plan {
    load::Plan {
        mix: Mix {
            seed,
            ..Mix::default()
        },
        ..load::Plan::default()
    }
}

#[track_caller]
fn assert_holds(verdict: &Verdict) {
    assert!(verdict.accepted > 0, "nothing was accepted: {verdict}");
    assert!(verdict.holds(), "{verdict}");
}
