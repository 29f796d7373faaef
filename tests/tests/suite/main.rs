//! The integration suite: the built services as processes, driven over HTTP and judged from
//! outside. On the embedded broker, or on the one that `SLUICE_TEST_KAFKA` names.
//!
//! One binary, so that it links once; each test has a directory, a topic and ports of its own.

mod analytics;
mod bad_input;
mod book;
mod campaign;
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

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
};

use testbed::{body::Mix, load, oracle::Verdict, stand::fresh_name};

/// A directory of this test alone: removed when it passes, kept and named when it fails.
struct RunDir(PathBuf);

impl RunDir {
    fn new(test: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", fresh_name()));
        fs::create_dir_all(&dir).expect("the target directory takes files");
        Self(dir)
    }
}

impl Deref for RunDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("everything of this run is in {}", self.0.display());
        } else {
            // A directory left over is no failure.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
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
