//! At low load, with the default flush: from just before a record's POST to the moment where a
//! look at the chains' directories finds the segment that holds it. Segments come into being whole,
//! by one link, so a name that is there is a record that can be read.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testbed::{
    blast::Latencies,
    http::{Client, Request},
    kafka::Bounded,
    stand::{Plan, Stand, fresh_name},
};

use super::{Args, KAFKA_BYTES_MIN, PARTITIONS, wait_dlq_empty, wait_stored};

const RECORDS: u32 = 4_000;
const PER_SECOND: f64 = 200.0;
/// Records before them, so that topic, group and chains are there.
const BEFORE: u32 = 200;
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub fn run(args: &Args, dir: &Path, mut plan: Plan) -> Result<()> {
    plan.topic = fresh_name();
    let bytes = KAFKA_BYTES_MIN / u64::from(PARTITIONS);
    let _topic = Bounded::make(&args.kafka, &plan.topic, PARTITIONS, bytes)?;
    let mut stand = Stand::up(dir, plan)?;
    let address = stand.addresses[0];
    let mut client = Client::new(address, Duration::from_secs(30));
    for number in 0..BEFORE {
        post(&mut client, RECORDS + number)?;
    }
    wait_dlq_empty(&stand.gateways)?;
    wait_stored(&mut stand, u64::from(BEFORE))?;

    let live = stand.logs_dir().join("_live").join(&stand.plan.topic);
    let ended = AtomicBool::new(false);
    let (sent, seen) = thread::scope(|scope| -> Result<_> {
        let watch = scope.spawn(|| watch(&live, &ended));
        let sent = send(&mut client).and_then(|sent| {
            wait_stored(&mut stand, u64::from(BEFORE + RECORDS))?;
            Ok(sent)
        });
        ended.store(true, Ordering::Relaxed);
        let seen = watch.join().expect("a watcher does not panic")?;
        Ok((sent?, seen))
    })?;
    let mut waited = Vec::new();
    for (path, at) in seen {
        for number in numbers(&path)? {
            if let Some(sent) = sent.get(number as usize) {
                waited.push(at.saturating_duration_since(*sent));
            }
        }
    }
    if waited.len() != sent.len() {
        bail!("{} of {} records are in a file", waited.len(), sent.len());
    }
    let waited: Latencies = waited.into_iter().collect();
    println!(
        "\nat {PER_SECOND:.0} records/s with flushInterval 500 ms, from POST to visible file: \
         p50 {:.0?}, p99 {:.0?}, most {:.0?}",
        waited.quantile(0.5),
        waited.quantile(0.99),
        waited.quantile(1.0)
    );
    for service in stand.services() {
        service.terminate_if_running()?;
    }
    Ok(())
}

/// When each record was sent.
fn send(client: &mut Client) -> Result<Vec<Instant>> {
    let start = Instant::now();
    let mut sent = Vec::new();
    for number in 0..RECORDS {
        let due = start + Duration::from_secs_f64(f64::from(number) / PER_SECOND);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sent.push(Instant::now());
        post(client, number)?;
    }
    Ok(sent)
}

fn post(client: &mut Client, number: u32) -> Result<()> {
    let body = format!(
        r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/visible/{number}","userAgent":"bench"}}"#
    );
    let request = Request {
        method: "POST",
        target: "/logs",
        headers: &[("content-type", "application/x-ndjson")],
        body: body.as_bytes(),
    };
    let response = client.send(&request)?;
    if response.status != 202 {
        bail!("{} {}", response.status, response.text());
    }
    Ok(())
}

/// When each segment was seen first; those that are there already count from now.
fn watch(live: &Path, ended: &AtomicBool) -> Result<HashMap<PathBuf, Instant>> {
    let mut seen = HashMap::new();
    loop {
        // Once more after the end: all is there then.
        let last = ended.load(Ordering::Relaxed);
        for partition in fs::read_dir(live)? {
            for file in fs::read_dir(partition?.path())? {
                let path = file?.path();
                let segment = path.to_string_lossy().ends_with(".ndjson.zst");
                if segment && !seen.contains_key(&path) {
                    seen.insert(path, Instant::now());
                }
            }
        }
        if last {
            return Ok(seen);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The numbers of the records in a segment.
fn numbers(segment: &Path) -> Result<Vec<u32>> {
    let output = Command::new("zstdcat").arg(segment).output();
    let output = output.context("zstdcat")?;
    if !output.status.success() {
        bail!("zstdcat does not like {}", segment.display());
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let (_, rest) = line.split_once("/visible/").context("a strange record")?;
            let (number, _) = rest.split_once('"').context("a strange path")?;
            Ok(number.parse()?)
        })
        .collect()
}
