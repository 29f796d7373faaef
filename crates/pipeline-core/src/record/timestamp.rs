//! Times of records: RFC 3339 in, UTC out (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>).
//!
//! Own civil-date arithmetic (proleptic Gregorian, years 0000 to 9999), no clock, no time zone
//! data. Digits of a fraction are never interpreted beyond the third and never lost.

/// Seconds from 0000-01-01T00:00:00Z to 1970-01-01T00:00:00Z, negated.
const SECONDS_MIN: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const SECONDS_MAX: i64 = 253_402_300_799;
const DAY_SECONDS: i64 = 86_400;

/// What [`parse`] takes, for messages.
pub const ALLOWED: &str = "an RFC 3339 time such as 2015-05-17T10:05:03Z";

/// A point in time in the years 0000 to 9999 UTC, with its fraction's digits as they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamp<'a> {
    /// Whole seconds since 1970; of a leap second the second before it.
    seconds: i64,
    leap: bool,
    fraction: &'a [u8],
    canonical: bool,
}

/// Why a text is no time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct TimestampError(pub &'static str);

/// A time as a calendar and a clock show it; [`Civil::to_timestamp`] checks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// Minutes east of UTC.
    pub offset_minutes: i32,
}

/// Reads an RFC 3339 time. `t`, `z` and a blank instead of `T` are understood.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &[u8]) -> Result<Timestamp<'_>, TimestampError> {
    const SHAPE: TimestampError = TimestampError("it is not of the form YYYY-MM-DDThh:mm:ss±hh:mm");
    let Some((head, rest)) = text.split_first_chunk::<19>() else {
        return Err(SHAPE);
    };
    let separators = (head[4], head[7], head[13], head[16]) == (b'-', b'-', b':', b':');
    if !separators || !matches!(head[10], b'T' | b't' | b' ') {
        return Err(SHAPE);
    }
    let digits = [
        head[0], head[1], head[2], head[3], head[5], head[6], head[8], head[9], head[11], head[12],
        head[14], head[15], head[17], head[18],
    ];
    if !digits
        .iter()
        .fold(true, |all, digit| all & digit.is_ascii_digit())
    {
        return Err(SHAPE);
    }
    let two = |at: usize| u32::from(head[at] - b'0') * 10 + u32::from(head[at + 1] - b'0');

    let (fraction, zone) = match rest.split_first() {
        Some((b'.', rest)) => {
            let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if len == 0 {
                return Err(TimestampError("its fraction has no digits"));
            }
            rest.split_at(len)
        }
        _ => rest.split_at(0),
    };
    let offset_minutes = match *zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(u8::is_ascii_digit) =>
        {
            let hours = i32::from(h1 - b'0') * 10 + i32::from(h2 - b'0');
            let minutes = i32::from(m1 - b'0') * 10 + i32::from(m2 - b'0');
            if hours > 23 || minutes > 59 {
                return Err(TimestampError("its offset is over 23:59"));
            }
            (hours * 60 + minutes) * if sign == b'-' { -1 } else { 1 }
        }
        [] => return Err(TimestampError("it has no offset from UTC")),
        _ => return Err(TimestampError("its offset is neither Z nor ±hh:mm")),
    };
    let mut time = Civil {
        year: two(0) * 100 + two(2),
        month: two(5),
        day: two(8),
        hour: two(11),
        minute: two(14),
        second: two(17),
        offset_minutes,
    }
    .to_timestamp()?;
    time.fraction = fraction;
    time.canonical = zone == b"Z" && head[10] == b'T';
    Ok(time)
}

/// Milliseconds since 1970 as `YYYY-MM-DDThh:mm:ss.mmmZ`. Times outside of the years 0000 to
/// 9999 become the nearest one inside.
#[must_use]
pub fn format_utc(ms: i64) -> String {
    let ms = ms.clamp(SECONDS_MIN * 1000, SECONDS_MAX * 1000 + 999);
    let millis = ms.rem_euclid(1000);
    let fraction = [100, 10, 1].map(|unit| digit(millis / unit));
    let time = Timestamp {
        seconds: ms.div_euclid(1000),
        leap: false,
        fraction: &fraction,
        canonical: false,
    };
    let mut out = Vec::with_capacity(24);
    time.append_utc(&mut out);
    out.into_iter().map(char::from).collect()
}

impl Civil {
    /// # Errors
    /// What the calendar or the clock does not have.
    pub fn to_timestamp(self) -> Result<Timestamp<'static>, TimestampError> {
        if !(1..=12).contains(&self.month) {
            return Err(TimestampError("its month is not 01 to 12"));
        }
        if self.day == 0 || self.day > month_days(self.year, self.month) {
            return Err(TimestampError("its month does not have that day"));
        }
        if self.hour > 23 || self.minute > 59 || self.second > 60 {
            return Err(TimestampError("its time of day is over 23:59:59"));
        }
        let leap = self.second == 60;
        let of_day = self.hour * 3600 + self.minute * 60 + self.second - u32::from(leap);
        let seconds = days_since_1970(self.year, self.month, self.day) * DAY_SECONDS
            + i64::from(of_day)
            - i64::from(self.offset_minutes) * 60;
        if leap && seconds.rem_euclid(DAY_SECONDS) != DAY_SECONDS - 1 {
            return Err(TimestampError("second 60 exists at 23:59 UTC only"));
        }
        if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
            return Err(TimestampError(
                "in UTC it is outside of the years 0000 to 9999",
            ));
        }
        Ok(Timestamp {
            seconds,
            leap,
            fraction: &[],
            canonical: false,
        })
    }
}

impl Timestamp<'_> {
    /// Milliseconds since 1970; what is below a millisecond is cut off. A leap second is the last
    /// millisecond of its day, so that it stays in its hour.
    #[must_use]
    pub fn to_ms(&self) -> i64 {
        if self.leap {
            return self.seconds * 1000 + 999;
        }
        let mut millis = 0;
        for place in 0..3 {
            let digit = self.fraction.get(place).map_or(0, |digit| digit - b'0');
            millis = millis * 10 + i64::from(digit);
        }
        self.seconds * 1000 + millis
    }

    /// Whether the text it was read from is already what [`Self::append_utc`] writes.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }

    /// Writes it in UTC, with the digits of its fraction as they came.
    pub fn append_utc(&self, out: &mut Vec<u8>) {
        let (year, month, day) = civil_of(self.seconds.div_euclid(DAY_SECONDS));
        let of_day = self.seconds.rem_euclid(DAY_SECONDS);
        let second = of_day % 60 + i64::from(self.leap);
        let mut text = *b"0000-00-00T00:00:00";
        for (at, number) in [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day),
            (11, of_day / 3600),
            (14, of_day / 60 % 60),
            (17, second),
        ] {
            text[at] = digit(number / 10);
            text[at + 1] = digit(number);
        }
        out.extend_from_slice(&text);
        if !self.fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(self.fraction);
        }
        out.push(b'Z');
    }
}

fn digit(number: i64) -> u8 {
    b'0' + u8::try_from(number.rem_euclid(10)).expect("a remainder of ten")
}

fn month_days(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01. Years are counted from March, so that the leap day is a year's last.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    // 400 more, so that January 0000 needs no negative year.
    let year = i64::from(year) + 400 - i64::from(month < 3);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    // From 0000-03-01 to 1970-01-01 there are 719,468 days, and 400 years have 146,097.
    days - 146_097 - 719_468
}

/// The inverse of [`days_since_1970`]: year, month, day.
fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468 + 146_097;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era - 400 + i64::from(month < 3);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};

    use super::*;

    fn utc(text: &str) -> Result<String, TimestampError> {
        let mut out = Vec::new();
        parse(text.as_bytes())?.append_utc(&mut out);
        Ok(String::from_utf8(out).expect("digits"))
    }

    #[test]
    fn offsets_become_utc_and_fractions_stay() {
        for (text, expected) in [
            ("2015-05-17T10:05:03Z", "2015-05-17T10:05:03Z"),
            ("2015-05-17t10:05:03z", "2015-05-17T10:05:03Z"),
            ("2015-05-17t10:05:03Z", "2015-05-17T10:05:03Z"),
            ("2015-05-17T10:05:03z", "2015-05-17T10:05:03Z"),
            ("2015-05-17 10:05:03+00:00", "2015-05-17T10:05:03Z"),
            ("2015-05-17T10:05:03-00:00", "2015-05-17T10:05:03Z"),
            (
                "2015-05-17T10:05:03.1200+02:00",
                "2015-05-17T08:05:03.1200Z",
            ),
            ("2016-03-01T00:30:00+01:00", "2016-02-29T23:30:00Z"),
            ("2015-12-31T23:30:00-01:00", "2016-01-01T00:30:00Z"),
            ("2016-12-31T15:59:60.5-08:00", "2016-12-31T23:59:60.5Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(utc(text).as_deref(), Ok(expected), "{text}");
            let canonical = parse(text.as_bytes()).expect("valid").is_canonical();
            assert_eq!(canonical, text == expected, "{text}");
        }
    }

    #[test]
    fn what_no_calendar_or_clock_has_is_refused() {
        for text in [
            "",
            "yesterday",
            "2015-05-17",
            "2015-05-17T10:05Z",
            "2015-05-17T10:05:03",
            "2015-05-17T10:05:03.Z",
            "2015-05-17T10:05:03,5Z",
            "2015-05-17T10:05:03+0200",
            "2015-05-17T10:05:03+24:00",
            "2015-05-17T10:05:03+01:60",
            "2015-05-17T10:05:03Z ",
            "2015-05-17_10:05:03Z",
            "2015-00-17T10:05:03Z",
            "2015-13-17T10:05:03Z",
            "2015-04-31T10:05:03Z",
            "2015-02-29T10:05:03Z",
            "1900-02-29T10:05:03Z",
            "2015-05-00T10:05:03Z",
            "2015-05-17T24:00:00Z",
            "2015-05-17T10:60:03Z",
            "2015-05-17T10:05:61Z",
            "2015-05-17T10:05:60Z",
            "2016-12-31T23:59:60+01:00",
            "0000-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "+2015-05-17T10:05:03Z",
            "201a-05-17T10:05:03Z",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"2000-02-29T00:00:00Z").is_ok());
    }

    #[test]
    fn agrees_with_the_time_crate_over_ten_thousand_years() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            // A fifth of the parts one past what is allowed, so that refusals agree as well.
            let text = format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}{}{:02}:{:02}",
                random.u32(0..=9999),
                random.u32(1..=12),
                random.u32(1..=31),
                random.u32(0..=24).min(random.u32(20..=24)),
                random.u32(0..60),
                random.u32(0..60),
                ["", ".5", ".123456789", ".000999"][random.usize(0..4)],
                ["+", "-"][random.usize(0..2)],
                random.u32(0..24),
                random.u32(0..60),
            );
            let theirs = OffsetDateTime::parse(&text, &Rfc3339).ok().filter(|time| {
                // They know a year before 0000 and one after 9999.
                (SECONDS_MIN..=SECONDS_MAX).contains(&time.unix_timestamp())
            });
            let ours = parse(text.as_bytes()).ok();
            assert_eq!(
                ours.map(|time| time.to_ms()),
                theirs.map(|time| {
                    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).expect("fits")
                }),
                "{text}"
            );
            if let Some(time) = ours {
                let rewritten = utc(&text).expect("valid");
                let again = parse(rewritten.as_bytes()).expect("what we write we read");
                assert!(again.is_canonical(), "{rewritten}");
                assert_eq!(again.to_ms(), time.to_ms(), "{text} {rewritten}");
                assert_eq!(format_utc(time.to_ms())[..19], rewritten[..19]);
            }
        }
    }

    #[test]
    fn every_day_comes_back_from_its_number() {
        let mut expected = SECONDS_MIN / DAY_SECONDS;
        for year in 0..=9999 {
            for month in 1..=12 {
                for day in 1..=month_days(year, month) {
                    let days = days_since_1970(year, month, day);
                    assert_eq!(days, expected);
                    let civil = (i64::from(year), i64::from(month), i64::from(day));
                    assert_eq!(civil_of(days), civil);
                    expected += 1;
                }
            }
        }
        assert_eq!(expected, SECONDS_MAX / DAY_SECONDS + 1);
    }

    #[test]
    fn milliseconds_are_cut_off_never_rounded() {
        let ms = |text: &str| parse(text.as_bytes()).expect("valid").to_ms();
        assert_eq!(ms("1970-01-01T00:00:00.9999Z"), 999);
        assert_eq!(ms("1969-12-31T23:59:59.0019Z"), -999);
        assert_eq!(ms("1970-01-01T00:00:01.5Z"), 1500);
        // In its own hour, not the next day.
        assert_eq!(ms("2016-12-31T23:59:60.7Z"), ms("2016-12-31T23:59:59.999Z"));
        assert_eq!(format_utc(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(format_utc(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(format_utc(i64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
