//! The aggregator, on a store that is made for it: no Kafka is needed. CPU is that of its process
//! from start to end, which is one thread. Everything is on (all measures, bot classes, reports, the
//! archive), but only one of the figures is of a run that archives what it counts: usually that is
//! the work of later ones, `archiveAfter` behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testbed::{duckdb, store, summaries};

use super::{
    Args,
    asks::Asks,
    ceiling,
    figure::{self, Figure, children_cpu},
};
use crate::shell::{build_aggregator, has, root};

/// Added to what is stored, and ten times that.
const NEW: u64 = 3_000;
/// How often: one takes too little to be measured alone.
const ROUNDS: u64 = 5;
const SEGMENTS: u64 = 10_000;
const TICKS: u32 = 10;

pub fn run(args: &Args, dir: &Path) -> Result<()> {
    build_aggregator(&["--example", "store"])?;
    fs::create_dir_all(dir)?;
    let mut bench = Bench {
        args,
        dir: dir.to_owned(),
        stored: 0,
        asks: Asks::default(),
    };
    let ours = bench.whole()?;
    bench.a_few_more()?;
    bench.ticks()?;
    bench.archive()?;
    bench.goaccess()?;
    bench.duckdb(&ours)?;
    bench.asks.print();
    Ok(())
}

struct Bench<'a> {
    args: &'a Args,
    dir: PathBuf,
    /// Records in the store of [`ALL`].
    stored: u64,
    asks: Asks,
}

/// What a run keeps apart from others.
struct Place {
    logs: &'static str,
    analytics: &'static str,
    /// Of records that have just been stored.
    archive_after: &'static str,
}

const ALL: Place = Place {
    logs: "logs",
    analytics: "analytics",
    archive_after: "3h",
};
const TENTH: Place = Place {
    logs: "logs-tenth",
    analytics: "analytics-tenth",
    ..ALL
};
const MANY: Place = Place {
    logs: "logs-many",
    analytics: "analytics-many",
    ..ALL
};
const ARCHIVED: Place = Place {
    analytics: "analytics-archived",
    archive_after: "0s",
    ..ALL
};

impl Bench<'_> {
    /// Everything from the beginning, beside its ceiling.
    fn whole(&mut self) -> Result<Figure> {
        let records = self.args.records;
        println!("making stores of {records} and {} records", records / 10);
        self.store_more(records, 1)?;
        self.store(&TENTH, records / 10, 512, 1)?;
        let ceiling = ceiling::scan(&self.segments()?, records)?;
        figure::head("aggregator");
        ceiling.print("ceiling: zstdcat | wc -l", None);
        let tenth = self.best(&TENTH, records / 10)?;
        tenth.print("a tenth, best of three", None);
        let ours = self.best(&ALL, records)?;
        ours.print("aggregator --once, best of three", Some(&ceiling));
        let counted = summaries::total(&self.dir.join(ALL.analytics))?;
        if counted != records {
            bail!("{counted} of {records} records are counted");
        }
        let (each, ceiling) = (ours.per_cpu_second(), ceiling.per_cpu_second());
        let asks = &mut self.asks;
        asks.at_least("records a second of one core", each, 1e6);
        asks.at_most("times what zstdcat | wc -l takes", ceiling / each, 3.0);
        let growth = ours.cpu.as_secs_f64() / tenth.cpu.as_secs_f64();
        asks.at_most("times as long for ten times as much", growth, 10.0);
        self.reports()?;
        Ok(ours)
    }

    fn best(&self, place: &Place, records: u64) -> Result<Figure> {
        best((0..3).map(|_| self.anew(place, records)))
    }

    /// Everything from the beginning, once.
    fn anew(&self, place: &Place, records: u64) -> Result<Figure> {
        let analytics = self.dir.join(place.analytics);
        if analytics.exists() {
            fs::remove_dir_all(&analytics)?;
        }
        self.once(place, records)
    }

    /// What of that the pages took: a run that makes nothing but them.
    fn reports(&self) -> Result<()> {
        let analytics = self.dir.join(ALL.analytics);
        let (mut nothing, mut again) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            nothing += self.once(&ALL, 0)?.cpu;
            for dir in ["reports", "_state/reports"] {
                fs::remove_dir_all(analytics.join(dir))?;
            }
            fs::remove_file(analytics.join("report.html"))?;
            again += self.once(&ALL, 0)?.cpu;
            if !analytics.join("report.html").exists() {
                bail!("the reports were not made again");
            }
        }
        println!(
            "  of that the reports: {:.0} ms of CPU",
            ms(again.saturating_sub(nothing)) / ROUNDS as f64
        );
        Ok(())
    }

    /// A few new records over all that is there: what a run of cron costs.
    fn a_few_more(&mut self) -> Result<()> {
        figure::head("new records over those");
        let rounds = |bench: &mut Self, new: u64, seed: u64| -> Result<Figure> {
            let (mut wall, mut cpu) = (Duration::ZERO, Duration::ZERO);
            for round in 0..ROUNDS {
                if new > 0 {
                    bench.store_more(new, seed + round)?;
                }
                let figure = bench.once(&ALL, new)?;
                (wall, cpu) = (wall + figure.wall, cpu + figure.cpu);
            }
            Ok(Figure {
                records: new * ROUNDS,
                wall,
                cpu,
            })
        };
        let nothing = rounds(self, 0, 0)?;
        nothing.print(&format!("nothing new, start to end, {ROUNDS} times"), None);
        let few = rounds(self, NEW, 20)?;
        few.print(&format!("{NEW} new, {ROUNDS} times"), None);
        let more = rounds(self, 10 * NEW, 40)?;
        more.print(&format!("{} new, {ROUNDS} times", 10 * NEW), None);
        let each = |figure: &Figure| ms(figure.cpu) / ROUNDS as f64;
        self.asks
            .at_most("ms for 3,000 new records, start to end", each(&few), 100.0);
        let growth = each(&more) / each(&few);
        self.asks
            .at_most("times as long for 30,000 new ones", growth, 10.0);
        Ok(())
    }

    /// A process that goes on and finds nothing new.
    fn ticks(&mut self) -> Result<()> {
        println!("making a store of {SEGMENTS} segments");
        self.store(&MANY, SEGMENTS, 1, 4)?;
        self.once(&MANY, SEGMENTS)?;
        let mut process = self.aggregator(&MANY)?.stderr(Stdio::null()).spawn()?;
        let stat = format!("/proc/{}/stat", process.id());
        // The first run looks at everything.
        thread::sleep(Duration::from_secs(3));
        let before = figure::cpu_of(&stat)?;
        thread::sleep(Duration::from_secs(u64::from(TICKS)));
        let cpu = figure::cpu_of(&stat)? - before;
        process.kill()?;
        process.wait()?;
        let each = ms(cpu) / f64::from(TICKS);
        self.asks
            .at_most("ms for a tick with 10,000 segments", each, 10.0);
        Ok(())
    }

    /// The same counted and archived in one run, and what that takes of memory.
    fn archive(&self) -> Result<()> {
        figure::head("counted and archived");
        let (figure, peak) = self.measured(&ARCHIVED, self.stored)?;
        figure.print("aggregator --once, archiveAfter 0s", None);
        let archive = format!("{}-archive", ARCHIVED.analytics);
        if !self.dir.join(archive).exists() {
            bail!("nothing was archived");
        }
        println!("  the most memory meanwhile (RSS): {} MiB", peak >> 20);
        Ok(())
    }

    fn duckdb(&mut self, ours: &Figure) -> Result<()> {
        const ASK: &str = "times as fast as DuckDB's two group-bys";
        if !duckdb::is_there() {
            let why = "python3 has no duckdb (pip install duckdb)";
            self.asks.skipped(ASK, why);
            return Ok(());
        }
        let ndjson = self.dir.join("records.ndjson");
        duckdb::unpack(&self.segments()?, &ndjson)?;
        let figure = timed(self.stored, || duckdb::two_group_bys(&ndjson))?;
        figure.print("DuckDB: two group-bys of plain NDJSON, one thread", None);
        let times = ours.per_cpu_second() / figure.per_cpu_second();
        self.asks.at_least(ASK, times, 2.0);
        let analytics = self.dir.join(ALL.analytics);
        println!("  DuckDB says: {}", duckdb::check(&ndjson, &analytics)?);
        fs::remove_file(ndjson)?;
        Ok(())
    }

    /// On the same lines as it reads them, so only those of a log.
    fn goaccess(&mut self) -> Result<()> {
        const ASK: &str = "times as fast as GoAccess";
        if !has("goaccess") {
            self.asks.skipped(ASK, "goaccess is not installed");
            return Ok(());
        }
        let Some(log) = &self.args.input else {
            self.asks
                .skipped(ASK, "there is no log that it could read (--input)");
            return Ok(());
        };
        let text = fs::read(log)?;
        let lines = text.split(|byte| *byte == b'\n').count() as u64;
        let mut all = Vec::new();
        let times = (self.stored / lines).max(1);
        for _ in 0..times {
            all.extend_from_slice(&text);
        }
        let file = self.dir.join("access.log");
        fs::write(&file, all)?;
        // In turn: a machine that is slower for a while is so for both.
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            ours.push(self.anew(&ALL, self.stored));
            theirs.push(timed(times * lines, || {
                let mut goaccess = Command::new("goaccess");
                goaccess
                    .arg(&file)
                    .args(["--log-format=COMBINED", "--no-progress", "-o"]);
                goaccess
                    .arg(self.dir.join("goaccess.json"))
                    .stdin(Stdio::null())
                    .stdout(Stdio::null());
                if !goaccess.status()?.success() {
                    bail!("goaccess failed");
                }
                Ok(())
            }));
        }
        let (ours, theirs) = (best(ours)?, best(theirs)?);
        theirs.print("GoAccess to JSON, best of three", None);
        ours.print("aggregator --once beside it, best of three", None);
        let times = ours.per_cpu_second() / theirs.per_cpu_second();
        self.asks.at_least(ASK, times, 20.0);
        fs::remove_file(file)?;
        Ok(())
    }

    fn store_more(&mut self, records: u64, seed: u64) -> Result<()> {
        self.stored += records;
        self.store(&ALL, records, 512, seed)
    }

    fn store(&self, place: &Place, records: u64, each: u32, seed: u64) -> Result<()> {
        let mut store = Command::new(root().join("target/release/examples/store"));
        store.arg("--logs").arg(self.dir.join(place.logs));
        store.args(["--records", &records.to_string()]);
        store.args(["--each", &each.to_string(), "--seed", &seed.to_string()]);
        if let Some(input) = &self.args.input {
            store.arg("--input").arg(input);
        }
        if !store.status()?.success() {
            bail!("cannot make a store");
        }
        Ok(())
    }

    fn segments(&self) -> Result<Vec<PathBuf>> {
        store::segments(&self.dir.join(ALL.logs).join("_live/logs"))
    }

    fn aggregator(&self, place: &Place) -> Result<Command> {
        let analytics = place.analytics;
        let file = self.dir.join(format!("{analytics}.yaml"));
        let yaml = format!(
            "dataDir: {}\nkafka: {{brokers: [\"127.0.0.1:9\"], groupID: bench}}\n\
             storage: {{logsDir: {}, analyticsDir: {analytics}, archiveDir: {analytics}-archive}}\n\
             aggregation: {{interval: 1s, archiveAfter: {}, adminAddr: \"127.0.0.1:0\"}}\n\
             telemetry: {{log: {{level: warn}}}}\n",
            self.dir.display(),
            place.logs,
            place.archive_after,
        );
        fs::write(&file, yaml)?;
        let mut aggregator = Command::new(root().join("target/release/aggregator"));
        aggregator.arg("--config").arg(file);
        Ok(aggregator)
    }

    fn once(&self, place: &Place, records: u64) -> Result<Figure> {
        Ok(self.measured(place, records)?.0)
    }

    /// One run, and the most bytes that it held.
    fn measured(&self, place: &Place, records: u64) -> Result<(Figure, u64)> {
        let mut peak = 0;
        let figure = timed(records, || {
            let mut run = self.aggregator(place)?.arg("--once").spawn()?;
            let status = loop {
                if let Some(status) = run.try_wait()? {
                    break status;
                }
                // The kernel's own peak, as it stood last.
                peak = figure::peak_of(run.id()).unwrap_or(peak).max(peak);
                thread::sleep(Duration::from_millis(5));
            };
            if !status.success() {
                bail!("aggregator --once ended with {status}");
            }
            Ok(())
        })?;
        Ok((figure, peak))
    }
}

/// The one of least CPU.
fn best(runs: impl IntoIterator<Item = Result<Figure>>) -> Result<Figure> {
    let runs: Vec<Figure> = runs.into_iter().collect::<Result<_>>()?;
    let best = runs.into_iter().min_by_key(|figure| figure.cpu);
    best.context("at least one run")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn timed(records: u64, run: impl FnOnce() -> Result<()>) -> Result<Figure> {
    let (start, before) = (Instant::now(), children_cpu()?);
    run()?;
    Ok(Figure {
        records,
        wall: start.elapsed(),
        cpu: children_cpu()? - before,
    })
}
