//! From the wire to the batch: limits, bombs, identity.

use super::inflating::{ENCODINGS, compressed};
use super::*;
use crate::identity::BatchKey;

fn head(media: Media, encoding: Encoding) -> BodyHead {
    BodyHead {
        media,
        encoding,
        rules: rules(),
        limits: Limits::default(),
        decoded_bytes_max: 128 << 20,
        wire_len: None,
        key: None,
    }
}

/// Everything that came of a body, given in pieces; the greatest memory.
fn run(head: BodyHead, wire: &[u8], piece: usize) -> (Result<Decoded, BodyError>, usize) {
    let mut body = BodyDecoder::new(head);
    let mut memory = 0;
    for mut piece in wire.chunks(piece) {
        loop {
            let progress = match body.push(&mut piece) {
                Ok(progress) => progress,
                Err(error) => return (Err(error), memory),
            };
            memory = memory.max(body.memory());
            if progress == Progress::Idle {
                assert!(piece.is_empty());
                break;
            }
        }
    }
    loop {
        let result = body.finish();
        memory = memory.max(body.memory());
        match result {
            Ok(None) => {}
            Ok(Some(decoded)) => return (Ok(decoded), memory),
            Err(error) => return (Err(error), memory),
        }
    }
}

#[test]
fn the_limit_is_exact() {
    let exact = items_len();
    for encoding in ENCODINGS.into_iter().chain([Encoding::Identity]) {
        let wire = compressed(encoding);
        for piece in [1, wire.len()] {
            let with = |decoded_bytes_max| BodyHead {
                decoded_bytes_max,
                ..head(Media::Text, encoding)
            };
            let decoded = run(with(exact), &wire, piece).0.expect("it fits");
            assert_eq!(decoded.decoded_bytes, exact, "{encoding:?}");
            assert_eq!(decoded.batch.rejected, 40, "{encoding:?}");
            for allowed in [exact - 1, 0] {
                assert_eq!(
                    run(with(allowed), &wire, piece).0.unwrap_err(),
                    BodyError::DecodedTooLong { allowed },
                    "{encoding:?}"
                );
            }
        }
    }
}

fn items_len() -> u64 {
    compressed(Encoding::Identity).len() as u64
}

/// `items` compressed with what makes long bodies short.
fn gzip_of(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

/// Repetitive records, and how many: about 100 times shorter when compressed.
fn many(bytes: usize) -> (Vec<u8>, usize) {
    let line = format!("{GOOD}\n");
    let count = bytes / line.len();
    (line.repeat(count).into_bytes(), count)
}

#[test]
fn a_bomb_of_valid_records_costs_its_window_and_not_its_size() {
    const MIB: usize = 1 << 20;
    let (text, _) = many(200 * MIB);
    for (encoding, wire) in [
        (Encoding::Gzip, gzip_of(&text)),
        (
            Encoding::Zstd,
            ::zstd::encode_all(text.as_slice(), 1).expect("compresses"),
        ),
        (
            Encoding::Brotli,
            inflating::bytes_of(inflating::BROTLI_BOMB),
        ),
    ] {
        for piece in [1000, wire.len()] {
            let (result, memory) = run(head(Media::Ndjson, encoding), &wire, piece);
            let error = result.unwrap_err();
            assert!(error.is_too_large(), "{encoding:?}: {error}");
            assert!(memory < 16 * MIB, "{encoding:?}: {memory}");
        }
    }
}

#[test]
fn whether_a_window_is_too_large_is_the_same_whatever_the_pieces() {
    const RUN_BYTES: usize = 13 << 20;
    let lines = format!("{GOOD}\n").repeat(900);
    // 290 KiB as they are: with the blank lines about 46 times the body in all.
    let put_lines = |bits: &mut inflating::Bits| {
        for _ in 0..5 {
            bits.put_bytes(lines.as_bytes());
        }
    };
    let mut late = inflating::Bits::with_window_of_16_mib();
    put_lines(&mut late);
    late.put_run(b'\n', RUN_BYTES);
    let mut early = inflating::Bits::with_window_of_16_mib();
    early.put_run(b'\n', RUN_BYTES);
    put_lines(&mut early);
    let (late, early) = (late.end(), early.end());
    for piece in [1, 1000, 16 * 1024 + 1, 1 << 20] {
        let (result, _) = run(head(Media::Ndjson, Encoding::Brotli), &late, piece);
        let decoded = result.expect("it fits");
        assert_eq!(decoded.batch.records.len(), 5 * 900, "{piece}");
        assert_eq!(
            decoded.decoded_bytes as usize,
            RUN_BYTES + 5 * lines.len(),
            "{piece}"
        );
        let (result, memory) = run(head(Media::Ndjson, Encoding::Brotli), &early, piece);
        let found = 16 << 20;
        assert_eq!(
            result.map(|_| ()),
            Err(BodyError::WindowTooLarge { found }),
            "in pieces of {piece}"
        );
        assert!(memory < 16 << 20, "{memory}");
    }
}

#[test]
fn steps_end_early_where_each_few_bytes_are_a_rejected_record() {
    // As it comes, and after it was measured.
    for (element, bytes) in [("{},", 1 << 20), ("{},      ", 5 << 20)] {
        let count = bytes / element.len();
        let text = format!("[{}{{}}]", element.repeat(count)).into_bytes();
        for (encoding, wire) in [
            (Encoding::Identity, text.clone()),
            (Encoding::Gzip, gzip_of(&text)),
        ] {
            let mut body = BodyDecoder::new(head(Media::Json, encoding));
            let (mut left, mut steps) = (&wire[..], 1);
            while body.push(&mut left).expect("readable") == Progress::More {
                steps += 1;
            }
            let decoded = loop {
                match body.finish().expect("readable") {
                    Some(decoded) => break decoded,
                    None => steps += 1,
                }
            };
            assert_eq!(decoded.batch.rejected, count as u64 + 1, "{encoding:?}");
            // The first piece is large: nobody knows yet.
            let first = 64 * 1024 / element.len();
            let least = (count - first) / (4096 + 4096 / element.len());
            assert!(steps >= least, "{encoding:?}: {steps} steps, not {least}");
        }
    }
}

#[test]
fn what_is_measured_and_fits_is_decoded_as_any_other() {
    let (text, count) = many(20 << 20);
    let key = BatchKey {
        client: "",
        key: "k",
        site: "",
        media_type: Media::Ndjson.name(),
    };
    let wire = gzip_of(&text);
    assert!(wire.len() * 50 < text.len());
    let head = BodyHead {
        key: Some(key.begin(None)),
        ..head(Media::Ndjson, Encoding::Gzip)
    };
    let decoded = run(head, &wire, 5000).0.expect("it fits");
    assert_eq!(decoded.id, Some(key.batch_id(&text)));
    assert_eq!(decoded.batch.records.len(), count);
    assert_eq!(decoded.decoded_bytes, text.len() as u64);
}

#[test]
fn a_step_does_a_bounded_amount_of_work() {
    let (text, _) = many(20 << 20);
    let wire = gzip_of(&text);
    let mut body = BodyDecoder::new(head(Media::Ndjson, Encoding::Gzip));
    let mut rest = wire.as_slice();
    let mut steps = 1;
    while body.push(&mut rest).expect("it fits") == Progress::More {
        steps += 1;
    }
    assert!(steps >= text.len() / (256 * 1024), "{steps}");
    let mut steps = 0;
    while body.finish().expect("it fits").is_none() {
        steps += 1;
    }
    assert!(steps >= text.len() / (256 * 1024), "{steps}");
}

#[test]
fn ids_are_the_same_whatever_the_encoding_and_the_length() {
    let text = compressed(Encoding::Identity);
    let key = BatchKey {
        client: "c",
        key: "k",
        site: "",
        media_type: Media::Text.name(),
    };
    for encoding in ENCODINGS.into_iter().chain([Encoding::Identity]) {
        let wire = compressed(encoding);
        for wire_len in [None, Some(wire.len() as u64)] {
            let head = BodyHead {
                wire_len,
                key: Some(key.begin(None)),
                ..head(Media::Text, encoding)
            };
            let decoded = run(head, &wire, 7).0.expect("readable");
            assert_eq!(decoded.id, Some(key.batch_id(&text)), "{encoding:?}");
        }
    }
}
