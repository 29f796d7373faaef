//! What the machine and Kafka could do if our stage did nothing of its own.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use super::{
    Args,
    figure::{Figure, children_cpu},
};
use crate::shell::{cargo, root};

/// Batches of 1,000 records, encoded and produced and nothing else.
pub fn produce(args: &Args, topic: &str) -> Result<Figure> {
    kafka(args, topic, "produce")
}

/// The topic, only fetched.
pub fn fetch(args: &Args, topic: &str) -> Result<Figure> {
    kafka(args, topic, "fetch")
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

fn kafka(args: &Args, topic: &str, mode: &str) -> Result<Figure> {
    let mut build = cargo(&["build", "--release", "--quiet", "--example", "ceiling"]);
    if !build.args(["--package", "kafka-link"]).status()?.success() {
        bail!("the ceiling does not build");
    }
    let (start, before) = (Instant::now(), children_cpu()?);
    let status = Command::new(root().join("target/release/examples/ceiling"))
        .args(["--broker", &args.kafka, "--topic", topic, "--mode", mode])
        .args(["--records", &args.records.to_string(), "--size", "195"])
        .args(["--codec", &args.compression])
        .stdout(Stdio::null())
        .status()
        .context("cannot start the ceiling")?;
    if !status.success() {
        bail!("ceiling --mode {mode} ended with {status}");
    }
    Ok(Figure {
        records: args.records,
        wall: start.elapsed(),
        cpu: children_cpu()? - before,
    })
}
