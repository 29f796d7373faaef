//! What is asked of a process by its id alone.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// CPU time of a process by its id.
///
/// # Errors
/// When the process is gone.
pub fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = stat_of(pid)?;
    // utime and stime are fields 14 and 15 of proc(5), so the 12th and 13th after the name.
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let ticks: u64 = fields.get(11).context("short stat")?.parse::<u64>()?
        + fields.get(12).context("short stat")?.parse::<u64>()?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// What proc(5) says of a process behind its name, which may hold anything.
pub(super) fn stat_of(pid: u32) -> Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    let rest = stat.rsplit_once(") ").context("odd stat")?.1;
    Ok(rest.to_owned())
}

/// Sends a signal to a process of ours by its id.
///
/// # Errors
/// When the process is gone.
pub fn signal_pid(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process has the id 0")?;
    kill_process(pid, signal)?;
    Ok(())
}
