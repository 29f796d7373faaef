//! Times as the load, the generator and the oracle need them: milliseconds since 1970, UTC only.
//! Its own few lines, so that a fault in the product's time library would be seen.

use std::{
    fmt::{self, Display},
    time::{SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Millis(pub i64);

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Millis {
    /// # Panics
    /// When the machine's clock stands before 1970.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the clock is past 1970");
        Self(since.as_millis() as i64)
    }

    /// The number of the UTC hour since 1970.
    pub fn hour(self) -> i64 {
        self.0.div_euclid(HOUR_MS)
    }

    pub fn parts(self) -> Parts {
        let (days, ms) = (self.0.div_euclid(DAY_MS), self.0.rem_euclid(DAY_MS));
        let (year, month, day) = civil(days);
        Parts {
            year,
            month,
            day,
            hour: (ms / HOUR_MS) as u32,
            minute: (ms / 60_000 % 60) as u32,
            second: (ms / 1000 % 60) as u32,
            milli: (ms % 1000) as u32,
        }
    }

    /// As in an Apache log: `17/May/2015:10:05:03 +0000`.
    pub fn clf(self) -> impl Display {
        Clf(self.parts())
    }

    /// Reads `YYYY-MM-DDTHH:MM:SS[.fraction]Z`; fractions below a millisecond are dropped.
    pub fn parse_utc(text: &str) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
        let bytes = text.as_bytes();
        let at = |index: usize, byte: u8| bytes.get(index) == Some(&byte);
        if !(at(4, b'-') && at(7, b'-') && at(10, b'T') && at(13, b':') && at(16, b':')) {
            return None;
        }
        let fraction = text.get(19..)?.strip_suffix('Z')?;
        let milli = match fraction.strip_prefix('.') {
            Some(digits) => format!("{digits:0<3}").get(..3)?.parse::<i64>().ok()?,
            None if fraction.is_empty() => 0,
            None => return None,
        };
        let days = days(number(0..4)?, number(5..7)?, number(8..10)?);
        let seconds = (number(11..13)? * 60 + number(14..16)?) * 60 + number(17..19)?;
        Some(Self(days * DAY_MS + seconds * 1000 + milli))
    }
}

/// RFC 3339 with milliseconds.
impl Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = self.parts();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            p.year, p.month, p.day, p.hour, p.minute, p.second, p.milli
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub milli: u32,
}

struct Clf(Parts);

impl Display for Clf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let p = self.0;
        let month = MONTHS[p.month as usize - 1];
        write!(
            f,
            "{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000",
            p.day, p.year, p.hour, p.minute, p.second
        )
    }
}

/// Year, month and day of a number of days since 1970. Years begin in March here, so that the
/// leap day is the last one and every 400 years are alike.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_known() {
        let leap_day = Millis(1_709_164_800_000 + 3_723_004);
        assert_eq!(leap_day.to_string(), "2024-02-29T01:02:03.004Z");
        assert_eq!(leap_day.clf().to_string(), "29/Feb/2024:01:02:03 +0000");
    }

    #[test]
    fn a_time_reads_back_as_it_was() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let time = Millis(rng.i64(0..4_000_000_000_000));
            assert_eq!(Millis::parse_utc(&time.to_string()), Some(time));
        }
        assert_eq!(
            Millis::parse_utc("2024-02-29T01:02:03Z"),
            Some(Millis(1_709_168_523_000))
        );
        assert_eq!(Millis::parse_utc("2024-02-29 01:02:03Z"), None);
        assert_eq!(Millis::parse_utc("2024-02-29T01:02:03+01:00"), None);
    }
}
