//! Bad input gets the contract's status and a message that names place, found and allowed; good
//! neighbours are kept, and nothing else is.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use testbed::{
    body::gzip,
    http::{Client, Request, Response, raw},
    process::poll_until,
    stand::{Plan, Stand},
    store::Counter,
};

use crate::RunDir;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
const TEXT: &str = "text/plain";
const GOOD: &str =
    r#"{"timestamp":"2025-05-17T10:05:03+02:00","path":"/good","userAgent":"curl/8.14.1"}"#;
const LINE: &str =
    r#"192.0.2.1 - - [17/May/2025:10:05:03 +0000] "GET /good HTTP/1.1" 200 1 "-" "a""#;

/// What must be rejected, at which index, and which words the message must hold.
struct Rejected {
    index: u64,
    field: Option<&'static str>,
    words: &'static [&'static str],
}

const fn at(index: u64, words: &'static [&'static str]) -> Rejected {
    Rejected {
        index,
        field: None,
        words,
    }
}

const fn field(index: u64, name: &'static str, words: &'static [&'static str]) -> Rejected {
    Rejected {
        index,
        field: Some(name),
        words,
    }
}

/// What it is, media type, body, good records in it, and the others.
type PartlyGood = (&'static str, &'static str, Vec<u8>, u64, Vec<Rejected>);

/// Bodies whose good records are kept although others are not.
fn partly_good() -> Vec<PartlyGood> {
    let big = format!(
        r#"{{"timestamp":"2025-05-17T10:05:03Z","path":"/big","userAgent":"a","x":"{}"}}"#,
        "x".repeat(300 * 1024)
    );
    let mut not_utf8 = format!("{GOOD}\n").into_bytes();
    not_utf8.extend(
        b"{\"timestamp\":\"2025-05-17T10:05:03Z\",\"path\":\"/\xff\xfe\",\"userAgent\":\"a\"}\n",
    );
    not_utf8.extend(GOOD.as_bytes());
    let mut text_not_utf8 = format!("{LINE}\n").into_bytes();
    text_not_utf8.extend(LINE.replace("/good", "/").as_bytes());
    text_not_utf8.extend(b"\xff\n");
    vec![
        (
            "a 300 KiB record among good ones",
            JSON,
            format!("[{GOOD},{big},{GOOD}]").into_bytes(),
            2,
            vec![at(1, &["262144"])],
        ),
        (
            "the same as NDJSON",
            NDJSON,
            format!("{GOOD}\n{big}\n{GOOD}\n").into_bytes(),
            2,
            vec![at(1, &["262144"])],
        ),
        (
            "a line that is not UTF-8",
            NDJSON,
            not_utf8,
            2,
            vec![at(1, &["UTF-8"])],
        ),
        (
            "a log line that is not UTF-8",
            TEXT,
            text_not_utf8,
            1,
            vec![at(1, &["UTF-8"])],
        ),
        (
            "a truncated NDJSON line",
            NDJSON,
            format!("{GOOD}\n\n{{\"timestamp\":\"2025-05\n{GOOD}").into_bytes(),
            2,
            vec![at(1, &[])],
        ),
        (
            "wrong types",
            JSON,
            format!(
                "[{GOOD},{},{},{},{}]",
                GOOD.replace('}', r#","status":"OK"}"#),
                GOOD.replace('}', r#","bytes":-1}"#),
                GOOD.replace('}', r#","status":999}"#),
                GOOD.replace("\"/good\"", "17"),
            )
            .into_bytes(),
            1,
            vec![
                field(1, "status", &["OK"]),
                field(2, "bytes", &["-1"]),
                field(3, "status", &["999", "599"]),
                field(4, "path", &["17"]),
            ],
        ),
        (
            "missing and blank fields",
            JSON,
            format!(
                "[{},{},{},{GOOD},{}]",
                r#"{"path":"/","userAgent":"a"}"#,
                GOOD.replace("/good", " "),
                GOOD.replace("userAgent", "user_agent"),
                // Blank is allowed here: stored as `-`.
                GOOD.replace("curl/8.14.1", ""),
            )
            .into_bytes(),
            2,
            vec![
                field(0, "timestamp", &[]),
                field(1, "path", &[]),
                field(2, "userAgent", &[]),
            ],
        ),
        (
            "a time that is none",
            JSON,
            format!(
                "[{},{GOOD}]",
                GOOD.replace("2025-05-17T10:05:03+02:00", "yesterday")
            )
            .into_bytes(),
            1,
            vec![field(0, "timestamp", &["yesterday", "RFC 3339"])],
        ),
        (
            "elements that are no records",
            JSON,
            format!("[17,{GOOD},\"x\",null]").into_bytes(),
            1,
            vec![at(0, &[]), at(2, &[]), at(3, &[])],
        ),
        (
            "a CSV row that is too short",
            CSV,
            b"timestamp,path,userAgent\n2025-05-17T10:05:03Z,/good,a\n2025-05-17T10:05:03Z,/\n"
                .to_vec(),
            1,
            vec![at(1, &[])],
        ),
        (
            "a broken log line",
            TEXT,
            format!("{LINE}\nnonsense\n\n{LINE}\r\n").into_bytes(),
            2,
            vec![at(1, &[])],
        ),
    ]
}

/// Bodies of which nothing may be kept.
fn all_bad() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        (
            "a truncated array",
            JSON,
            format!("[{GOOD},{GOOD}").into_bytes(),
        ),
        (
            "an array cut inside a record",
            JSON,
            format!("[{GOOD},{}", &GOOD[..40]).into_bytes(),
        ),
        (
            "an array with more behind it",
            JSON,
            format!("[{GOOD}] x").into_bytes(),
        ),
        ("an empty array", JSON, b"[]".to_vec()),
        ("no body", JSON, Vec::new()),
        ("no line", NDJSON, b"\n\n".to_vec()),
        ("a number", JSON, b"17".to_vec()),
        ("only bad records", JSON, br#"[{"path":"/"}]"#.to_vec()),
        (
            "a CSV without the agent's column",
            CSV,
            b"timestamp,path\n2025-05-17T10:05:03Z,/\n".to_vec(),
        ),
        (
            "only a CSV header",
            CSV,
            b"timestamp,path,userAgent\n".to_vec(),
        ),
        ("only broken lines", TEXT, b"one\ntwo\n".to_vec()),
    ]
}

#[test]
fn bad_input_is_named_and_good_neighbours_are_kept() -> Result<()> {
    let dir = RunDir::new("bad-input");
    let plan = Plan::from_env()
        .with("server.maxBodyBytes", "2MiB")
        .with("server.maxDecodedBytes", "3MiB")
        .with("server.bodyTimeout", "1s");
    let stand = Stand::up(&dir, plan)?;
    let gateway = stand.addresses[0];

    let mut kept = 0;
    for (what, media, body, good, rejected) in partly_good() {
        let response = post(gateway, &[("content-type", media)], &body)?;
        assert_eq!(response.status, 202, "{what}: {}", response.text());
        check_errors(what, &response, &rejected);
        let said = response.json();
        assert_eq!(said["accepted"], good, "{what}: {said}");
        assert_eq!(said["rejected"], rejected.len() as u64, "{what}: {said}");
        kept += good;
    }
    for (what, media, body) in all_bad() {
        let response = post(gateway, &[("content-type", media)], &body)?;
        check_problem(what, &response, 400);
    }
    refused_by_shape(gateway)?;
    refused_by_size_or_time(gateway)?;

    let mut stored = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    let all = poll_until(Duration::from_secs(60), || {
        Ok((stored.records()? >= kept).then_some(()))
    })?;
    assert!(all.is_some(), "{} of {kept} stored", stored.records()?);
    let mut stand = stand;
    for service in stand.services() {
        service.terminate()?;
    }
    assert_eq!(stored.records()?, kept, "nothing else may be there");
    Ok(())
}

#[test]
fn with_reject_one_bad_record_refuses_its_whole_batch() -> Result<()> {
    let dir = RunDir::new("reject");
    let plan = Plan::from_env().with("ingestion.invalidRecords", "reject");
    let mut stand = Stand::up(&dir, plan)?;
    let gateway = stand.addresses[0];
    let bad = GOOD.replace("timestamp", "time");
    let body = format!("[{GOOD},{bad},{GOOD}]");
    let response = post(gateway, &[("content-type", JSON)], body.as_bytes())?;
    check_problem("one bad record", &response, 400);
    check_errors("one bad record", &response, &[field(1, "timestamp", &[])]);

    let body = format!("[{GOOD},{GOOD}]");
    let response = post(gateway, &[("content-type", JSON)], body.as_bytes())?;
    assert_eq!(response.status, 202, "{}", response.text());
    let mut stored = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    let all = poll_until(Duration::from_secs(60), || {
        Ok((stored.records()? >= 2).then_some(()))
    })?;
    assert!(all.is_some(), "{} of 2 stored", stored.records()?);
    for service in stand.services() {
        service.terminate()?;
    }
    assert_eq!(stored.records()?, 2, "nothing else may be there");
    Ok(())
}

fn refused_by_shape(gateway: SocketAddr) -> Result<()> {
    let good = GOOD.as_bytes();
    let response = post(gateway, &[("content-type", "application/xml")], good)?;
    check_problem("an unknown type", &response, 415);
    let offered = response.header("accept-post").unwrap_or_default();
    for media in [JSON, NDJSON, CSV, TEXT] {
        assert!(offered.contains(media), "Accept-Post: {offered}");
    }
    let response = post(gateway, &[], good)?;
    check_problem("no type", &response, 415);

    let response = post(
        gateway,
        &[("content-type", JSON), ("content-encoding", "compress")],
        good,
    )?;
    check_problem("an unknown encoding", &response, 415);
    let offered = response.header("accept-encoding").unwrap_or_default();
    assert!(offered.contains("gzip"), "Accept-Encoding: {offered}");

    let mut torn = gzip(format!("[{GOOD}]").as_bytes());
    torn.truncate(torn.len() - 12);
    for (what, body) in [("torn gzip", torn), ("no gzip", good.to_vec())] {
        let headers = [("content-type", JSON), ("content-encoding", "gzip")];
        check_problem(what, &post(gateway, &headers, &body)?, 400);
    }

    let response = send(gateway, "GET", "/logs", &[], b"")?;
    check_problem("GET", &response, 405);
    assert!(
        response
            .header("allow")
            .is_some_and(|allow| allow.contains("POST")),
        "{response:?}"
    );
    let response = send(gateway, "POST", "/nothing", &[("content-type", JSON)], good)?;
    check_problem("another path", &response, 404);
    Ok(())
}

fn refused_by_size_or_time(gateway: SocketAddr) -> Result<()> {
    let many = format!("{GOOD}\n").repeat(40_000);
    let response = post(
        gateway,
        &[("content-type", NDJSON)],
        &many.as_bytes()[..2_500_000],
    )?;
    check_problem("a body over maxBodyBytes", &response, 413);
    assert!(
        response.text().contains("maxBodyBytes"),
        "{}",
        response.text()
    );

    let bomb = gzip(many.as_bytes());
    assert!(bomb.len() < 2_000_000, "{} bytes", bomb.len());
    let many = [("content-type", NDJSON), ("content-encoding", "gzip")];
    let response = post(gateway, &many, &bomb)?;
    check_problem("a body over maxDecodedBytes", &response, 413);
    assert!(
        response.text().contains("maxDecodedBytes"),
        "{}",
        response.text()
    );

    let head = "POST /logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 1000\r\n\r\n[{";
    let response = raw(gateway, head.as_bytes(), Duration::from_secs(20))?;
    check_problem("a stalled body", &response, 408);
    Ok(())
}

fn post(gateway: SocketAddr, headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
    send(gateway, "POST", "/logs", headers, body)
}

fn send(
    gateway: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut client = Client::new(gateway, Duration::from_secs(30));
    Ok(client.send(&Request {
        method,
        target,
        headers,
        body,
    })?)
}

#[track_caller]
fn check_errors(what: &str, response: &Response, rejected: &[Rejected]) {
    let said = response.json();
    let errors = said["errors"].as_array().cloned().unwrap_or_default();
    for expected in rejected {
        let error = errors.iter().find(|error| error["index"] == expected.index);
        let Some(error) = error else {
            panic!("{what}: no error at {}: {said}", expected.index)
        };
        if let Some(field) = expected.field {
            assert_eq!(error["field"], field, "{what}: {said}");
        }
        assert!(error["code"].is_string(), "{what}: {said}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{what}: {said}");
        for word in expected.words {
            assert!(message.contains(word), "{what}: no {word} in {message:?}");
        }
    }
}

#[track_caller]
fn check_problem(what: &str, response: &Response, status: u16) {
    assert_eq!(response.status, status, "{what}: {}", response.text());
    let media = response.header("content-type").unwrap_or_default();
    assert!(
        media.starts_with("application/problem+json"),
        "{what}: {media}"
    );
    let said = response.json();
    assert!(said["code"].is_string(), "{what}: no code in {said}");
}
