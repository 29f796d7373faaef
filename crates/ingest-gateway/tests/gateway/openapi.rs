//! `/openapi.json` against what the server does: each documented answer is provoked, and each
//! answer is as it is documented.

mod accepted;
mod described;
mod schema;

use std::collections::BTreeSet;

use dev_broker::{Api, Fault, error_code};
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

    let mut stream = stalled(gateway, 0).await;
    described.check("post", "/logs", &hear(&mut stream).await);
}

async fn probes(described: &mut Described, gateway: &Running) {
    for path in ["/livez", "/readyz", PATH] {
        let heard = described.ask(gateway, "GET", path, &[], b"").await;
        assert_eq!(heard.status, 200);
    }
}

/// A request whose body never ends.
/// A request that stops in a record of which it has sent so many bytes.
async fn stalled(gateway: &Running, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = head("POST", "/logs", &[JSON], bytes + 100);
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = format!(r#"[{{"path":"{}"#, "a".repeat(bytes));
    stream.write_all(begun.as_bytes()).await.unwrap();
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
    // Connections have half of it, so bodies must hold something to have the rest.
    stage.config.server.memory_budget = 1 << 20;
    let gateway = stage.start().await;
    let mut waiting = Vec::new();
    let refused = loop {
        let heard = described.post(&gateway, &record("a")).await;
        if heard.status != 202 {
            break heard;
        }
        waiting.push(stalled(&gateway, 60_000).await);
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
    let in_work = stalled(&gateway, 0).await;
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
