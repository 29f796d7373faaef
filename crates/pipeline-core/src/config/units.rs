//! Numbers with units: durations and sizes, read and shown.

use std::time;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const SIZE_UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
];

/// `0` needs no unit.
pub(super) fn duration(text: &str) -> Option<time::Duration> {
    if text == "0" {
        return Some(time::Duration::ZERO);
    }
    with_unit(text, &DURATION_UNITS).map(time::Duration::from_millis)
}

/// Without a unit in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    with_unit(text, &SIZE_UNITS)
}

pub(super) fn whole_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

pub(super) fn show_duration(ms: u64) -> String {
    show(ms, &DURATION_UNITS)
}

pub(super) fn show_size(bytes: u64) -> String {
    // In binary units; the decimal ones do not divide them.
    let units: Vec<_> = [("", 1)]
        .into_iter()
        .chain(SIZE_UNITS.into_iter().skip(8))
        .collect();
    show(bytes, &units)
}

/// `1.5GiB`: a decimal number and a unit; what comes out is whole.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Nine digits behind the point are exact in 128 bits for every unit.
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).expect("at most nine"));
    let parts = u128::from(whole_number(whole)?) * scale + u128::from(whole_number(fraction)?);
    let scaled = parts.checked_mul(u128::from(*factor))?;
    (scaled % scale == 0)
        .then(|| u64::try_from(scaled / scale).ok())
        .flatten()
}

/// With the largest unit that leaves a whole number.
fn show(value: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor))
        .unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_sizes_may() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("1.5s", 1_500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(text),
                Some(time::Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "10",
            "s",
            "10 sec",
            "-1s",
            "1.5ms",
            "1e3s",
            "1h30m",
            "10S",
            ".5s",
            "99999999999999999999s",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
        for (text, bytes) in [
            ("2000000", 2_000_000),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("10GiB", 10 << 30),
            ("1KB", 1_000),
            ("1.5KiB", 1_536),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "64Mib",
            "64M",
            "-1",
            "1.0001KiB",
            "99999999PiB",
            "1..5KB",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn bounds_are_shown_as_people_write_them() {
        assert_eq!(show_size(16 << 30), "16GiB");
        assert_eq!(show_size(1), "1");
        assert_eq!(show_size(0), "0");
        assert_eq!(show_size(1025), "1025");
        assert_eq!(show_duration(90_000), "90s");
        assert_eq!(show_duration(0), "0ms");
        assert_eq!(show_duration(86_400_000), "1d");
    }
}
