//! Connections are bounded: who gives its place up, and what a drain waits for.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{LONG, PATIENT, Running, Stage, head, hear, record, records};

const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn connect(gateway: &Running) -> TcpStream {
    TcpStream::connect(gateway.addr).await.unwrap()
}

/// Sends the head of a POST and hears the 100: from then on it is in work.
pub async fn in_work(gateway: &Running, length: usize) -> TcpStream {
    let mut stream = connect(gateway).await;
    let headers = [JSON, ("Expect", "100-continue")];
    let head = head("POST", "/logs", &headers, length);
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut stream).await.status, 100);
    stream
}

async fn is_open(stream: &mut TcpStream) -> bool {
    let request = head("GET", "/livez", &[], 0);
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut byte = [0];
    matches!(timeout(LONG, stream.read(&mut byte)).await.unwrap(), Ok(1))
}

#[tokio::test]
async fn the_longest_silent_connection_gives_its_place_to_a_new_one() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_connections = 4;
    let gateway = stage.start().await;
    let mut silent = Vec::new();
    for n in 0..4 {
        let mut stream = connect(&gateway).await;
        // Half a head is silence, too; a whole request before it is not.
        if n == 1 {
            stream.write_all(b"POST /logs HT").await.unwrap();
        } else if n == 3 {
            assert!(is_open(&mut stream).await);
        }
        silent.push(stream);
    }
    assert_eq!(gateway.post(&records(["a"])).await.status, 202);
    assert_eq!(gateway.post(&records(["b"])).await.status, 202);
    // The one that was there first is closed, and nobody else: the new one has ended by itself.
    assert!(!is_open(&mut silent[0]).await);
    assert!(is_open(&mut silent[2]).await);
    let rest = "TP/1.1\r\nContent-Length: 0\r\n\r\n";
    silent[1].write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut silent[1]).await.status, 415);
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_hardly_comes_gives_its_place_to_a_new_connection() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_connections = 2;
    let gateway = stage.start().await;
    let mut slow = [in_work(&gateway, 1000).await, in_work(&gateway, 1000).await];
    assert_eq!(gateway.post(&records(["a"])).await.status, 202);
    // One of them was enough.
    let mut answered = 0;
    for stream in &mut slow {
        stream.write_all(b"[").await.unwrap();
    }
    for mut stream in slow {
        let body = records(["b"]);
        let padded = format!("{body}{}", " ".repeat(1000 - body.len()));
        if stream.write_all(&padded.as_bytes()[1..]).await.is_err() {
            continue;
        }
        let heard = hear(&mut stream).await;
        match heard.status {
            202 => answered += 1,
            _ => assert_eq!(heard.problem(), (408, "body_timeout".to_owned())),
        }
    }
    assert_eq!(answered, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn who_is_being_served_is_never_given_up() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_connections = 2;
    stage.config.ingestion.producer_write_timeout = PATIENT;
    let gateway = stage.start().await;
    stage.broker.pause();
    let mut streams = Vec::new();
    for n in 0..3 {
        let mut stream = connect(&gateway).await;
        let body = record(&format!("n{n}"));
        let request = head("POST", "/logs", &[JSON], body.len()) + &body;
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    // Longer than a silent one would keep its place.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stage.broker.resume();
    for mut stream in streams {
        assert_eq!(hear(&mut stream).await.status, 202);
    }
    gateway.stop().await;
    let mut values: Vec<_> = stage.stored().await.into_iter().map(|s| s.value).collect();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 3);
}

#[tokio::test]
async fn every_request_in_flight_when_a_drain_begins_is_answered() {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.producer_write_timeout = PATIENT;
    let gateway = stage.start().await;
    stage.broker.pause();
    let (mut sent, mut bodies) = (Vec::new(), Vec::new());
    for n in 0..24 {
        let body = record(&format!("n{n}"));
        let mut stream = in_work(&gateway, body.len()).await;
        if n % 2 == 0 {
            stream.write_all(body.as_bytes()).await.unwrap();
            sent.push(stream);
        } else {
            bodies.push((stream, body));
        }
    }
    let stream = connect(&gateway).await;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut streams = Vec::new();
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..8 {
        let (mut sender, begun) = (sender.clone(), begun.clone());
        streams.push(tokio::spawn(async move {
            let request = hyper::Request::post("http://gateway/logs")
                .header("content-type", "application/json")
                .body(Full::<bytes::Bytes>::from(record(&format!("h{n}"))))
                .unwrap();
            let answer = sender.send_request(request);
            begun.send(()).unwrap();
            let answer = answer.await.unwrap();
            let status = answer.status();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        }));
    }
    for _ in 0..8 {
        begins.recv().await.unwrap();
    }
    gateway.request_shutdown();
    for (stream, body) in &mut bodies {
        stream.write_all(body.as_bytes()).await.unwrap();
    }
    stage.broker.resume();
    let mut accepted = 24;
    for mut stream in sent
        .into_iter()
        .chain(bodies.into_iter().map(|(stream, _)| stream))
    {
        assert_eq!(hear(&mut stream).await.status, 202);
    }
    for stream in streams {
        // Whether the drain saw their heads is not said; an answer there is all the same.
        let (status, body) = stream.await.unwrap();
        match status.as_u16() {
            202 => accepted += 1,
            _ => assert!(body.contains("draining"), "{status} {body}"),
        }
    }
    drop(sender);
    gateway.ended().await;
    let _ = connection.await;
    let mut values: Vec<_> = stage
        .stored_when(accepted)
        .await
        .into_iter()
        .map(|s| s.value)
        .collect();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), accepted);
}

/// As long as it waits for such a body when nothing hurries it: one that is held up never ends
/// before that, and one that is not may only by a busy machine.
#[tokio::test]
async fn a_refused_body_that_does_not_come_holds_no_drain_up() {
    const UNHURRIED: Duration = Duration::from_secs(1);
    for _ in 0..10 {
        if drain_beside_bodies_that_do_not_come().await < UNHURRIED {
            return;
        }
    }
    panic!("held up ten times");
}

async fn drain_beside_bodies_that_do_not_come() -> Duration {
    let mut stage = Stage::new(1).await;
    stage.config.server.shutdown_timeout = Duration::from_millis(200);
    let gateway = stage.start().await;
    let began = Instant::now();
    let mut short = connect(&gateway).await;
    let mut long = connect(&gateway).await;
    for (stream, length) in [(&mut short, 1000), (&mut long, 1 << 30)] {
        let headers = [JSON, ("Content-Encoding", "lzma")];
        let head = head("POST", "/logs", &headers, length);
        stream.write_all(head.as_bytes()).await.unwrap();
    }
    // It is answered at once, and waits for the client to read.
    assert_eq!(hear(&mut long).await.status, 415);
    gateway.request_shutdown();
    let heard = hear(&mut short).await;
    assert!([415, 503].contains(&heard.status), "{heard:?}");
    assert_eq!(heard.headers["connection"], "close");
    gateway.ended().await;
    began.elapsed()
}

/// Of a connection whose bodies are refused no more than 63 KiB are read at once; what was refused
/// and came to its end does not count for ever, and what is wanted has other bounds.
#[tokio::test]
async fn an_http2_connection_outlives_the_bodies_that_were_refused() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let stream = connect(&gateway).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut send = async |encoding: &str, body: String| {
        let request = hyper::Request::post("http://gateway/logs")
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(Full::<bytes::Bytes>::from(body))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        answer.into_body().collect().await.unwrap();
        status
    };
    for _ in 0..10 {
        assert_eq!(send("lzma", "x".repeat(20 * 1024)).await, 415);
    }
    let body = records(std::iter::repeat_n("a", 5000));
    assert!(body.len() > 128 * 1024, "{}", body.len());
    assert_eq!(send("identity", body).await, 202);
    assert_eq!(send("lzma", "x".repeat(20 * 1024)).await, 415);
    drop(sender);
    let _ = connection.await;
    gateway.stop().await;
    assert_eq!(stage.stored_when(5000).await.len(), 5000);
}
