//! 4,000 clients that send a byte a second, and one that only wants to post.
//!
//! What they hold counts against the memory budget.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream as StdTcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pipeline_core::lifecycle::raise_descriptor_limit;
use testbed::{
    http::{Client, Request},
    skip::skipped,
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    runtime::Runtime,
    time::{sleep, timeout},
};

use crate::place::{Place, wait_for};

const SLOW: usize = 4000;
const POSTS: usize = 40;
const TRIES_MAX: usize = 5;
/// For one try of the normal client.
const TRY_MAX: Duration = Duration::from_secs(10);

/// Half of them never end a head, the others never end a body; closed, they come again.
async fn slow(n: usize, addr: SocketAddr, open: Arc<AtomicUsize>) {
    let begins: &[u8] = if n.is_multiple_of(2) {
        b"POST /logs HTTP/1.1\r\nHost: a\r\nX: "
    } else {
        b"POST /logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n\
          Content-Length: 100000\r\n\r\n"
    };
    loop {
        if let Ok(Ok(mut stream)) = timeout(TRY_MAX, TcpStream::connect(addr)).await {
            open.fetch_add(1, Ordering::Relaxed);
            let mut alive = stream.write_all(begins).await.is_ok();
            while alive {
                sleep(Duration::from_secs(1)).await;
                alive = stream.write_all(b"a").await.is_ok();
            }
            open.fetch_sub(1, Ordering::Relaxed);
        } else {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One record, each try on a connection of its own; how many it took.
fn tries(addr: SocketAddr, n: usize) -> usize {
    let body =
        format!(r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/{n}","userAgent":"normal"}}"#);
    let request = Request {
        method: "POST",
        target: "/logs",
        headers: &[("Content-Type", "application/json")],
        body: body.as_bytes(),
    };
    for tried in 1..=TRIES_MAX {
        match Client::new(addr, TRY_MAX).send(&request) {
            Ok(answer) if answer.status == 202 => return tried,
            other => eprintln!("try {tried} of post {n}: {other:?}"),
        }
    }
    panic!("post {n} was not accepted in {TRIES_MAX} tries");
}

/// With so many slow clients, and as many connections as `server` allows.
fn a_normal_client_is_served(server: &str, slow_clients: usize, connections_max: usize) {
    let most = raise_descriptor_limit().unwrap_or(u64::MAX);
    if most < slow_clients as u64 + 500 {
        skipped(
            &format!("{slow_clients} slow connections"),
            &format!("only {most} files may be open"),
        );
        return;
    }
    let place = Place::new();
    place.configure_server(server, "");
    let serving = place.serve();
    let runtime = Runtime::new().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    for n in 0..slow_clients {
        runtime.spawn(slow(n, serving.addr, Arc::clone(&open)));
    }
    let all = slow_clients.min(connections_max);
    wait_for("the slow ones", || {
        open.load(Ordering::Relaxed) >= all
            && serving.metrics().sum("http_connections") >= Some(all as f64)
    });
    // Over a few seconds, in which the slow ones' bytes come and their places change.
    let tries: Vec<_> = (0..POSTS)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(75));
            tries(serving.addr, n)
        })
        .collect();
    let metrics = serving.metrics();
    let held = metrics.sum("http_connections").unwrap();
    let used = metrics.sum("ingestion_memory_used_bytes").unwrap();
    eprintln!(
        "of {connections_max} connections {held} are held, the client's tries were {tries:?}, \
         {} KiB of the budget in use, resident {} KiB",
        used as u64 / 1024,
        serving.process.memory().unwrap().resident_bytes / 1024
    );
    // They are still there, and no more than allowed.
    assert!(
        held >= all as f64 / 2.0 && held <= connections_max as f64,
        "{held}"
    );
    // As each has sent something.
    assert!(used >= held * 32.0 * 1024.0, "{held} use {used}");
    drop(runtime);
    serving.terminate();
}

#[test]
fn slow_connections_that_all_fit_do_not_stop_a_normal_client() {
    a_normal_client_is_served("  maxConnections: 4096\n", SLOW, 4096);
}

#[test]
fn four_times_more_slow_connections_than_fit_do_not_stop_a_normal_client() {
    a_normal_client_is_served("  maxConnections: 1000\n", SLOW, 1000);
}

#[test]
fn no_more_slow_connections_are_held_than_half_of_a_small_budget_has_room_for() {
    a_normal_client_is_served("  memoryBudget: 16MiB\n", 600, 157);
}

#[test]
fn what_http2_clients_may_send_ahead_counts_so_fewer_of_them_are_held() {
    let place = Place::new();
    place.configure_server("  memoryBudget: 16MiB\n", "");
    let serving = place.serve();
    // Of 8 MiB each takes 180 KiB.
    let held_max = 45;
    let mut clients = Vec::new();
    for n in 0..held_max + 10 {
        let mut client = StdTcpStream::connect(serving.addr).unwrap();
        client.set_read_timeout(Some(TRY_MAX)).unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        client.write_all(preface).unwrap();
        // Each is served: the one that has been silent for longest gives its place.
        let mut settings = [0; 9];
        client
            .read_exact(&mut settings)
            .unwrap_or_else(|error| panic!("connection {n}: {error}"));
        clients.push(client);
    }
    let metrics = serving.metrics();
    let held = metrics.sum("http_connections").unwrap();
    let used = metrics.sum("ingestion_memory_used_bytes").unwrap();
    assert!(held <= f64::from(held_max) && held >= 1.0, "{held}");
    assert!(used >= held * 128.0 * 1024.0, "{held} use {used}");
    assert!(used <= f64::from(8 << 20), "{held} use {used}");
    drop(clients);
    serving.terminate();
}
