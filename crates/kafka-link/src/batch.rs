//! Record batches, magic 2, over plain bytes: no allocation per record in either direction.

use bytes::Bytes;
use pipeline_core::Offset;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Builds one record batch. Each message has no key, a value, and at most one header.
pub struct BatchEncoder {
    records: Vec<u8>,
    count: u32,
    timestamp_ms: i64,
}

/// A finished batch, as it goes into a produce request.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    pub bytes: Bytes,
    pub count: u32,
}

impl BatchEncoder {
    /// All messages of the batch get `timestamp_ms` (the time of this send).
    #[must_use]
    pub fn new(timestamp_ms: i64) -> Self {
        Self {
            records: Vec::new(),
            count: 0,
            timestamp_ms,
        }
    }

    pub fn push(&mut self, value: &[u8], header: Option<(&str, &[u8])>) {
        let _ = (value, header);
        todo!()
    }

    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Size of the batch so far, uncompressed, with its header.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size that one message adds, at most.
    #[must_use]
    pub fn message_len_max(value_len: usize, header_len: usize) -> usize {
        let _ = (value_len, header_len);
        todo!()
    }

    #[must_use]
    pub fn finish(self, codec: Codec) -> EncodedBatch {
        let _ = (codec, self.records, self.timestamp_ms);
        todo!()
    }
}

/// The header named `sluice` of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderSlot {
    Absent,
    /// There, with a null value.
    Null,
    /// There more than once.
    Repeated,
    /// A range of the block's bytes.
    At {
        start: u32,
        len: u32,
    },
}

/// One message: ranges into its [`MessageBlock`].
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub offset: Offset,
    pub timestamp_ms: i64,
    /// `None`: a null value.
    pub value: Option<(u32, u32)>,
    pub header: HeaderSlot,
}

/// The messages of one record batch, decompressed, in offset order. Control batches and what
/// compaction removed leave no message; `next` still goes past them. Aborted transactional
/// records are left out (read_committed).
#[derive(Clone, Debug)]
pub struct MessageBlock {
    pub bytes: Bytes,
    pub messages: Vec<Message>,
    /// Offset of the batch's first record (or of the fetch, where that is later).
    pub first: Offset,
    /// Where to go on after this block.
    pub next: Offset,
}

impl MessageBlock {
    #[must_use]
    pub fn value(&self, message: &Message) -> Option<&[u8]> {
        message
            .value
            .map(|(start, len)| &self.bytes[start as usize..(start + len) as usize])
    }

    #[must_use]
    pub fn header(&self, message: &Message) -> Option<&[u8]> {
        match message.header {
            HeaderSlot::At { start, len } => {
                Some(&self.bytes[start as usize..(start + len) as usize])
            }
            _ => None,
        }
    }
}
