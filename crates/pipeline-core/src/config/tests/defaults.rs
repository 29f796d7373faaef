//! What holds where a file says nothing.

use super::*;

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
            drain_delay: seconds(0),
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
            security: KafkaSecurity::default(),
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
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
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
            None if key.path.starts_with("kafka.tls.") => {
                format!(
                    "{:?}",
                    Config::parse(&with("kafka.tls", &json!({})), &no_env)
                )
            }
            None if key.path.starts_with("kafka.sasl.") => {
                let user = with("kafka.sasl.username", &json!("u"));
                format!("{:?}", Config::parse(&user, &no_env))
            }
            None => plain.clone(),
        };
        assert_eq!(format!("{given:?}"), plain, "{}", key.path);
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
