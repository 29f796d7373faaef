//! Numbers as pages hold them: small ones in few characters. Knows nothing of what they count.

use base64::{Engine, prelude::BASE64_STANDARD};

/// One day of a table.
#[derive(Clone, Default)]
pub struct Named {
    last: u64,
    pub numbers: Vec<u64>,
}

impl Named {
    /// Names come in order: what is kept is the difference to the one before.
    pub fn name(&mut self, place: u64) {
        self.numbers.push(place - self.last);
        self.last = place;
    }
}

#[must_use]
pub fn packed(days: &[Named]) -> Vec<String> {
    days.iter().map(|day| pack(&day.numbers)).collect()
}

/// Numbers as varints (seven bits a byte, the lowest first) in base64: a third of their digits.
#[must_use]
pub fn pack(numbers: &[u64]) -> String {
    let mut bytes = Vec::with_capacity(numbers.len() * 2);
    for number in numbers {
        let mut rest = *number;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    BASE64_STANDARD.encode(bytes)
}
