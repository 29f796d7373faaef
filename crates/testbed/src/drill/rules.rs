//! The deployed rules, made quick for a drill: nobody waits an hour to see an alert about an hour.
//! Pure: texts in, texts out.
//!
//! Only times change. In `alerts.yml` each duration (`for:`, `keep_firing_for:`, `[range]`,
//! `offset`) is divided by [`PACE`], with at least what two scrapes need in a range and at most 20 s
//! before an alert fires; the bounds that are times or follow from one ([`BOUNDS`]) are shortened as
//! listed. In `books.yml` the window of six hours becomes one minute and its margins 10 s
//! ([`BOOKS`]). Names, matchers, comparisons, labels: as deployed.

use anyhow::{Context, Result, bail};

/// Bounds in `alerts.yml`: what stands there, and what a drill has instead.
pub const BOUNDS: [(&str, &str); 6] = [
    (
        "producer_dlq_oldest_age_seconds > 3600",
        "producer_dlq_oldest_age_seconds > 8",
    ),
    (
        "aggregation_lag_seconds > 900",
        "aggregation_lag_seconds > 8",
    ),
    (
        "sluice:lag_records:sum > 10000",
        "sluice:lag_records:sum > 100",
    ),
    (
        "(min(kafka_topic_retention_seconds > 0) / 2)",
        "(min(kafka_topic_retention_seconds > 0) / 60000)",
    ),
    (
        "(consumer_dedup_reach_seconds > 0) < 3600",
        "(consumer_dedup_reach_seconds > 0) < 60",
    ),
    (
        "consumer_dedup_reach_seconds offset 30m) < 1500",
        "consumer_dedup_reach_seconds offset 30m) < 25",
    ),
];
/// What durations in `alerts.yml` are divided by.
pub const PACE: u64 = 60;

/// Durations in `books.yml`.
pub const BOOKS: [(&str, &str); 7] = [
    ("30s", "1s"),
    ("3m", "10s"),
    ("5m", "10s"),
    ("10m", "3s"),
    ("1h", "60s"),
    ("354m", "40s"),
    ("6h", "60s"),
];
/// The last one: six hours and what `max_over_time` looks back.
const UNKNOWN: (&str, &str) = ("365m", "66s");

/// A range needs two scrapes, one of which may be late.
const RANGE_MIN: u64 = 4;
/// An alert of a drill fires, and is over, within so much.
const FOR_MAX: u64 = 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `for:` and `keep_firing_for:`
    For,
    Range,
    Offset,
    /// Of a group.
    Interval,
}

/// `alerts.yml` with its times divided.
///
/// # Errors
/// When a bound does not stand there any more, or a duration is of no known unit.
pub fn alerts(text: &str) -> Result<String> {
    let mut text = text.to_owned();
    for (found, wanted) in BOUNDS {
        if !text.contains(found) {
            bail!("the drill shortens `{found}`, which is not in alerts.yml");
        }
        text = text.replace(found, wanted);
    }
    each_duration(&text, |duration, place| {
        let seconds = seconds(duration)?.div_ceil(PACE);
        let seconds = match place {
            Place::For => seconds.clamp(1, FOR_MAX),
            Place::Range => seconds.max(RANGE_MIN),
            Place::Offset | Place::Interval => seconds.max(1),
        };
        Ok(format!("{seconds}s"))
    })
}

/// `books.yml` with its window of a minute.
///
/// # Errors
/// When a duration stands there that the drill does not know.
pub fn books(text: &str) -> Result<String> {
    each_duration(text, |duration, _| {
        let mut known = BOOKS.iter().chain([&UNKNOWN]);
        let found = known.find(|(found, _)| *found == duration);
        let (_, wanted) =
            found.with_context(|| format!("the drill knows no {duration} in books.yml"))?;
        Ok((*wanted).to_owned())
    })
}

/// The text with each duration replaced; what people read (`summary`, `description`, comments) stays.
fn each_duration(
    text: &str,
    mut replaced: impl FnMut(&str, Place) -> Result<String>,
) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let trimmed = line.trim_start();
        let prose = ["#", "summary:", "description:", "runbook_url:"];
        if prose.iter().any(|start| trimmed.starts_with(start)) {
            out.push_str(line);
        } else {
            let mut rest = line;
            while let Some((at, end, place)) = next_duration(rest) {
                out.push_str(&rest[..at]);
                out.push_str(&replaced(&rest[at..end], place)?);
                rest = &rest[end..];
            }
            out.push_str(rest);
        }
        out.push('\n');
    }
    Ok(out)
}

/// Where the next duration begins and ends.
fn next_duration(text: &str) -> Option<(usize, usize, Place)> {
    const STARTS: [(&str, Place); 5] = [
        ("keep_firing_for: ", Place::For),
        ("for: ", Place::For),
        ("interval: ", Place::Interval),
        ("offset ", Place::Offset),
        ("[", Place::Range),
    ];
    let all = STARTS.iter().flat_map(|(start, place)| {
        let places = text.match_indices(start);
        places.filter_map(move |(at, _)| {
            let at = at + start.len();
            let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
            let unit = text[at + digits..].bytes();
            let unit = unit.take_while(u8::is_ascii_alphabetic).count();
            (digits > 0 && unit > 0).then_some((at, at + digits + unit, *place))
        })
    });
    all.min_by_key(|(at, ..)| *at)
}

fn seconds(duration: &str) -> Result<u64> {
    let unit = duration.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = duration[..duration.len() - unit.len()].parse()?;
    let each = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => bail!("{duration} is of no known unit"),
    };
    Ok(number * each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_change() {
        let bounds = BOUNDS.map(|(found, _)| format!("# {found}\n")).concat();
        let text = "  for: 5m\n  expr: rate(a[5m]) > 3 and b offset 30m < 14 * 86400\n  \
                    keep_firing_for: 1h\n  description: \"for: 5m\"\n  x: c{le=\"5m\"}[1d]\n";
        let quick = alerts(&format!("{bounds}{text}")).expect("known");
        let end = quick.lines().skip(BOUNDS.len()).collect::<Vec<_>>();
        assert_eq!(
            end,
            [
                "  for: 5s",
                "  expr: rate(a[5s]) > 3 and b offset 30s < 14 * 86400",
                "  keep_firing_for: 20s",
                "  description: \"for: 5m\"",
                "  x: c{le=\"5m\"}[1440s]",
            ]
        );
        assert!(alerts(text).is_err(), "a bound that is gone is said");
    }

    #[test]
    fn the_books_know_their_own_durations_alone() {
        let quick = books("interval: 30s\nx: a[354m] offset 3m - b[5m] offset 6h\n");
        let wanted = "interval: 1s\nx: a[40s] offset 10s - b[10s] offset 60s\n";
        assert_eq!(quick.expect("known"), wanted);
        assert!(books("for: 7m\n").is_err());
    }
}
