//! HTTP at the wire: what is unusual and allowed, and what is refused so that nothing of it is
//! ever taken for another request.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{Heard, LONG, Running, Stage, hear, records};

/// Stands behind a request to see whether it is taken for one.
const NEXT: &str = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
const JSON: &str = "Host: a\r\nContent-Type: application/json\r\n";

/// All answers to these bytes, until the gateway closes; the client's side ends with them.
async fn answers(gateway: &Running, bytes: &[u8]) -> Vec<Heard> {
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    // A refused request need not be taken whole.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut said)).await;
    read.expect("the connection stays open").unwrap();
    let mut rest = said.as_slice();
    let mut heard = Vec::new();
    while !rest.is_empty() {
        heard.push(hear(&mut rest).await);
    }
    heard
}

async fn statuses(gateway: &Running, text: &str) -> Vec<u16> {
    let heard = answers(gateway, text.as_bytes()).await;
    heard.iter().map(|heard| heard.status).collect()
}

/// A whole POST of one record, with these further headers.
fn post(path: &str, headers: &str) -> String {
    let body = records([path]);
    let length = body.len();
    format!("POST /logs HTTP/1.1\r\n{JSON}{headers}Content-Length: {length}\r\n\r\n{body}")
}

fn chunked(path: &str, extension: &str, trailers: &str) -> String {
    let mut request = format!("POST /logs HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n");
    for part in records([path]).as_bytes().chunks(7) {
        let part = std::str::from_utf8(part).unwrap();
        request += &format!("{:X}{extension}\r\n{part}\r\n", part.len());
    }
    request + &format!("0{extension}\r\n{trailers}\r\n")
}

#[tokio::test]
async fn what_is_unusual_and_allowed_is_taken_and_the_connection_goes_on() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let body = records(["old"]);
    let length = body.len();
    let old = |more: &str| {
        format!("POST /logs HTTP/1.0\r\n{JSON}{more}Content-Length: {length}\r\n\r\n{body}")
    };
    let cases: [(&str, String, &[u16]); 10] = [
        ("chunked", chunked("a", "", ""), &[202, 200]),
        ("extensions", chunked("b", ";a=\"b\";c", ""), &[202, 200]),
        ("blank behind the size", chunked("c", " ", ""), &[202, 200]),
        (
            "trailers",
            chunked("d", "", "Digest: x\r\nContent-Length: 3\r\n"),
            &[202, 200],
        ),
        (
            "leading zeros",
            chunked("e", "", "").replace("\r\n7", "\r\n0007"),
            &[202, 200],
        ),
        (
            "empty lines in front",
            format!("\r\n\r\n{}", post("f", "")),
            &[202, 200],
        ),
        (
            "absolute form",
            post("g", "").replace(" /logs ", " http://b:80/logs "),
            &[202, 200],
        ),
        (
            "names in any case",
            post("h", "").replace("Content-", "cOnTeNt-"),
            &[202, 200],
        ),
        // HTTP/1.0 closes, unless it is asked not to.
        ("1.0", old(""), &[202]),
        (
            "1.0 that stays",
            old("Connection: keep-alive\r\n"),
            &[202, 200],
        ),
    ];
    for (what, request, expected) in cases {
        let request = request + NEXT;
        assert_eq!(statuses(&gateway, &request).await, expected, "{what}");
    }
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 10);
}

#[tokio::test]
async fn framing_that_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_a_request() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let whole = post("x", "");
    let with = |headers: &str| post("x", headers);
    let only =
        |headers: &str, body: &str| format!("POST /logs HTTP/1.1\r\n{JSON}{headers}\r\n{body}");
    let te = |coding: &str| only(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n");
    let length = |length: &str| only(&format!("Content-Length: {length}\r\n"), "[]");
    let chunks = |chunks: &str| only("Transfer-Encoding: chunked\r\n", chunks);
    let cases = [
        (
            "length behind chunked",
            with("Transfer-Encoding: chunked\r\n"),
        ),
        (
            "chunked behind length",
            only(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
        ),
        (
            "chunked with length",
            only(
                "Content-Length: 5\r\nX: y\r\ntransfer-encoding: CHUNKED\r\n",
                "0\r\n\r\n",
            ),
        ),
        ("two lengths", with("Content-Length: 1\r\n")),
        (
            "the same length twice",
            only("Content-Length: 2\r\nContent-Length: 2\r\n", "[]"),
        ),
        ("a list of lengths", length("2, 2")),
        ("a signed length", length("+2")),
        ("a negative length", length("-2")),
        ("a hexadecimal length", length("0x2")),
        ("two numbers", length("2 2")),
        ("an empty length", length("")),
        ("a length beyond all", length("18446744073709551617")),
        ("chunked is not last", te("chunked, identity")),
        ("not chunked at all", te("identity")),
        ("nearly chunked", te("xchunked")),
        ("chunked behind another", te("gzip, chunked")),
        ("chunked twice", te("chunked, chunked")),
        (
            "chunked on two lines",
            te("chunked\r\nTransfer-Encoding: chunked"),
        ),
        (
            "chunked, then identity",
            te("chunked\r\nTransfer-Encoding: identity"),
        ),
        ("a vertical tab", te("\x0bchunked")),
        ("quoted", te("\"chunked\"")),
        (
            "a blank before the colon",
            te("chunked").replace("ing:", "ing :"),
        ),
        ("chunked in 1.0", te("chunked").replace("/1.1", "/1.0")),
        ("a size that is none", chunks("zz\r\n[]\r\n0\r\n\r\n")),
        ("a negative size", chunks("-2\r\n[]\r\n0\r\n\r\n")),
        ("a hexadecimal size", chunks("0x2\r\n[]\r\n0\r\n\r\n")),
        ("no size", chunks("\r\n[]\r\n0\r\n\r\n")),
        ("a blank before the size", chunks(" 2\r\n[]\r\n0\r\n\r\n")),
        (
            "a size beyond all",
            chunks("10000000000000002\r\n[]\r\n0\r\n\r\n"),
        ),
        ("a size that is too small", chunks("1\r\n[]\r\n0\r\n\r\n")),
        ("a size that is too large", chunks("3\r\n[]\r\n0\r\n\r\n")),
        ("a size line with LF alone", chunks("2\n[]\r\n0\r\n\r\n")),
        ("LF in an extension", chunks("2;a\nb\r\n[]\r\n0\r\n\r\n")),
        ("LF behind a chunk", chunks("2\r\n[]\n0\r\n\r\n")),
        (
            "a header line with LF alone",
            whole.replacen("a\r\n", "a\n", 1),
        ),
        (
            "a request line with LF alone",
            whole.replacen("1.1\r\n", "1.1\n", 1),
        ),
        (
            "a head that ends with LF alone",
            whole.replacen("\r\n\r\n", "\r\n\n", 1),
        ),
        ("a folded header", with("X: y\r\n z\r\n")),
        ("a folded first header", whole.replacen("Host", " Host", 1)),
        ("a bare CR", with("X: y\rz\r\n")),
        ("NUL in a value", with("X: y\0z\r\n")),
        ("NUL in a name", with("X\0: y\r\n")),
        ("a header without a colon", with("nothing\r\n")),
        ("a header without a name", with(": y\r\n")),
        ("two hosts", with("Host: b\r\n")),
        ("a blank in the target", whole.replace("/logs", "/lo gs")),
        ("NUL in the target", whole.replace("/logs", "/lo\0gs")),
        ("no version", whole.replace(" HTTP/1.1", "")),
        (
            "a version that is none",
            whole.replace("HTTP/1.1", "HTTP/1.x"),
        ),
        ("a version to come", whole.replace("HTTP/1.1", "HTTP/3.0")),
        ("a method with a colon", whole.replace("POST", "PO:ST")),
    ];
    for (what, request) in cases {
        let request = request + NEXT;
        let heard = answers(&gateway, request.as_bytes()).await;
        let statuses: Vec<_> = heard.iter().map(|heard| heard.status).collect();
        assert_eq!(statuses, [400], "{what}");
        assert_eq!(heard[0].headers["connection"], "close", "{what}");
    }
    assert_eq!(gateway.post(&records(["good"])).await.status, 202);
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 1);
}

#[tokio::test]
async fn a_head_without_end_is_431_and_closed() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let many = "X: y\r\n".repeat(101);
    let cases = [
        ("many headers", post("x", &many)),
        (
            "a long header",
            post("x", &format!("X: {}\r\n", "y".repeat(17_000))),
        ),
        (
            "one that never ends",
            format!("POST /logs HTTP/1.1\r\nX: {}", "y".repeat(1 << 20)),
        ),
        (
            "a long target",
            post("x", "").replace("/logs", &"/x".repeat(10_000)),
        ),
        ("a method without end", "X".repeat(20_000)),
    ];
    for (what, request) in cases {
        assert_eq!(statuses(&gateway, &(request + NEXT)).await, [431], "{what}");
    }
    let most = post("a", &"X: y\r\n".repeat(90)) + NEXT;
    assert_eq!(statuses(&gateway, &most).await, [202, 200]);
    let long = post("b", &format!("X: {}\r\n", "y".repeat(15_000))) + NEXT;
    assert_eq!(statuses(&gateway, &long).await, [202, 200]);
    gateway.stop().await;
}

#[tokio::test]
async fn other_methods_are_405_with_allow_and_other_paths_404() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    for method in [
        "GET", "OPTIONS", "PUT", "DELETE", "TRACE", "post", "BREW", "CONNECT",
    ] {
        let heard = answers(&gateway, post("x", "").replace("POST", method).as_bytes()).await;
        assert_eq!(heard[0].status, 405, "{method}");
        assert_eq!(heard[0].headers["allow"], "POST", "{method}");
        assert_eq!(heard.len(), 1, "{method}");
    }
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = "HEAD /logs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert!(head.contains("allow: POST"), "{head}");
    assert_eq!(body, "");
    for target in ["*", "/", "/logs/", "//logs", "/LOGS", "/logs%2f"] {
        let request = post("x", "").replace(" /logs ", &format!(" {target} ")) + NEXT;
        assert_eq!(statuses(&gateway, &request).await, [404, 200], "{target}");
    }
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 0);
}

#[tokio::test]
async fn stacked_and_unknown_encodings_are_415_with_what_is_accepted() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    for headers in [
        "Content-Encoding: gzip, gzip\r\n",
        "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n",
        "Content-Encoding: gzip\r\nX: y\r\nContent-Encoding: br\r\n",
        "Content-Encoding: identity, gzip\r\n",
        "Content-Encoding: compress\r\n",
        "Content-Encoding: aws-chunked\r\n",
    ] {
        let heard = answers(&gateway, (post("x", headers) + NEXT).as_bytes()).await;
        let problem = heard[0].problem();
        assert_eq!(
            problem,
            (415, "unsupported_media_type".to_owned()),
            "{headers}"
        );
        assert!(
            heard[0].headers["accept-encoding"].contains("zstd"),
            "{headers}"
        );
        // The body was short, so its connection goes on.
        assert_eq!(heard[1].status, 200, "{headers}");
    }
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 0);
}

#[tokio::test]
async fn a_100_is_sent_only_for_a_body_that_is_wanted() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_body_bytes = 1000;
    let gateway = stage.start().await;
    let expect = "Expect: 100-Continue\r\n";
    let wanted = post("a", expect) + NEXT;
    assert_eq!(statuses(&gateway, &wanted).await, [100, 202, 200]);
    let refused = [
        (404, post("x", expect).replace("/logs", "/nothing")),
        (405, post("x", expect).replace("POST", "PUT")),
        (
            415,
            post("x", &format!("{expect}Content-Encoding: lzma\r\n")),
        ),
        (400, post("x", expect).replace("/logs", "/logs?sight=a")),
        (
            413,
            format!("POST /logs HTTP/1.1\r\n{JSON}{expect}Content-Length: 1001\r\n\r\n"),
        ),
    ];
    for (status, request) in refused {
        // The body may come or not: what stands behind the head is not taken for anything.
        let heard = answers(&gateway, (request + NEXT).as_bytes()).await;
        let statuses: Vec<_> = heard.iter().map(|heard| heard.status).collect();
        assert_eq!(statuses, [status]);
        assert_eq!(heard[0].headers["connection"], "close", "{status}");
    }
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 1);
}

#[tokio::test]
async fn good_and_refused_requests_in_one_pipeline_are_answered_in_their_order() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut sent = String::new();
    let mut expected = Vec::new();
    for n in 0..60 {
        let good = post(&format!("p{n}"), "");
        let (request, status) = match n % 6 {
            0 => (good, 202),
            1 => (chunked(&format!("c{n}"), "", ""), 202),
            2 => (NEXT.to_owned(), 200),
            3 => (good.replace("/logs", "/nothing"), 404),
            4 => (post("x", "Content-Encoding: x\r\n"), 415),
            _ => (post("x", "").replace("timestamp", "tomestamp"), 400),
        };
        sent += &request;
        expected.push(status);
    }
    assert_eq!(statuses(&gateway, &sent).await, expected);
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 20);
}
