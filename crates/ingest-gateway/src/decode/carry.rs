//! The unfinished record: the bytes of it that came before the end of a piece of the body.

/// Kept as long as the record may still be a valid one; of a longer one only its head.
#[derive(Default)]
pub(super) struct Carry {
    bytes: Vec<u8>,
    len: usize,
}

/// What was carried.
pub(super) enum Carried<'c> {
    Whole(&'c [u8]),
    /// Too long: its head and its length.
    Head(&'c [u8], usize),
}

impl Carry {
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the next bytes. Over `max` of them no more than `head_max` are kept.
    pub fn push(&mut self, bytes: &[u8], max: usize, head_max: usize) {
        let len = self.len + bytes.len();
        if len <= max {
            extend(&mut self.bytes, bytes, max);
        } else {
            if self.len <= max {
                self.bytes.truncate(head_max);
                self.bytes.shrink_to(head_max);
            }
            let wanted = head_max - self.bytes.len().min(head_max);
            self.bytes
                .extend_from_slice(&bytes[..wanted.min(bytes.len())]);
        }
        self.len = len;
    }

    pub fn carried(&self, max: usize) -> Carried<'_> {
        if self.len <= max {
            Carried::Whole(&self.bytes)
        } else {
            Carried::Head(&self.bytes, self.len)
        }
    }

    /// Ready for another record.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.len = 0;
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Appends `bytes`; the room doubles, but never beyond the `max` bytes that may come.
pub(super) fn extend(kept: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let needed = kept.len() + bytes.len();
    if needed > kept.capacity() {
        let wanted = (kept.capacity() * 2).min(max).max(needed);
        kept.reserve_exact(wanted - kept.len());
    }
    kept.extend_from_slice(bytes);
}
