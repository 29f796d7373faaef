//! Poison in the stream: messages that are no records, sent past the gateway by `kcat`, so that the
//! writer has something to put aside. What of it came to the logs, the logs say.

use std::{
    fs::File,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};

use super::beside::Beside;
use crate::{order, process::tied, stand::Stand};

const EVERY: Duration = Duration::from_millis(250);
/// In one go.
const MESSAGES: u64 = 6;
/// For what is sent while nobody leads its partition.
const PATIENCE: &str = "message.timeout.ms=5000";

/// `None` where there is no kcat. One that gives up, as nodes are away, has sent some of it or none.
pub fn start(stand: &Stand) -> Option<Beside> {
    if !order::can_check() {
        return None;
    }
    let (brokers, topic) = (stand.kafka(), stand.plan.topic.clone());
    let log = stand.dir.join("services/kcat-poison.log");
    let mut firsts = (0..).step_by(MESSAGES as usize);
    Some(Beside::start(EVERY, move || {
        let first = firsts.next().context("numbers do not end")?;
        send(&brokers, &topic, first, &log)
    }))
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
