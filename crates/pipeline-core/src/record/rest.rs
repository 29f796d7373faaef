//! What of a canonical line [`Fields`](super::Fields) does not hold: its other fields as they
//! stand, and of the time what is finer than a millisecond. For tables with a column for each
//! known field, so that a row is the whole record.

use super::{
    Known, RecordError,
    fields::broken,
    json::{self, Cursor, Kind},
    scan::{INSIDE, known_escaped},
    timestamp,
};

/// What [`append_rest`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rest {
    /// Microseconds since 1970 UTC; what is below is cut off.
    pub timestamp_us: i64,
    /// Whether an object was appended.
    pub any: bool,
}

/// Appends the fields of `line` that no typed column holds as one JSON object, in their order, or
/// nothing where there is none. That is each field that is not known; a known one that says
/// nothing (`null`, an empty site); and the time, first of all, where microseconds do not hold it.
/// `line` is one that [`read`](super::read) has read.
///
/// # Errors
/// Where it is not (a damaged or foreign file).
pub fn append_rest(line: &[u8], out: &mut Vec<u8>) -> Result<Rest, RecordError> {
    let begin = out.len();
    let timestamp_us = append(line, out).inspect_err(|_| out.truncate(begin))?;
    let any = out.len() > begin;
    if any {
        out[begin] = b'{';
        out.push(b'}');
    }
    Ok(Rest { timestamp_us, any })
}

/// Each member with a comma in front; the first one becomes the brace.
fn append(line: &[u8], out: &mut Vec<u8>) -> Result<i64, RecordError> {
    let begin = out.len();
    let mut timestamp_us = 0;
    let mut cursor = Cursor::new(line, 0);
    let fault = |fault| broken(line, fault);
    cursor.expect(b'{', "`{`").map_err(fault)?;
    loop {
        cursor.blanks();
        let key = cursor.at;
        let escaped = cursor.string("a key in quotes", INSIDE).map_err(fault)?;
        let name = &line[key + 1..cursor.at - 1];
        let member = key..cursor.at;
        cursor.blanks();
        cursor.expect(b':', "`:` after a key").map_err(fault)?;
        cursor.blanks();
        let start = cursor.at;
        let kind = cursor.value(INSIDE).map_err(fault)?;
        let value = &line[start..cursor.at];
        let known = if escaped {
            known_escaped(name)
        } else {
            Known::of(name)
        };
        let held = match known {
            None => false,
            Some(Known::Timestamp) => {
                let (us, exact) = micros(value)?;
                timestamp_us = us;
                if !exact {
                    let rest = out.split_off(begin);
                    out.extend_from_slice(b",\"timestamp\":");
                    out.extend_from_slice(value);
                    out.extend_from_slice(&rest);
                }
                true
            }
            Some(Known::Site) => kind != Kind::Null && value != b"\"\"",
            Some(_) => kind != Kind::Null,
        };
        if !held {
            out.push(b',');
            out.extend_from_slice(&line[member]);
            out.push(b':');
            out.extend_from_slice(value);
        }
        cursor.blanks();
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            _ => return Ok(timestamp_us),
        }
    }
}

/// The time between the quotes of `value`, and whether it says no more than that.
fn micros(value: &[u8]) -> Result<(i64, bool), RecordError> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let text = json::unescape(text.trim_matches('"'));
    let time = super::check::time::<RecordError>(text.as_bytes())?;
    debug_assert!(time.is_canonical(), "a canonical line has a time in UTC");
    let fraction = text.as_bytes().get(20..).unwrap_or_default();
    let fraction = fraction.strip_suffix(b"Z").unwrap_or_default();
    let leap = text.as_bytes().get(17..19) == Some(b"60");
    let below_ms = (3..6).fold(0, |sum, place| {
        let digit = fraction.get(place).map_or(0, |digit| digit - b'0');
        sum * 10 + i64::from(digit)
    });
    let finer = fraction.iter().skip(6).any(|digit| *digit != b'0');
    let us = time.to_ms() * 1000 + if leap { 999 } else { below_ms };
    Ok((us, !leap && !finer))
}

/// Microseconds since 1970 as a time in UTC, with as many digits as it needs.
#[must_use]
pub fn format_us(us: i64) -> String {
    let ms = timestamp::format_utc(us.div_euclid(1000));
    match (us.rem_euclid(1_000_000), us.rem_euclid(1000)) {
        (0, _) => format!("{}Z", &ms[..19]),
        (_, 0) => ms,
        (_, below) => format!("{}{below:03}Z", &ms[..23]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    fn rest(line: &str) -> (i64, String) {
        let mut out = b"before".to_vec();
        record::read(line.as_bytes()).unwrap();
        let rest = append_rest(line.as_bytes(), &mut out).unwrap();
        let text = String::from_utf8(out[6..].to_vec()).unwrap();
        assert_eq!(rest.any, !text.is_empty());
        (rest.timestamp_us, text)
    }

    #[test]
    fn what_no_column_holds_is_kept_as_it_stands() {
        let us = 1_431_857_103_000_000;
        for (line, expected, time) in [
            (
                r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/","userAgent":"-","status":200}"#,
                "",
                us,
            ),
            (
                r#"{"a": [1, {"b":2}],"timestamp":"2015-05-17T10:05:03.25Z","path":"/","userAgent":"-","method":null,"c":"x\"","site":""}"#,
                r#"{"a":[1, {"b":2}],"method":null,"c":"x\"","site":""}"#,
                us + 250_000,
            ),
            (
                r#"{"x":1,"timestamp":"2015-05-17T10:05:03.123456Z","path":"/","userAgent":"-"}"#,
                r#"{"x":1}"#,
                us + 123_456,
            ),
            (
                r#"{"x":1,"timestamp":"2015-05-17T10:05:03.1234567Z","path":"/","userAgent":"-","y":2}"#,
                r#"{"timestamp":"2015-05-17T10:05:03.1234567Z","x":1,"y":2}"#,
                us + 123_456,
            ),
            (
                r#"{"p\u0061th":"/","timestamp":"2016-12-31T23:59:60Z","userAgent":"-"}"#,
                r#"{"timestamp":"2016-12-31T23:59:60Z"}"#,
                1_483_228_799_999_999,
            ),
        ] {
            assert_eq!(rest(line), (time, expected.to_owned()), "{line}");
        }
        assert!(append_rest(b"{\"timestamp\"", &mut Vec::new()).is_err());
    }

    #[test]
    fn times_are_written_with_the_digits_that_they_need() {
        for text in [
            "2015-05-17T10:05:03Z",
            "2015-05-17T10:05:03.120Z",
            "2015-05-17T10:05:03.123456Z",
            "0000-01-01T00:00:00.000001Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            let (us, exact) = micros(format!("\"{text}\"").as_bytes()).unwrap();
            assert!(exact);
            assert_eq!(format_us(us), text);
        }
    }
}
