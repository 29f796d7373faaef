//! The listener: accepts, finds a place, learns the protocol, and lets hyper serve it. Bounded in
//! connections and in what each may hold.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Request, Response, Version,
    body::Body,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use metrics::Counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Answer, App,
    activity::{Activity, Begun},
    gate::{Gate, Unwanted},
    incoming::Incoming,
    places::Places,
    room::{self, ConnectionRoom, HTTP2_WINDOW_BYTES},
    tls::Tls,
    wire::{Seen, Wire},
};
use crate::telemetry;

/// An HTTP/1 head, and a body's trailers; a longer one is answered 431.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Of one read and of one connection's answers. Twice that is less than 64 KiB with a head: what
/// may be read of a body that nobody wants.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// Of one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// What a client may send of a body that nobody reads yet, once it has heard of this: with its head
/// and its frames less than a [`Gate`] lets through.
const STREAM_WINDOW_BYTES: u32 = 60 * 1024;
/// Streams that a client opens and resets before they are taken; more end the connection.
const RESETS_MAX: usize = 20;
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How an HTTP/2 client begins (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// After an accept that failed, so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks for a place, while there is none.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Connections {
    pub listener: TcpListener,
    pub app: Arc<App>,
    pub tls: Option<Arc<Tls>>,
    pub connections_max: usize,
    /// For connections to end by themselves once the process drains.
    pub close_max: Duration,
}

/// What each connection shares with all others.
#[derive(Clone, Debug)]
struct Shared {
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
    places: Arc<Places>,
    slots: Arc<Semaphore>,
    /// What all connections may have of the memory budget.
    kib: Arc<Semaphore>,
    received: Counter,
    /// Tells the connections to end after what they are answering.
    close: CancellationToken,
}

/// One connection's part of what they share.
#[derive(Debug)]
struct Slot {
    room: ConnectionRoom,
    _slot: OwnedSemaphorePermit,
    kib: OwnedSemaphorePermit,
}

impl Connections {
    /// Serves until `stop`, also while the process drains: who asks then is told so.
    pub async fn serve(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let memory = self.app.ingest.memory.bytes_max();
        let shared = Shared {
            app: self.app,
            tls: self.tls,
            places: Arc::new(Places::default()),
            slots: Arc::new(semaphore(self.connections_max as u64)),
            kib: Arc::new(semaphore(room::connections_bytes_max(memory) / 1024)),
            received: telemetry::received_bytes(),
            close: CancellationToken::new(),
        };
        tokio::select! {
            () = shared.places.keep(stop) => {}
            () = accept(&self.listener, &tasks, &shared) => {}
        }
        drop(self.listener);
        shared.close.cancel();
        tasks.close();
        let _ = tokio::time::timeout(self.close_max, tasks.wait()).await;
    }
}

fn semaphore(permits: u64) -> Semaphore {
    let permits = usize::try_from(permits).unwrap_or(usize::MAX);
    Semaphore::new(permits.min(Semaphore::MAX_PERMITS))
}

async fn accept(listener: &TcpListener, tasks: &TaskTracker, shared: &Shared) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                // It may be descriptors that are short.
                shared.places.make_room(Instant::now());
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut slot = Slot::take(shared).await;
        let place = shared.places.enter(Instant::now());
        let shared = shared.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = place.activity.gone() => {}
                () = serve_one(stream, &place.activity, &mut slot, shared) => {}
            }
            drop((place, slot));
        });
    }
}

impl Slot {
    /// For a new connection, at once or from another one.
    async fn take(shared: &Shared) -> Self {
        let tls = shared.tls.is_some();
        Self {
            _slot: permits(&shared.slots, 1, &shared.places).await,
            kib: permits(&shared.kib, kib(room::served_bytes(tls)), &shared.places).await,
            room: ConnectionRoom::open(&shared.app.ingest.memory, tls),
        }
    }

    /// Its first bytes say which protocol it speaks.
    async fn serve(&mut self, is_http2: bool, shared: &Shared) {
        if is_http2 {
            let window = kib(HTTP2_WINDOW_BYTES.into());
            self.kib
                .merge(permits(&shared.kib, window, &shared.places).await);
        }
        self.room.serve(is_http2);
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// So many of what connections share; where there are none, others are closed for it.
async fn permits(of: &Arc<Semaphore>, count: u32, places: &Places) -> OwnedSemaphorePermit {
    let mut free = pin!(Arc::clone(of).acquire_many_owned(count));
    loop {
        if let Ok(permits) = tokio::time::timeout(Duration::ZERO, free.as_mut()).await {
            return permits.expect("nobody closes the semaphore");
        }
        places.make_room(Instant::now());
        if let Ok(permits) = tokio::time::timeout(ROOM_PAUSE, free.as_mut()).await {
            return permits.expect("nobody closes the semaphore");
        }
    }
}

async fn serve_one(stream: TcpStream, activity: &Arc<Activity>, slot: &mut Slot, shared: Shared) {
    // An answer is small and must not wait for another one.
    let _ = stream.set_nodelay(true);
    let Some(tls) = shared.tls.clone() else {
        return serve_http(stream, activity, slot, &shared).await;
    };
    let shaken = tokio::select! {
        shaken = tls.accept(stream) => shaken,
        () = shared.close.cancelled() => return,
    };
    match shaken {
        // A box, as each connection's task has room for the largest of its states several times.
        Ok(stream) => serve_http(Box::new(stream), activity, slot, &shared).await,
        Err(error) => {
            telemetry::connection_ended(telemetry::HANDSHAKE);
            tracing::debug!("a TLS handshake failed: {error}");
        }
    }
}

async fn serve_http<S>(stream: S, activity: &Arc<Activity>, slot: &mut Slot, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let seen = Arc::new(Seen::default());
    let mut wire = Wire::new(
        stream,
        Arc::clone(activity),
        Arc::clone(&seen),
        shared.received.clone(),
    );
    let begins = tokio::select! {
        begins = first_bytes(&mut wire) => begins,
        () = shared.close.cancelled() => return,
    };
    let Ok(first) = begins else { return };
    let is_http2 = first == PREFACE;
    tokio::select! {
        () = slot.serve(is_http2, shared) => {}
        () = shared.close.cancelled() => return,
    }
    let gate = is_http2.then(Gate::new);
    match &gate {
        Some(gate) => wire.bound(Arc::clone(gate)),
        None => seen.follow(),
    }
    wire.put_back(first);
    let io = TokioIo::new(wire);
    let (app, served) = (Arc::clone(&shared.app), Arc::clone(activity));
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let comes = !request.body().is_end_stream();
        let begun = served.begin(comes, Instant::now());
        let (app, seen) = (Arc::clone(&app), Arc::clone(&seen));
        let unwanted = gate.as_ref().map(Gate::request);
        let request = request.map(|body| (body, unwanted));
        async move { answer(request, begun, &app, &seen).await }
    });
    if is_http2 {
        let connection = http2().serve_connection(io, service);
        drive(connection, activity, &shared.close).await;
    } else {
        let connection = http1().serve_connection(io, service);
        drive(connection, activity, &shared.close).await;
    }
}

async fn answer(
    request: Request<(hyper::body::Incoming, Option<Unwanted>)>,
    begun: Option<Begun>,
    app: &App,
    seen: &Seen,
) -> Result<Answer, Infallible> {
    let Some(begun) = begun else {
        // The connection is being dropped, and this with it.
        return std::future::pending().await;
    };
    let odd = seen.odd(begun.number);
    let is_http2 = request.version() == Version::HTTP_2;
    let request =
        request.map(|(body, unwanted)| Incoming::new(body, is_http2, begun.receiving, unwanted));
    let answer = app.answer(request, odd).await;
    drop(begun.working);
    Ok::<Response<_>, Infallible>(answer)
}

/// Until the connection ends, by itself or because it is told to.
async fn drive<C>(connection: C, activity: &Activity, close: &CancellationToken)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    tokio::pin!(connection);
    let goodbye = async {
        tokio::select! {
            () = close.cancelled() => {}
            // Who is gone is dropped from outside, a moment later.
            _ = activity.told() => {}
        }
    };
    tokio::pin!(goodbye);
    let mut said = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    if error.is_parse() {
                        telemetry::request_unread();
                    }
                    tracing::debug!("a connection ended early: {error}");
                }
                return;
            }
            () = goodbye.as_mut(), if !said => {
                said = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// As many as tell HTTP/2's preface from anything else.
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut first = [0; PREFACE.len()];
    let mut len = 0;
    while len < first.len() && first[..len] == PREFACE[..len] {
        match stream.read(&mut first[len..]).await? {
            0 => break,
            n => len += n,
        }
    }
    Ok(first[..len].to_vec())
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `places` looks for silence.
        .header_read_timeout(None)
        // A client may end its side and still wait for its answer.
        .half_close(true)
        .max_header_size(HEAD_BYTES_MAX)
        // No `pipeline_flush`: with it hyper closes without the last answer where more was sent.
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}
