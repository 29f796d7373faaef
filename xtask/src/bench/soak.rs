//! The gateway at half load for long: what the process holds must not grow.

use std::{fs, path::Path, thread, time::Duration, time::Instant};

use anyhow::{Context, Result, bail};
use testbed::{
    blast::{Media, blast},
    stand::{Plan, Stand},
};

use super::{Args, load, made, send, warm_up};

const EACH: u32 = 100;
/// Of the first part of the run: caches fill, arenas find their size.
const SETTLING: f64 = 0.25;
const SAMPLES: u32 = 40;

struct Sample {
    after: Duration,
    resident_bytes: u64,
    descriptors: usize,
    threads: usize,
    tasks: usize,
}

pub fn run(args: &Args, minutes: u64, dir: &Path, plan: Plan) -> Result<()> {
    let mut stand = Stand::prepare(dir, plan)?;
    stand.gateways[0].start()?;
    stand.gateways[0].wait_ready()?;
    warm_up(&mut stand)?;
    let bodies = made(args, Media::NdJson, EACH)?;
    let (full, _, _) = send(
        args,
        &mut stand,
        &load(&bodies, EACH, args.records.min(1_000_000)),
    )?;
    let rate = full.per_second() / 2.0;
    let whole = Duration::from_secs(minutes * 60);
    println!("{rate:.0} records/s, half of its maximum, for {minutes} min");
    let mut half = load(&bodies, EACH, (rate * whole.as_secs_f64()) as u64);
    half.rate = Some(rate);

    let address = stand.addresses[0];
    let pid = stand.gateways[0].process()?.id();
    let gateways = &stand.gateways;
    let (done, samples) = thread::scope(|scope| -> Result<_> {
        let sender = scope.spawn(|| blast(address, &half));
        let start = Instant::now();
        let mut samples = Vec::new();
        while !sender.is_finished() {
            thread::sleep(whole / SAMPLES);
            let tasks = Stand::metric(gateways, "runtime_tasks");
            let tasks = tasks.context("/metrics does not say how many tasks there are")?;
            let sample = sample(pid, tasks as usize, start.elapsed())?;
            println!(
                "  {:>5.0} s: {:>6.1} MiB resident, {} descriptors, {} threads, {} tasks",
                sample.after.as_secs_f64(),
                mib(sample.resident_bytes),
                sample.descriptors,
                sample.threads,
                sample.tasks
            );
            samples.push(sample);
        }
        Ok((sender.join().expect("a sender does not panic")?, samples))
    })?;
    println!(
        "{} records; p50 {:.1?}, p99 {:.1?}; {} refused, {} bodies by way of the DLQ",
        done.records,
        done.latencies.quantile(0.5),
        done.latencies.quantile(0.99),
        done.refused,
        done.kept_dlq
    );
    judge(&samples)?;
    stand.gateways[0].terminate()?;
    Ok(())
}

/// Growth from the first to the second half of what comes after the settling.
fn judge(samples: &[Sample]) -> Result<()> {
    let settled = &samples[(samples.len() as f64 * SETTLING) as usize..];
    let (early, late) = settled.split_at(settled.len() / 2);
    let most = |part: &[Sample], of: fn(&Sample) -> f64| part.iter().map(of).fold(0.0, f64::max);
    let mut grown = Vec::new();
    for (what, of, allowed) in [
        (
            "resident MiB",
            (|s| mib(s.resident_bytes)) as fn(&Sample) -> f64,
            4.0,
        ),
        ("descriptors", |s| s.descriptors as f64, 2.0),
        ("threads", |s| s.threads as f64, 2.0),
        ("tasks", |s| s.tasks as f64, 4.0),
    ] {
        let (before, after) = (most(early, of), most(late, of));
        println!("{what}: at most {before:.1}, later {after:.1}");
        if after > before + allowed {
            grown.push(what);
        }
    }
    if grown.is_empty() {
        return Ok(());
    }
    bail!("grown: {}", grown.join(", "))
}

fn sample(pid: u32, tasks: usize, after: Duration) -> Result<Sample> {
    let gone = || format!("process {pid} is gone");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(gone)?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        Ok(value.context("an odd status")?.parse()?)
    };
    Ok(Sample {
        after,
        resident_bytes: field("VmRSS:")? * 1024,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: field("Threads:")? as usize,
        tasks,
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
