//! Reads and decompresses a body under its limits, all of them checked while it comes.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::{timeout, timeout_at};

use super::{
    incoming::{BodyCut, Incoming},
    problem::{Code, Problem},
    room::Room,
};
use crate::decode::{BodyError, Encoding, Inflater};

/// Room made at once for a body of known length; the rest as it comes, as the length is a claim.
const RESERVE_BYTES_MAX: u64 = 1024 * 1024;

/// A refused body that is not longer is read to its end, for this long.
const SHORT_BYTES: u64 = 32 * 1024;
const SHORT_MAX: Duration = Duration::from_secs(1);

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
/// What is to be answered; the rest of the body is then [`let_go`].
pub async fn read(
    body: &mut Incoming,
    encoding: Encoding,
    limits: &BodyLimits,
    until: Instant,
    room: &mut Room,
) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        Problem::new(
            Code::TooLarge,
            format!(
                "the body has more than {} bytes, allowed by server.maxBodyBytes are {}",
                limits.wire_bytes_max, limits.wire_bytes_max
            ),
        )
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
        ));
    }
    let mut inflater = Inflater::new(encoding);
    let mut decoded = Vec::new();
    let reserve = announced.unwrap_or(0).min(RESERVE_BYTES_MAX);
    decoded.reserve(usize::try_from(reserve).unwrap_or(0));
    let mut wire_bytes = 0;
    while let Some(frame) = next_frame(body, limits.stall_max, until).await? {
        let Ok(data) = frame.into_data() else {
            // Trailers say nothing that is asked for.
            continue;
        };
        wire_bytes += data.len() as u64;
        if wire_bytes > limits.wire_bytes_max {
            return Err(too_large());
        }
        inflate(&mut inflater, &data, &mut decoded, limits)
            .map_err(|error| refused(&error).closing())?;
        room.hold(decoded.capacity() as u64)?;
    }
    inflater
        .finish()
        .map_err(|error| refused(&error.into()).closing())?;
    Ok(decoded)
}

/// Ends the reading of a body that is refused. What is short is read to its end, or until
/// `hurry`, so that the connection can go on. Of a longer one nothing more is read: the connection
/// closes, though not in the face of a client that is still sending (`wire`).
pub async fn let_go(
    mut body: Incoming,
    expects_continue: bool,
    problem: Problem,
    hurry: impl Future<Output = ()>,
) -> Problem {
    if body.is_end_stream() {
        return problem;
    }
    let short = body.size_hint().upper().is_some_and(|n| n <= SHORT_BYTES);
    // To read would be to ask for it.
    if expects_continue || !short {
        return problem.closing();
    }
    let whole = tokio::select! {
        whole = timeout(SHORT_MAX, discard(&mut body)) => whole.unwrap_or(false),
        () = hurry => false,
    };
    if whole { problem } else { problem.closing() }
}

/// Reads to the end; whether it came.
async fn discard(body: &mut Incoming) -> bool {
    while let Some(Ok(_)) = body.frame().await {}
    body.is_end_stream()
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
        Ok(Some(Err(cut @ BodyCut::Broken(_)))) => {
            Err(Problem::new(Code::UnreadableBody, cut.to_string()).closing())
        }
        Ok(Some(Err(cut @ BodyCut::TooSlow))) => {
            Err(Problem::new(Code::BodyTimeout, cut.to_string()).closing())
        }
        Err(_) if until < stalled => Err(Problem::new(
            Code::BodyTimeout,
            "the body did not end in time: too little of server.requestTimeout is left",
        )),
        Err(_) => Err(Problem::new(
            Code::BodyTimeout,
            format!("no byte of the body came for {stall_max:?} (server.bodyTimeout)"),
        )),
    }
}

/// Until bodies are decoded as they come, by `BodyDecoder`.
fn inflate(
    inflater: &mut Inflater,
    mut input: &[u8],
    out: &mut Vec<u8>,
    limits: &BodyLimits,
) -> Result<(), BodyError> {
    let allowed = limits.decoded_bytes_max;
    let max = usize::try_from(allowed).unwrap_or(usize::MAX - 1);
    loop {
        let wanted = (out.len() * 2).max(out.len() + 64 * 1024).min(max + 1);
        out.reserve_exact(wanted.saturating_sub(out.len()));
        let used = inflater.run(input, out)?;
        input = &input[used..];
        if out.len() > max {
            return Err(BodyError::DecodedTooLong { allowed });
        }
        if out.len() < out.capacity() {
            return Ok(());
        }
    }
}

pub fn refused(error: &BodyError) -> Problem {
    let code = if error.is_too_large() {
        Code::TooLarge
    } else {
        Code::UnreadableBody
    };
    Problem::new(code, error.to_string())
}
