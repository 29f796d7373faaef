//! Reads and decompresses a body under its limits, all of them checked while it comes.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout_at;

use super::problem::{Code, Problem};
use crate::decode::{Encoding, InflateError, Inflater};

/// Room made at once for a body of known length; the rest as it comes, as the length is a claim.
const RESERVE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// As received.
    pub wire_bytes_max: u64,
    pub decoded_bytes_max: u64,
    /// Longest time without a byte.
    pub stall_max: Duration,
}

/// Reads the whole body, until `until` at most; gives what it holds.
///
/// # Errors
/// What is to be answered. Nothing more is read from the connection after it.
pub async fn read(
    mut body: Incoming,
    encoding: Encoding,
    limits: &BodyLimits,
    until: Instant,
) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        Problem::new(
            Code::TooLarge,
            format!(
                "the body has more than {} bytes, allowed by server.maxBodyBytes are {}",
                limits.wire_bytes_max, limits.wire_bytes_max
            ),
        )
        .closing()
    };
    let announced = body.size_hint().exact();
    if let Some(length) = announced
        && length > limits.wire_bytes_max
    {
        return Err(Problem::new(
            Code::TooLarge,
            format!(
                "the body has {length} bytes, allowed by server.maxBodyBytes are {}",
                limits.wire_bytes_max
            ),
        )
        .closing());
    }
    let mut inflater = Inflater::new(encoding);
    let mut decoded = Vec::new();
    let reserve = announced.unwrap_or(0).min(RESERVE_BYTES_MAX);
    decoded.reserve(usize::try_from(reserve).unwrap_or(0));
    let mut wire_bytes = 0;
    while let Some(frame) = next_frame(&mut body, limits.stall_max, until).await? {
        let Ok(data) = frame.into_data() else {
            // Trailers say nothing that is asked for.
            continue;
        };
        wire_bytes += data.len() as u64;
        if wire_bytes > limits.wire_bytes_max {
            return Err(too_large());
        }
        inflater
            .write(&data, &mut decoded, limits.decoded_bytes_max)
            .map_err(refused)?;
    }
    inflater.finish().map_err(refused)?;
    Ok(decoded)
}

async fn next_frame(
    body: &mut Incoming,
    stall_max: Duration,
    until: Instant,
) -> Result<Option<hyper::body::Frame<hyper::body::Bytes>>, Problem> {
    let stalled = Instant::now() + stall_max;
    match timeout_at(stalled.min(until).into(), body.frame()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(error))) => {
            // Most often the client has gone, and nobody reads this.
            Err(
                Problem::new(Code::UnreadableBody, format!("the body broke off: {error}"))
                    .closing(),
            )
        }
        Err(_) if until < stalled => Err(Problem::new(
            Code::BodyTimeout,
            "the body did not end in time: too little of server.requestTimeout is left",
        )
        .closing()),
        Err(_) => Err(Problem::new(
            Code::BodyTimeout,
            format!("no byte of the body came for {stall_max:?} (server.bodyTimeout)"),
        )
        .closing()),
    }
}

fn refused(error: InflateError) -> Problem {
    match error {
        InflateError::Corrupt { .. } => Problem::new(Code::UnreadableBody, error.to_string()),
        InflateError::OverLimit { .. } => {
            Problem::new(Code::TooLarge, format!("{error} by server.maxDecodedBytes"))
        }
    }
    .closing()
}
