//! One UTC hour, which is the unit of everything counted here. Knows the calendar by way of
//! `pipeline_core::record::timestamp` and nothing else.

use std::fmt;

use pipeline_core::record::timestamp;

const HOUR_MS: i64 = 3_600_000;

/// Hours since 1970 UTC. Displayed as `2015-05-17T10`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Hour(pub i64);

impl Hour {
    #[must_use]
    pub fn of_ms(ms: i64) -> Self {
        Self(ms.div_euclid(HOUR_MS))
    }

    #[must_use]
    pub fn begin_ms(self) -> i64 {
        self.0.saturating_mul(HOUR_MS)
    }

    /// The first millisecond behind it.
    #[must_use]
    pub fn end_ms(self) -> i64 {
        self.0.saturating_add(1).saturating_mul(HOUR_MS)
    }

    #[must_use]
    pub fn day(self) -> Day {
        Day(self.0.div_euclid(24))
    }

    /// 0 to 23.
    #[must_use]
    pub fn of_day(self) -> u8 {
        self.0.rem_euclid(24) as u8
    }

    /// What [`fmt::Display`] gives, back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let whole = format!("{text}:00:00Z");
        let hour = Self::of_ms(timestamp::parse(whole.as_bytes()).ok()?.to_ms());
        (hour.to_string() == text).then_some(hour)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&timestamp::format_utc(self.0.saturating_mul(HOUR_MS))[..13])
    }
}

impl serde::Serialize for Hour {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hour {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an hour")))
    }
}

/// Days since 1970 UTC. Displayed as `2015-05-17`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(pub i64);

impl Day {
    /// The first of the day's hours, and the first behind them.
    #[must_use]
    pub fn hours(self) -> std::ops::Range<Hour> {
        Hour(self.0 * 24)..Hour(self.0 * 24 + 24)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&timestamp::format_utc(self.0.saturating_mul(24 * HOUR_MS))[..10])
    }
}

impl Day {
    /// What [`fmt::Display`] gives, back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Hour::parse(&format!("{text}T00")).map(Hour::day)
    }
}

impl serde::Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no day")))
    }
}

/// What counts are kept for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Period {
    Hour(Hour),
    Day(Day),
}

impl Period {
    /// What [`fmt::Display`] gives, back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hour = Hour::parse(text).map(Self::Hour);
        hour.or_else(|| Day::parse(text).map(Self::Day))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour(hour) => hour.fmt(f),
            Self::Day(day) => day.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_are_what_the_calendar_says() {
        for (ms, hour, day, of_day) in [
            (0, "1970-01-01T00", "1970-01-01", 0),
            (-1, "1969-12-31T23", "1969-12-31", 23),
            (1_431_857_103_999, "2015-05-17T10", "2015-05-17", 10),
            (951_782_400_000, "2000-02-29T00", "2000-02-29", 0),
            (253_402_300_799_999, "9999-12-31T23", "9999-12-31", 23),
            (-62_167_219_200_000, "0000-01-01T00", "0000-01-01", 0),
        ] {
            let found = Hour::of_ms(ms);
            assert_eq!(found.to_string(), hour);
            assert_eq!(found.day().to_string(), day);
            assert_eq!(found.of_day(), of_day);
            assert_eq!(Hour::parse(hour), Some(found));
            assert!(found.day().hours().contains(&found));
            assert_eq!(Period::parse(hour), Some(Period::Hour(found)));
            assert_eq!(Period::parse(day), Some(Period::Day(found.day())));
        }
        for wrong in [
            "",
            "2015-05-17",
            "2015-05-17T24",
            "2015-05-17T1",
            "2015-02-30T00",
        ] {
            assert_eq!(Hour::parse(wrong), None, "{wrong}");
        }
    }
}
