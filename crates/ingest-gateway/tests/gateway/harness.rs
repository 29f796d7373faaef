//! A gateway, a broker and a directory for one test, and what a client says and hears.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use dev_broker::{Broker, Options};
use ingest_gateway::{Gateway, StartError, identity::BatchKey};
use pipeline_core::{
    config::{
        Aggregation, Auth, Compression, Config, Consumer, Ingestion, InvalidRecords, Kafka,
        LogFormat, Server, StartAt, Storage, Telemetry,
    },
    lifecycle::{Hangup, Readiness, Shutdown},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

pub use crate::topic::{Stored, TOPIC};

/// No step of a test takes this long unless something is broken.
pub const LONG: Duration = Duration::from_secs(30);
/// For `producer_write_timeout`, where a test holds Kafka up and no batch may be given up meanwhile.
pub const PATIENT: Duration = Duration::from_secs(15);

/// A broker and a directory; gateways come and go on them.
pub struct Stage {
    pub broker: Broker,
    pub dir: TempDir,
    pub config: Config,
}

pub struct Running {
    pub addr: SocketAddr,
    pub admin_addr: SocketAddr,
    shutdown: Shutdown,
    hangup: Hangup,
    task: JoinHandle<()>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Heard {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Stage {
    pub async fn new(partitions: i32) -> Self {
        Self::with(Options::default().topic(TOPIC, partitions)).await
    }

    pub async fn with(options: Options) -> Self {
        let broker = Broker::start(options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = config(broker.bootstrap_servers(), dir.path());
        Self {
            broker,
            dir,
            config,
        }
    }

    pub async fn start(&self) -> Running {
        self.try_start().await.unwrap()
    }

    pub async fn try_start(&self) -> Result<Running, StartError> {
        self.try_start_with(Hangup::manual()).await
    }

    /// One that hears `hangup` while it starts.
    pub async fn try_start_with(&self, hangup: Hangup) -> Result<Running, StartError> {
        let shutdown = Shutdown::manual();
        let gateway = Gateway::start(&self.config, Readiness::default(), &hangup).await?;
        Ok(Running {
            addr: gateway.addr(),
            admin_addr: gateway.admin_addr(),
            shutdown: shutdown.clone(),
            hangup,
            task: tokio::spawn(gateway.run(shutdown)),
        })
    }

    pub fn dlq_dir(&self) -> PathBuf {
        self.config.ingestion.producer_dlq_dir.clone()
    }

    /// Every message of the topic, in order of partition and offset.
    pub async fn stored(&self) -> Vec<Stored> {
        crate::topic::stored(&self.config.kafka.brokers).await
    }

    /// As [`Self::stored`], once there are `count` of them.
    pub async fn stored_when(&self, count: usize) -> Vec<Stored> {
        let look = async {
            loop {
                let stored = self.stored().await;
                if stored.len() >= count {
                    return stored;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, look).await.expect("the records never came")
    }
}

impl Running {
    /// Posts JSON.
    pub async fn post(&self, body: &str) -> Heard {
        self.post_with(body, &[]).await
    }

    pub async fn post_with(&self, body: &str, headers: &[(&str, &str)]) -> Heard {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        self.ask("POST", "/logs", &all, body.as_bytes()).await
    }

    pub async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Heard {
        ask(self.addr, method, target, headers, body).await
    }

    /// What `/metrics` says. All gateways of the test process count there.
    pub async fn metrics(&self) -> String {
        let heard = ask(self.admin_addr, "GET", "/metrics", &[], b"").await;
        String::from_utf8(heard.body).unwrap()
    }

    /// The value on the line of `/metrics` that begins so.
    pub async fn metric(&self, line: &str) -> f64 {
        let metrics = self.metrics().await;
        let (_, rest) = metrics
            .split_once(line)
            .unwrap_or_else(|| panic!("no {line}"));
        rest.lines().next().unwrap().trim().parse().unwrap()
    }

    /// As a signal would.
    pub fn request_shutdown(&self) {
        self.shutdown.request();
    }

    /// As SIGHUP would.
    pub fn hang_up(&self) {
        self.hangup.request();
    }

    pub async fn stop(self) {
        self.shutdown.request();
        timeout(LONG, self.task)
            .await
            .expect("the gateway does not end")
            .unwrap();
    }

    /// As a kill would, as far as one process can: nothing of it runs on.
    pub async fn ended(self) {
        timeout(LONG, self.task)
            .await
            .expect("the gateway does not end")
            .unwrap();
    }
}

impl Heard {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&self.body));
        })
    }

    /// Status and `code` of a problem.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{self:?}"
        );
        let json = self.json();
        assert_eq!(json["status"], self.status, "{json}");
        (self.status, json["code"].as_str().unwrap().to_owned())
    }

    /// (accepted, rejected, kept) of a 202.
    pub fn accepted(&self) -> (u64, u64, String) {
        assert_eq!(self.status, 202, "{}", String::from_utf8_lossy(&self.body));
        let json = self.json();
        (
            json["accepted"].as_u64().unwrap(),
            json["rejected"].as_u64().unwrap(),
            json["kept"].as_str().unwrap().to_owned(),
        )
    }

    pub fn batch_id(&self) -> String {
        self.json()["batchId"].as_str().unwrap().to_owned()
    }
}

/// A record whose path tells it from all others.
pub fn record(path: &str) -> String {
    format!(r#"{{"timestamp":"2026-01-02T03:04:05Z","path":"/{path}","userAgent":"test"}}"#)
}

/// An array of records.
pub fn records<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    let records: Vec<_> = paths.into_iter().map(record).collect();
    format!("[{}]", records.join(","))
}

/// An idempotency key with which this JSON goes to `partition`.
pub fn key_for(body: &str, partitions: u32, partition: i32) -> String {
    let mut keys = (0..).map(|n| format!("k{n}"));
    let goes_there = |key: &String| {
        let keyed = BatchKey {
            client: "",
            key,
            site: "",
            media_type: "application/json",
        };
        keyed.batch_id(body.as_bytes()).partition(partitions).0 == partition
    };
    keys.find(goes_there).unwrap()
}

pub async fn ask(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Heard {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = head(method, target, headers, body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // A refused body need not be taken.
    let _ = stream.write_all(body).await;
    hear(&mut stream).await
}

pub fn head(method: &str, target: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: gateway\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
    head
}

/// The next answer on a connection.
pub async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Heard {
    timeout(LONG, hear_now(stream))
        .await
        .expect("no answer came")
}

async fn hear_now(stream: &mut (impl AsyncRead + Unpin)) -> Heard {
    // Byte by byte: what comes behind belongs to the next answer.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers: BTreeMap<_, _> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length");
    let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    Heard {
        status: status.parse().unwrap(),
        headers,
        body,
    }
}

fn config(brokers: Vec<String>, dir: &Path) -> Config {
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let second = Duration::from_secs(1);
    Config {
        data_dir: dir.to_owned(),
        server: Server {
            addr: loopback,
            admin_addr: loopback,
            max_body_bytes: 1 << 20,
            max_decoded_bytes: 4 << 20,
            body_timeout: 10 * second,
            request_timeout: 20 * second,
            max_connections: 100,
            memory_budget: 64 << 20,
            shutdown_timeout: 20 * second,
            drain_delay: Duration::ZERO,
            tls: None,
        },
        auth: Auth {
            enabled: false,
            allow_anonymous: true,
            header_name: "X-API-Key".to_owned(),
            keys: Vec::new(),
        },
        ingestion: Ingestion {
            queue_buffer_size: 100,
            producer_workers: 2,
            producer_write_timeout: 2 * second,
            producer_max_retries: 3,
            producer_retry_backoff: Duration::from_millis(10),
            queue_high_water: 0.9,
            producer_dlq_dir: dir.join("dlq"),
            producer_dlq_max_bytes: 64 << 20,
            rejects_dir: None,
            rejects_max_bytes: 1 << 20,
            invalid_records: InvalidRecords::Skip,
            max_record_bytes: 256 << 10,
            max_batch_records: 1_000_000,
        },
        kafka: Kafka {
            brokers,
            topic: TOPIC.to_owned(),
            group_id: "test".to_owned(),
            group_instance_id: None,
            batch_size: 5000,
            batch_bytes: 1_000_000,
            batch_timeout: Duration::from_millis(1),
            compression: Compression::None,
            async_ack: false,
            consumers: 1,
            require_all_acks: true,
            create_topic: None,
            security: Default::default(),
        },
        consumer: Consumer {
            flush_size: 512,
            flush_interval: second,
            persist_timeout: second,
            dlq_dir: dir.join("consumer-dlq"),
            dlq_max_bytes: 1 << 30,
            buffer_bytes: 1 << 30,
            dedup_max_batches: 1000,
            session_timeout: 10 * second,
            stall_timeout: 60 * second,
            start_at: StartAt::Earliest,
            admin_addr: loopback,
            shutdown_timeout: second,
        },
        storage: Storage {
            logs_dir: dir.join("logs"),
            analytics_dir: dir.join("analytics"),
            archive_dir: dir.join("archive"),
            live_retention: second,
            archive_retention: None,
            analytics_retention: None,
        },
        aggregation: Aggregation {
            interval: second,
            archive_after: second,
            archive_max_wait: second,
            max_keys_per_hour: 1000,
            strip_query: false,
            admin_addr: loopback,
            shutdown_timeout: second,
        },
        telemetry: Telemetry {
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
        },
    }
}
