//! One message put aside, as bytes.
//!
//! A frame's payload is a version (u8 = 1), the topic's name (u16 length, UTF-8), its id (u8
//! length, UTF-8), the partition (i32), and entries to its end; integers big-endian:
//!
//! ```text
//! kind (u8) · offset (i64) · message timestamp (i64) · header · value · detail (u32 length, UTF-8)
//! header   0 absent | 1 null | 2 more than once | 3, length (u32), bytes
//! value    0 null   | 1, length (u32), bytes
//! ```

use std::borrow::Cow;

use kafka_link::{HeaderSlot, Message, MessageBlock};
use pipeline_core::{Offset, PartitionId};

const VERSION: u8 = 1;

/// Why a message is here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum EntryKind {
    Poison = 1,
    Undecidable = 2,
    /// A copy of a message whose save failed; the message itself is still in Kafka.
    Unsaved = 3,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryHeader<'a> {
    Absent,
    Null,
    Repeated,
    Bytes(&'a [u8]),
}

impl EntryKind {
    pub const ALL: [Self; 3] = [Self::Poison, Self::Undecidable, Self::Unsaved];

    /// On command lines and in what they print.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Undecidable => "undecidable",
            Self::Unsaved => "copy",
        }
    }
}

/// One message with the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    pub kind: EntryKind,
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub header: EntryHeader<'a>,
    /// `None`: a null value.
    pub value: Option<&'a [u8]>,
    pub detail: Cow<'a, str>,
}

impl<'a> Entry<'a> {
    /// A message as it stands in Kafka.
    #[must_use]
    pub fn of(
        kind: EntryKind,
        block: &'a MessageBlock,
        message: &'a Message,
        detail: Cow<'a, str>,
    ) -> Self {
        Self {
            kind,
            offset: message.offset,
            timestamp_ms: message.timestamp_ms,
            header: match message.header {
                HeaderSlot::Absent | HeaderSlot::Oversized | HeaderSlot::Unreadable => {
                    EntryHeader::Absent
                }
                HeaderSlot::Null => EntryHeader::Null,
                HeaderSlot::Repeated => EntryHeader::Repeated,
                HeaderSlot::At { .. } => {
                    EntryHeader::Bytes(block.header(message).unwrap_or_default())
                }
            },
            value: block.value(message),
            detail,
        }
    }
}

/// What all entries of a frame share.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    pub topic: String,
    /// Empty where the broker gives none.
    pub topic_id: String,
    pub partition: PartitionId,
}

/// Why a payload is none of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a dead letter payload: {0}")]
pub struct PayloadError(pub(super) String);

/// Begins a payload.
pub fn begin(place: &Place, out: &mut Vec<u8>) {
    out.push(VERSION);
    let topic_len = u16::try_from(place.topic.len()).expect("Kafka bounds a topic's name");
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(place.topic.as_bytes());
    out.push(u8::try_from(place.topic_id.len()).expect("a topic id has 32 digits"));
    out.extend_from_slice(place.topic_id.as_bytes());
    out.extend_from_slice(&place.partition.0.to_be_bytes());
}

/// Appends one entry to a payload that was begun.
pub fn append(entry: &Entry<'_>, out: &mut Vec<u8>) {
    out.push(entry.kind as u8);
    out.extend_from_slice(&entry.offset.0.to_be_bytes());
    out.extend_from_slice(&entry.timestamp_ms.to_be_bytes());
    match entry.header {
        EntryHeader::Absent => out.push(0),
        EntryHeader::Null => out.push(1),
        EntryHeader::Repeated => out.push(2),
        EntryHeader::Bytes(bytes) => {
            out.push(3);
            append_bytes(bytes, out);
        }
    }
    match entry.value {
        None => out.push(0),
        Some(bytes) => {
            out.push(1);
            append_bytes(bytes, out);
        }
    }
    append_bytes(entry.detail.as_bytes(), out);
}

/// Reads a payload, entry by entry.
///
/// # Errors
/// Says what was found where it is none.
pub fn read(payload: &[u8], visit: &mut dyn FnMut(&Place, &Entry<'_>)) -> Result<(), PayloadError> {
    let mut rest = Rest(payload);
    let place = read_place(&mut rest)?;
    while !rest.0.is_empty() {
        let kind = match rest.u8()? {
            1 => EntryKind::Poison,
            2 => EntryKind::Undecidable,
            3 => EntryKind::Unsaved,
            other => return Err(PayloadError(format!("entry of kind {other}"))),
        };
        let offset = Offset(i64::from_be_bytes(rest.array()?));
        let timestamp_ms = i64::from_be_bytes(rest.array()?);
        let header = match rest.u8()? {
            0 => EntryHeader::Absent,
            1 => EntryHeader::Null,
            2 => EntryHeader::Repeated,
            3 => EntryHeader::Bytes(rest.bytes()?),
            other => return Err(PayloadError(format!("header form {other}"))),
        };
        let value = match rest.u8()? {
            0 => None,
            1 => Some(rest.bytes()?),
            other => return Err(PayloadError(format!("value form {other}"))),
        };
        let detail = String::from_utf8_lossy(rest.bytes()?);
        visit(
            &place,
            &Entry {
                kind,
                offset,
                timestamp_ms,
                header,
                value,
                detail,
            },
        );
    }
    Ok(())
}

/// What a payload begins with.
pub(super) fn read_place(rest: &mut Rest<'_>) -> Result<Place, PayloadError> {
    let version = rest.u8()?;
    if version != VERSION {
        return Err(PayloadError(format!(
            "version {version}, known is {VERSION}"
        )));
    }
    let topic_len = u16::from_be_bytes(rest.array()?);
    let topic = rest.text(usize::from(topic_len))?.to_owned();
    let id_len = rest.u8()?;
    let topic_id = rest.text(usize::from(id_len))?.to_owned();
    let partition = PartitionId(i32::from_be_bytes(rest.array()?));
    Ok(Place {
        topic,
        topic_id,
        partition,
    })
}

fn append_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(bytes.len()).expect("a message is smaller than 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], PayloadError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| {
            PayloadError(format!(
                "ends early: {len} bytes wanted, {} left",
                self.0.len()
            ))
        })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], PayloadError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes as asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, PayloadError> {
        Ok(self.array::<1>()?[0])
    }

    fn bytes(&mut self) -> Result<&'a [u8], PayloadError> {
        let len = u32::from_be_bytes(self.array()?);
        self.take(len as usize)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, PayloadError> {
        std::str::from_utf8(self.take(len)?)
            .map_err(|_| PayloadError("a name that is not UTF-8".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            topic: "logs".to_owned(),
            topic_id: "0123456789abcdef0123456789abcdef".to_owned(),
            partition: PartitionId(3),
        }
    }

    fn entries() -> Vec<Entry<'static>> {
        let headers = [
            EntryHeader::Absent,
            EntryHeader::Null,
            EntryHeader::Repeated,
            EntryHeader::Bytes(b"\x09xyz"),
        ];
        let kinds = [
            EntryKind::Poison,
            EntryKind::Undecidable,
            EntryKind::Unsaved,
            EntryKind::Poison,
        ];
        (0..4)
            .map(|n| Entry {
                kind: kinds[n],
                offset: Offset(i64::MAX - n as i64),
                timestamp_ms: -1,
                header: headers[n],
                value: (n % 2 == 0).then_some(b"{}\n\0".as_slice()),
                detail: format!("reason {n} ü").into(),
            })
            .collect()
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let mut payload = Vec::new();
        begin(&place(), &mut payload);
        for entry in &entries() {
            append(entry, &mut payload);
        }
        let mut seen = 0;
        read(&payload, &mut |read_place, entry| {
            assert_eq!(*read_place, place());
            assert_eq!(*entry, entries()[seen]);
            seen += 1;
        })
        .expect("whole");
        assert_eq!(seen, 4);
    }

    #[test]
    fn a_cut_payload_is_an_error_never_a_panic() {
        let mut payload = Vec::new();
        begin(&place(), &mut payload);
        let head = payload.len();
        append(&entries()[3], &mut payload);
        for len in 0..payload.len() {
            let result = read(&payload[..len], &mut |_, _| panic!("nothing whole"));
            assert_eq!(result.is_ok(), len == head, "cut at {len}");
        }
        payload[0] = 9;
        let error = read(&payload, &mut |_, _| {}).expect_err("unknown version");
        assert!(error.to_string().contains("version 9"), "{error}");
    }
}
