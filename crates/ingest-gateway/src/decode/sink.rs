//! Takes records in the order of the body, numbers them, and holds the limits of a batch.

use pipeline_core::record::{self, RecordError, RecordErrorCode, Refusal, Rules};

use super::{BodyError, DecodedBatch, IndexedError, Limits};

/// A record may come with that much around it (blanks, line breaks, quotes, fields that are not
/// kept), and as much again as its line may have; what is longer is too large, whatever it says.
const RAW_SLACK_BYTES: usize = 64 * 1024;
/// Room for lines grows by what is there, from this up to that: the length of a body is a claim,
/// and what is made room for counts as used.
const ROOM_BYTES_MIN: usize = 4 * 1024;
const ROOM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A finished batch gives back more room than this.
const WASTE_BYTES_MAX: usize = 16 * 1024;

/// How the text of one record is judged, and its line made. Asked for the code alone first, and
/// for the whole error only where that is kept: a body may be all faults.
pub(super) trait Judge {
    /// Puts the line of `raw` behind the others, or leaves nothing behind.
    fn append<R: Refusal>(&self, raw: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), R>;
}

/// As JSON.
pub(super) struct AsJson;

/// It is too long, and has so many bytes.
struct TooLong(usize);

pub(super) struct Sink {
    rules: Rules,
    raw_max: usize,
    limits: Limits,
    decoded: DecodedBatch,
    next_index: u32,
    errors_bytes: usize,
}

impl Sink {
    pub fn new(rules: Rules, limits: Limits) -> Self {
        let raw_max = rules
            .record_bytes_max
            .saturating_mul(2)
            .saturating_add(RAW_SLACK_BYTES);
        Self {
            rules,
            raw_max,
            limits,
            decoded: DecodedBatch::default(),
            next_index: 0,
            errors_bytes: 0,
        }
    }

    /// Longest record as it comes, in bytes.
    pub fn raw_max(&self) -> usize {
        self.raw_max
    }

    /// How much is kept of a record that is longer.
    pub fn head_max(&self) -> usize {
        self.limits.rejected_bytes_max.min(self.raw_max())
    }

    /// Makes room for a piece of the body of `piece` bytes: `passed` bytes are decoded, and so many
    /// are `left`, if that is known.
    pub fn expect(&mut self, passed: u64, piece: usize, left: Option<u64>) {
        let lines = &mut self.decoded.records.lines;
        let made = lines.len();
        // Canonical lines are about as long as what they came from, or as those before.
        let scaled = |bytes: u64| match passed {
            0 => bytes,
            _ => (u128::from(bytes) * made as u128 / u128::from(passed)) as u64,
        };
        let now = usize::try_from(scaled(piece as u64)).unwrap_or(usize::MAX);
        // Room that runs out within a piece would double.
        let now = now.saturating_add(now / 8);
        if lines.capacity() - made >= now {
            return;
        }
        let ahead = made.clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX).max(3 * piece);
        let ahead = match left {
            Some(left) => ahead.min(usize::try_from(scaled(left)).unwrap_or(usize::MAX)),
            None => ahead,
        };
        lines.reserve_exact(now.max(ahead));
    }

    /// The next record.
    #[inline]
    pub fn record(&mut self, raw: &[u8], judge: &impl Judge) -> Result<(), BodyError> {
        if raw.len() > self.raw_max() {
            return self.too_long(raw, raw.len());
        }
        match judge.append(raw, &self.rules, &mut self.decoded.records.lines) {
            Ok(()) => self.accepted(),
            Err(code) => self.rejected(raw, code, judge),
        }
    }

    /// The next record, where a valid one begins at `at` of a JSON text; gives its end.
    #[inline]
    pub fn element(&mut self, text: &[u8], at: usize) -> Result<Option<usize>, BodyError> {
        let lines = &mut self.decoded.records.lines;
        let start = lines.len();
        let Some(end) = record::append_element(text, at, &self.rules, lines) else {
            return Ok(None);
        };
        if end - at > self.raw_max() {
            self.decoded.records.lines.truncate(start);
            return Ok(None);
        }
        self.accepted()?;
        Ok(Some(end))
    }

    /// The next record has `len` bytes, of which `head` is there.
    #[cold]
    pub fn too_long(&mut self, head: &[u8], len: usize) -> Result<(), BodyError> {
        self.rejected(head, RecordErrorCode::TooLarge, &TooLong(len))
    }

    /// How many were rejected.
    pub fn rejected_count(&self) -> u64 {
        self.decoded.rejected
    }

    #[inline]
    fn accepted(&mut self) -> Result<(), BodyError> {
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
    fn rejected(
        &mut self,
        raw: &[u8],
        code: RecordErrorCode,
        judge: &impl Judge,
    ) -> Result<(), BodyError> {
        let index = self.take_index()?;
        self.decoded.rejected += 1;
        self.decoded.rejected_by_code[code as usize] += 1;
        if self.decoded.errors.len() < self.limits.errors_max {
            let lines = &mut self.decoded.records.lines;
            let judged: Result<(), RecordError> = judge.append(raw, &self.rules, lines);
            let error = judged.expect_err("it was refused before");
            let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
            let raw = raw[..raw.len().min(self.limits.rejected_bytes_max)].to_vec();
            self.errors_bytes += size_of::<IndexedError>() + error.message.len() + raw.len();
            self.decoded.errors.push(IndexedError { index, error, raw });
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

    pub fn finish(self) -> DecodedBatch {
        let mut decoded = self.decoded;
        let lines = &mut decoded.records.lines;
        if lines.capacity() - lines.len() > WASTE_BYTES_MAX.max(lines.len() / 4) {
            lines.shrink_to_fit();
        }
        decoded
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        let records = &self.decoded.records;
        let words = records.ends.capacity() + records.sequences.capacity();
        records.lines.capacity() + words * size_of::<u32>() + self.errors_bytes
    }
}

impl Judge for AsJson {
    #[inline]
    fn append<R: Refusal>(&self, raw: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), R> {
        record::judge_json(raw, rules, out)
    }
}

impl Judge for TooLong {
    fn append<R: Refusal>(&self, _: &[u8], rules: &Rules, _: &mut Vec<u8>) -> Result<(), R> {
        Err(R::too_large(self.0, rules))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Refuses all and counts how often it is asked to say why.
    struct Refuses(Cell<usize>);

    impl Judge for Refuses {
        fn append<R: Refusal>(&self, _: &[u8], _: &Rules, _: &mut Vec<u8>) -> Result<(), R> {
            Err(R::new(RecordErrorCode::Malformed, || {
                self.0.set(self.0.get() + 1);
                "never".to_owned()
            }))
        }
    }

    #[test]
    fn a_message_is_made_only_for_an_error_that_is_kept() {
        let rules = Rules {
            record_bytes_max: 100,
            default_site: None,
            bound_site: None,
        };
        let limits = Limits {
            errors_max: 3,
            ..Limits::default()
        };
        let mut sink = Sink::new(rules, limits);
        let refuses = Refuses(Cell::new(0));
        for _ in 0..10 {
            sink.record(b"x", &refuses).unwrap();
        }
        assert_eq!(refuses.0.get(), 3);
        let decoded = sink.finish();
        assert_eq!((decoded.rejected, decoded.errors.len()), (10, 3));
    }
}
