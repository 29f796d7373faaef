//! `verify` says whole where it is, and names the file where not.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use kafka_consumer_writer::{
    command::{Where, verify::Verify},
    snapshots::make,
};
use pipeline_core::{Offset, PartitionId};
use serde_json::Value;

use crate::rig::{Rig, TOPIC, command};

/// Asks for every byte to be damaged in turn, instead of a sample.
const EVERY_BYTE: &str = "SLUICE_EVERY_BYTE";
/// Bytes of each file that are damaged otherwise, besides those at its ends.
const SAMPLE: usize = 60;

fn ask_for(root: &Path, asked: &Verify) -> (u8, String) {
    let mut out = Vec::new();
    let code = asked.prove(root, None, &mut out).expect("written");
    (code, String::from_utf8(out).expect("UTF-8"))
}

fn ask(rig: &Rig, json: bool) -> (u8, String) {
    let asked = Verify {
        json,
        ..Verify::default()
    };
    ask_for(&rig.dir.path().join("logs"), &asked)
}

/// A pipe that nobody reads any more.
struct Closed;

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn parse(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

/// Two chains that a writer made: `segments` segments in partition 0 and in partition 1.
async fn made(segments: u64) -> Rig {
    let rig = Rig::new(2).await;
    for batch in 0..segments {
        rig.send(0, batch, &[0, 1], 0).await;
        rig.send(1, 10 + batch, &[0], 0).await;
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
    }
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_counts_what_is_there_and_names_what_is_not() {
    let rig = made(3).await;
    let (code, text) = ask(&rig, false);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("9 records stored") && text.ends_with("whole\n"),
        "{text}"
    );
    let (code, json) = ask(&rig, true);
    assert_eq!(code, 0);
    let json = parse(&json);
    assert_eq!(json["whole"], true);
    assert_eq!(json["chains"][0]["totals"]["stored"], 6);
    assert_eq!(json["chains"][1]["next"], 3);

    let path = rig.chain(0).segment_path(Offset(2));
    let whole = fs::read(&path).expect("read");
    let mut damaged = whole.clone();
    damaged[10] ^= 1;
    fs::write(&path, &damaged).expect("written");
    let (code, text) = ask(&rig, false);
    assert_eq!(code, 1);
    assert!(text.contains(&path.display().to_string()), "{text}");
    // As `verify | head` has it.
    for json in [false, true] {
        let asked = Verify {
            json,
            ..Verify::default()
        };
        let ended = asked.prove(&rig.dir.path().join("logs"), None, &mut Closed);
        assert_eq!(ended.expect("judged"), 1, "nobody reads it");
    }
    fs::remove_file(&path).expect("removed");
    let (code, json) = ask(&rig, true);
    assert_eq!(code, 1);
    let json = parse(&json);
    assert_eq!(json["whole"], false);
    assert_eq!(
        json["chains"][0]["damage"][0]["path"],
        path.display().to_string()
    );
    assert_eq!(json["chains"][1]["whole"], true);

    // Only what is asked for is judged.
    let root = rig.dir.path().join("logs");
    let of = |topic: &str, partition| Verify {
        json: true,
        place: Where {
            topic: Some(topic.to_owned()),
            partition: Some(partition),
        },
        ..Verify::default()
    };
    assert_eq!(ask_for(&root, &of(TOPIC, 0)).0, 1);
    let (code, json) = ask_for(&root, &of(TOPIC, 1));
    assert_eq!(code, 0, "{json}");
    let json = parse(&json);
    assert_eq!(json["chains"].as_array().map(Vec::len), Some(1));
    for nowhere in [of(TOPIC, 2), of("other", 0)] {
        let (code, json) = ask_for(&root, &nowhere);
        assert_eq!(code, 1, "nothing was proved");
        assert_eq!(parse(&json)["whole"], false);
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(ask(&rig, false).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_segment_and_every_file_but_the_last_is_missed() {
    let rig = made(4).await;
    let every = std::env::var_os(EVERY_BYTE).is_some();
    if !every {
        println!("SKIPPED: not every byte, a sample ({EVERY_BYTE}=1 damages each)");
    }
    let chain = rig.chain(0);
    let of = |first: i64| chain.segment_path(Offset(first));
    let mut looks = 0;
    let all = [0, 2, 4, 6].map(of);
    looks += each_is_found(
        &rig,
        every,
        &all,
        &[&all[..3], &[chain.start_path()]].concat(),
    );
    // The same behind a watermark, where snapshots are files of the chain as well.
    make(&chain, 1_000).expect("a snapshot");
    let removal = chain.remove_before(Offset(4), &mut || true);
    assert_eq!(removal.expect("removed").segments, 2);
    let snapshots = chain.snapshots().expect("listed");
    let snapshots: Vec<PathBuf> = snapshots.into_iter().map(|file| file.path).collect();
    let left = [&[of(4), of(6)][..], &snapshots].concat();
    // The last one, too: a snapshot knows it.
    looks += each_is_found(
        &rig,
        every,
        &left,
        &[&left[..], &[chain.start_path()]].concat(),
    );
    println!("{looks} looks at a damaged store");
    let ended = command(&rig, &["verify"]).wait_with_output();
    let ended = ended.expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let path = of(4);
    fs::remove_file(&path).expect("removed");
    let ended = command(&rig, &["verify"]).wait_with_output();
    let ended = ended.expect("it ends");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = String::from_utf8(ended.stdout).expect("UTF-8");
    assert!(said.contains(&path.display().to_string()), "{said}");
}

/// Damages each of `damaged` at each byte, or at a sample of them, cuts it off, and takes each of
/// `removed` away: `verify` names it each time. Gives how often it was asked.
fn each_is_found(rig: &Rig, every: bool, damaged: &[PathBuf], removed: &[PathBuf]) -> u32 {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut looks = 0;
    let mut found = |path: &Path, what: &str| {
        looks += 1;
        let (code, json) = ask(rig, true);
        assert_eq!(code, 1, "{} {what}", path.display());
        let json = parse(&json);
        let damage = json["chains"][0]["damage"].as_array().expect("a list");
        assert!(
            damage
                .iter()
                .any(|one| one["path"] == path.display().to_string()),
            "{} {what}: {damage:?}",
            path.display()
        );
        assert_eq!(json["chains"][1]["whole"], true, "{what}");
    };
    for path in damaged {
        let whole = fs::read(path).expect("read");
        let all = 0..whole.len();
        let ends = all.clone().filter(|at| *at < 16 || at + 40 >= whole.len());
        let sample = (0..SAMPLE).map(|_| rng.usize(all.clone()));
        let places: BTreeSet<usize> = if every {
            all.clone().collect()
        } else {
            ends.chain(sample).collect()
        };
        for at in places {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << rng.u32(..8);
            fs::write(path, &bytes).expect("written");
            found(path, &format!("byte {at}"));
        }
        for len in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(path, &whole[..len]).expect("written");
            found(path, &format!("cut to {len}"));
        }
        fs::write(path, &whole).expect("written");
    }
    let aside = rig.dir.path().join("aside");
    for path in removed {
        fs::rename(path, &aside).expect("moved");
        found(path, "removed");
        fs::rename(&aside, path).expect("moved back");
    }
    assert_eq!(ask(rig, false).0, 0);
    looks
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kafka_at_hand_a_missing_end_is_found() {
    let rig = made(2).await;
    let root = rig.dir.path().join("logs");
    let ask = |json| {
        let config = rig.config(rig.dir.path(), "", "");
        let asked = Verify {
            json,
            kafka: true,
            ..Verify::default()
        };
        let root = root.clone();
        // It has a runtime of its own.
        tokio::task::spawn_blocking(move || {
            let mut out = Vec::new();
            let code = asked.prove(&root, Some(&config.kafka), &mut out);
            let out = String::from_utf8(out).expect("UTF-8");
            (code.expect("written"), out)
        })
    };
    let (code, text) = ask(false).await.expect("no panic");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("log 0 to 4, committed 4"), "{text}");
    let (code, json) = ask(true).await.expect("no panic");
    assert_eq!(code, 0, "{json}");
    assert_eq!(parse(&json)["kafka"]["agrees"], true);
    assert_eq!(parse(&json)["chains"][1]["kafka"]["committed"]["offset"], 2);

    // The files alone cannot tell.
    let chain = rig.chain(0);
    fs::remove_file(chain.segment_path(Offset(2))).expect("removed");
    assert_eq!(ask_for(&root, &Verify::default()).0, 0);
    let (code, json) = ask(true).await.expect("no panic");
    assert_eq!(code, 1);
    let json = parse(&json);
    assert_eq!(
        (&json["whole"], &json["kafka"]["agrees"]),
        (&true.into(), &false.into())
    );
    let difference = &json["chains"][0]["kafka"]["difference"];
    assert!(
        difference
            .as_str()
            .is_some_and(|it| it.contains("ends at 2")),
        "{difference}"
    );
    // The whole directory of a partition.
    fs::remove_dir_all(chain.dir()).expect("removed");
    let (code, json) = ask(true).await.expect("no panic");
    assert_eq!(code, 1);
    let without = &parse(&json)["kafka"]["withoutChain"][0];
    assert_eq!(without["partition"], 0);
    assert_eq!(chain.partition(), PartitionId(0));
    let (_, text) = ask(false).await.expect("no panic");
    assert!(text.contains("directory is lost"), "{text}");
}

#[test]
fn verify_without_a_store_says_so_in_json_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let asked = Verify {
        json: true,
        ..Verify::default()
    };
    let (code, json) = ask_for(&dir.path().join("logs"), &asked);
    assert_eq!(code, 1);
    let json = parse(&json);
    assert_eq!(json["whole"], false);
    assert!(
        json["error"].as_str().is_some_and(|it| it.contains("logs")),
        "{json}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_chain_is_there_nothing_is_said_to_be_proved_and_kafka_knows_better() {
    let rig = made(1).await;
    fs::remove_dir_all(rig.chain(0).dir()).expect("removed");
    let (code, text) = ask(&rig, false);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("logs p00000: no chain"), "{text}");
    fs::remove_dir_all(rig.dir.path().join("logs/_live")).expect("removed");
    let (code, text) = ask(&rig, false);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("no chain is there, nothing was proved"),
        "{text}"
    );
    let ended = command(&rig, &["verify", "--kafka"]).wait_with_output();
    let ended = ended.expect("it ends");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = String::from_utf8(ended.stdout).expect("UTF-8");
    for partition in ["p00000", "p00001"] {
        assert!(
            said.contains(&format!("{partition}: no chain; kafka")),
            "{said}"
        );
    }
}
