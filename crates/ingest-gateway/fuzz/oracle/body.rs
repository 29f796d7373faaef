//! Whole bodies, of every kind.

use ingest_gateway::{
    decode::{
        BodyDecoder, BodyError, BodyHead, Decoded, DecodedBatch, Decoder, Encoding, Media,
        Progress, decode,
    },
    identity::BatchKey,
};
use pipeline_core::record::{RecordErrorCode, append_json};
use serde::de::IgnoredAny;

use super::{Options, batch};

/// A record that comes with more around it than its line may have, and this, is too large.
const RAW_SLACK_BYTES: usize = 64 * 1024;

type Result = std::result::Result<DecodedBatch, BodyError>;

pub fn decodes_right(media: Media, data: &[u8]) {
    let Some((mut options, body)) = Options::of(data) else {
        return;
    };
    let whole = decode(media, body, &options.rules, options.limits);
    assert_eq!(in_pieces(&mut options, media, body), whole);
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if media == Media::Json {
        json_is_what_serde_says(text, &whole);
    }
    let Ok(decoded) = whole else { return };
    let lines = batch::check(&decoded, &options.rules, &options.limits);
    match media {
        Media::Json => {}
        Media::Ndjson => each_line_alone_is_the_same(&options, text, &decoded),
        Media::Text | Media::Csv => {
            for line in lines {
                let quoted = line.path.replace('"', "\"\"");
                let stands = |text: &[u8], path: &str| {
                    text.windows(path.len()).any(|part| part == path.as_bytes())
                };
                assert!(stands(text, &line.path) || stands(text, &quoted));
            }
            let breaks = text.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert!(decoded.records.len() as u64 + decoded.rejected <= breaks + 1);
        }
    }
    if media == Media::Text {
        let filled = filled_lines(text).count() as u64;
        assert_eq!(decoded.records.len() as u64 + decoded.rejected, filled);
    }
}

/// Input: options, cuts, then media and encoding, a place, a length, and the body, of which the
/// byte at that place is repeated: what is too long takes more than a fuzzer makes by itself.
pub fn pieces_say_what_the_whole_says(data: &[u8]) {
    let Some((mut options, rest)) = Options::of(data) else {
        return;
    };
    let Some((&[kind, place, length], seed)) = rest.split_first_chunk() else {
        return;
    };
    let media = [Media::Json, Media::Ndjson, Media::Csv, Media::Text][usize::from(kind & 3)];
    let mut body = seed.to_vec();
    if let Some(&byte) = seed.get(usize::from(place)) {
        let at = usize::from(place);
        let times = usize::from(length).pow(2) * 4;
        body.splice(at..at, std::iter::repeat_n(byte, times));
    }
    let whole = decode(media, &body, &options.rules, options.limits);
    assert_eq!(in_pieces(&mut options, media, &body), whole);
    if let Ok(decoded) = &whole {
        batch::check(decoded, &options.rules, &options.limits);
    }

    let encoding = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd][usize::from(kind >> 2) % 3];
    from_the_wire(&mut options, media, encoding, &body, &whole);
}

fn in_pieces(options: &mut Options, media: Media, body: &[u8]) -> Result {
    let len = options.cuts.bool().then_some(body.len() as u64);
    let longest = [1, 3, 20, 200, 5000, 70_000][options.cuts.usize(0..6)];
    let mut decoder = Decoder::new(media, options.rules.clone(), options.limits, len);
    let mut rest = body;
    while !rest.is_empty() {
        let len = options.cuts.usize(1..=longest).min(rest.len());
        let (piece, after) = rest.split_at(len);
        decoder.push(piece)?;
        let kept = decoder.memory();
        // Lines, positions, errors; the carry; a bit for each level of nesting; the CSV header.
        let bound = 8 * body.len() + 2 * options.rules.record_bytes_max + (1 << 20);
        assert!(kept < bound, "{kept} bytes for {}", body.len());
        rest = after;
    }
    decoder.finish()
}

fn from_the_wire(
    options: &mut Options,
    media: Media,
    encoding: Encoding,
    body: &[u8],
    whole: &Result,
) {
    let wire = match encoding {
        Encoding::Gzip => {
            let mut reader = flate2::read::GzEncoder::new(body, flate2::Compression::fast());
            let mut out = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut out).expect("reads memory");
            out
        }
        Encoding::Zstd => zstd::encode_all(body, 1).expect("reads memory"),
        _ => body.to_vec(),
    };
    let key = BatchKey {
        client: "c",
        key: "k",
        site: "",
        media_type: media.name(),
    };
    let mut decoder = BodyDecoder::new(BodyHead {
        media,
        encoding,
        rules: options.rules.clone(),
        limits: options.limits,
        decoded_bytes_max: body.len() as u64,
        wire_len: options.cuts.bool().then_some(wire.len() as u64),
        key: Some(key.begin(None)),
    });
    let longest = options.cuts.usize(1..=wire.len().max(1));
    let mut run = || -> std::result::Result<Decoded, BodyError> {
        for mut piece in wire.chunks(longest) {
            while decoder.push(&mut piece)? == Progress::More {}
            assert!(piece.is_empty());
        }
        loop {
            if let Some(decoded) = decoder.finish()? {
                return Ok(decoded);
            }
        }
    };
    match (run(), whole) {
        (Ok(decoded), Ok(batch)) => {
            assert_eq!(decoded.batch, *batch);
            assert_eq!(decoded.id, Some(key.batch_id(body)));
            assert_eq!(decoded.decoded_bytes, body.len() as u64);
        }
        (Err(error), Err(expected)) => assert_eq!(error, *expected),
        (run, _) => panic!("{run:?} for {whole:?}"),
    }
}

/// Structure as `serde_json` sees it, but for what is no UTF-8, which it refuses.
fn json_is_what_serde_says(text: &[u8], whole: &Result) {
    if std::str::from_utf8(text).is_err() {
        return;
    }
    let first = text.trim_ascii_start().first().copied();
    let theirs =
        serde_json::from_slice::<IgnoredAny>(text).is_ok() && matches!(first, Some(b'[' | b'{'));
    match whole {
        Ok(decoded) => {
            assert!(theirs, "serde_json refuses it");
            let elements = match serde_json::from_slice::<Vec<IgnoredAny>>(text) {
                Ok(elements) => elements.len(),
                Err(_) => 1,
            };
            let total = decoded.records.len() as u64 + decoded.rejected;
            assert_eq!(total, elements as u64);
        }
        Err(BodyError::Unreadable { message }) => {
            assert!(!theirs, "serde_json reads it: {message}");
        }
        Err(error) => assert!(error.is_too_large()),
    }
}

fn filled_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    text.split(|byte| *byte == b'\n')
        .filter(move |line| !line.iter().all(blank))
}

fn each_line_alone_is_the_same(options: &Options, text: &[u8], decoded: &DecodedBatch) {
    let mut accepted = decoded.records.iter();
    let mut errors = decoded.errors.iter();
    for (index, line) in filled_lines(text).enumerate() {
        let mut alone = Vec::new();
        let result = append_json(line, &options.rules, &mut alone);
        let too_long = line.len() > 2 * options.rules.record_bytes_max + RAW_SLACK_BYTES;
        match result {
            Ok(()) if !too_long => {
                let (sequence, line) = accepted.next().expect("it is a record");
                assert_eq!((sequence as usize, line), (index, &alone[..]));
            }
            result => {
                // Later ones are only counted.
                let Some(error) = errors.next() else { continue };
                assert_eq!(error.index as usize, index);
                if too_long {
                    assert_eq!(error.error.code, RecordErrorCode::TooLarge);
                } else {
                    assert_eq!(Err(error.error.clone()), result);
                }
            }
        }
    }
    assert!(accepted.next().is_none() && errors.next().is_none());
}
