mod auth;
mod defaults;
mod examples;
mod mutated;
mod refused;
mod wrong;

use std::fs;

use serde_json::{Value as Json, json};

use super::{
    keys::{KEYS, Key, OFF},
    value::Kind,
    *,
};

fn no_env(_: &str) -> Option<String> {
    None
}

fn faults(yaml: &str) -> Vec<String> {
    match Config::parse(yaml, &no_env) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(Fault::to_string).collect(),
    }
}

fn minimal() -> Json {
    json!({"kafka": {"brokers": ["127.0.0.1:9092"], "groupID": "g"}})
}

/// The smallest good file with `value` at `path`; JSON is YAML.
fn with(path: &str, value: &Json) -> String {
    let mut root = minimal();
    if path.starts_with("kafka.createTopic.") {
        root["kafka"]["createTopic"] = json!({"partitions": 1, "replicationFactor": 1});
    }
    if let Some(name) = path.strip_prefix("server.tls.") {
        let other = if name == "keyFile" {
            "certFile"
        } else {
            "keyFile"
        };
        root["server"]["tls"] = json!({ other: "tls" });
    }
    if path.starts_with("kafka.sasl.") {
        let sasl = json!({"mechanism": "PLAIN", "username": "u", "password": "p"});
        root["kafka"]["sasl"] = sasl;
    }
    if let Some(name) = path.strip_prefix("kafka.tls.") {
        let other = match name {
            "keyFile" => "certFile",
            "certFile" => "keyFile",
            _ => "caFile",
        };
        let other = if *value == json!("off") {
            json!({})
        } else {
            json!({ other: "tls" })
        };
        root["kafka"]["tls"] = other;
    }
    let mut at = &mut root;
    for part in path.split('.') {
        let (name, in_list) = match part.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (part, false),
        };
        at = at
            .as_object_mut()
            .unwrap()
            .entry(name)
            .or_insert_with(|| json!({}));
        if in_list {
            *at = json!([{"id": "a", "sha256": "0".repeat(64)}]);
            at = &mut at[0];
        }
    }
    if path.ends_with("File") && path.starts_with("auth.") {
        at.as_object_mut().unwrap().remove("sha256");
    }
    *at = value.clone();
    root.to_string()
}

fn only_fault(yaml: &str) -> Fault {
    let faults = Config::parse(yaml, &no_env).expect_err(yaml);
    assert_eq!(faults.len(), 1, "{yaml}: {faults:?}");
    faults.into_iter().next().unwrap()
}

#[test]
fn all_faults_come_at_once_in_the_order_of_the_file() {
    let yaml = "
server:
  addr: 0.0.0.0:8080
  adr: x
  bodyTimeout: 10
  bodyTimeout: 10s
  1: x
  maxBodyBytes: 16Mb
kafak: {}
kafka:
  brokers: [one:9092, two, 3]
  topic: !secret logs
  async: 'true'
auth: none
consumer:
";
    assert_eq!(
        faults(yaml),
        [
            "server.adr: found an unknown key, allowed: addr, adminAddr, maxBodyBytes, \
             maxDecodedBytes, bodyTimeout, requestTimeout, maxConnections, memoryBudget, \
             shutdownTimeout, drainDelay, tls (did you mean addr?)",
            "server.bodyTimeout: found 10, allowed: a duration from 1ms to 1h, such as 500ms, 10s, \
             5m, 1h, 7d",
            "server.bodyTimeout: found the key a second time, allowed: each key once",
            "server.1: found an unknown key, allowed: addr, adminAddr, maxBodyBytes, \
             maxDecodedBytes, bodyTimeout, requestTimeout, maxConnections, memoryBudget, \
             shutdownTimeout, drainDelay, tls",
            "server.maxBodyBytes: found \"16Mb\", allowed: a size from 1 to 16GiB, such as \
             2000000, 64MiB or 64MB",
            "kafak: found an unknown key, allowed: dataDir, server, auth, ingestion, kafka, \
             consumer, storage, aggregation, telemetry (did you mean kafka?)",
            "kafka.brokers[1]: found \"two\", allowed: host:port",
            "kafka.brokers[2]: found 3, allowed: host:port",
            "kafka.topic: found the YAML tag \"secret\", allowed: the name of a topic: 1 to 249 \
             letters, digits, . _ and -, not . or .. alone",
            "kafka.async: found \"true\", allowed: true or false",
            "auth: found text, allowed: a section with enabled, allowAnonymous, headerName, keys",
            "kafka.groupID: found nothing, allowed: text on one line, 1 to 249 bytes",
            "server.addr: found 0.0.0.0:8080, allowed: a loopback address, or any with \
             auth.enabled or auth.allowAnonymous: true",
        ]
    );
}

#[test]
fn an_empty_file_misses_what_is_required_and_nothing_else() {
    for yaml in ["", "\n# nothing\n", "---\n", "{}", "kafka:\n", "\u{feff}"] {
        assert_eq!(
            faults(yaml),
            [
                "kafka.brokers: found nothing, allowed: a list of host:port",
                "kafka.groupID: found nothing, allowed: text on one line, 1 to 249 bytes",
            ],
            "{yaml:?}"
        );
    }
}

#[test]
fn what_is_no_yaml_section_is_one_fault_with_its_place() {
    for (yaml, path, found) in [
        ("a: [", "line", "broken YAML"),
        ("a: b: c", "line 1 column 5", "broken YAML"),
        ("a: 1\n---\nb: 2", "", "broken YAML"),
        ("[1, 2]", "(top)", "a list"),
        ("hunter2", "(top)", "text"),
    ] {
        let fault = only_fault(yaml);
        assert!(fault.path.starts_with(path), "{yaml}: {fault}");
        assert!(fault.found.starts_with(found), "{yaml}: {fault}");
    }
}

#[test]
fn variables_stand_for_values_of_any_kind_and_never_for_yaml() {
    let env = |name: &str| {
        let value = match name {
            "BROKERS" => "a:9092, b:9093",
            "GROUP" => "12",
            "SIZE" => "32MiB",
            "ASYNC" => "true",
            "EVIL" => "x\nauth: {allowAnonymous: true}",
            "DIR" => "/srv/x",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let yaml = "
dataDir: ${DIR}
server: {maxBodyBytes: '${SIZE}', maxConnections: '${CONNECTIONS:-17}'}
ingestion: {producerDLQDir: 'a/${NAME:-b}/./c', rejectsDir: '${REJECTS:-}'}
kafka:
  brokers: ${BROKERS}
  groupID: ${GROUP}
  async: ${ASYNC}
";
    let config = Config::parse(yaml, &env).unwrap();
    assert_eq!(config.kafka.brokers, ["a:9092", "b:9093"]);
    assert_eq!(config.kafka.group_id, "12");
    assert!(config.kafka.async_ack);
    assert_eq!(config.server.max_body_bytes, 32 << 20);
    assert_eq!(config.server.max_connections, 17);
    assert_eq!(config.ingestion.producer_dlq_dir, Path::new("/srv/x/a/b/c"));
    assert_eq!(config.storage.logs_dir, Path::new("/srv/x/logs"));
    assert_eq!(config.ingestion.rejects_dir, None);

    let yaml = "kafka: {brokers: ['a:1'], groupID: '${EVIL}', topic: '${NONE}'}";
    let faults = Config::parse(yaml, &env).unwrap_err();
    assert_eq!(faults[0].path, "kafka.groupID");
    assert_eq!(
        faults[1].to_string(),
        "kafka.topic: found ${NONE}, which is not set, allowed: a variable that is set, or \
         ${NONE:-default}"
    );
    assert_eq!(faults.len(), 2);
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    for (changes, expected) in [
        (
            json!({"server": {"addr": "0.0.0.0:8080"}}),
            Some("server.addr"),
        ),
        (json!({"server": {"addr": "[::1]:8080"}}), None),
        (json!({"server": {"addr": "[::ffff:127.0.0.1]:8080"}}), None),
        (
            json!({"server": {"addr": "0.0.0.0:80"}, "auth": {"allowAnonymous": true}}),
            None,
        ),
        (
            json!({"ingestion": {"producerWriteTimeout": "30s"}}),
            Some("ingestion.producerWriteTimeout"),
        ),
        (json!({"ingestion": {"producerWriteTimeout": "29s"}}), None),
        (json!({"server": {"requestTimeout": "2s"}}), None),
        (
            json!({"consumer": {"stallTimeout": "4999ms"}}),
            Some("consumer.stallTimeout"),
        ),
        (json!({"consumer": {"stallTimeout": "5s"}}), None),
        (json!({"consumer": {"persistTimeout": "1h"}}), None),
        (
            json!({"server": {"adminAddr": "127.0.0.1:8080"}}),
            Some("server.adminAddr"),
        ),
        (
            json!({"consumer": {"adminAddr": "0.0.0.0:9103"}}),
            Some("aggregation.adminAddr"),
        ),
        (json!({"consumer": {"adminAddr": "127.0.0.2:9103"}}), None),
        (
            json!({"server": {"addr": "127.0.0.1:0", "adminAddr": "127.0.0.1:0"}}),
            None,
        ),
        (
            json!({"storage": {"archiveDir": "./logs/."}}),
            Some("storage.archiveDir"),
        ),
        (
            json!({"consumer": {"dlqDir": "dlq/producer"}}),
            Some("consumer.dlqDir"),
        ),
        (
            json!({"storage": {"analyticsDir": "logs/_live/x"}}),
            Some("storage.analyticsDir"),
        ),
        (json!({"storage": {"analyticsDir": "logs/analytics"}}), None),
    ] {
        let mut root = minimal();
        for (section, keys) in changes.as_object().unwrap() {
            root[section] = keys.clone();
        }
        let yaml = root.to_string();
        match expected {
            Some(path) => assert_eq!(only_fault(&yaml).path, path, "{yaml}"),
            None => assert_eq!(faults(&yaml), [""; 0], "{yaml}"),
        }
    }
}

#[test]
fn a_topic_to_make_needs_both_its_numbers() {
    let fault = only_fault(&with("kafka.createTopic", &json!({"partitions": 6})));
    assert_eq!(fault.path, "kafka.createTopic.replicationFactor");
    assert_eq!(fault.found, "nothing");
    let yaml = with("kafka.createTopic.partitions", &json!(6));
    let made = Config::parse(&yaml, &no_env).unwrap().kafka.create_topic;
    let made = made.unwrap();
    assert_eq!((made.partitions, made.replication_factor), (6, 1));
}

#[test]
fn a_file_that_cannot_be_read_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let message = |path: &Path| Config::load(path).unwrap_err().to_string();
    let name = path.display().to_string();
    let missing = message(&path);
    assert!(missing.starts_with(&format!("{name}: cannot be read: No such file")));
    assert!(message(dir.path()).contains("cannot be read: Is a directory"));
    fs::write(&path, b"kafka: \xff").unwrap();
    let expected = format!("{name}: is not UTF-8: found byte 0xff at 7");
    assert_eq!(message(&path), expected);
    fs::write(&path, vec![b'#'; 1 << 21]).unwrap();
    assert!(message(&path).contains("is longer than the 1048576 bytes allowed"));
    fs::write(&path, "kafka: {groupID: g}").unwrap();
    let expected = format!("{name}: kafka.brokers: found nothing, allowed: a list of host:port");
    assert_eq!(message(&path), expected);
    fs::write(&path, minimal().to_string()).unwrap();
    assert_eq!(Config::load(&path).unwrap().kafka.group_id, "g");
}
