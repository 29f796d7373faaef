//! What the machine and Kafka could do if our stage did nothing of its own.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Args,
    figure::{Figure, children_cpu},
};
use crate::shell::{cargo, root};

/// Batches of 1,000 records to all partitions at once, encoded and produced and nothing else.
pub fn produce(args: &Args, topic: &str) -> Result<Figure> {
    Ok(kafka(args, topic, "produce", args.records, &[])?.0)
}

/// What clients reach that produce themselves: each sends a batch, waits for Kafka, and sends the
/// next.
pub struct Waiting {
    pub figure: Figure,
    pub p50: Duration,
    pub p99: Duration,
}

/// So many clients with batches of `each` records; at full speed, or at `rate` records a second.
pub fn produce_waiting(
    args: &Args,
    topic: &str,
    (connections, each): (usize, u32),
    records: u64,
    rate: Option<f64>,
) -> Result<Waiting> {
    let mut options = vec!["--connections".to_owned(), connections.to_string()];
    options.extend(["--each".to_owned(), each.to_string()]);
    if let Some(rate) = rate {
        options.extend(["--rate".to_owned(), rate.to_string()]);
    }
    let (figure, said) = kafka(args, topic, "produce", records, &options)?;
    let mut words = said.split_whitespace();
    let mut micros = |name: &str| -> Result<Duration> {
        let mut after = words.by_ref().skip_while(|word| *word != name).skip(1);
        let value = after.next().context("the ceiling says no quantile")?;
        Ok(Duration::from_micros(value.parse()?))
    };
    Ok(Waiting {
        figure,
        p50: micros("p50_us")?,
        p99: micros("p99_us")?,
    })
}

/// The topic, only fetched.
pub fn fetch(args: &Args, topic: &str) -> Result<Figure> {
    Ok(kafka(args, topic, "fetch", args.records, &[])?.0)
}

/// The same segments, only decompressed and their newlines counted.
pub fn scan(segments: &[PathBuf], records: u64) -> Result<Figure> {
    let (start, before) = (Instant::now(), children_cpu()?);
    let mut lines = 0;
    // As many files as a command line takes.
    for part in segments.chunks(2_000) {
        let mut zstdcat = Command::new("zstdcat")
            .args(part)
            .stdout(Stdio::piped())
            .spawn()
            .context("zstdcat")?;
        let pipe = zstdcat.stdout.take().context("zstdcat has an output")?;
        let output = Command::new("wc")
            .arg("-l")
            .stdin(pipe)
            .output()
            .context("wc")?;
        if !zstdcat.wait()?.success() {
            bail!("zstdcat does not like a segment");
        }
        lines += String::from_utf8(output.stdout)?.trim().parse::<u64>()?;
    }
    if lines != records {
        bail!("{lines} lines in the segments, not {records}");
    }
    Ok(Figure {
        records,
        wall: start.elapsed(),
        cpu: children_cpu()? - before,
    })
}

fn kafka(
    args: &Args,
    topic: &str,
    mode: &str,
    records: u64,
    options: &[String],
) -> Result<(Figure, String)> {
    let mut build = cargo(&["build", "--release", "--quiet", "--example", "ceiling"]);
    if !build.args(["--package", "kafka-link"]).status()?.success() {
        bail!("the ceiling does not build");
    }
    let (start, before) = (Instant::now(), children_cpu()?);
    let output = Command::new(root().join("target/release/examples/ceiling"))
        .args(["--broker", &args.kafka, "--topic", topic, "--mode", mode])
        .args(["--records", &records.to_string(), "--size", "195"])
        .args(["--codec", &args.compression])
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start the ceiling")?;
    if !output.status.success() {
        bail!("ceiling --mode {mode} ended with {}", output.status);
    }
    let figure = Figure {
        records,
        wall: start.elapsed(),
        cpu: children_cpu()? - before,
    };
    Ok((figure, String::from_utf8(output.stdout)?))
}
