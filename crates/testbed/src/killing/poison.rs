//! Poison in the stream: messages that are no records, sent past the gateway by `kcat`, so that the
//! writer has something to put aside. What of it came to the logs, the logs say.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{order, process::tied, stand::Stand};

const EVERY: Duration = Duration::from_millis(250);
/// In one go.
const MESSAGES: u64 = 6;
/// For what is sent while nobody leads its partition.
const PATIENCE: &str = "message.timeout.ms=5000";

/// A thread that sends. Ends with its value.
pub struct Poison {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    brokers: String,
    topic: String,
    log: PathBuf,
    ended: AtomicBool,
    sent: AtomicU32,
}

impl Poison {
    /// `None` where there is no kcat.
    pub fn start(stand: &Stand) -> Option<Self> {
        if !order::can_check() {
            return None;
        }
        let shared = Arc::new(Shared {
            brokers: stand.kafka(),
            topic: stand.plan.topic.clone(),
            log: stand.dir.join("services/kcat-poison.log"),
            ended: AtomicBool::new(false),
            sent: AtomicU32::new(0),
        });
        let sends = Arc::clone(&shared);
        let thread = spawn(move || sends.run());
        Some(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Sends no more.
    ///
    /// # Errors
    /// When nothing at all could be sent.
    pub fn end(mut self) -> Result<()> {
        self.stop();
        ensure!(
            self.shared.sent.load(Ordering::Relaxed) > 0,
            "kcat has sent no poison:\n{}",
            crate::process::tail(&self.shared.log, 10)
        );
        Ok(())
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its own panic has its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for Poison {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        for first in (0..).step_by(MESSAGES as usize) {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            // One that gives up, as nodes are away, has sent some of it or none.
            if let Ok(true) = send(&self.brokers, &self.topic, first, &self.log) {
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            sleep(EVERY);
        }
    }
}

/// Whether all of it is in the logs.
fn send(brokers: &str, topic: &str, first: u64, log: &Path) -> Result<bool> {
    let mut command = Command::new("kcat");
    command.args(["-P", "-b", brokers, "-t", topic, "-K", ":"]);
    command.args(["-X", PATIENCE, "-X", "acks=all"]);
    let log = File::options().create(true).append(true).open(log)?;
    let mut child = tied(&command)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    // The key spreads them over the partitions; the writer does not ask for it.
    let lines = (first..first + MESSAGES).map(|n| format!("{n}:{}{n}\n", order::POISON));
    let mut input = child.stdin.take().context("kcat has an input")?;
    let written = input.write_all(lines.collect::<String>().as_bytes());
    drop(input);
    let status = child.wait()?;
    Ok(written.is_ok() && status.success())
}
