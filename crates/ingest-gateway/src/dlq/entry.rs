//! Entries of the dead letter queue. Pure: bytes in, bytes out.
//!
//! A data file (kind `pdlq`) holds entries, one a frame, integers big-endian:
//!
//! ```text
//! version 1 (u8) · reason (u8) · may have been sent (u8) · partition (i32, -1: unknown)
//! · since (i64, -1: unknown) · batch id (16) · received (i64, ms) · stored (i64, ms)
//! · cluster id (u16 length, text; empty: unknown) · topic (u16 length, text)
//! · count (u32) · sequences (count × u32) · ends (count × u32) · canonical lines
//! ```

use std::{ops::Range, sync::Arc};

use pipeline_core::{BatchId, Offset, PartitionId};

use super::bytes::{Rest, version};
use crate::{batch::start_of, decode::RecordBatch};

pub const DATA_KIND: [u8; 4] = *b"pdlq";
pub const VERSION: u8 = 1;
/// Lines of one entry, unless a single one is longer. What is written, read and sent again is in
/// memory entry by entry, however large the body was.
const LINES_BYTES_MAX: usize = 1024 * 1024;

/// Why a batch is here and not in Kafka.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The topic is not known yet: Kafka has not answered since the start.
    TopicUnknown,
    /// The partition's end could not be learnt, so nothing was sent.
    SinceUnknown,
    /// The circuit is open: Kafka is away.
    KafkaAway,
    /// Each attempt failed.
    RetriesExhausted,
    /// No time was left for another attempt.
    Deadline,
    /// The broker refuses the data.
    Poison,
    /// A single record is larger than the topic takes now.
    TooLarge,
    /// The broker refuses until someone changes something.
    Refused,
    /// The topic's settings would break the promise.
    TopicUnfit,
}

impl Reason {
    pub const ALL: [Self; 9] = [
        Self::TopicUnknown,
        Self::SinceUnknown,
        Self::KafkaAway,
        Self::RetriesExhausted,
        Self::Deadline,
        Self::Poison,
        Self::TooLarge,
        Self::Refused,
        Self::TopicUnfit,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TopicUnknown => "topic_unknown",
            Self::SinceUnknown => "since_unknown",
            Self::KafkaAway => "kafka_away",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Deadline => "deadline",
            Self::Poison => "poison",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::TopicUnfit => "topic_unfit",
        }
    }

    fn code(self) -> u8 {
        let place = Self::ALL.iter().position(|reason| *reason == self);
        u8::try_from(place.expect("ALL holds each reason")).expect("there are few reasons")
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// All of an entry but its records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub reason: Reason,
    /// A copy may be in the topic: partition and since are then fixed.
    pub may_have_been_sent: bool,
    pub partition: Option<PartitionId>,
    /// Where it may have been sent: its since. Else the partition's end known when it was stored.
    pub since: Option<Offset>,
    pub batch: BatchId,
    pub received_ms: i64,
    pub stored_ms: i64,
    /// Empty where it was not known.
    pub cluster_id: Arc<str>,
    pub topic: Arc<str>,
}

/// One entry on its way into a file: the records from `first` to before `end`.
#[derive(Debug)]
pub struct Entry {
    pub head: Head,
    pub records: Arc<RecordBatch>,
    pub first: usize,
    pub end: usize,
}

/// Entries of the records from `first` on.
#[must_use]
pub fn entries(head: &Head, records: &Arc<RecordBatch>, first: usize) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(1);
    let mut from = first;
    while from < records.len() {
        let fits = start_of(records, from) + LINES_BYTES_MAX;
        let end = records.ends.partition_point(|end| *end as usize <= fits);
        let end = end.max(from + 1);
        entries.push(Entry {
            head: head.clone(),
            records: Arc::clone(records),
            first: from,
            end,
        });
        from = end;
    }
    entries
}

impl Entry {
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.end - self.first
    }

    /// Bytes of the encoded entry, before compression.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let lines = self.lines().len();
        let texts = self.head.cluster_id.len() + self.head.topic.len();
        51 + 4 + texts + self.record_count() * 8 + lines
    }

    /// Replaces what `out` holds.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let head = &self.head;
        out.clear();
        out.reserve(self.encoded_len());
        let flag = u8::from(head.may_have_been_sent);
        out.extend([VERSION, head.reason.code(), flag]);
        let partition = head.partition.map_or(-1, |partition| partition.0);
        out.extend(partition.to_be_bytes());
        out.extend(head.since.map_or(-1, |since| since.0).to_be_bytes());
        out.extend(head.batch.0);
        out.extend(head.received_ms.to_be_bytes());
        out.extend(head.stored_ms.to_be_bytes());
        for text in [&head.cluster_id, &head.topic] {
            let len = u16::try_from(text.len()).expect("names in Kafka are short");
            out.extend(len.to_be_bytes());
            out.extend(text.as_bytes());
        }
        let count = u32::try_from(self.record_count()).expect("a batch counts in u32");
        out.extend(count.to_be_bytes());
        for sequence in &self.records.sequences[self.first..self.end] {
            out.extend(sequence.to_be_bytes());
        }
        let lines = self.lines();
        let base = u32::try_from(lines.start).expect("ends are u32");
        for end in &self.records.ends[self.first..self.end] {
            out.extend((end - base).to_be_bytes());
        }
        out.extend(&self.records.lines[lines]);
    }

    fn lines(&self) -> Range<usize> {
        start_of(&self.records, self.first)..start_of(&self.records, self.end)
    }
}

/// Reads an entry's head and the number of its records.
///
/// # Errors
/// Says what is wrong with it.
pub fn decode_head(payload: &[u8]) -> Result<(Head, u32), String> {
    let (head, count, _) = split(payload)?;
    Ok((head, count))
}

/// Reads a whole entry.
///
/// # Errors
/// Says what is wrong with it.
pub fn decode(payload: &[u8]) -> Result<(Head, RecordBatch), String> {
    let (head, count, mut rest) = split(payload)?;
    let count = count as usize;
    let sequences = words(rest.take(count.saturating_mul(4))?);
    let ends = words(rest.take(count.saturating_mul(4))?);
    let lines = rest.0.to_vec();
    let fits = ends.is_sorted() && ends.last().map_or(0, |end| *end as usize) == lines.len();
    if !fits {
        return Err("the ends of its records do not fit its lines".to_owned());
    }
    let records = RecordBatch {
        lines,
        ends,
        sequences,
    };
    Ok((head, records))
}

fn split(payload: &[u8]) -> Result<(Head, u32, Rest<'_>), String> {
    let mut rest = Rest(payload);
    version(&mut rest, VERSION)?;
    let reason = rest.u8()?;
    let reason =
        Reason::from_code(reason).ok_or_else(|| format!("entry with unknown reason {reason}"))?;
    let may_have_been_sent = rest.u8()? != 0;
    let partition = Some(rest.i32()?).filter(|n| *n >= 0).map(PartitionId);
    let since = Some(rest.i64()?).filter(|n| *n >= 0).map(Offset);
    let head = Head {
        reason,
        may_have_been_sent,
        partition,
        since,
        batch: BatchId(rest.array()?),
        received_ms: rest.i64()?,
        stored_ms: rest.i64()?,
        cluster_id: rest.text()?,
        topic: rest.text()?,
    };
    let count = rest.u32()?;
    Ok((head, count, rest))
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

#[cfg(test)]
pub mod test {
    use super::*;

    /// Of a batch that was never sent.
    pub fn head_of(batch: BatchId) -> Head {
        Head {
            reason: Reason::KafkaAway,
            may_have_been_sent: false,
            partition: None,
            since: None,
            batch,
            received_ms: 1,
            stored_ms: 2,
            cluster_id: "c".into(),
            topic: "t".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{test::head_of, *};
    use crate::batch::test::batch_of;

    fn entry(first: usize) -> Entry {
        let batch = batch_of(7, &["one", "", "three"]);
        Entry {
            head: Head {
                reason: Reason::Deadline,
                may_have_been_sent: true,
                partition: Some(PartitionId(3)),
                since: Some(Offset(99)),
                ..head_of(batch.id)
            },
            records: batch.records,
            first,
            end: 3,
        }
    }

    fn encoded(entry: &Entry) -> Vec<u8> {
        let mut out = vec![1, 2, 3];
        entry.encode_into(&mut out);
        out
    }

    #[test]
    fn an_entry_comes_back_as_it_was() {
        let entry = entry(0);
        let bytes = encoded(&entry);
        assert_eq!(bytes.len(), entry.encoded_len());
        let (head, records) = decode(&bytes).unwrap();
        assert_eq!(head, entry.head);
        assert_eq!(records, *entry.records);
        assert_eq!(decode_head(&bytes), Ok((head, 3)));
    }

    #[test]
    fn an_entry_of_what_is_left_keeps_the_sequences() {
        let entry = entry(1);
        let bytes = encoded(&entry);
        assert_eq!(bytes.len(), entry.encoded_len());
        let (_, records) = decode(&bytes).unwrap();
        assert_eq!(records.lines, b"three");
        assert_eq!(records.ends, [0, 5]);
        assert_eq!(records.sequences, [1, 2]);
    }

    #[test]
    fn a_large_batch_is_cut_into_entries_that_hold_all_of_it() {
        let line = |len: usize| "x".repeat(len);
        let (half, small, huge) = (
            line(LINES_BYTES_MAX / 2),
            line(10),
            line(2 * LINES_BYTES_MAX),
        );
        let lines = [&small, &half, &half, &huge, &small, &half, &small];
        let batch = batch_of(7, &lines.map(String::as_str));
        let head = entry(0).head;
        let cut = |first| -> Vec<_> {
            let entries = entries(&head, &batch.records, first);
            entries.iter().map(|e| (e.first, e.end)).collect()
        };
        assert_eq!(cut(0), [(0, 2), (2, 3), (3, 4), (4, 7)]);
        assert_eq!(cut(1), [(1, 3), (3, 4), (4, 7)]);
        assert_eq!(cut(7), []);
        let mut back = Vec::new();
        for entry in entries(&head, &batch.records, 0) {
            let bytes = encoded(&entry);
            assert_eq!(bytes.len(), entry.encoded_len());
            let (_, records) = decode(&bytes).unwrap();
            back.extend(records.iter().map(|(at, line)| (at, line.to_vec())));
        }
        let whole: Vec<_> = batch
            .records
            .iter()
            .map(|(at, line)| (at, line.to_vec()))
            .collect();
        assert_eq!(back, whole);
    }

    #[test]
    fn an_entry_cut_anywhere_is_refused_and_does_not_panic() {
        let bytes = encoded(&entry(0));
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len}");
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let mut damaged = bytes.clone();
            damaged[rng.usize(..bytes.len())] ^= 1 << rng.u32(..8);
            // Frames are checksummed; here only a panic would be wrong.
            let _ = decode(&damaged);
        }
    }

    #[test]
    fn each_reason_has_its_own_code() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
    }
}
