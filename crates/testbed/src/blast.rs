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

/// What one blast did.
#[derive(Clone, Copy, Debug)]
pub struct Blast {
    pub records: u64,
    pub bytes: u64,
    pub took: Duration,
    /// Requests that were told to come back; they are sent again.
    pub refused: u64,
    /// Requests whose records went to the DLQ, not to Kafka: the figure is then another one.
    pub kept_dlq: u64,
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

/// Bodies of `records` records of about 195 bytes, as a site's shipper would send them: 5,000
/// paths, 40 agents, six hours up to now.
pub fn bodies(seed: u64, media: Media, count: usize, records: u32) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(seed);
    let now = Millis::now();
    (0..count)
        .map(|_| body(&mut rng, media, records, now))
        .collect()
}

/// Sends them in turn over so many connections until `total` records are accepted.
///
/// # Errors
/// When an answer is neither 202 nor a request to come back, or does not come.
///
/// # Panics
/// When a sending thread panics.
pub fn blast(
    gateway: SocketAddr,
    media: Media,
    bodies: &[Vec<u8>],
    records_each: u32,
    connections: usize,
    total: u64,
) -> Result<Blast> {
    let [given, refused, bytes, kept_dlq] = [const { AtomicU64::new(0) }; 4];
    let requests = total.div_ceil(u64::from(records_each));
    let start = Instant::now();
    let send = || -> Result<()> {
        let mut client = Client::new(gateway, Duration::from_secs(60));
        loop {
            let number = given.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(());
            }
            let body = &bodies[number as usize % bodies.len()];
            let headers = [("content-type", media.content_type())];
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
                        let dlq = response.json()["kept"] == "dlq";
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
    thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(send)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a sender does not panic"))
    })?;
    Ok(Blast {
        records: requests * u64::from(records_each),
        bytes: bytes.into_inner(),
        took: start.elapsed(),
        refused: refused.into_inner(),
        kept_dlq: kept_dlq.into_inner(),
    })
}

fn body(rng: &mut Rng, media: Media, records: u32, now: Millis) -> Vec<u8> {
    let records: Vec<String> = (0..records).map(|_| record(rng, now)).collect();
    match media {
        Media::NdJson => records
            .iter()
            .flat_map(|r| [r.as_bytes(), b"\n"].concat())
            .collect(),
        Media::JsonArray => format!("[{}]", records.join(",")).into_bytes(),
    }
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
}
