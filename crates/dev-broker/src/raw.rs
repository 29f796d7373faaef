//! Record batches that no client of ours writes, but that a topic may hold: what a test appends
//! with [`crate::Broker::append`]. Uncompressed, and written here byte by byte, since encoders
//! for producers refuse most of it.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::batch::{self, CONTROL, TRANSACTIONAL};

const NO_PRODUCER: i64 = -1;

/// One batch, as some producer or the broker itself would have left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RawBatch {
    /// Values without key or header.
    Plain { values: Vec<String> },
    /// Each record has these headers, in this order; names may repeat and values be null.
    Headers {
        headers: Vec<(String, Option<String>)>,
        values: Vec<String>,
    },
    /// Records with a null value, as compacted topics have for deleted keys.
    NullValues { count: i32 },
    /// What compaction leaves: records at these distances from the base, which need neither
    /// begin at 0 nor be next to each other, in a batch that reaches to `last_delta`.
    Gaps {
        values: Vec<(i32, String)>,
        last_delta: i32,
    },
    /// Records of a transaction that is open until its marker.
    Transactional {
        producer_id: i64,
        values: Vec<String>,
    },
    /// A control batch: the end of a producer's transaction.
    Marker { producer_id: i64, commit: bool },
}

#[derive(Default)]
struct Record<'a> {
    delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [(String, Option<String>)],
}

impl RawBatch {
    /// The bytes of the batch; its base offset is the broker's to set.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Plain { values } => batch(0, NO_PRODUCER, None, &numbered(values, &[])),
            Self::Headers { headers, values } => {
                batch(0, NO_PRODUCER, None, &numbered(values, headers))
            }
            Self::NullValues { count } => {
                let each = (0..*count).map(|delta| Record {
                    delta,
                    ..Record::default()
                });
                batch(0, NO_PRODUCER, None, &each.collect::<Vec<_>>())
            }
            Self::Gaps { values, last_delta } => {
                let each = values.iter().map(|(delta, value)| Record {
                    delta: *delta,
                    value: Some(value.as_bytes()),
                    ..Record::default()
                });
                let records = each.collect::<Vec<_>>();
                batch(0, NO_PRODUCER, Some(*last_delta), &records)
            }
            Self::Transactional {
                producer_id,
                values,
            } => batch(TRANSACTIONAL, *producer_id, None, &numbered(values, &[])),
            Self::Marker {
                producer_id,
                commit,
            } => {
                // key: version, then 0 for abort and 1 for commit; value: version and epoch
                let key = [0, 0, 0, u8::from(*commit)];
                let marker = Record {
                    key: Some(&key),
                    value: Some(&[0; 6]),
                    ..Record::default()
                };
                batch(TRANSACTIONAL | CONTROL, *producer_id, None, &[marker])
            }
        }
    }
}

fn numbered<'a>(values: &'a [String], headers: &'a [(String, Option<String>)]) -> Vec<Record<'a>> {
    let each = (0..).zip(values).map(|(delta, value)| Record {
        delta,
        value: Some(value.as_bytes()),
        headers,
        ..Record::default()
    });
    each.collect()
}

fn batch(attributes: i16, producer: i64, last_delta: Option<i32>, records: &[Record<'_>]) -> Bytes {
    let now = batch::now_ms();
    let last = records.last().map_or(0, |record| record.delta);
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(0);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(attributes);
    out.put_i32(last_delta.unwrap_or(last));
    out.put_i64(now);
    out.put_i64(now);
    out.put_i64(producer);
    out.put_i16(if producer == NO_PRODUCER { -1 } else { 0 });
    out.put_i32(if producer == NO_PRODUCER { -1 } else { 0 });
    out.put_i32(records.len() as i32);
    for record in records {
        let mut body = BytesMut::new();
        body.put_i8(0);
        put_varint(&mut body, 0);
        put_varint(&mut body, record.delta);
        put_bytes(&mut body, record.key);
        put_bytes(&mut body, record.value);
        put_varint(&mut body, record.headers.len() as i32);
        for (name, value) in record.headers {
            put_bytes(&mut body, Some(name.as_bytes()));
            put_bytes(&mut body, value.as_ref().map(String::as_bytes));
        }
        put_varint(&mut out, body.len() as i32);
        out.extend_from_slice(&body);
    }
    batch::seal(&mut out);
    out.freeze()
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i32));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Zigzag, seven bits a byte.
fn put_varint(out: &mut BytesMut, value: i32) {
    let mut left = ((value << 1) ^ (value >> 31)) as u32;
    while left >= 0x80 {
        out.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}
