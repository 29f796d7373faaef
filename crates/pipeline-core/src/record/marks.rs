//! One look at all bytes of a line: where its quotes stand, and whether anything in it needs more
//! than a plain reading. Judges nothing.

use wide::u8x16;

/// Longer lines are not looked at.
const BYTES_MAX: usize = 2048;
const LANES: usize = 64;

/// Of one line.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    /// A bit for each byte, the lowest first; those behind the line's words are of others before.
    quotes: [u64; BYTES_MAX / LANES],
    words: usize,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            quotes: [0; BYTES_MAX / LANES],
            words: 0,
        }
    }
}

impl Marks {
    /// The line where it is text without control characters and escapes: each text in it then ends
    /// at the next quote. The places of quotes are known only then.
    #[inline]
    #[expect(unsafe_code, reason = "a second look costs a tenth of reading a line")]
    pub fn look<'l>(&mut self, line: &'l [u8]) -> Option<&'l str> {
        if line.len() > BYTES_MAX {
            return None;
        }
        let mut seen = Seen::default();
        let (chunks, rest) = line.as_chunks::<LANES>();
        for (word, chunk) in self.quotes.iter_mut().zip(chunks) {
            *word = quotes(chunk, &mut seen);
        }
        self.words = chunks.len();
        if !rest.is_empty() {
            let mut padded = [b' '; LANES];
            let word = match line.last_chunk::<LANES>() {
                // Those before were looked at already.
                Some(last) => quotes(last, &mut seen) >> (LANES - rest.len()),
                None => {
                    padded[..rest.len()].copy_from_slice(rest);
                    quotes(&padded, &mut seen)
                }
            };
            self.quotes[self.words] = word;
            self.words += 1;
        }
        if seen.odd.to_bitmask() != 0 {
            return None;
        }
        if seen.all.to_bitmask() != 0 {
            return simdutf8::basic::from_utf8(line).ok();
        }
        // SAFETY: `quotes` saw every byte of the line, in a whole chunk or in the last one, and
        // `all` has the highest bit of each that is not ASCII: there is none. Any sequence of ASCII
        // bytes is UTF-8 (RFC 3629, section 1).
        Some(unsafe { std::str::from_utf8_unchecked(line) })
    }

    /// The place of the first quote from `at` on.
    #[inline]
    pub fn quote(&self, at: usize) -> Option<usize> {
        let words = self.quotes.get(..self.words)?;
        let mut word = at / LANES;
        let mut bits = *words.get(word)? & (u64::MAX << (at % LANES));
        while bits == 0 {
            word += 1;
            bits = *words.get(word)?;
        }
        Some(word * LANES + bits.trailing_zeros() as usize)
    }
}

/// What is in any of the bytes.
#[derive(Default)]
struct Seen {
    /// All ones where one is a control character or a backslash.
    odd: u8x16,
    /// The bits of all of them.
    all: u8x16,
}

/// A bit for each quote.
#[inline]
fn quotes(chunk: &[u8; LANES], seen: &mut Seen) -> u64 {
    let mut bits = 0;
    let (lanes, _) = chunk.as_chunks::<16>();
    for (at, lane) in lanes.iter().enumerate() {
        let lane = u8x16::new(*lane);
        let quotes = lane.simd_eq(u8x16::splat(b'"'));
        bits |= u64::from(quotes.to_bitmask()) << (16 * at);
        let controls = lane.min(u8x16::splat(0x1f)).simd_eq(lane);
        seen.odd |= controls | lane.simd_eq(u8x16::splat(b'\\'));
        seen.all |= lane;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: [&[u8]; 7] = [
        b"\"",
        b"\"",
        b"\x1f",
        b"\\",
        b"\xff",
        "\u{e9}".as_bytes(),
        b"\xc3\"",
    ];

    /// Lines of any length, whatever was looked at before.
    #[test]
    fn a_look_finds_what_a_look_at_each_byte_finds() {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut marks = Marks::default();
        let mut seen = [0; 4];
        for _ in 0..4_000 {
            let longest = *rng.choice(&[1, 70, 400, BYTES_MAX]).unwrap();
            let len = rng.usize(..=longest);
            let mut line: Vec<u8> = (0..len).map(|_| rng.u8(b' '..=b'[')).collect();
            for _ in 0..rng.usize(..4) {
                if len > 1 {
                    let at = rng.usize(..len - 1);
                    let other: &[u8] = rng.choice(&OTHERS).unwrap();
                    line[at..][..other.len()].copy_from_slice(other);
                }
            }
            let is_odd = line.iter().any(|byte| *byte < b' ' || *byte == b'\\');
            let right = std::str::from_utf8(&line).ok().filter(|_| !is_odd);
            assert_eq!(marks.look(&line), right);
            let ascii = line.is_ascii();
            seen[usize::from(right.is_some()) + 2 * usize::from(ascii)] += 1;
            for at in 0..len + 70 {
                let rest = line.get(at..).unwrap_or_default();
                let right = rest.iter().position(|byte| *byte == b'"');
                assert_eq!(marks.quote(at), right.map(|place| at + place), "{line:?}");
            }
        }
        assert!(seen.iter().all(|lines| *lines > 200), "{seen:?}");
        assert_eq!(marks.look(&[b' '; BYTES_MAX + 1]), None);
    }
}
