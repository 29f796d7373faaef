//! API keys from `keys new` to the configuration, to requests, and out of it again.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use testbed::metrics::Metrics;

use crate::place::{Place, Serving, post, wait_for};

/// A key and its line, as the command prints them.
fn new_key(place: &Place, arguments: &[&str]) -> (String, String) {
    let output = place.output(&[&["keys", "new"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("slk_"), "{text}");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!words.contains("slk_"), "{words}");
    (lines[0].to_owned(), lines[1].to_owned())
}

fn hash_of(line: &str) -> &str {
    let mut words = line.split(['"', ' ']);
    words
        .find(|word| word.len() == 64)
        .expect("a line has a hash")
}

fn auth(lines: &[&str]) -> String {
    let keys: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!("auth:\n  enabled: true\n  keys:\n{keys}")
}

fn reloads(metrics: &Metrics, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    let value = metrics.with("config_reloads_total", &label);
    value.unwrap_or_else(|| panic!("no {label}"))
}

/// Reads the file anew and waits until that has come to `outcome` once more.
fn hang_up(serving: &Serving, outcome: &str) {
    let before = reloads(&serving.metrics(), outcome);
    serving.process.signal(Signal::HUP).unwrap();
    wait_for(outcome, || reloads(&serving.metrics(), outcome) > before);
}

#[test]
fn a_new_key_needs_no_configuration_and_its_line_is_one_the_configuration_takes() {
    let place = Place::new();
    let odd = r#"a "b" 'c' ${D} \ # : é"#;
    let plain = new_key(&place, &[]);
    let whole = new_key(
        &place,
        &[
            "--id",
            odd,
            "--site",
            "shop.example",
            "--records-per-second",
            "9",
        ],
    );
    assert!(!place.config().exists());
    place.configure(&auth(&[&plain.1, &whole.1]));
    let checked = place.output(&["--check"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let config = pipeline_core::config::Config::load(&place.config()).unwrap();
    let key = &config.auth.keys[1];
    assert_eq!(key.id, odd);
    assert_eq!(key.site.as_deref(), Some("shop.example"));
    assert_eq!(key.records_per_second, Some(9));

    let serving = place.serve();
    let mut client = serving.client();
    for (key, status) in [(&plain.0, 202), (&whole.0, 202)] {
        assert_eq!(post(&mut client, key).status, status);
    }
    assert_eq!(post(&mut client, "slk_0").status, 401);
    serving.terminate();
    for bad in [
        ["--id", ""],
        ["--id", "a\nb"],
        ["--site", "a b"],
        ["--records-per-second", "0"],
    ] {
        let refused = place.output(&["keys", "new", bad[0], bad[1]]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn keys_come_and_go_on_sighup_and_no_request_is_dropped() {
    let place = Place::new();
    let (stays, stays_line) = new_key(&place, &["--id", "stays"]);
    let (goes, goes_line) = new_key(&place, &["--id", "goes"]);
    let (comes, comes_line) = new_key(&place, &["--id", "comes"]);
    let before = auth(&[&stays_line, &goes_line]);
    let after = auth(&[&stays_line, &comes_line]);
    place.configure(&before);
    let serving = place.serve();

    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let streams: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = serving.client();
                    let mut sent = 0;
                    while !done.load(Ordering::Relaxed) {
                        let answer = post(&mut client, &stays);
                        assert_eq!(answer.status, 202, "{}", answer.text());
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        let mut client = serving.client();
        for _ in 0..10 {
            assert_eq!(post(&mut client, &goes).status, 202);
            assert_eq!(post(&mut client, &comes).status, 401);
            place.configure(&after);
            hang_up(&serving, "applied");
            assert_eq!(post(&mut client, &goes).status, 401);
            assert_eq!(post(&mut client, &comes).status, 202);
            place.configure(&before);
            hang_up(&serving, "applied");
        }
        done.store(true, Ordering::Relaxed);
        streams
            .into_iter()
            .map(|stream| stream.join().unwrap())
            .sum::<u64>()
    });
    assert!(sent > 0);
    let accepted = serving.metrics().sum("log_records_accepted_total");
    #[expect(clippy::cast_precision_loss, reason = "a test's requests")]
    let expected = (sent + 20) as f64;
    assert_eq!(accepted, Some(expected));
    serving.terminate();
}

#[test]
fn a_bad_file_changes_no_key_and_what_needs_a_restart_is_named() {
    let place = Place::new();
    let (old, old_line) = new_key(&place, &["--id", "old"]);
    let (new, new_line) = new_key(&place, &["--id", "new"]);
    place.configure(&auth(&[&old_line]));
    let serving = place.serve();
    let mut client = serving.client();

    let faulty = auth(&[&new_line, &new_line]) + "kafak: {}\n";
    place.configure(&faulty);
    hang_up(&serving, "refused");
    assert_eq!(post(&mut client, &old).status, 202);
    assert_eq!(post(&mut client, &new).status, 401);
    let log = serving.log();
    assert!(log.contains("auth.keys[1].sha256: found ***"), "{log}");
    assert!(log.contains("kafak: found an unknown key"), "{log}");
    fs::remove_file(place.config()).unwrap();
    hang_up(&serving, "refused");
    assert_eq!(post(&mut client, &old).status, 202);

    let more = "ingestion: {maxRecordBytes: 1000}\ntelemetry: {log: {level: debug}}\n";
    place.configure(&(auth(&[&new_line]) + more));
    hang_up(&serving, "applied");
    assert_eq!(post(&mut client, &old).status, 401);
    assert_eq!(post(&mut client, &new).status, 202);
    let log = serving.terminate();
    let warned = log.lines().find(|line| line.contains("needs a restart"));
    let warned = warned.unwrap_or_else(|| panic!("{log}"));
    let named = "ingestion.maxRecordBytes, telemetry.log.level";
    assert!(warned.contains(named), "{warned}");
}

#[test]
fn a_hash_in_a_file_of_its_own_is_read_anew_too() {
    let place = Place::new();
    let (old, old_line) = new_key(&place, &[]);
    let (new, new_line) = new_key(&place, &[]);
    let file = place.config().with_file_name("shop.sha256");
    fs::write(&file, hash_of(&old_line)).unwrap();
    let line = format!("- {{id: shop, sha256File: '{}'}}", file.display());
    place.configure(&auth(&[&line]));
    let serving = place.serve();
    let mut client = serving.client();
    for (right, wrong, line) in [(&old, &new, &new_line), (&new, &old, &old_line)] {
        assert_eq!(post(&mut client, right).status, 202);
        assert_eq!(post(&mut client, wrong).status, 401);
        fs::write(&file, hash_of(line)).unwrap();
        hang_up(&serving, "applied");
    }
    serving.terminate();
}

#[test]
fn a_gateway_that_listens_to_all_is_not_opened_by_a_file_for_loopback() {
    let place = Place::new();
    let (key, line) = new_key(&place, &[]);
    place.configure(&auth(&[&line]));
    let loopback = fs::read_to_string(place.config()).unwrap();
    let everywhere = loopback.replacen("addr: 127.0.0.1:0", "addr: 0.0.0.0:0", 1);
    fs::write(place.config(), &everywhere).unwrap();
    let mut serving = place.serve();
    serving.addr.set_ip([127, 0, 0, 1].into());
    // Good for a gateway that is started with it, and an open door for the one that runs.
    let off = loopback.replace("enabled: true", "enabled: false");
    fs::write(place.config(), off).unwrap();
    assert_eq!(place.output(&["--check"]).status.code(), Some(0));
    hang_up(&serving, "refused");
    let mut client = serving.client();
    assert_eq!(post(&mut client, "").status, 401);
    assert_eq!(post(&mut client, &key).status, 202);
    let log = serving.terminate();
    assert!(log.contains("the gateway listens on 0.0.0.0:"), "{log}");
}

#[test]
fn no_key_and_no_hash_is_ever_in_the_log() {
    let place = Place::new();
    let (key, line) = new_key(&place, &["--site", "shop.example"]);
    let wrong = "slk_wrong-0123456789";
    place.configure(&(auth(&[&line]) + "telemetry: {log: {level: trace}}\n"));
    let serving = place.serve();
    let mut client = serving.client();
    assert_eq!(post(&mut client, &key).status, 202);
    assert_eq!(post(&mut client, wrong).status, 401);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(post_http2(&serving, &key)), 202);
    assert_eq!(runtime.block_on(post_http2(&serving, wrong)), 401);
    hang_up(&serving, "applied");
    let hash = hash_of(&line);
    place.configure(&auth(&[
        &line,
        &format!("- {{id: {wrong}, sha256: {wrong}}}"),
    ]));
    hang_up(&serving, "refused");
    let log = serving.terminate();
    assert!(log.contains("TRACE"), "{log}");
    for secret in [&key, wrong, hash, &hash[..16], &key[4..20]] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}

async fn post_http2(serving: &Serving, key: &str) -> u16 {
    let stream = tokio::net::TcpStream::connect(serving.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let body = r#"{"timestamp":"2026-01-02T03:04:05Z","path":"/","userAgent":"test"}"#;
    let request = hyper::Request::post("http://gateway/logs")
        .header("Content-Type", "application/json")
        .header("Authorization", format!("Bearer {key}"))
        .body(Full::new(bytes::Bytes::from(body)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    drop(sender);
    let _ = connection.await;
    status
}

/// By value, from a file, and from the environment; what a client sees, what is on /metrics and on
/// disk, and what the commands print.
#[test]
fn no_secret_and_no_address_is_in_anything_that_the_gateway_says() {
    let place = Place::new();
    let keys = ["by-value", "in-a-file"].map(|id| new_key(&place, &["--id", id]));
    let hashes = keys.each_ref().map(|(_, line)| hash_of(line).to_owned());
    let file = place.dir().join("key.sha256");
    fs::write(&file, &hashes[1]).unwrap();
    let configured = |more: &str| {
        let lines = [
            keys[0].1.clone(),
            format!("- {{id: in-a-file, sha256File: {}}}", file.display()),
        ];
        let lines = lines.each_ref().map(String::as_str);
        let rest = "ingestion: {rejectsDir: rejects}\ntelemetry: {log: {level: trace}}\n";
        place.configure(&(auth(&lines) + rest + more));
    };
    configured("");
    let mut said = Vec::new();
    let mut say = |what: &str, bytes: &[u8]| {
        said.push((what.to_owned(), String::from_utf8_lossy(bytes).into_owned()));
    };
    let wrong = "slk_wrong-0123456789";
    let serving = place.serve();
    let socket = std::net::TcpStream::connect(serving.addr).unwrap();
    let ours = socket.local_addr().unwrap();
    for key in [&*keys[0].0, &*keys[1].0, wrong] {
        let body = "{\"path\":\"/rejected\"}\n{\"timestamp\":\"2026-01-02T03:04:05Z\",\
                    \"path\":\"/\",\"userAgent\":\"test\"}";
        let headers = [("Content-Type", "application/x-ndjson"), ("X-API-Key", key)];
        let request = testbed::http::Request {
            method: "POST",
            target: "/logs",
            headers: &headers,
            body: body.as_bytes(),
        };
        let response = serving.client().send(&request).unwrap();
        assert_eq!(response.status == 202, key != wrong);
        say("an answer", &response.body);
    }
    // Where HTTP/2 is spoken, its library has much to say.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(post_http2(&serving, &keys[0].0)), 202);
    for path in ["/metrics", "/version", "/readyz"] {
        let shown = testbed::http::get(serving.admin, path).unwrap();
        say(path, &shown.body);
    }
    drop(socket);
    say("the log", serving.terminate().as_bytes());
    for arguments in [
        &["rejects", "show", "--json"][..],
        &["dlq", "list", "--json"],
    ] {
        let output = place.output(arguments);
        say("a command", &[output.stdout, output.stderr].concat());
    }
    // Refused: beside each good key one that is none.
    configured(&format!("kafka2: {{password: {wrong}}}\n"));
    fs::write(&file, format!("{}0", hashes[1])).unwrap();
    let checked = place.output(&["--check"]);
    assert_eq!(checked.status.code(), Some(78));
    say("--check", &[checked.stdout, checked.stderr].concat());

    let mut secrets = vec![wrong.to_owned(), ours.to_string()];
    for (key, hash) in keys.iter().map(|(key, _)| key).zip(&hashes) {
        secrets.extend([key[4..20].to_owned(), hash[..16].to_owned()]);
    }
    for (what, text) in &said {
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{what}: {secret}");
        }
    }
    let log = &said.iter().find(|(what, _)| what == "the log").unwrap().1;
    assert!(log.contains("TRACE"), "{log}");
}
