//! The load's bodies: from a seed and a request's number alone, so that nothing of them is kept
//! and the oracle can make any record again.
//!
//! Each record's path is `/t/<request>/<index>` and occurs once in the whole load.

use std::io::Write;

use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};

use crate::clock::{HOUR_MS, Millis};

/// What the whole load looks like.
#[derive(Clone, Debug)]
pub struct Mix {
    pub seed: u64,
    /// Records in a body: between these, small ones more often (evenly over the logarithm).
    pub records: (u32, u32),
    /// The hour that the first requests' records fall into.
    pub first_hour: i64,
    /// Records that share an hour, about: below the analytics' bound on keys.
    pub records_per_hour: u32,
    /// One request in so many holds a broken record; 0 for none.
    pub broken_every: u32,
    /// One record in so many is a stray; 0 for none.
    pub strays_every: u32,
}

/// The kinds of body that the contract knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    JsonArray,
    NdJson,
    Csv,
    CsvBare,
    LogLines,
}

/// One request, before its bytes are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    pub number: u32,
    pub format: Format,
    /// Records in it, a broken one included.
    pub count: u32,
    /// The index of the broken one.
    pub broken: Option<u32>,
    pub gzip: bool,
    /// Sent with an `Idempotency-Key`.
    pub keyed: bool,
    /// Sent again after its 202.
    pub again: bool,
}

/// What a record must look like in the store; `None` where its format has no such field.
#[derive(Clone, PartialEq, Debug)]
pub struct Expected {
    pub time: Millis,
    pub path: String,
    pub agent: &'static str,
    pub site: Option<&'static str>,
    pub status: Option<u16>,
    pub bytes: Option<u64>,
}

/// 2099-01-01T00:00:00Z
const HOUR_OF_2099: i64 = 1_130_808;
const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/137.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; \
     +https://openai.com/gptbot)",
    "curl/8.14.1",
    "Feedly/1.0 (+https://feedly.com/poller.html)",
];
const SITES: [&str; 4] = [
    "shop.example",
    "news.example",
    "docs.example",
    "blog.example",
];
const STATUSES: [u16; 5] = [200, 200, 304, 404, 500];

impl Default for Mix {
    fn default() -> Self {
        Self {
            seed: 1,
            records: (1, 5000),
            // 40 days back leaves room for 19 million records before the load reaches today.
            first_hour: Millis::now().hour() - 960,
            records_per_hour: 20_000,
            broken_every: 37,
            strays_every: 0,
        }
    }
}

impl Mix {
    pub fn shape(&self, number: u32) -> Shape {
        let mut rng = self.rng(number);
        let (low, high) = self.records;
        let spread = f64::from(high) / f64::from(low);
        let count = (f64::from(low) * spread.powf(rng.f64())).round() as u32;
        let count = count.clamp(low, high);
        let format = match rng.u32(0..20) {
            0..7 => Format::NdJson,
            7..12 => Format::JsonArray,
            12..15 => Format::Csv,
            15..16 => Format::CsvBare,
            _ => Format::LogLines,
        };
        // The number alone decides these, so that a short load has its share of each.
        let broken = (self.broken_every > 0
            && count > 1
            && number % self.broken_every == self.broken_every - 1)
            .then(|| rng.u32(0..count));
        Shape {
            number,
            format,
            count,
            broken,
            gzip: rng.bool(),
            keyed: number % 10 < 4,
            again: number.is_multiple_of(10),
        }
    }

    /// The body, not compressed.
    pub fn body(&self, shape: &Shape) -> Vec<u8> {
        let mut out = Vec::with_capacity(shape.count as usize * 240);
        match shape.format {
            Format::Csv => {
                out.extend_from_slice(b"timestamp,site,path,userAgent,status,bytes\n");
            }
            Format::JsonArray => out.push(b'['),
            _ => {}
        }
        for index in 0..shape.count {
            let record = self.record(shape, index);
            if shape.broken == Some(index) {
                break_record(&mut out, shape.format, &record, index);
            } else {
                append(&mut out, shape.format, &record, index);
            }
        }
        if shape.format == Format::JsonArray {
            out.push(b']');
        }
        out
    }

    /// What the store must hold of a record.
    pub fn record(&self, shape: &Shape, index: u32) -> Expected {
        let (number, mixed) = (
            shape.number,
            shape.number.wrapping_mul(31).wrapping_add(index),
        );
        let known = shape.format != Format::CsvBare;
        Expected {
            time: self.time(number, index),
            path: format!("/t/{number}/{index}"),
            agent: AGENTS[(mixed / 7) as usize % AGENTS.len()],
            site: known.then(|| match shape.format {
                // The whole body has one: it is named in the query.
                Format::LogLines => site_of(shape),
                _ => SITES[(mixed / 3) as usize % SITES.len()],
            }),
            status: known.then(|| STATUSES[mixed as usize % STATUSES.len()]),
            bytes: known.then_some(u64::from(mixed) % 50_000),
        }
    }

    /// The hour of the record's own time, since 1970.
    pub fn hour(&self, number: u32, index: u32) -> i64 {
        self.time(number, index).hour()
    }

    /// Whether the record is dated 1970 or 2099, and so in no summary: it is removed with its day
    /// (where retention is set so), or counted aside.
    pub fn is_stray(&self, number: u32, index: u32) -> bool {
        let mixed = number.wrapping_mul(31).wrapping_add(index);
        self.strays_every > 0 && mixed.is_multiple_of(self.strays_every)
    }

    fn time(&self, number: u32, index: u32) -> Millis {
        let (low, high) = (f64::from(self.records.0), f64::from(self.records.1));
        let mean = if low < high {
            (high - low) / (high / low).ln()
        } else {
            low
        };
        let requests_per_hour = (f64::from(self.records_per_hour) / mean).max(1.0) as u32;
        // A tenth is an hour late, so that hours overlap.
        let hour =
            self.first_hour + i64::from(number / requests_per_hour) - i64::from(index % 10 == 9);
        let within = u64::from(number) * 7_919 + u64::from(index) * 1_000;
        let hour = match self.is_stray(number, index) {
            true if number.is_multiple_of(2) => 0,
            true => HOUR_OF_2099,
            false => hour,
        };
        Millis(hour * HOUR_MS + (within % HOUR_MS as u64) as i64 / 1000 * 1000)
    }

    fn rng(&self, number: u32) -> Rng {
        Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number))
    }
}

impl Shape {
    /// The request's target.
    pub fn target(&self) -> String {
        match self.format {
            Format::LogLines => format!("/logs?site={}", site_of(self)),
            _ => "/logs".to_owned(),
        }
    }

    pub fn content_type(&self) -> &'static str {
        match self.format {
            Format::JsonArray => "application/json",
            Format::NdJson => "application/x-ndjson",
            Format::Csv | Format::CsvBare => "text/csv",
            Format::LogLines => "text/plain",
        }
    }

    /// Records that are well made.
    pub fn good(&self) -> u32 {
        self.count - u32::from(self.broken.is_some())
    }
}

/// Compressed as a shipper would: fast.
///
/// # Panics
/// Never: memory takes every write.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).expect("memory takes every write");
    encoder.finish().expect("memory takes every write")
}

fn site_of(shape: &Shape) -> &'static str {
    SITES[shape.number as usize % SITES.len()]
}

fn append(out: &mut Vec<u8>, format: Format, record: &Expected, index: u32) {
    let Expected {
        time, path, agent, ..
    } = record;
    let (site, status) = (
        record.site.unwrap_or_default(),
        record.status.unwrap_or_default(),
    );
    let bytes = record.bytes.unwrap_or_default();
    if format == Format::JsonArray && index > 0 {
        out.push(b',');
    }
    // Memory takes every write.
    let _ = match format {
        Format::JsonArray | Format::NdJson => write!(
            out,
            r#"{{"timestamp":"{time}","site":"{site}","method":"GET","path":"{path}","status":{status},"bytes":{bytes},"userAgent":"{agent}","trace":"{index:08x}"}}"#
        ),
        Format::Csv => writeln!(out, r#"{time},{site},{path},"{agent}",{status},{bytes}"#),
        Format::CsvBare => writeln!(out, r#"{time},{path},"{agent}""#),
        Format::LogLines => writeln!(
            out,
            r#"192.0.2.{} - - [{}] "GET {path} HTTP/1.1" {status} {bytes} "-" "{agent}""#,
            index % 250,
            time.clf()
        ),
    };
    if format == Format::NdJson {
        out.push(b'\n');
    }
}

/// The same record with a fault that is this record's alone.
fn break_record(out: &mut Vec<u8>, format: Format, record: &Expected, index: u32) {
    let (time, path, agent) = (record.time, &record.path, record.agent);
    if format == Format::JsonArray && index > 0 {
        out.push(b',');
    }
    let _ = match format {
        Format::JsonArray => write!(out, r#"{{"path":"{path}","userAgent":"{agent}"}}"#),
        Format::NdJson => writeln!(out, r#"{{"timestamp":"{time}","path":"{path}","userAg"#),
        Format::Csv => writeln!(out, r#"yesterday,,{path},"{agent}",200,1"#),
        Format::CsvBare => writeln!(out, r#"yesterday,{path},"{agent}""#),
        Format::LogLines => writeln!(out, r#"192.0.2.1 - - [{}] "GET {path} HTT"#, time.clf()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_same_whenever_it_is_made() {
        let mix = Mix::default();
        for number in 0..200 {
            let shape = mix.shape(number);
            assert_eq!(shape, mix.shape(number));
            assert_eq!(mix.body(&shape), mix.body(&shape));
        }
    }

    #[test]
    fn bodies_are_well_made_and_hold_what_is_expected() {
        let mix = Mix {
            records: (1, 50),
            ..Mix::default()
        };
        for number in 0..400 {
            let shape = mix.shape(number);
            let body = String::from_utf8(mix.body(&shape)).expect("text");
            match shape.format {
                Format::JsonArray => {
                    let all: Vec<serde_json::Value> = serde_json::from_str(&body).expect("JSON");
                    assert_eq!(all.len(), shape.count as usize);
                    for (index, record) in (0..).zip(&all) {
                        let expected = mix.record(&shape, index);
                        assert_eq!(record["path"], expected.path.as_str());
                        assert_eq!(
                            record.get("timestamp").is_none(),
                            shape.broken == Some(index)
                        );
                    }
                }
                Format::Csv => assert_eq!(body.lines().count(), shape.count as usize + 1),
                _ => assert_eq!(body.lines().count(), shape.count as usize),
            }
        }
    }

    #[test]
    fn strays_are_of_1970_or_2099_and_nothing_else_is() {
        let mix = Mix {
            strays_every: 50,
            ..Mix::default()
        };
        let mut years = std::collections::BTreeMap::new();
        for number in 0..200 {
            for index in 0..10 {
                let year = mix.time(number, index).parts().year;
                let stray = !(2000..=2090).contains(&year);
                assert_eq!(mix.is_stray(number, index), stray);
                *years.entry(year).or_insert(0) += u32::from(stray);
            }
        }
        assert!(years[&1970] >= 10 && years[&2099] >= 10, "{years:?}");
    }

    #[test]
    fn hours_stay_under_the_bound_on_keys() {
        let mix = Mix::default();
        let mut hours = std::collections::HashMap::new();
        for number in 0..2000 {
            for index in 0..mix.shape(number).count {
                *hours.entry(mix.hour(number, index)).or_insert(0) += 1;
            }
        }
        let most = hours.values().max().copied().unwrap_or_default();
        assert!(most < 80_000, "{most} records in an hour");
        assert!(hours.len() > 20, "{} hours", hours.len());
    }
}
