//! The Helm chart: rendered for each file of values, and what comes out held against Kubernetes'
//! schemas, against itself (`manifests`) and, the configurations in it, against the services.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde_yaml::Value;

use super::{SERVICES, built, manifests, scratch, tools, tools::Tools, yaml};
use crate::shell::root;

/// The oldest that the chart takes (`kubeVersion`), and a new one.
const KUBERNETES: [&str; 2] = ["1.30.0", "1.36.0"];
/// Of custom resources, whose schemas nobody carries: `manifests` looks at these.
const CUSTOM: &str = "monitoring.coreos.com/v1";
/// Where the chart mounts secrets.
const SECRETS: &str = "/etc/sluice/secrets";

pub fn check(tools: &mut Tools) -> Result<()> {
    if !tools.have("helm", "Helm chart") {
        return Ok(());
    }
    let chart = root().join("deploy/helm/sluice");
    let dir = scratch("chart")?;
    let mut values: Vec<PathBuf> = fs::read_dir(chart.join("ci"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    values.sort();
    ensure!(values.len() >= 3, "the files of values are missing");
    let validates = tools.have("kubernetes-validate", "what the Helm chart renders");
    let mut manifests = 0;
    for file in &values {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let lint = ["lint", "--strict", "--kube-version", KUBERNETES[1]];
        let mut command = Command::new("helm");
        tools::run(command.args(lint).arg(&chart).arg("--values").arg(file))?;
        let text = render(&chart, file, &[])?;
        let rendered = yaml::documents(&text)?;
        manifests += rendered.len();
        manifests::check(&rendered).with_context(|| format!("with values {name}"))?;
        configurations(&rendered, &dir.join(&*name))
            .with_context(|| format!("with values {name}"))?;
        if validates {
            let file = dir.join(format!("{name}.yaml"));
            fs::write(&file, known(&rendered)?)?;
            for version in KUBERNETES {
                validate(&file, version)?;
            }
        }
    }
    let lines = values.len();
    println!("chart: {lines} files of values, {manifests} manifests, each configuration is good");
    refuses(&chart, &chart.join("ci/minimal.yaml"))
}

fn render(chart: &Path, values: &Path, more: &[&str]) -> Result<String> {
    let mut command = Command::new("helm");
    command.args(["template", "release", "--namespace", "logs"]);
    command.args(["--kube-version", KUBERNETES[1]]).arg(chart);
    command.arg("--values").arg(values);
    for setting in more {
        command.args(["--set", setting]);
    }
    Ok(tools::run(&mut command)?.0)
}

/// What `kubernetes-validate` has schemas for.
fn known(rendered: &[Value]) -> Result<String> {
    let mut text = String::new();
    for manifest in rendered {
        if yaml::text(manifest, "apiVersion") != CUSTOM {
            text += "---\n";
            text += &serde_yaml::to_string(manifest)?;
        }
    }
    Ok(text)
}

fn validate(file: &Path, version: &str) -> Result<()> {
    let mut command = Command::new("kubernetes-validate");
    command.args(["--strict", "--quiet", "--kubernetes-version", version]);
    let (out, err) = tools::run(command.arg(file))?;
    // A kind that it does not know is a warning to it.
    ensure!(out.trim().is_empty(), "kubernetes-validate: {out}{err}");
    Ok(())
}

/// Each service takes the configuration that the chart makes for it, secrets in their places.
fn configurations(rendered: &[Value], dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut checked = 0;
    for (service, _) in SERVICES {
        let pod = manifests::pod_of(rendered, service)?;
        let container = &yaml::items(pod, "spec.containers")[0];
        let map = manifests::configuration_of(rendered, pod)?;
        let text = map.replace(SECRETS, &dir.join("secrets").to_string_lossy());
        for (mount, secret) in secrets(pod, container) {
            make_secret(&dir.join("secrets").join(mount), secret)?;
        }
        let file = dir.join(format!("{service}.yaml"));
        fs::write(&file, text)?;
        let mut command = Command::new(built(service));
        command.arg("--config").arg(&file).arg("--check");
        for variable in yaml::items(container, "env") {
            let name = yaml::text(variable, "name");
            let value = match name {
                "POD_NAME" => "release-0",
                "BLOG_KEY_SHA256" => OTHER_HASH,
                other => bail!("no value is known for the variable {other}"),
            };
            command.env(name, value);
        }
        tools::run(&mut command)?;
        checked += 1;
    }
    ensure!(checked == SERVICES.len(), "a service has no configuration");
    Ok(())
}

/// SHA-256 of nothing, and of `a`.
const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const OTHER_HASH: &str = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

/// Where each secret is mounted under [`SECRETS`], and what it is called.
fn secrets<'a>(pod: &'a Value, container: &'a Value) -> Vec<(&'a str, &'a str)> {
    let volumes = yaml::items(pod, "spec.volumes");
    let mounts = yaml::items(container, "volumeMounts").iter();
    mounts
        .filter_map(|mount| {
            let at = yaml::text(mount, "mountPath");
            let at = at.strip_prefix(SECRETS)?.trim_start_matches('/');
            let name = yaml::text(mount, "name");
            let volume = volumes.iter().find(|one| yaml::text(one, "name") == name)?;
            Some((at, yaml::text(volume, "secret.secretName")))
        })
        .collect()
}

/// What the files of values speak of: hashes of keys by name, a pair for TLS.
fn make_secret(dir: &Path, secret: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    match secret {
        "sluice-keys" => fs::write(dir.join("shop"), HASH)?,
        "sluice-tls" => {
            let pair = rcgen::generate_simple_self_signed(vec!["logs.example.com".to_owned()])?;
            fs::write(dir.join("tls.crt"), pair.cert.pem())?;
            fs::write(dir.join("tls.key"), pair.signing_key.serialize_pem())?;
        }
        other => bail!("no contents are known for the secret {other}"),
    }
    Ok(())
}

/// Values that must not render, and a word of why.
fn refuses(chart: &Path, values: &Path) -> Result<()> {
    let bad = [
        ("gateway.replica=3", "replica"),
        ("config.dataDir=/elsewhere", "config.dataDir is the chart's"),
        (
            "config.server.addr=0.0.0.0:80",
            "config.server.addr is the chart's",
        ),
        (
            "config.kafka.groupInstanceID=one",
            "config.kafka.groupInstanceID is the chart's",
        ),
        ("config.kafka.brokers=null", "brokers"),
        ("config.auth.keys=null", "keys"),
        ("aggregator.mode=daemon", "mode"),
        ("image.registry=", "registry"),
        ("store.accessModes={ReadOnlyMany}", "accessModes"),
    ];
    for (setting, word) in bad {
        match render(chart, values, &[setting]) {
            Ok(_) => bail!("the chart takes {setting}"),
            Err(error) => {
                let error = format!("{error:#}");
                ensure!(
                    error.contains(word),
                    "{setting} is refused without {word:?}: {error}"
                );
            }
        }
    }
    println!(
        "chart: {} bad values are refused, each by its name",
        bad.len()
    );
    Ok(())
}
