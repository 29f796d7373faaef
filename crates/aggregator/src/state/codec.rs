//! The bytes of a state: counts as varints and strings, as `state` describes them. Pure.

use std::collections::BTreeMap;

use super::{Entry, FIXED_LEN, Head, Hours, MAGIC, VERSION};
use crate::{
    client::{Bot, Client, StatusClass},
    counts::{Content, Counts, Site, Traffic},
    hour::{Day, Hour, Period},
    sketch::Sketch,
    table::{Place, Table},
};

/// The clients that are no bots, before them.
const KINDS: u64 = 3;

impl Head {
    /// With what stands before it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let (kind, number) = match self.period {
            Period::Hour(hour) => (0, hour.0),
            Period::Day(day) => (1, day.0),
        };
        out.push(kind);
        put(&mut out, zigzag(number));
        put(&mut out, self.requests);
        put(&mut out, self.hours.len() as u64);
        for (hour, entry) in &self.hours {
            put(&mut out, u64::from(hour.of_day()));
            put(&mut out, entry.changed);
            put(&mut out, entry.requests);
            put_text(&mut out, &entry.state);
        }
        put(&mut out, self.body_len);
        out.extend_from_slice(&self.body_sha256);
        let len = u32::try_from(out.len() - FIXED_LEN).expect("at most 24 hours");
        out[6..FIXED_LEN].copy_from_slice(&len.to_le_bytes());
        out
    }

    /// # Errors
    /// What is odd about the bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut from = Reader(bytes);
        let kind = from.take(1)?[0];
        let number = unzigzag(from.number()?);
        let period = match kind {
            0 => Period::Hour(Hour(number)),
            1 => Period::Day(Day(number)),
            odd => return Err(format!("is of the kind {odd}")),
        };
        let requests = from.number()?;
        let mut hours = Hours::new();
        for _ in 0..from.number()? {
            let Period::Day(day) = period else {
                return Err("is an hour that has hours".to_owned());
            };
            let of_day: u8 = from.small("an hour")?;
            let entry = Entry {
                changed: from.number()?,
                requests: from.number()?,
                state: from.text()?.to_owned(),
            };
            hours.insert(Hour(day.hours().start.0 + i64::from(of_day)), entry);
        }
        let head = Self {
            period,
            requests,
            hours,
            body_len: from.number()?,
            body_sha256: from.take(32)?.try_into().expect("32 bytes"),
        };
        if !from.0.is_empty() {
            return Err(format!("has {} bytes behind its head", from.0.len()));
        }
        Ok(head)
    }
}

pub fn encode(content: &Content<'_>, out: &mut Vec<u8>) {
    put(out, content.classifications.len() as u64);
    for version in &content.classifications {
        put_text(out, version);
    }
    put(out, content.bots.len() as u64);
    let mut numbers = BTreeMap::new();
    for (number, bot) in content.bots.iter().enumerate() {
        numbers.insert(bot.name, number as u64);
        put_text(out, bot.name);
        put_text(out, bot.operator);
        put_text(out, bot.purpose);
    }
    let client = |client: Client<'_>| match client {
        Client::Human => 0,
        Client::Unknown => 1,
        Client::Empty => 2,
        Client::Bot(name) => KINDS + numbers[name],
    };
    put(out, content.sites_error_max);
    put(out, content.sites.len() as u64);
    for (site, counts) in &content.sites {
        match site {
            Site::None => out.push(0),
            Site::Other => out.push(1),
            Site::Named(name) => {
                out.push(2);
                put_text(out, name);
            }
        }
        put(out, counts.traffic.len() as u64);
        for ((hour, who, class), traffic) in &counts.traffic {
            put(out, u64::from(*hour));
            put(
                out,
                client(*who) * u64::from(StatusClass::COUNT) + u64::from(class.0),
            );
            put(out, traffic.requests);
            put(out, traffic.with_bytes);
            put(out, traffic.bytes as u64);
            put(out, (traffic.bytes >> 64) as u64);
        }
        put(out, counts.statuses.len() as u64);
        for (status, count) in &counts.statuses {
            put(out, u64::from(*status));
            put(out, *count);
        }
        put(out, counts.durations.buckets.len() as u64);
        for (bucket, count) in &counts.durations.buckets {
            put(out, zigzag(i64::from(*bucket)));
            put(out, *count);
        }
        for (_, table) in counts.tables() {
            put(out, table.other);
            put(out, table.error_max);
            put(out, table.missed.len() as u64);
            for (key, missed) in &table.missed {
                put_text(out, key);
                put(out, *missed);
            }
            put(out, table.keys().count() as u64);
            for rows in table.keys() {
                put_text(out, rows[0].0.key);
                put(out, rows.len() as u64);
                for (place, count) in rows {
                    let class = u64::from(place.class.0);
                    put(
                        out,
                        client(place.client) * u64::from(StatusClass::COUNT) + class,
                    );
                    put(out, *count);
                }
            }
        }
    }
}

/// # Errors
/// What is odd about the bytes.
pub fn decode(bytes: &[u8]) -> Result<Content<'_>, String> {
    let mut from = Reader(bytes);
    let mut content = Content::default();
    for _ in 0..from.number()? {
        content.classifications.push(from.text()?);
    }
    for _ in 0..from.number()? {
        content.bots.push(Bot {
            name: from.text()?,
            operator: from.text()?,
            purpose: from.text()?,
        });
    }
    content.sites_error_max = from.number()?;
    for _ in 0..from.number()? {
        let site = match from.take(1)? {
            [0] => Site::None,
            [1] => Site::Other,
            [2] => Site::Named(from.text()?),
            odd => return Err(format!("has a site of the kind {}", odd[0])),
        };
        let counts = from.counts(&content.bots)?;
        content.sites.push((site, counts));
    }
    if !from.0.is_empty() {
        return Err(format!("has {} bytes behind its end", from.0.len()));
    }
    Ok(content)
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Takes values off the front. What it reads has a hash that holds, so numbers of things are
/// believed, but no more is asked of memory than its bytes can fill.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| format!("ends {} bytes too early", len - self.0.len()))?;
        self.0 = rest;
        Ok(head)
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("has a number of more than 64 bits".to_owned())
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let len = self.number()?;
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map_err(|error| error.to_string())
    }

    fn counts(&mut self, bots: &[Bot<'a>]) -> Result<Counts<'a>, String> {
        let mut counts = Counts::default();
        for _ in 0..self.number()? {
            let hour = self.small("an hour")?;
            let (client, class) = self.client(bots)?;
            let traffic = Traffic {
                requests: self.number()?,
                with_bytes: self.number()?,
                bytes: u128::from(self.number()?) | u128::from(self.number()?) << 64,
            };
            counts.traffic.push(((hour, client, class), traffic));
        }
        for _ in 0..self.number()? {
            let status = self.small("a status code")?;
            counts.statuses.push((status, self.number()?));
        }
        let mut buckets = Vec::new();
        for _ in 0..self.number()? {
            let bucket =
                i32::try_from(unzigzag(self.number()?)).map_err(|_| "has an odd bucket")?;
            buckets.push((bucket, self.number()?));
        }
        counts.durations = Sketch { buckets };
        for table in counts.tables_mut() {
            *table = self.table(bots)?;
        }
        Ok(counts)
    }

    fn table(&mut self, bots: &[Bot<'a>]) -> Result<Table<'a>, String> {
        let mut table = Table {
            other: self.number()?,
            error_max: self.number()?,
            ..Table::default()
        };
        for _ in 0..self.number()? {
            table.missed.push((self.text()?, self.number()?));
        }
        let keys = self.number()?;
        // A key takes four bytes at least.
        table.rows.reserve((keys as usize).min(self.0.len() / 4));
        for _ in 0..keys {
            let key = self.text()?;
            for _ in 0..self.number()? {
                let (client, class) = self.client(bots)?;
                table
                    .rows
                    .push((Place { key, client, class }, self.number()?));
            }
        }
        Ok(table)
    }

    fn client(&mut self, bots: &[Bot<'a>]) -> Result<(Client<'a>, StatusClass), String> {
        let number = self.number()?;
        let class = StatusClass((number % u64::from(StatusClass::COUNT)) as u8);
        let client = match number / u64::from(StatusClass::COUNT) {
            0 => Client::Human,
            1 => Client::Unknown,
            2 => Client::Empty,
            bot => {
                let bot = bots.get((bot - KINDS) as usize);
                Client::Bot(bot.ok_or("names a bot that it does not list")?.name)
            }
        };
        Ok((client, class))
    }

    fn small<T: TryFrom<u64>>(&mut self, what: &str) -> Result<T, String> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| format!("has {number} as {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content<'static> {
        let place = |key, client, class| Place {
            key,
            client,
            class: StatusClass(class),
        };
        let paths = Table {
            rows: vec![
                (place("/", Client::Human, 2), 3),
                (place("/", Client::Bot("b"), 0), 1),
                (place("/\u{e9}", Client::Empty, 5), u64::MAX),
            ],
            other: 7,
            error_max: 2,
            missed: vec![("/\u{e9}", 2)],
        };
        let counts = Counts {
            traffic: vec![(
                (23, Client::Bot("b"), StatusClass(4)),
                Traffic {
                    requests: 1,
                    with_bytes: 1,
                    bytes: u128::MAX,
                },
            )],
            statuses: vec![(599, 1)],
            durations: Sketch {
                buckets: vec![(i32::MIN, 1), (-3, 2), (7, 1)],
            },
            paths,
            ..Counts::default()
        };
        let bot = |name| Bot {
            name,
            operator: "o",
            purpose: "p",
        };
        Content {
            classifications: vec!["1", "2"],
            bots: vec![bot("a"), bot("b")],
            sites: vec![
                (Site::None, Counts::default()),
                (Site::Other, counts.clone()),
                (Site::Named("s.example"), counts),
            ],
            sites_error_max: 4,
        }
    }

    #[test]
    fn what_is_encoded_comes_back() {
        for content in [content(), Content::default()] {
            let mut bytes = Vec::new();
            encode(&content, &mut bytes);
            assert_eq!(decode(&bytes).unwrap(), content);
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_an_error_or_a_content() {
        let mut bytes = Vec::new();
        encode(&content(), &mut bytes);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len}");
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[len] ^= 1 << bit;
                let _ = decode(&wrong);
            }
        }
    }
}
