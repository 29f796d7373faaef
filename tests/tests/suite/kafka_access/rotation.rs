//! "Rotate the Kafka client certificate" of the runbook, on listeners that want one: while records
//! come, with the alert that asks for it in a real Prometheus.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use testbed::{
    body::Mix,
    config::quoted,
    documents::repository,
    drill::rules,
    kafka::{Listener, secure},
    load::{Load, Plan as Sending},
    process::poll_until,
    prometheus::{self, Prometheus},
    skip,
    stand::Stand,
};

use super::{CONFIG, OK, Scene, WITHIN};
use crate::{assert_holds, book};

const ROTATE: &str = "Rotate the Kafka client certificate";
const ALERT: &str = "SluiceKafkaCertificateEnding";
const ENDS: &str = "kafka_client_certificate_expiry_timestamp_seconds";
/// Who the new certificate is for: the broker knows nobody of that name yet.
const NEW: &str = "rotated";

#[test]
fn a_client_certificate_is_rotated_as_the_runbook_says_and_nothing_is_lost() -> Result<()> {
    let Some(scene) = Scene::new("kafka-rotates")? else {
        return Ok(());
    };
    if !prometheus::has("prometheus") {
        skip::skipped("a client certificate that ends", "no prometheus installed");
        return Ok(());
    }
    let tls = scene.cluster.secure();
    let ending = tls.issue(&scene.dir.join("kafka"), secure::USER, 3)?;
    let file = |name: &str| quoted(scene.dir.join(name).display());
    let section = format!(
        "{{caFile: {}, certFile: {}, keyFile: {}}}",
        quoted(tls.file("ca.pem").display()),
        file("kafka.crt"),
        file("kafka.key")
    );
    let plan = scene.plan(
        scene.at(Listener::MutualTls),
        vec![("kafka.tls".to_owned(), section)],
    );
    let topic = plan.topic.clone();
    let mut stand = Stand::up(&scene.dir.join("stand"), plan)?;
    let load = Load::start(
        &stand.addresses,
        Sending {
            mix: Mix {
                seed: 73,
                records: (1, 40),
                ..Mix::default()
            },
            rate: Some(500),
            ..Sending::default()
        },
    );
    ensure!(load.wait_accepted(200, WITHIN), "nothing is accepted");
    shows(&stand, ending)?;
    let prometheus = watching(&scene, &stand)?;
    alert(&prometheus, 2)?;
    let names = [(
        "kafka.crt",
        scene.dir.join("kafka.crt").display().to_string(),
    )];
    let confirmed = book::run(&stand, ALERT, "openssl x509 -enddate", &names)?;
    ensure!(confirmed.said.starts_with("notAfter="), "{confirmed:?}");

    let new_end = tls.issue(&scene.dir.join("new"), NEW, 400)?;
    for kind in ["key", "crt"] {
        let new = scene.dir.join("new").with_extension(kind);
        fs::rename(new, scene.dir.join("kafka").with_extension(kind))?;
    }
    // The check logs in with the files as they are now: the broker sees who it is by then.
    let check = "kafka-consumer-writer --config config.yaml --check --connect";
    let refused = book::run(&stand, ROTATE, check, &[])?;
    ensure!(refused.code == CONFIG, "{refused:?}");
    ensure!(refused.said.contains("--operation Read"), "{refused:?}");
    let group = format!("{topic}-writer");
    let rights = ["--operation", "All", "--topic", &topic, "--group", &group];
    scene.cluster.allow(&format!("User:CN={NEW}"), &rights)?;
    let let_in = poll_until(WITHIN, || {
        let checked = book::run(&stand, ROTATE, check, &[])?;
        Ok((checked.code == OK).then_some(()))
    })?;
    let_in.context("the new certificate has its rights")?;

    // The former key is nowhere any more: what starts now has the new one alone.
    let accepted = load.accepted();
    for service in [&mut stand.gateways[0], &mut stand.writers[0]] {
        service.terminate()?;
        service.start()?;
        service.wait_ready()?;
    }
    ensure!(load.wait_accepted(accepted + 200, WITHIN), "all refused");
    shows(&stand, new_end)?;
    alert(&prometheus, 0)?;
    let ledger = load.stop();
    let verdict = stand.settle(&ledger, 2 * WITHIN)?;
    assert_holds(&verdict);
    scene.dir.passed()
}

/// Gateway and writer say that their certificate ends then.
fn shows(stand: &Stand, wanted: i64) -> Result<()> {
    for services in [&stand.gateways, &stand.writers] {
        let mut found = None;
        let came = poll_until(WITHIN, || {
            found = Stand::metric(services, ENDS);
            Ok((found == Some(wanted as f64)).then_some(()))
        })?;
        came.with_context(|| format!("{ENDS} is {found:?}, not {wanted}"))?;
    }
    Ok(())
}

/// A Prometheus with the deployed rules, which nobody waits ten minutes for.
fn watching(scene: &Scene, stand: &Stand) -> Result<Prometheus> {
    let deployed = repository().join("deploy/observability");
    let rules_dir = scene.dir.join("rules");
    fs::create_dir_all(&rules_dir)?;
    let read = |name: &str| fs::read_to_string(deployed.join(name));
    let quick: String = rules::alerts(&read("rules/alerts.yml")?)?
        .lines()
        .map(|line| {
            let at_once = line.trim_start().starts_with("for:");
            format!("{}\n", if at_once { "        for: 1s" } else { line })
        })
        .collect();
    fs::write(rules_dir.join("alerts.yml"), quick)?;
    Prometheus::start(&read("prometheus.yml")?, &rules_dir.join("*.yml"), stand)
}

/// So many services are the alert's.
fn alert(prometheus: &Prometheus, services: usize) -> Result<()> {
    let mut seen = Vec::new();
    let came = poll_until(Duration::from_secs(30), || {
        seen = prometheus::alerts(prometheus.address())?;
        let firing = seen.iter().filter(|it| it.name == ALERT && it.firing);
        Ok((firing.count() == services).then_some(()))
    })?;
    came.with_context(|| format!("{services} of {ALERT} in {seen:?}"))
}
