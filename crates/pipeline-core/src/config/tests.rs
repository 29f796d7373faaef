use std::{collections::BTreeSet, fs};

use serde_json::{Value as Json, json};

use super::{
    keys::{KEYS, Key, NOT_YET, OFF},
    reference::file,
    value::Kind,
    yaml::{self, Node},
    *,
};

const EXAMPLES: [&str; 2] = [
    "config/examples/config.v2.local.yaml",
    "config/examples/config.v2.production.yaml",
];

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
    let mut at = &mut root;
    for part in path.split('.') {
        at = at
            .as_object_mut()
            .unwrap()
            .entry(part)
            .or_insert_with(|| json!({}));
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
        },
        auth: Auth {
            enabled: false,
            allow_anonymous: false,
            header_name: "X-API-Key".to_owned(),
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
            invalid_records: InvalidRecords::Skip,
            max_record_bytes: 256 << 10,
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
        assert_eq!(format!("{given:?}"), plain, "{}", key.path);
    }
}

#[test]
fn a_misspelt_key_is_refused_with_its_path_and_the_one_that_was_meant() {
    for key in usable() {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let wrong = format!("{}x", key.path);
        let faults = faults(&with(&wrong, &json!(1)));
        let start = format!("{wrong}: found an unknown key, allowed: ");
        let hint = format!("(did you mean {name}?)");
        let found = faults
            .iter()
            .any(|fault| fault.starts_with(&start) && fault.ends_with(&hint));
        assert!(found, "{section} {name}: {faults:?}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_path() {
    for key in usable() {
        let mut wrong = vec![json!([[1]]), json!([{"a": 1}])];
        match key.kind {
            Kind::Section => wrong.push(json!("words")),
            Kind::Sections => wrong.push(json!({"a": 1})),
            _ => wrong.push(json!({"a": 1})),
        }
        if matches!(
            key.kind,
            Kind::Name | Kind::Path | Kind::Topic | Kind::Brokers | Kind::Choice(_)
        ) {
            wrong.push(json!(17));
        }
        if matches!(key.kind, Kind::Count { .. } | Kind::Bool) {
            // In quotes it is text, and nobody meant text.
            wrong.push(json!("1"));
            wrong.push(json!("true"));
            wrong.push(json!(1.5));
        }
        if key.default != OFF && key.default != "[]" {
            wrong.push(json!(null));
        }
        for value in wrong {
            let fault = only_fault(&with(key.path, &value));
            let at = fault.path.strip_suffix("[0]").unwrap_or(&fault.path);
            assert_eq!(at, key.path, "{value}: {fault}");
            assert!(!fault.allowed.is_empty() && !fault.found.is_empty());
        }
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_its_path_and_the_range() {
    for key in usable() {
        let wrong = match key.kind {
            Kind::Count { min, max } | Kind::Size { min, max } => {
                vec![json!(i128::from(min) - 1), json!(u128::from(max) + 1)]
            }
            Kind::Duration { min, max } => match min {
                0 => vec![json!("-1ms"), json!(format!("{}ms", max + 1))],
                _ => vec![
                    json!(format!("{}ms", min - 1)),
                    json!(format!("{}ms", max + 1)),
                ],
            },
            Kind::Share => vec![json!(0), json!(-0.5), json!(100.5)],
            Kind::Addr => vec![
                json!("127.0.0.1"),
                json!("127.0.0.1:65536"),
                json!("host:1"),
            ],
            Kind::Choice(_) => vec![json!("other"), json!("")],
            Kind::Brokers => vec![json!([]), json!(["kafka"]), json!([""])],
            Kind::Topic => vec![json!("a/b"), json!(""), json!("x".repeat(250))],
            Kind::Name => vec![json!(" "), json!("x".repeat(250)), json!("a\nb")],
            Kind::HeaderName => vec![json!("a b"), json!("")],
            Kind::LogFilter => vec![json!("loud"), json!("")],
            Kind::Path => vec![json!(""), json!("~/sluice")],
            Kind::Bool => vec![json!("yes"), json!(1)],
            Kind::Section => vec![json!("on"), json!(true)],
            Kind::Secret | Kind::Sections => vec![json!(["x"])],
        };
        for value in wrong {
            let fault = only_fault(&with(key.path, &value));
            let at = fault.path.strip_suffix("[0]").unwrap_or(&fault.path);
            assert_eq!(at, key.path, "{value}: {fault}");
        }
    }
    let fault = only_fault(&with("server.maxConnections", &json!(0)));
    assert_eq!(
        fault.to_string(),
        "server.maxConnections: found 0, allowed: a whole number from 1 to 1000000"
    );
}

#[test]
fn what_is_not_available_yet_is_refused_at_any_value_but_its_default() {
    for path in NOT_YET {
        let key = KEYS.iter().find(|key| key.path == *path).unwrap();
        let other = match key.kind {
            Kind::Bool => json!(true),
            Kind::Count { .. } => json!(7),
            Kind::Size { .. } => json!("32MiB"),
            Kind::Duration { .. } => json!("2h"),
            Kind::Path | Kind::Name => json!("x"),
            Kind::Section => json!({"mechanism": "PLAIN", "password": "hunter2"}),
            Kind::Sections => json!([{"id": "a", "sha256": "hunter2"}]),
            kind => panic!("{path}: {kind:?}"),
        };
        let fault = only_fault(&with(path, &other));
        assert_eq!(fault.path, *path);
        let allowed = format!("{} (anything else is not available yet)", key.default);
        assert_eq!(fault.allowed, allowed);
    }
}

#[test]
fn secrets_are_never_shown() {
    for (path, value) in [
        ("auth.keys", json!([{"id": "a", "sha256": "hunter2"}])),
        ("auth.keys", json!("hunter2")),
        ("auth.kezs", json!("hunter2")),
        ("auth", json!("hunter2")),
        ("kafka.sasl", json!({"password": "hunter2"})),
        ("kafka.sasl", json!("hunter2")),
        ("kafka.sazl", json!({"password": "hunter2"})),
        ("kafka.brokers", json!(["user:hunter2@kafka:9092"])),
    ] {
        let faults = faults(&with(path, &value));
        assert!(!faults.is_empty());
        let hidden = !faults.iter().any(|fault| fault.contains("hunter2"));
        assert!(hidden, "{faults:?}");
    }
    let fault = only_fault(&with("auth.keys", &json!("hunter2")));
    assert_eq!(fault.found, "***");
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
fn both_examples_are_good_as_they_are() {
    for path in EXAMPLES {
        let yaml = fs::read_to_string(file(path)).unwrap();
        assert_eq!(faults(&yaml), [""; 0], "{path}");
    }
    let yaml = fs::read_to_string(file(EXAMPLES[1])).unwrap();
    let config = Config::parse(&yaml, &no_env).unwrap();
    assert!(config.auth.allow_anonymous);
    assert_eq!(config.server.addr, "0.0.0.0:8080".parse().unwrap());
}

/// A key behind `#` without a blank is commented out, words stand behind `# `.
fn with_comments_taken_away(yaml: &str) -> String {
    let lines: Vec<String> = yaml
        .lines()
        .map(|line| {
            let bare = line.trim_start();
            let indent = &line[..line.len() - bare.len()];
            match bare.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{indent}{rest}"),
                _ => line.to_owned(),
            }
        })
        .collect();
    lines.join("\n")
}

#[test]
fn every_key_stands_in_both_examples() {
    let known: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    for path in EXAMPLES {
        let yaml = fs::read_to_string(file(path)).unwrap();
        let yaml = with_comments_taken_away(&yaml);
        let mut found = BTreeSet::new();
        paths(&yaml::parse(&yaml).unwrap(), "", &mut found);
        assert_eq!(found, known, "{path}");
        // What was commented out is there because it is not available yet, and for nothing else.
        for fault in faults(&yaml) {
            assert!(
                fault.ends_with("not available yet)") || fault.contains("${HOSTNAME"),
                "{path}: {fault}"
            );
        }
    }
}

/// Paths of all keys that are no plain sections.
fn paths(node: &Node, at: &str, found: &mut BTreeSet<String>) {
    let is_key = KEYS.iter().any(|key| key.path == at);
    if is_key {
        found.insert(at.to_owned());
    }
    match node {
        Node::Map(entries) => {
            for (key, node) in entries {
                let Node::Text(key) = key else {
                    panic!("{key:?} at {at}");
                };
                let path = match at {
                    "" => key.clone(),
                    _ => format!("{at}.{key}"),
                };
                paths(node, &path, found);
            }
        }
        Node::List(items) if matches!(items[..], [Node::Map(_)]) => {
            paths(&items[0], &format!("{at}[]"), found);
        }
        _ => assert!(is_key, "{at} is no key"),
    }
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
