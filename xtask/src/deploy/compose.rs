//! `deploy/compose.yaml`: what Docker Compose makes of it, and whether what it names is there.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_yaml::Value;

use super::{SERVICES, built, scratch, tools, tools::Tools, yaml};
use crate::shell::root;

pub fn check(tools: &mut Tools) -> Result<()> {
    let deploy = root().join("deploy");
    let config = deploy.join("compose/sluice.yaml");
    for (service, _) in SERVICES {
        let mut check = Command::new(built(service));
        tools::run(check.arg("--config").arg(&config).arg("--check"))?;
    }
    let sluice = yaml::file(&config)?;
    scraped(
        &sluice,
        &yaml::file(&deploy.join("compose/prometheus.yaml"))?,
    )?;
    println!("compose: each service takes its configuration, Prometheus scrapes their ports");
    if tools.have("promtool", "Prometheus' configuration for compose") {
        promtool(&deploy)?;
    }
    if tools.have("docker-compose", "compose.yaml") {
        let mut command = Command::new("docker-compose");
        command.arg("--file").arg(deploy.join("compose.yaml"));
        let (out, err) = tools::run(command.arg("config"))?;
        ensure!(err.is_empty(), "docker-compose config: {err}");
        let composed: Value = serde_yaml::from_str(&out)?;
        hardened(&composed)?;
        all_there(&composed)?;
        println!("compose: all files are there, the containers have no rights and time to drain");
    }
    Ok(())
}

/// The ports that the services answer on are those that are scraped.
fn scraped(sluice: &Value, prometheus: &Value) -> Result<()> {
    let ports = ["server", "consumer", "aggregation"];
    for ((service, _), section) in SERVICES.iter().zip(ports) {
        let addr = yaml::text(sluice, &format!("{section}.adminAddr"));
        let port = addr.rsplit(':').next().unwrap_or_default();
        let target = format!("{service}:{port}");
        let job = yaml::items(prometheus, "scrape_configs")
            .iter()
            .find(|job| yaml::text(job, "job_name") == *service)
            .with_context(|| format!("{service} is not scraped"))?;
        let found = yaml::items(job, "static_configs")
            .iter()
            .flat_map(|one| yaml::items(one, "targets"))
            .any(|found| found.as_str() == Some(&target));
        ensure!(
            found,
            "{service} answers on {addr}, and {target} is not scraped"
        );
    }
    Ok(())
}

/// In the layout of the container.
fn promtool(deploy: &Path) -> Result<()> {
    let dir = scratch("prometheus")?;
    let rules = dir.join("rules");
    fs::create_dir(&rules)?;
    let from = deploy.join("observability/rules");
    for entry in fs::read_dir(&from).with_context(|| format!("no {}", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), rules.join(entry.file_name()))?;
    }
    let text = fs::read_to_string(deploy.join("compose/prometheus.yaml"))?;
    ensure!(
        text.contains("/etc/prometheus/"),
        "compose/prometheus.yaml has no rules"
    );
    let here = format!("{}/", dir.display());
    let file = dir.join("prometheus.yaml");
    fs::write(&file, text.replace("/etc/prometheus/", &here))?;
    let (out, _) = tools::run(
        Command::new("promtool")
            .args(["check", "config"])
            .arg(&file),
    )?;
    ensure!(
        out.contains("rules found"),
        "promtool found no rules:\n{out}"
    );
    println!("compose: promtool takes Prometheus' configuration and its rules");
    Ok(())
}

fn hardened(composed: &Value) -> Result<()> {
    for (service, _) in SERVICES {
        let found = yaml::at(composed, "services").and_then(|all| all.get(service));
        let found = found.with_context(|| format!("no {service}"))?;
        let is = |path: &str, expected: &str| {
            let value = yaml::at(found, path).cloned().unwrap_or_default();
            let expected: Value = serde_yaml::from_str(expected)?;
            ensure!(value == expected, "{service}: {path} is {value:?}");
            Ok(())
        };
        is("read_only", "true")?;
        is("cap_drop", "[ALL]")?;
        is("security_opt", "['no-new-privileges:true']")?;
        is("ulimits.core", "{soft: 0, hard: 0}")?;
        is("build.target", service)?;
        let grace = yaml::seconds(yaml::text(found, "stop_grace_period")).unwrap_or(0);
        ensure!(
            grace >= 40,
            "{service}: stop_grace_period is {grace} s, a drain takes 30 s"
        );
        for port in yaml::items(found, "ports") {
            let host = yaml::text(port, "host_ip");
            ensure!(host == "127.0.0.1", "{service} is published on {host:?}");
        }
    }
    Ok(())
}

/// Each file that is named, and each volume at a place that the configuration uses.
fn all_there(composed: &Value) -> Result<()> {
    let mut files = BTreeSet::new();
    let mappings = |path| yaml::at(composed, path).and_then(Value::as_mapping);
    for (_, config) in mappings("configs").into_iter().flatten() {
        files.insert(yaml::text(config, "file").to_owned());
    }
    for (_, service) in mappings("services").into_iter().flatten() {
        for volume in yaml::items(service, "volumes") {
            if yaml::text(volume, "type") == "bind" {
                files.insert(yaml::text(volume, "source").to_owned());
            }
        }
        if let Some(build) = service.get("build") {
            let context = Path::new(yaml::text(build, "context"));
            let dockerfile = context.join(yaml::text(build, "dockerfile"));
            files.insert(dockerfile.to_string_lossy().into_owned());
        }
    }
    ensure!(files.len() > 5, "too few files to be true: {files:?}");
    for file in files {
        ensure!(
            Path::new(&file).exists(),
            "compose.yaml names {file:?}, which is not there"
        );
    }
    Ok(())
}
