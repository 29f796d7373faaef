//! The example files as somebody edits them, and what the binary says to it. Every key and every
//! kind of fault is tried in pipeline-core (`config::tests::mutated`).

use std::{fs, path::Path};

use crate::place::Place;

#[test]
fn a_slip_in_an_example_ends_with_78_and_names_its_path_and_what_is_allowed() {
    let place = Place::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
    for name in ["config.v2.local.yaml", "config.v2.production.yaml"] {
        let good = fs::read_to_string(root.join(name)).unwrap();
        fs::write(place.config(), &good).unwrap();
        let output = place.output(&["--check"]);
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        for (from, to, said) in [
            // Removed, misspelt, of another type, out of range.
            (
                "  groupID: sluice\n",
                "",
                "kafka.groupID: found nothing, allowed: text on one line, 1 to 249 bytes",
            ),
            (
                "  flushSize: 512",
                "  flushsize: 512",
                "consumer.flushsize: found an unknown key, allowed: flushSize, ",
            ),
            (
                "  async: false",
                "  async: [false]",
                "kafka.async: found a list, allowed: true or false",
            ),
            (
                "  persistTimeout: 5s",
                "  persistTimeout: 5",
                "consumer.persistTimeout: found 5, allowed: a duration from 10ms to 1h, such as ",
            ),
            (
                "    level: info",
                "    level: chatty",
                "telemetry.log.level: found \"chatty\", allowed: error, warn, info, ",
            ),
        ] {
            assert_eq!(good.matches(from).count(), 1, "{name}: {from}");
            fs::write(place.config(), good.replace(from, to)).unwrap();
            for arguments in [&["--check"][..], &[]] {
                let output = place.output(arguments);
                assert_eq!(output.status.code(), Some(78), "{name}: {output:?}");
                let faults = String::from_utf8(output.stderr).unwrap();
                let expected = format!("{}: {said}", place.config().display());
                assert!(faults.starts_with(&expected), "{name}: {faults}");
                assert_eq!(faults.lines().count(), 1, "{name}: {faults}");
            }
        }
    }
}
