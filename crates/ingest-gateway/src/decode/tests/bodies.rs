//! JSON texts and NDJSON.

use super::*;

use RecordErrorCode::{Invalid, InvalidUtf8, Malformed, Missing, TooDeep, TooLarge, WrongType};

/// A valid record but for its 300 KiB.
fn too_long() -> String {
    good(&"/x".repeat(150 * 1024))
}

#[test]
fn an_array_is_read_element_by_element() {
    let body = format!(
        "\u{feff} [{} ,\n {}, 7, [], null, {{\"x\":1}}, {{}}, {}] \n",
        good("/0"),
        good("/1").replace("10:05:03Z", "12:05:03+02:00"),
        good("/7"),
    );
    let batch = decoded(Media::Json, body);
    let (first, second, last) = (good("/0"), good("/1"), good("/7"));
    assert_eq!(
        lines_of(&batch),
        [
            (0, first.as_str()),
            (1, second.as_str()),
            (7, last.as_str())
        ]
    );
    assert_eq!(
        codes_of(&batch),
        [
            (2, WrongType),
            (3, WrongType),
            (4, WrongType),
            (5, Missing),
            (6, Missing)
        ]
    );
    assert_eq!((batch.rejected, batch.errors_omitted()), (5, 0));
    assert_eq!(batch.rejected_by_code[WrongType as usize], 3);
    assert_eq!(batch.rejected_by_code[Missing as usize], 2);
}

#[test]
fn one_record_needs_no_array() {
    assert_eq!(
        lines_of(&decoded(Media::Json, format!("\n{GOOD}\r\n"))),
        [(0, GOOD)]
    );
    let invalid = decoded(Media::Json, GOOD.replace("/a", " "));
    assert!(invalid.records.is_empty());
    assert_eq!(codes_of(&invalid), [(0, Invalid)]);
}

#[test]
fn an_empty_array_is_readable_and_holds_nothing() {
    assert_eq!(decoded(Media::Json, " [ ] "), DecodedBatch::default());
}

#[test]
fn json_that_does_not_parse_to_its_end_is_unreadable_with_its_place() {
    for (body, message) in [
        (
            String::new(),
            "the body is empty, allowed is an array of records or one record",
        ),
        (
            "7 ".to_owned(),
            "the body is 7, allowed is an array of records or one record",
        ),
        (
            format!("[{GOOD}"),
            "the body is not JSON: at byte 65: expected `,` or `]` after an element, found the end",
        ),
        (
            format!("[{GOOD},"),
            "the body is not JSON: at byte 66: expected a value, found the end",
        ),
        (
            format!("[{GOOD},]"),
            "the body is not JSON: at byte 66: expected a value, found `]`",
        ),
        (
            format!("[{GOOD} {GOOD}]"),
            "the body is not JSON: at byte 66: expected `,` or `]` after an element, found `{`",
        ),
        (
            format!("[{GOOD}] x"),
            "the body is not JSON: at byte 67: expected nothing behind the value, found `x`",
        ),
        (
            format!("[{GOOD},{{\"x\":tru}}]"),
            "the body is not JSON: at byte 71: expected true, found `t`",
        ),
        (
            format!("[{GOOD},{{\"x\":\"\u{1}\"}}]"),
            "the body is not JSON: at byte 72: a control character in a string must be escaped, found byte 0x01",
        ),
        (
            GOOD[..GOOD.len() - 2].to_owned(),
            "the body is not JSON: at byte 62: expected the closing quote of a string, found the end",
        ),
        (
            format!("{GOOD}\n{GOOD}"),
            "the body is not JSON: at byte 65: found a second value; one record a line is application/x-ndjson",
        ),
    ] {
        assert_eq!(unreadable(Media::Json, &body), message, "{body}");
    }
}

#[test]
fn what_is_wrong_inside_of_an_element_stays_there() {
    let mut body = format!("[{GOOD},").into_bytes();
    body.extend_from_slice(b"{\"path\":\"\xff\"},");
    body.extend_from_slice(format!("{},", too_long()).as_bytes());
    body.extend_from_slice(b"{\"x\":\"\\ud800\"},");
    body.extend_from_slice(format!("{}{},", "[".repeat(100_000), "]".repeat(100_000)).as_bytes());
    body.extend_from_slice(format!("{{\"x\":{}{}}},", "[".repeat(64), "]".repeat(64)).as_bytes());
    body.extend_from_slice(format!("{GOOD}]").as_bytes());
    let batch = decoded(Media::Json, body);
    assert_eq!(lines_of(&batch), [(0, GOOD), (6, GOOD)]);
    assert_eq!(
        codes_of(&batch),
        [
            (1, InvalidUtf8),
            (2, TooLarge),
            (3, Malformed),
            (4, WrongType),
            (5, TooDeep)
        ]
    );
    let found = too_long().len();
    assert_eq!(
        batch.errors[1].error.message,
        format!("the record has {found} bytes, allowed are 262144")
    );
}

#[test]
fn lines_stand_alone() {
    let mut body = format!("\u{feff}{}\n\n \t\r\n{}\r\n", good("/0"), good("/1")).into_bytes();
    body.extend_from_slice(b"{\"path\":\n");
    body.extend_from_slice(b"{\"path\":\"\xc3\"}\n");
    body.extend_from_slice(
        format!("{}\n[{GOOD}]\n{{}}\n  {}  ", too_long(), good("/7")).as_bytes(),
    );
    let batch = decoded(Media::Ndjson, &body);
    let (first, second, last) = (good("/0"), good("/1"), good("/7"));
    assert_eq!(
        lines_of(&batch),
        [
            (0, first.as_str()),
            (1, second.as_str()),
            (7, last.as_str())
        ]
    );
    assert_eq!(
        codes_of(&batch),
        [
            (2, Malformed),
            (3, InvalidUtf8),
            (4, TooLarge),
            (5, WrongType),
            (6, Missing)
        ]
    );
    body.push(b'\n');
    assert_eq!(
        decoded(Media::Ndjson, &body),
        batch,
        "a last LF changes nothing"
    );
    assert_eq!(decoded(Media::Ndjson, "\n \n"), DecodedBatch::default());
}

#[test]
fn only_the_first_errors_are_kept_and_all_are_counted() {
    let body = format!("{}{GOOD}\n", "1\n".repeat(150));
    let batch = decoded(Media::Ndjson, &body);
    assert_eq!(
        (batch.rejected, batch.errors.len(), batch.errors_omitted()),
        (150, 100, 50)
    );
    assert_eq!(batch.rejected_by_code[WrongType as usize], 150);
    assert_eq!(batch.errors.last().map(|error| error.index), Some(99));
    assert_eq!(lines_of(&batch), [(150, GOOD)]);
    let few = decode(
        Media::Ndjson,
        body.as_bytes(),
        &rules(),
        Limits {
            errors_max: 0,
            ..Limits::default()
        },
    )
    .expect("readable");
    assert_eq!((few.errors.len(), few.errors_omitted()), (0, 150));
}

#[test]
fn the_default_site_is_given_in_every_kind_of_body() {
    let rules = Rules {
        default_site: Some("d.example".to_owned()),
        ..rules()
    };
    for (media, body) in [
        (Media::Json, GOOD),
        (Media::Ndjson, GOOD),
        (Media::Csv, "2015-05-17T10:05:03Z,/a,x"),
        (
            Media::Text,
            r#"- - - [17/May/2015:10:05:03 +0000] "/a" - - "-" "x""#,
        ),
    ] {
        let batch = decode(media, body.as_bytes(), &rules, Limits::default()).expect("readable");
        let expected = format!("{},\"site\":\"d.example\"}}", &GOOD[..GOOD.len() - 1]);
        assert_eq!(lines_of(&batch), [(0, expected.as_str())], "{media:?}");
    }
}

/// Whatever comes, no decoder panics, and what it accepts is a record.
#[test]
fn broken_bodies_never_panic_and_accept_only_records() {
    let log = r#"a.example:80 1.2.3.4 - u v [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 5 "-" "x" "m""#;
    let seeds = [
        (Media::Json, format!("[{GOOD},{{\"x\":[1,{{}}]}},{GOOD}]")),
        (Media::Ndjson, format!("{GOOD}\n\n{GOOD}\r\n{{}}\n")),
        (Media::Csv, "path,timestamp,userAgent,n\r\n/a,2015-05-17T10:05:03Z,\"a \"\"b\"\"\",1\r\n\"/\nb\",2015-05-17T10:05:03Z,,\n".to_owned()),
        (Media::Text, format!("{log}\r\n{log}\n")),
    ];
    let mut random = fastrand::Rng::with_seed(4);
    let (mut accepted, mut rejected, mut refused) = (0, 0, 0);
    for round in 0..20_000 {
        let (media, seed) = &seeds[round % seeds.len()];
        let mut body = seed.clone().into_bytes();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..body.len());
            match random.u32(0..5) {
                0 => body.truncate(at.max(1)),
                1 => body[at] = random.u8(..),
                2 => body.insert(at, b"\"\\,\n\r []{}:"[random.usize(0..11)]),
                3 => drop(body.remove(at)),
                _ => {
                    let to = random.usize(at..body.len()).min(at + 40);
                    let piece = body[at..to].to_vec();
                    body.splice(at..at, piece);
                }
            }
            if body.is_empty() {
                body.push(b'x');
            }
        }
        match decode(*media, &body, &rules(), Limits::default()) {
            Ok(batch) => {
                accepted += batch.records.len();
                rejected += batch.rejected;
                for (_, line) in batch.records.iter() {
                    let mut again = Vec::new();
                    let valid = pipeline_core::record::append_json(line, &rules(), &mut again);
                    assert_eq!(valid, Ok(()), "{}", String::from_utf8_lossy(line));
                    assert_eq!(again, line, "what is accepted is canonical");
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        accepted > 5000 && rejected > 5000 && refused > 1000,
        "{accepted} {rejected} {refused}"
    );
}

#[test]
fn a_batch_holds_its_limits() {
    let body = format!("{GOOD}\n{GOOD}\n1\n");
    let of = |limits: Limits| decode(Media::Ndjson, body.as_bytes(), &rules(), limits);
    let limits = Limits {
        records_max: 3,
        lines_bytes_max: u32::try_from(2 * GOOD.len()).unwrap(),
        ..Limits::default()
    };
    assert_eq!(of(limits).map(|batch| batch.records.len()), Ok(2));
    let fewer = Limits {
        records_max: 2,
        ..limits
    };
    assert_eq!(of(fewer), Err(BodyError::TooManyRecords { allowed: 2 }));
    let shorter = Limits {
        lines_bytes_max: limits.lines_bytes_max - 1,
        ..limits
    };
    let allowed = shorter.lines_bytes_max;
    let error = of(shorter).unwrap_err();
    assert_eq!(error, BodyError::TooLarge { allowed });
    let said = format!("allowed are {allowed} (twice server.maxDecodedBytes");
    assert!(error.to_string().contains(&said), "{error}");
}

#[test]
fn what_was_rejected_is_kept_beside_its_error_up_to_a_length() {
    let limits = Limits {
        rejected_bytes_max: 6,
        ..Limits::default()
    };
    for (media, body, raw) in [
        (Media::Json, "[ 12 , {\"path\":7} ]", ["12", "{\"path"]),
        (Media::Ndjson, "12\r\n\n{\"path\":7}\n", ["12", "{\"path"]),
        (Media::Csv, "1,2\n\"3\n4\",5\n", ["1,2", "\"3\n4\","]),
        (Media::Text, "1 2\n1 [3] 4\r\n", ["1 2", "1 [3] "]),
    ] {
        let batch = decode(media, body.as_bytes(), &rules(), limits).expect("readable");
        let kept: Vec<&[u8]> = batch.errors.iter().map(|error| &error.raw[..]).collect();
        assert_eq!(kept, raw.map(str::as_bytes), "{media:?}");
        assert!(decoded(media, body).errors.iter().all(|e| e.raw.is_empty()));
    }
}
