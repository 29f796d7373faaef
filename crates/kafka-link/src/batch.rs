//! Record batches, magic 2, over plain bytes: no allocation per record in either direction.
//!
//! The format is KIP-98's (`RecordBatch`, magic 2): a header of 61 bytes and the records behind
//! it, compressed as one piece. Whole batches go into produce requests and come out of fetch
//! answers as they stand; nothing here talks to a broker.

mod codec;
mod decode;
mod encode;
mod varint;

use bytes::Bytes;
use pipeline_core::Offset;

pub use encode::BatchEncoder;

pub(crate) use decode::{Aborted, Room, decode_records};

/// Length of a record batch's header.
pub(crate) const HEADER_LEN: usize = 61;

/// Most memory that the records of one batch may take once decompressed: twice what the gateway
/// can be told to make of one.
pub const BATCH_MEMORY_MAX: usize = 128 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];
}

/// A finished batch, as it goes into a produce request.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    pub bytes: Bytes,
    pub count: u32,
}

/// The header named `sluice` of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderSlot {
    Absent,
    /// There, with a null value.
    Null,
    /// There more than once.
    Repeated,
    /// The batch would take more than [`BATCH_MEMORY_MAX`], so nothing of it is read: this message
    /// stands for all of its block.
    Oversized,
    /// The batch's checksum is right, and its content cannot be read: so some client has sent it.
    /// This message stands for all of its block; its value is the batch as it stands in the log.
    Unreadable,
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
    /// Bytes that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.len() + self.messages.len() * size_of::<Message>()
    }

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
