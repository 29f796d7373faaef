//! One measured figure and how it is shown.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub records: u64,
    pub wall: Duration,
    /// Of the measured process alone, all its threads.
    pub cpu: Duration,
}

impl Figure {
    pub fn per_cpu_second(&self) -> f64 {
        self.records as f64 / self.cpu.as_secs_f64().max(0.01)
    }

    pub fn per_second(&self) -> f64 {
        self.records as f64 / self.wall.as_secs_f64()
    }

    pub fn print(&self, what: &str, ceiling: Option<&Self>) {
        let ratio = ceiling.map_or_else(String::new, |ceiling| {
            format!(
                "{:.2} of the ceiling",
                self.per_cpu_second() / ceiling.per_cpu_second()
            )
        });
        println!(
            "  {what:<48} {:>9} {:>10.0} {:>9.2} {:>12.0}   {ratio}",
            self.records,
            self.per_second(),
            self.cpu.as_secs_f64(),
            self.per_cpu_second(),
        );
    }
}

pub fn head(stage: &str) {
    println!(
        "\n{stage:<50} {:>9} {:>10} {:>9} {:>12}",
        "records", "records/s", "CPU s", "records/CPU-s"
    );
}

/// CPU time of all ended children of this process.
pub fn children_cpu() -> Result<Duration> {
    // cutime and cstime are fields 16 and 17 of proc(5).
    ticks("/proc/self/stat", 16)
}

/// CPU time so far of the process whose `stat` file this is.
pub fn cpu_of(stat: &str) -> Result<Duration> {
    // utime and stime are fields 14 and 15.
    ticks(stat, 14)
}

/// The most memory that a process has held so far (RSS), in bytes.
pub fn peak_of(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("no VmHWM")?.parse::<u64>()? << 10)
}

/// The sum of two fields, the first of which is number `first`.
fn ticks(stat: &str, first: usize) -> Result<Duration> {
    let stat = fs::read_to_string(stat)?;
    // Behind the name, which may hold anything, comes field 3.
    let rest = stat.rsplit_once(')').context("odd stat")?.1;
    let ticks = rest
        .split_whitespace()
        .skip(first - 3)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<u64, _>>()
        .context("short stat")?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}
