//! Clients that send what cannot be taken, a Kafka that refuses some writes, a configuration with a
//! fault, a certificate that ends: what goes on beside a service that is otherwise well.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    Expected, Wave,
    ground::{ASYNC, Ground, TLS},
};
use crate::{control::Control, http::post};

pub const NOISE: Wave = Wave {
    name: "noise: bad clients, refused writes, a broken configuration, an old certificate",
    alerts: &[
        Expected {
            alert: "SluiceReloadRefused",
            label: "ingest-gateway",
            cause: "SIGHUP with a fault in the configuration",
        },
        Expected {
            alert: "SluiceCertificateEnding",
            label: "ingest-gateway",
            cause: "a certificate that ends tomorrow",
        },
        Expected {
            alert: "SluiceProducerErrors",
            label: "ingest-gateway",
            cause: "Kafka refuses one write of some",
        },
        Expected {
            alert: "SluiceRecordsRejected",
            label: "ingest-gateway",
            cause: "a client that leaves out timestamps",
        },
        Expected {
            alert: "SluiceInvalidRequests",
            label: "ingest-gateway",
            cause: "a client whose bodies cannot be read",
        },
    ],
    cause: begin,
    mend: end,
};

/// `NOT_ENOUGH_REPLICAS`
const REFUSAL: i16 = 19;
const FAULT: &str = "\nnonsense: true\n";

/// A thread that does something again and again. It ends with its value.
pub struct Sender {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    pub fn start(every: Duration, mut act: impl FnMut() + Send + 'static) -> Self {
        let end = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&end);
        let thread = spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                act();
                sleep(every);
            }
        });
        Self {
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn begin(ground: &mut Ground) -> Result<()> {
    let gateway = ground.stand.addresses[ASYNC];
    let half_bad = records(2, 20);
    ground.senders = vec![
        flaky(ground.control()?.clone()),
        Sender::start(Duration::from_millis(50), move || {
            send(gateway, half_bad.as_bytes());
        }),
        Sender::start(Duration::from_millis(50), move || send(gateway, b"[{")),
    ];
    let config = &ground.stand.gateways[0].config;
    let text = fs::read_to_string(config)?;
    fs::write(config, text + FAULT)?;
    ground.runbook(0, "SluiceReloadRefused", "kill -HUP")?;
    Ok(())
}

fn end(ground: &mut Ground) -> Result<()> {
    ground.senders.clear();
    ground.control()?.command(&json!({"do": "clear_faults"}))?;

    let check = "ingest-gateway --config config.yaml --check";
    let refused = ground.runbook(0, "SluiceReloadRefused", check)?;
    if refused.code != 78 || !refused.said.contains("nonsense") {
        bail!("the fault is not named: {refused:?}");
    }
    let config = ground.stand.gateways[0].config.clone();
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace(FAULT, ""))?;
    let fine = ground.runbook(0, "SluiceReloadRefused", check)?;
    if fine.code != 0 {
        bail!("the mended file is refused: {fine:?}");
    }
    ground.runbook(0, "SluiceReloadRefused", "kill -HUP")?;

    certificate(&ground.stand.dir, 90)?;
    for start in [
        "ingest-gateway --config config.yaml --check",
        "kill -HUP",
        "echo | openssl s_client",
    ] {
        let done = ground.runbook(TLS, "Rotate a certificate", start)?;
        if done.code != 0 {
            bail!("{done:?}");
        }
    }
    Ok(())
}

/// Kafka refuses a write now and then, never so many in a row that it counts as away.
fn flaky(control: Control) -> Sender {
    Sender::start(Duration::from_millis(300), move || {
        // A broker that is busy is asked again in a moment.
        let _ = control.produce_fault(&json!({"answer_error": REFUSAL}), 1, None);
    })
}

/// So many good records and so many without a time, as NDJSON.
pub fn records(good: usize, bad: usize) -> String {
    let good_one = r#"{"timestamp":"2026-01-02T10:05:03Z","path":"/drill","userAgent":"drill"}"#
        .to_owned()
        + "\n";
    let bad_one = r#"{"path":"/drill","userAgent":"drill"}"#.to_owned() + "\n";
    good_one.repeat(good) + &bad_one.repeat(bad)
}

/// Whatever comes of it.
pub fn send(gateway: SocketAddr, body: &[u8]) {
    let headers = [
        ("content-type", "application/x-ndjson"),
        ("connection", "close"),
    ];
    let _ = post(gateway, "/logs", &headers, body);
}

/// A key and a certificate of its own for localhost, as `server.key` and `server.crt`.
///
/// # Errors
/// When openssl cannot make them.
pub fn certificate(dir: &Path, days: u32) -> Result<()> {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=localhost", "-days", &days.to_string()])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-keyout", "server.key", "-out", "server.crt"])
        .current_dir(dir)
        .output()
        .context("cannot start openssl")?;
    if !output.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
