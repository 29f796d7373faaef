//! `counts distinct`: far more paths in one hour than are kept apart, and what that takes.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::{
    metrics::Metrics,
    process::{Process, free_port},
};

use super::{aggregator, config, store};

/// How long nothing may be counted.
const STALLED: Duration = Duration::from_secs(120);
const PARTS: u64 = 10;
/// Paths that come again and again, by one record in ten.
const AGAIN: u64 = 200;

/// Millions of distinct paths in one hour: memory bounded, totals exact, heavy hitters within error
///
/// An aggregator counts while a store is made beside it: nearly every record of 20 sites in one
/// hour asks for a path that nobody else asks for, one in ten for one of 200. At the end: the most
/// memory that was ever resident is under the bound; hour, day and each site have all requests;
/// each dimension's counts add up; none of the 200 has more than was made of it, nor less by more
/// than the stated error, and that is no more than the site's requests divided by its keys.
#[derive(clap::Args)]
pub struct Args {
    /// Distinct paths, about; a tenth more records are made
    #[arg(long, default_value_t = 50_000_000)]
    paths: u64,
    /// `aggregation.maxKeysPerHour`
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// MiB that may be resident at most
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    resident_max: u64,
    /// Another one with each piece
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave all of it there, for a next piece
    #[arg(long)]
    pub keep: bool,
    /// Go on with what the piece before has left: more of the same hour
    #[arg(long)]
    pub resume: bool,
}

pub fn run(args: &Args, dir: &Path) -> Result<()> {
    let more = args.paths + args.paths / 9;
    let truths = dir.join("truth");
    fs::create_dir_all(&truths)?;
    let mut made = store(dir);
    made.args(["--records", &more.to_string(), "--each", "50000"])
        .args(["--hours", "1", "--distinct", "--again", &AGAIN.to_string()])
        .args(["--seed", &args.seed.to_string()])
        .arg("--truth")
        .arg(truths.join(format!("{}-{more}", args.seed)));
    let before = made_so_far(&truths)?.1;
    let records = before + more;
    println!("\n{more} records beside {before}, in one hour");
    let mut made = Process::spawn(made, "store", &dir.join("store.log"))?;
    let peak = count(args, dir, records, &mut made)?;
    let truth = made_so_far(&truths)?.0;
    for file in ["summary_00.json", "summary.json"] {
        check(
            args,
            &dir.join("analytics/2026-01-01").join(file),
            records,
            &truth,
        )
        .with_context(|| format!("in {file}"))?;
    }
    let mib = peak >> 20;
    println!(
        "  the most that was resident: {mib} MiB, allowed are {}",
        args.resident_max
    );
    ensure!(mib <= args.resident_max, "{mib} MiB were resident");
    Ok(())
}

/// Counts until all is counted; gives the most bytes that were resident.
fn count(args: &Args, dir: &Path, records: u64, made: &mut Process) -> Result<u64> {
    let port = free_port();
    let config = config(
        dir,
        &format!(
            "interval: 1s, maxKeysPerHour: {}, adminAddr: \"127.0.0.1:{port}\"",
            args.keys
        ),
    )?;
    let mut process = Process::spawn(
        aggregator(&config),
        "aggregator",
        &dir.join("aggregator.log"),
    )?;
    let admin = ([127, 0, 0, 1], port).into();
    let began = Instant::now();
    let (mut counted, mut moved, mut shown) = (0, began, 0);
    while counted < records {
        thread::sleep(Duration::from_millis(500));
        if let Some(status) = process.ended()? {
            bail!("the aggregator ended: {status}\n{}", process.log_tail(20));
        }
        if made.ended()?.is_some_and(|status| !status.success()) {
            bail!("no store could be made\n{}", made.log_tail(20));
        }
        // It may not listen yet.
        let metrics = Metrics::scrape(admin).unwrap_or_default();
        let now = metrics
            .sum("aggregation_counted_records")
            .unwrap_or_default() as u64;
        if now > counted {
            (counted, moved) = (now, Instant::now());
        }
        ensure!(
            moved.elapsed() < STALLED,
            "nothing was counted for {STALLED:?}"
        );
        if counted * PARTS / records > shown {
            shown = counted * PARTS / records;
            println!(
                "  {:>5.1} s: {counted} of {records} counted, {} MiB resident, {:.1} s of CPU",
                began.elapsed().as_secs_f64(),
                process.memory()?.peak_bytes >> 20,
                process.cpu()?.as_secs_f64(),
            );
        }
    }
    // The summaries are written behind the last commit, and the reports behind these.
    let runs = || -> Result<f64> {
        let runs = Metrics::scrape(admin)?.sum("aggregation_runs_total");
        runs.context("no metric of runs")
    };
    let before = runs()?;
    while runs()? <= before {
        ensure!(moved.elapsed() < STALLED, "the last run does not end");
        thread::sleep(Duration::from_millis(500));
    }
    let peak = process.memory()?.peak_bytes;
    process.terminate()?;
    let status = process.wait(STALLED)?;
    ensure!(status.success(), "the aggregator ended with {status}");
    Ok(peak)
}

/// What all pieces have made, and how many records that is.
fn made_so_far(dir: &Path) -> Result<(Truth, u64)> {
    let (mut sum, mut records) = (Truth::new(), 0);
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        let made = name.split_once('-').context("an odd name")?.1;
        records += made.parse::<u64>()?;
        let piece: Truth = serde_json::from_slice(&fs::read(file.path())?)?;
        for (site, asked) in piece {
            let of_site = sum.entry(site).or_default();
            for (path, count) in asked {
                *of_site.entry(path).or_default() += count;
            }
        }
    }
    Ok((sum, records))
}

/// How often paths were asked for that come again, by site; the empty one: without a site.
type Truth = BTreeMap<String, BTreeMap<String, u64>>;

fn check(args: &Args, summary: &Path, records: u64, truth: &Truth) -> Result<()> {
    let summary: Value = serde_json::from_slice(&fs::read(summary)?)?;
    ensure!(
        summary["requests"] == records,
        "{} requests",
        summary["requests"]
    );
    let sites = summary["sites"].as_object().context("no sites")?;
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for (site, asked) in truth {
        for (path, count) in asked {
            *all.entry(path).or_default() += count;
        }
        if !site.is_empty() {
            let of_site = sites
                .get(site)
                .with_context(|| format!("{site} is missing"))?;
            let asked = asked.iter().map(|(path, count)| (path.as_str(), *count));
            let Found {
                keys,
                requests,
                error_max,
                ..
            } = of_table(of_site, asked).with_context(|| site.clone())?;
            ensure!(keys <= args.keys, "{site} has {keys} paths");
            ensure!(
                error_max <= requests / keys.max(1),
                "{site}: an error of {error_max}, with {requests} requests and {keys} paths"
            );
        }
    }
    let found = of_table(&summary, all.into_iter()).context("all sites")?;
    println!(
        "  {}: {} paths are kept apart, off by {} at most, {} of {} heavy ones listed and right, {} in all",
        summary
            .get("hour")
            .or(summary.get("day"))
            .unwrap_or(&Value::Null),
        found.keys,
        found.error_max,
        found.listed,
        found.heavy,
        found.requests
    );
    Ok(())
}

struct Found {
    requests: u64,
    keys: u64,
    error_max: u64,
    heavy: u64,
    listed: u64,
}

/// Compares the paths of a summary, or of a site in it, with what is known of some of them.
fn of_table<'a>(of: &Value, truth: impl Iterator<Item = (&'a str, u64)>) -> Result<Found> {
    let counts = of["requestsPerPath"].as_object().context("no paths")?;
    let requests = of["requests"].as_u64().context("no requests")?;
    for map in [
        "requestsPerPath",
        "requestsPerUserAgent",
        "requestsPerClient",
    ] {
        let counts = of[map].as_object().with_context(|| format!("no {map}"))?;
        let sum: u64 = counts.values().filter_map(Value::as_u64).sum();
        ensure!(
            sum == requests,
            "{map} adds up to {sum} of {requests} requests"
        );
    }
    let accuracy = &of["accuracy"]["requestsPerPath"];
    let error_max = accuracy["errorMax"].as_u64().unwrap_or_default();
    let mut found = Found {
        requests,
        keys: counts.len() as u64 - u64::from(counts.contains_key("other")),
        error_max,
        heavy: 0,
        listed: 0,
    };
    for (path, right) in truth {
        let listed = counts.get(path).and_then(Value::as_u64);
        let said = listed.unwrap_or_default();
        ensure!(
            said <= right && right <= said + error_max,
            "{path} was asked for {right} times: {said}, and at most {error_max} more"
        );
        found.heavy += 1;
        found.listed += u64::from(listed.is_some());
    }
    Ok(found)
}
