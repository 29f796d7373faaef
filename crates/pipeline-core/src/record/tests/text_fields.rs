//! Records from text that was split into fields.

use super::*;

#[test]
fn text_fields_make_the_same_line_as_json() {
    let mut out = b"before".to_vec();
    let rules = with_site("d.example");
    let mut record = TextRecord::<RecordError>::new(&rules, &mut out);
    for (field, text) in [
        (Known::Timestamp, "2015-05-17T12:05:03+02:00"),
        (Known::Path, "/\"\\\u{1}\u{1f600}\n\t\r"),
        (Known::UserAgent, " "),
        (Known::Site, ""),
        (Known::Status, "200"),
        (Known::Bytes, ""),
        (Known::DurationMs, "1.50"),
        (Known::Referer, ""),
    ] {
        assert_eq!(record.known(field, text), Ok(()));
    }
    assert_eq!(record.extra("my \"own\"", "ü"), Ok(()));
    assert_eq!(record.finish(), Ok(()));
    let expected = r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/\"\\\u0001😀\n\t\r","userAgent":"-","status":200,"durationMs":1.50,"my \"own\"":"ü","site":"d.example"}"#;
    assert_eq!(
        std::str::from_utf8(&out),
        Ok(format!("before{expected}").as_str())
    );
    assert_eq!(line(expected, &rules).as_deref(), Ok(expected));
}

#[test]
fn text_fields_follow_the_same_rules_and_leave_nothing_behind() {
    use RecordErrorCode::{Duplicate, Invalid, Missing, TooLarge, WrongType};
    let rules = rules();
    for (fields, expected) in [
        (vec![(Known::Timestamp, "now")], Invalid),
        (vec![(Known::Path, " ")], Invalid),
        (vec![(Known::Site, "a:1")], Invalid),
        (vec![(Known::Status, "ok")], WrongType),
        (vec![(Known::Status, "20")], Invalid),
        (vec![(Known::Bytes, "1.5")], Invalid),
        (vec![(Known::Bytes, "0x10")], WrongType),
        (vec![(Known::DurationMs, "NaN")], WrongType),
        (vec![(Known::DurationMs, "inf")], WrongType),
        (vec![(Known::Path, "/a"), (Known::Path, "/a")], Duplicate),
        (vec![(Known::Path, "/a")], Missing),
        (vec![(Known::Method, &"\u{1}".repeat(5000))], TooLarge),
        (
            vec![
                (Known::Timestamp, "2015-05-17T10:05:03Z"),
                (Known::UserAgent, ""),
                (Known::Path, &"\u{1}".repeat(1000)),
            ],
            TooLarge,
        ),
    ] {
        let mut out = b"before".to_vec();
        let mut record = TextRecord::<RecordError>::new(&rules, &mut out);
        let result = fields
            .iter()
            .try_for_each(|(field, text)| record.known(*field, text));
        let result = match result {
            Ok(()) => record.finish(),
            Err(error) => {
                drop(record);
                Err(error)
            }
        };
        assert_eq!(
            result.map_err(|error| error.code),
            Err(expected),
            "{fields:?}"
        );
        assert_eq!(out, b"before");
    }
}
