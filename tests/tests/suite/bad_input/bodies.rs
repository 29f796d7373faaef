//! Bodies that are bad, wholly or in part, and what is to be said of them.

use super::{CSV, JSON, NDJSON, TEXT};

pub const GOOD: &str =
    r#"{"timestamp":"2025-05-17T10:05:03+02:00","path":"/good","userAgent":"curl/8.14.1"}"#;
pub const LINE: &str =
    r#"192.0.2.1 - - [17/May/2025:10:05:03 +0000] "GET /good HTTP/1.1" 200 1 "-" "a""#;

/// What must be rejected, at which index, and which words the message must hold.
pub struct Rejected {
    pub index: u64,
    pub field: Option<&'static str>,
    pub words: &'static [&'static str],
}

pub const fn at(index: u64, words: &'static [&'static str]) -> Rejected {
    Rejected {
        index,
        field: None,
        words,
    }
}

pub const fn field(index: u64, name: &'static str, words: &'static [&'static str]) -> Rejected {
    Rejected {
        index,
        field: Some(name),
        words,
    }
}

/// What it is, media type, body, good records in it, and the others.
pub type PartlyGood = (&'static str, &'static str, Vec<u8>, u64, Vec<Rejected>);

/// Bodies whose good records are kept although others are not.
pub fn partly_good() -> Vec<PartlyGood> {
    let big = format!(
        r#"{{"timestamp":"2025-05-17T10:05:03Z","path":"/big","userAgent":"a","x":"{}"}}"#,
        "x".repeat(300 * 1024)
    );
    let mut not_utf8 = format!("{GOOD}\n").into_bytes();
    not_utf8.extend(
        b"{\"timestamp\":\"2025-05-17T10:05:03Z\",\"path\":\"/\xff\xfe\",\"userAgent\":\"a\"}\n",
    );
    not_utf8.extend(GOOD.as_bytes());
    let mut text_not_utf8 = format!("{LINE}\n").into_bytes();
    text_not_utf8.extend(LINE.replace("/good", "/").as_bytes());
    text_not_utf8.extend(b"\xff\n");
    vec![
        (
            "a 300 KiB record among good ones",
            JSON,
            format!("[{GOOD},{big},{GOOD}]").into_bytes(),
            2,
            vec![at(1, &["262144"])],
        ),
        (
            "the same as NDJSON",
            NDJSON,
            format!("{GOOD}\n{big}\n{GOOD}\n").into_bytes(),
            2,
            vec![at(1, &["262144"])],
        ),
        (
            "a line that is not UTF-8",
            NDJSON,
            not_utf8,
            2,
            vec![at(1, &["UTF-8"])],
        ),
        (
            "a log line that is not UTF-8",
            TEXT,
            text_not_utf8,
            1,
            vec![at(1, &["UTF-8"])],
        ),
        (
            "a truncated NDJSON line",
            NDJSON,
            format!("{GOOD}\n\n{{\"timestamp\":\"2025-05\n{GOOD}").into_bytes(),
            2,
            vec![at(1, &[])],
        ),
        (
            "wrong types",
            JSON,
            format!(
                "[{GOOD},{},{},{},{}]",
                GOOD.replace('}', r#","status":"OK"}"#),
                GOOD.replace('}', r#","bytes":-1}"#),
                GOOD.replace('}', r#","status":999}"#),
                GOOD.replace("\"/good\"", "17"),
            )
            .into_bytes(),
            1,
            vec![
                field(1, "status", &["OK"]),
                field(2, "bytes", &["-1"]),
                field(3, "status", &["999", "599"]),
                field(4, "path", &["17"]),
            ],
        ),
        (
            "missing and blank fields",
            JSON,
            format!(
                "[{},{},{},{GOOD},{}]",
                r#"{"path":"/","userAgent":"a"}"#,
                GOOD.replace("/good", " "),
                GOOD.replace("userAgent", "user_agent"),
                // Blank is allowed here: stored as `-`.
                GOOD.replace("curl/8.14.1", ""),
            )
            .into_bytes(),
            2,
            vec![
                field(0, "timestamp", &[]),
                field(1, "path", &[]),
                field(2, "userAgent", &[]),
            ],
        ),
        (
            "a time that is none",
            JSON,
            format!(
                "[{},{GOOD}]",
                GOOD.replace("2025-05-17T10:05:03+02:00", "yesterday")
            )
            .into_bytes(),
            1,
            vec![field(0, "timestamp", &["yesterday", "RFC 3339"])],
        ),
        (
            "elements that are no records",
            JSON,
            format!("[17,{GOOD},\"x\",null]").into_bytes(),
            1,
            vec![at(0, &[]), at(2, &[]), at(3, &[])],
        ),
        (
            "a CSV row that is too short",
            CSV,
            b"timestamp,path,userAgent\n2025-05-17T10:05:03Z,/good,a\n2025-05-17T10:05:03Z,/\n"
                .to_vec(),
            1,
            vec![at(1, &[])],
        ),
        (
            "a broken log line",
            TEXT,
            format!("{LINE}\nnonsense\n\n{LINE}\r\n").into_bytes(),
            2,
            vec![at(1, &[])],
        ),
    ]
}

/// Bodies of which nothing may be kept.
pub fn all_bad() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        (
            "a truncated array",
            JSON,
            format!("[{GOOD},{GOOD}").into_bytes(),
        ),
        (
            "an array cut inside a record",
            JSON,
            format!("[{GOOD},{}", &GOOD[..40]).into_bytes(),
        ),
        (
            "an array with more behind it",
            JSON,
            format!("[{GOOD}] x").into_bytes(),
        ),
        ("an empty array", JSON, b"[]".to_vec()),
        ("no body", JSON, Vec::new()),
        ("no line", NDJSON, b"\n\n".to_vec()),
        ("a number", JSON, b"17".to_vec()),
        ("only bad records", JSON, br#"[{"path":"/"}]"#.to_vec()),
        (
            "a CSV without the agent's column",
            CSV,
            b"timestamp,path\n2025-05-17T10:05:03Z,/\n".to_vec(),
        ),
        (
            "only a CSV header",
            CSV,
            b"timestamp,path,userAgent\n".to_vec(),
        ),
        ("only broken lines", TEXT, b"one\ntwo\n".to_vec()),
    ]
}
