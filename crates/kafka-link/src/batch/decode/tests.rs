use pipeline_core::envelope::HEADER_NAME;

use super::*;
use crate::batch::BatchEncoder;

const AT: i64 = 1_000;

fn batch_of(values: &[&[u8]], codec: Codec, base: i64) -> Vec<u8> {
    let mut encoder = BatchEncoder::new(AT);
    for value in values {
        encoder.push(value, Some((HEADER_NAME, b"identity")));
    }
    let mut bytes = encoder.finish(codec).bytes.to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes
}

/// Changes header fields and makes the checksum right again.
fn patch(mut batch: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut batch);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn transactional(batch: Vec<u8>, producer: i64) -> Vec<u8> {
    patch(batch, |batch| {
        batch[22] |= TRANSACTIONAL as u8;
        batch[43..51].copy_from_slice(&producer.to_be_bytes());
    })
}

fn control(base: i64, producer: i64) -> Vec<u8> {
    patch(batch_of(&[b"marker"], Codec::None, base), |batch| {
        batch[22] |= (TRANSACTIONAL | CONTROL) as u8;
        batch[43..51].copy_from_slice(&producer.to_be_bytes());
    })
}

fn decode(parts: &[&[u8]], from: i64, aborted: &[Aborted]) -> Result<Decoded, KafkaError> {
    let mut room = Room {
        copied: false,
        bytes: usize::MAX,
        taken: 0,
    };
    decode_records(
        &Bytes::from(parts.concat()),
        Offset(from),
        aborted,
        &mut room,
    )
}

fn offsets(decoded: &Decoded) -> Vec<i64> {
    let messages = decoded.blocks.iter().flat_map(|block| &block.messages);
    messages.map(|message| message.offset.0).collect()
}

#[test]
fn every_codec_comes_back_with_offsets_values_and_header() {
    let mut rng = fastrand::Rng::with_seed(5);
    let values: Vec<Vec<u8>> = (0..700)
        .map(|_| {
            let bound = 1 << rng.u32(1..12);
            vec![b'v'; rng.usize(0..bound)]
        })
        .collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    for codec in Codec::ALL {
        let decoded = decode(&[&batch_of(&values, codec, 50)], 50, &[]).unwrap();
        let block = &decoded.blocks[0];
        assert_eq!((block.first.0, block.next.0), (50, 750));
        assert_eq!(decoded.next.0, 750);
        assert_eq!(block.messages.len(), values.len());
        for (index, message) in block.messages.iter().enumerate() {
            assert_eq!(message.offset.0, 50 + index as i64);
            assert_eq!(message.timestamp_ms, AT);
            assert_eq!(block.value(message), Some(values[index]));
            assert_eq!(block.header(message), Some(&b"identity"[..]));
        }
    }
}

#[test]
fn a_fetch_from_the_middle_leaves_out_what_is_before() {
    let batch = batch_of(&[b"a", b"b", b"c"], Codec::Lz4, 10);
    let decoded = decode(&[&batch], 11, &[]).unwrap();
    assert_eq!(offsets(&decoded), [11, 12]);
    assert_eq!(decoded.blocks[0].first.0, 11);
    let below = decode(&[&batch], 13, &[]).unwrap();
    assert!(below.blocks.is_empty());
    assert_eq!(below.next.0, 13);
}

#[test]
fn a_cut_last_batch_is_ignored_and_a_cut_first_one_is_told() {
    let batch = batch_of(&[b"a", b"b"], Codec::None, 0);
    let second = batch_of(&[b"c"], Codec::None, 2);
    for cut in 1..second.len() {
        let decoded = decode(&[&batch, &second[..cut]], 0, &[]).unwrap();
        assert_eq!(offsets(&decoded), [0, 1]);
        assert_eq!((decoded.next.0, decoded.cut_first), (2, None));
    }
    let decoded = decode(&[&batch[..batch.len() - 1]], 0, &[]).unwrap();
    assert_eq!((decoded.next.0, decoded.cut_first), (0, Some(batch.len())));
}

#[test]
fn a_wrong_checksum_names_the_offset_and_keeps_what_was_before() {
    let good = batch_of(&[b"a", b"b"], Codec::None, 0);
    let mut bad = batch_of(&[b"c"], Codec::None, 2);
    *bad.last_mut().unwrap() ^= 1;
    let decoded = decode(&[&good, &bad], 0, &[]).unwrap();
    assert_eq!((offsets(&decoded), decoded.next.0), (vec![0, 1], 2));
    let error = decode(&[&bad], 2, &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Poison);
    assert!(
        error.message.contains("batch at offset 2: its checksum"),
        "{error}"
    );
}

#[test]
fn old_formats_are_fatal_and_named() {
    for magic in [0, 1, 3] {
        let mut old = batch_of(&[b"a"], Codec::None, 7);
        old[MAGIC_AT] = magic;
        let error = decode(&[&old], 7, &[]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fatal);
        assert!(error.message.contains(&format!("v{magic}")), "{error}");
    }
}

#[test]
fn control_batches_are_stepped_over() {
    let before = batch_of(&[b"a"], Codec::None, 4);
    let after = batch_of(&[b"b"], Codec::None, 6);
    let decoded = decode(&[&before, &control(5, 9), &after], 4, &[]).unwrap();
    assert_eq!(offsets(&decoded), [4, 6]);
    let alone = decode(&[&control(5, 9)], 5, &[]).unwrap();
    assert_eq!((offsets(&alone), alone.next.0), (vec![], 6));
}

#[test]
fn only_aborted_records_are_left_out() {
    let aborted = [Aborted {
        producer_id: 9,
        first_offset: 1,
    }];
    let parts = [
        transactional(batch_of(&[b"committed"], Codec::None, 0), 8),
        transactional(batch_of(&[b"aborted"], Codec::Zstd, 1), 9),
        batch_of(&[b"plain"], Codec::None, 2),
        transactional(batch_of(&[b"aborted"], Codec::None, 3), 9),
        control(4, 9),
        transactional(batch_of(&[b"the same producer's next"], Codec::None, 5), 9),
    ];
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let decoded = decode(&parts, 0, &aborted).unwrap();
    assert_eq!(offsets(&decoded), [0, 2, 5]);
    assert_eq!(decoded.next.0, 6);
    // A fetch that begins inside the transaction leaves out its rest.
    let decoded = decode(&parts[3..], 3, &aborted).unwrap();
    assert_eq!(offsets(&decoded), [5]);
}

#[test]
fn log_append_time_is_the_batch_s() {
    let batch = patch(batch_of(&[b"a", b"b"], Codec::None, 0), |batch| {
        batch[22] |= LOG_APPEND_TIME as u8;
        batch[35..43].copy_from_slice(&77_i64.to_be_bytes());
    });
    let decoded = decode(&[&batch], 0, &[]).unwrap();
    let times = decoded.blocks[0].messages.iter().map(|m| m.timestamp_ms);
    assert_eq!(times.collect::<Vec<_>>(), [77, 77]);
}

#[test]
fn foreign_keys_nulls_and_headers_are_read() {
    use kafka_protocol::{
        indexmap::IndexMap,
        protocol::StrBytes,
        records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType},
    };
    let record = |offset,
                  value: Option<&'static [u8]>,
                  headers: &[(&'static str, Option<&'static [u8]>)]| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: 100 + offset,
        key: Some(Bytes::from_static(b"key")),
        value: value.map(Bytes::from_static),
        headers: headers
            .iter()
            .map(|(name, value)| {
                (
                    StrBytes::from_static_str(name),
                    value.map(Bytes::from_static),
                )
            })
            .collect::<IndexMap<_, _>>(),
    };
    let records = [
        record(0, None, &[]),
        record(1, Some(b"v"), &[("other", None), ("sluice", Some(b"s"))]),
        record(2, Some(b""), &[("sluice", None)]),
    ];
    let mut bytes = bytes::BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::Gzip,
    };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    let decoded = decode(&[&bytes], 0, &[]).unwrap();
    let block = &decoded.blocks[0];
    let [null, other, null_header] = &block.messages[..] else {
        panic!("{:?}", block.messages);
    };
    assert_eq!((block.value(null), null.header), (None, HeaderSlot::Absent));
    assert_eq!(null.timestamp_ms, 100);
    assert_eq!(block.value(other), Some(&b"v"[..]));
    assert_eq!(block.header(other), Some(&b"s"[..]));
    assert_eq!(other.timestamp_ms, 101);
    assert_eq!(block.value(null_header), Some(&b""[..]));
    assert_eq!(null_header.header, HeaderSlot::Null);
}

#[test]
fn a_header_given_twice_is_repeated() {
    // One record by hand: attributes, deltas, null key, value "v", two headers `sluice`.
    let mut record = vec![0, 0, 0, 1, 2, b'v', 4];
    for _ in 0..2 {
        record.push(12);
        record.extend_from_slice(b"sluice");
        record.extend_from_slice(&[2, b'x']);
    }
    let mut batch = batch_of(&[b"a"], Codec::None, 0);
    batch.truncate(HEADER_LEN);
    batch.push((record.len() * 2) as u8);
    batch.extend_from_slice(&record);
    let batch = patch(batch, |batch| {
        let len = batch.len() as i32 - 12;
        batch[8..12].copy_from_slice(&len.to_be_bytes());
    });
    let decoded = decode(&[&batch], 0, &[]).unwrap();
    assert_eq!(decoded.blocks[0].messages[0].header, HeaderSlot::Repeated);
}

#[test]
fn what_we_encode_others_read() {
    use kafka_protocol::records::RecordBatchDecoder;
    for codec in Codec::ALL {
        let mut batch = Bytes::from(batch_of(&[b"one", b"", b"three"], codec, 20));
        let set = RecordBatchDecoder::decode(&mut batch).unwrap();
        let values: Vec<_> = set
            .records
            .iter()
            .map(|r| r.value.clone().unwrap())
            .collect();
        assert_eq!(values, [&b"one"[..], b"", b"three"]);
        assert_eq!(set.records[2].offset, 22);
        assert_eq!(set.records[2].timestamp, AT);
        let header = set.records[0].headers.get_index(0).unwrap();
        assert_eq!(&header.0[..], HEADER_NAME);
        assert_eq!(header.1.as_deref(), Some(&b"identity"[..]));
    }
}

#[test]
fn damaged_batches_with_a_right_checksum_never_panic() {
    let mut rng = fastrand::Rng::with_seed(23);
    let (mut errors, mut unreadable) = (0, 0);
    for codec in Codec::ALL {
        let batch = batch_of(&[b"some value", b"another", b""], codec, 3);
        for _ in 0..3_000 {
            let broken = patch(batch.clone(), |batch| {
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(0..batch.len());
                    batch[at] = rng.u8(..);
                }
            });
            match decode(&[&broken], 3, &[]) {
                Ok(decoded) => {
                    for block in &decoded.blocks {
                        for message in &block.messages {
                            let _ = (block.value(message), block.header(message));
                            unreadable += u32::from(message.header == HeaderSlot::Unreadable);
                        }
                    }
                }
                Err(error) => {
                    assert!(error.message.contains("batch at offset"), "{error}");
                    errors += 1;
                }
            }
        }
    }
    assert!(errors > 500 && unreadable > 500, "{errors} {unreadable}");
}

#[test]
fn reading_ends_with_the_block_that_fills_the_room_and_goes_on_behind_it() {
    let value = vec![b'v'; 1_000];
    let batch = |base| batch_of(&[&value[..]; 10], Codec::Zstd, base);
    let records = Bytes::from([batch(0), batch(10), batch(20)].concat());
    let mut room = Room {
        copied: false,
        bytes: 12_000,
        taken: 0,
    };
    let decoded = decode_records(&records, Offset(0), &[], &mut room).unwrap();
    assert_eq!((decoded.blocks.len(), decoded.next), (2, Offset(20)));
    assert_eq!((room.bytes, decoded.wire_bytes), (0, records.len() / 3 * 2));
    assert!(room.taken > 20_000, "{}", room.taken);
    let none = decode_records(&records, Offset(0), &[], &mut room).unwrap();
    assert_eq!((none.blocks.len(), none.next), (0, Offset(0)));
}

#[test]
fn a_copied_block_keeps_nothing_of_the_answer() {
    let records = Bytes::from(batch_of(&[b"v"], Codec::None, 0));
    for copied in [false, true] {
        let mut room = Room {
            copied,
            bytes: usize::MAX,
            taken: 0,
        };
        let decoded = decode_records(&records, Offset(0), &[], &mut room).unwrap();
        let within = records
            .as_ptr_range()
            .contains(&decoded.blocks[0].bytes.as_ptr());
        assert_eq!(within, !copied);
    }
}

#[test]
fn of_a_batch_that_would_take_too_much_one_message_stands_for_all_offsets() {
    let large = vec![0; BATCH_MEMORY_MAX + 1];
    let bomb = batch_of(&[b"v", &large, b"v"], Codec::Zstd, 50);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    // Each of these is small, and what is known of them is not.
    let many = vec![&b""[..]; BATCH_MEMORY_MAX / size_of::<Message>()];
    let many = batch_of(&many, Codec::Zstd, 53);
    let end = 53 + (BATCH_MEMORY_MAX / size_of::<Message>()) as i64;
    let behind = batch_of(&[b"good"], Codec::None, end);
    let decoded = decode(&[&bomb, &many, &behind], 51, &[]).unwrap();
    let oversized = |message: &Message| message.header == HeaderSlot::Oversized;
    let found: Vec<_> = decoded
        .blocks
        .iter()
        .map(|block| (block.first.0, block.next.0, oversized(&block.messages[0])))
        .collect();
    let expected = [(51, 53, true), (53, end, true), (end, end + 1, false)];
    assert_eq!(found, expected);
    assert_eq!(offsets(&decoded), [51, 53, end]);
    assert!(decoded.blocks.iter().all(|block| block.memory() < 1_000));
}

#[test]
fn a_batch_that_came_as_written_and_makes_no_sense_is_one_message_that_holds_it() {
    let spoilt = |at: usize, codec| {
        let mut batch = batch_of(&[b"one", b"two"], codec, 7);
        batch[at] ^= 0x55;
        let checksum = crc32c::crc32c(&batch[21..]).to_be_bytes();
        batch[17..21].copy_from_slice(&checksum);
        batch
    };
    let behind = batch_of(&[b"good"], Codec::None, 9);
    // The number of records, a record's length, what is compressed.
    for (at, codec) in [
        (60, Codec::None),
        (HEADER_LEN, Codec::None),
        (HEADER_LEN, Codec::Zstd),
        (HEADER_LEN, Codec::Gzip),
    ] {
        let bad = spoilt(at, codec);
        let decoded = decode(&[&bad, &behind], 8, &[]).unwrap();
        assert_eq!(offsets(&decoded), [8, 9]);
        let block = &decoded.blocks[0];
        assert_eq!((block.first.0, block.next.0), (8, 9));
        assert_eq!(block.messages[0].header, HeaderSlot::Unreadable);
        assert_eq!(block.value(&block.messages[0]), Some(&bad[..]));
    }
}
