//! The bytes of one connection, under hyper: counted, followed, and not cut off in the face of a
//! client that is still sending when its answer is there.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use metrics::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    activity::Activity,
    framing::{Framing, Odd},
    gate::Gate,
};

/// After the answer to a request that was not read to its end, the connection stays for this long
/// with its sending side closed. Nothing is read: what the client sends on stays with the kernels.
/// It is for the answer to arrive, as closing at once would destroy it on its way.
pub const LINGER: Duration = Duration::from_millis(500);

/// What is known of a connection's bytes; shared with whoever answers its requests.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Option<Framing>>);

impl Seen {
    /// From here on (HTTP/1) the framing is followed.
    pub fn follow(&self) {
        *self.framing() = Some(Framing::default());
    }

    /// What is odd about the request with this number, from 1 on.
    #[must_use]
    pub fn odd(&self, request: u64) -> Option<Odd> {
        let (number, odd) = self.framing().as_ref()?.odd()?;
        (request >= number).then_some(odd)
    }

    /// Whether this is an HTTP/1 connection.
    fn feed(&self, bytes: &[u8]) -> bool {
        let mut framing = self.framing();
        framing
            .as_mut()
            .map(|framing| framing.feed(bytes))
            .is_some()
    }

    fn is_amid_request(&self) -> bool {
        let framing = self.framing();
        framing
            .as_ref()
            .is_some_and(|framing| !framing.is_between())
    }

    fn framing(&self) -> MutexGuard<'_, Option<Framing>> {
        self.0.lock().expect("no panic under this lock")
    }
}

#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
    /// Read already to learn the protocol; comes first.
    first: Vec<u8>,
    gate: Option<Arc<Gate>>,
    activity: Arc<Activity>,
    seen: Arc<Seen>,
    received: Counter,
    linger: Option<Pin<Box<Sleep>>>,
}

impl<S> Wire<S> {
    pub fn new(stream: S, activity: Arc<Activity>, seen: Arc<Seen>, received: Counter) -> Self {
        Self {
            stream,
            first: Vec::new(),
            gate: None,
            activity,
            seen,
            received,
            linger: None,
        }
    }

    /// These were read and come again.
    pub fn put_back(&mut self, bytes: Vec<u8>) {
        self.first = bytes;
    }

    /// From here on no more is read than `gate` allows.
    pub fn bound(&mut self, gate: Arc<Gate>) {
        self.gate = Some(gate);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.first.is_empty() {
            let room = match &self.gate {
                None => usize::MAX,
                Some(gate) => ready!(gate.poll_room(context)),
            };
            if room >= buffer.remaining() {
                ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            } else {
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
                ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
                let bytes = part.filled().len();
                buffer.advance(bytes);
            }
            let bytes = buffer.filled().len() - before;
            self.received.increment(bytes as u64);
            if let Some(gate) = &self.gate {
                gate.passed(bytes);
            }
        } else {
            let taken = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..taken]);
            self.first.drain(..taken);
        }
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() && self.seen.feed(bytes) {
            self.activity.heard(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            if !self.seen.is_amid_request() || self.activity.is_hurried() {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        linger.as_mut().poll(context).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
