//! Real file systems: one that is full for a while, one that hangs.

use std::{fs, time::Duration};

use testbed::process::Process;

use crate::{
    namespace::{HungMount, MemoryMount, entered},
    raw,
    rig::{Rig, TOPIC, wait_for},
};

/// Fills the file system up to its last block.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut ballast = fs::File::create(path).expect("made");
    let error = loop {
        if let Err(error) = ballast.write_all(&[0; 4_096]) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_full_file_system_freed_after_a_while_costs_only_time() {
    if !entered("mounted::a_small_full_file_system_freed_after_a_while_costs_only_time") {
        return;
    }
    // The consumer DLQ beside the store in it, and elsewhere.
    for mounted in ["", "logs"] {
        let rig = Rig::new(3).await;
        let at = rig.dir.path().join(mounted);
        fs::create_dir_all(&at).expect("made");
        let _mounted = MemoryMount::at(&at, 1 << 20);
        let writer = rig.writer("consumers: 2", "flushInterval: 10ms");
        let mut sent = rig.send_many(0, 1, 5).await;
        rig.caught_up().await;
        for round in 0..2_u64 {
            fill(&at.join("ballast"));
            let before = rig.next(0);
            for batch in 0..30 {
                let number = 100 + round * 100 + batch;
                sent.extend(rig.send_many((batch % 3) as i32, number, 20).await);
            }
            let poison = raw::one(Some(b"not json"), &[]);
            rig.broker.append_raw(TOPIC, 1, &poison).expect("appended");
            if mounted.is_empty() {
                // There is no room for a copy either.
                wait_for("what to save", || writer.shared().budget.used() > 100_000).await;
            } else {
                wait_for("a copy", || !rig.dead_letter_files("unsaved-").is_empty()).await;
            }
            assert_eq!(rig.next(0), before, "on a full disk");
            fs::remove_file(at.join("ballast")).expect("removed");
            rig.caught_up().await;
        }
        wait_for("copies to go", || {
            rig.dead_letter_files("unsaved-").is_empty()
        })
        .await;
        writer.stop().await;
        rig.check_in_order(&sent);
        assert_eq!(rig.dead_letters().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_disk_hangs_answers_goes_on_and_ends_at_its_deadline() {
    if !entered("mounted::a_process_whose_disk_hangs_answers_goes_on_and_ends_at_its_deadline") {
        return;
    }
    const TIMEOUT: Duration = Duration::from_secs(2);
    // On a machine with much else to do. Without the deadline it would not end at all.
    const IN_TIME: Duration = Duration::from_secs(10);
    let rig = Rig::new(2).await;
    let mut sent = rig.send_many(0, 1, 5).await;
    let admin = format!("127.0.0.1:{}", testbed::process::free_port());
    let config = rig.dir.path().join("config.yaml");
    let yaml = rig.yaml(
        rig.dir.path(),
        "",
        &format!(
            "adminAddr: {admin}; persistTimeout: 200ms; shutdownTimeout: {}s",
            TIMEOUT.as_secs()
        ),
    );
    fs::write(&config, yaml).expect("written");
    let start = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kafka-consumer-writer"));
        command.arg("--config").arg(&config);
        Process::spawn(command, "writer", &rig.dir.path().join("writer.log")).expect("started")
    };
    let mut writer = start();
    rig.caught_up().await;
    let hung = HungMount::over(rig.chain(0).dir());
    for batch in 2..5 {
        sent.extend(rig.send_many(0, batch, 5).await);
        sent.extend(rig.send_many(1, batch + 10, 5).await);
        wait_for("the other partition", || {
            rig.next(1) == Some(rig.log_end(1))
        })
        .await;
    }
    wait_for("a copy", || !rig.dead_letter_files("unsaved-").is_empty()).await;
    let alive = testbed::http::get(admin.parse().expect("an address"), "/livez");
    assert_eq!(alive.expect("answered").status, 200);
    writer.terminate().expect("signalled");
    let ended = writer.wait(IN_TIME).expect("in time");
    assert_eq!(ended.code(), Some(1), "{}", writer.log_tail(20));
    // One that is started on it says so, and the other partition goes on.
    let mut writer = start();
    let admin = admin.parse().expect("an address");
    let scrape = || testbed::metrics::Metrics::scrape(admin).unwrap_or_default();
    wait_for("/metrics", || scrape().has("store_chains_unread")).await;
    assert_eq!(scrape().sum("store_chains_unread"), Some(1.0));
    let ready = testbed::http::get(admin, "/readyz");
    assert_eq!(ready.expect("answered").status, 200);
    sent.extend(rig.send_many(1, 20, 5).await);
    wait_for("the other partition", || {
        rig.next(1) == Some(rig.log_end(1))
    })
    .await;
    // All of the hung one's log may have to be read: the books still hold.
    let lag = |partition| {
        let label = format!("partition=\"{partition}\"");
        scrape().with("consumer_lag_records", &label)
    };
    wait_for("the lag", || {
        lag(0) == Some(rig.log_end(0) as f64) && lag(1) == Some(0.0)
    })
    .await;
    let stored = scrape().with("store_chain_records", "fate=\"stored\"");
    assert_eq!(stored, Some(rig.log_end(1) as f64));
    writer.terminate().expect("signalled");
    let ended = writer.wait(IN_TIME).expect("in time");
    assert_eq!(ended.code(), Some(0), "{}", writer.log_tail(20));
    drop(hung);
    let mut writer = start();
    rig.caught_up().await;
    wait_for("the copy to go", || {
        rig.dead_letter_files("unsaved-").is_empty()
    })
    .await;
    writer.terminate().expect("signalled");
    let ended = writer.wait(TIMEOUT + Duration::from_secs(1));
    assert_eq!(ended.expect("in time").code(), Some(0));
    rig.check_in_order(&sent);
}
