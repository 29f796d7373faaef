//! What manifests must say so that the promises hold on Kubernetes. Pure: manifests in, the first
//! broken one out.

use anyhow::{Context, Result, bail, ensure};
use serde_yaml::Value;

use super::{SERVICES, yaml};

const COMPONENT: &str = "app.kubernetes.io/component";
/// What a pod may take to end beyond the service's `shutdownTimeout`.
const MARGIN_SECONDS: u64 = 10;

pub fn check(manifests: &[Value]) -> Result<()> {
    for (service, timeout) in SERVICES {
        let pod = pod_of(manifests, service)?;
        ends_in_time(manifests, pod, timeout).with_context(|| service.to_owned())?;
    }
    for manifest in manifests {
        let kind = yaml::text(manifest, "kind");
        if let Some(pod) = pod_in(manifest) {
            let judged = has_no_rights(pod).and_then(|()| mounts_hold(kind, pod));
            judged.with_context(|| format!("{kind} {}", yaml::text(manifest, "metadata.name")))?;
        }
        let found = match kind {
            "StatefulSet" => keeps_its_volume(manifest),
            "Service" | "PodDisruptionBudget" | "NetworkPolicy" | "ServiceMonitor" => {
                selects(manifests, manifest)
            }
            _ => Ok(()),
        };
        found.with_context(|| format!("{kind} {}", yaml::text(manifest, "metadata.name")))?;
    }
    writers_have_names(manifests)?;
    one_store(manifests)
}

/// The pod template of a service, whatever makes pods of it.
pub fn pod_of<'a>(manifests: &'a [Value], service: &str) -> Result<&'a Value> {
    let of_service = |pod: &&Value| label(pod, "metadata.labels") == service;
    let found = manifests.iter().filter_map(pod_in).find(of_service);
    found.with_context(|| format!("no pods of {service}"))
}

/// The configuration file that a pod mounts.
pub fn configuration_of<'a>(manifests: &'a [Value], pod: &Value) -> Result<&'a str> {
    let volumes = yaml::items(pod, "spec.volumes");
    let name = volumes.iter().find_map(|volume| {
        let name = yaml::text(volume, "configMap.name");
        (!name.is_empty()).then_some(name)
    });
    let name = name.context("the pod mounts no ConfigMap")?;
    let map = manifests.iter().find(|manifest| {
        yaml::text(manifest, "kind") == "ConfigMap" && yaml::text(manifest, "metadata.name") == name
    });
    let data = map.and_then(|map| map.get("data")?.get("config.yaml")?.as_str());
    data.with_context(|| format!("no ConfigMap {name} with a config.yaml"))
}

fn pod_in(manifest: &Value) -> Option<&Value> {
    match yaml::text(manifest, "kind") {
        "StatefulSet" | "Deployment" | "Job" => yaml::at(manifest, "spec.template"),
        "CronJob" => yaml::at(manifest, "spec.jobTemplate.spec.template"),
        _ => None,
    }
}

fn label<'a>(value: &'a Value, labels: &str) -> &'a str {
    let labels = yaml::at(value, labels);
    labels
        .and_then(|labels| labels.get(COMPONENT)?.as_str())
        .unwrap_or_default()
}

fn ends_in_time(manifests: &[Value], pod: &Value, timeout: &str) -> Result<()> {
    let grace = yaml::at(pod, "spec.terminationGracePeriodSeconds").and_then(Value::as_u64);
    let grace = grace.context("no terminationGracePeriodSeconds")?;
    let config: Value = serde_yaml::from_str(configuration_of(manifests, pod)?)?;
    let drains = yaml::seconds(yaml::text(&config, timeout));
    let drains = drains.with_context(|| format!("the configuration has no {timeout}"))?;
    let container = yaml::items(pod, "spec.containers")
        .first()
        .context("no container")?;
    let sleeps = yaml::at(container, "lifecycle.preStop.sleep.seconds");
    let sleeps = sleeps.and_then(Value::as_u64).unwrap_or(0);
    ensure!(
        grace >= sleeps + drains + MARGIN_SECONDS,
        "a grace of {grace} s for {sleeps} s of sleep and a drain of {drains} s"
    );
    Ok(())
}

fn has_no_rights(pod: &Value) -> Result<()> {
    let is = |value: &Value, path: &str, expected: Value| {
        let found = yaml::at(value, path).cloned().unwrap_or_default();
        ensure!(found == expected, "{path} is {found:?}");
        Ok(())
    };
    is(pod, "spec.automountServiceAccountToken", false.into())?;
    is(pod, "spec.securityContext.runAsNonRoot", true.into())?;
    is(
        pod,
        "spec.securityContext.seccompProfile.type",
        "RuntimeDefault".into(),
    )?;
    for container in yaml::items(pod, "spec.containers") {
        is(
            container,
            "securityContext.readOnlyRootFilesystem",
            true.into(),
        )?;
        is(
            container,
            "securityContext.allowPrivilegeEscalation",
            false.into(),
        )?;
        is(
            container,
            "securityContext.capabilities.drop",
            vec![Value::from("ALL")].into(),
        )?;
        let limit = yaml::text(container, "resources.limits.memory");
        ensure!(!limit.is_empty(), "no limit of memory");
    }
    Ok(())
}

/// Each mount has its volume; a StatefulSet's own claim is called `state`.
fn mounts_hold(kind: &str, pod: &Value) -> Result<()> {
    let volumes = yaml::items(pod, "spec.volumes");
    for container in yaml::items(pod, "spec.containers") {
        for mount in yaml::items(container, "volumeMounts") {
            let name = yaml::text(mount, "name");
            let there = volumes
                .iter()
                .any(|volume| yaml::text(volume, "name") == name);
            let claimed = kind == "StatefulSet" && name == "state";
            ensure!(there || claimed, "nothing is mounted as {name}");
        }
    }
    Ok(())
}

fn keeps_its_volume(set: &Value) -> Result<()> {
    for when in ["whenScaled", "whenDeleted"] {
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{when}");
        ensure!(yaml::text(set, &path) == "Retain", "{path} is not Retain");
    }
    let claims = yaml::items(set, "spec.volumeClaimTemplates");
    ensure!(claims.len() == 1, "{} claims", claims.len());
    ensure!(
        yaml::text(&claims[0], "metadata.name") == "state",
        "no claim called state"
    );
    Ok(())
}

/// What it selects is there, and has the ports that it names.
fn selects(manifests: &[Value], manifest: &Value) -> Result<()> {
    let kind = yaml::text(manifest, "kind");
    let selector = match kind {
        "Service" => "spec.selector",
        "NetworkPolicy" => "spec.podSelector.matchLabels",
        _ => "spec.selector.matchLabels",
    };
    let wanted = yaml::at(manifest, selector).and_then(Value::as_mapping);
    let wanted = wanted.context("it selects nothing")?;
    let matches = |labels: Option<&Value>| {
        wanted
            .iter()
            .all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
    };
    if kind == "ServiceMonitor" {
        let port = yaml::items(manifest, "spec.endpoints");
        let port = port.first().map(|endpoint| yaml::text(endpoint, "port"));
        let found = manifests.iter().any(|other| {
            let ports = yaml::items(other, "spec.ports");
            yaml::text(other, "kind") == "Service"
                && matches(yaml::at(other, "metadata.labels"))
                && ports
                    .iter()
                    .any(|one| Some(yaml::text(one, "name")) == port)
        });
        ensure!(found, "no Service has what it scrapes");
        return Ok(());
    }
    let mut pods = manifests.iter().filter_map(pod_in);
    let pod = pods.find(|pod| matches(yaml::at(pod, "metadata.labels")));
    let pod = pod.context("no pods are as it selects")?;
    let names: Vec<_> = yaml::items(pod, "spec.containers")
        .iter()
        .flat_map(|container| yaml::items(container, "ports"))
        .map(|port| yaml::text(port, "name"))
        .collect();
    let ports = yaml::items(manifest, "spec.ports").iter();
    for target in ports.map(|port| yaml::text(port, "targetPort")) {
        ensure!(
            names.contains(&target),
            "no port {target:?} among {names:?}"
        );
    }
    Ok(())
}

/// Each writer's name in its group is its pod's, which stays.
fn writers_have_names(manifests: &[Value]) -> Result<()> {
    let writer = "kafka-consumer-writer";
    let stays = manifests.iter().any(|manifest| {
        yaml::text(manifest, "kind") == "StatefulSet"
            && label(manifest, "metadata.labels") == writer
    });
    ensure!(stays, "the writer is no StatefulSet");
    let config = configuration_of(manifests, pod_of(manifests, writer)?)?;
    let config: Value = serde_yaml::from_str(config)?;
    let name = yaml::text(&config, "kafka.groupInstanceID");
    ensure!(name == "${POD_NAME}", "kafka.groupInstanceID is {name:?}");
    Ok(())
}

/// Writer and aggregator mount the same claim at the same place.
fn one_store(manifests: &[Value]) -> Result<()> {
    let store = |service: &str| {
        let pod = pod_of(manifests, service)?;
        let volumes = yaml::items(pod, "spec.volumes");
        let claim = volumes.iter().find_map(|volume| {
            let claim = yaml::text(volume, "persistentVolumeClaim.claimName");
            (!claim.is_empty()).then_some(claim)
        });
        claim.with_context(|| format!("{service} has no store"))
    };
    let (writes, counts) = (store("kafka-consumer-writer")?, store("aggregator")?);
    if writes != counts {
        bail!("the writer's store is {writes}, the aggregator's {counts}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
