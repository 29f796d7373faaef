//! `/openapi.json` against what the server does: each documented answer is provoked, and each
//! answer is as it is documented.

mod described;
mod schema;

use std::{collections::BTreeSet, io::Write as _};

use dev_broker::{Api, Fault, error_code};
use flate2::{Compression, write::GzEncoder};
use ingest_gateway::{Gateway, http::problem::Code};
use pipeline_core::{
    config::InvalidRecords,
    lifecycle::{Hangup, Readiness},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use self::described::{Described, documented, second_judge};
use crate::{
    auth::guarded,
    harness::{Running, Stage, ask, head, hear, record, records},
};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const PATH: &str = "/openapi.json";

/// Method, target, headers, body; and the status it is answered with.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16);

#[tokio::test]
async fn each_documented_problem_is_given_and_each_that_is_given_is_documented() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_body_bytes = 10_000;
    stage.config.server.body_timeout = std::time::Duration::from_millis(100);
    let gateway = stage.start().await;
    let mut described = Described::by(&gateway).await;
    wrong_requests(&mut described, &gateway).await;
    probes(&mut described, &gateway).await;
    gateway.stop().await;
    not_ready(&mut described, &stage).await;
    who_may_not(&mut described).await;
    full_queue(&mut described).await;
    no_memory(&mut described).await;
    nowhere_to_keep(&mut described).await;
    unknown_outcome(&mut described).await;
    draining(&mut described).await;

    let mut there_are: BTreeSet<_> = Code::ALL
        .iter()
        .map(|code| (code.status().as_u16(), code.as_str().to_owned()))
        .collect();
    there_are.insert((503, "not_ready".to_owned()));
    assert_eq!(documented(&described.document), there_are);
    assert_eq!(described.seen, there_are, "not every problem was provoked");
    second_judge(&described);
}

async fn wrong_requests(described: &mut Described, gateway: &Running) {
    for body in ["[{", "[]", "[{}]", "7", "", "[{\"path\":7}"] {
        assert_eq!(described.post(gateway, body).await.status, 400, "{body}");
    }
    let some = format!("[{},{{}},3]", record("good"));
    assert_eq!(described.post(gateway, &some).await.accepted().1, 2);
    let many = format!("[{}{}]", "3,".repeat(150), record("good"));
    assert_eq!(
        described.post(gateway, &many).await.json()["errorsOmitted"],
        50
    );

    let good = record("good");
    let large = " ".repeat(10_001);
    let cases: [Case<'_>; 13] = [
        ("POST", "/logs?sight=x", &[JSON], &good, 400),
        ("POST", "/logs?site=a:80", &[JSON], &good, 400),
        (
            "POST",
            "/logs",
            &[JSON, ("Idempotency-Key", "a b")],
            &good,
            400,
        ),
        (
            "POST",
            "/logs",
            &[JSON, ("Content-Encoding", "gzip")],
            &good,
            400,
        ),
        ("POST", "/log", &[JSON], &good, 404),
        ("GET", "/", &[], "", 404),
        ("GET", "/logs", &[], "", 405),
        ("PUT", "/logs", &[], "", 405),
        ("POST", PATH, &[JSON], &good, 405),
        ("POST", "/livez", &[JSON], &good, 405),
        ("POST", "/logs", &[JSON], &large, 413),
        (
            "POST",
            "/logs",
            &[("Content-Type", "text/html")],
            &good,
            415,
        ),
        (
            "POST",
            "/logs",
            &[JSON, ("Content-Encoding", "br, gzip")],
            &good,
            415,
        ),
    ];
    for (method, target, headers, body, status) in cases {
        let heard = described.ask(gateway, method, target, headers, body.as_bytes());
        assert_eq!(heard.await.status, status, "{method} {target} {headers:?}");
    }

    let mut stream = stalled(gateway).await;
    described.check("post", "/logs", &hear(&mut stream).await);
}

async fn probes(described: &mut Described, gateway: &Running) {
    for path in ["/livez", "/readyz", PATH] {
        let heard = described.ask(gateway, "GET", path, &[], b"").await;
        assert_eq!(heard.status, 200);
    }
}

/// A request whose body never ends.
async fn stalled(gateway: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = head("POST", "/logs", &[JSON], 100);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"[").await.unwrap();
    stream
}

async fn not_ready(described: &mut Described, stage: &Stage) {
    let readiness = Readiness::default();
    readiness.wait_for("this test");
    let hangup = Hangup::manual();
    let gateway = Gateway::start(&stage.config, readiness, &hangup).await;
    let heard = ask(gateway.unwrap().addr(), "GET", "/readyz", &[], b"").await;
    assert_eq!(heard.problem(), (503, "not_ready".to_owned()));
    described.check("get", "/readyz", &heard);
}

async fn who_may_not(described: &mut Described) {
    let (_stage, gateway) = guarded(Stage::new(1).await).await;
    let foreign = record("a").replace('}', r#","site":"evil.example"}"#);
    let many = format!("[{}]", vec![record("a"); 100].join(","));
    for (key, body, status) in [
        ("slk_wrong", &many, 401),
        ("slk_bound", &foreign, 403),
        ("slk_slow", &many, 202),
        ("slk_slow", &many, 429),
    ] {
        let headers = [JSON, ("X-API-Key", key)];
        let heard = described.ask(&gateway, "POST", "/logs", &headers, body.as_bytes());
        assert_eq!(heard.await.status, status, "{key}");
    }
    gateway.stop().await;
}

async fn full_queue(described: &mut Described) {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.queue_buffer_size = 1;
    stage.config.ingestion.producer_workers = 1;
    // Answers come at once, and nothing leaves while the broker stands still.
    stage.config.kafka.async_ack = true;
    stage.config.ingestion.invalid_records = InvalidRecords::Reject;
    let gateway = stage.start().await;
    let invalid = format!("[{},{{}}]", record("good"));
    let heard = described.post(&gateway, &invalid).await;
    assert_eq!(heard.problem(), (400, "invalid_records".to_owned()));
    stage.broker.pause();
    let mut kept = 0;
    let refused = loop {
        let heard = described.post(&gateway, &record("a")).await;
        if heard.status != 202 {
            break heard;
        }
        assert_eq!(heard.accepted().2, "queue");
        kept += 1;
        assert!(kept < 100, "no bound");
    };
    assert_eq!(refused.problem(), (429, "queue_full".to_owned()));
    stage.broker.resume();
    gateway.stop().await;
}

async fn no_memory(described: &mut Described) {
    let mut stage = Stage::new(1).await;
    stage.config.server.memory_budget = 256 << 10;
    let gateway = stage.start().await;
    let mut waiting = Vec::new();
    let refused = loop {
        let heard = described.post(&gateway, &record("a")).await;
        if heard.status != 202 {
            break heard;
        }
        waiting.push(stalled(&gateway).await);
        assert!(waiting.len() < 90, "no bound");
    };
    assert_eq!(refused.problem(), (503, "memory".to_owned()));
    drop(waiting);
    gateway.stop().await;
}

async fn nowhere_to_keep(described: &mut Described) {
    let mut stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let produce = stage.broker.faults().on(Api::Produce).always();
    produce.then(Fault::AnswerError(error_code::NOT_ENOUGH_REPLICAS));
    let heard = described.post(&gateway, &record("a")).await;
    assert_eq!(heard.accepted().2, "dlq");
    gateway.stop().await;
    stage.config.ingestion.producer_dlq_max_bytes = 0;
    let gateway = stage.start().await;
    let heard = described.post(&gateway, &record("a")).await;
    assert_eq!(heard.problem(), (503, "nowhere_to_keep".to_owned()));
    gateway.stop().await;
}

async fn unknown_outcome(described: &mut Described) {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.producer_dlq_max_bytes = 0;
    let gateway = stage.start().await;
    let produce = stage.broker.faults().on(Api::Produce).always();
    produce.then(Fault::DoneButError(error_code::REQUEST_TIMED_OUT));
    let heard = described.post(&gateway, &record("a")).await;
    assert_eq!(heard.problem(), (503, "unknown_outcome".to_owned()));
    gateway.stop().await;
}

async fn draining(described: &mut Described) {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    // So that it has something to wait for.
    let in_work = stalled(&gateway).await;
    gateway.ask("GET", "/livez", &[], b"").await;
    gateway.request_shutdown();
    loop {
        let heard = gateway.ask("GET", "/readyz", &[], b"").await;
        described.check("get", "/readyz", &heard);
        if heard.status == 503 {
            assert_eq!(heard.problem().1, "draining");
            break;
        }
    }
    let heard = described.post(&gateway, &record("a")).await;
    assert_eq!(heard.problem(), (503, "draining".to_owned()));
    let heard = described.ask(&gateway, "GET", PATH, &[], b"").await;
    assert_eq!(heard.json(), described_again(described));
    drop(in_work);
    gateway.ended().await;
}

/// The document of a gateway without the limits that the first one had.
fn described_again(described: &Described) -> Value {
    let mut document = described.document.clone();
    let text = &mut document["paths"]["/logs"]["post"]["description"];
    let other = text.as_str().unwrap();
    let other = other
        .replace(" 10000 bytes as sent", " 1048576 bytes as sent")
        .replace("100ms without a byte", "10s without a byte");
    *text = json!(other);
    document
}

#[tokio::test]
async fn the_record_of_the_document_is_the_record_of_the_server() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut described = Described::by(&gateway).await;
    let long_label = format!("{}.example", "a".repeat(63));
    let too_long_label = format!("{}.example", "a".repeat(64));
    let with = |name: &str, value: Value| {
        let mut record: Value = serde_json::from_str(&record("a")).unwrap();
        record[name] = value;
        record
    };
    let good = [
        with("any", json!({"other": [1, null]})),
        with("timestamp", json!("2026-01-02T03:04:05.123456789+05:30")),
        with("userAgent", json!(" ")),
        with("site", json!("shop.example")),
        with("site", json!("a_b-c.Example")),
        with("site", json!(long_label)),
        with("site", json!("")),
        with("site", json!(null)),
        with("method", json!("GET")),
        with("method", json!(null)),
        with("status", json!(100)),
        with("status", json!(599)),
        with("status", json!(null)),
        with("bytes", json!(0)),
        with("bytes", json!(i64::MAX)),
        with("durationMs", json!(0.25)),
        with("durationMs", json!(1e3)),
        with("remoteAddr", json!("::1")),
        with("referer", json!("")),
        with("protocol", json!("HTTP/2.0")),
    ];
    let bad = [
        json!(7),
        json!([]),
        json!({}),
        json!({"timestamp": "2026-01-02T03:04:05Z", "path": "/"}),
        json!({"timestamp": "2026-01-02T03:04:05Z", "userAgent": "x"}),
        json!({"path": "/", "userAgent": "x"}),
        with("timestamp", json!(1_700_000_000)),
        with("timestamp", json!("yesterday")),
        with("timestamp", json!("2026-13-02T03:04:05Z")),
        with("timestamp", json!("2026-01-02T03:04:05")),
        with("timestamp", json!(null)),
        with("path", json!(" \t")),
        with("path", json!(["/"])),
        with("userAgent", json!(null)),
        with("userAgent", json!(7)),
        with("site", json!("a.example:80")),
        with("site", json!("-a.example")),
        with("site", json!("a..example")),
        with("site", json!(too_long_label)),
        with("site", json!(7)),
        with("method", json!(true)),
        with("status", json!(99)),
        with("status", json!(600)),
        with("status", json!("200")),
        with("status", json!(200.5)),
        with("bytes", json!(-1)),
        with("bytes", json!("1")),
        with("durationMs", json!(-0.5)),
        with("durationMs", json!({})),
        with("remoteAddr", json!(["::1"])),
        with("referer", json!(0)),
        with("protocol", json!(1.1)),
    ];
    let all = good
        .iter()
        .map(|r| (r, true))
        .chain(bad.iter().map(|r| (r, false)));
    for (record, valid) in all {
        let verdict = described.judge("/components/schemas/Record", record);
        assert_eq!(
            verdict.is_ok(),
            valid,
            "the document, of {record}: {verdict:?}"
        );
        let heard = described.post(&gateway, &format!("[{record}]")).await;
        assert_eq!(
            heard.status == 202,
            valid,
            "the server, of {record}: {heard:?}"
        );
    }
    gateway.stop().await;
    second_judge(&described);
}

#[tokio::test]
async fn each_example_and_each_encoding_of_the_document_is_accepted() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut described = Described::by(&gateway).await;
    let post = described.document["paths"]["/logs"]["post"].clone();
    let mut records = 0;
    for (media, content) in post["requestBody"]["content"].as_object().unwrap() {
        let examples = content["examples"].as_object();
        for example in examples.into_iter().flat_map(|examples| examples.values()) {
            let example = &example["value"];
            let escaped = media.replace('/', "~1");
            let place = format!("/paths/~1logs/post/requestBody/content/{escaped}/schema");
            assert_eq!(described.judge(&place, example), Ok(()));
            let body = example.as_str().map_or(example.to_string(), str::to_owned);
            let headers = [("Content-Type", media.as_str())];
            let heard = described.ask(&gateway, "POST", "/logs", &headers, body.as_bytes());
            assert_eq!(
                heard.await.accepted(),
                (1, 0, "kafka".to_owned()),
                "{media}"
            );
            records += 1;
        }
    }
    assert_eq!(records, 6, "examples");
    for media in ["application/ndjson", "application/jsonl"] {
        let (headers, body) = ([("Content-Type", media)], record("a"));
        let heard = described.ask(&gateway, "POST", "/logs", &headers, body.as_bytes());
        assert_eq!(heard.await.status, 202, "{media}");
    }
    let parameters = post["parameters"].as_array().unwrap();
    let mut encodings = parameters
        .iter()
        .filter(|p| p["name"] == "Content-Encoding");
    for encoding in encodings.next().unwrap()["schema"]["enum"]
        .as_array()
        .unwrap()
    {
        let encoding = encoding.as_str().unwrap();
        let body = encoded(encoding, record("a").as_bytes());
        let headers = [JSON, ("Content-Encoding", encoding)];
        let heard = described.ask(&gateway, "POST", "/logs", &headers, &body);
        assert_eq!(heard.await.status, 202, "{encoding}");
    }
    gateway.stop().await;
    second_judge(&described);
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    let best = Compression::best();
    match encoding {
        "identity" => body.to_vec(),
        "gzip" => {
            let mut writer = GzEncoder::new(Vec::new(), best);
            writer.write_all(body).unwrap();
            writer.finish().unwrap()
        }
        "deflate" => {
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), best);
            writer.write_all(body).unwrap();
            writer.finish().unwrap()
        }
        "zstd" => zstd::encode_all(body, 1).unwrap(),
        // One uncompressed meta-block (RFC 7932, section 9.2), and an empty last one.
        "br" => {
            let length = u32::try_from(body.len() - 1).unwrap();
            // WBITS 16 (0), not the last (0), four nibbles (00), the length, uncompressed (1).
            let head = length << 4 | 1 << 20;
            let mut stream = head.to_le_bytes()[..3].to_vec();
            stream.extend_from_slice(body);
            stream.push(3);
            stream
        }
        other => panic!("no test for {other}"),
    }
}

#[tokio::test]
async fn the_document_is_read_by_get_and_head_alone() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let whole = gateway.ask("GET", PATH, &[], b"").await;
    assert_eq!(whole.headers["content-type"], "application/json");
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let both = head("HEAD", PATH, &[], 0) + &head("GET", "/livez", &[], 0);
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut heard = String::new();
    while !heard.ends_with("ok\n") {
        let mut bytes = [0; 1024];
        let count = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await;
        let count = count.unwrap();
        assert!(count > 0, "{heard}");
        heard += std::str::from_utf8(&bytes[..count]).unwrap();
    }
    let length = format!("content-length: {}", whole.body.len());
    assert!(heard.to_ascii_lowercase().contains(&length), "{heard}");
    assert!(!heard.contains("openapi"), "{heard}");
    let heard = gateway.post(&records(["a"])).await;
    assert_eq!(heard.status, 202);
    gateway.stop().await;
}
