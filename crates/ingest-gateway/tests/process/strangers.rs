//! curl as a client that shares no code with us.

use std::{
    fs::File,
    path::Path,
    process::{Command, Output},
};

use testbed::skip::skipped;

use crate::{place::Place, tls::place_with_tls};

const RECORD: &str = r#"{"timestamp":"2026-01-02T03:04:05Z","path":"/","userAgent":"curl"}"#;

/// Whether there is a curl that can do all that is asked of it here.
pub fn has_curl() -> bool {
    let said = Command::new("curl").arg("--version").output();
    let version = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let why = match version {
        Err(error) => format!("not to be started: {error}"),
        Ok(said) if !said.contains("HTTP2") => "it has no HTTP/2".to_owned(),
        Ok(said) if !said.contains(" https ") => "it has no TLS".to_owned(),
        Ok(_) => return true,
    };
    skipped("curl", &why);
    false
}

/// Status and HTTP version of the last answer, as `202 2`.
pub fn curl(arguments: &[&str]) -> String {
    let output = run(arguments);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// As [`curl`], with a body that never ends.
pub fn curl_without_end(arguments: &[&str]) -> String {
    let output = command(arguments)
        .args(["-X", "POST", "--upload-file", "-"])
        .stdin(File::open("/dev/zero").unwrap())
        .output()
        .expect("curl can be started");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(arguments: &[&str]) -> Output {
    let output = command(arguments).output();
    output.expect("curl can be started")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--noproxy",
            "*",
        ])
        .args([
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code} %{http_version}",
        ])
        .args(arguments);
    command
}

/// curl's arguments for one POST in this way.
fn post<'a>(way: &[&'a str], url: &'a str) -> Vec<&'a str> {
    let post = [
        "-H",
        "Content-Type: application/json",
        "--data",
        RECORD,
        url,
    ];
    [way, &post].concat()
}

#[test]
fn curl_is_served_over_http1_and_http2() {
    if !has_curl() {
        return;
    }
    let place = Place::new();
    place.configure("");
    let serving = place.serve();
    let url = format!("http://{}/logs", serving.addr);
    for (way, expected) in [
        (&["--http1.1"][..], "202 1.1"),
        (&["--http1.0"], "202 1"),
        (&["--http2-prior-knowledge"], "202 2"),
        // Offers an upgrade, which is not taken.
        (&["--http2"], "202 1.1"),
        (
            &["--http1.1", "-H", "Transfer-Encoding: chunked"],
            "202 1.1",
        ),
        (&["--http1.1", "-H", "Expect: 100-continue"], "202 1.1"),
        (
            &["--http2-prior-knowledge", "-H", "Content-Encoding: lzma"],
            "415 2",
        ),
        (&["--http1.1", "-X", "PUT"], "405 1.1"),
        (&["--http2-prior-knowledge", "-X", "BREW"], "405 2"),
    ] {
        assert_eq!(curl(&post(way, &url)), expected, "{way:?}");
    }
    let probe = format!("http://{}/livez", serving.addr);
    assert_eq!(curl(&["--http2-prior-knowledge", &probe]), "200 2");
    serving.terminate();
}

#[test]
fn curl_is_served_over_tls() {
    if !has_curl() {
        return;
    }
    let (place, certificate) = place_with_tls();
    let serving = place.serve();
    let port = serving.addr.port();
    let url = format!("https://localhost:{port}/logs");
    let resolve = format!("localhost:{port}:127.0.0.1");
    let trusts = |file: &Path| file.to_str().unwrap().to_owned();
    let trusted = trusts(&certificate);
    let base = ["--cacert", trusted.as_str(), "--resolve", &resolve];
    for (way, expected) in [
        (&["--http2"][..], "202 2"),
        (&["--http1.1"], "202 1.1"),
        (&["--http2", "--tls-max", "1.2"], "202 2"),
        (&["--http1.1", "--tlsv1.3"], "202 1.1"),
    ] {
        assert_eq!(
            curl(&post(&[&base, way].concat(), &url)),
            expected,
            "{way:?}"
        );
    }
    // Many streams at once. (Over plain TCP this curl fails by itself.)
    let many = format!("{url}?site=[a-z].example");
    let said = curl(&post(
        &[&base[..], &["--http2", "--parallel"]].concat(),
        &many,
    ));
    assert_eq!(said.matches("202 2").count(), 26, "{said}");
    // Who trusts others is not served, nor is an older TLS; plain HTTP is told what this is.
    let distrusts = run(&post(&["--resolve", &resolve], &url));
    assert!(!distrusts.status.success());
    let old = run(&post(&[&base[..], &["--tls-max", "1.1"]].concat(), &url));
    assert!(!old.status.success());
    let plain = url.replace("https:", "http:");
    assert_eq!(curl(&post(&["--resolve", &resolve], &plain)), "400 1.1");
    serving.terminate();
}
