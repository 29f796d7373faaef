//! `ingestion.rejectsDir`: what is refused is there for people, and never in the way.

use std::{io::Write as _, path::PathBuf, process::Command};

use flate2::{Compression, write::GzEncoder};
use pipeline_core::{
    config::InvalidRecords,
    fsx::faults::{Fault, under},
};
use serde_json::{Value, json};

use crate::harness::{Stage, record, records};

const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn stage() -> (Stage, PathBuf) {
    let mut stage = Stage::new(1).await;
    let dir = stage.dir.path().join("rejects");
    stage.config.ingestion.rejects_dir = Some(dir.clone());
    (stage, dir)
}

/// What `ingest-gateway rejects` prints, one value a line.
fn told(args: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_ingest-gateway"))
        .arg("rejects")
        .args(args)
        .arg("--json")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let wrong = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), wrong.as_str()),
        (Some(0), ""),
        "{said}"
    );
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn shown(dir: &std::path::Path, more: &[&str]) -> Vec<Value> {
    let args = [&["show", "--dir", dir.to_str().unwrap()], more].concat();
    told(&args)
}

#[tokio::test]
async fn each_kind_of_refusal_is_there_with_its_reason_and_its_bytes() {
    let (stage, dir) = stage().await;
    let gateway = stage.start().await;
    let some = format!(
        r#"[{},{{"path":"/x","site":"a.example"}},7]"#,
        record("good")
    );
    let accepted = gateway.post(&some).await;
    assert_eq!(accepted.accepted(), (1, 2, "kafka".to_owned()));
    assert_eq!(gateway.post("[{}]").await.status, 400);
    assert_eq!(gateway.post("[{").await.status, 400);
    let csv = [("Content-Type", "text/csv")];
    let row = b"2026-01-02T03:04:05Z,/\xff,x\n";
    let heard = gateway.ask("POST", "/logs?site=b.example", &csv, row).await;
    assert_eq!(heard.status, 400);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"{\"path\":").unwrap();
    let headers = [JSON, ("Content-Encoding", "gzip")];
    let heard = gateway
        .ask("POST", "/logs", &headers, &gzip.finish().unwrap())
        .await;
    assert_eq!(heard.problem(), (400, "unreadable_body".to_owned()));
    // None of these is a record's or a body's fault, and a good one leaves nothing.
    assert_eq!(gateway.post("[]").await.status, 400);
    assert_eq!(
        gateway
            .ask("POST", "/logs?x=1", &[JSON], b"[{")
            .await
            .status,
        400
    );
    assert_eq!(gateway.post(&records(["good"])).await.status, 202);
    gateway.stop().await;

    let lines = shown(&dir, &[]);
    let told: Vec<_> = lines
        .iter()
        .map(|line| json!([line["index"], line["code"], line["site"], line["raw"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!([
                1,
                "missing",
                "a.example",
                r#"{"path":"/x","site":"a.example"}"#
            ]),
            json!([2, "wrong_type", null, "7"]),
            json!([0, "missing", null, "{}"]),
            json!([null, "unreadable_body", null, "[{"]),
            json!([0, "invalid_utf8", "b.example", null]),
            json!([null, "unreadable_body", null, "{\"path\":"]),
        ]
    );
    assert_eq!(lines[0]["batchId"], accepted.batch_id());
    assert_eq!(lines[0]["rejected"], 2);
    assert_eq!(lines[0]["field"], "timestamp");
    assert_eq!(lines[0]["message"], accepted.json()["errors"][0]["message"]);
    assert_eq!(lines[4]["contentType"], "text/csv");
    assert!(lines[4]["rawBase64"].is_string(), "{}", lines[4]);
}

#[tokio::test]
async fn of_a_batch_that_is_refused_whole_the_invalid_records_are_there() {
    let (mut stage, dir) = stage().await;
    stage.config.ingestion.invalid_records = InvalidRecords::Reject;
    let gateway = stage.start().await;
    let heard = gateway.post(&format!("[{},{{}}]", record("good"))).await;
    assert_eq!(heard.problem().1, "invalid_records");
    gateway.stop().await;
    let lines = shown(&dir, &[]);
    assert_eq!((lines.len(), &lines[0]["raw"]), (1, &json!("{}")));
}

#[tokio::test]
async fn one_broken_body_leaves_no_more_than_its_answer_lists() {
    let (stage, dir) = stage().await;
    let gateway = stage.start().await;
    let body = format!("[{}7]", "{},".repeat(5000));
    let heard = gateway.post(&body).await;
    let listed = heard.json()["errors"].as_array().unwrap().len();
    gateway.stop().await;
    let lines = shown(&dir, &["--limit", "1000"]);
    assert_eq!((lines.len(), listed), (100, 100));
    assert_eq!(lines[0]["rejected"], 5001);
}

#[tokio::test]
async fn trouble_with_that_disk_is_no_clients_answer() {
    let (stage, dir) = stage().await;
    for fault in [Fault::Fails(28), Fault::Hangs] {
        let rule = under(&dir).then(fault);
        let gateway = stage.start().await;
        let body = format!("[{},{{}}]", record("good"));
        for _ in 0..20 {
            assert_eq!(
                gateway.post(&body).await.accepted(),
                (1, 1, "kafka".to_owned())
            );
        }
        gateway.stop().await;
        assert!(rule.hits() > 0, "{fault:?}");
        drop(rule);
    }
    let gateway = stage.start().await;
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains("\nrejects_dropped_records_total{reason=\"disk\"} "),
        "{metrics}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_list_says_who_sends_what_wrong_and_how_often() {
    let (stage, dir) = stage().await;
    let gateway = stage.start().await;
    for _ in 0..3 {
        let target = "/logs?site=a.example";
        let heard = gateway.ask("POST", target, &[JSON], br#"[{"path":"/"},{"path":""}]"#);
        assert_eq!(heard.await.status, 400);
        let target = "/logs?site=b.example";
        assert_eq!(
            gateway.ask("POST", target, &[JSON], b"[{").await.status,
            400
        );
    }
    gateway.stop().await;
    let dir = dir.to_str().unwrap();
    let groups = told(&["list", "--dir", dir]);
    let summary: Vec<_> = groups
        .iter()
        .map(|group| json!([group["site"], group["code"], group["count"]]))
        .collect();
    let missing = json!(["a.example", "missing", 6]);
    assert_eq!(
        summary,
        [missing, json!(["b.example", "unreadable_body", 3])]
    );
    assert_eq!(groups[0]["sample"]["raw"], r#"{"path":""}"#);
    assert_eq!(
        told(&["list", "--dir", dir, "--site", "B.example"]).len(),
        1
    );
    assert_eq!(told(&["list", "--dir", dir, "--code", "missing"]).len(), 1);
    assert_eq!(told(&["list", "--dir", dir, "--client", "nobody"]).len(), 0);
    let before = ["list", "--dir", dir, "--to", "2026-01-01T00:00:00Z"];
    assert_eq!(told(&before).len(), 0);
    let show = ["show", "--dir", dir, "--code", "missing", "--limit", "2"];
    assert_eq!(told(&show).len(), 2);
}
