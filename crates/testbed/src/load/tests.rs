//! The load client against a gateway of a few lines that answers as it is told.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
};

use super::*;

/// What the fake does with a request: an answer's bytes, or none at all.
type Script = dyn Fn(&Seen) -> Option<String> + Send + Sync;

/// A request as the fake sees it.
struct Seen {
    key: Option<String>,
    /// How often this key has come, this time included; 1 without a key.
    times: u32,
}

#[derive(Default)]
struct Log {
    times: HashMap<String, u32>,
    encodings: HashMap<String, Vec<bool>>,
}

fn fake(script: &'static Script) -> (SocketAddr, Arc<Mutex<Log>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let log = Arc::new(Mutex::new(Log::default()));
    let shared = Arc::clone(&log);
    spawn(move || {
        for stream in listener.incoming() {
            let (stream, log) = (stream.expect("a connection"), Arc::clone(&shared));
            spawn(move || serve(stream, &log, script));
        }
    });
    (address, log)
}

fn serve(stream: TcpStream, log: &Mutex<Log>, script: &Script) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut key, mut encoded) = (0, None, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            match name {
                "content-length" => length = value.parse().expect("a number"),
                "idempotency-key" => key = Some(value.to_owned()),
                "content-encoding" => encoded = true,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let times = key.clone().map_or(1, |key| {
            let mut log = log.lock().expect("no panic");
            log.encodings.entry(key.clone()).or_default().push(encoded);
            let times = log.times.entry(key).or_insert(0);
            *times += 1;
            *times
        });
        let answer = script(&Seen { key, times })?;
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn plan() -> Plan {
    let mix = Mix {
        records: (3, 3),
        broken_every: 0,
        ..Mix::default()
    };
    Plan {
        mix,
        rate: None,
        requests: Some(40),
        ..Plan::default()
    }
}

const TAKEN: &str = r#"{"accepted":3,"rejected":0,"kept":"kafka","errors":[]}"#;

#[test]
fn a_tenth_comes_again_with_its_key_in_the_other_encoding() {
    let (gateway, log) = fake(&|_| Some(answer("202 Accepted", "", TAKEN)));
    let ledger = Load::start(&[gateway], plan()).finish();
    assert_eq!(ledger.accepted(), 120, "{ledger}");
    assert_eq!(ledger.answered("202 kafka"), 44, "{ledger}");
    assert!(ledger.faults.is_empty(), "{:?}", ledger.faults);
    let log = log.lock().expect("no panic");
    let twice: Vec<_> = log.times.iter().filter(|(_, times)| **times == 2).collect();
    assert_eq!(twice.len(), 4, "{twice:?}");
    for (key, _) in twice {
        let encodings = &log.encodings[key];
        assert_ne!(encodings[0], encodings[1], "{key}");
    }
}

#[test]
fn without_an_answer_only_a_keyed_request_is_tried_again() {
    // The first try of each key, and everything without one, is read and never answered.
    let (gateway, _) = fake(&|seen| {
        (seen.key.is_some() && seen.times > 1).then(|| answer("202 Accepted", "", TAKEN))
    });
    let ledger = Load::start(&[gateway], plan()).finish();
    // Four of ten requests have a key.
    assert_eq!(ledger.records(Fate::Accepted), 48, "{ledger}");
    assert_eq!(ledger.records(Fate::Unknown), 72, "{ledger}");
    assert_eq!(ledger.answered("no answer"), 40, "{ledger}");
}

#[test]
fn a_refusal_is_tried_again_and_one_without_retry_after_is_a_fault() {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    let (gateway, _) = fake(&|_| {
        Some(if REFUSED.swap(true, Ordering::Relaxed) {
            answer("202 Accepted", "", TAKEN)
        } else {
            answer("429 Too Many Requests", "", r#"{"code":"queue_full"}"#)
        })
    });
    let ledger = Load::start(&[gateway], plan()).finish();
    assert_eq!(ledger.accepted(), 120, "{ledger}");
    assert_eq!(ledger.answered("429 queue_full"), 1, "{ledger}");
    assert_eq!(ledger.faults.len(), 1, "{:?}", ledger.faults);
}

#[test]
fn some_give_up_when_they_are_refused_and_none_repeats_what_no_window_would_know() {
    let (gateway, log) = fake(&|seen| match seen.key {
        Some(_) => None,
        None => Some(answer(
            "503 Service Unavailable",
            "retry-after: 1\r\n",
            r#"{"code":"draining"}"#,
        )),
    });
    let plan = Plan {
        requests: Some(10),
        patience: Duration::ZERO,
        repeat: false,
        give_up_every: Some(1),
        ..plan()
    };
    let ledger = Load::start(&[gateway], plan).finish();
    assert_eq!(ledger.answered("503 draining"), 6, "{ledger}");
    assert_eq!(ledger.records(Fate::Refused), 18, "{ledger}");
    assert_eq!(ledger.records(Fate::Unknown), 12, "{ledger}");
    let log = log.lock().expect("no panic");
    assert!(
        log.times.values().all(|times| *times == 1),
        "{:?}",
        log.times
    );
}

#[test]
fn unknown_outcome_is_not_taken_back_by_a_refusal() {
    let (gateway, _) = fake(&|seen| {
        let code = if seen.times == 1 {
            "unknown_outcome"
        } else {
            "draining"
        };
        let body = format!(r#"{{"code":"{code}"}}"#);
        Some(answer(
            "503 Service Unavailable",
            "retry-after: 1\r\n",
            &body,
        ))
    });
    let plan = Plan {
        requests: Some(8),
        patience: Duration::from_millis(200),
        ..plan()
    };
    let ledger = Load::start(&[gateway], plan).finish();
    assert_eq!(ledger.records(Fate::Unknown), 24, "{ledger}");
}

#[test]
fn a_202_that_counts_wrong_is_a_fault() {
    const WRONG: &str = r#"{"accepted":2,"rejected":1,"kept":"kafka","errors":[{"index":0}]}"#;
    let (gateway, _) = fake(&|_| Some(answer("202 Accepted", "", WRONG)));
    let ledger = Load::start(
        &[gateway],
        Plan {
            requests: Some(5),
            ..plan()
        },
    )
    .finish();
    assert!(ledger.faults.len() >= 5, "{:?}", ledger.faults);
}

#[test]
fn a_gateway_that_is_away_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let gateway = listener.local_addr().expect("an address");
    drop(listener);
    let plan = Plan {
        requests: Some(4),
        patience: Duration::from_millis(100),
        ..plan()
    };
    let ledger = Load::start(&[gateway], plan).finish();
    assert_eq!(ledger.records(Fate::Refused), 12, "{ledger}");
    assert!(ledger.answered("not sent") >= 4, "{ledger}");
}

#[test]
fn a_paused_load_has_nothing_under_way_and_sends_nothing() {
    let (gateway, log) = fake(&|_| Some(answer("202 Accepted", "", TAKEN)));
    let load = Load::start(&[gateway], plan());
    let before = load.pause();
    let sent = |ledger: &Ledger| ledger.answered("202");
    assert_eq!(before.accepted(), 3 * before.entries.len() as u64);
    load.repeat(false);
    assert_eq!(sent(&load.pause()), sent(&before), "it is paused");
    load.resume();
    let ledger = load.finish();
    assert_eq!(ledger.accepted(), 120, "{ledger}");
    let log = log.lock().expect("no panic");
    let twice = log.times.values().filter(|times| **times == 2).count() as u64;
    assert_eq!(
        twice,
        sent(&before) - before.entries.len() as u64,
        "{ledger}"
    );
}
