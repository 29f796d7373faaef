//! Many lines, one after the other: those of one sender have their members in one order, so what
//! stands before each value is mostly known beforehand, and so is the hour. A line that is any
//! different is left to [`read`], which alone judges: so this only ever says the same.

use super::{
    Fields, Known, RecordError,
    marks::Marks,
    quick::{self, Member, Values},
    read, timestamp,
};

/// Longer ones are looked at as well, but not in one go.
const WORD_BYTES: usize = 16;
/// Members that are remembered; a line with more is not.
const MEMBERS_MAX: usize = 32;
/// Lines that are not alike before how they are is learnt anew: learning takes longer than reading.
const PATIENCE: u8 = 16;
const HOUR_MS: i64 = 3_600_000;

/// Reads lines faster the more they are like each other.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Of a line before; the next one may have fewer of them.
    members: Vec<Expected>,
    patience: u8,
    /// Of the line that is read.
    marks: Marks,
    /// Of the last time in UTC: `2015-05-17T10`, and when it begins.
    hour: [u8; 13],
    hour_ms: i64,
}

#[derive(Clone, Debug)]
struct Expected {
    /// What stands before the value; the first bytes of it as a number, in `mask`.
    before: Box<[u8]>,
    word: u128,
    mask: u128,
    known: Option<Known>,
    is_text: bool,
}

impl Reader {
    /// As [`read`].
    ///
    /// # Errors
    /// As [`read`].
    pub fn read<'l>(&mut self, line: &'l [u8]) -> Result<Fields<'l>, RecordError> {
        if let Some(text) = self.marks.look(line) {
            if let Some(values) = self.values(text)
                && let Some(fields) = values.fields(|text| self.time(text))
            {
                return Ok(fields);
            }
            match self.patience.checked_sub(1) {
                None => self.learn(text),
                Some(left) => self.patience = left,
            }
        }
        read(line)
    }

    /// Of a line that was looked at.
    fn values<'l>(&self, line: &'l str) -> Option<Values<'l>> {
        let bytes = line.as_bytes();
        let mut values = Values::default();
        let mut at = 0;
        for member in &self.members {
            // One that is not there is passed over.
            if !member.stands_at(bytes, at) {
                continue;
            }
            let start = at + member.before.len();
            if member.is_text {
                let end = self.marks.quote(start)?;
                at = end + 1;
                if let Some(known) = member.known {
                    values.text(known, line.get(start..end)?);
                }
            } else {
                let (number, end) = quick::number(bytes, start)?;
                at = end;
                if let Some(known) = member.known {
                    values.number(known, number);
                }
            }
        }
        (bytes.get(at..) == Some(b"}")).then_some(values)
    }

    #[inline]
    fn time(&mut self, text: &[u8]) -> Option<i64> {
        if let Some(ms) = self.time_of_hour(text) {
            return Some(ms);
        }
        let time = timestamp::parse(text).ok()?;
        // One in UTC: the clock's hour begins with one of ours.
        if time.is_canonical() {
            self.hour = *text.first_chunk()?;
            self.hour_ms = time.to_ms().div_euclid(HOUR_MS) * HOUR_MS;
        }
        Some(time.to_ms())
    }

    /// A time of the hour that is known, to the second or the millisecond.
    #[inline]
    fn time_of_hour(&self, text: &[u8]) -> Option<i64> {
        let (hour, rest) = text.split_first_chunk::<13>()?;
        let (clock, zone) = rest.split_first_chunk::<6>()?;
        let [b':', m1 @ b'0'..=b'5', m2, b':', s1 @ b'0'..=b'5', s2] = *clock else {
            return None;
        };
        let ms = match *zone {
            [b'Z'] => 0,
            [b'.', a, b, c, b'Z'] => 100 * digit(a)? + 10 * digit(b)? + digit(c)?,
            _ => return None,
        };
        let two = |tens: u8, ones: u8| Some(10 * i64::from(tens - b'0') + digit(ones)?);
        let seconds = 60 * two(m1, m2)? + two(s1, s2)?;
        (*hour == self.hour).then(|| self.hour_ms + 1000 * seconds + ms)
    }

    #[cold]
    fn learn(&mut self, line: &str) {
        self.patience = PATIENCE;
        let mut members = Vec::new();
        let values = quick::values(line, |member| {
            if members.len() <= MEMBERS_MAX {
                members.push(Expected::new(&member));
            }
        });
        if values.is_some() && members.len() <= MEMBERS_MAX {
            self.members = members;
        }
    }
}

impl Expected {
    fn new(member: &Member<'_>) -> Self {
        let mut word = [0; WORD_BYTES];
        let mut mask = [0; WORD_BYTES];
        for (at, byte) in member.before.iter().take(WORD_BYTES).enumerate() {
            (word[at], mask[at]) = (*byte, 0xff);
        }
        Self {
            before: member.before.into(),
            word: u128::from_le_bytes(word),
            mask: u128::from_le_bytes(mask),
            known: member.known,
            is_text: member.is_text,
        }
    }

    #[inline]
    fn stands_at(&self, bytes: &[u8], at: usize) -> bool {
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.first_chunk::<WORD_BYTES>() {
            Some(found) if self.before.len() <= WORD_BYTES => {
                u128::from_le_bytes(*found) & self.mask == self.word
            }
            _ => rest.starts_with(&self.before),
        }
    }
}

#[inline]
fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 6] = [
        r#"{"timestamp":"2015-05-17T10:05:03Z","path":"/a?b=1","userAgent":"Agent/1 (x)","status":200,"bytes":512,"durationMs":12.5,"remoteAddr":"192.0.2.1","referer":"-","a field with a long name":1,"y":"z"}"#,
        // Fewer, more, in another order; another hour, finer, of another zone, a leap second.
        r#"{"timestamp":"2015-05-17T10:05:03.250Z","path":"/","userAgent":"-","durationMs":0}"#,
        r#"{"path":"/","userAgent":"\u{e9}","timestamp":"2015-05-17T11:00:00Z","site":"a.example"}"#,
        r#"{"timestamp":"2016-12-31T23:59:60Z","path":"/","userAgent":"-","status":304,"y":""}"#,
        r#"{"timestamp":"2015-05-17T10:05:03.123456Z","path":"/","userAgent":"x","status":200}"#,
        r#"{"timestamp":"2015-05-17T10:05:03+01:00","path":"/","userAgent":"x","method":"GET"}"#,
    ];

    fn line(rng: &mut fastrand::Rng) -> String {
        LINES[rng.usize(..LINES.len())].replace("\\u{e9}", "\u{e9}")
    }

    /// Whatever came before and whatever bytes are changed.
    #[test]
    fn lines_that_are_alike_are_read_as_each_alone() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut reader, mut right) = (Reader::default(), 0);
        for _ in 0..60_000 {
            let mut bytes = line(&mut rng).into_bytes();
            for _ in 0..rng.usize(0..3) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..5) {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, *rng.choice(b"\"\\,:{}01.e-x \n").unwrap()),
                    2 => bytes[at] = rng.u8(b' '..b'~'),
                    _ => bytes[at] = *rng.choice(b"0123456789.").unwrap(),
                }
            }
            let found = reader.read(&bytes);
            right += usize::from(found.is_ok());
            assert_eq!(found, read(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
        assert!(right > 20_000, "{right}");
    }

    /// Each second of some hours, in any order of hours.
    #[test]
    fn times_are_those_of_each_line() {
        let mut reader = Reader::default();
        for (at, hour) in [
            "2015-05-17T10",
            "1969-12-31T23",
            "2015-05-17T10",
            "0000-01-01T00",
        ]
        .iter()
        .enumerate()
        {
            for second in 0..3600 {
                let (minute, second) = (second / 60, second % 60);
                let fraction = ["", ".5", ".007", ".0071"][(at + second) % 4];
                let time = format!("{hour}:{minute:02}:{second:02}{fraction}Z");
                let line = format!(r#"{{"timestamp":"{time}","path":"/","userAgent":"-"}}"#);
                assert_eq!(
                    reader.read(line.as_bytes()),
                    read(line.as_bytes()),
                    "{time}"
                );
            }
        }
    }

    #[test]
    fn what_was_learnt_is_used() {
        let mut reader = Reader::default();
        let mut read = |line: &str| {
            let text = reader.marks.look(line.as_bytes());
            let known = text.is_some_and(|text| reader.values(text).is_some());
            reader.read(line.as_bytes()).unwrap();
            known
        };
        assert!(!read(LINES[0]));
        // The same; and one with fewer members.
        assert!(read(LINES[0]) && read(LINES[1]));
        // Others, until they are many.
        let others = (0..100).take_while(|_| !read(LINES[5])).count();
        assert_eq!(others, usize::from(PATIENCE) + 1);
        assert!(!read(LINES[0]));
    }
}
