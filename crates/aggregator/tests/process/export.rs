//! `aggregator export` and `rebuild` on a store that is archived in part.

use std::fs;

use crate::Place;

#[test]
fn what_is_archived_or_not_yet_is_exported_and_all_is_made_anew() {
    let place = Place::new();
    let at_once = "  archiveAfter: 0ms\n";
    let config = place.dir.path().join("config.yaml");
    let begun = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{begun}{at_once}")).unwrap();
    let run = |arguments: &[&str]| {
        let output = place.output(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), output.stdout, said)
    };
    place.store(3);
    assert_eq!(run(&["--once"]).0, Some(0));
    let hour = place.data().join("archive/date=2015-05-17/hour=10");
    assert_eq!(fs::read_dir(&hour).unwrap().count(), 1);
    fs::write(&config, &begun).unwrap();
    place.store(2);
    assert_eq!(run(&["--once"]).0, Some(0));
    assert_eq!(
        fs::read_dir(&hour).unwrap().count(),
        1,
        "the other two wait"
    );

    let line = "{\"timestamp\":\"2015-05-17T10:05:03Z\",\"path\":\"/\",\"userAgent\":\"-\"}\n";
    let (code, json, said) = run(&["export"]);
    assert_eq!((code, said.as_str()), (Some(0), "5 records\n"));
    assert_eq!(String::from_utf8(json).unwrap(), line.repeat(5));
    let (_, csv, _) = run(&["export", "--format", "csv", "--to", "2015-05-17T10:05:04Z"]);
    let csv = String::from_utf8(csv).unwrap();
    assert!(csv.starts_with("timestamp,site,path,userAgent,"), "{csv}");
    assert!(
        csv.contains("\n2015-05-17T10:05:03Z,,/,-,,,,,,,,,logs,0,4,"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 6);
    let (_, parquet, _) = run(&["export", "--format", "parquet"]);
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    for none in [
        &["--site", "a.example"][..],
        &["--from", "2015-05-17T10:05:04Z"],
        &["--to", "2015-05-17T10:05:03Z"],
        &["--aside"],
    ] {
        let (code, json, said) = run(&[&["export"], none].concat());
        assert_eq!(
            (code, json.len(), said.as_str()),
            (Some(0), 0, "0 records\n")
        );
    }

    let turned = [
        "--from",
        "2015-05-17T10:05:04Z",
        "--to",
        "2015-05-17T10:05:03Z",
    ];
    let (code, json, said) = run(&[&["export"][..], &turned].concat());
    assert_eq!((code, json.len()), (Some(1), 0), "{said}");
    assert_eq!(said, "--to is before --from: no record is of that time\n");

    fs::remove_dir_all(place.data().join("analytics")).unwrap();
    let (code, _, said) = run(&["--once"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("aggregator rebuild"), "{said}");
    let (code, _, said) = run(&["rebuild"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("5 records, 3 of them in 1 files"), "{said}");
    assert_eq!(place.requests(), Some(5));
    assert_eq!(run(&["--once"]).0, Some(0));
    assert_eq!(place.requests(), Some(5));
}
