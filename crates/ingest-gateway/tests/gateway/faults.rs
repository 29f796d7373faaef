//! Seeded storms: every kind of failure of the broker at random under load, with restarts between.
//!
//! The claim is the promise as far as the gateway owns it: what a 202 accepted is in the topic,
//! what was refused is not, and all copies of a record are one record to the writer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use dev_broker::{Api, Fault, error_code};

use crate::harness::{Stage, Stored, ask, record};

const PARTITIONS: i32 = 3;
const NODES: usize = 2;
const CLIENTS: usize = 6;
const REQUESTS: usize = 25;
/// Enough for all dead letters.
const ROOM: u64 = 64 << 20;
/// Gateways that come and go in one storm.
const LIVES: u64 = 2;

/// What clients heard of each path they sent.
#[derive(Default)]
struct Ledger {
    accepted: BTreeSet<String>,
    refused: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_storm_breaks_a_202_seed_1() {
    let storm = storm(1, ROOM).await;
    assert!(storm.copies > 0, "nothing was sent twice: it was no storm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_storm_breaks_a_202_seed_2() {
    let storm = storm(2, ROOM).await;
    assert!(storm.copies > 0, "nothing was sent twice: it was no storm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_storm_breaks_a_503_where_there_is_hardly_room_on_the_disk() {
    let storm = storm(3, 3_000).await;
    assert!(storm.refused > 0, "there was room for all");
}

/// What a storm came to: a claim that nothing put to the test proves nothing.
struct Storm {
    /// Records that no 202 counted.
    refused: usize,
    /// Records in the topic beyond the first copy of each.
    copies: usize,
}

async fn storm(seed: u64, dlq_bytes_max: u64) -> Storm {
    let options = dev_broker::Options::default().nodes(NODES);
    let mut stage = Stage::with(options.topic("logs", PARTITIONS)).await;
    stage.config.ingestion.producer_write_timeout = Duration::from_millis(300);
    stage.config.ingestion.producer_max_retries = 2;
    stage.config.server.request_timeout = Duration::from_secs(4);
    stage.config.ingestion.producer_dlq_max_bytes = dlq_bytes_max;
    // Batches of several record batches, too.
    stage.config.kafka.batch_size = 20;
    let stage = Arc::new(stage);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let next_path = Arc::new(AtomicU32::new(0));
    for life in 0..LIVES {
        let gateway = stage.start().await;
        if dlq_bytes_max < ROOM {
            refuse_one(&stage, gateway.addr, &ledger, &next_path).await;
        }
        let over = Arc::new(AtomicBool::new(false));
        let trouble = {
            let (stage, over) = (Arc::clone(&stage), Arc::clone(&over));
            tokio::spawn(async move { trouble(&stage, seed * 100 + life, &over).await })
        };
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let rng = fastrand::Rng::with_seed(seed * 1000 + life * 100 + client as u64);
                let (ledger, next_path) = (Arc::clone(&ledger), Arc::clone(&next_path));
                tokio::spawn(client_of(gateway.addr, rng, ledger, next_path))
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        over.store(true, Ordering::SeqCst);
        trouble.await.unwrap();
        gateway.stop().await;
    }
    let gateway = stage.start().await;
    let accepted = ledger.lock().unwrap().accepted.clone();
    let stored = settled(&stage, &accepted).await;
    gateway.stop().await;
    let ledger = ledger.lock().unwrap();
    Storm {
        refused: ledger.refused.len() + ledger.unknown.len(),
        copies: judge(&ledger, &stored),
    }
}

async fn client_of(
    addr: std::net::SocketAddr,
    mut rng: fastrand::Rng,
    ledger: Arc<Mutex<Ledger>>,
    next_path: Arc<AtomicU32>,
) {
    for _ in 0..REQUESTS {
        post(addr, rng.usize(1..60), &ledger, &next_path).await;
    }
}

/// Kafka takes nothing, and the body is larger than the room on the disk: whatever the storm
/// brings, this is refused.
async fn refuse_one(
    stage: &Stage,
    addr: std::net::SocketAddr,
    ledger: &Mutex<Ledger>,
    next_path: &AtomicU32,
) {
    let refusal = Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS);
    let rule = stage.broker.faults().on(Api::Produce).then(refusal);
    post(addr, 100, ledger, next_path).await;
    rule.remove();
}

async fn post(
    addr: std::net::SocketAddr,
    records: usize,
    ledger: &Mutex<Ledger>,
    next_path: &AtomicU32,
) {
    let paths: Vec<_> = (0..records)
        .map(|_| format!("p{}", next_path.fetch_add(1, Ordering::Relaxed)))
        .collect();
    let body: Vec<_> = paths.iter().map(|path| record(path)).collect();
    let headers = [("Content-Type", "application/json")];
    let body = format!("[{}]", body.join(","));
    let heard = ask(addr, "POST", "/logs", &headers, body.as_bytes()).await;
    let mut ledger = ledger.lock().unwrap();
    match heard.status {
        202 => ledger.accepted.extend(paths),
        429 | 503 if heard.problem().1 == "unknown_outcome" => ledger.unknown.extend(paths),
        429 | 503 => ledger.refused.extend(paths),
        status => panic!("{status} for trouble of ours: {heard:?}"),
    }
}

/// Changes what goes wrong every few milliseconds; leaves all well.
async fn trouble(stage: &Stage, seed: u64, over: &AtomicBool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !over.load(Ordering::SeqCst) {
        let codes = [
            error_code::NOT_ENOUGH_REPLICAS,
            error_code::NOT_LEADER_OR_FOLLOWER,
            error_code::KAFKA_STORAGE_ERROR,
            error_code::MESSAGE_TOO_LARGE,
            error_code::CORRUPT_MESSAGE,
            error_code::UNKNOWN_SERVER_ERROR,
        ];
        let code = codes[rng.usize(..codes.len())];
        let fault = match rng.u32(..8) {
            0 => Fault::AnswerError(code),
            1 | 2 => Fault::DoneButError(error_code::REQUEST_TIMED_OUT),
            3 => Fault::DropAnswer,
            4 => Fault::Cut,
            5 => Fault::CutAnswer,
            6 => Fault::Drop,
            _ => Fault::Throttle(Duration::from_millis(20)),
        };
        let mut rule = stage.broker.faults().on(Api::Produce);
        if rng.bool() {
            rule = rule.partition("logs", rng.i32(..PARTITIONS));
        }
        rule.times(rng.u64(1..6)).then(fault);
        match rng.u32(..12) {
            0 => {
                let lookups = stage.broker.faults().on(Api::ListOffsets);
                lookups.times(3).then(Fault::Cut);
            }
            1 => {
                let (partition, node) = (rng.i32(..PARTITIONS), rng.i32(1..=NODES as i32));
                // It may lead it already.
                let _ = stage.broker.move_leader("logs", partition, node);
            }
            2 => {
                let node = rng.i32(1..=NODES as i32);
                stage.broker.pause_node(node);
                tokio::time::sleep(Duration::from_millis(rng.u64(50..600))).await;
                stage.broker.resume_node(node);
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(5..40))).await;
    }
    stage.broker.faults().clear();
    stage.broker.resume();
}

/// The topic, once everything accepted is there and the dead letter queue is empty.
async fn settled(stage: &Stage, accepted: &BTreeSet<String>) -> Vec<Stored> {
    let look = async {
        loop {
            let stored = stage.stored().await;
            let there: BTreeSet<_> = stored.iter().map(path_of).collect();
            let is_data = |entry: std::io::Result<std::fs::DirEntry>| {
                entry
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == "pdlq")
            };
            let mut entries = std::fs::read_dir(stage.dlq_dir()).unwrap();
            let empty = !entries.any(is_data);
            if empty && accepted.iter().all(|path| there.contains(path)) {
                return stored;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(2 * crate::harness::LONG, look)
        .await
        .expect("accepted records are missing, or the dead letter queue is not emptied")
}

/// Gives the number of copies.
fn judge(ledger: &Ledger, stored: &[Stored]) -> usize {
    assert!(!ledger.accepted.is_empty());
    let mut copies: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for message in stored {
        let path = path_of(message);
        assert!(
            !ledger.refused.contains(&path),
            "{path} was refused and is stored"
        );
        let known = ledger.accepted.contains(&path) || ledger.unknown.contains(&path);
        assert!(known, "{path} was never sent");
        assert!(
            message.envelope.since <= message.offset,
            "a copy lies below its since: {message:?}"
        );
        let identity = (message.envelope.batch, message.envelope.sequence);
        copies.entry(identity).or_default().insert((
            message.partition,
            message.envelope.encode(),
            message.value.clone(),
        ));
    }
    let again = stored.len() - copies.len();
    for (identity, different) in copies {
        assert_eq!(
            different.len(),
            1,
            "copies of {identity:?} differ: {different:?}"
        );
    }
    again
}

fn path_of(message: &Stored) -> String {
    let json: serde_json::Value = serde_json::from_str(&message.value).unwrap();
    json["path"]
        .as_str()
        .unwrap()
        .trim_start_matches('/')
        .to_owned()
}
