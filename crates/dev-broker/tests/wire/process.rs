//! The binary: what it prints, what it refuses, and what it keeps when it is killed.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use dev_broker::control::Command as Control;
use kafka_protocol::messages::{ApiKey, ListGroupsRequest, RequestKind, ResponseKind};
use serde_json::{Value, json};

use crate::{
    batches::{offsets, plain},
    client::{Wire, produce},
};

struct Process {
    child: Child,
    addr: SocketAddr,
    control: SocketAddr,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let mut child = command(&["--topic", "logs:2", "--control", "127.0.0.1:0", "--dir"])
            .arg(dir)
            .spawn()
            .expect("the binary starts");
        let out = child.stdout.take().expect("piped");
        let mut lines = BufReader::new(out).lines();
        let mut after = |prefix: &str| {
            let line = lines.next().expect("a line").expect("text");
            let rest = line.strip_prefix(prefix);
            rest.unwrap_or_else(|| panic!("`{line}` is not `{prefix}…`"))
                .to_owned()
        };
        let control = after("control on http://");
        let addr = after("listening on ");
        Self {
            child,
            addr: addr.parse().expect("an address"),
            control: control.trim_end_matches('/').parse().expect("an address"),
        }
    }

    fn control(&self, command: &Value) -> (u16, Value) {
        // what tests write as JSON is what the library's own type reads
        if let Err(error) = serde_json::from_value::<Control>(command.clone()) {
            assert!(command["do"] == "dance", "{command}: {error}");
        }
        self.http("POST", &command.to_string())
    }

    fn http(&self, method: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.control).expect("the control port listens");
        let length = body.len();
        let request = format!("{method} / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        let status = head.split(' ').nth(1).expect("a status").parse();
        (
            status.expect("a number"),
            serde_json::from_str(body).expect("JSON"),
        )
    }

    fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("gone");
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dev-broker"));
    command
        .args(["--listen", "127.0.0.1:0"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

async fn write(wire: &mut Wire, acks: i16) -> i64 {
    let answer = wire
        .produce(9, acks, ("logs", 0), plain(&["a", "b"]))
        .await
        .unwrap();
    assert_eq!(answer.error_code, 0);
    answer.base_offset
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let mut wire = Wire::connect(process.addr).await;
    for round in 0..10 {
        assert_eq!(write(&mut wire, -1).await, round * 2);
    }
    let (_, before) = process.http("GET", "");
    let (status, _) = process.control(&json!({
        "do": "append", "topic": "logs", "partition": 1,
        "batch": {"transactional": {"producer_id": 7, "values": ["x"]}}
    }));
    assert_eq!(status, 200);
    process.control(&json!({
        "do": "append", "topic": "logs", "partition": 1,
        "batch": {"marker": {"producer_id": 7, "commit": false}}
    }));
    process.control(&json!({"do": "delete_before", "topic": "logs", "partition": 0, "offset": 3}));
    process.kill();

    // a batch that the kill cut short was never acknowledged
    let id = before["topics"][0]["id"].as_str().unwrap().replace('-', "");
    let file = dir.path().join(id).join("0.log");
    let whole = file.metadata().unwrap().len();
    let mut torn = OpenOptions::new().append(true).open(&file).unwrap();
    torn.write_all(&plain(&["torn"])[..70]).unwrap();

    let process = Process::start(dir.path());
    assert_eq!(file.metadata().unwrap().len(), whole);
    let (_, after) = process.http("GET", "");
    assert_eq!(after["cluster"], before["cluster"]);
    assert_eq!(after["topics"][0]["id"], before["topics"][0]["id"]);
    let epoch = |state: &Value| state["topics"][0]["partitions"][0]["epoch"].as_i64();
    assert_eq!(
        epoch(&after),
        epoch(&before).map(|epoch| epoch + 1),
        "a restart elects"
    );
    let mut wire = Wire::connect(process.addr).await;
    let data = wire.fetch("logs", 0, 3).await;
    assert_eq!((data.log_start_offset, data.high_watermark), (3, 20));
    assert_eq!(offsets(data.records), (2..20).collect::<Vec<_>>());
    let mut request = crate::client::fetch(&[("logs", 1, 0)]);
    request.isolation_level = 1;
    let answer = wire
        .call(ApiKey::Fetch, 12, &RequestKind::Fetch(request))
        .await;
    let ResponseKind::Fetch(answer) = answer.unwrap() else {
        panic!("not an answer to a fetch");
    };
    let data = crate::client::partition_of(answer, 0);
    assert_eq!(data.aborted_transactions.expect("told").len(), 1);
    assert_eq!(write(&mut wire, 1).await, 20);
    process.kill();
}

#[tokio::test]
async fn committed_offsets_are_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..4 {
        let process = Process::start(dir.path());
        let mut wire = Wire::connect(process.addr).await;
        crate::groups::commit_by_hand(&mut wire, round * 10).await;
        process.kill();
        let process = Process::start(dir.path());
        let (_, state) = process.http("GET", "");
        assert_eq!(state["groups"][0]["offsets"][0]["offset"], round * 10);
        let mut wire = Wire::connect(process.addr).await;
        let request = RequestKind::ListGroups(ListGroupsRequest::default());
        let answer = wire.call(ApiKey::ListGroups, 5, &request).await.unwrap();
        let ResponseKind::ListGroups(answer) = answer else {
            panic!("not a list of groups");
        };
        assert_eq!(answer.groups[0].group_state.as_str(), "Empty");
        process.kill();
    }
}

#[tokio::test]
async fn sigterm_ends_it_with_success_while_clients_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path());
    let mut wire = Wire::connect(process.addr).await;
    let mut waiting = crate::client::fetch(&[("logs", 0, 0)]);
    waiting.max_wait_ms = 600_000;
    let request = RequestKind::Fetch(waiting);
    wire.send(ApiKey::Fetch, 12, &request).await.unwrap();
    let pid = process.child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.expect("kill runs").success());
    assert!(process.child.wait().unwrap().success());
    wire.receive_frame().await.expect_err("closed");
}

#[tokio::test]
async fn the_control_port_makes_requests_fail_and_says_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let rule = json!({"do": "fault", "on": "Produce", "nth": 2, "then": {"done_but_error": 7}});
    assert_eq!(process.control(&rule), (200, json!({"ok": true})));
    let mut wire = Wire::connect(process.addr).await;
    let mut errors = Vec::new();
    for _ in 0..3 {
        let answer = wire
            .produce(9, -1, ("logs", 0), plain(&["a"]))
            .await
            .unwrap();
        errors.push(answer.error_code);
    }
    assert_eq!(errors, [0, 7, 0]);
    let (_, state) = process.http("GET", "");
    assert_eq!(state["topics"][0]["partitions"][0]["end"], 3);
    assert_eq!(state["requests"]["Produce"], 3);
    process.control(&json!({"do": "pause"}));
    let request = produce(-1, &[("logs", 0, plain(&["a"]))]);
    wire.send(ApiKey::Produce, 9, &request).await.unwrap();
    process.control(&json!({"do": "resume"}));
    wire.receive(ApiKey::Produce, 9).await.unwrap();
    let (status, answer) = process.control(&json!({"do": "dance"}));
    assert_eq!(status, 400);
    assert!(
        answer["error"].as_str().unwrap().contains("dance"),
        "{answer}"
    );
    let (status, answer) = process.control(&json!({"do": "delete_topic", "topic": "absent"}));
    assert_eq!((status, answer), (400, json!({"error": "no topic absent"})));
    process.kill();
}

#[test]
fn it_refuses_what_it_must_not_do_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let running = Process::start(dir.path());
    let same_dir = dir.path().to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (
            &["--listen", "0.0.0.0:0"],
            "loopback only, not on 0.0.0.0:0",
        ),
        (
            &["--control", "0.0.0.0:0"],
            "loopback only, not on 0.0.0.0:0",
        ),
        (&["--dir", same_dir], "another broker uses it"),
        (&["--topic", "logs"], "expected NAME:PARTITIONS"),
        (
            &["--topic", "logs:1,retention=1"],
            "unknown topic config name: retention",
        ),
    ];
    for (args, why) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dev-broker"));
        if args[0] != "--listen" {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let ended = command.args(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success(), "{args:?}");
        assert!(said.contains(why), "{args:?} says: {said}");
    }
    running.kill();
}
