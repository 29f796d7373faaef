//! Reads the record batches of a fetch answer into [`MessageBlock`]s.
//!
//! What a broker sends is checked before it is believed: lengths, checksum, number of records,
//! size once decompressed. Damage is an error that names the batch's offset; nothing panics. What
//! has the right checksum and cannot be read came from a client so: it is a message of its own kind.

use std::collections::HashSet;

use bytes::Bytes;
use pipeline_core::{Offset, envelope::HEADER_NAME};

use super::{
    BATCH_MEMORY_MAX, Codec, HEADER_LEN, HeaderSlot, Message, MessageBlock,
    codec::{self, Undone},
};
use crate::{KafkaError, batch::varint, error::ErrorKind};

/// Offset and length: enough to know how far a batch reaches.
const LOG_OVERHEAD: usize = 12;
const MAGIC_AT: usize = 16;
/// The smallest header that can stand behind [`LOG_OVERHEAD`].
const BODY_LEN_MIN: usize = HEADER_LEN - LOG_OVERHEAD;
/// The smallest record: each of its seven parts is a byte.
const RECORD_LEN_MIN: usize = 7;

const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// An aborted transaction, as a fetch answer lists them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// What the records of one partition hold.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub blocks: Vec<MessageBlock>,
    /// Where to go on; the offset asked for where nothing whole was there.
    pub next: Offset,
    /// Length of a first batch that did not come whole.
    pub cut_first: Option<usize>,
    /// How many bytes of the records were read for it.
    pub wire_bytes: usize,
}

/// What blocks may take of memory.
#[derive(Debug)]
pub(crate) struct Room {
    /// They are copied out of the records, which others have a part of too: one block that is kept
    /// long would keep all.
    pub copied: bool,
    /// Bytes left; the block that comes to them is the last.
    pub bytes: usize,
    /// Bytes taken.
    pub taken: usize,
}

/// Reads the batches in `records` from offset `from` on, as far as there is room.
///
/// Damage behind a good batch is left for the next fetch, which begins at it.
///
/// # Errors
/// `Poison` for damaged data, `Fatal` for the formats before Kafka 0.11.
pub(crate) fn decode_records(
    records: &Bytes,
    from: Offset,
    aborted: &[Aborted],
    room: &mut Room,
) -> Result<Decoded, KafkaError> {
    let mut decoded = Decoded {
        blocks: Vec::new(),
        next: from,
        cut_first: None,
        wire_bytes: 0,
    };
    let mut transactions = Transactions::new(aborted);
    let mut rest = records.clone();
    while !rest.is_empty() && room.bytes > 0 {
        let batch = match split_batch(&mut rest) {
            Ok(batch) => batch,
            Err(Broken::Cut { len }) => {
                if decoded.next == from {
                    decoded.cut_first = Some(len);
                }
                break;
            }
            Err(Broken::Damaged(_)) if decoded.next > from => break,
            Err(Broken::Damaged(error)) => return Err(error),
        };
        match read_batch(&batch, decoded.next, &mut transactions, room.copied) {
            Ok(Some(block)) => {
                decoded.next = block.next;
                room.bytes = room.bytes.saturating_sub(block.memory());
                room.taken += block.memory();
                decoded.blocks.push(block);
            }
            Ok(None) => {}
            Err(_) if decoded.next > from => break,
            Err(error) => return Err(error),
        }
        decoded.wire_bytes = records.len() - rest.len();
    }
    Ok(decoded)
}

/// Why there is no whole batch at the front.
enum Broken {
    /// The fetch's limit cut it; it has `len` bytes.
    Cut {
        len: usize,
    },
    Damaged(KafkaError),
}

/// Which producers' records are of an aborted transaction, at a place in the log.
struct Transactions {
    /// By first offset, greatest first: the next to begin is the last.
    waiting: Vec<Aborted>,
    aborting: HashSet<i64>,
}

impl Transactions {
    fn new(aborted: &[Aborted]) -> Self {
        let mut waiting = aborted.to_vec();
        waiting.sort_unstable_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
        Self {
            waiting,
            aborting: HashSet::new(),
        }
    }

    /// Whether the batch's records were aborted. Batches come in the log's order.
    fn drops(&mut self, header: &Header) -> bool {
        while let Some(aborted) = self
            .waiting
            .pop_if(|aborted| aborted.first_offset <= header.last_offset())
        {
            self.aborting.insert(aborted.producer_id);
        }
        header.attributes & TRANSACTIONAL != 0 && self.aborting.contains(&header.producer_id)
    }

    fn ends(&mut self, producer_id: i64) {
        self.aborting.remove(&producer_id);
    }
}

struct Header {
    base_offset: i64,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    count: i32,
}

impl Header {
    fn read(batch: &[u8]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(array(batch, 0)),
            attributes: i16::from_be_bytes(array(batch, 21)),
            last_offset_delta: i32::from_be_bytes(array(batch, 23)),
            base_timestamp: i64::from_be_bytes(array(batch, 27)),
            max_timestamp: i64::from_be_bytes(array(batch, 35)),
            producer_id: i64::from_be_bytes(array(batch, 43)),
            count: i32::from_be_bytes(array(batch, 57)),
        }
    }

    fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }
}

fn split_batch(rest: &mut Bytes) -> Result<Bytes, Broken> {
    if rest.len() < LOG_OVERHEAD {
        return Err(Broken::Cut { len: LOG_OVERHEAD });
    }
    let offset = i64::from_be_bytes(array(rest, 0));
    let body = i32::from_be_bytes(array(rest, 8));
    let damaged = |kind, what: String| {
        Broken::Damaged(KafkaError {
            kind,
            code: None,
            message: format!("batch at offset {offset}: {what}"),
        })
    };
    // Before the length: the oldest message has a shorter header than ours.
    if let Some(&magic) = rest.get(MAGIC_AT)
        && magic < 2
    {
        return Err(damaged(
            ErrorKind::Fatal,
            format!("message format v{magic} (before Kafka 0.11) is not supported"),
        ));
    }
    let Some(body) = usize::try_from(body)
        .ok()
        .filter(|body| *body >= BODY_LEN_MIN)
    else {
        return Err(damaged(
            ErrorKind::Poison,
            format!("its length says {body} bytes, expected {BODY_LEN_MIN} or more"),
        ));
    };
    let len = LOG_OVERHEAD + body;
    if rest.len() < len {
        return Err(Broken::Cut { len });
    }
    let batch = rest.split_to(len);
    let magic = batch[MAGIC_AT];
    if magic != 2 {
        return Err(damaged(
            ErrorKind::Fatal,
            format!("message format v{magic} is not known, expected v2"),
        ));
    }
    Ok(batch)
}

/// The batch's block; `None` where all of it lies below `from`.
fn read_batch(
    batch: &Bytes,
    from: Offset,
    transactions: &mut Transactions,
    copied: bool,
) -> Result<Option<MessageBlock>, KafkaError> {
    let header = Header::read(batch);
    let poison = |what: String| KafkaError {
        kind: ErrorKind::Poison,
        code: None,
        message: format!("batch at offset {}: {what}", header.base_offset),
    };
    let claimed = u32::from_be_bytes(array(batch, 17));
    let found = crc32c::crc32c(&batch[21..]);
    if claimed != found {
        return Err(poison(format!(
            "its checksum is {found:08x}, expected {claimed:08x}"
        )));
    }
    if header.base_offset < 0 || header.last_offset_delta < 0 || header.last_offset() == i64::MAX {
        return Err(poison(format!(
            "its offsets are impossible (last offset delta {})",
            header.last_offset_delta
        )));
    }
    let dropped = transactions.drops(&header);
    let control = header.attributes & CONTROL != 0;
    if header.last_offset() < from.0 {
        if control {
            transactions.ends(header.producer_id);
        }
        return Ok(None);
    }
    let mut block = MessageBlock {
        bytes: Bytes::new(),
        messages: Vec::new(),
        first: Offset(header.base_offset.max(from.0)),
        next: Offset(header.last_offset() + 1),
    };
    if control {
        // An abort or commit marker: either way the producer's transaction is over. Other
        // control records do not occur in topics.
        transactions.ends(header.producer_id);
        return Ok(Some(block));
    }
    if dropped {
        return Ok(Some(block));
    }
    let compressed = batch.slice(HEADER_LEN..);
    block.bytes = match codec::from_attributes(header.attributes).map_err(poison)? {
        Codec::None if copied => Bytes::copy_from_slice(&compressed),
        Codec::None => compressed,
        codec => match codec::decompress(codec, &compressed, BATCH_MEMORY_MAX) {
            Ok(records) => records.into(),
            Err(Undone::Damaged(_)) => return Ok(Some(unreadable(&header, block, batch))),
            Err(Undone::TooLarge) => return Ok(Some(oversized(&header, block))),
        },
    };
    let count = usize::try_from(header.count).unwrap_or(0);
    let memory = count.saturating_mul(size_of::<Message>());
    if block.bytes.len().saturating_add(memory) > BATCH_MEMORY_MAX
        && count <= block.bytes.len() / RECORD_LEN_MIN
    {
        return Ok(Some(oversized(&header, block)));
    }
    if read_messages(&header, from, &mut block).is_err() {
        return Ok(Some(unreadable(&header, block, batch)));
    }
    Ok(Some(block))
}

/// The block of a batch of which nothing is read.
fn oversized(header: &Header, block: MessageBlock) -> MessageBlock {
    stood_for(header, block, HeaderSlot::Oversized, Bytes::new())
}

/// The block of a batch that came as it was written, and makes no sense.
fn unreadable(header: &Header, block: MessageBlock, batch: &[u8]) -> MessageBlock {
    let batch = Bytes::copy_from_slice(batch);
    stood_for(header, block, HeaderSlot::Unreadable, batch)
}

fn stood_for(header: &Header, block: MessageBlock, slot: HeaderSlot, bytes: Bytes) -> MessageBlock {
    let message = Message {
        offset: block.first,
        timestamp_ms: header.max_timestamp,
        // Its length comes from 32 bits.
        value: (!bytes.is_empty()).then_some((0, bytes.len() as u32)),
        header: slot,
    };
    MessageBlock {
        bytes,
        messages: vec![message],
        ..block
    }
}

/// A batch that is not what its header says.
struct Malformed;

fn read_messages(header: &Header, from: Offset, block: &mut MessageBlock) -> Result<(), Malformed> {
    let bytes = &block.bytes[..];
    let count = usize::try_from(header.count)
        .ok()
        .filter(|count| *count <= bytes.len() / RECORD_LEN_MIN)
        .ok_or(Malformed)?;
    block.messages.reserve_exact(count);
    let mut at = 0;
    for _ in 0..count {
        let message = read_message(header, bytes, &mut at).ok_or(Malformed)?;
        // A fetch from the middle of a batch gets the batch whole.
        if message.offset >= from {
            block.messages.push(message);
        }
    }
    if at == bytes.len() {
        Ok(())
    } else {
        Err(Malformed)
    }
}

/// One record at `*at`; `None` where it is malformed.
#[inline]
fn read_message(header: &Header, bytes: &[u8], at: &mut usize) -> Option<Message> {
    let len = usize::try_from(varint::get(bytes, at)?).ok()?;
    let end = at.checked_add(len).filter(|end| *end <= bytes.len())?;
    // Nothing of a record is read from behind its end.
    let bytes = &bytes[..end];
    *at += 1; // attributes: none are defined
    let timestamp_delta = varint::get(bytes, at)?;
    let offset_delta = varint::get(bytes, at)?;
    if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
        return None;
    }
    let _key = read_nullable(bytes, at)?;
    let value = read_nullable(bytes, at)?;
    let headers = varint::get(bytes, at)?;
    if headers < 0 {
        return None;
    }
    let mut slot = HeaderSlot::Absent;
    for _ in 0..headers {
        let (start, len) = read_nullable(bytes, at)??;
        let name = &bytes[start as usize..(start + len) as usize];
        let value = read_nullable(bytes, at)?;
        if name == HEADER_NAME.as_bytes() {
            slot = match (slot, value) {
                (HeaderSlot::Absent, None) => HeaderSlot::Null,
                (HeaderSlot::Absent, Some((start, len))) => HeaderSlot::At { start, len },
                _ => HeaderSlot::Repeated,
            };
        }
    }
    if *at != end {
        return None;
    }
    Some(Message {
        offset: Offset(header.base_offset + offset_delta),
        timestamp_ms: if header.attributes & LOG_APPEND_TIME != 0 {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(timestamp_delta)
        },
        value,
        header: slot,
    })
}

/// Bytes with their length in front, as a range; the inner `None` is null.
#[inline]
#[allow(clippy::option_option)]
fn read_nullable(bytes: &[u8], at: &mut usize) -> Option<Option<(u32, u32)>> {
    let len = varint::get(bytes, at)?;
    if len == -1 {
        return Some(None);
    }
    let len = usize::try_from(len).ok()?;
    let start = *at;
    let end = start.checked_add(len).filter(|end| *end <= bytes.len())?;
    *at = end;
    // Both fit: a block is far below 4 GiB.
    Some(Some((start as u32, len as u32)))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("the batch's length is checked before its fields are read")
}

#[cfg(test)]
mod tests;
