//! The `sluice` message header: who a record is, wherever it goes.
//!
//! 37 bytes, big-endian: version 1 (u8), batch id (16 bytes), sequence (u32), time of first
//! receipt (i64, ms since 1970), since (i64, an offset).

use crate::ids::{BatchId, Offset};

/// The name of the one header.
pub const HEADER_NAME: &str = "sluice";
/// Length of an encoded envelope.
pub const ENVELOPE_LEN: usize = 37;
const VERSION: u8 = 1;

/// Identity of one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    pub batch: BatchId,
    /// The record's place in the body it came in (the `index` of the HTTP answer).
    pub sequence: u32,
    /// When the gateway first received the batch, ms since 1970.
    pub received_ms: i64,
    /// No copy of this batch from its gateway lies below this offset of its partition.
    pub since: Offset,
}

/// Why a header is not an envelope.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("header `sluice` has {found} bytes, expected {ENVELOPE_LEN}")]
    Length { found: usize },
    #[error("header `sluice` has version {found}, known is {VERSION}")]
    Version { found: u8 },
    #[error("header `sluice` has a negative {field}: {found}")]
    Negative { field: &'static str, found: i64 },
}

impl Envelope {
    #[must_use]
    pub fn encode(&self) -> [u8; ENVELOPE_LEN] {
        let mut out = [0; ENVELOPE_LEN];
        out[0] = VERSION;
        out[1..17].copy_from_slice(&self.batch.0);
        out[17..21].copy_from_slice(&self.sequence.to_be_bytes());
        out[21..29].copy_from_slice(&self.received_ms.to_be_bytes());
        out[29..37].copy_from_slice(&self.since.0.to_be_bytes());
        out
    }

    /// # Errors
    /// Says what was found where `bytes` is not an envelope of the known version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        // An unknown version is named as such, whatever its length.
        if let Some(&version) = bytes.first()
            && version != VERSION
        {
            return Err(EnvelopeError::Version { found: version });
        }
        let Ok(bytes) = <&[u8; ENVELOPE_LEN]>::try_from(bytes) else {
            return Err(EnvelopeError::Length { found: bytes.len() });
        };
        let mut batch = [0; 16];
        batch.copy_from_slice(&bytes[1..17]);
        let int = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(word)
        };
        let mut sequence = [0; 4];
        sequence.copy_from_slice(&bytes[17..21]);
        let (received_ms, since) = (int(21), int(29));
        for (field, found) in [("receipt time", received_ms), ("since", since)] {
            if found < 0 {
                return Err(EnvelopeError::Negative { field, found });
            }
        }
        Ok(Self {
            batch: BatchId(batch),
            sequence: u32::from_be_bytes(sequence),
            received_ms,
            since: Offset(since),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Envelope = Envelope {
        batch: BatchId([7; 16]),
        sequence: 0x0102_0304,
        received_ms: 1_700_000_000_123,
        since: Offset(99),
    };

    #[test]
    fn layout_is_the_contract() {
        let bytes = SAMPLE.encode();
        assert_eq!(bytes.len(), 37);
        assert_eq!(bytes[0], 1);
        assert_eq!(&bytes[17..21], &[1, 2, 3, 4]);
        assert_eq!(Envelope::decode(&bytes), Ok(SAMPLE));
    }

    #[test]
    fn malformed_headers_say_what_was_found() {
        assert_eq!(
            Envelope::decode(&[1, 2]),
            Err(EnvelopeError::Length { found: 2 })
        );
        assert_eq!(
            Envelope::decode(&[]),
            Err(EnvelopeError::Length { found: 0 })
        );
        assert_eq!(
            Envelope::decode(&[9; 50]),
            Err(EnvelopeError::Version { found: 9 })
        );
        let mut bytes = SAMPLE.encode();
        bytes[29] = 0xff;
        assert!(matches!(
            Envelope::decode(&bytes),
            Err(EnvelopeError::Negative { field: "since", .. })
        ));
    }
}
