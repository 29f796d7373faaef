//! Variable-length integers (LEB128, unsigned, at most ten bytes) and a reader that never asks for
//! more memory than the bytes it has can fill. Knows no format.

use super::segment::SegmentError;
use crate::ids::Offset;

pub fn damaged(detail: String) -> SegmentError {
    SegmentError::Damaged(detail)
}

pub fn distance(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0 - from.0).expect("a checked draft's offsets go up")
}

pub fn put_offset(out: &mut Vec<u8>, offset: Offset) {
    put(out, distance(Offset(0), offset));
}

pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Takes values off the front of a slice; every error says what it was reading.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], SegmentError> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| damaged(format!("ends within {what}")))?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn flag(&mut self, what: &str) -> Result<bool, SegmentError> {
        match self.array(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(damaged(format!("flag of {what} is {other}"))),
        }
    }

    pub fn number(&mut self, what: &str) -> Result<u64, SegmentError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged(format!("{what} does not fit into 64 bits")))
    }

    pub fn u32(&mut self, what: &str) -> Result<u32, SegmentError> {
        let value = self.number(what)?;
        u32::try_from(value).map_err(|_| damaged(format!("{what} is {value}, too large")))
    }

    pub fn offset(&mut self, what: &str) -> Result<Offset, SegmentError> {
        self.offset_after(Offset(0), what)
    }

    pub fn offset_after(&mut self, base: Offset, what: &str) -> Result<Offset, SegmentError> {
        let value = self.number(what)?;
        i64::try_from(value)
            .ok()
            .and_then(|value| base.0.checked_add(value))
            .map(Offset)
            .ok_or_else(|| damaged(format!("{what} is {value} above {base}, too large")))
    }

    /// A number of elements, each of at least `bytes_min`: never more than the bytes allow, so
    /// that memory asked for by a damaged number is bounded.
    pub fn count(&mut self, what: &str, bytes_min: usize) -> Result<usize, SegmentError> {
        let value = self.number(what)?;
        usize::try_from(value)
            .ok()
            .filter(|count| {
                count
                    .checked_mul(bytes_min)
                    .is_some_and(|len| len <= self.0.len())
            })
            .ok_or_else(|| damaged(format!("{value} {what} in {} bytes", self.0.len())))
    }
}
