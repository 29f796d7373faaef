//! What is said while the start takes long.

use std::{fs, net::TcpListener, process::Command};

use crate::{
    binary::Binary,
    rig::{Rig, wait_for},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_its_dead_letters_names_their_directory() {
    let rig = Rig::new(1).await;
    let dlq = rig.dir.path().join("dlq/consumer");
    fs::create_dir_all(&dlq).expect("made");
    // Whoever opens it waits for one who writes to it.
    let hangs = dlq.join("records-0000000000000000-000000.dlq");
    let made = Command::new("mkfifo").arg(&hangs).status();
    assert!(made.expect("mkfifo is there").success());
    let binary = Binary::on(&rig, "persistTimeout: 200ms");
    let writer = binary.start();
    let said = || {
        let log = fs::read_to_string(binary.log()).unwrap_or_default();
        let late = log.lines().find(|line| line.contains("is not open yet"));
        late.map(str::to_owned)
    };
    wait_for("a word about it", || said().is_some()).await;
    let line = said().expect("said");
    assert!(
        line.contains("consumer DLQ") && line.contains(&dlq.display().to_string()),
        "{line}"
    );
    drop(writer);
}

#[tokio::test]
async fn a_port_that_another_process_has_is_named_and_later_it_may_work() {
    let rig = Rig::new(1).await;
    let binary = Binary::on(&rig, "");
    let _other = TcpListener::bind(binary.admin).expect("bound");
    let output = binary.run(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains(&binary.admin.to_string()), "{said}");
}
