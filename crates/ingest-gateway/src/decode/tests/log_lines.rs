//! Access logs.

use super::*;

use RecordErrorCode::{Invalid, InvalidUtf8, Malformed, TooLarge, WrongType};

/// The one record of one line.
fn record(line: &str) -> String {
    let batch = decoded(Media::Text, line);
    assert_eq!(batch.errors, [], "{line}");
    lines_of(&batch)[0].1.to_owned()
}

fn code(line: &str) -> Option<RecordErrorCode> {
    codes_of(&decoded(Media::Text, line))
        .first()
        .map(|(_, code)| *code)
}

#[test]
fn every_form_of_line_is_understood() {
    let time = "[17/May/2015:12:05:03 +0200]";
    for (line, expected) in [
        // combined
        (
            format!(
                r#"1.2.3.4 - - {time} "GET /a?b HTTP/1.1" 200 203023 "http://r/" "Mozilla/5.0 (X)""#
            ),
            r#""path":"/a?b","userAgent":"Mozilla/5.0 (X)","method":"GET","status":200,"bytes":203023,"remoteAddr":"1.2.3.4","referer":"http://r/","protocol":"HTTP/1.1"}"#,
        ),
        // absent parts
        (
            format!(r#"- - - {time} "GET /a HTTP/2" - - "-" "-""#),
            r#""path":"/a","userAgent":"-","method":"GET","protocol":"HTTP/2"}"#,
        ),
        (
            format!(r#"::1 - - {time} "GET /a HTTP/1.0" 499 0 "" """#),
            r#""path":"/a","userAgent":"-","method":"GET","status":499,"bytes":0,"remoteAddr":"::1","protocol":"HTTP/1.0"}"#,
        ),
        // common, with an ident and a user
        (
            format!(r#"host.example id frank {time} "POST /a HTTP/1.0" 201 5"#),
            r#""path":"/a","userAgent":"-","method":"POST","status":201,"bytes":5,"remoteAddr":"host.example","protocol":"HTTP/1.0","remoteIdent":"id","remoteUser":"frank"}"#,
        ),
        // a user with blanks, and an address that looks like a host with a port
        (
            format!(r#"2001:db8::1 - john q doe {time} "GET / HTTP/1.1" 200 5"#),
            r#""path":"/","userAgent":"-","method":"GET","status":200,"bytes":5,"remoteAddr":"2001:db8::1","protocol":"HTTP/1.1","remoteUser":"john q doe"}"#,
        ),
        // vhost_combined
        (
            format!(r#"www.a.example:443 ::1 - - {time} "GET / HTTP/1.1" 200 5 "-" "x""#),
            r#""path":"/","userAgent":"x","site":"www.a.example","method":"GET","status":200,"bytes":5,"remoteAddr":"::1","protocol":"HTTP/1.1"}"#,
        ),
        (
            format!(r#"a.example:80 1.2.3.4 - a b {time} "GET / HTTP/1.1" 200 5"#),
            r#""path":"/","userAgent":"-","site":"a.example","method":"GET","status":200,"bytes":5,"remoteAddr":"1.2.3.4","protocol":"HTTP/1.1","remoteUser":"a b"}"#,
        ),
        // no host in front, but an address with a port
        (
            format!(r#"1.2.3.4:5678 - - {time} "GET / HTTP/1.1" 200 5"#),
            r#""path":"/","userAgent":"-","method":"GET","status":200,"bytes":5,"remoteAddr":"1.2.3.4:5678","protocol":"HTTP/1.1"}"#,
        ),
        // nginx main, and more
        (
            format!(
                r#"1.2.3.4 - - {time} "GET / HTTP/1.1" 200 5 "-" "x" "10.0.0.1, 10.0.0.2" "" "a\"b""#
            ),
            r#""path":"/","userAgent":"x","method":"GET","status":200,"bytes":5,"remoteAddr":"1.2.3.4","protocol":"HTTP/1.1"}"#,
        ),
        // text as it stands
        (
            format!(
                r#"1.2.3.4 - - {time} "GET /\"x\" HTTP/1.1" 200 5 "http://\xe4\\" "a \"b\" \\""#
            ),
            r#""path":"/\\\"x\\\"","userAgent":"a \\\"b\\\" \\\\","method":"GET","status":200,"bytes":5,"remoteAddr":"1.2.3.4","referer":"http://\\xe4\\\\","protocol":"HTTP/1.1"}"#,
        ),
    ] {
        assert_eq!(
            record(&line),
            format!(r#"{{"timestamp":"2015-05-17T10:05:03Z",{expected}"#),
            "{line}"
        );
    }
}

#[test]
fn a_request_of_another_form_is_the_path() {
    for request in [
        "-",
        "GET /a",
        "GET /a b HTTP/1.1",
        "GET  /a HTTP/1.1",
        "GET /a HTTP",
        "GET /a HTTP/x",
        "GET /a /1.1",
        "G T / HTTP/1.1",
        "G(T / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        r"\x16\x03\x01",
        "\u{e9}",
    ] {
        let line = record(&format!(
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "{request}" 400 0 "-" "x""#
        ));
        let fields = pipeline_core::record::read(line.as_bytes()).expect("a record");
        assert_eq!(
            (fields.path.as_ref(), fields.method, fields.protocol),
            (request, None, None)
        );
    }
    assert_eq!(
        code(r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "" 400 0 "-" "x""#),
        Some(Invalid)
    );
}

#[test]
fn a_line_of_another_form_is_broken() {
    let good = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200 5 "-" "x""#;
    assert_eq!(code(good), None);
    for (from, to) in [
        (r#" "-" "x""#, r#" "-""#),
        (r#" "-" "x""#, r#" "-" "x"#),
        (r#" "-" "x""#, r#" "-" "x\""#),
        (r#" "-" "x""#, r#" "-" "x" "#),
        (r#" "-" "x""#, r#" "-" "x" y"#),
        (r#" "-" "x""#, r#" "-" "x" "y" z"#),
        (r#" "-" "x""#, r#" "-"  "x""#),
        (r#" "-" "x""#, r#"  "-" "x""#),
        (r#" "-" "x""#, r#" "-" "x"  "y""#),
        (r#" "-" "x""#, r#" "-" "x""y""#),
        (r#" "-" "x""#, r#" "-""x""#),
        (r#" 200 5"#, " 200"),
        (r#" 200 5"#, "200 5"),
        (r#""GET / HTTP/1.1""#, "GET / HTTP/1.1"),
        ("[17/May/2015:10:05:03 +0000]", "17/May/2015:10:05:03 +0000"),
        (
            "[17/May/2015:10:05:03 +0000]",
            "[17/May/2015:10:05:03 +0000",
        ),
        ("1.2.3.4 - - ", "1.2.3.4 - "),
        ("1.2.3.4 - - ", " 1.2.3.4 - - "),
        (good, "hello"),
        (good, r#"""#),
        (good, r"\"),
    ] {
        let line = good.replace(from, to);
        assert_eq!(code(&line), Some(Malformed), "{line}");
    }
    for (from, to, expected) in [
        (" 200 5", " 99 5", Invalid),
        (" 200 5", " abc 5", WrongType),
        (" 200 5", " 200 5x", WrongType),
        (" 200 5", " 200 -5", Invalid),
        ("17/May/2015", "32/May/2015", Invalid),
        ("17/May/2015", "17/may/2015", Invalid),
        ("17/May/2015", "17/05/2015", Invalid),
        ("10:05:03", "24:05:03", Invalid),
        ("10:05:03", "10:05:60", Invalid),
        ("10:05:03", "1 :05:03", Invalid),
        ("+0000", "+2400", Invalid),
        ("+0000", "00000", Invalid),
        ("+0000", "Z", Invalid),
        ("1.2.3.4 -", "-a:80 1.2.3.4 -", Invalid),
    ] {
        let line = good.replace(from, to);
        assert_eq!(code(&line), Some(expected), "{line}");
    }
    let message = &decoded(Media::Text, &good[..good.len() - 1]).errors[0]
        .error
        .message;
    assert!(
        message.starts_with("at byte 68 of the line `1.2.3.4 - - [17/May"),
        "{message}"
    );
    assert!(
        message.ends_with("expected a closing quote, found `\"x`"),
        "{message}"
    );
}

#[test]
fn a_broken_line_breaks_no_other() {
    let line = |path: &str| {
        format!(r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET {path} HTTP/1.1" 200 5 "-" "x""#)
    };
    let mut body = format!("{}\r\n\n{}\n", line("/0"), &line("/1")[..60]).into_bytes();
    body.extend_from_slice(format!("{}\n", line("/?")).replace('?', "\u{0}").as_bytes());
    let at = body.len();
    body.extend_from_slice(format!("{}\n", line("/?")).as_bytes());
    let question = body[at..]
        .iter()
        .position(|byte| *byte == b'?')
        .expect("there");
    body[at + question] = 0xe4;
    body.extend_from_slice(format!("{}\n  \r\n", line(&"/x".repeat(150 * 1024))).as_bytes());
    body.extend_from_slice(format!("{}\r\r\n", line("/5")).as_bytes());
    body.extend_from_slice(line("/6").as_bytes());
    let batch = decoded(Media::Text, body);
    let paths: Vec<(u32, String)> = batch
        .records
        .iter()
        .map(|(at, line)| {
            (
                at,
                pipeline_core::record::read(line)
                    .expect("a record")
                    .path
                    .into_owned(),
            )
        })
        .collect();
    assert_eq!(
        paths,
        [
            (0, "/0".to_owned()),
            (2, "/\0".to_owned()),
            (6, "/6".to_owned())
        ]
    );
    assert_eq!(
        codes_of(&batch),
        [
            (1, Malformed),
            (3, InvalidUtf8),
            (4, TooLarge),
            (5, Malformed)
        ]
    );
}
