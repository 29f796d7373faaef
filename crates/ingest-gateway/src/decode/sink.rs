//! Takes records in the order of the body, numbers them, and holds the limits of a batch.

use pipeline_core::record::{RecordError, Rules};

use super::{BodyError, DecodedBatch, IndexedError, Limits};

pub(super) struct Sink<'r> {
    pub rules: &'r Rules,
    limits: Limits,
    pub decoded: DecodedBatch,
    next_index: u32,
}

impl<'r> Sink<'r> {
    pub fn new(rules: &'r Rules, limits: Limits, body_len: usize) -> Self {
        let mut decoded = DecodedBatch::default();
        // Canonical lines are about as long as what they came from.
        decoded.records.lines.reserve(body_len);
        Self {
            rules,
            limits,
            decoded,
            next_index: 0,
        }
    }

    /// The next record, `raw`: `append` puts its line behind the others, or leaves nothing behind.
    #[inline]
    pub fn record(
        &mut self,
        raw: &[u8],
        append: impl FnOnce(&Rules, &mut Vec<u8>) -> Result<(), RecordError>,
    ) -> Result<(), BodyError> {
        match append(self.rules, &mut self.decoded.records.lines) {
            Ok(()) => self.accepted(),
            Err(error) => self.rejected(raw, error),
        }
    }

    /// A line stands behind the others.
    #[inline]
    pub fn accepted(&mut self) -> Result<(), BodyError> {
        let index = self.take_index()?;
        let allowed = self.limits.lines_bytes_max;
        let records = &mut self.decoded.records;
        match u32::try_from(records.lines.len()) {
            Ok(end) if end <= allowed => records.ends.push(end),
            _ => return Err(BodyError::TooLarge { allowed }),
        }
        records.sequences.push(index);
        Ok(())
    }

    #[cold]
    pub fn rejected(&mut self, raw: &[u8], error: RecordError) -> Result<(), BodyError> {
        let index = self.take_index()?;
        self.decoded.rejected += 1;
        self.decoded.rejected_by_code[error.code as usize] += 1;
        if self.decoded.errors.len() < self.limits.errors_max {
            let raw = &raw[..raw.len().min(self.limits.rejected_bytes_max)];
            self.decoded.errors.push(IndexedError {
                index,
                error,
                raw: raw.to_vec(),
            });
        }
        Ok(())
    }

    #[inline]
    fn take_index(&mut self) -> Result<u32, BodyError> {
        let index = self.next_index;
        if index >= self.limits.records_max {
            return Err(BodyError::TooManyRecords {
                allowed: self.limits.records_max,
            });
        }
        self.next_index = index + 1;
        Ok(index)
    }
}
