//! How the services get to a Kafka that wants TLS and SASL, and what they say where they do not:
//! on the listeners of `cargo xtask kafka up`, whose directory `SLUICE_TEST_KAFKA_DIR` names.

mod rights;
mod rotation;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use testbed::{
    config::quoted,
    http,
    kafka::{Access, Cluster, Listener, secure},
    load::{Load, Plan as Sending},
    process::poll_until,
    skip,
    stand::{Plan, Stand},
};

use crate::{RunDir, assert_holds, load};

const WITHIN: Duration = Duration::from_secs(60);
const OK: i32 = 0;
const TRY_LATER: i32 = 75;
const CONFIG: i32 = 78;

/// The cluster, and the run's directory.
struct Scene {
    cluster: Cluster,
    dir: RunDir,
}

impl Scene {
    fn new(test: &str) -> Result<Option<Self>> {
        let Some(dir) = std::env::var_os("SLUICE_TEST_KAFKA_DIR").map(PathBuf::from) else {
            skip::optional(
                test,
                "the broker is not one of `cargo xtask kafka up` (--kafka-dir names it)",
            );
            return Ok(None);
        };
        Ok(Some(Self {
            cluster: Cluster::open(&dir)?,
            dir: RunDir::new(test),
        }))
    }

    fn at(&self, listener: Listener) -> String {
        self.cluster.bootstrap_by(listener)
    }

    /// `kafka.tls` with this authority and perhaps a certificate.
    fn tls(&self, ca: &str, client: Option<&str>) -> (String, String) {
        let file = |name: &str| quoted(self.cluster.secure().file(name).display());
        let client = client.map(|name| {
            let (cert, key) = (file(&format!("{name}.crt")), file(&format!("{name}.key")));
            format!(", certFile: {cert}, keyFile: {key}")
        });
        let tls = format!("{{caFile: {}{}}}", file(ca), client.unwrap_or_default());
        ("kafka.tls".to_owned(), tls)
    }

    fn plan(&self, kafka: String, settings: Vec<(String, String)>) -> Plan {
        Plan {
            kafka: Some(kafka),
            settings,
            partitions: 2,
            ..Plan::default()
        }
    }

    /// What a service's `--check --connect` says.
    fn check(&self, plan: Plan, writer: bool) -> Result<(i32, String)> {
        let stand = Stand::prepare(&self.dir.join(&plan.topic), plan)?;
        let services = if writer {
            &stand.writers
        } else {
            &stand.gateways
        };
        let output = services[0]
            .command()
            .args(["--check", "--connect"])
            .output()?;
        said(&output)
    }

    /// No secret stands there.
    fn assert_silent(&self, what: &str, text: &str) -> Result<()> {
        let secure = self.cluster.secure();
        let password = secure.password()?;
        assert!(!text.contains(&password), "{what} shows the password");
        for name in ["client.key", "stranger.key"] {
            let key = fs::read_to_string(secure.file(name))?;
            let line = key.lines().nth(1).context("a key has lines")?;
            assert!(!text.contains(line), "{what} shows {name}");
        }
        Ok(())
    }
}

fn sasl(mechanism: &str, user: &str, password_file: &Path) -> (String, String) {
    let file = quoted(password_file.display());
    let sasl = format!("{{mechanism: {mechanism}, username: {user}, passwordFile: {file}}}");
    ("kafka.sasl".to_owned(), sasl)
}

fn said(output: &Output) -> Result<(i32, String)> {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((output.status.code().context("no exit code")?, text))
}

#[test]
fn each_wrong_credential_and_certificate_is_one_clear_error() -> Result<()> {
    let Some(scene) = Scene::new("kafka-refuses")? else {
        return Ok(());
    };
    use Listener::{Expired, MutualTls, Plaintext, SaslPlaintext, SaslSsl};
    let good = scene.cluster.secure().password_file();
    let bad = scene.dir.join("bad-password");
    fs::write(&bad, "not-the-password\n")?;
    let tls = || scene.tls("ca.pem", None);
    let by_name = |listener| scene.at(listener).replace("127.0.0.1", "localhost");
    let user = secure::USER;
    #[rustfmt::skip]
    let cases = [
        ("unknown authority", scene.at(SaslSsl), vec![scene.tls("other-ca.pem", None)], CONFIG, "kafka.tls.caFile"),
        ("the system's authorities", scene.at(MutualTls), vec![("kafka.tls".to_owned(), "{}".to_owned())], CONFIG, "kafka.tls.caFile"),
        ("another host", by_name(SaslSsl), vec![tls()], CONFIG, "another host"),
        ("expired", scene.at(Expired), vec![tls()], CONFIG, "has expired"),
        ("no certificate", scene.at(MutualTls), vec![tls()], CONFIG, "wants a client certificate"),
        ("a stranger's", scene.at(MutualTls), vec![scene.tls("ca.pem", Some("stranger"))], CONFIG, "refuses our certificate"),
        ("a former one", scene.at(MutualTls), vec![scene.tls("ca.pem", Some("former"))], CONFIG, "refuses our certificate"),
        ("TLS to none", scene.at(Plaintext), vec![tls()], TRY_LATER, "remove kafka.tls"),
        ("none to TLS", scene.at(MutualTls), vec![], CONFIG, "it speaks TLS: set kafka.tls"),
        ("bad password 512", scene.at(SaslSsl), vec![tls(), sasl("SCRAM-SHA-512", user, &bad)], CONFIG, "refuses user `sluice`"),
        ("bad password 256", scene.at(SaslSsl), vec![tls(), sasl("SCRAM-SHA-256", user, &bad)], CONFIG, "refuses user `sluice`"),
        ("bad password plain", scene.at(SaslSsl), vec![tls(), sasl("PLAIN", user, &bad)], CONFIG, "refuses user `sluice`"),
        ("unknown user", scene.at(SaslSsl), vec![tls(), sasl("SCRAM-SHA-512", "nobody", &good)], CONFIG, "refuses user `nobody`"),
        ("mechanism", scene.at(SaslPlaintext), vec![sasl("SCRAM-SHA-512", user, &good)], CONFIG, "has not enabled the mechanism"),
        ("SASL to none", scene.at(Plaintext), vec![sasl("PLAIN", user, &good)], CONFIG, "does not use SASL"),
        ("none to SASL", scene.at(SaslPlaintext), vec![], TRY_LATER, "a listener with SASL does that"),
        ("only TLS to SASL", scene.at(SaslSsl), vec![tls()], TRY_LATER, "a listener with SASL does that"),
    ];
    let mut wrong = Vec::new();
    for (what, kafka, settings, code, words) in cases {
        let plan = scene.plan(kafka.clone(), settings);
        let (ended, said) = scene.check(plan, false)?;
        scene.assert_silent(what, &said)?;
        assert!(!said.contains("not-the-password"), "{said}");
        let faults: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("missing") || line.starts_with("away"))
            .collect();
        let clear = matches!(faults[..], [line] if line.contains(words) && line.contains(&kafka));
        if ended != code || !clear {
            wrong.push(format!(
                "{what}: {ended} instead of {code}, {words:?}:\n{said}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    scene.dir.passed()
}

#[test]
fn every_listener_lets_in_who_has_what_it_wants() -> Result<()> {
    let Some(scene) = Scene::new("kafka-lets-in")? else {
        return Ok(());
    };
    let secure = scene.cluster.secure();
    for (listener, file) in [
        (Listener::MutualTls, secure.mutual_tls_config()),
        (Listener::SaslSsl, secure.sasl_config("PLAIN")),
        (Listener::SaslSsl, secure.sasl_config("SCRAM-SHA-256")),
        (Listener::SaslSsl, secure.sasl_config("SCRAM-SHA-512")),
        (
            Listener::SaslPlaintext,
            secure.sasl_config("PLAIN-without-TLS"),
        ),
    ] {
        for writer in [false, true] {
            let plan = scene.plan(scene.at(listener), Access::read(&file)?.settings());
            let (ended, said) = scene.check(plan, writer)?;
            scene.assert_silent("--check", &said)?;
            // Only the topic is not there yet.
            assert_eq!(ended, OK, "{said}");
            assert!(said.contains("ok       broker"), "{said}");
            assert!(said.contains("it will be made"), "{said}");
        }
    }
    scene.dir.passed()
}

#[test]
fn a_wrong_password_is_said_and_waited_out_and_shown_nowhere() -> Result<()> {
    let Some(scene) = Scene::new("kafka-password")? else {
        return Ok(());
    };
    let file = scene.dir.join("password");
    fs::write(&file, "not-the-password\n")?;
    let mut settings = vec![
        scene.tls("ca.pem", Some("client")),
        sasl("SCRAM-SHA-512", secure::USER, &file),
    ];
    settings.push(("telemetry.log.level".to_owned(), "trace".to_owned()));
    let plan = scene.plan(scene.at(Listener::SaslSsl), settings);
    let dir = scene.dir.join("stand");
    // Ready, as that does not depend on Kafka.
    let mut stand = Stand::up(&dir, plan)?;
    let refused = poll_until(WITHIN, || {
        let errors = stand.writers[0]
            .metrics()?
            .with("consumer_errors_total", "kind=\"auth\"");
        Ok(errors.filter(|errors| *errors > 0.0))
    })?;
    ensure!(refused.is_some(), "the writer counts the refusals");
    assert_eq!(Stand::metric(&stand.gateways, "kafka_up"), Some(0.0));
    assert_eq!(Stand::metric(&stand.writers, "kafka_up"), Some(0.0));
    for service in ["ingest-gateway", "kafka-consumer-writer"] {
        let log = fs::read_to_string(dir.join(format!("services/{service}.log")))?;
        assert!(log.contains("refuses user `sluice`"), "{service}: {log}");
    }

    // Put right while they run.
    fs::copy(scene.cluster.secure().password_file(), &file)?;
    let plan = Sending {
        requests: Some(20),
        ..load(71)
    };
    let ledger = Load::start(&stand.addresses, plan).finish();
    let mut said = String::new();
    for service in [&stand.gateways[0], &stand.writers[0]] {
        said.push_str(&http::get(service.admin, "/metrics")?.text());
    }
    let verdict = stand.settle(&ledger, 2 * WITHIN)?;
    assert_holds(&verdict);
    for service in ["ingest-gateway", "kafka-consumer-writer"] {
        said.push_str(&fs::read_to_string(
            dir.join(format!("services/{service}.log")),
        )?);
    }
    assert!(!said.contains("not-the-password"));
    scene.assert_silent("a log or /metrics", &said)?;
    scene.dir.passed()
}

#[test]
fn sessions_that_end_again_and_again_fail_no_request() -> Result<()> {
    let Some(scene) = Scene::new("kafka-sessions")? else {
        return Ok(());
    };
    let config = scene.cluster.secure().sasl_config(secure::SHORT_SESSIONS);
    let settings = Access::read(&config)?.settings();
    let plan = scene.plan(scene.at(Listener::SaslSsl), settings);
    let mut stand = Stand::up(&scene.dir.join("stand"), plan)?;
    let sessions = 4;
    let load = Load::start(
        &stand.addresses,
        Sending {
            rate: Some(1_000),
            ..load(72)
        },
    );
    std::thread::sleep(sessions * Duration::from_millis(u64::from(secure::SESSION_MS)));
    let ledger = load.stop();
    let sum = |services, name| Stand::metric(services, name);
    assert_eq!(sum(&stand.gateways, "producer_errors_total"), Some(0.0));
    assert_eq!(sum(&stand.writers, "consumer_errors_total"), Some(0.0));
    assert_eq!(
        sum(&stand.gateways, "producer_dlq_written_records_total"),
        Some(0.0)
    );
    let verdict = stand.settle(&ledger, 2 * WITHIN)?;
    assert_holds(&verdict);
    scene.dir.passed()
}
