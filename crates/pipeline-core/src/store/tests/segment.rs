use std::{fs, io::Write, process::Command};

use sha2::Digest;

use super::*;

fn beginning() -> ChainEnd {
    ChainEnd {
        next: Offset(0),
        last: None,
        totals: Totals::default(),
        last_message: None,
    }
}

fn write(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.flush().unwrap();
    file
}

fn stored(line_count: u32) -> (Draft, Vec<u8>) {
    let draft = Draft {
        first: Offset(10),
        next: Offset(10 + i64::from(line_count)),
        previous: None,
        writer: [7; 16],
        fates: vec![FateRun {
            fate: Fate::Stored,
            count: u64::from(line_count),
        }],
        stored: vec![StoredRun {
            first: Offset(10),
            count: line_count,
            received_ms: 5,
            batch: Some(BatchId([1; 16])),
            first_sequence: 0,
        }],
        totals_before: Totals::default(),
        last: None,
    };
    let lines = (0..line_count).flat_map(|n| format!("{{\"line\":{n}}}\n").into_bytes());
    (draft, lines.collect())
}

#[test]
fn what_is_encoded_is_read_back() {
    let mut end = beginning();
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (draft, lines) = random_draft(&mut rng, &end);
        let encoded = draft.encode(&lines, 1);
        let file = write(&encoded.bytes);
        let (trailer, hash, ndjson) = read_segment(file.path()).unwrap();
        assert_eq!(trailer, encoded.trailer, "seed {seed}");
        assert_eq!(hash, encoded.hash);
        assert_eq!(ndjson, lines);
        assert_eq!(trailer.fates, draft.fates);
        assert_eq!(trailer.stored, draft.stored);
        assert_eq!(trailer.totals_before(), draft.totals_before);
        assert_eq!(
            read_trailer(file.as_file()).unwrap(),
            (trailer.clone(), hash),
            "the trailer alone says the same"
        );
        end = ChainEnd {
            next: trailer.next,
            last: Some(encoded.link()),
            totals: trailer.totals,
            last_message: trailer.last,
        };
    }
    assert!(end.totals.sum() > 10_000);
}

#[test]
fn records_pair_each_line_with_its_origin() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..50 {
        let (draft, lines) = random_draft(&mut rng, &beginning());
        let encoded = draft.encode(&lines, 1);
        let mut expected = Vec::new();
        for run in &draft.stored {
            for step in 0..run.count {
                expected.push((run, step));
            }
        }
        let text = String::from_utf8(lines.clone()).unwrap();
        let found: Vec<_> = encoded.trailer.records(&lines).collect();
        assert_eq!(found.len(), expected.len());
        assert_eq!(found.len(), text.lines().count());
        for ((record, (run, step)), line) in found.iter().zip(expected).zip(text.lines()) {
            assert_eq!(record.offset.0, run.first.0 + i64::from(step));
            assert_eq!(record.received_ms, run.received_ms);
            assert_eq!(record.batch, run.batch);
            assert_eq!(record.sequence, run.first_sequence + step);
            assert_eq!(record.line, line.as_bytes());
        }
    }
}

#[test]
fn runs_of_one_batch_cost_a_few_bytes_each() {
    // 512 records, of which each eighth is a duplicate, all of one batch.
    let (mut draft, _) = stored(512);
    draft.fates.clear();
    draft.stored.clear();
    let mut lines = Vec::new();
    for block in 0..64 {
        for (fate, count) in [(Fate::Stored, 7), (Fate::Duplicate, 1)] {
            draft.fates.push(FateRun { fate, count });
        }
        draft.stored.push(StoredRun {
            first: Offset(10 + block * 8),
            count: 7,
            received_ms: 1_700_000_000_000,
            batch: Some(BatchId([9; 16])),
            first_sequence: block as u32 * 8,
        });
        lines.extend_from_slice(&b"{}\n".repeat(7));
    }
    let encoded = draft.encode(&lines, 1);
    let trailer_len = encoded.bytes.len() as u64 - encoded.trailer.data_len;
    assert!(trailer_len < 700, "{trailer_len} bytes");
}

#[test]
fn zstdcat_shows_pure_ndjson() {
    let (draft, lines) = stored(1_000);
    let mut nothing = stored(1).0;
    nothing.fates[0].fate = Fate::Duplicate;
    nothing.stored.clear();
    for (encoded, plain) in [
        (draft.encode(&lines, 1), lines),
        (nothing.encode(b"", 1), Vec::new()),
    ] {
        let decoded = zstd::stream::decode_all(encoded.bytes.as_slice()).unwrap();
        assert_eq!(decoded, plain);
        let file = write(&encoded.bytes);
        match Command::new("zstdcat").arg(file.path()).output() {
            Ok(output) => {
                assert!(output.status.success(), "{output:?}");
                assert_eq!(output.stdout, plain);
            }
            // The library above has said the same already.
            Err(error) => eprintln!("zstdcat is not installed here: {error}"),
        }
    }
}

#[test]
fn data_carries_the_frame_checksum() {
    let (draft, lines) = stored(100);
    let encoded = draft.encode(&lines, 1);
    assert_eq!(encoded.bytes[4] & 0b100, 0b100, "RFC 8878, 3.1.1.1.1");
}

#[test]
fn every_flipped_byte_is_found() {
    let (draft, lines) = stored(20);
    let encoded = draft.encode(&lines, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    for at in 0..encoded.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = encoded.bytes.clone();
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            let found = read_segment(&path);
            assert!(
                matches!(found, Err(SegmentError::Damaged(_))),
                "byte {at} ^ {flip}: {found:?}"
            );
        }
    }
}

#[test]
fn a_file_cut_anywhere_or_continued_is_damaged() {
    let (draft, lines) = stored(20);
    let encoded = draft.encode(&lines, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    for len in 0..encoded.bytes.len() {
        fs::write(&path, &encoded.bytes[..len]).unwrap();
        assert!(read_segment(&path).is_err(), "{len} bytes");
        fs::write(&path, &encoded.bytes[encoded.bytes.len() - len..]).unwrap();
        assert!(read_segment(&path).is_err(), "last {len} bytes");
    }
    let twice = [encoded.bytes.as_slice(), &encoded.bytes].concat();
    fs::write(&path, twice).unwrap();
    assert!(read_segment(&path).is_err());
}

#[test]
fn an_unknown_version_is_refused_by_name() {
    let (draft, lines) = stored(20);
    let mut bytes = draft.encode(&lines, 1).bytes;
    let at = bytes.windows(4).rposition(|four| four == b"SLTR").unwrap();
    bytes[at + 4] = 2;
    let footer = bytes.len() - 16;
    let crc = crc32c::crc32c(&bytes[at..footer]);
    bytes[footer + 4..footer + 8].copy_from_slice(&crc.to_le_bytes());
    let file = write(&bytes);
    let error = read_trailer(file.as_file()).unwrap_err().to_string();
    assert_eq!(error, "trailer has version 2, known is 1");
}

#[test]
fn lines_that_are_not_the_stored_records_are_found() {
    let (draft, lines) = stored(20);
    let trailer = draft.encode(&lines, 1).trailer;
    let one_missing = &lines[..lines.len() - 12];
    let cut_off = &lines[..lines.len() - 1];
    for ndjson in [&lines, one_missing, cut_off] {
        let mut bytes = zstd::bulk::compress(ndjson, 1).unwrap();
        let trailer = codec::encode(&Trailer {
            data_len: bytes.len() as u64,
            data_sha256: sha2::Sha256::digest(&bytes).into(),
            plain_len: ndjson.len() as u64,
            ..trailer.clone()
        });
        bytes.extend_from_slice(&0x184D_2A50_u32.to_le_bytes());
        bytes.extend_from_slice(&(trailer.len() as u32 + 16).to_le_bytes());
        bytes.extend_from_slice(&trailer);
        bytes.extend_from_slice(&(trailer.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&trailer).to_le_bytes());
        bytes.extend_from_slice(b"SLUICEND");
        let outcome = read_segment(write(&bytes).path());
        if ndjson.len() == lines.len() {
            assert_eq!(outcome.unwrap().2, lines);
        } else {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("19 whole lines"), "{error}");
        }
    }
}

#[test]
fn random_bytes_behind_a_right_checksum_never_panic() {
    let (draft, lines) = stored(20);
    let whole = draft.encode(&lines, 1).bytes;
    let at = whole.windows(4).rposition(|four| four == b"SLTR").unwrap();
    let footer = whole.len() - 16;
    for seed in 0..3_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = whole.clone();
        for _ in 0..rng.u32(1..4) {
            bytes[rng.usize(at + 6..footer)] = rng.u8(..);
        }
        let crc = crc32c::crc32c(&bytes[at..footer]);
        bytes[footer + 4..footer + 8].copy_from_slice(&crc.to_le_bytes());
        // Either outcome is right, as the checksum is; that it comes is the claim.
        let _ = read_trailer(write(&bytes).as_file());
    }
}

#[test]
fn a_draft_that_contradicts_itself_is_a_bug_of_the_caller() {
    let cases: [fn(&mut Draft); 7] = [
        |draft| draft.next.0 += 1,
        |draft| draft.fates[0].count -= 1,
        |draft| draft.stored[0].count -= 1,
        |draft| draft.stored[0].first.0 += 1,
        |draft| draft.stored.clear(),
        |draft| draft.fates[0].fate = Fate::Poison,
        |draft| {
            draft.last = Some(LastMessage {
                offset: draft.next,
                hash: [0; 16],
            });
        },
    ];
    for (number, spoil) in cases.into_iter().enumerate() {
        let (mut draft, lines) = stored(20);
        spoil(&mut draft);
        let outcome = std::panic::catch_unwind(|| draft.encode(&lines, 1));
        assert!(outcome.is_err(), "case {number}");
    }
}

#[test]
fn message_hashes_differ_where_messages_do() {
    let all = [
        message_hash(1, Some(b"ab"), None),
        message_hash(2, Some(b"ab"), None),
        message_hash(1, Some(b"ab"), Some(b"")),
        message_hash(1, Some(b""), Some(b"ab")),
        message_hash(1, None, Some(b"ab")),
        message_hash(1, Some(b"a"), Some(b"b")),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "case {at}");
    }
    assert_eq!(
        message_hash(1, Some(b"ab"), None),
        all[0],
        "it is a function of the message"
    );
}
