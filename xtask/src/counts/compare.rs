//! `counts compare`: every count of every summary beside what DuckDB computes.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use testbed::{
    duckdb::{self, Check},
    store, summaries,
};

use super::{aggregator, config, example, succeeds};
use crate::shell::strict;

/// Each run but the first finds hours that were counted and archived before.
const RUNS: u64 = 3;

/// Every count of every summary against DuckDB, hour by hour (needs python3 with duckdb, zstd)
///
/// Makes a store of so many records over 90 days and 20 sites, some without a site or with no more
/// than the required fields, and counts and archives it in three runs, each with records for hours
/// that were counted before. DuckDB then computes every number of each hour's and day's summary, of
/// all sites and of each, from the raw NDJSON (`zstdcat` over the segments) and again from the
/// archive: all must be equal, and quantiles within their stated error. What a user agent is, the
/// classifier says (`--example agents`); how often each was seen, DuckDB. With --input the same for
/// the lines of an access log.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    #[arg(long, default_value_t = 90)]
    days: u32,
    #[arg(long, default_value_t = 20)]
    sites: u32,
    /// An access log (combined), compared too
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args, dir: &Path) -> Result<()> {
    if !duckdb::is_there() {
        if strict() {
            bail!("python3 has no duckdb: `.ci/run` installs it");
        }
        println!("SKIPPED counts compare: python3 has no duckdb (pip install duckdb)");
        return Ok(());
    }
    if let Some(input) = &args.input {
        let text = fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
        let lines = text.split(|byte| *byte == b'\n').count() as u64;
        println!("\n{} ({lines} lines), {RUNS} times", input.display());
        compare(&dir.join("log"), RUNS * lines, args.seed, |store| {
            store.arg("--input").arg(input);
        })?;
    }
    let Args {
        records,
        days,
        sites,
        ..
    } = args;
    println!("\n{records} made records over {days} days and {sites} sites");
    compare(&dir.join("made"), *records, args.seed, |store| {
        store.args(["--days", &days.to_string(), "--sites", &sites.to_string()]);
    })
}

fn compare(
    dir: &Path,
    records: u64,
    seed: u64,
    of: impl Fn(&mut std::process::Command),
) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let config = config(dir, "archiveAfter: 0ms")?;
    let began = Instant::now();
    for run in 0..RUNS {
        // The first has what the division leaves.
        let part = records / RUNS + if run == 0 { records % RUNS } else { 0 };
        let mut store = super::store(dir);
        store.args(["--records", &part.to_string(), "--each", "5000"]);
        store.args(["--seed", &(seed * RUNS + run).to_string()]);
        of(&mut store);
        succeeds(&mut store)?;
        succeeds(aggregator(&config).arg("--once"))?;
        println!("  {:>5.1} s: {part} more counted", seconds(began));
    }
    let analytics = dir.join("analytics");
    let counted = summaries::total(&analytics)?;
    ensure!(
        counted == records,
        "{counted} of {records} records are counted"
    );

    let ndjson = dir.join("records.ndjson");
    duckdb::unpack(&store::segments(&dir.join("logs/_live/logs"))?, &ndjson)?;
    let classes = classes(dir, &ndjson)?;
    for (name, records) in [
        ("the raw NDJSON", &ndjson),
        ("the archive", &dir.join("archive")),
    ] {
        let check = Check {
            records,
            analytics: &analytics,
            classes: Some(&classes),
            progress: true,
        };
        let said = check.run().with_context(|| format!("from {name}"))?;
        println!("  {:>5.1} s: from {name}: {said}", seconds(began));
        let all = format!(" numbers of {counted} records");
        ensure!(said.contains(&all), "it has not seen all {counted} records");
    }
    Ok(())
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// What the classifier says of each agent of the records, as the check reads it.
fn classes(dir: &Path, ndjson: &Path) -> Result<PathBuf> {
    let agents = duckdb::agents(ndjson)?;
    let asked = dir.join("agents.txt");
    fs::write(&asked, agents.join("\n") + "\n")?;
    let output = example("agents")
        .stdin(File::open(&asked)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start the classifier")?;
    ensure!(output.status.success(), "the classifier failed");
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        said.lines().count() == agents.len(),
        "{} classes for {} agents",
        said.lines().count(),
        agents.len()
    );
    let path = dir.join("classes.ndjson");
    let mut file = File::create(&path)?;
    for (agent, line) in agents.iter().zip(said.lines()) {
        let mut cells = line.split('\t');
        let mut cell = || cells.next().unwrap_or_default();
        let (class, name, operator, purpose) = (cell(), cell(), cell(), cell());
        let class = json!({
            "agent": agent, "class": class, "name": name, "operator": operator, "purpose": purpose,
        });
        writeln!(file, "{class}")?;
    }
    Ok(path)
}
