//! What segments bring for which place of the archive: numbers alone. Pure. Whoever counts records
//! learns their places on the way; [`Places`] is for those that only sort them, and cheap: a line is
//! mostly of the same hour as the one before it, which its first bytes tell.

use std::collections::BTreeMap;

use pipeline_core::{
    Offset,
    record::{self, RecordError},
};

use super::{ChainId, Place};
use crate::hour::Hour;

/// What one segment brings.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub chain: ChainId,
    pub first: Offset,
    pub next: Offset,
    /// When it was stored.
    pub stored_ms: i64,
    pub sizes: BTreeMap<Place, Size>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Size {
    pub records: u64,
    /// Of their lines.
    pub bytes: u64,
}

/// Begins nearly every line; behind it stand the hour and the rest of the time.
pub const BEFORE: &[u8] = b"{\"timestamp\":\"";
/// Of [`BEFORE`] and `2015-05-17T10`.
const HOUR_END: usize = BEFORE.len() + 13;

/// Sizes by place, of records that mostly stand beside others of theirs.
#[derive(Debug, Default)]
pub struct Sizes {
    all: BTreeMap<Place, Size>,
    /// The last one's place and what came for it in a row: not in `all` yet.
    place: Place,
    size: Size,
}

impl Sizes {
    #[inline]
    pub fn add(&mut self, place: Place, line: &[u8]) {
        if self.place != place {
            self.turn_to(place);
        }
        self.size.records += 1;
        self.size.bytes += line.len() as u64;
    }

    #[must_use]
    pub fn end(mut self) -> BTreeMap<Place, Size> {
        self.turn_to(Place::default());
        self.all
    }

    fn turn_to(&mut self, place: Place) {
        let before = std::mem::replace(&mut self.place, place);
        let more = std::mem::take(&mut self.size);
        if more.records > 0 {
            let size = self.all.entry(before).or_default();
            size.records += more.records;
            size.bytes += more.bytes;
        }
    }
}

/// The places of lines, with the last hour seen.
#[derive(Default)]
pub struct Places {
    begin: Vec<u8>,
    hour: Hour,
}

impl Places {
    /// # Errors
    /// Where the line is no record.
    pub fn of(&mut self, line: &[u8], received_ms: i64) -> Result<Place, RecordError> {
        let begin = line
            .get(..HOUR_END)
            .filter(|begin| begin.starts_with(BEFORE));
        if begin.is_none_or(|begin| begin != self.begin) {
            let ms = record::read(line)?.timestamp_ms;
            let Some(begin) = begin else {
                return Ok(Place::of(ms, received_ms));
            };
            self.begin.clear();
            self.begin.extend_from_slice(begin);
            self.hour = Hour::of_ms(ms);
        }
        // Only an hour that ends ahead of its receipt may hold both kinds.
        let hour = self.hour;
        let last_ms = Place::of(hour.end_ms() - 1, received_ms);
        if last_ms.aside {
            return Ok(Place::of(record::read(line)?.timestamp_ms, received_ms));
        }
        Ok(last_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_that_of_the_whole_record() {
        let mut places = Places::default();
        let received = 1_431_857_103_000;
        let mut of = |line: &str| places.of(line.as_bytes(), received).unwrap().to_string();
        for (line, place) in [
            (
                r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/","userAgent":"-"}"#,
                "2015-05-17T10",
            ),
            (
                r#"{"timestamp":"2015-05-17T10:59:03Z","path":"/","userAgent":"-"}"#,
                "2015-05-17T10",
            ),
            (
                r#"{"path":"/","timestamp":"2015-05-17T11:05:03Z","userAgent":"-"}"#,
                "2015-05-17T11",
            ),
            (
                r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/","userAgent":"-"}"#,
                "2015-05-17T10",
            ),
            // 24 h ahead of 10:05:03 is in the midst of an hour.
            (
                r#"{"timestamp":"2015-05-18T10:05:03Z","path":"/","userAgent":"-"}"#,
                "2015-05-18T10",
            ),
            (
                r#"{"timestamp":"2015-05-18T10:05:04Z","path":"/","userAgent":"-"}"#,
                "aside:2015-05-18T10",
            ),
            (
                r#"{"timestamp":"2015-05-18T10:05:02Z","path":"/","userAgent":"-"}"#,
                "2015-05-18T10",
            ),
            (
                r#"{"timestamp":"2099-01-01T00:00:00Z","path":"/","userAgent":"-"}"#,
                "aside:2099-01-01T00",
            ),
            (
                r#"{"timestamp":"1970-01-01T00:00:00Z","path":"/","userAgent":"-"}"#,
                "1970-01-01T00",
            ),
        ] {
            assert_eq!(of(line), place, "{line}");
            assert_eq!(place.parse::<Place>().unwrap().to_string(), place);
        }
        assert!(
            places
                .of(b"{\"timestamp\":\"2015-05-17T1", received)
                .is_err()
        );
        assert!(
            places
                .of(b"{\"timestamp\":\"2015-05-17T12:00:00Z\"}", received)
                .is_err()
        );
    }
}
