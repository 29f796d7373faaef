//! What the document says is accepted, and what it says is not: the server is of the same mind.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{
    JSON,
    described::{Described, second_judge},
};
use crate::harness::{Stage, record};

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
