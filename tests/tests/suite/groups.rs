//! The writers' consumer group as its operators meet it: rolling restarts, two processes with one
//! name, strangers in the group, a second store. On any broker.

use std::{
    fs,
    io::Read,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use testbed::{
    http::post,
    kafka::{Cluster, group::Group},
    load::Load,
    order,
    process::{poll_until, tail},
    skip,
    stand::{Plan, Stand},
    store::{self, Counter},
};

use crate::{RunDir, assert_holds, load};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_rolling_restart_of_static_writers_moves_no_partition() -> Result<()> {
    let dir = RunDir::new("rolling");
    let plan = Plan {
        partitions: 4,
        writers: 2,
        consumers: 2,
        ..Plan::from_env()
    };
    let plan = plan
        .with("kafka.groupInstanceID", "writer")
        // Longer than any restart here: only a rebalance could move a partition before.
        .with("consumer.sessionTimeout", "60s");
    let mut stand = Stand::up(&dir, plan)?;
    let load = Load::start(&stand.addresses, load(61));
    assigned(&stand, &[2.0, 2.0])?;
    for round in 0..4 {
        let before = load.accepted();
        assert!(
            load.wait_accepted(before + 5_000, WITHIN),
            "{}",
            load.stop()
        );
        let (restarted, other) = (round % 2, 1 - round % 2);
        let rebalances = rebalances(&stand, other);
        if round < 2 {
            stand.writers[restarted].terminate()?;
        } else {
            stand.writers[restarted].kill()?;
        }
        stand.writers[restarted].start()?;
        stand.writers[restarted].wait_ready()?;
        assigned(&stand, &[2.0, 2.0])?;
        let after = self::rebalances(&stand, other);
        assert_eq!(after, rebalances, "round {round}: the group rebalanced");
    }
    let ledger = load.stop();
    let verdict = stand.settle(&ledger, Duration::from_secs(180))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}

#[test]
fn of_two_writers_with_one_name_the_earlier_ends_loudly_and_nothing_is_twice() -> Result<()> {
    let dir = RunDir::new("fenced");
    let plan = Plan {
        partitions: 2,
        ..Plan::from_env()
    };
    let plan = plan.with("kafka.groupInstanceID", "writer");
    let mut stand = Stand::up(&dir, plan)?;
    let load = Load::start(&stand.addresses, load(62));
    assert!(load.wait_accepted(5_000, WITHIN), "{}", load.stop());
    assigned(&stand, &[2.0])?;
    // Under another file and address, but with the same name in the group.
    let second = stand.add_writer()?;
    let text = fs::read_to_string(&second.config)?;
    fs::write(&second.config, text.replace("writer-2", "writer"))?;
    second.start()?;
    second.wait_ready()?;
    let first = stand.writers[0].process()?;
    let status = first.wait(WITHIN)?;
    assert_eq!(status.code(), Some(1), "{}", first.log_tail(20));
    let words = first.log_tail(20);
    assert!(
        words.contains("fenced") && words.contains("groupInstanceID writer"),
        "{words}"
    );
    let first = stand.writers.remove(0);
    assigned(&stand, &[2.0])?;
    let before = load.accepted();
    assert!(
        load.wait_accepted(before + 5_000, WITHIN),
        "{}",
        load.stop()
    );
    let ledger = load.stop();
    let verdict = stand.settle(&ledger, Duration::from_secs(180))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    drop(first);
    dir.passed()
}

#[test]
fn a_stranger_gets_no_partition_of_the_writers_and_a_writer_none_of_a_strangers() -> Result<()> {
    if Command::new("kcat").arg("-V").output().is_err() {
        skip::skipped("other clients in the group", "kcat is not installed");
        return Ok(());
    }
    let dir = RunDir::new("strangers");
    let plan = Plan {
        partitions: 2,
        ..Plan::from_env()
    };
    let plan = plan.with("consumer.sessionTimeout", "6s");
    let mut stand = Stand::up(&dir, plan)?;
    let broker = stand.kafka();
    assigned(&stand, &[2.0])?;
    for assignors in ["range,roundrobin", "cooperative-sticky"] {
        let mut stranger = Kcat::join(&stand, &broker, assignors)?;
        let words = stranger.until("Inconsistent group protocol")?;
        assert!(words.is_some(), "{assignors}: {}", stranger.end()?);
        let said = stranger.end()?;
        assert!(!said.contains("assigned: "), "{said}");
    }
    // It has not been disturbed.
    assert_eq!(rebalances(&stand, 0), Some(1.0));
    send(&stand, "/before")?;
    stored(&stand, 1)?;

    // The other way round: the stranger was there first.
    stand.writers[0].terminate()?;
    let mut stranger = Kcat::join(&stand, &broker, "range")?;
    let words = stranger.until("assigned: ")?;
    assert!(words.is_some(), "{}", stranger.end()?);
    let log = stand.writers[0].log.clone();
    let earlier = fs::read_to_string(&log)?.len();
    stand.writers[0].start()?;
    stand.writers[0].wait_ready()?;
    let told = poll_until(WITHIN, || {
        let text = fs::read_to_string(&log)?;
        let told = text[earlier..].contains("InconsistentGroupProtocol")
            && text[earlier..].contains("kafka.groupID of their own");
        Ok(told.then_some(()))
    })?;
    assert!(told.is_some(), "it is not said:\n{}", tail(&log, 20));
    let fatal = stand.writers[0].metrics()?;
    assert!(fatal.sum("consumer_errors_total") > Some(0.0));
    send(&stand, "/meanwhile")?;
    // As soon as the stranger is gone the writer goes on by itself.
    stranger.end()?;
    stored(&stand, 2)?;
    stand.writers[0].terminate()?;
    stand.verify()?;
    dir.passed()
}

#[test]
fn a_second_store_in_the_group_halts_and_the_first_misses_nothing() -> Result<()> {
    let dir = RunDir::new("two-stores");
    let plan = Plan {
        partitions: 4,
        ..Plan::from_env()
    };
    let mut stand = Stand::up(&dir, plan.with("consumer.sessionTimeout", "6s"))?;
    let load = Load::start(&stand.addresses, load(63));
    assert!(load.wait_accepted(5_000, WITHIN), "{}", load.stop());
    assigned(&stand, &[4.0])?;
    // A partition is the first's once Kafka has its claim, and nothing is linked before.
    let claimed = poll_until(WITHIN, || Ok((linked_in(&stand)? == 4).then_some(())))?;
    assert!(claimed.is_some(), "{} of 4 chains", linked_in(&stand)?);
    // The same group, another directory.
    let second = stand.add_writer()?;
    let text = fs::read_to_string(&second.config)?;
    fs::write(
        &second.config,
        format!("{text}storage:\n  logsDir: other-logs\n"),
    )?;
    second.start()?;
    second.wait_ready()?;
    let log = second.log.clone();
    let halted = poll_until(WITHIN, || {
        let halted = Stand::metric(&stand.writers[1..], "consumer_partitions_halted");
        Ok((halted == Some(2.0)).then_some(()))
    })?;
    assert!(halted.is_some(), "it does not halt:\n{}", tail(&log, 20));
    let words = tail(&log, 40);
    assert!(words.contains("--adopt"), "what to do is not said: {words}");
    let before = load.accepted();
    assert!(
        load.wait_accepted(before + 5_000, WITHIN),
        "{}",
        load.stop()
    );
    let mut nothing = Counter::new(&dir.join("other-logs"), &stand.plan.topic);
    assert_eq!(nothing.records()?, 0);
    stand.writers[1].terminate()?;
    let ledger = load.stop();
    let verdict = stand.settle(&ledger, Duration::from_secs(180))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    dir.passed()
}

#[test]
fn the_groups_offsets_deleted_or_set_anywhere_skip_nothing_and_double_nothing() -> Result<()> {
    const PARTITIONS: u32 = 2;
    let dir = RunDir::new("offsets");
    let plan = Plan {
        partitions: PARTITIONS,
        ..Plan::from_env()
    };
    let topic = plan.topic.clone();
    let mut stand = Stand::up(&dir, plan)?;
    let group = Group::new(&stand.kafka(), &format!("{topic}-writer"))?;
    let load = Load::start(&stand.addresses, load(64));
    let more = |load: &Load| load.wait_accepted(load.accepted() + 3_000, WITHIN);
    // Deleted; back to the beginning; some way back; beyond all that is there.
    type Set = fn(i64) -> i64;
    // By Kafka's own tool where there is one.
    let apache = std::env::var_os("SLUICE_TEST_KAFKA_DIR");
    let apache = apache.map(|dir| Cluster::open(dir.as_ref())).transpose()?;
    let changes: [Option<Set>; 4] = [None, Some(|_| 0), Some(|at| at / 2), Some(|at| at + 1_000)];
    for change in changes {
        // Until this life of the writer has said where it is, and gone on from there.
        let claimed = poll_until(WITHIN, || {
            let committed = group.committed(&topic, PARTITIONS)?;
            let all = committed.iter().all(|(at, by)| *at > 0 && !by.is_empty());
            Ok(all.then_some(()))
        })?;
        assert!(
            claimed.is_some(),
            "{:?}",
            group.committed(&topic, PARTITIONS)
        );
        assert!(more(&load), "{}", load.stop());
        stand.writers[0].terminate()?;
        // What comes now is what an offset too far on would skip.
        assert!(more(&load), "{}", load.stop());
        let stood = group.committed(&topic, PARTITIONS)?;
        match change {
            None => group.delete()?,
            Some(set) => {
                let offsets: Vec<i64> = stood.iter().map(|(offset, _)| set(*offset)).collect();
                let to_beginning = offsets.iter().all(|offset| *offset == 0);
                match apache.as_ref().filter(|_| to_beginning) {
                    Some(apache) => apache.reset_offsets(&format!("{topic}-writer"), &topic)?,
                    None => group.set(&topic, &offsets)?,
                }
            }
        }
        assert_ne!(group.committed(&topic, PARTITIONS)?, stood);
        stand.writers[0].start()?;
        stand.writers[0].wait_ready()?;
    }
    let ledger = load.stop();
    let verdict = stand.settle(&ledger, Duration::from_secs(180))?;
    println!("{ledger}\n{verdict}");
    assert_holds(&verdict);
    if let Some(order) = order::check_if_possible(&stand, &stand.topic_dir(), None)? {
        println!("{order}");
    }
    // The group says again where the chains end, and whose they are.
    let chains = stand.verify()?;
    for (partition, (offset, metadata)) in group.committed(&topic, PARTITIONS)?.iter().enumerate() {
        assert_eq!(chains["chains"][partition]["next"], *offset, "{chains}");
        let store = chains["id"].as_str().context("the store's id")?;
        assert!(metadata.contains(store), "{metadata}");
    }
    dir.passed()
}

/// Waits until each writer holds so many partitions.
fn assigned(stand: &Stand, each: &[f64]) -> Result<()> {
    let mut last = Vec::new();
    let settled = poll_until(WITHIN, || {
        let writers = stand.writers.iter().map(std::slice::from_ref);
        last = writers
            .map(|writer| Stand::metric(writer, "consumer_partitions_assigned"))
            .collect();
        let wanted: Vec<_> = each.iter().copied().map(Some).collect();
        Ok((last == wanted).then_some(()))
    })?;
    assert!(settled.is_some(), "the writers hold {last:?}, not {each:?}");
    Ok(())
}

/// In how many partitions something is stored; in none before the writer made its directories.
fn linked_in(stand: &Stand) -> Result<usize> {
    Ok(store::newest(&stand.topic_dir())?.len())
}

fn rebalances(stand: &Stand, writer: usize) -> Option<f64> {
    let writer = std::slice::from_ref(&stand.writers[writer]);
    Stand::metric(writer, "consumer_rebalances_total")
}

fn send(stand: &Stand, path: &str) -> Result<()> {
    let record =
        format!(r#"{{"timestamp":"2025-05-17T10:05:03Z","path":"{path}","userAgent":"test"}}"#);
    let headers = [("content-type", "application/x-ndjson")];
    let response = post(stand.addresses[0], "/logs", &headers, record.as_bytes())?;
    assert_eq!(response.status, 202, "{}", response.text());
    Ok(())
}

fn stored(stand: &Stand, records: u64) -> Result<()> {
    let mut found = Counter::new(&stand.logs_dir(), &stand.plan.topic);
    let all = poll_until(WITHIN, || Ok((found.records()? == records).then_some(())))?;
    assert!(all.is_some(), "{} of {records} stored", found.records()?);
    Ok(())
}

/// `kcat -G` in the writers' group. Ends with its value.
struct Kcat {
    child: Child,
    log: std::path::PathBuf,
}

impl Kcat {
    fn join(stand: &Stand, broker: &str, assignors: &str) -> Result<Self> {
        let topic = &stand.plan.topic;
        let log = stand.dir.join(format!("kcat-{assignors}.log"));
        let child = Command::new("kcat")
            .args(["-b", broker, "-G", &format!("{topic}-writer")])
            .args(["-X", &format!("partition.assignment.strategy={assignors}")])
            .args(["-X", "session.timeout.ms=6000"])
            .arg(topic)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Waits until it says so.
    fn until(&mut self, words: &str) -> Result<Option<()>> {
        poll_until(WITHIN, || Ok(self.said()?.contains(words).then_some(())))
    }

    /// Ends it; gives all that it said.
    fn end(&mut self) -> Result<String> {
        // As Ctrl-C: it leaves the group.
        let pid = self.child.id();
        testbed::process::signal_pid(pid, testbed::process::Signal::INT).ok();
        if poll_until(WITHIN, || Ok(self.child.try_wait()?))?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        self.said()
    }

    fn said(&self) -> Result<String> {
        let mut said = Vec::new();
        fs::File::open(&self.log)?.read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Kcat {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
