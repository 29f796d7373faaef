//! The writer: a full topic read to its end, beside a client that only fetches it; then at low
//! load how soon a record is in a file.

use std::{fs, path::Path};

use anyhow::Result;
use testbed::{
    stand::{Plan, Stand},
    store,
};

use super::{
    Args, ceiling,
    cores::Cores,
    figure::{self, Figure},
    fill, store_all, visible,
};

struct Flush {
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
}

const FLUSHES: [Flush; 2] = [
    Flush {
        name: "512 / 500 ms (default)",
        settings: &[],
    },
    Flush {
        name: "4,096 / 100 ms",
        settings: &[
            ("consumer.flushSize", "4096"),
            ("consumer.flushInterval", "100ms"),
        ],
    },
];

pub fn run(args: &Args, dir: &Path, plan: Plan) -> Result<()> {
    let mut stand = Stand::prepare(dir, plan.clone())?;
    fill(args, &mut stand)?;
    let ceiling = ceiling::fetch(args, &plan.topic)?;
    figure::head("writer");
    ceiling.print("ceiling: only fetched", None);
    for flush in &FLUSHES {
        for consumers in [1, 2] {
            measure(args, dir, &plan, (flush, consumers), &ceiling)?;
        }
    }
    visible::run(args, &dir.join("visible"), plan)
}

/// The same topic into a store of its own, by a group of its own.
fn measure(
    args: &Args,
    dir: &Path,
    plan: &Plan,
    (flush, consumers): (&Flush, u32),
    ceiling: &Figure,
) -> Result<()> {
    let name = format!("{consumers}-{}", flush.settings.len());
    let mut plan = plan.clone();
    plan.consumers = consumers;
    let group = format!("{}-{name}", plan.topic);
    plan = plan.with("kafka.groupID", group);
    for (path, value) in flush.settings {
        plan = plan.with(path, value);
    }
    let mut stand = Stand::prepare(&dir.join(name), plan)?;
    let cores = Cores::watch(args)?;
    let figure = store_all(&mut stand, args.records)?;
    let split = cores.split("writer", figure.cpu)?;
    let what = format!("flush {}, {consumers} consumer(s)", flush.name);
    figure.print(&what, Some(ceiling));
    let segments = store::segments(&stand.logs_dir().join("_live").join(&stand.plan.topic))?;
    let mut bytes = 0;
    for segment in &segments {
        bytes += fs::metadata(segment)?.len();
    }
    println!(
        "    {:.2} of the ceiling's records/s; {} segments of {} records, {:.1} bytes a record",
        figure.per_second() / ceiling.per_second(),
        segments.len(),
        args.records / segments.len().max(1) as u64,
        bytes as f64 / args.records as f64,
    );
    println!("    {split}");
    // The store stays for now: making files is slow where many have just been removed (ext4 does
    // not use their inodes again for some seconds).
    stand.verify()?;
    Ok(())
}
