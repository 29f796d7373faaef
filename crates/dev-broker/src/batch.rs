//! The header of a record batch (magic 2): reading it, checking it, and putting an offset into it.
//! Never looks at single records: a broker that did would be the bottleneck of every load test.
//! Layout: <https://kafka.apache.org/documentation/#recordbatch>.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error_code as code;

/// Bytes before the first record.
pub(crate) const HEADER_LEN: usize = 61;
/// Base offset and length: what the length field does not count.
const PREFIX_LEN: usize = 12;
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_DELTA_AT: usize = 23;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_AT: usize = 43;
const COUNT_AT: usize = 57;
/// Of a control batch's only record: length, attributes, two deltas, the key's length and its
/// version come before the type, each of the first five in one byte.
const MARKER_TYPE_AT: usize = HEADER_LEN + 7;

pub(crate) const TRANSACTIONAL: i16 = 0x10;
pub(crate) const CONTROL: i16 = 0x20;

pub(crate) const CODEC_ZSTD: u8 = 4;

/// What the log keeps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHead {
    /// As found; the log gives its own.
    pub base_offset: i64,
    /// The whole batch, with its prefix.
    pub len: usize,
    pub epoch: i32,
    pub last_offset_delta: i32,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub count: i32,
    pub attributes: i16,
}

impl BatchHead {
    /// The first batch of `bytes`, if it is there to its end.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Self::parse(bytes).filter(|head| head.len <= bytes.len())
    }

    /// The head alone; the records may lie elsewhere.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_LEN || bytes[MAGIC_AT] != 2 {
            return None;
        }
        let len = usize::try_from(i32_at(bytes, 8)).ok()? + PREFIX_LEN;
        (len >= HEADER_LEN).then(|| Self {
            base_offset: i64_at(bytes, 0),
            len,
            epoch: i32_at(bytes, EPOCH_AT),
            last_offset_delta: i32_at(bytes, LAST_DELTA_AT),
            max_timestamp: i64_at(bytes, MAX_TIMESTAMP_AT),
            producer_id: i64_at(bytes, PRODUCER_AT),
            count: i32_at(bytes, COUNT_AT),
            attributes: i16::from_be_bytes([bytes[ATTRIBUTES_AT], bytes[ATTRIBUTES_AT + 1]]),
        })
    }

    pub(crate) fn codec(&self) -> u8 {
        (self.attributes & 0x7) as u8
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
}

/// Checks what a produce request brings for one partition, as a real broker does: exactly one
/// batch, magic 2, whole, its checksum right, its counts in agreement. The error is Kafka's code.
pub(crate) fn check_produced(bytes: &[u8]) -> Result<BatchHead, (i16, &'static str)> {
    if bytes.len() > MAGIC_AT && bytes[MAGIC_AT] < 2 {
        return Err((
            code::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            "only record batches of magic 2 are taken",
        ));
    }
    let head = BatchHead::read(bytes).ok_or((
        code::CORRUPT_MESSAGE,
        "the record batch is cut short or its length is wrong",
    ))?;
    if head.len != bytes.len() {
        return Err((
            code::INVALID_RECORD,
            "a partition of a produce request takes exactly one record batch",
        ));
    }
    if !crc_ok(bytes) {
        return Err((code::CORRUPT_MESSAGE, "the record batch fails its checksum"));
    }
    if head.count <= 0 || head.count.checked_sub(1) != Some(head.last_offset_delta) {
        return Err((
            code::INVALID_RECORD,
            "the record count and the last offset of the batch disagree",
        ));
    }
    if head.is_control() {
        return Err((
            code::INVALID_RECORD,
            "a client may not write control batches",
        ));
    }
    if head.codec() > CODEC_ZSTD {
        return Err((
            code::UNSUPPORTED_COMPRESSION_TYPE,
            "unknown compression of the record batch",
        ));
    }
    Ok(head)
}

/// Whether the checksum of one whole batch is right.
pub(crate) fn crc_ok(batch: &[u8]) -> bool {
    crc32c::crc32c(&batch[ATTRIBUTES_AT..]) == i32_at(batch, CRC_AT) as u32
}

/// What the marker in a control batch says; `None` for other batches.
pub(crate) fn marker_commits(batch: &[u8], head: &BatchHead) -> Option<bool> {
    let kind = batch.get(MARKER_TYPE_AT..MARKER_TYPE_AT + 2)?;
    (head.is_control() && head.is_transactional()).then_some(kind == [0, 1])
}

/// Sets length and checksum of a batch that has everything else.
pub(crate) fn seal(batch: &mut [u8]) {
    let len = (batch.len() - PREFIX_LEN) as i32;
    batch[8..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Base offset and leader epoch lie outside of the checksum, so that a broker can set them.
pub(crate) fn place(batch: &mut [u8], base_offset: i64, epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&epoch.to_be_bytes());
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(eight)
}
