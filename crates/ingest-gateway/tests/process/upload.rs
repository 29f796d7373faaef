//! How much of a body that nobody wants is read.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{
    place::{Place, Serving, wait_for},
    strangers::{curl_without_end, has_curl},
};

const GIB: u64 = 1 << 30;
/// What may be read of a refused body, its head included.
const READ_MAX: f64 = 65_536.0;

fn received(serving: &Serving) -> f64 {
    let bytes = serving.metrics().sum("http_received_bytes_total");
    bytes.expect("there from the start")
}

/// Sends the head and then as much of a body as is taken; gives the answer, and what the kernels
/// took.
fn upload(serving: &Serving, head: &str) -> (String, u64) {
    let mut stream = TcpStream::connect(serving.addr).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut sending = stream.try_clone().unwrap();
    sending
        .set_write_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let sender = thread::spawn(move || {
        // A chunk of itself, for a chunked body.
        let mut chunk = b"10000\r\n".to_vec();
        chunk.resize(7 + 0x10000, b' ');
        chunk.extend(b"\r\n");
        let mut sent = 0;
        while sent < GIB && sending.write_all(&chunk).is_ok() {
            sent += chunk.len() as u64;
        }
        sent
    });
    // Not before there is nothing more to send: the answer must still be there.
    let sent = sender.join().unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend(&part[..read]);
    }
    (String::from_utf8(answer).unwrap(), sent)
}

#[test]
fn of_a_gigabyte_from_nobody_less_than_64_kib_is_read() {
    let place = Place::new();
    let hash = "0".repeat(64);
    let auth = format!("auth: {{enabled: true, keys: [{{id: a, sha256: '{hash}'}}]}}\n");
    place.configure(&auth);
    let serving = place.serve();
    let head = "POST /logs HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for framing in [
        format!("Content-Length: {GIB}\r\n"),
        "Transfer-Encoding: chunked\r\n".to_owned(),
    ] {
        let before = received(&serving);
        let (answer, sent) = upload(&serving, &format!("{head}{framing}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 401 "), "{framing}{answer}");
        assert!(answer.contains("connection: close"), "{framing}{answer}");
        assert!(sent < GIB, "{framing}all of it was taken");
        let read = received(&serving) - before;
        assert!(
            0.0 < read && read < READ_MAX,
            "{framing}{read} bytes were read"
        );
    }
    if has_curl() {
        let url = format!("http://{}/logs", serving.addr);
        let before = received(&serving);
        let said = curl_without_end(&["--http2-prior-knowledge", &url]);
        assert_eq!(said, "401 2");
        let read = received(&serving) - before;
        assert!(
            0.0 < read && read < READ_MAX,
            "HTTP/2: {read} bytes were read"
        );
    }
    serving.terminate();
}

#[test]
fn heads_that_cannot_be_read_are_counted() {
    let place = Place::new();
    place.configure("");
    let serving = place.serve();
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    for (count, (head, status)) in [("nothing\r\n\r\n", "400"), (&long, "431")]
        .into_iter()
        .enumerate()
    {
        let mut stream = TcpStream::connect(serving.addr).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes());
        drop(stream);
        wait_for("its count", || {
            let counted = serving
                .metrics()
                .with("invalid_requests_total", r#"code="bad_request""#);
            counted == Some((count + 1) as f64)
        });
    }
    serving.terminate();
}

#[test]
fn what_is_read_is_counted() {
    let place = Place::new();
    place.configure("");
    let serving = place.serve();
    let record = r#"{"timestamp":"2026-01-02T03:04:05Z","path":"/","userAgent":"a"}"#;
    let body = format!("[{}]", vec![record; 5000].join(","));
    let before = received(&serving);
    let headers = [("Content-Type", "application/json")];
    let answer = testbed::http::post(serving.addr, "/logs", &headers, body.as_bytes());
    assert_eq!(answer.unwrap().status, 202);
    let read = received(&serving) - before;
    let length = body.len() as f64;
    assert!(
        length < read && read < length + 1000.0,
        "{read} of {length}"
    );
    serving.terminate();
}
