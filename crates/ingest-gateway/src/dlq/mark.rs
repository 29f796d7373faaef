//! Marks of the dead letter queue: what became of entries. Pure: bytes in, bytes out.
//!
//! A marks file (kind `pdlm`) lies beside a data file, in two equal copies, and names its entries
//! by their positions; one mark a frame, integers big-endian:
//!
//! ```text
//! version 1 (u8) · 1 sent   (u8) · n × (position u64 · partition i32 · since i64)
//! version 1 (u8) · 2 done   (u8) · n × (position u64 · records u32)
//! version 1 (u8) · 3 sealed (u8) · entries (u64) · records (u64) · bytes (u64)
//!   · oldest first receipt (i64, ms; -1: none)
//! ```

use pipeline_core::{Offset, PartitionId};

use super::bytes::{Rest, version};

pub const MARKS_KIND: [u8; 4] = *b"pdlm";
const VERSION: u8 = 1;

/// What became of entries of one data file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mark {
    /// About to be sent for the first time: from here on partition and since are fixed. Or its
    /// since was above the log's end, and has been put at its beginning.
    Sent(Vec<SentMark>),
    /// In Kafka.
    Done(Vec<DoneMark>),
    /// Nothing is appended to the data file any more, and this is what it held.
    Sealed(Sealed),
}

/// What a data file held when nothing was appended to it any more, done or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    pub entries: u64,
    pub records: u64,
    /// Of the data file.
    pub bytes: u64,
    /// Of what was left: the earliest first receipt, ms since 1970.
    pub oldest_ms: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentMark {
    pub position: u64,
    pub partition: PartitionId,
    pub since: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoneMark {
    pub position: u64,
    pub records: u32,
}

impl Mark {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::Sent(marks) => {
                out.push(1);
                for mark in marks {
                    out.extend(mark.position.to_be_bytes());
                    out.extend(mark.partition.0.to_be_bytes());
                    out.extend(mark.since.0.to_be_bytes());
                }
            }
            Self::Done(marks) => {
                out.push(2);
                for mark in marks {
                    out.extend(mark.position.to_be_bytes());
                    out.extend(mark.records.to_be_bytes());
                }
            }
            Self::Sealed(sealed) => {
                out.push(3);
                out.extend(sealed.entries.to_be_bytes());
                out.extend(sealed.records.to_be_bytes());
                out.extend(sealed.bytes.to_be_bytes());
                out.extend(sealed.oldest_ms.unwrap_or(-1).to_be_bytes());
            }
        }
        out
    }

    /// # Errors
    /// Says what is wrong with it.
    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        let mut rest = Rest(payload);
        version(&mut rest, VERSION)?;
        match rest.u8()? {
            1 => {
                let mut marks = Vec::new();
                while !rest.0.is_empty() {
                    marks.push(SentMark {
                        position: rest.u64()?,
                        partition: PartitionId(rest.i32()?),
                        since: Offset(rest.i64()?),
                    });
                }
                Ok(Self::Sent(marks))
            }
            2 => {
                let mut marks = Vec::new();
                while !rest.0.is_empty() {
                    marks.push(DoneMark {
                        position: rest.u64()?,
                        records: rest.u32()?,
                    });
                }
                Ok(Self::Done(marks))
            }
            3 => Ok(Self::Sealed(Sealed {
                entries: rest.u64()?,
                records: rest.u64()?,
                bytes: rest.u64()?,
                oldest_ms: Some(rest.i64()?).filter(|ms| *ms >= 0),
            })),
            other => Err(format!("mark of unknown kind {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were() {
        for mark in [
            Mark::Sent(vec![SentMark {
                position: 20,
                partition: PartitionId(1),
                since: Offset(7),
            }]),
            Mark::Done(vec![
                DoneMark {
                    position: 20,
                    records: 3,
                },
                DoneMark {
                    position: 99,
                    records: 1,
                },
            ]),
            Mark::Sealed(Sealed {
                entries: 2,
                records: 4,
                bytes: 99,
                oldest_ms: Some(5),
            }),
        ] {
            assert_eq!(Mark::decode(&mark.encode()), Ok(mark));
        }
        assert!(Mark::decode(&[2, 1]).is_err());
        assert!(Mark::decode(&[1, 9]).is_err());
    }
}
