//! Whatever goes wrong and how often: no service writes more than ten lines a second, and what it
//! does not write it sums up.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use testbed::{
    body::Mix,
    disk::SmallDisk,
    http::post,
    load::{self, Load},
    process::poll_until,
    skip,
    stand::{Plan, Stand},
    store::newest,
};

use crate::RunDir;

const WITHIN: Duration = Duration::from_secs(60);
/// A line's time is taken after it was decided on: so a little less than a second.
const SPAN_MICROS: i64 = 900_000;
const LINES_MAX: usize = 10;
/// Each process of a service counts by itself, and one follows the other within the second.
const FIRST_LINE: &str = "admin listens on";
const PARTITIONS: u32 = 24;
const SUMMARY: &str = "more of these in the last second";

#[test]
fn no_fault_makes_more_than_ten_lines_a_second() -> Result<()> {
    if Plan::from_env().kafka.is_some() {
        skip::optional("logs under faults", "this broker is not ours to stop");
        return Ok(());
    }
    let dir = RunDir::new("logs");
    let disk = SmallDisk::mount(&dir.join("small"), 64 << 20)?;
    let plan = Plan {
        partitions: PARTITIONS,
        ..Plan::default()
    };
    let plan = plan
        .with("storage.logsDir", "small/logs")
        .with("telemetry.log.format", "text")
        .with("ingestion.producerDLQMaxBytes", "1MiB")
        .with("consumer.persistTimeout", "1s");
    let mut stand = Stand::up(&dir, plan)?;
    let busy = load::Plan {
        mix: Mix {
            seed: 73,
            records: (1, 60),
            ..Mix::default()
        },
        rate: Some(4_000),
        patience: Duration::from_millis(200),
        ..load::Plan::default()
    };
    let load = Load::start(&stand.addresses, busy);
    ensure!(load.wait_accepted(2_000, WITHIN), "{}", load.stop());

    hostile(stand.addresses[0])?;
    poison(&stand)?;
    stand.broker.as_mut().context("a broker")?.kill()?;
    sleep(Duration::from_secs(3));
    stand.broker.as_mut().context("a broker")?.start()?;
    match &disk {
        Some(disk) => {
            disk.fill(0)?;
            sleep(Duration::from_secs(3));
            disk.free()?;
        }
        None => skip::optional("logs with a full disk", "this process may not mount"),
    }
    let before = load.accepted();
    ensure!(
        load.wait_accepted(before + 4_000, WITHIN),
        "{}",
        load.stop()
    );
    drop(load.stop());
    damage_all(&mut stand)?;
    sleep(Duration::from_secs(3));

    let mut summed_up = false;
    for service in stand.services() {
        let text = fs::read_to_string(&service.log)?;
        summed_up |= text.contains(SUMMARY);
        let lines: Vec<(i64, &str)> = text
            .lines()
            .filter_map(|line| Some((micros(line)?, line)))
            .collect();
        ensure!(lines.len() > 3, "{}: {text}", service.name);
        for (index, (time, line)) in lines.iter().enumerate() {
            let later = lines[index + 1..]
                .iter()
                .take_while(|(at, line)| at - time < SPAN_MICROS && !line.contains(FIRST_LINE));
            let within = later.count() + 1;
            ensure!(
                within <= LINES_MAX,
                "{}: {within} lines from {line}",
                service.name
            );
        }
    }
    ensure!(summed_up, "no flood was so large that it was summed up");
    dir.passed()
}

/// Bodies that cannot be read, and a thousand connections that end in the middle of a request.
fn hostile(gateway: SocketAddr) -> Result<()> {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    // Refused, one way or the other.
                    let _ = post(
                        gateway,
                        "/logs",
                        &[("content-type", "application/json")],
                        b"[{",
                    );
                }
            });
        }
        for _ in 0..1_000 {
            let mut stream = TcpStream::connect(gateway)?;
            stream.write_all(b"POST /logs HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")?;
        }
        Ok(())
    })
}

/// Thousands of messages that are no records, in all partitions.
fn poison(stand: &Stand) -> Result<()> {
    let (broker, topic) = (stand.kafka(), &stand.plan.topic);
    let kcat = Command::new("kcat")
        .args(["-b", &broker, "-P", "-t", topic])
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut kcat) = kcat else {
        skip::skipped("logs with poison", "kcat is not installed");
        return Ok(());
    };
    let mut input = kcat.stdin.take().context("a standard input")?;
    input.write_all("no record\n".repeat(5_000).as_bytes())?;
    drop(input);
    ensure!(kcat.wait()?.success(), "kcat");
    let aside = poll_until(WITHIN, || {
        let aside = Stand::metric(&stand.writers, "consumer_poison_total");
        Ok(aside.filter(|aside| *aside > 1_000.0))
    })?;
    aside.context("the poison is not put aside").map(drop)
}

/// A byte of the last segment of every chain, before anybody has counted it. From now on logs are
/// JSON.
fn damage_all(stand: &mut Stand) -> Result<()> {
    stand.writers[0].terminate()?;
    stand.aggregator.terminate()?;
    let topic = stand.dir.join("small/logs/_live").join(&stand.plan.topic);
    let chains = newest(&topic)?;
    ensure!(chains.len() > 15, "{} chains", chains.len());
    for (_, path) in &chains {
        let mut bytes = fs::read(path)?;
        let middle = bytes.len() / 3;
        bytes[middle] ^= 0xff;
        let copy = path.with_extension("damaged");
        fs::write(&copy, bytes)?;
        fs::rename(&copy, path)?;
    }
    // Nothing is counted yet for an aggregator without its state.
    fs::remove_dir_all(stand.analytics_dir())?;
    as_json(&stand.writers[0].config)?;
    for service in [&mut stand.writers[0], &mut stand.aggregator] {
        service.start()?;
        service.wait_ready()?;
    }
    let halted = poll_until(WITHIN, || {
        let of_aggregator = stand.aggregator.metrics()?.sum("aggregation_chains_halted");
        let halted = Stand::metric(&stand.writers, "consumer_partitions_halted");
        Ok((halted > Some(15.0) && of_aggregator > Some(15.0)).then_some(()))
    })?;
    halted.context("the chains are not halted")
}

fn as_json(config: &Path) -> Result<()> {
    let text = fs::read_to_string(config)?;
    ensure!(text.contains("format: text"), "{text}");
    fs::write(config, text.replace("format: text", "format: json"))?;
    Ok(())
}

/// When a line was written, within its day: `…T01:02:03.456789Z…`.
fn micros(line: &str) -> Option<i64> {
    let line = line.strip_prefix("{\"timestamp\":\"").unwrap_or(line);
    let (time, _) = line.get(..27)?.split_once('T')?.1.split_once('Z')?;
    let mut parts = time.split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    Some(minutes * 60_000_000 + (seconds * 1e6) as i64)
}
