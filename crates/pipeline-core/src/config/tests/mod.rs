mod auth;
mod examples;
mod refused;

use std::fs;

use serde_json::{Value as Json, json};

use super::{
    keys::{KEYS, Key, NOT_YET, OFF},
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

/// Keys that a file can hold a value for: not those inside of what is not available yet.
fn usable() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| {
        !NOT_YET.iter().any(|later| {
            let rest = key.path.strip_prefix(later);
            rest.is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    })
}

fn only_fault(yaml: &str) -> Fault {
    let faults = Config::parse(yaml, &no_env).expect_err(yaml);
    assert_eq!(faults.len(), 1, "{yaml}: {faults:?}");
    faults.into_iter().next().unwrap()
}

/// The contract's table, spelled out a second time.
#[test]
fn defaults_are_the_contracts() {
    let yaml = minimal().to_string();
    let config = Config::parse(&yaml, &no_env).unwrap();
    let base = std::env::current_dir().unwrap();
    let seconds = Duration::from_secs;
    let expected = Config {
        data_dir: base.clone(),
        server: Server {
            addr: "127.0.0.1:8080".parse().unwrap(),
            admin_addr: "127.0.0.1:9101".parse().unwrap(),
            max_body_bytes: 16 << 20,
            max_decoded_bytes: 128 << 20,
            body_timeout: seconds(10),
            request_timeout: seconds(30),
            max_connections: 4096,
            memory_budget: 512 << 20,
            shutdown_timeout: seconds(30),
            tls: None,
        },
        auth: Auth {
            enabled: false,
            allow_anonymous: false,
            header_name: "X-API-Key".to_owned(),
            keys: Vec::new(),
        },
        ingestion: Ingestion {
            queue_buffer_size: 10_000,
            producer_workers: 10,
            producer_write_timeout: seconds(10),
            producer_max_retries: 3,
            producer_retry_backoff: Duration::from_millis(200),
            queue_high_water: 0.9,
            producer_dlq_dir: base.join("dlq/producer"),
            producer_dlq_max_bytes: 10 << 30,
            rejects_dir: None,
            rejects_max_bytes: 1 << 30,
            invalid_records: InvalidRecords::Skip,
            max_record_bytes: 256 << 10,
            max_batch_records: 1_000_000,
        },
        kafka: Kafka {
            brokers: vec!["127.0.0.1:9092".to_owned()],
            topic: "logs".to_owned(),
            group_id: "g".to_owned(),
            group_instance_id: None,
            batch_size: 5000,
            batch_bytes: 1_000_000,
            batch_timeout: Duration::from_millis(5),
            compression: Compression::None,
            async_ack: false,
            consumers: 1,
            require_all_acks: true,
            create_topic: None,
        },
        consumer: Consumer {
            flush_size: 512,
            flush_interval: Duration::from_millis(500),
            persist_timeout: seconds(5),
            dlq_dir: base.join("dlq/consumer"),
            dlq_max_bytes: 1 << 30,
            buffer_bytes: 256 << 20,
            dedup_max_batches: 250_000,
            session_timeout: seconds(10),
            stall_timeout: seconds(300),
            start_at: StartAt::Earliest,
            admin_addr: "127.0.0.1:9102".parse().unwrap(),
            shutdown_timeout: seconds(30),
        },
        storage: Storage {
            logs_dir: base.join("logs"),
            analytics_dir: base.join("analytics"),
            archive_dir: base.join("archive"),
            live_retention: seconds(3600),
            archive_retention: None,
            analytics_retention: None,
        },
        aggregation: Aggregation {
            interval: seconds(30),
            archive_after: seconds(15 * 60),
            archive_max_wait: seconds(6 * 3600),
            max_keys_per_hour: 100_000,
            strip_query: false,
            admin_addr: "127.0.0.1:9103".parse().unwrap(),
            shutdown_timeout: seconds(30),
        },
        telemetry: Telemetry {
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
        },
    };
    assert_eq!(format!("{config:#?}"), format!("{expected:#?}"));
}

#[test]
fn each_key_given_at_its_documented_default_changes_nothing() {
    let plain = format!("{:?}", Config::parse(&minimal().to_string(), &no_env));
    for key in usable().filter(|key| !key.default.is_empty()) {
        let value = match key.default {
            "[]" => json!([]),
            text => serde_yaml::from_str(text).unwrap(),
        };
        let given = Config::parse(&with(key.path, &value), &no_env);
        let plain = match key.path.rsplit_once("[].") {
            Some((list, _)) => {
                let id = with(&format!("{list}[].id"), &json!("a"));
                format!("{:?}", Config::parse(&id, &no_env))
            }
            None => plain.clone(),
        };
        assert_eq!(format!("{given:?}"), plain, "{}", key.path);
    }
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
             shutdownTimeout, tls (did you mean addr?)",
            "server.bodyTimeout: found 10, allowed: a duration from 1ms to 1h, such as 500ms, 10s, \
             5m, 1h, 7d",
            "server.bodyTimeout: found the key a second time, allowed: each key once",
            "server.1: found an unknown key, allowed: addr, adminAddr, maxBodyBytes, \
             maxDecodedBytes, bodyTimeout, requestTimeout, maxConnections, memoryBudget, \
             shutdownTimeout, tls",
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
fn the_default_write_timeout_follows_a_shorter_request_timeout() {
    let yaml = with("server.requestTimeout", &json!("3s"));
    let config = Config::parse(&yaml, &no_env).unwrap();
    assert_eq!(
        config.ingestion.producer_write_timeout,
        Duration::from_millis(1500)
    );
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
