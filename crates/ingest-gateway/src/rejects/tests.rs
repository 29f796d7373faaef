use std::{collections::BTreeSet, path::Path};

use pipeline_core::dlq::read_frames;
use pipeline_core::fsx::{
    Step,
    faults::{Fault, under},
};

use super::{
    entry::{
        RAW_BYTES_MAX,
        tests::{part, refused},
    },
    files::{KIND, paths},
    *,
};

const ROOM: u64 = 1 << 20;
const MOMENT: Duration = Duration::from_millis(1);

fn start(dir: &Path) -> Rejects {
    Rejects::start_with(dir.to_owned(), ROOM, MOMENT, MOMENT).unwrap()
}

/// Clients of all lines that are there.
fn clients(dir: &Path) -> BTreeSet<String> {
    let mut clients = BTreeSet::new();
    for path in paths(dir).unwrap().values() {
        let visit = &mut |_, payload: &[u8]| {
            for line in payload.split_inclusive(|byte| *byte == b'\n') {
                let line: entry::Line<'_> = serde_json::from_slice(line).unwrap();
                clients.insert(line.client.into_owned());
            }
        };
        read_frames(path, KIND, visit).unwrap();
    }
    clients
}

fn of(client: impl ToString) -> Refused {
    refused(&client.to_string(), vec![part("missing", b"{}")])
}

#[tokio::test]
async fn what_was_handed_over_is_there_once_it_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    // Long: it is the stop that flushes.
    let long = Duration::from_secs(3600);
    let rejects = Rejects::start_with(dir.path().join("r"), ROOM, long, long).unwrap();
    for client in 0..100 {
        rejects.keep(of(client));
    }
    rejects.stop().await;
    assert_eq!(clients(&dir.path().join("r")).len(), 100);
}

#[tokio::test]
async fn a_group_is_written_without_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let rejects = start(dir.path());
    rejects.keep(of("a"));
    while clients(dir.path()).is_empty() {
        tokio::time::sleep(MOMENT).await;
    }
    rejects.keep(of("b"));
    rejects.stop().await;
    assert_eq!(clients(dir.path()).len(), 2);
}

#[tokio::test]
async fn while_the_disk_hangs_memory_is_bounded_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let rejects = start(dir.path());
    rejects.keep(of("first"));
    while clients(dir.path()).is_empty() {
        tokio::time::sleep(MOMENT).await;
    }
    let rule = under(dir.path()).step(Step::Sync).then(Fault::Hangs);
    for client in 0..10_000 {
        let raw = [b'x'; RAW_BYTES_MAX];
        rejects.keep(refused(&client.to_string(), vec![part("missing", &raw)]));
        assert!(rejects.waiting.used() <= WAITING_BYTES_MAX);
    }
    assert!(rejects.waiting.used() > WAITING_BYTES_MAX / 2);
    drop(rule);
    rejects.stop().await;
    assert_eq!(rejects.waiting.used(), 0);
}

#[tokio::test]
async fn after_trouble_with_the_disk_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let rejects = start(dir.path());
    let rule = under(dir.path()).step(Step::Write).then(Fault::Fails(28));
    while rule.hits() == 0 {
        rejects.keep(of("lost"));
        tokio::time::sleep(MOMENT).await;
    }
    drop(rule);
    while !clients(dir.path()).contains("kept") {
        rejects.keep(of("kept"));
        tokio::time::sleep(MOMENT).await;
    }
    rejects.stop().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let rejects = start(&file.join("below"));
    rejects.keep(of("a"));
    rejects.stop().await;
    // The same where another process has it.
    let other = Files::open(dir.path(), ROOM).unwrap();
    let rejects = start(dir.path());
    rejects.keep(of("a"));
    rejects.stop().await;
    drop(other);
    assert_eq!(clients(dir.path()).len(), 0);
}
