//! Reads a body into its decoder under its limits, all of them checked while it comes.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame};
use tokio::{
    task::yield_now,
    time::{timeout, timeout_at},
};

use super::{
    incoming::{BodyCut, Incoming},
    problem::{Code, Problem},
    room::Room,
};
use crate::{
    decode::{BodyDecoder, BodyError, Decoded, Progress},
    rejects::keep::Beginning,
};

/// A body is worked on for so long before others have their turn.
const TURN_MAX: Duration = Duration::from_millis(1);

/// A refused body that is not longer is read to its end, for this long.
const SHORT_BYTES: u64 = 32 * 1024;
const SHORT_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// As received.
    pub wire_bytes_max: u64,
    /// Longest time without a byte.
    pub stall_max: Duration,
}

/// Reads and decodes the whole body, until `until` at most. What it holds is in `room` before it
/// grows on.
///
/// # Errors
/// What is to be answered; the rest of the body is then [`let_go`].
pub async fn read(
    body: &mut (impl Body<Data = Bytes, Error = BodyCut> + Unpin),
    mut decoder: BodyDecoder,
    limits: &BodyLimits,
    until: Instant,
    room: &mut Room,
    beginning: &mut Beginning,
) -> Result<Decoded, Problem> {
    let mut turn = Turn::begin(until);
    let mut waiting_since = Instant::now();
    while let Some(frame) = next_frame(body, waiting_since, limits.stall_max, until).await? {
        let Ok(data) = frame.into_data() else {
            // Trailers say nothing that is asked for.
            continue;
        };
        if data.is_empty() {
            // HTTP/2 allows such frames: no byte came.
            turn.yield_if_long(body.is_end_stream()).await?;
            continue;
        }
        if decoder.wire_bytes() + data.len() as u64 > limits.wire_bytes_max {
            return Err(too_long(None, limits.wire_bytes_max).closing());
        }
        beginning.note(&data);
        let mut wire = &data[..];
        loop {
            room.hold((decoder.memory() + wire.len()) as u64)?;
            let progress = decoder.push(&mut wire).map_err(|e| refused(&e).closing())?;
            room.hold(decoder.memory() as u64)?;
            turn.yield_if_long(body.is_end_stream()).await?;
            if progress == Progress::Idle {
                break;
            }
        }
        waiting_since = Instant::now();
    }
    loop {
        if let Some(decoded) = decoder.finish().map_err(|e| refused(&e).closing())? {
            return Ok(decoded);
        }
        room.hold(decoder.memory() as u64)?;
        turn.yield_if_long(true).await?;
    }
}

/// # Errors
/// Where a body of this length is not read at all.
pub fn check_announced(length: Option<u64>, limits: &BodyLimits) -> Result<(), Problem> {
    match length {
        Some(found) if found > limits.wire_bytes_max => {
            Err(too_long(Some(found), limits.wire_bytes_max))
        }
        _ => Ok(()),
    }
}

/// Ends the reading of a body that is refused. What is short is read to its end, or until
/// `hurry`, so that an HTTP/1 connection can go on. Of a longer one nothing more is read: the
/// connection closes, though not in the face of a client that is still sending (`wire`).
pub async fn let_go(
    mut body: Incoming,
    expects_continue: bool,
    problem: Problem,
    hurry: impl Future<Output = ()>,
) -> Problem {
    if body.is_end_stream() {
        return problem;
    }
    match rest_of(body.is_http2(), expects_continue, body.size_hint().upper()) {
        Rest::Awaited => {}
        Rest::Aside => {
            body.discard_aside();
            return problem;
        }
        Rest::Unread => {
            body.leave();
            return problem.closing();
        }
    }
    let whole = tokio::select! {
        whole = timeout(SHORT_MAX, discard(&mut body)) => whole.unwrap_or(false),
        () = hurry => false,
    };
    if whole {
        return problem;
    }
    body.leave();
    problem.closing()
}

/// What is done with what is to come of a refused body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    Unread,
    /// Read before the answer, as the next request is behind it.
    Awaited,
    /// Read beside the answer: nothing is behind it, and a request that waits for it would hold
    /// all that it has, outside the budget.
    Aside,
}

fn rest_of(is_http2: bool, expects_continue: bool, bytes_max: Option<u64>) -> Rest {
    let short = bytes_max.is_some_and(|bytes| bytes <= SHORT_BYTES);
    // To read would be to ask for it.
    if expects_continue || !short {
        Rest::Unread
    } else if is_http2 {
        Rest::Aside
    } else {
        Rest::Awaited
    }
}

/// Reads to the end; whether it came.
async fn discard(body: &mut Incoming) -> bool {
    while let Some(Ok(_)) = body.frame().await {}
    body.is_end_stream()
}

async fn next_frame(
    body: &mut (impl Body<Data = Bytes, Error = BodyCut> + Unpin),
    waiting_since: Instant,
    stall_max: Duration,
    until: Instant,
) -> Result<Option<Frame<Bytes>>, Problem> {
    let stalled = waiting_since + stall_max;
    match timeout_at(stalled.min(until).into(), body.frame()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(frame))) => Ok(Some(frame)),
        Ok(Some(Err(cut @ BodyCut::Broken(_)))) => {
            Err(Problem::new(Code::UnreadableBody, cut.to_string()).closing())
        }
        Ok(Some(Err(cut @ BodyCut::TooSlow))) => {
            Err(Problem::new(Code::BodyTimeout, cut.to_string()).closing())
        }
        Err(_) if until < stalled => Err(not_ended()),
        Err(_) => Err(Problem::new(
            Code::BodyTimeout,
            format!("no byte of the body came for {stall_max:?} (server.bodyTimeout)"),
        )),
    }
}

fn not_ended() -> Problem {
    let why = "the body did not end in time: too little of server.requestTimeout is left";
    Problem::new(Code::BodyTimeout, why)
}

/// How long a body has been worked on while others waited for their turn.
struct Turn {
    began: Instant,
    until: Instant,
}

impl Turn {
    fn begin(until: Instant) -> Self {
        let began = Instant::now();
        Self { began, until }
    }

    /// # Errors
    /// Where the time is over; whose fault it is depends on whether the body has `ended`.
    async fn yield_if_long(&mut self, ended: bool) -> Result<(), Problem> {
        if self.began.elapsed() < TURN_MAX {
            return Ok(());
        }
        yield_now().await;
        self.began = Instant::now();
        if self.began >= self.until {
            return Err(if ended { Problem::late() } else { not_ended() });
        }
        Ok(())
    }
}

fn too_long(found: Option<u64>, allowed: u64) -> Problem {
    let found = match found {
        Some(found) => found.to_string(),
        None => format!("more than {allowed}"),
    };
    let detail =
        format!("the body has {found} bytes, allowed by server.maxBodyBytes are {allowed}");
    Problem::new(Code::TooLarge, detail)
}

fn refused(error: &BodyError) -> Problem {
    let code = if error.is_too_large() {
        Code::TooLarge
    } else {
        Code::UnreadableBody
    };
    Problem::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use pipeline_core::record::Rules;
    use tokio::time::{Interval, interval};

    use super::*;
    use crate::{
        budget::Budget,
        decode::{BodyHead, Encoding, Limits, Media},
    };

    /// Frames without a byte, one a millisecond, without end.
    struct Empty(Interval);

    impl Body for Empty {
        type Data = Bytes;
        type Error = BodyCut;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
            let tick = self.0.poll_tick(context);
            tick.map(|_| Some(Ok(Frame::data(Bytes::new()))))
        }
    }

    #[tokio::test]
    async fn frames_without_a_byte_do_not_keep_a_stalled_body_alive() {
        let decoder = BodyDecoder::new(BodyHead {
            media: Media::Json,
            encoding: Encoding::Identity,
            rules: Rules {
                record_bytes_max: 1000,
                default_site: None,
                bound_site: None,
            },
            limits: Limits::default(),
            decoded_bytes_max: 1000,
            wire_len: None,
            key: None,
        });
        let limits = BodyLimits {
            wire_bytes_max: 1000,
            stall_max: Duration::from_millis(50),
        };
        let mut room = Room::enter(&Budget::new(1 << 20), 0, None).unwrap();
        let mut body = Empty(interval(Duration::from_millis(1)));
        // Reached only where such frames count: then it is another limit that is named.
        let until = Instant::now() + Duration::from_secs(10);
        let mut nothing = Beginning::of_nothing();
        let read = read(&mut body, decoder, &limits, until, &mut room, &mut nothing);
        let problem = read.await.unwrap_err();
        assert_eq!(problem.code, Code::BodyTimeout);
        assert!(problem.detail.contains("server.bodyTimeout"), "{problem:?}");
    }

    #[tokio::test]
    async fn after_a_long_turn_a_body_is_late_by_itself_only_while_it_comes() {
        let began = Instant::now();
        let until = began + TURN_MAX;
        std::thread::sleep(TURN_MAX);
        for (ended, code) in [(false, Code::BodyTimeout), (true, Code::NowhereToKeep)] {
            let problem = Turn { began, until }.yield_if_long(ended).await;
            assert_eq!(problem.unwrap_err().code, code);
        }
    }

    #[test]
    fn only_http1_waits_for_the_rest_of_a_short_refused_body() {
        for (is_http2, rest) in [(false, Rest::Awaited), (true, Rest::Aside)] {
            assert_eq!(rest_of(is_http2, false, Some(SHORT_BYTES)), rest);
            assert_eq!(rest_of(is_http2, true, Some(1)), Rest::Unread);
            for long in [Some(SHORT_BYTES + 1), None] {
                assert_eq!(rest_of(is_http2, false, long), Rest::Unread);
            }
        }
    }
}
