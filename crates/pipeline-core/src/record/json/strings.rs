//! The insides of strings: where they end, what they say, how text is written as one.

/// The first place from `at` on of a quote, a backslash or a control character; else the end.
#[inline]
#[must_use]
pub fn special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES * 0x80;
    // Eight bytes at once. `hit(word)` marks each byte that is zero or, with `below`, less than
    // it; a borrow can only mark bytes above a true hit, and the lowest is the one that counts.
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        // Flipping bit 1 puts the quote (0x22) right above the control characters.
        let flipped = word ^ (ONES * 0x02);
        let low = flipped.wrapping_sub(ONES * 0x21) & !flipped;
        let slash = word ^ (ONES * u64::from(b'\\'));
        let backslash = slash.wrapping_sub(ONES) & !slash;
        let hits = (low | backslash) & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = bytes.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        at += 1;
    }
    at
}

/// The text of a string's inside (between the quotes) that [`Cursor::string`] passed.
#[must_use]
pub fn unescape(inside: &str) -> String {
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.as_bytes().get(at + 1).copied();
        rest = rest.get(at + 2..).unwrap_or_default();
        out.push(match code {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let (unit, after) = unit(rest);
                rest = after;
                if (0xD800..0xDC00).contains(&unit) {
                    let (low, after) = unit_after_escape(rest);
                    rest = after;
                    let point =
                        0x10000 + ((unit - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                    char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)
                } else {
                    char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
            }
            Some(other) => char::from(other),
            None => char::REPLACEMENT_CHARACTER,
        });
    }
    out.push_str(rest);
    out
}

fn unit(text: &str) -> (u32, &str) {
    let (digits, rest) = text.split_at_checked(4).unwrap_or((text, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0xFFFD), rest)
}

fn unit_after_escape(text: &str) -> (u32, &str) {
    unit(text.strip_prefix("\\u").unwrap_or(text))
}

/// Appends `text` as a JSON string, with quotes.
pub fn append_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut start = 0;
    loop {
        let at = special(bytes, start);
        out.extend_from_slice(&bytes[start..at]);
        let Some(&byte) = bytes.get(at) else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            }
        }
        start = at + 1;
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bytes_are_found_wherever_they_stand() {
        let mut random = fastrand::Rng::with_seed(6);
        for _ in 0..20_000 {
            let mut bytes: Vec<u8> = (0..random.usize(0..40))
                .map(|_| random.u8(0x20..))
                .collect();
            bytes.retain(|byte| !matches!(byte, b'"' | b'\\'));
            for _ in 0..random.usize(0..4) {
                let near = [
                    0, 0x1f, 0x20, 0x21, b'"', 0x23, b'\\', b']', 0x7f, 0x80, 0x9f, 0xa2, 0xdc,
                ];
                let at = random.usize(0..=bytes.len());
                bytes.insert(at, near[random.usize(0..near.len())]);
            }
            let from = random.usize(0..=bytes.len());
            let expected = bytes[from..]
                .iter()
                .position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
                .map_or(bytes.len(), |len| from + len);
            assert_eq!(special(&bytes, from), expected, "{bytes:?} from {from}");
        }
    }

    #[test]
    fn strings_are_written_and_read_as_serde_json_does() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..5000 {
            let text: String = (0..random.usize(0..30))
                .map(|_| match random.u32(0..4) {
                    0 => random.char('\0'..'\u{80}'),
                    1 => random.char('\u{80}'..'\u{800}'),
                    2 => random.char('\u{10000}'..char::MAX),
                    _ => random.alphanumeric(),
                })
                .collect();
            let mut written = Vec::new();
            append_string(&text, &mut written);
            let theirs: String = serde_json::from_slice(&written).expect("JSON");
            assert_eq!(theirs, text);
            let inside = |quoted: &str| unescape(&quoted[1..quoted.len() - 1]);
            assert_eq!(inside(std::str::from_utf8(&written).expect("UTF-8")), text);
            assert_eq!(inside(&serde_json::to_string(&text).expect("JSON")), text);
            let units: String = text
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04X}"))
                .collect();
            assert_eq!(unescape(&units), text);
        }
    }
}
