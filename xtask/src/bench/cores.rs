//! Who had the machine's cores during a measured run: on few cores the sender, the service
//! and Kafka take them from each other, and only the split says what bound.

use std::{
    fmt, fs, process,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use testbed::process::cpu_of;

use super::Args;

/// Before a run.
#[derive(Debug)]
pub struct Cores {
    /// Kafka's nodes, where they are ours and run here.
    kafka: Vec<u32>,
    start: Instant,
    before: Taken,
}

/// Of all cores' time during a run, in CPU-seconds.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    cores: f64,
    /// Who is measured, and its part.
    service: (&'static str, f64),
    sender: f64,
    kafka: Option<f64>,
    idle: f64,
}

#[derive(Debug)]
struct Taken {
    sender: Duration,
    kafka: Duration,
    idle: Duration,
}

impl Cores {
    pub fn watch(args: &Args) -> Result<Self> {
        let ours = crate::kafka::ours(&args.kafka);
        let nodes = ours.iter().flat_map(|cluster| cluster.nodes());
        let kafka: Vec<u32> = nodes.filter_map(|node| node.pid()).collect();
        Ok(Self {
            before: Taken::now(&kafka)?,
            kafka,
            start: Instant::now(),
        })
    }

    /// After it; the service's own time is measured by who asks.
    pub fn split(&self, service: &'static str, own: Duration) -> Result<Split> {
        let after = Taken::now(&self.kafka)?;
        let between = |a: Duration, b: Duration| b.saturating_sub(a).as_secs_f64();
        Ok(Split {
            cores: self.start.elapsed().as_secs_f64() * cores(),
            service: (service, own.as_secs_f64()),
            sender: between(self.before.sender, after.sender),
            kafka: (!self.kafka.is_empty()).then(|| between(self.before.kafka, after.kafka)),
            idle: between(self.before.idle, after.idle),
        })
    }
}

impl Taken {
    fn now(kafka: &[u32]) -> Result<Self> {
        let kafka = kafka.iter().map(|pid| cpu_of(*pid)).sum::<Result<_>>()?;
        Ok(Self {
            sender: cpu_of(process::id())?,
            kafka,
            idle: idle()?,
        })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |seconds: f64| 100.0 * seconds / self.cores;
        write!(
            f,
            "of the {:.0} cores: {} {:.0} %, sender {:.0} %",
            cores(),
            self.service.0,
            part(self.service.1),
            part(self.sender)
        )?;
        let known = self.service.1 + self.sender + self.kafka.unwrap_or_default() + self.idle;
        if let Some(kafka) = self.kafka {
            write!(f, ", Kafka {:.0} %", part(kafka))?;
        }
        write!(
            f,
            ", idle {:.0} %, else {:.0} %",
            part(self.idle),
            part((self.cores - known).max(0.0))
        )
    }
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Of all cores together: the fourth number of the first line of /proc/stat, as in proc(5).
fn idle() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = stat
        .split_whitespace()
        .nth(4)
        .context("an odd /proc/stat")?;
    let second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(Duration::from_secs(ticks.parse()?) / second)
}
