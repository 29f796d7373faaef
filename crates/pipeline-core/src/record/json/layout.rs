//! The blanks between a value's parts.

use std::ops::Range;

use super::special;

/// Appends one JSON value without those runs of insignificant blanks that hold a line break.
pub fn append_on_one_line(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(&byte) = rest.first() {
        let len = match byte {
            b'"' => string_len(rest),
            b' ' | b'\t' | b'\n' | b'\r' => {
                let run = blank_len(rest);
                if rest[..run].iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
                    rest = &rest[run..];
                    continue;
                }
                run
            }
            _ => 1,
        };
        out.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
    }
}

/// The place of `value` without the blanks around it.
#[must_use]
pub fn trimmed(value: &[u8]) -> Range<usize> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = value.iter().take_while(|byte| blank(byte)).count();
    let blanks = value[start..]
        .iter()
        .rev()
        .take_while(|byte| blank(byte))
        .count();
    start..value.len() - blanks
}

fn blank_len(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .count()
}

/// The length of the string that `bytes` begins with, its quotes included.
fn string_len(bytes: &[u8]) -> usize {
    let mut at = special(bytes, 1);
    while bytes.get(at) == Some(&b'\\') {
        at = special(bytes, (at + 2).min(bytes.len()));
    }
    (at + 1).min(bytes.len())
}
