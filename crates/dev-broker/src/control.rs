//! The control port: what tests in other processes reach into the broker with. Plain HTTP with
//! JSON, so that `curl` is enough: `GET /` tells the state, `POST /` with a command does it. The
//! commands are [`Command`]; each answers `{"ok":true}` or `{"error":"…"}` with status 400.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use kafka_protocol::messages::ApiKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{Broker, Fault, HookError, RawBatch, TopicSpec};

const REQUEST_BYTES_MAX: usize = 1024 * 1024;
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// What may be asked for, as JSON: `{"do":"pause"}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// A fault, e.g. `{"do":"fault","on":"Produce","nth":3,"then":{"answer_error":7}}`. `on` is
    /// an API by its name in the protocol guide; without it every request is meant.
    Fault(Box<Rule>),
    ClearFaults,
    /// As SIGSTOP; of one node, or of all.
    Pause {
        node: Option<i32>,
    },
    Resume {
        node: Option<i32>,
    },
    StopNode {
        node: i32,
    },
    StartNode {
        node: i32,
    },
    MoveLeader {
        topic: String,
        partition: i32,
        node: i32,
    },
    MoveCoordinator {
        node: i32,
    },
    CreateTopic {
        /// `NAME:PARTITIONS[,setting=value]…`
        topic: String,
    },
    DeleteTopic {
        topic: String,
    },
    RecreateTopic {
        topic: String,
    },
    GrowTopic {
        topic: String,
        partitions: i32,
    },
    SetSetting {
        topic: String,
        name: String,
        value: String,
    },
    Truncate {
        topic: String,
        partition: i32,
        offset: i64,
    },
    DeleteBefore {
        topic: String,
        partition: i32,
        offset: i64,
    },
    Append {
        topic: String,
        partition: i32,
        batch: RawBatch,
    },
}

/// A fault rule; the fields are the methods of [`crate::RuleBuilder`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub on: Option<String>,
    pub node: Option<i32>,
    pub client_id: Option<String>,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub nth: Option<u64>,
    pub after: Option<u64>,
    pub times: Option<u64>,
    pub then: Fault,
}

/// Serves commands on `addr` (loopback only) until the broker stops. Returns the address.
pub async fn serve(broker: Arc<Broker>, addr: SocketAddr) -> io::Result<SocketAddr> {
    if !addr.ip().is_loopback() {
        let why = format!("the control port is on loopback only, not on {addr}");
        return Err(io::Error::other(why));
    }
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let stopped = broker.all.clone();
    let tasks = broker.tasks.clone();
    tasks.spawn(stopped.run_until_cancelled_owned(accept(broker, listener)));
    Ok(addr)
}

async fn accept(broker: Arc<Broker>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // one at a time: commands are few, and their order is the order they came in
                match timeout(REQUEST_TIME_MAX, answer(&broker, stream)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "control connection ended"),
                    Err(_) => tracing::debug!("control connection took too long"),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a control connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn answer(broker: &Broker, mut stream: TcpStream) -> io::Result<()> {
    let (head, body) = read_request(&mut stream).await?;
    let done = if head.starts_with("GET ") {
        Ok(state(broker))
    } else if head.starts_with("POST ") {
        match serde_json::from_slice::<Command>(&body) {
            Ok(command) => run(broker, command)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(format!("no command: {error}")),
        }
    } else {
        Err("GET tells the state, POST takes a command".to_owned())
    };
    let (status, body) = match done {
        Ok(value) => ("200 OK", value),
        Err(error) => ("400 Bad Request", json!({ "error": error })),
    };
    let body = format!("{body:#}\n");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn run(broker: &Broker, command: Command) -> Result<Value, HookError> {
    match command {
        Command::Fault(rule) => arm(broker, *rule)?,
        Command::ClearFaults => broker.faults().clear(),
        Command::Pause { node: None } => broker.pause(),
        Command::Pause { node: Some(node) } => broker.pause_node(node),
        Command::Resume { node: None } => broker.resume(),
        Command::Resume { node: Some(node) } => broker.resume_node(node),
        Command::StopNode { node } => broker.stop_node(node)?,
        Command::StartNode { node } => broker.start_node(node).await?,
        Command::MoveLeader {
            topic,
            partition,
            node,
        } => broker.move_leader(&topic, partition, node)?,
        Command::MoveCoordinator { node } => broker.move_coordinator(node)?,
        Command::CreateTopic { topic } => {
            let spec: TopicSpec = topic.parse().map_err(HookError::Command)?;
            broker.create_topic(&spec)?;
        }
        Command::DeleteTopic { topic } => broker.delete_topic(&topic)?,
        Command::RecreateTopic { topic } => broker.recreate_topic(&topic)?,
        Command::GrowTopic { topic, partitions } => broker.grow_topic(&topic, partitions)?,
        Command::SetSetting { topic, name, value } => broker.set_setting(&topic, &name, &value)?,
        Command::Truncate {
            topic,
            partition,
            offset,
        } => broker.truncate(&topic, partition, offset)?,
        Command::DeleteBefore {
            topic,
            partition,
            offset,
        } => broker.delete_before(&topic, partition, offset)?,
        Command::Append {
            topic,
            partition,
            batch,
        } => {
            let offset = broker.append(&topic, partition, &batch)?;
            return Ok(json!({ "ok": true, "offset": offset }));
        }
    }
    Ok(json!({ "ok": true }))
}

fn arm(broker: &Broker, rule: Rule) -> Result<(), HookError> {
    let mut builder = match &rule.on {
        Some(name) => {
            let api = api_named(name);
            let unknown = || HookError::Command(format!("no API is called {name}"));
            broker.faults().on(api.ok_or_else(unknown)?)
        }
        None => broker.faults().on_any(),
    };
    if let Some(node) = rule.node {
        builder = builder.node(node);
    }
    if let Some(prefix) = &rule.client_id {
        builder = builder.client_id(prefix);
    }
    builder = match (&rule.topic, rule.partition) {
        (Some(topic), Some(partition)) => builder.partition(topic, partition),
        (Some(topic), None) => builder.topic(topic),
        (None, Some(_)) => {
            let why = "a partition needs its topic".to_owned();
            return Err(HookError::Command(why));
        }
        (None, None) => builder,
    };
    if let Some(n) = rule.nth {
        builder = builder.nth(n);
    }
    if let Some(n) = rule.after {
        builder = builder.after(n);
    }
    if let Some(n) = rule.times {
        builder = builder.times(n);
    }
    builder.then(rule.then);
    Ok(())
}

fn state(broker: &Broker) -> Value {
    let cluster = &broker.shared.cluster;
    let topics = cluster.topics();
    let topics = topics.iter().map(|topic| {
        let partitions = topic.partitions();
        let partitions = partitions.iter().map(|partition| {
            let inner = partition.lock();
            json!({
                "partition": partition.index,
                "leader": inner.leader,
                "epoch": inner.epoch,
                "start": inner.log.start(),
                "end": inner.log.end(),
            })
        });
        json!({
            "name": topic.name,
            "id": topic.id.to_string(),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    });
    let groups = broker.shared.coordinator.each(|(id, entry)| {
        let offsets = entry.offsets.iter().map(|((topic, partition), committed)| {
            json!({
                "topic": topic,
                "partition": partition,
                "offset": committed.offset,
                "metadata": committed.metadata,
            })
        });
        json!({
            "group": id,
            "state": entry.group.state_name(),
            "generation": entry.group.generation(),
            "members": entry.group.members().map(|(id, _)| id).collect::<Vec<_>>(),
            "offsets": offsets.collect::<Vec<_>>(),
        })
    });
    let seen = apis().filter(|api| broker.requests_seen(*api) > 0);
    let seen = seen.map(|api| (format!("{api:?}"), json!(broker.requests_seen(api))));
    json!({
        "bootstrap": broker.bootstrap(),
        "cluster": broker.cluster_id(),
        "topics": topics.collect::<Vec<_>>(),
        "groups": groups,
        "requests": Value::Object(seen.collect()),
    })
}

fn apis() -> impl Iterator<Item = ApiKey> {
    (0..128).filter_map(|key| ApiKey::try_from(key).ok())
}

fn api_named(name: &str) -> Option<ApiKey> {
    apis().find(|api| format!("{api:?}").eq_ignore_ascii_case(name))
}

/// Head and body of one HTTP request; only as much of HTTP as `curl` and a test need.
async fn read_request(stream: &mut TcpStream) -> io::Result<(String, BytesMut)> {
    let mut buffer = BytesMut::with_capacity(4096);
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, &mut buffer).await?;
    };
    let head = buffer.split_to(end);
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.unwrap_or(0);
    if length > REQUEST_BYTES_MAX {
        return Err(io::Error::other("a command that is too long"));
    }
    while buffer.len() < length {
        read_more(stream, &mut buffer).await?;
    }
    buffer.truncate(length);
    Ok((head, buffer))
}

async fn read_more(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<()> {
    if buffer.len() > REQUEST_BYTES_MAX {
        return Err(io::Error::other("a command that is too long"));
    }
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
