//! Bodies that are too large or too slow, and what their connections come to.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::harness::{Stage, head, hear, records};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test]
async fn a_bomb_is_refused_with_the_limit_it_broke() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_decoded_bytes = 20_000;
    let gateway = stage.start().await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
    let headers = [JSON, ("Content-Encoding", "gzip")];
    let heard = gateway
        .ask("POST", "/logs", &headers, &gzip.finish().unwrap())
        .await;
    assert_eq!(heard.problem(), (413, "too_large".to_owned()));
    let detail = heard.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("server.maxDecodedBytes"), "{detail}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_refused_when_it_crosses_the_limit() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_body_bytes = 10_000;
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream
        .write_all(
            b"POST /logs HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n\
              Transfer-Encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
    let chunk = [b"2000\r\n".as_slice(), &[b' '; 0x2000], b"\r\n"].concat();
    stream.write_all(&chunk).await.unwrap();
    stream.write_all(&chunk).await.unwrap();
    let heard = hear(&mut stream).await;
    assert_eq!(heard.problem(), (413, "too_large".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_before_the_body() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let headers = [JSON, ("Expect", "100-continue")];
    let head = head("POST", "/logs", &headers, 1 << 30);
    stream.write_all(head.as_bytes()).await.unwrap();
    // Not a 100 first: nothing is asked for.
    let heard = hear(&mut stream).await;
    assert_eq!(heard.problem(), (413, "too_large".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_its_whole_refused_body_first_still_reads_the_answer() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_body_bytes = 10_000;
    let gateway = stage.start().await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // So that the kernels do not take it.
    socket.set_send_buffer_size(8 * 1024).unwrap();
    let mut stream = socket.connect(gateway.addr).await.unwrap();
    let body = vec![b' '; 900_000];
    let head = head("POST", "/logs", &[JSON], body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // Nobody takes it to its end.
    let _ = stream.write_all(&body).await;
    let heard = hear(&mut stream).await;
    assert_eq!(heard.problem(), (413, "too_large".to_owned()));
    assert_eq!(heard.headers["connection"], "close");
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_request_with_a_short_body_keeps_its_connection() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let body = records(["a"]);
    for target in ["/nothing", "/logs?x=1", "/logs"] {
        let request = head("POST", target, &[JSON], body.len()) + &body;
        stream.write_all(request.as_bytes()).await.unwrap();
        let heard = hear(&mut stream).await;
        assert_eq!(heard.headers.get("connection"), None, "{target}");
        assert_eq!(heard.status == 202, target == "/logs");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let body = records(["a"]);
    let head = head(
        "POST",
        "/logs",
        &[JSON, ("Expect", "100-continue")],
        body.len(),
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut stream).await.status, 100);
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut stream).await.status, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stalled_body_is_408() {
    let mut stage = Stage::new(1).await;
    stage.config.server.body_timeout = Duration::from_millis(50);
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = head("POST", "/logs", &[JSON], 100);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"[").await.unwrap();
    let heard = hear(&mut stream).await;
    assert_eq!(heard.problem(), (408, "body_timeout".to_owned()));
    assert!(
        heard.json()["detail"]
            .as_str()
            .unwrap()
            .contains("server.bodyTimeout")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_trickles_is_408_when_too_little_is_left_for_the_disk() {
    let mut stage = Stage::new(1).await;
    stage.config.server.request_timeout = Duration::from_millis(400);
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = head("POST", "/logs", &[JSON], 100_000);
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut heard = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut heard).await;
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    assert!(heard.contains("server.requestTimeout"), "{heard}");
    trickle.abort();
    gateway.stop().await;
}
