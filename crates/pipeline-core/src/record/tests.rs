//! The rules as claims; `against_serde` compares the judge with another reader.

use super::*;

mod against_serde;
mod sites;
mod structure;
mod text_fields;

fn rules() -> Rules {
    Rules {
        record_bytes_max: 4096,
        default_site: None,
        bound_site: None,
    }
}

fn with_site(site: &str) -> Rules {
    Rules {
        default_site: Some(site.to_owned()),
        ..rules()
    }
}

fn line(input: &str, rules: &Rules) -> Result<String, RecordError> {
    let mut out = b"before".to_vec();
    let result = append_json(input.as_bytes(), rules, &mut out);
    let line = out.strip_prefix(b"before").expect("what was there stays");
    match result {
        Ok(()) => Ok(String::from_utf8(line.to_vec()).expect("UTF-8")),
        Err(error) => {
            assert_eq!(line, b"", "an error leaves nothing: {input}");
            Err(error)
        }
    }
}

fn code(input: &str) -> Option<(RecordErrorCode, Option<Cow<'static, str>>)> {
    line(input, &rules())
        .err()
        .map(|error| (error.code, error.field))
}

const GOOD: &str = r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/a","userAgent":"x"}"#;

/// A good record with more fields at its end.
fn good_with(more: &str) -> String {
    format!("{},{more}}}", &GOOD[..GOOD.len() - 1])
}

#[test]
fn a_record_that_needs_no_change_is_kept_byte_for_byte() {
    for input in [
        GOOD.to_owned(),
        good_with(
            r#""site":"a.example","method":"GET","status":200,"bytes":0,"durationMs":1.5e2,"remoteAddr":"1.2.3.4","referer":"","protocol":"HTTP/1.1""#,
        ),
        good_with(
            r#" "x" : [ 1 , {"y":null} ,[],{} ], "z":"é\u00e9\"\\\/\b\f\n\r\t\ud83d\ude00" "#,
        ),
        good_with(
            r#""site":null,"method":null,"status":null,"bytes":null,"durationMs":null,"remoteAddr":null,"referer":null,"protocol":null"#,
        ),
        good_with(r#""bytes":9223372036854775807,"durationMs":0,"status":599"#),
        good_with(r#""x":1,"x":2,"site":"""#),
        r#"{"timest\u0061mp":"2015-05-17T10:05:03.123456Z","p\u0061th":"\u0020/","userAgent":"-"}"#
            .to_owned(),
    ] {
        assert_eq!(line(&input, &rules()).as_deref(), Ok(input.as_str()));
    }
}

#[test]
fn only_what_must_change_changes() {
    for (input, expected) in [
        (
            r#"{"x" : 1.50, "timestamp":"2015-05-17 12:05:03.10+02:00","path":"/a","userAgent":"x"}"#,
            r#"{"x" : 1.50, "timestamp":"2015-05-17T10:05:03.10Z","path":"/a","userAgent":"x"}"#,
        ),
        (
            r#"{"userAgent":" \t ","path":"/a","timestamp":"2015-05-17t10:05:03z","y":[ 1,2 ]}"#,
            r#"{"userAgent":"-","path":"/a","timestamp":"2015-05-17T10:05:03Z","y":[ 1,2 ]}"#,
        ),
        (
            "{\"userAgent\":\r\"x\",\"path\":\"/a\",\r \"timestamp\":\"2015-05-17T10:05:03Z\"}",
            r#"{"userAgent":"x","path":"/a","timestamp":"2015-05-17T10:05:03Z"}"#,
        ),
        (
            r#"{"userAgent":"","path":"/a","timestamp":"2015-05-17T10\u003a05:03Z"}"#,
            r#"{"userAgent":"-","path":"/a","timestamp":"2015-05-17T10:05:03Z"}"#,
        ),
        (
            " \r\n{\n  \"timestamp\": \"2015-05-17T10:05:03Z\",\r\n\t\"path\": \"/a\\n  b\",\n  \"userAgent\": \"x\", \"y\": [\n1 , 2\n]\n}\n ",
            r#"{"timestamp": "2015-05-17T10:05:03Z","path": "/a\n  b","userAgent": "x", "y": [1 , 2]}"#,
        ),
    ] {
        assert_eq!(line(input, &rules()).as_deref(), Ok(expected));
        assert_eq!(
            line(expected, &rules()).as_deref(),
            Ok(expected),
            "done once is done"
        );
    }
}

#[test]
fn the_default_site_takes_the_place_of_none_null_and_empty() {
    let rules = with_site("shop.example");
    assert_eq!(
        line(GOOD, &rules),
        Ok(good_with(r#""site":"shop.example""#))
    );
    for none in ["null", "\"\""] {
        let input = good_with(&format!(r#""site":{none},"x":1"#));
        assert_eq!(
            line(&input, &rules),
            Ok(good_with(r#""site":"shop.example","x":1"#))
        );
    }
    let empty = good_with(r#""site":"""#);
    assert_eq!(read(empty.as_bytes()).map(|fields| fields.site), Ok(None));
    let own = good_with(r#""site":"own.example""#);
    assert_eq!(line(&own, &rules), Ok(own));
    assert_eq!(
        line("{\"userAgent\":\"\",\n\"path\":\"/a\",\"timestamp\":\"2015-05-17T10:05:03Z\"\n}", &rules),
        Ok(r#"{"userAgent":"-","path":"/a","timestamp":"2015-05-17T10:05:03Z","site":"shop.example"}"#.to_owned())
    );
}

#[test]
fn wrong_fields_are_named_with_their_code() {
    use RecordErrorCode::{Duplicate, Invalid, Missing, WrongType};
    let timed = |time: &str| GOOD.replace(r#""2015-05-17T10:05:03Z""#, time);
    for (input, code_expected, field) in [
        (r"{}".to_owned(), Missing, Some("timestamp")),
        (
            r#"{"timestamp":"2015-05-17T10:05:03Z","userAgent":"x"}"#.to_owned(),
            Missing,
            Some("path"),
        ),
        (
            r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/"}"#.to_owned(),
            Missing,
            Some("userAgent"),
        ),
        (timed("1431857103"), WrongType, Some("timestamp")),
        (timed("null"), WrongType, Some("timestamp")),
        (timed("\"17/May/2015\""), Invalid, Some("timestamp")),
        (
            GOOD.replace(r#""/a""#, r#"" \u00a0""#),
            Invalid,
            Some("path"),
        ),
        (GOOD.replace(r#""/a""#, "7"), WrongType, Some("path")),
        (GOOD.replace(r#""x""#, "{}"), WrongType, Some("userAgent")),
        (good_with(r#""path":"/b""#), Duplicate, Some("path")),
        (
            good_with(r#""site":null,"s\u0069te":null"#),
            Duplicate,
            Some("site"),
        ),
        (good_with(r#""site":7"#), WrongType, Some("site")),
        (good_with(r#""method":true"#), WrongType, Some("method")),
        (
            good_with(r#""remoteAddr":[]"#),
            WrongType,
            Some("remoteAddr"),
        ),
        (good_with(r#""referer":1"#), WrongType, Some("referer")),
        (good_with(r#""protocol":{}"#), WrongType, Some("protocol")),
        (good_with(r#""status":"200""#), WrongType, Some("status")),
        (good_with(r#""status":99"#), Invalid, Some("status")),
        (good_with(r#""status":600"#), Invalid, Some("status")),
        (good_with(r#""status":200.0"#), Invalid, Some("status")),
        (good_with(r#""status":1000"#), Invalid, Some("status")),
        (good_with(r#""bytes":-1"#), Invalid, Some("bytes")),
        (
            good_with(r#""bytes":9223372036854775808"#),
            Invalid,
            Some("bytes"),
        ),
        (
            good_with(r#""bytes":99999999999999999999"#),
            Invalid,
            Some("bytes"),
        ),
        (
            good_with(r#""durationMs":-0.5"#),
            Invalid,
            Some("durationMs"),
        ),
        (
            good_with(r#""durationMs":1e999"#),
            Invalid,
            Some("durationMs"),
        ),
    ] {
        assert_eq!(
            code(&input),
            Some((code_expected, field.map(Cow::Borrowed))),
            "{input}"
        );
    }
}

#[test]
fn broken_json_is_told_from_json_that_is_no_record() {
    use RecordErrorCode::{InvalidUtf8, Malformed, TooDeep, WrongType};
    let nested = |levels: usize| {
        good_with(&format!(
            r#""x":{}{}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        ))
    };
    for (input, expected) in [
        (String::new(), Malformed),
        (" \n".to_owned(), Malformed),
        ("[]".to_owned(), WrongType),
        ("42".to_owned(), WrongType),
        ("null ".to_owned(), WrongType),
        ("nul".to_owned(), Malformed),
        ("{".to_owned(), Malformed),
        (format!("{GOOD}}}"), Malformed),
        (format!("{GOOD} {GOOD}"), Malformed),
        (good_with(""), Malformed),
        (good_with(r#""x":01"#), Malformed),
        (good_with(r#""x":"\ud800""#), Malformed),
        (good_with(r#""x":"\udc00\ud800""#), Malformed),
        (good_with(r#""x":"\udc00\udc00""#), Malformed),
        (good_with(r#""x":"\ud800\ud800""#), Malformed),
        (good_with("\"x\":\"a\nb\""), Malformed),
        (good_with("\"x\":\"a\u{0}b\""), Malformed),
        (good_with("x:1"), Malformed),
        (nested(64), TooDeep),
    ] {
        assert_eq!(code(&input), Some((expected, None)), "{input}");
    }
    assert_eq!(code(&nested(63)), None);

    let mut bytes = good_with(r#""x":"?""#).into_bytes();
    let at = bytes.len() - 3;
    bytes[at] = 0xff;
    let error = append_json(&bytes, &rules(), &mut Vec::new()).expect_err("not UTF-8");
    assert_eq!(error.code, InvalidUtf8);
    assert_eq!(
        error.message,
        format!("at byte {at}: found byte 0xff, which is not UTF-8")
    );
}

#[test]
fn the_limit_is_on_the_canonical_line() {
    let mut rules = with_site("a.example");
    let grown = good_with(r#""site":"a.example""#);
    rules.record_bytes_max = grown.len();
    assert_eq!(line(GOOD, &rules), Ok(grown.clone()));
    rules.record_bytes_max -= 1;
    let error = line(GOOD, &rules).expect_err("too long");
    assert_eq!(error.code, RecordErrorCode::TooLarge);
    assert_eq!(
        error.message,
        format!(
            "the record has {} bytes, allowed are {}",
            grown.len(),
            grown.len() - 1
        )
    );
    assert_eq!(line(&grown, &rules).expect_err("too long"), error);
    // Blanks that are not stored do not count.
    rules.record_bytes_max = grown.len();
    let spread = GOOD.replace(',', &format!("\n{},", " ".repeat(1000)));
    assert_eq!(line(&spread, &rules), Ok(grown));
}

#[test]
fn messages_name_what_was_found_and_what_is_allowed() {
    let message = |input: &str| line(input, &rules()).expect_err("invalid").message;
    assert_eq!(
        message(&good_with(r#""status":99"#)),
        "status: found 99, allowed is an integer from 100 to 599"
    );
    assert_eq!(
        message(r#"{"time":1,"path":"/","user_agent":"x"}"#),
        "timestamp is missing: found `time`, `path`, `user_agent`; required are `timestamp`, `path` and `userAgent`"
    );
    let long = message(&good_with(&format!(
        r#""method":["{}"]"#,
        "\u{1F600}\\u0007".repeat(500)
    )));
    assert!(
        long.len() < 500 && long.contains("bytes), allowed is a string"),
        "{long}"
    );
    let text = message(&good_with("\"site\":\"a\\u001bb\u{7f}\""));
    assert!(
        text.contains(r#"found "a\u{1b}b\u{7f}", allowed is a host name"#),
        "{text}"
    );
    assert_eq!(
        message(&good_with(r#""x":tru"#)),
        "at byte 68: expected true, found `t`"
    );
    assert_eq!(
        message(&GOOD.replace("05-17", "02-30")),
        "timestamp: found \"2015-02-30T10:05:03Z\", allowed is an RFC 3339 time such as 2015-05-17T10:05:03Z: its month does not have that day"
    );
}

#[test]
fn sites_are_host_names() {
    for good in [
        "a",
        "example.com",
        "EXAMPLE.com",
        "127.0.0.1",
        "a_b.example",
        "x-1.example",
        &"a".repeat(63),
    ] {
        assert_eq!(check_site(good), Ok(()), "{good}");
    }
    let long = vec!["a".repeat(50); 5].join(".");
    for bad in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a:80",
        "http://a",
        "[::1]",
        "é",
        &"a".repeat(64),
        &long,
    ] {
        assert!(check_site(bad).is_err(), "{bad}");
    }
}

#[test]
fn fields_come_back_as_they_were_given() {
    let input = good_with(
        r#""site":"a.example","method":"GET","status":404,"bytes":12,"durationMs":2.5,"remoteAddr":"::1","referer":"\"q\"\n\ud83d\ude00","protocol":null"#,
    );
    let stored = line(&input.replace("03Z", "03.999999+01:00"), &rules()).expect("valid");
    let fields = read(stored.as_bytes()).expect("what is stored is read");
    assert_eq!(
        fields,
        Fields {
            timestamp_ms: 1_431_853_503_999,
            path: "/a".into(),
            user_agent: "x".into(),
            site: Some("a.example".into()),
            method: Some("GET".into()),
            status: Some(404),
            bytes: Some(12),
            duration_ms: Some(2.5),
            remote_addr: Some("::1".into()),
            referer: Some("\"q\"\n\u{1F600}".into()),
            protocol: None,
        }
    );
    assert!(matches!(fields.path, Cow::Borrowed(_)));
    for damaged in [
        &stored[1..],
        &stored[..stored.len() - 1],
        &format!("{stored}x"),
        "{}",
        "",
    ] {
        assert!(read(damaged.as_bytes()).is_err(), "{damaged}");
    }
    assert!(read(b"\xff").is_err());
}
