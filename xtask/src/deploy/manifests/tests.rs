use super::*;

/// The least that is good: three services, a budget, a policy, what is scraped.
fn good() -> String {
    let mut text = String::new();
    let services = [
        ("StatefulSet", "ingest-gateway", "server", "state"),
        ("StatefulSet", "kafka-consumer-writer", "consumer", "state"),
        ("Deployment", "aggregator", "aggregation", ""),
    ];
    for (kind, service, section, state) in services {
        let store = if service == "ingest-gateway" {
            String::new()
        } else {
            "        - {name: store, persistentVolumeClaim: {claimName: one-store}}\n".to_owned()
        };
        let mount = if state.is_empty() { "store" } else { state };
        text += &format!(
            r#"---
kind: {kind}
metadata: {{name: {service}, labels: {{app.kubernetes.io/component: {service}}}}}
spec:
  persistentVolumeClaimRetentionPolicy: {{whenDeleted: Retain, whenScaled: Retain}}
  volumeClaimTemplates: [{{metadata: {{name: state}}}}]
  template:
    metadata: {{labels: {{app.kubernetes.io/component: {service}}}}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 50
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - ports: [{{name: admin}}]
          lifecycle: {{preStop: {{sleep: {{seconds: 5}}}}}}
          securityContext:
            readOnlyRootFilesystem: true
            allowPrivilegeEscalation: false
            capabilities: {{drop: [ALL]}}
          resources: {{limits: {{memory: 1Gi}}}}
          volumeMounts: [{{name: config}}, {{name: {mount}}}]
      volumes:
        - {{name: config, configMap: {{name: {service}}}}}
{store}---
kind: ConfigMap
metadata: {{name: {service}}}
data:
  config.yaml: |
    kafka: {{groupInstanceID: "${{POD_NAME}}"}}
    {section}: {{shutdownTimeout: 30s}}
"#
        );
    }
    text + r"---
kind: Service
metadata: {name: pods, labels: {app.kubernetes.io/component: aggregator}}
spec:
  selector: {app.kubernetes.io/component: aggregator}
  ports: [{name: admin, targetPort: admin}]
---
kind: ServiceMonitor
metadata: {name: scraped}
spec:
  selector: {matchLabels: {app.kubernetes.io/component: aggregator}}
  endpoints: [{port: admin}]
"
}

fn judged(text: &str) -> Result<()> {
    check(&yaml::documents(text)?)
}

#[test]
fn each_broken_promise_is_found() {
    let good = good();
    judged(&good).expect("the good ones");
    let breaks = [
        (
            "terminationGracePeriodSeconds: 50",
            "terminationGracePeriodSeconds: 44",
        ),
        ("shutdownTimeout: 30s", "shutdownTimeout: 1m"),
        ("seconds: 5", "seconds: 11"),
        ("whenScaled: Retain", "whenScaled: Delete"),
        ("whenDeleted: Retain", "whenDeleted: Delete"),
        (
            "readOnlyRootFilesystem: true",
            "readOnlyRootFilesystem: false",
        ),
        ("drop: [ALL]", "drop: [NET_RAW]"),
        ("runAsNonRoot: true", "runAsNonRoot: false"),
        (
            "automountServiceAccountToken: false",
            "automountServiceAccountToken: true",
        ),
        ("limits: {memory: 1Gi}", "limits: {}"),
        (
            "[{name: config}, {name: state}]",
            "[{name: config}, {name: stat}]",
        ),
        ("${POD_NAME}", "writer"),
        ("targetPort: admin", "targetPort: metrics"),
        ("endpoints: [{port: admin}]", "endpoints: [{port: metrics}]"),
        (
            "selector: {app.kubernetes.io/component: aggregator}",
            "selector: {a: b}",
        ),
        ("configMap: {name: aggregator}", "configMap: {name: none}"),
        ("kind: Deployment", "kind: ReplicaSet"),
    ];
    for (from, to) in breaks {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from} is not among the good ones");
        assert!(judged(&bad).is_err(), "{from} -> {to}");
    }
    // The aggregator's, which comes last.
    let (before, after) = good.rsplit_once("one-store").expect("a store");
    assert!(judged(&format!("{before}another{after}")).is_err());
}
