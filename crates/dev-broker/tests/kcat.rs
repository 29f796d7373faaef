//! A stranger drives the broker: kcat, which is librdkafka and shares no code with us. In CI kcat
//! must be there; on another machine its absence is said and the test passes.

use std::{io::Write, process::Stdio, time::Duration};

use dev_broker::{Broker, Options};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs kcat to its end, with `input` on its stdin: what it printed on stdout.
async fn kcat(broker: &Broker, args: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", &broker.bootstrap()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kcat starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("kcat reads");
    drop(stdin);
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    let ended = ended.expect("kcat ends").expect("kcat can be waited for");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "kcat {args:?} failed: {said}");
    String::from_utf8(ended.stdout).expect("text")
}

/// Whether the test can run; in CI it must.
async fn there() -> bool {
    let asked = Command::new("kcat").arg("-V").output().await;
    if asked.is_ok_and(|asked| asked.status.success()) {
        return true;
    }
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "kcat is not installed, and CI must have it");
    // past the harness, which keeps the prints of a passing test to itself
    writeln!(std::io::stdout(), "SKIPPED kcat: not installed").expect("stdout");
    false
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("record {n}\n")).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn kcat_sees_nodes_topics_and_leaders() {
    if !there().await {
        return;
    }
    let options = Options::default().nodes(3).topic("logs", 4);
    let broker = Broker::start(options).await.unwrap();
    let told = kcat(&broker, &["-L"], "").await;
    assert!(told.contains("3 brokers:"), "{told}");
    assert!(told.contains("topic \"logs\" with 4 partitions:"), "{told}");
    assert!(
        told.contains("partition 3, leader 1, replicas: 1,2,3, isrs: 1,2,3"),
        "{told}"
    );
    broker.move_leader("logs", 3, 2).unwrap();
    let told = kcat(&broker, &["-L"], "").await;
    assert!(told.contains("partition 3, leader 2"), "{told}");
    broker.stop().await;
}

#[tokio::test]
async fn kcat_reads_what_it_wrote_with_every_codec_and_every_acks() {
    if !there().await {
        return;
    }
    let broker = Broker::start(Options::default().topic("logs", 4))
        .await
        .unwrap();
    let mut written = String::new();
    for (round, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        for (k, acks) in ["acks=0", "acks=1", "acks=-1"].iter().enumerate() {
            let from = (round * 3 + k) * 1000;
            let some = lines(from, from + 1000);
            let args = [
                "-P", "-t", "logs", "-z", codec, "-X", acks, "-H", "sluice=x",
            ];
            kcat(&broker, &args, &some).await;
            written.push_str(&some);
        }
    }
    let args = ["-C", "-t", "logs", "-o", "beginning", "-e", "-q"];
    let read = kcat(&broker, &args, "").await;
    assert_eq!(sorted(&read), sorted(&written));
    let ends: i64 = (0..4).map(|p| broker.log_end("logs", p).unwrap()).sum();
    assert_eq!(ends, 15_000);
    let end = broker.log_end("logs", 2).unwrap();
    let asked = kcat(&broker, &["-Q", "-t", "logs:2:-1"], "").await;
    assert_eq!(asked.trim(), format!("logs [2] offset {end}"));
    let asked = kcat(&broker, &["-Q", "-t", "logs:2:-2"], "").await;
    assert_eq!(asked.trim(), "logs [2] offset 0");
    let asked = kcat(&broker, &["-Q", "-t", "logs:2:1000000000000"], "").await;
    assert_eq!(asked.trim(), "logs [2] offset 0");
    broker.stop().await;
}

#[tokio::test]
async fn kcat_goes_on_in_a_group_where_it_stopped() {
    if !there().await {
        return;
    }
    let broker = Broker::start(Options::default().topic("logs", 3))
        .await
        .unwrap();
    let group = [
        "-G",
        "readers",
        "-X",
        "auto.offset.reset=earliest",
        "-e",
        "-q",
        "logs",
    ];
    for round in 0..2 {
        let some = lines(round * 500, round * 500 + 500);
        kcat(&broker, &["-P", "-t", "logs"], &some).await;
        let read = kcat(&broker, &group, "").await;
        assert_eq!(sorted(&read), sorted(&some), "what is new, and that alone");
    }
    for partition in 0..3 {
        let committed = broker.committed("readers", "logs", partition);
        let end = broker.log_end("logs", partition).unwrap();
        // a partition that got nothing may have nothing committed
        let next = committed.map_or(0, |(offset, _)| offset);
        assert_eq!(next, end, "partition {partition}");
    }
    let (state, generation, members) = broker.group("readers").unwrap();
    assert_eq!((state.as_str(), members.len()), ("Empty", 0), "it left");
    assert!(generation >= 2);
    broker.stop().await;
}
