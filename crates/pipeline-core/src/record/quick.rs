//! The quick way to a stored line's fields: lines as nearly all of them are, with no blanks
//! between their parts, no escapes, no nesting and no `null`. What is any different, or wrong in
//! any way, is left to the general way, which alone judges: so this only ever says the same.

use super::{Fields, Known, json, timestamp};
use std::borrow::Cow;

/// The fields of a line of that kind; `None` of any other.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    values(line, |_| ())?.fields(|text| Some(timestamp::parse(text).ok()?.to_ms()))
}

/// What stands in the known fields.
#[derive(Default)]
pub(super) struct Values<'a> {
    texts: [Option<&'a str>; Known::ALL.len()],
    numbers: [Option<Number>; NUMBERS],
}

/// Those of them that are numbers stand side by side.
const FIRST_NUMBER: usize = Known::Status as usize;
const NUMBERS: usize = Known::DurationMs as usize + 1 - FIRST_NUMBER;

/// `mantissa / divisor`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number {
    /// Of at most 15 digits.
    mantissa: u64,
    /// One of [`POWERS`], by the digits behind the point.
    divisor: u64,
}

const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

/// One member of a line.
pub(super) struct Member<'a> {
    /// What is before its value: `,"status":`, with a text's first quote.
    pub before: &'a [u8],
    pub known: Option<Known>,
    pub is_text: bool,
}

/// What stands in the known fields of such a line; `each` is told its members.
pub(super) fn values<'a>(line: &'a str, mut each: impl FnMut(Member<'a>)) -> Option<Values<'a>> {
    let bytes = line.as_bytes();
    let mut at = bytes.strip_prefix(b"{").map(|_| 1)?;
    let mut values = Values::default();
    loop {
        let begin = at - 1;
        let (name, behind) = string(bytes, at)?;
        if *bytes.get(behind)? != b':' {
            return None;
        }
        let start = behind + 1;
        let known = Known::of(&bytes[name]);
        let is_text = *bytes.get(start)? == b'"';
        let is_new = known.is_none_or(|known| !values.has(known));
        let value = if is_text {
            let (inside, behind) = string(bytes, start)?;
            at = behind;
            if let Some(known) = known {
                // Both ends are beside ASCII.
                values.text(known, line.get(inside.clone())?);
            }
            inside
        } else {
            let (number, end) = number(bytes, start)?;
            at = end;
            if let Some(known) = known {
                values.number(known, number);
            }
            start..end
        };
        // Twice is never plain, nor is a field of the wrong kind.
        if !is_new || known.is_some_and(|known| !values.has(known)) {
            return None;
        }
        each(Member {
            before: &bytes[begin..value.start],
            known,
            is_text,
        });
        match *bytes.get(at)? {
            b',' => at += 1,
            b'}' if at + 1 == bytes.len() => return Some(values),
            _ => return None,
        }
    }
}

impl<'a> Values<'a> {
    #[inline]
    pub fn text(&mut self, known: Known, text: &'a str) {
        self.texts[known as usize] = Some(text);
    }

    /// Nothing where the field is none of numbers.
    #[inline]
    pub fn number(&mut self, known: Known, number: Number) {
        let place = (known as usize).wrapping_sub(FIRST_NUMBER);
        if let Some(slot) = self.numbers.get_mut(place) {
            *slot = Some(number);
        }
    }

    /// Whether the field has a value of its kind.
    fn has(&self, known: Known) -> bool {
        let place = (known as usize).wrapping_sub(FIRST_NUMBER);
        match self.numbers.get(place) {
            Some(number) => number.is_some(),
            None => self.texts[known as usize].is_some(),
        }
    }

    /// The fields of these; `time` reads a time.
    #[inline]
    pub fn fields(&self, time: impl FnOnce(&[u8]) -> Option<i64>) -> Option<Fields<'a>> {
        let text = |known: Known| self.texts[known as usize];
        let borrowed = |known: Known| text(known).map(Cow::Borrowed);
        let [status, bytes, duration] = self.numbers;
        Some(Fields {
            timestamp_ms: time(text(Known::Timestamp)?.as_bytes())?,
            path: borrowed(Known::Path)?,
            user_agent: borrowed(Known::UserAgent)?,
            site: borrowed(Known::Site).filter(|site| !site.is_empty()),
            method: borrowed(Known::Method),
            status: good(status, Number::status)?,
            bytes: good(bytes, Number::whole)?,
            duration_ms: duration.map(Number::decimal),
            remote_addr: borrowed(Known::RemoteAddr),
            referer: borrowed(Known::Referer),
            protocol: borrowed(Known::Protocol),
        })
    }
}

#[inline]
fn good<T>(number: Option<Number>, of: impl Fn(Number) -> Option<T>) -> Option<Option<T>> {
    match number {
        None => Some(None),
        Some(number) => of(number).map(Some),
    }
}

impl Number {
    #[inline]
    fn whole(self) -> Option<u64> {
        (self.divisor == 1).then_some(self.mantissa)
    }

    #[inline]
    fn status(self) -> Option<u16> {
        let status = self.whole().filter(|code| (100..600).contains(code));
        status.map(|code| code as u16)
    }

    /// So few digits that one exact division rounds as a whole parse does.
    #[inline]
    fn decimal(self) -> f64 {
        self.mantissa as f64 / self.divisor as f64
    }
}

/// The number that begins at `at`, and its end: digits, and at most one point between them.
#[inline]
pub(super) fn number(bytes: &[u8], at: usize) -> Option<(Number, usize)> {
    let (whole, end) = digits(bytes, at)?;
    if bytes[at] == b'0' && end > at + 1 {
        return None;
    }
    if bytes.get(end) != Some(&b'.') {
        let number = Number {
            mantissa: whole,
            divisor: 1,
        };
        return Some((number, end));
    }
    let (fraction, behind) = digits(bytes, end + 1)?;
    if behind - at > DIGITS_MAX + 1 {
        return None;
    }
    let divisor = *POWERS.get(behind - end - 1)?;
    let number = Number {
        mantissa: whole * divisor + fraction,
        divisor,
    };
    Some((number, behind))
}

/// As many as an `f64` holds exactly, whatever they are.
const DIGITS_MAX: usize = 15;

/// The digits that begin at `at`, of which there are some, and their end.
#[inline]
fn digits(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let rest = bytes.get(at..)?;
    // Eight bytes as a number, the first one lowest; zeros behind the end of the line.
    let word = match rest.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let word = u64::from_le_bytes(*bytes.last_chunk::<8>()?);
            word.checked_shr(8 * (8 - rest.len() as u32))?
        }
    };
    let values = word ^ each(b'0');
    // The highest bit of each byte that is over 9.
    let others = ((values & each(0x7f)).wrapping_add(each(0x76)) | values) & each(0x80);
    let len = others.trailing_zeros() / 8;
    match len {
        0 => None,
        8 => more_digits(rest, at),
        // What stands behind them goes, and zeros come before them.
        _ => Some((eight_digits(values << (8 * (8 - len))), at + len as usize)),
    }
}

#[cold]
fn more_digits(rest: &[u8], at: usize) -> Option<(u64, usize)> {
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let fold = |value, digit: &u8| value * 10 + u64::from(digit - b'0');
    (len <= DIGITS_MAX).then(|| (rest[..len].iter().fold(0, fold), at + len))
}

/// The number of eight digits, the first one in the lowest byte: each two neighbours become one of
/// twice the width.
#[inline]
const fn eight_digits(digits: u64) -> u64 {
    let twos = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

const fn each(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The inside of the string without escapes that begins at `at`, and the place behind it.
#[inline]
fn string(bytes: &[u8], at: usize) -> Option<(std::ops::Range<usize>, usize)> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let end = json::special(bytes, at + 1);
    (bytes.get(end) == Some(&b'"')).then_some((at + 1..end, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fields::read_generally;

    const LINE: &str = r#"{"timestamp":"2015-05-17T10:05:03.25Z","path":"/a?b=1","userAgent":"Agent/1 (x; \u00e9)","site":"a.example","method":"GET","status":200,"bytes":512,"durationMs":12.5,"remoteAddr":"192.0.2.1","referer":"-","protocol":"HTTP/1.1","x":1,"y":"z"}"#;

    fn plain() -> String {
        LINE.replace("\\u00e9", "\u{e9}")
    }

    #[test]
    fn what_is_plain_is_read_quickly_and_the_same() {
        for line in [
            plain(),
            r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/","userAgent":"-"}"#.to_owned(),
            r#"{"userAgent":"","path":" ","site":"","timestamp":"2015-05-17T10:05:03+01:00"}"#
                .to_owned(),
        ] {
            let quick = fields(&line).expect(&line);
            assert_eq!(quick, read_generally(line.as_bytes()).unwrap());
        }
    }

    #[test]
    fn what_is_not_is_left_to_the_general_way() {
        for line in [
            LINE.to_owned(),
            plain().replace(",\"x\"", ", \"x\""),
            plain().replace("\"x\":1", "\"x\":null"),
            plain().replace("\"x\":1", "\"x\":{}"),
            plain().replace("\"x\":1", "\"x\":-1"),
            plain().replace("\"x\":1", "\"x\":01"),
            plain().replace("\"x\":1", "\"x\":1."),
            plain().replace("\"x\":1", "\"path\":\"/\""),
            plain().replace(":200", ":\"200\""),
            plain().replace(":200", ":99"),
            plain().replace("\"GET\"", "7"),
            plain().replace("\"path\"", "\"Path\""),
            plain().replace("T10", "T25"),
            plain() + " ",
            String::new(),
            "{".to_owned(),
            "{}".to_owned(),
        ] {
            assert_eq!(fields(&line), None, "{line}");
        }
    }

    /// Whatever bytes are changed: where the quick way says something, the general way says it too.
    #[test]
    fn both_ways_say_the_same_of_any_line() {
        let mut rng = fastrand::Rng::with_seed(5);
        let base = plain();
        let mut quick_ones = 0;
        for _ in 0..40_000 {
            let mut bytes = base.clone().into_bytes();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..4) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, *rng.choice(b"\"\\,:{}01.e-x \n").unwrap()),
                    2 => bytes[at] = rng.u8(b' '..b'~'),
                    _ => bytes[at] = *rng.choice(b"0123456789.").unwrap(),
                }
            }
            let Ok(line) = String::from_utf8(bytes) else {
                continue;
            };
            if let Some(quick) = fields(&line) {
                quick_ones += 1;
                assert_eq!(Ok(quick), read_generally(line.as_bytes()), "{line}");
            }
        }
        assert!(quick_ones > 5_000, "{quick_ones}");
    }

    /// Of any length, wherever the line ends.
    #[test]
    fn numbers_are_what_the_standard_library_reads() {
        let mut rng = fastrand::Rng::with_seed(6);
        let mut read = 0;
        for _ in 0..40_000 {
            let whole = rng.u64(..) >> rng.u32(0..64);
            let fraction = rng.u64(..) >> rng.u32(0..64);
            let text = match rng.usize(0..12) {
                0..4 => whole.to_string(),
                places => format!("{whole}.{fraction:0places$}"),
            };
            let behind = ["}", ",", ".}", "e}", ",\"status\":200}"];
            let line = format!("{{\"bytes\":{text}{}", rng.choice(behind).unwrap());
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            let decimals = text.split_once('.').map_or(0, |(_, places)| places.len());
            match number(line.as_bytes(), 9) {
                Some((number, end)) => {
                    assert_eq!(end, 9 + text.len(), "{line}");
                    assert_eq!(Ok(number.decimal()), text.parse(), "{line}");
                    assert_eq!(number.whole(), text.parse().ok(), "{line}");
                    read += 1;
                }
                None => assert!(
                    digits > DIGITS_MAX || decimals >= POWERS.len() || line.contains(".}"),
                    "{line}"
                ),
            }
        }
        assert!(read > 10_000, "{read}");
    }
}
