//! Each status and code of the contract.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use pipeline_core::config::InvalidRecords;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::harness::{Stage, head, hear, record, records};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test]
async fn each_kind_of_body_is_accepted_plain_and_gzipped() {
    let stage = Stage::new(2).await;
    let gateway = stage.start().await;
    let line =
        r#"192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /text HTTP/1.1" 200 7 "-" "agent""#;
    let csv = "timestamp,path,userAgent\n2026-01-02T03:04:05Z,/csv,agent\n";
    let (json, ndjson) = (records(["array"]), format!("{}\n\n", record("ndjson")));
    let one = record("one");
    let bodies = [
        ("application/json", json.as_str()),
        ("application/json", one.as_str()),
        ("application/x-ndjson", ndjson.as_str()),
        ("application/jsonl", ndjson.as_str()),
        ("text/csv", csv),
        ("text/plain", line),
    ];
    for (media, body) in bodies {
        let headers = [("Content-Type", media)];
        let heard = gateway
            .ask("POST", "/logs", &headers, body.as_bytes())
            .await;
        assert_eq!(heard.accepted(), (1, 0, "kafka".to_owned()), "{media}");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(body.as_bytes()).unwrap();
        let headers = [("Content-Type", media), ("Content-Encoding", "gzip")];
        let heard = gateway
            .ask("POST", "/logs", &headers, &gzip.finish().unwrap())
            .await;
        assert_eq!(heard.accepted(), (1, 0, "kafka".to_owned()), "{media}");
    }
    assert_eq!(stage.stored().await.len(), 2 * bodies.len());
    gateway.stop().await;
}

#[tokio::test]
async fn good_neighbours_of_bad_records_are_kept_and_the_bad_are_named() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let body = format!(
        r#"[{},{{"path":"/x","userAgent":"a"}},{},7]"#,
        record("first"),
        record("third")
    );
    let heard = gateway.post(&body).await;
    assert_eq!(heard.accepted(), (2, 2, "kafka".to_owned()));
    let json = heard.json();
    assert_eq!(json["errors"][0]["index"], 1);
    assert_eq!(json["errors"][0]["field"], "timestamp");
    assert_eq!(json["errors"][0]["code"], "missing");
    assert_eq!(json["errors"][1]["index"], 3);
    assert_eq!(json["errorsOmitted"], 0);
    let stored = stage.stored().await;
    let sequences: Vec<_> = stored.iter().map(|s| s.envelope.sequence).collect();
    assert_eq!(sequences, [0, 2]);
    assert!(
        stored
            .iter()
            .all(|s| s.envelope.batch.to_string() == heard.batch_id())
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_site_in_the_query_is_that_of_records_without_one() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let body = format!("[{}]", record("a"));
    let heard = gateway
        .ask("POST", "/logs?site=shop.example", &[JSON], body.as_bytes())
        .await;
    assert_eq!(heard.status, 202);
    let stored = stage.stored().await;
    assert!(
        stored[0].value.contains(r#""site":"shop.example""#),
        "{}",
        stored[0].value
    );
    gateway.stop().await;
}

#[tokio::test]
async fn bad_requests_get_their_status_and_code() {
    let mut stage = Stage::new(1).await;
    stage.config.server.max_body_bytes = 10_000;
    stage.config.server.max_decoded_bytes = 20_000;
    let gateway = stage.start().await;
    let good = records(["a"]);
    let long_key = "k".repeat(256);
    let big = " ".repeat(10_001);
    type Case<'a> = (
        &'a str,
        &'a str,
        Vec<(&'a str, &'a str)>,
        &'a str,
        u16,
        &'a str,
    );
    let cases: Vec<Case<'_>> = vec![
        ("POST", "/logs", vec![JSON], "[{", 400, "unreadable_body"),
        ("POST", "/logs", vec![JSON], "[]", 400, "no_valid_record"),
        ("POST", "/logs", vec![JSON], "[{}]", 400, "no_valid_record"),
        ("POST", "/logs", vec![JSON], "", 400, "unreadable_body"),
        (
            "POST",
            "/logs?sight=x",
            vec![JSON],
            &good,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/logs?site=a%20b",
            vec![JSON],
            &good,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/logs",
            vec![JSON, ("Idempotency-Key", &long_key)],
            &good,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/logs",
            vec![JSON, ("Content-Encoding", "gzip")],
            &good,
            400,
            "unreadable_body",
        ),
        ("POST", "/log", vec![JSON], &good, 404, "not_found"),
        ("GET", "/", vec![], "", 404, "not_found"),
        ("GET", "/logs", vec![], "", 405, "method_not_allowed"),
        ("DELETE", "/logs", vec![], "", 405, "method_not_allowed"),
        ("POST", "/logs", vec![JSON], &big, 413, "too_large"),
        (
            "POST",
            "/logs",
            vec![],
            &good,
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/logs",
            vec![("Content-Type", "text/html")],
            &good,
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/logs",
            vec![JSON, ("Content-Encoding", "lzma")],
            &good,
            415,
            "unsupported_media_type",
        ),
    ];
    for (method, target, headers, body, status, code) in cases {
        let heard = gateway.ask(method, target, &headers, body.as_bytes()).await;
        assert_eq!(
            heard.problem(),
            (status, code.to_owned()),
            "{method} {target} {headers:?}"
        );
        assert!(!heard.headers.contains_key("retry-after"));
        match status {
            405 => assert_eq!(heard.headers["allow"], "POST"),
            415 => assert!(
                heard.headers.contains_key("accept-post")
                    || heard.headers.contains_key("accept-encoding")
            ),
            _ => {}
        }
    }
    let heard = gateway.post("[{}]").await;
    assert_eq!(heard.json()["errors"][0]["code"], "missing");
    assert_eq!(stage.stored().await, []);
    gateway.stop().await;
}

#[tokio::test]
async fn invalid_records_reject_refuses_the_whole_batch() {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.invalid_records = InvalidRecords::Reject;
    let gateway = stage.start().await;
    let heard = gateway.post(&format!("[{},{{}}]", record("good"))).await;
    assert_eq!(heard.problem(), (400, "invalid_records".to_owned()));
    assert_eq!(heard.json()["errors"][0]["index"], 1);
    assert_eq!(heard.json()["rejected"], 1);
    assert_eq!(stage.stored().await, []);
    assert_eq!(gateway.post(&records(["good"])).await.status, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn a_record_over_the_limits_is_an_error_of_its_own() {
    let mut stage = Stage::new(1).await;
    stage
        .broker
        .set_setting("logs", "max.message.bytes", "20000")
        .unwrap();
    stage.config.ingestion.max_record_bytes = 30_000;
    let gateway = stage.start().await;
    let body = format!("[{},{}]", record("good"), record(&"x".repeat(20_000)));
    let heard = gateway.post(&body).await;
    assert_eq!(heard.accepted(), (1, 1, "kafka".to_owned()));
    assert_eq!(heard.json()["errors"][0]["code"], "too_large");
    gateway.stop().await;
}

#[tokio::test]
async fn connections_are_kept_and_pipelined_requests_answered_in_order() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let mut sent = String::new();
    for path in ["a", "b", "c"] {
        let body = records([path]);
        sent += &head("POST", "/logs", &[JSON], body.len());
        sent += &body;
    }
    sent += &head("GET", "/livez", &[], 0);
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut batches = Vec::new();
    for _ in 0..3 {
        batches.push(hear(&mut stream).await.batch_id());
    }
    assert_eq!(hear(&mut stream).await.status, 200);
    let mut stored = stage.stored().await;
    stored.sort_by(|a, b| a.value.cmp(&b.value));
    let ids: Vec<_> = stored
        .iter()
        .map(|s| s.envelope.batch.to_string())
        .collect();
    assert_eq!(ids, batches);
    gateway.stop().await;
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_on_the_same_listener() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = hyper::Request::post("http://gateway/logs")
        .header("content-type", "application/json")
        .body(Full::<bytes::Bytes>::from(records(["a", "b"])))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 202);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["accepted"], 2);
    drop(sender);
    gateway.stop().await;
    let _ = connection.await;
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    gateway.post(&records(["a"])).await;
    gateway.post("[{}]").await;
    let metrics = gateway.metrics().await;
    for name in [
        "ingestion_work_queue_depth",
        "ingestion_work_queue_capacity",
        "ingestion_work_queue_bytes",
        "ingestion_work_queue_fill_ratio",
        "log_batches_received_total",
        "log_records_accepted_total",
        "log_records_rejected_total{code=\"missing\"}",
        "invalid_requests_total{code=\"no_valid_record\"}",
        "http_request_duration_seconds_count",
        "producer_write_duration_seconds_count",
        "producer_errors_total{kind=\"unknown_outcome\"}",
        "producer_retries_total",
        "producer_dlq_records",
        "producer_dlq_bytes",
        "kafka_up",
    ] {
        assert!(metrics.contains(&format!("\n{name} ")), "{name}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn probes_are_answered_on_the_same_listener() {
    let stage = Stage::new(1).await;
    let gateway = stage.start().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.ask("GET", path, &[], b"").await.status, 200);
    }
    gateway.stop().await;
}
