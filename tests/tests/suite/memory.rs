//! The memory budget: what does not fit is refused before it is read, what is refused is not kept,
//! and the process stays within it, whatever comes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use testbed::{
    bomb,
    http::{Client, Request, Response, post},
    load::Plan as Load,
    overload,
    process::poll_until,
    skip,
    stand::{Plan, Stand},
};

use crate::{RunDir, assert_holds, load};

const MIB: u64 = 1 << 20;
const NDJSON: &str = "application/x-ndjson";
const RECORD: &str = r#"{"timestamp":"2025-05-17T10:05:03Z","site":"shop.example","method":"GET","path":"/products/17","status":200,"bytes":512,"userAgent":"Mozilla/5.0 Chrome/137.0"}"#;
/// For whatever is to happen at once.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn bombs_of_10_gb_get_413_and_cost_next_to_nothing() -> Result<()> {
    let dir = RunDir::new("bombs");
    let mut stand = gateway_alone(&dir, "512MiB")?;
    let gateway = stand.addresses[0];
    type Make = fn(&[u8], u64) -> Vec<u8>;
    let encodings: [(&str, Make); 3] = [
        ("gzip", bomb::gzip),
        ("zstd", bomb::zstd),
        ("br", bomb::brotli),
    ];
    let records = format!("{RECORD}\n");
    for (encoding, make) in encodings {
        for (what, text) in [("zeros", &[0][..]), ("records", records.as_bytes())] {
            // What is made once is not of a bomb's doing.
            let headers = [("content-type", NDJSON), ("content-encoding", encoding)];
            let warm = post(gateway, "/logs", &headers, &make(text, 0))?;
            assert!(
                matches!(warm.status, 202 | 400),
                "{encoding} {what}: {}",
                warm.text()
            );
            let bomb = make(text, 10_000_000_000);
            let process = stand.gateways[0].process()?;
            process.forget_peak()?;
            let before = process.memory()?.resident_bytes;
            // With a key its length has to be known before it is hashed. Zeros are no JSON: what is
            // both unreadable and too long is too long.
            let keyed = [
                ("content-type", "application/json"),
                ("content-encoding", encoding),
                ("idempotency-key", "bomb"),
            ];
            let tried: &[&[_]] = match what {
                "zeros" => &[&headers, &keyed],
                _ => &[&headers],
            };
            for headers in tried {
                let answer = post(gateway, "/logs", headers, &bomb)?;
                let said = answer.text();
                assert_eq!(answer.status, 413, "{encoding} {what} {headers:?}: {said}");
            }
            let peak = stand.gateways[0].process()?.memory()?.peak_bytes;
            let growth = peak.saturating_sub(before);
            println!("{encoding} {what}: {} KiB of growth", growth / 1024);
            assert!(
                growth < 16 * MIB,
                "{encoding} {what}: {growth} bytes of growth"
            );
        }
    }
    at_zero(&stand)?;
    dir.passed()
}

#[test]
fn overload_with_kafka_frozen_stays_within_the_budget_and_costs_no_accepted_record() -> Result<()> {
    let plan = Plan::from_env();
    if plan.kafka.is_some() {
        skip::optional(
            "overload with Kafka frozen",
            "this broker is not ours to stop",
        );
        return Ok(());
    }
    let dir = RunDir::new("overload");
    let mut mix = load(71).mix;
    mix.records = (1_000, 4_000);
    let plan = overload::Plan {
        stand: plan
            .with("server.memoryBudget", "32MiB")
            .with("server.requestTimeout", "10s"),
        load: Load {
            mix,
            connections: 96,
            rate: None,
            patience: Duration::from_secs(1),
            ..Load::default()
        },
        frozen: Duration::from_secs(8),
        rest_within: Duration::from_secs(240),
    };
    let outcome = overload::run(&dir, &plan, &mut |line| println!("{line}"))?;
    println!("{outcome}");
    assert_holds(&outcome.verdict);
    // Each answer that refuses says when to come back, and none is another than 429 and 503.
    assert_eq!(outcome.ledger.faults, Vec::<String>::new());
    assert!(
        outcome.ledger.answered("429") + outcome.ledger.answered("503 memory") > 0,
        "it was no overload: {}",
        outcome.ledger
    );
    assert!(
        outcome.peak_bytes < (32 + 64) * MIB,
        "{} bytes were resident: {outcome}",
        outcome.peak_bytes
    );
    dir.passed()
}

#[test]
fn of_many_bodies_at_once_those_that_do_not_fit_are_refused_and_the_others_kept() -> Result<()> {
    let dir = RunDir::new("many-bodies");
    let stand = gateway_alone(&dir, "16MiB")?;
    let gateway = stand.addresses[0];
    // 14 MiB are for bodies: of 12 with 2 MiB each, all but their last record sent.
    let body = format!("{RECORD}\n").repeat(2 * MIB as usize / (RECORD.len() + 1));
    let sent = body.len() - RECORD.len();
    let mut clients = (0..12)
        .map(|_| {
            let mut stream = connect(gateway)?;
            stream.write_all(&head(body.len(), ""))?;
            // One that is refused need not take it all.
            let _ = stream.write_all(&body.as_bytes()[..sent]);
            Ok(stream)
        })
        .collect::<Result<Vec<_>>>()?;
    let (mut kept, mut refused) = (0, 0);
    for stream in &mut clients {
        let _ = stream.write_all(&body.as_bytes()[sent..]);
        let said = hear(stream)?;
        match status(&said) {
            202 => kept += 1,
            503 => {
                assert!(said.contains(r#""code":"memory""#), "{said}");
                assert!(
                    said.to_ascii_lowercase().contains("retry-after: "),
                    "{said}"
                );
                refused += 1;
            }
            _ => panic!("{said}"),
        }
    }
    assert!(kept > 0 && refused > 0, "{kept} kept, {refused} refused");
    let records = kept * body.lines().count();
    let accepted = Stand::metric(&stand.gateways, "log_records_accepted_total");
    assert_eq!(accepted, Some(records as f64));
    at_zero(&stand)?;
    dir.passed()
}

#[test]
fn a_body_without_room_is_not_asked_for_and_one_that_never_has_it_is_too_large() -> Result<()> {
    let dir = RunDir::new("no-room");
    let stand = gateway_alone(&dir, "16MiB")?;
    let gateway = stand.addresses[0];
    let large = 9 * MIB as usize;
    let mut holder = connect(gateway)?;
    holder.write_all(&head(large, ""))?;
    holder.write_all(
        format!("{RECORD}\n")
            .repeat(large / (RECORD.len() + 1))
            .as_bytes(),
    )?;
    let mut used = None;
    poll_until(SOON, || {
        used = Stand::metric(&stand.gateways, "ingestion_memory_used_bytes");
        Ok(used.filter(|used| *used > 8e6).map(|_| ()))
    })?
    .with_context(|| format!("{used:?} in use"))?;

    let mut asking = connect(gateway)?;
    asking.write_all(&head(large, "expect: 100-continue\r\n"))?;
    let said = hear(&mut asking)?;
    assert_eq!(status(&said), 503, "{said}");
    assert!(said.contains(r#""code":"memory""#), "{said}");

    // What is small has its place beside it, and what needs none is always answered.
    let headers = [("content-type", NDJSON)];
    assert_eq!(
        post(gateway, "/logs", &headers, RECORD.as_bytes())?.status,
        202
    );
    assert_eq!(get(gateway, "/readyz")?.status, 200);

    let mut never = connect(gateway)?;
    never.write_all(&head(15 * MIB as usize, "expect: 100-continue\r\n"))?;
    let said = hear(&mut never)?;
    assert_eq!(status(&said), 413, "{said}");
    assert!(said.contains("server.memoryBudget"), "{said}");

    // Its client goes away in the middle of it: its share comes back.
    drop(holder);
    at_zero(&stand)?;
    dir.passed()
}

/// No writer, no aggregator; Kafka is away, so that what is accepted is on the disk.
fn gateway_alone(dir: &RunDir, budget: &str) -> Result<Stand> {
    let plan = Plan {
        kafka: Some(format!("127.0.0.1:{}", testbed::process::free_port())),
        writers: 0,
        aggregator: false,
        ..Plan::default()
    };
    Stand::up(dir, plan.with("server.memoryBudget", budget))
}

fn at_zero(stand: &Stand) -> Result<()> {
    let mut used = None;
    let zero = poll_until(SOON, || {
        used = Stand::metric(&stand.gateways, "ingestion_memory_used_bytes");
        Ok((used == Some(0.0)).then_some(()))
    })?;
    zero.with_context(|| format!("{used:?} bytes of the budget are in use with nothing to do"))
}

fn get(gateway: SocketAddr, target: &str) -> Result<Response> {
    let mut client = Client::new(gateway, SOON);
    Ok(client.send(&Request {
        method: "GET",
        target,
        headers: &[],
        body: b"",
    })?)
}

fn connect(gateway: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(gateway)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    Ok(stream)
}

fn head(length: usize, more: &str) -> Vec<u8> {
    let head = format!(
        "POST /logs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {NDJSON}\r\n\
         content-length: {length}\r\n{more}\r\n"
    );
    head.into_bytes()
}

/// All that comes.
fn hear(stream: &mut TcpStream) -> Result<String> {
    let mut said = Vec::new();
    // A connection that is reset behind the answer has still brought it.
    if let Err(error) = stream.read_to_end(&mut said)
        && said.is_empty()
    {
        return Err(error.into());
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn status(said: &str) -> u16 {
    let code = said.split(' ').nth(1);
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}
