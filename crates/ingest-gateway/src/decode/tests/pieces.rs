//! Bodies that come in pieces: what is kept meanwhile, and what is too long to be kept.

use super::*;

use RecordErrorCode::{Malformed, TooLarge};

const LOG: &str = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 5 "-" "x""#;
const ROW: &str = "2015-05-17T10:05:03Z,/a,x";
const MEDIAS: [Media; 4] = [Media::Json, Media::Ndjson, Media::Csv, Media::Text];

/// What came of a body, and the greatest memory; both with pieces of `piece` bytes.
fn streamed(
    media: Media,
    body: &[u8],
    piece: usize,
    limits: Limits,
) -> (Result<DecodedBatch, BodyError>, usize) {
    let mut decoder = Decoder::new(media, rules(), limits, None);
    let mut memory = 0;
    for piece in body.chunks(piece) {
        if let Err(error) = decoder.push(piece) {
            return (Err(error), memory);
        }
        memory = memory.max(decoder.memory());
    }
    (decoder.finish(), memory)
}

/// Three records of which the second has a path (or more) of `len` bytes.
fn with_a_long_one(media: Media, len: usize) -> Vec<u8> {
    let long = "/x".repeat(len / 2);
    let (record, between) = match media {
        Media::Json => (GOOD, ","),
        Media::Ndjson => (GOOD, "\n"),
        Media::Csv => (ROW, "\n"),
        Media::Text => (LOG, "\n"),
    };
    let body = [record, &record.replace("/a", &long), record].join(between);
    match media {
        Media::Json => format!("[{body}]").into_bytes(),
        _ => body.into_bytes(),
    }
}

#[test]
fn a_record_that_is_too_long_is_passed_without_being_kept() {
    let raw_max = 2 * rules().record_bytes_max + 64 * 1024;
    let limits = Limits {
        rejected_bytes_max: 30,
        ..Limits::default()
    };
    for media in MEDIAS {
        let body = with_a_long_one(media, 10 << 20);
        let whole = decode(media, &body, &rules(), limits).expect("readable");
        assert_eq!(codes_of(&whole), [(1, TooLarge)], "{media:?}");
        assert_eq!(whole.records.sequences, [0, 2], "{media:?}");
        let error = &whole.errors[0];
        assert_eq!(error.raw.len(), 30, "{media:?}");
        let found = &error.error.message;
        assert!(found.starts_with("the record has 1048"), "{found}");
        for piece in [100, 64 * 1024] {
            let (pieces, memory) = streamed(media, &body, piece, limits);
            assert_eq!(pieces.as_ref(), Ok(&whole), "{media:?}");
            assert!(memory <= raw_max + 4 * 64 * 1024, "{media:?}: {memory}");
        }
    }
}

#[test]
fn what_is_longer_than_its_line_may_be_is_still_judged_up_to_a_bound() {
    // A bound that pieces cannot see differently: one byte less, and one more, than it.
    let raw_max = 2 * rules().record_bytes_max + 64 * 1024;
    for (media, record) in [
        (
            Media::Json,
            format!("{{{}{}", " ".repeat(raw_max - GOOD.len()), &GOOD[1..]),
        ),
        (
            Media::Ndjson,
            format!("{GOOD}{}", " ".repeat(raw_max - GOOD.len())),
        ),
        (
            Media::Text,
            format!("{LOG} \"{}\"", "m".repeat(raw_max - LOG.len() - 3)),
        ),
    ] {
        assert_eq!(record.len(), raw_max);
        let longer = match media {
            Media::Text => record.replace("\"m", "\"mm"),
            _ => record.replacen(' ', "  ", 1),
        };
        for (text, found) in [(&record, vec![]), (&longer, vec![(0, TooLarge)])] {
            for piece in [999, 50_000, text.len()] {
                let (batch, _) = streamed(media, text.as_bytes(), piece, Limits::default());
                let batch = batch.expect("readable");
                if media == Media::Json && found.is_empty() {
                    // Blanks on one line are kept as they stand, so the line is too long.
                    assert_eq!(codes_of(&batch), [(0, TooLarge)]);
                } else {
                    assert_eq!(codes_of(&batch), found, "{media:?} in pieces of {piece}");
                }
            }
        }
    }
}

#[test]
fn a_quoted_cell_of_many_lines_has_a_bound_and_breaks_its_first_line_alone() {
    let lines = "never closed\n".repeat(100_000);
    let body = format!("{ROW}\n2015-05-17T10:05:03Z,\"/1,x\n{lines}{ROW}\n");
    let (batch, memory) = streamed(Media::Csv, body.as_bytes(), 10_000, Limits::default());
    let batch = batch.expect("readable");
    assert_eq!(batch.records.sequences, [0, 100_002]);
    assert_eq!(batch.errors[0].index, 1);
    assert_eq!(batch.errors[0].error.code, Malformed);
    let message = &batch.errors[0].error.message;
    assert!(
        message.starts_with("a quoted cell does not end"),
        "{message}"
    );
    assert!(memory < 2 << 20, "{memory}");
    assert_eq!(decoded(Media::Csv, body), batch);
}

#[test]
fn blank_lines_of_any_length_are_none() {
    for media in [Media::Ndjson, Media::Csv, Media::Text] {
        let body = [" ".repeat(2 << 20), "\t\r\n".repeat(10)].join("\n");
        for piece in [1000, 70_000] {
            let (batch, memory) = streamed(media, body.as_bytes(), piece, Limits::default());
            assert_eq!(batch, Ok(DecodedBatch::default()), "{media:?}");
            assert!(memory < 1 << 20, "{media:?}: {memory}");
        }
    }
}

#[test]
fn nesting_costs_a_bit_a_level_and_ends_somewhere() {
    let deep = |levels: usize| format!("[{},{GOOD}]", "[".repeat(levels) + &"]".repeat(levels));
    let (batch, memory) = streamed(
        Media::Json,
        deep(1 << 20).as_bytes(),
        5000,
        Limits::default(),
    );
    let batch = batch.expect("readable");
    assert_eq!(codes_of(&batch), [(0, TooLarge)]);
    assert_eq!(batch.records.len(), 1);
    assert!(memory < 1 << 20, "{memory}");
    let message = unreadable(Media::Json, deep((1 << 20) + 1));
    assert_eq!(
        message,
        "the body is not JSON: at byte 1048577: nested too deep"
    );
}

#[test]
fn cells_beyond_the_columns_are_counted_and_not_kept() {
    let commas = ",".repeat(300_000);
    let (batch, memory) = streamed(Media::Csv, commas.as_bytes(), 7777, Limits::default());
    assert_eq!(
        batch.expect("readable").errors[0].error.message,
        "the row has 300001 cells, allowed are 3"
    );
    assert!(memory < 1 << 20, "{memory}");
    let message = unreadable(Media::Csv, format!("timestamp{commas}"));
    assert_eq!(
        message,
        "the CSV header has 300001 columns, allowed are 4096"
    );
}

#[test]
fn a_byte_order_mark_may_come_in_pieces() {
    for media in MEDIAS {
        let body = with_a_long_one(media, 10);
        let marked = [b"\xef\xbb\xbf", body.as_slice()].concat();
        let (batch, _) = streamed(media, &marked, 1, Limits::default());
        assert_eq!(batch.map(|batch| batch.records.len()), Ok(3), "{media:?}");
        // A part of one is the body's own.
        for part in 1..3 {
            let (batch, _) = streamed(media, &marked[..part], 1, Limits::default());
            match media {
                Media::Json => assert!(batch.is_err()),
                _ => assert_eq!(batch.expect("readable").rejected, 1, "{media:?}"),
            }
        }
    }
}
