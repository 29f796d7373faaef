//! The quick way to a stored line's fields: lines as nearly all of them are, with no blanks
//! between their parts, no escapes, no nesting and no `null`. What is any different, or wrong in
//! any way, is left to the general way, which alone judges: so this only ever says the same.

use super::{Fields, Known, check, json, timestamp};
use std::borrow::Cow;

/// The fields of a line of that kind; `None` of any other.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    let texts = texts(line, |_| ())?;
    of_texts(&texts, |text| Some(timestamp::parse(text).ok()?.to_ms()))
}

/// What stands in the known fields.
pub(super) type Texts<'a> = [Option<&'a str>; Known::ALL.len()];

/// One member of a line.
pub(super) struct Member<'a> {
    /// What is before its value: `,"status":`, with a text's first quote.
    pub before: &'a [u8],
    pub known: Option<Known>,
    pub is_text: bool,
}

/// What stands in the known fields of such a line; `each` is told its members.
pub(super) fn texts<'a>(line: &'a str, mut each: impl FnMut(Member<'a>)) -> Option<Texts<'a>> {
    let bytes = line.as_bytes();
    let mut at = bytes.strip_prefix(b"{").map(|_| 1)?;
    let mut texts: Texts<'_> = [None; Known::ALL.len()];
    loop {
        let begin = at - 1;
        let (name, behind) = string(bytes, at)?;
        if *bytes.get(behind)? != b':' {
            return None;
        }
        let start = behind + 1;
        let known = Known::of(&bytes[name]);
        let is_text = *bytes.get(start)? == b'"';
        let value = if is_text {
            let (inside, behind) = string(bytes, start)?;
            at = behind;
            inside
        } else {
            at = digits(bytes, start)?;
            start..at
        };
        each(Member {
            before: &bytes[begin..value.start],
            known,
            is_text,
        });
        if let Some(known) = known {
            let is_number = matches!(known, Known::Status | Known::Bytes | Known::DurationMs);
            let slot = &mut texts[known as usize];
            if slot.is_some() || is_number == is_text {
                return None;
            }
            // Both ends are beside ASCII.
            *slot = Some(line.get(value)?);
        }
        match *bytes.get(at)? {
            b',' => at += 1,
            b'}' if at + 1 == bytes.len() => return Some(texts),
            _ => return None,
        }
    }
}

/// The fields of these; `time` reads a time.
#[inline]
pub(super) fn of_texts<'a>(
    texts: &Texts<'a>,
    time: impl FnOnce(&[u8]) -> Option<i64>,
) -> Option<Fields<'a>> {
    let text = |known: Known| texts[known as usize];
    let borrowed = |known: Known| text(known).map(Cow::Borrowed);
    Some(Fields {
        timestamp_ms: time(text(Known::Timestamp)?.as_bytes())?,
        path: borrowed(Known::Path)?,
        user_agent: borrowed(Known::UserAgent)?,
        site: borrowed(Known::Site).filter(|site| !site.is_empty()),
        method: borrowed(Known::Method),
        status: number(text(Known::Status), check::status)?,
        bytes: number(text(Known::Bytes), check::bytes)?,
        duration_ms: number(text(Known::DurationMs), decimal)?,
        remote_addr: borrowed(Known::RemoteAddr),
        referer: borrowed(Known::Referer),
        protocol: borrowed(Known::Protocol),
    })
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

/// The end of the number that begins at `at`: digits, and at most one point between them.
#[inline]
pub(super) fn digits(bytes: &[u8], at: usize) -> Option<usize> {
    let run = |from: usize| {
        let rest = bytes.get(from..)?;
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (len > 0).then_some(from + len)
    };
    let end = run(at)?;
    if bytes[at] == b'0' && end > at + 1 {
        return None;
    }
    match bytes.get(end) {
        Some(b'.') => run(end + 1),
        _ => Some(end),
    }
}

#[inline]
fn number<T>(text: Option<&str>, parse: impl Fn(&[u8]) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => parse(text.as_bytes()).map(Some),
    }
}

/// Few enough digits for one exact division, which rounds as a whole parse does.
fn decimal(number: &[u8]) -> Option<f64> {
    const POWERS: [f64; 8] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
    if number.len() > 15 {
        return check::duration_ms(number);
    }
    let mut mantissa = 0_u64;
    let mut point = None;
    for (place, byte) in number.iter().enumerate() {
        match byte {
            b'.' => point = Some(place),
            digit => mantissa = mantissa * 10 + u64::from(digit - b'0'),
        }
    }
    let decimals = point.map_or(0, |point| number.len() - 1 - point);
    match POWERS.get(decimals) {
        Some(power) => Some(mantissa as f64 / power),
        None => check::duration_ms(number),
    }
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

    #[test]
    fn decimals_are_what_the_standard_library_reads() {
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..20_000 {
            let whole = rng.u64(..) >> rng.u32(0..64);
            let text = match rng.usize(0..12) {
                0 => whole.to_string(),
                places => format!("{whole}.{:0places$}", rng.u64(..10_u64.pow(places as u32))),
            };
            assert_eq!(decimal(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }
}
