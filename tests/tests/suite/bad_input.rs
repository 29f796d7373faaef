//! Bad input gets the contract's status and a message that names place, found and allowed; good
//! neighbours are kept, and nothing else is.

mod bodies;

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
use bodies::{GOOD, Rejected, all_bad, field, partly_good};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
const TEXT: &str = "text/plain";
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
    dir.passed()
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
    dir.passed()
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
