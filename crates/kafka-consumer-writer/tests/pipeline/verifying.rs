//! `verify` says whole where it is, and names the file where not.

use kafka_consumer_writer::verify;
use pipeline_core::Offset;

use crate::rig::Rig;

fn ask(rig: &Rig, json: bool) -> (u8, String) {
    let mut out = Vec::new();
    let code = verify::run(&rig.dir.path().join("logs"), json, &mut out).expect("written");
    (code, String::from_utf8(out).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_counts_what_is_there_and_names_what_is_not() {
    let rig = Rig::new(2).await;
    for batch in 0..3 {
        rig.send(0, batch, &[0, 1], 0).await;
        rig.send(1, 10 + batch, &[0], 0).await;
        let writer = rig.writer("", "");
        rig.caught_up().await;
        writer.stop().await;
    }
    let (code, text) = ask(&rig, false);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("9 records stored") && text.ends_with("whole\n"),
        "{text}"
    );
    let (code, json) = ask(&rig, true);
    assert_eq!(code, 0);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["whole"], true);
    assert_eq!(json["chains"][0]["totals"]["stored"], 6);
    assert_eq!(json["chains"][1]["next"], 3);

    let path = rig.chain(0).segment_path(Offset(2));
    let whole = std::fs::read(&path).expect("read");
    let mut damaged = whole.clone();
    damaged[10] ^= 1;
    std::fs::write(&path, &damaged).expect("written");
    let (code, text) = ask(&rig, false);
    assert_eq!(code, 1);
    assert!(text.contains(&path.display().to_string()), "{text}");
    std::fs::remove_file(&path).expect("removed");
    let (code, json) = ask(&rig, true);
    assert_eq!(code, 1);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["whole"], false);
    assert_eq!(
        json["chains"][0]["damage"][0]["path"],
        path.display().to_string()
    );
    assert_eq!(json["chains"][1]["whole"], true);
    std::fs::write(&path, &whole).expect("written");
    assert_eq!(ask(&rig, false).0, 0);
}

#[test]
fn verify_without_a_store_says_so_in_json_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut out = Vec::new();
    let code = verify::run(&dir.path().join("logs"), true, &mut out).expect("written");
    assert_eq!(code, 1);
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(json["whole"], false);
    assert!(
        json["error"].as_str().is_some_and(|it| it.contains("logs")),
        "{json}"
    );
}
