//! Load for measuring: bodies made beforehand and sent as fast as answers come, so that the
//! sender takes as little of the machine as it can.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use fastrand::Rng;

use crate::{
    clock::{HOUR_MS, Millis},
    http::{Client, Request},
};

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub media: Media,
    /// As `Content-Encoding`; the bodies are compressed already.
    pub encoding: Option<&'a str>,
    pub bodies: &'a [Vec<u8>],
    pub records_each: u32,
    pub connections: usize,
    /// Records to be accepted.
    pub total: u64,
    /// Records a second, evenly spread; `None` is as fast as answers come. A request that is late
    /// counts from when it was due, so that a stall is seen by all that it delays.
    pub rate: Option<f64>,
}

/// What one blast did.
#[derive(Clone, Debug)]
pub struct Blast {
    pub records: u64,
    pub bytes: u64,
    pub took: Duration,
    /// Requests that were told to come back; they are sent again.
    pub refused: u64,
    /// Requests whose records went to the DLQ, not to Kafka: the figure is then another one.
    pub kept_dlq: u64,
    pub latencies: Latencies,
}

/// From a request to its 202.
#[derive(Clone, Default, Debug)]
pub struct Latencies {
    /// Ascending.
    micros: Vec<u32>,
}

impl Latencies {
    /// The time that this part of all requests did not exceed.
    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.micros.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        Duration::from_micros(self.micros.get(at).copied().unwrap_or_default().into())
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<T: IntoIterator<Item = Duration>>(all: T) -> Self {
        let micros = |each: Duration| u32::try_from(each.as_micros()).unwrap_or(u32::MAX);
        let mut micros: Vec<u32> = all.into_iter().map(micros).collect();
        micros.sort_unstable();
        Self { micros }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    NdJson,
    JsonArray,
}

impl Media {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::NdJson => "application/x-ndjson",
            Self::JsonArray => "application/json",
        }
    }
}

/// Bodies of `each` records of about 195 bytes, as a site's shipper would send them: 5,000 paths,
/// 40 agents, six hours up to now.
pub fn bodies(seed: u64, media: Media, count: usize, each: u32) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(seed);
    let now = Millis::now();
    let body = |_| {
        let records = (0..each).map(|_| record(&mut rng, now));
        body(media, &records.collect::<Vec<_>>())
    };
    (0..count).map(body).collect()
}

/// Bodies of `each` of these records, in turn and over again.
pub fn bodies_of<R: AsRef<str>>(
    records: &[R],
    media: Media,
    count: usize,
    each: u32,
) -> Vec<Vec<u8>> {
    let mut all = records.iter().cycle();
    (0..count)
        .map(|_| body(media, &all.by_ref().take(each as usize).collect::<Vec<_>>()))
        .collect()
}

/// Sends them in turn over so many connections until `total` records are accepted.
///
/// # Errors
/// When an answer is neither 202 nor a request to come back, or does not come.
///
/// # Panics
/// When a sending thread panics.
pub fn blast(gateway: SocketAddr, load: &Load<'_>) -> Result<Blast> {
    let [given, refused, bytes, kept_dlq] = [const { AtomicU64::new(0) }; 4];
    let each = u64::from(load.records_each);
    let requests = load.total.div_ceil(each);
    let mut headers = vec![("content-type", load.media.content_type())];
    headers.extend(load.encoding.map(|name| ("content-encoding", name)));
    let start = Instant::now();
    let send = || -> Result<Vec<Duration>> {
        let mut client = Client::new(gateway, Duration::from_secs(60));
        let mut latencies = Vec::new();
        loop {
            let number = given.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(latencies);
            }
            let due = match load.rate {
                Some(rate) => {
                    let due = start + Duration::from_secs_f64((number * each) as f64 / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due
                }
                None => Instant::now(),
            };
            let body = &load.bodies[number as usize % load.bodies.len()];
            let request = Request {
                method: "POST",
                target: "/logs",
                headers: &headers,
                body,
            };
            loop {
                let response = client.send(&request)?;
                match response.status {
                    202 => {
                        latencies.push(due.elapsed());
                        let dlq = response.text().contains(r#""kept":"dlq""#);
                        kept_dlq.fetch_add(u64::from(dlq), Ordering::Relaxed);
                        break;
                    }
                    429 | 503 => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(20));
                    }
                    status => bail!("{status} {}", response.text()),
                }
            }
            bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
    };
    let latencies = thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections).map(|_| scope.spawn(send)).collect();
        let each = |thread: thread::ScopedJoinHandle<'_, Result<Vec<Duration>>>| {
            thread.join().expect("a sender does not panic")
        };
        threads.into_iter().map(each).collect::<Result<Vec<_>>>()
    })?;
    Ok(Blast {
        records: requests * each,
        bytes: bytes.into_inner(),
        took: start.elapsed(),
        refused: refused.into_inner(),
        kept_dlq: kept_dlq.into_inner(),
        latencies: latencies.into_iter().flatten().collect(),
    })
}

fn body<R: AsRef<str>>(media: Media, records: &[R]) -> Vec<u8> {
    let mut body = Vec::with_capacity(records.len() * 200);
    let (open, between, close) = match media {
        Media::NdJson => ("", "\n", "\n"),
        Media::JsonArray => ("[", ",", "]"),
    };
    body.extend_from_slice(open.as_bytes());
    for (at, record) in records.iter().enumerate() {
        if at > 0 {
            body.extend_from_slice(between.as_bytes());
        }
        body.extend_from_slice(record.as_ref().as_bytes());
    }
    body.extend_from_slice(close.as_bytes());
    body
}

fn record(rng: &mut Rng, now: Millis) -> String {
    let time = Millis(now.0 - rng.i64(0..6 * HOUR_MS));
    // Squared: the first paths are asked for most.
    let path = (rng.f64().powi(2) * 5_000.0) as u32;
    format!(
        r#"{{"timestamp":"{time}","site":"shop.example","method":"GET","path":"/products/{path}","status":{},"bytes":{},"remoteAddr":"198.51.100.{}","userAgent":"Mozilla/5.0 Chrome/{}.0"}}"#,
        [200, 200, 200, 304, 404][rng.usize(0..5)],
        rng.u32(200..90_000),
        rng.u8(..),
        rng.u8(100..140),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_size_that_figures_are_given_for() {
        let body = &bodies(1, Media::NdJson, 1, 1_000)[0];
        let mean = body.len() / 1_000;
        assert!((185..205).contains(&mean), "{mean} bytes a record");
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let all: Latencies = (0..101).rev().map(Duration::from_millis).collect();
        assert_eq!(all.quantile(0.5), Duration::from_millis(50));
        assert_eq!(all.quantile(0.99), Duration::from_millis(99));
        assert_eq!(Latencies::default().quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn bodies_hold_the_records_in_turn() {
        let records = ["{\"a\":1}".to_owned(), "{\"a\":2}".to_owned()];
        let text = |media| String::from_utf8(bodies_of(&records, media, 1, 3).remove(0)).unwrap();
        assert_eq!(text(Media::JsonArray), r#"[{"a":1},{"a":2},{"a":1}]"#);
        assert_eq!(text(Media::NdJson), "{\"a\":1}\n{\"a\":2}\n{\"a\":1}\n");
    }
}
