//! Sends the demo's bodies as a careful shipper would: each with its key, and again when the
//! answer is to come back later or does not come.

use std::{
    net::SocketAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use testbed::{
    generate::Piece,
    http::{Client, Request, Response},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the answers add up to.
#[derive(Debug, Default)]
pub struct Sent {
    pub records: u64,
    pub bytes: u64,
    pub bodies: u64,
    pub accepted: u64,
    pub rejected: u64,
    /// One line for each rejected record that an answer names.
    pub reasons: Vec<String>,
    /// Rejected records that no answer named.
    pub unnamed: u64,
    /// By where the records were when they were acknowledged.
    pub kept_kafka: u64,
    pub kept_dlq: u64,
    pub took: Duration,
}

pub struct Sender {
    client: Client,
    run: String,
    sent: Sent,
    begun: Instant,
}

impl Sender {
    pub fn new(gateway: SocketAddr) -> Self {
        Self {
            client: Client::new(gateway, PATIENCE),
            run: testbed::stand::fresh_name(),
            sent: Sent::default(),
            begun: Instant::now(),
        }
    }

    pub fn sent(&self) -> &Sent {
        &self.sent
    }

    pub fn into_sent(self) -> Sent {
        self.sent
    }

    pub fn send(&mut self, piece: &Piece) -> Result<()> {
        let key = format!("{}-{}", self.run, self.sent.bodies);
        let headers = [
            ("content-type", piece.content_type),
            ("idempotency-key", &key),
        ];
        let request = Request {
            method: "POST",
            target: &piece.target,
            headers: &headers,
            body: &piece.body,
        };
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < PATIENCE {
            let pause = match self.client.send(&request) {
                Ok(response) if response.status == 202 => {
                    self.book(piece, &response.json());
                    return Ok(());
                }
                Ok(response) if matches!(response.status, 429 | 503) => {
                    last = answer(&response);
                    let asked = response
                        .header("retry-after")
                        .and_then(|value| value.parse().ok());
                    Duration::from_secs(asked.unwrap_or(1))
                }
                // Nothing in it was a record: every line of the piece is rejected.
                Ok(response) if response.status == 400 && !response.json()["errors"].is_null() => {
                    self.book(piece, &response.json());
                    return Ok(());
                }
                Ok(response) => bail!("{}: {}", piece.name, answer(&response)),
                Err(failure) => {
                    last = failure.to_string();
                    Duration::from_millis(200)
                }
            };
            sleep(pause);
        }
        bail!("{} was not taken within {PATIENCE:?}: {last}", piece.name)
    }

    fn book(&mut self, piece: &Piece, said: &serde_json::Value) {
        let sent = &mut self.sent;
        let accepted = said["accepted"].as_u64().unwrap_or(0);
        // Only a 202 counts them; a refused body has no good record at all.
        let rejected = said["rejected"]
            .as_u64()
            .unwrap_or(piece.records - accepted);
        sent.records += piece.records;
        sent.bytes += piece.body.len() as u64;
        sent.bodies += 1;
        sent.accepted += accepted;
        sent.rejected += rejected;
        match said["kept"].as_str() {
            Some("dlq") => sent.kept_dlq += accepted,
            _ => sent.kept_kafka += accepted,
        }
        let errors = said["errors"].as_array().map_or(&[][..], Vec::as_slice);
        sent.reasons
            .extend(errors.iter().map(|error| reason(piece, error)));
        sent.unnamed += rejected.saturating_sub(errors.len() as u64);
        sent.took = self.begun.elapsed();
    }
}

fn reason(piece: &Piece, error: &serde_json::Value) -> String {
    let index = error["index"]
        .as_u64()
        .and_then(|index| usize::try_from(index).ok());
    let place = index.and_then(|index| piece.places.get(index));
    let place = place.map_or("place unknown", String::as_str);
    let body = if piece.in_one_file {
        String::new()
    } else {
        format!("{}, ", piece.name)
    };
    format!(
        "{body}{place}: {} [{}]",
        error["message"].as_str().unwrap_or("no message"),
        error["code"].as_str().unwrap_or("no code"),
    )
}

fn answer(response: &Response) -> String {
    format!("{} {}", response.status, response.text())
}
