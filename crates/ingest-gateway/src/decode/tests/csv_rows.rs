//! CSV.

use super::*;

use RecordErrorCode::{Invalid, InvalidUtf8, Malformed, TooLarge, WrongType};

#[test]
fn without_a_header_there_are_three_columns() {
    let batch = decoded(
        Media::Csv,
        "2015-05-17T12:05:03+02:00,/0,x\r\n\r\n2015-05-17T10:05:03Z,\"/1\", \n2015-05-17T10:05:03Z,/2",
    );
    let (first, second) = (good("/0"), good("/1").replace("\"x\"", "\"-\""));
    assert_eq!(
        lines_of(&batch),
        [(0, first.as_str()), (1, second.as_str())]
    );
    assert_eq!(codes_of(&batch), [(2, Malformed)]);
    assert_eq!(
        batch.errors[0].error.message,
        "the row has 2 cells, allowed are 3"
    );
}

#[test]
fn a_header_names_columns_in_any_order_and_more_of_them() {
    let batch = decoded(
        Media::Csv,
        "\u{feff}shop, userAgent ,status,path,bytes, timestamp ,durationMs,site,\"the \"\"id\"\"\"\r\n\
         7,x,200,/a, 12 , 2015-05-17T10:05:03.5Z ,1.5,a.example,00\r\n\
         ,,,/b,,2015-05-17T10:05:03Z,,,\n",
    );
    assert_eq!(
        lines_of(&batch),
        [
            (
                0,
                r#"{"shop":"7","userAgent":"x","status":200,"path":"/a","bytes":12,"timestamp":"2015-05-17T10:05:03.5Z","durationMs":1.5,"site":"a.example","the \"id\"":"00"}"#
            ),
            (
                1,
                r#"{"userAgent":"-","path":"/b","timestamp":"2015-05-17T10:05:03Z"}"#
            ),
        ]
    );
    assert_eq!(batch.rejected, 0);
}

#[test]
fn values_are_checked_by_the_rules_of_records() {
    let batch = decoded(
        Media::Csv,
        "timestamp,path,userAgent,status,bytes,site\n\
         2015-05-17T10:05:03Z,/a,x,ok,,\n\
         2015-05-17T10:05:03Z,/a,x,99,,\n\
         2015-05-17T10:05:03Z,/a,x,,-1,\n\
         2015-05-17T10:05:03Z,/a,x,,,a:80\n\
         2015-05-17T10:05:03Z, ,x,,,\n\
         ,/a,x,,,\n",
    );
    assert!(batch.records.is_empty());
    assert_eq!(
        codes_of(&batch),
        [
            (0, WrongType),
            (1, Invalid),
            (2, Invalid),
            (3, Invalid),
            (4, Invalid),
            (5, Invalid)
        ]
    );
    assert_eq!(
        batch.errors[0].error.message,
        "status: found \"ok\", allowed is an integer from 100 to 599"
    );
}

#[test]
fn a_header_that_cannot_be_used_refuses_the_body() {
    for (header, message) in [
        (
            "timestamp,path,user_agent\n",
            "the CSV header has no column `userAgent`: found `timestamp`, `path`, `user_agent`; required are `timestamp`, `path` and `userAgent`",
        ),
        (
            "timestamp\n",
            "the CSV header has no column `path`: found `timestamp`; required are `timestamp`, `path` and `userAgent`",
        ),
        (
            "timestamp,path,userAgent,a, a\n",
            "the CSV header has column `a` twice: found `timestamp`, `path`, `userAgent`, `a`, `a`; allowed is each name once",
        ),
    ] {
        assert_eq!(
            unreadable(Media::Csv, format!("{header}1,2,3,4,5\n")),
            message
        );
    }
    let not_utf8 = unreadable(Media::Csv, b"timestamp,path,userAgent,\xff\n");
    assert!(not_utf8.contains("not UTF-8"), "{not_utf8}");
}

#[test]
fn a_broken_header_refuses_the_body_as_the_meaning_of_its_cells_is_lost() {
    let row = "2015-05-17T10:05:03Z,curl/8,/a\n";
    for header in [
        "timestamp,\"userAgent,path\n",
        "\"timestamp\"x,userAgent,path\r\n",
        "userAgent,\" timestamp,path\n",
    ] {
        let said = unreadable(Media::Csv, format!("\n{header}{row}"));
        assert!(said.starts_with("the CSV header: "), "{said}");
    }
    // A broken first row that is no header breaks no other.
    let batch = decoded(
        Media::Csv,
        format!("2015-05-17T10:05:03Z,/?timestamp=1,\"a\n{row}"),
    );
    assert_eq!(batch.records.len(), 1);
    assert_eq!(codes_of(&batch), [(0, Malformed)]);
}

#[test]
fn a_header_alone_or_nothing_is_readable() {
    assert_eq!(decoded(Media::Csv, ""), DecodedBatch::default());
    assert_eq!(
        decoded(Media::Csv, "timestamp,path,userAgent"),
        DecodedBatch::default()
    );
}

#[test]
fn quoted_cells_hold_commas_quotes_and_line_breaks() {
    let batch = decoded(
        Media::Csv,
        "\"2015-05-17T10:05:03Z\",\"/a,\"\"b\"\"\r\n\r\nc\",\"\"\"\"\r\n2015-05-17T10:05:03Z,/a\"b\",\"x\"\r",
    );
    assert_eq!(
        lines_of(&batch),
        [
            (
                0,
                r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/a,\"b\"\r\n\r\nc","userAgent":"\""}"#
            ),
            (
                1,
                r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/a\"b\"","userAgent":"x"}"#
            ),
        ]
    );
}

#[test]
fn a_broken_row_breaks_no_other() {
    let row = |path: &str| format!("2015-05-17T10:05:03Z,{path},x\n");
    let mut body = Vec::new();
    for part in [
        row("/0"),
        row("\"/never closed"),
        row("\"/2\""),
        row("\"/3\"3"),
        row("/4,more"),
        row(&"/x".repeat(150 * 1024)),
    ] {
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(b"2015-05-17T10:05:03Z,/\xe4,x\n");
    body.extend_from_slice(row("/7").as_bytes());
    body.extend_from_slice(row("\"/8 never closed").as_bytes());
    body.extend_from_slice(row("/9").as_bytes());
    let batch = decoded(Media::Csv, &body);
    let (a, b, c, d) = (good("/0"), good("/2"), good("/7"), good("/9"));
    assert_eq!(
        lines_of(&batch),
        [
            (0, a.as_str()),
            (2, b.as_str()),
            (7, c.as_str()),
            (9, d.as_str())
        ]
    );
    assert_eq!(
        codes_of(&batch),
        [
            (1, Malformed),
            (3, Malformed),
            (4, Malformed),
            (5, TooLarge),
            (6, InvalidUtf8),
            (8, Malformed),
        ]
    );
    let messages: Vec<&str> = batch
        .errors
        .iter()
        .map(|error| error.error.message.as_str())
        .collect();
    assert!(
        messages[0].starts_with("something stands between"),
        "{}",
        messages[0]
    );
    assert!(
        messages[0].contains("2015-05-17T10:05:03Z,\"/never closed,x"),
        "{}",
        messages[0]
    );
    assert_eq!(
        messages[4],
        "column `path`: at byte 1: found byte 0xe4, which is not UTF-8"
    );
    assert!(
        messages[5].starts_with("a quoted cell does not end"),
        "{}",
        messages[5]
    );
}

/// The `csv` crate as a second reader: what is written by the rules is read alike.
#[test]
fn rows_are_read_as_the_csv_crate_reads_them() {
    const PIECES: [&str; 10] = [
        "a",
        ",",
        "\"",
        "\n",
        "\r\n",
        " ",
        "é",
        "/x/y",
        "\u{1F600}",
        "'",
    ];
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..500 {
        let mut writer = ::csv::WriterBuilder::new()
            .terminator(if round % 2 == 0 {
                ::csv::Terminator::CRLF
            } else {
                ::csv::Terminator::Any(b'\n')
            })
            .quote_style(if round % 3 == 0 {
                ::csv::QuoteStyle::Always
            } else {
                ::csv::QuoteStyle::Necessary
            })
            .from_writer(Vec::new());
        for _ in 0..random.usize(1..8) {
            let mut text = || -> String {
                (0..random.usize(0..5))
                    .map(|_| PIECES[random.usize(0..PIECES.len())])
                    .collect()
            };
            let row = [
                "2015-05-17T10:05:03Z".to_owned(),
                format!("/{}", text()),
                text(),
            ];
            writer.write_record(&row).expect("writes to memory");
        }
        let body = writer.into_inner().expect("writes to memory");
        let batch = decoded(Media::Csv, &body);
        assert_eq!(batch.rejected, 0, "{}", String::from_utf8_lossy(&body));
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(body.as_slice());
        let mut rows = 0;
        for (at, row) in reader.records().enumerate() {
            let row = row.expect("reads what was written");
            let fields = pipeline_core::record::read(batch.records.line(at)).expect("a record");
            assert_eq!(fields.path, row[1]);
            let agent = if row[2].trim().is_empty() {
                "-"
            } else {
                &row[2]
            };
            assert_eq!(fields.user_agent, agent);
            rows += 1;
        }
        assert_eq!(batch.records.len(), rows);
    }
}

#[test]
fn rows_whose_quoted_cells_never_end_are_read_once_and_not_once_for_each_line() {
    // Each line opens a cell that the next one closes, to open another: no row ends. Read to the
    // end of the longest row for each line, this takes minutes.
    let line = b"x\",\"\n";
    let lines = 200_000;
    let row = b"\",y\n2015-05-17T10:05:03Z,/a,x\n";
    for (end, rejected, accepted) in [(&b""[..], 0, 0), (b"\"z\n", 1, 0), (row, 1, 1)] {
        let body = [&line.repeat(lines)[..], end].concat();
        let whole = decoded(Media::Csv, &body);
        if accepted == 0 {
            assert_eq!(whole.rejected, (lines + rejected) as u64);
        }
        assert_eq!(whole.records.len(), accepted);
        let mut pieces = Decoder::new(Media::Csv, rules(), Limits::default(), None);
        for piece in body.chunks(7777) {
            pieces.push(piece).expect("readable");
        }
        assert_eq!(pieces.finish().expect("readable"), whole);
    }
}
