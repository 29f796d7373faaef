//! The listener: bounded connections, each bounded in its silence.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::App;
use crate::telemetry;

/// From one request's end (or the accept) to the end of the next one's headers.
const HEADERS_MAX: Duration = Duration::from_secs(30);
/// The first request must have come by then.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(10);
/// A connection without a request in work is closed after this.
const IDLE_MAX: Duration = Duration::from_secs(75);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Of one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// After an accept that failed, so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For connections to end by themselves once the process drains.
const CLOSE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Connections {
    listener: TcpListener,
    app: Arc<App>,
    slots: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
    tasks: TaskTracker,
    /// Tells the connections to end after what they are answering.
    close: CancellationToken,
}

impl Connections {
    #[must_use]
    pub fn new(listener: TcpListener, app: Arc<App>, connections_max: usize) -> Self {
        Self {
            listener,
            app,
            slots: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
            open: Arc::default(),
            tasks: TaskTracker::new(),
            close: CancellationToken::new(),
        }
    }

    /// Serves until `stop`, also while the process drains: who asks then is told so. Above the
    /// bound new connections wait in the listener's backlog.
    pub async fn serve(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept() => {}
        }
        drop(self.listener);
        self.close.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(CLOSE_MAX, self.tasks.wait()).await;
    }

    async fn accept(&self) {
        loop {
            let slot = Arc::clone(&self.slots)
                .acquire_owned()
                .await
                .expect("nobody closes the semaphore");
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (app, close) = (Arc::clone(&self.app), self.close.clone());
            let open = Open::new(Arc::clone(&self.open));
            self.tasks.spawn(async move {
                serve_one(stream, app, close).await;
                drop((slot, open));
            });
        }
    }
}

async fn serve_one(stream: TcpStream, app: Arc<App>, close: CancellationToken) {
    // An answer is small and must not wait for another one.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::new());
    let seen = Arc::clone(&activity);
    let service = service_fn(move |request| {
        let (app, seen) = (Arc::clone(&app), Arc::clone(&seen));
        async move {
            let _working = seen.begin();
            Ok::<_, Infallible>(app.answer(request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        // A client may end its side and still wait for its answer.
        .half_close(true)
        .max_buf_size(64 * 1024)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut watch = tokio::time::interval(WATCH_INTERVAL);
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!("a connection ended early: {error}");
                }
                return;
            }
            () = close.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = watch.tick() => match activity.silent_for() {
                Some((silent, first)) if silent > if first { FIRST_REQUEST_MAX } else { IDLE_MAX } => {
                    if closing {
                        return;
                    }
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                    if first {
                        return;
                    }
                }
                _ => {}
            },
        }
    }
}

/// Whether a connection has a request in work, and since when not.
#[derive(Debug)]
struct Activity(Mutex<ActivityState>);

#[derive(Debug)]
struct ActivityState {
    working: usize,
    any: bool,
    since: Instant,
}

struct Working<'a>(&'a Activity);

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(ActivityState {
            working: 0,
            any: false,
            since: Instant::now(),
        }))
    }

    fn begin(&self) -> Working<'_> {
        let mut state = self.0.lock().expect("no panic under this lock");
        state.working += 1;
        state.any = true;
        Working(self)
    }

    /// How long nothing was in work, and whether nothing ever was.
    fn silent_for(&self) -> Option<(Duration, bool)> {
        let state = self.0.lock().expect("no panic under this lock");
        (state.working == 0).then(|| (state.since.elapsed(), !state.any))
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().expect("no panic under this lock");
        state.working -= 1;
        state.since = Instant::now();
    }
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: Arc<AtomicUsize>) -> Self {
        telemetry::connections(count.fetch_add(1, Ordering::Relaxed) + 1);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        telemetry::connections(self.0.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}
