//! 4,000 clients that send a byte a second, and one that only wants to post.
//!
//! What they hold counts against the memory budget.

use std::{
    io::{self, Read, Write},
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
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    time::{sleep, timeout},
};

use crate::place::{Place, wait_for};

const SLOW: usize = 4000;
const TRIES_MAX: usize = 5;
/// For one try of the normal client.
const TRY_MAX: Duration = Duration::from_secs(10);

/// A header that comes a byte a second.
const HEAD: &[u8] = b"POST /logs HTTP/1.1\r\nHost: a\r\nX: ";
/// A body that comes a byte a second.
const BODY: &[u8] = b"POST /logs HTTP/1.1\r\nHost: a\r\n\
    Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n";

/// How the half of the slow clients that is slow with its heads goes on.
#[derive(Clone, Copy)]
enum Heads {
    /// Each ends after these seconds; the next follows on the same connection.
    Last(usize),
    /// None ever ends: the gateway ends the connection.
    NeverEnd,
}

/// The other half never ends a body. Closed, they come again.
async fn slow(n: usize, addr: SocketAddr, heads: Heads, open: Arc<AtomicUsize>) {
    loop {
        if let Ok(Ok(mut stream)) = timeout(TRY_MAX, TcpStream::connect(addr)).await {
            open.fetch_add(1, Ordering::Relaxed);
            let _closed = if n.is_multiple_of(2) {
                send_heads(&mut stream, heads).await
            } else {
                drip(&mut stream, BODY, usize::MAX).await
            };
            open.fetch_sub(1, Ordering::Relaxed);
        } else {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn send_heads(stream: &mut TcpStream, heads: Heads) -> io::Result<()> {
    let Heads::Last(seconds) = heads else {
        return drip(stream, HEAD, usize::MAX).await;
    };
    let mut answer = [0; 4096];
    loop {
        drip(stream, HEAD, seconds).await?;
        // No body: refused, and the connection stays.
        stream.write_all(b"\r\nContent-Length: 0\r\n\r\n").await?;
        if stream.read(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// `begins`, then one byte a second for so many seconds.
async fn drip(stream: &mut TcpStream, begins: &[u8], seconds: usize) -> io::Result<()> {
    stream.write_all(begins).await?;
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        stream.write_all(b"a").await?;
    }
    Ok(())
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
fn a_normal_client_is_served(
    server: &str,
    heads: Heads,
    slow_clients: usize,
    connections_max: usize,
) {
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
        runtime.spawn(slow(n, serving.addr, heads, Arc::clone(&open)));
    }
    let all = slow_clients.min(connections_max);
    // Where they are closed and come again, some are on their way at every moment.
    // Where no place is free, a post waits up to a second for one.
    let (there, posts) = match heads {
        Heads::Last(_) => (all, 40),
        Heads::NeverEnd => (all * 9 / 10, 15),
    };
    wait_for("the slow ones", || {
        open.load(Ordering::Relaxed) >= there
            && serving.metrics().sum("http_connections") >= Some(there as f64)
    });
    // Over a few seconds, in which the slow ones' bytes come and their places change.
    let tries: Vec<_> = (0..posts)
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
    // They stay within the times allowed: all of them are there for as long as the test runs.
    let server = "  maxConnections: 4096\n  requestTimeout: 10m\n";
    a_normal_client_is_served(server, Heads::Last(4), SLOW, 4096);
}

#[test]
fn four_times_more_slow_connections_than_fit_do_not_stop_a_normal_client() {
    a_normal_client_is_served("  maxConnections: 1000\n", Heads::NeverEnd, SLOW, 1000);
}

#[test]
fn no_more_slow_connections_are_held_than_half_of_a_small_budget_has_room_for() {
    a_normal_client_is_served("  memoryBudget: 16MiB\n", Heads::NeverEnd, 600, 157);
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
