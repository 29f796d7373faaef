//! The gateway at full speed and at half of it, beside clients that produce to Kafka themselves.

use std::path::Path;

use anyhow::Result;
use testbed::{
    blast::{Blast, Media, blast},
    body::gzip,
    stand::{Plan, Stand},
};

use super::{
    Args, CONNECTIONS,
    ceiling::{self, Waiting},
    figure::{self, Figure},
    load, made, send, warm_up,
};

/// Of the latencies' run, at half of the maximum.
const HALF_LOAD_SECONDS: f64 = 10.0;

struct Case {
    name: &'static str,
    media: Media,
    gzip: bool,
}

const CASES: [Case; 3] = [
    Case {
        name: "NDJSON",
        media: Media::NdJson,
        gzip: false,
    },
    Case {
        name: "NDJSON, gzip",
        media: Media::NdJson,
        gzip: true,
    },
    Case {
        name: "JSON array",
        media: Media::JsonArray,
        gzip: false,
    },
];

pub fn run(args: &Args, dir: &Path, plan: Plan) -> Result<()> {
    let mut stand = Stand::prepare(dir, plan)?;
    stand.gateways[0].start()?;
    stand.gateways[0].wait_ready()?;
    warm_up(&mut stand)?;
    let topic = stand.plan.topic.clone();
    let ceiling = ceiling::produce(args, &topic)?;
    figure::head("gateway");
    ceiling.print("ceiling: only produced, 1,000-record batches", None);
    for each in [100, 1_000] {
        let bare = ceiling::produce_waiting(args, &topic, (CONNECTIONS, each), args.records, None)?;
        bare.figure.print(
            &format!("bare: {CONNECTIONS} clients produce {each} records"),
            Some(&ceiling),
        );
        let mut plain = None;
        for case in &CASES {
            let measured = full_speed(args, &mut stand, case, each, &ceiling, &bare)?;
            plain.get_or_insert(measured);
        }
        if let Some(plain) = plain {
            half_speed(args, &mut stand, each, &plain, &bare)?;
        }
    }
    stand.gateways[0].terminate()?;
    Ok(())
}

fn full_speed(
    args: &Args,
    stand: &mut Stand,
    case: &Case,
    each: u32,
    ceiling: &Figure,
    bare: &Waiting,
) -> Result<Figure> {
    let mut bodies = made(args, case.media, each)?;
    if case.gzip {
        bodies = bodies.iter().map(|body| gzip(body)).collect();
    }
    let mut load = load(&bodies, each, args.records);
    load.media = case.media;
    load.encoding = case.gzip.then_some("gzip");
    let (figure, done, split) = send(args, stand, &load)?;
    let what = format!("{}, {each} records a body{}", case.name, refused(&done));
    figure.print(&what, Some(ceiling));
    println!(
        "    {:.2} of the bare producers' records/s; p50 {:.1?}, p99 {:.1?} (bare {:.1?}, {:.1?})",
        figure.per_second() / bare.figure.per_second(),
        done.latencies.quantile(0.5),
        done.latencies.quantile(0.99),
        bare.p50,
        bare.p99
    );
    println!("    {split}");
    Ok(figure)
}

fn refused(done: &Blast) -> String {
    match done.refused {
        0 => String::new(),
        n => format!(" ({n} refused)"),
    }
}

/// From POST to 202 at half of what it can, beside a bare produce at the same rate.
fn half_speed(
    args: &Args,
    stand: &mut Stand,
    each: u32,
    plain: &Figure,
    bare: &Waiting,
) -> Result<()> {
    let rate = plain.per_second().min(bare.figure.per_second()) / 2.0;
    let records = (rate * HALF_LOAD_SECONDS) as u64;
    let topic = stand.plan.topic.clone();
    let clients = (CONNECTIONS, each);
    let bare = ceiling::produce_waiting(args, &topic, clients, records, Some(rate))?;
    let bodies = made(args, Media::NdJson, each)?;
    let mut load = load(&bodies, each, records);
    load.rate = Some(rate);
    let done = blast(stand.addresses[0], &load)?;
    let (p50, p99) = (done.latencies.quantile(0.5), done.latencies.quantile(0.99));
    println!(
        "    at {rate:.0} records/s, {each} a body: p50 {p50:.1?}, p99 {p99:.1?}; bare {:.1?}, {:.1?}; p99 ratio {:.2}{}",
        bare.p50,
        bare.p99,
        p99.as_secs_f64() / bare.p99.as_secs_f64(),
        refused(&done)
    );
    Ok(())
}
