//! Builds a record batch in place: header and records in one buffer, patched at the end.

use bytes::Bytes;
use pipeline_core::envelope::HEADER_NAME;

use super::{Codec, EncodedBatch, HEADER_LEN, codec, varint};

/// Magic 2 is the only version written.
const MAGIC: u8 = 2;

/// Builds one record batch. Each message has no key, a value, and at most one header.
pub struct BatchEncoder {
    /// The batch so far; its first [`HEADER_LEN`] bytes are filled in by `finish`.
    batch: Vec<u8>,
    count: u32,
    timestamp_ms: i64,
}

impl BatchEncoder {
    /// All messages of the batch get `timestamp_ms` (the time of this send).
    #[must_use]
    pub fn new(timestamp_ms: i64) -> Self {
        Self::with_capacity(timestamp_ms, 0)
    }

    /// As [`new`](Self::new), with room for `bytes` of messages.
    #[must_use]
    pub fn with_capacity(timestamp_ms: i64, bytes: usize) -> Self {
        let mut batch = Vec::with_capacity(HEADER_LEN + bytes);
        batch.resize(HEADER_LEN, 0);
        Self {
            batch,
            count: 0,
            timestamp_ms,
        }
    }

    pub fn push(&mut self, value: &[u8], header: Option<(&str, &[u8])>) {
        let offset_delta = i64::from(self.count);
        let body = body_len(offset_delta, value.len(), header);
        let out = &mut self.batch;
        varint::put(out, body as i64);
        out.push(0); // attributes: none are defined
        varint::put(out, 0); // timestamp delta: all have the batch's
        varint::put(out, offset_delta);
        varint::put(out, -1); // no key
        put_bytes(out, value);
        match header {
            None => varint::put(out, 0),
            Some((name, value)) => {
                varint::put(out, 1);
                put_bytes(out, name.as_bytes());
                put_bytes(out, value);
            }
        }
        self.count += 1;
    }

    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Size of the batch so far, uncompressed, with its header.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size that one message adds, at most, where its header (if any) is named `sluice`.
    #[must_use]
    pub fn message_len_max(value_len: usize, header_len: usize) -> usize {
        let no_header = [];
        // The greatest offset delta has the longest varint; the rest is known.
        let fixed = body_len(i64::from(u32::MAX), 0, Some((HEADER_NAME, &no_header)));
        let body = fixed
            + (varint::len(value_len as i64) - 1 + value_len)
            + (varint::len(header_len as i64) - 1 + header_len);
        varint::len(body as i64) + body
    }

    /// Closes the batch. An encoder that fails (out of memory, in the C libraries) leaves the
    /// records uncompressed: any broker takes these too.
    #[must_use]
    pub fn finish(self, codec: Codec) -> EncodedBatch {
        let Self {
            mut batch,
            count,
            timestamp_ms,
        } = self;
        let mut attributes = 0;
        if codec != Codec::None {
            let records = &batch[HEADER_LEN..];
            let mut out = Vec::with_capacity(HEADER_LEN + records.len() / 2 + 64);
            out.resize(HEADER_LEN, 0);
            match codec::compress(codec, records, &mut out) {
                Ok(()) => {
                    batch = out;
                    attributes = codec::attribute(codec);
                }
                Err(error) => {
                    tracing::warn!(?codec, %error, "failed to compress a batch, sent plain");
                }
            }
        }
        write_header(&mut batch, count, timestamp_ms, attributes);
        EncodedBatch {
            bytes: Bytes::from(batch),
            count,
        }
    }
}

fn body_len(offset_delta: i64, value_len: usize, header: Option<(&str, &[u8])>) -> usize {
    let header_len = header.map_or(0, |(name, value)| {
        bytes_len(name.len()) + bytes_len(value.len())
    });
    // attributes, timestamp delta, null key and number of headers are one byte each
    4 + varint::len(offset_delta) + bytes_len(value_len) + header_len
}

fn bytes_len(len: usize) -> usize {
    varint::len(len as i64) + len
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

fn write_header(batch: &mut [u8], count: u32, timestamp_ms: i64, attributes: i16) {
    let length = i32::try_from(batch.len() - 12).expect("a batch is far below 2 GiB");
    let last_delta = i32::try_from(count).expect("a batch has fewer than 2^31 messages") - 1;
    batch[0..8].copy_from_slice(&0_i64.to_be_bytes()); // base offset: the broker's to give
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[12..16].copy_from_slice(&(-1_i32).to_be_bytes()); // partition leader epoch
    batch[16] = MAGIC;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[23..27].copy_from_slice(&last_delta.to_be_bytes());
    batch[27..35].copy_from_slice(&timestamp_ms.to_be_bytes());
    batch[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
    batch[43..51].copy_from_slice(&(-1_i64).to_be_bytes()); // producer id: not idempotent
    batch[51..53].copy_from_slice(&(-1_i16).to_be_bytes()); // producer epoch
    batch[53..57].copy_from_slice(&(-1_i32).to_be_bytes()); // base sequence
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_foretold_holds_the_message() {
        let mut rng = fastrand::Rng::with_seed(1);
        let bytes = vec![b'x'; 300_000];
        for _ in 0..500 {
            let bound = 1 << rng.u32(0..18);
            let value = &bytes[..rng.usize(0..bound)];
            let header = &bytes[..rng.usize(0..200)];
            let mut encoder = BatchEncoder::new(1);
            encoder.count = rng.u32(0..1 << 20);
            let before = encoder.len();
            encoder.push(value, Some((HEADER_NAME, header)));
            let added = encoder.len() - before;
            let foretold = BatchEncoder::message_len_max(value.len(), header.len());
            assert!(added <= foretold, "{added} > {foretold}");
            assert!(foretold - added <= 6, "{foretold} is far above {added}");
        }
    }
}
