//! Bodies that are small on the wire and huge when decoded. Made by repeating what a small part
//! compresses to, so that nobody has to compress the whole.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

/// Decoded length of one part.
const PART_BYTES: usize = 1024 * 1024;
/// Of a part that is there as it is, in brotli.
const COPIED_BYTES: usize = 64 * 1024;
/// Longest meta-block of brotli.
const META_BLOCK_BYTES: u64 = 1 << 24;

/// At least `bytes` of `text`, again and again, and at least one part, as gzip (RFC 1952: members one behind the other).
///
/// # Panics
/// Never: it writes to memory.
pub fn gzip(text: &[u8], bytes: u64) -> Vec<u8> {
    let part = repeated(text, PART_BYTES);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&part).expect("writes to memory");
    let member = encoder.finish().expect("writes to memory");
    member.repeat(times(bytes, part.len() as u64).max(1))
}

/// The same as zstd (RFC 8878: frames one behind the other).
///
/// # Panics
/// Never: it writes to memory.
pub fn zstd(text: &[u8], bytes: u64) -> Vec<u8> {
    let part = repeated(text, PART_BYTES);
    let frame = zstd::bulk::compress(&part, 3).expect("writes to memory");
    frame.repeat(times(bytes, part.len() as u64).max(1))
}

/// The same as brotli (RFC 7932), in one stream: a part as it is, then copies of it. `text` is cut
/// or repeated to fill the part.
pub fn brotli(text: &[u8], bytes: u64) -> Vec<u8> {
    let mut part = text.repeat(COPIED_BYTES.div_ceil(text.len()));
    part.truncate(COPIED_BYTES);
    let mut out = Bits::default();
    // A window of 4 MiB.
    out.put(0b1011, 4);
    // Not the last; four nibbles of its length less one; not compressed.
    out.put(0, 1);
    out.put(0, 2);
    out.put(COPIED_BYTES as u64 - 1, 16);
    out.put(1, 1);
    out.align();
    out.bytes.extend_from_slice(&part);
    for _ in 0..times(bytes, META_BLOCK_BYTES) {
        copies(&mut out);
    }
    // The last, and empty.
    out.put(0b11, 2);
    out.bytes
}

/// One meta-block that is one command: insert nothing, copy all of it from the part's length ago.
fn copies(out: &mut Bits) {
    out.put(0, 1);
    out.put(2, 2);
    out.put(META_BLOCK_BYTES - 1, 24);
    out.put(0, 1);
    // One block type of each kind, no postfix, no direct distances, one tree of each kind.
    out.put(0, 3 + 2 + 4 + 2 + 2);
    // Of each code one symbol, which then takes no bits: any literal; insert 0 and copy code 23;
    // distance code 44.
    for (symbol, width) in [(0, 8), (391, 10), (44, 6)] {
        out.put(1, 2);
        out.put(0, 2);
        out.put(symbol, width);
    }
    // What is beyond the bases of these codes (section 5, section 4).
    out.put(META_BLOCK_BYTES - 2118, 24);
    out.put(COPIED_BYTES as u64 - (65_532 + 1), 15);
}

fn repeated(text: &[u8], bytes: usize) -> Vec<u8> {
    text.repeat(bytes.div_ceil(text.len()))
}

fn times(bytes: u64, part: u64) -> usize {
    usize::try_from(bytes.div_ceil(part)).unwrap_or(usize::MAX)
}

/// Bits, the least significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u64, width: u32) {
        for bit in 0..width {
            if self.used == 0 {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << self.used;
            self.used = (self.used + 1) % 8;
        }
    }

    fn align(&mut self) {
        self.used = 0;
    }
}
