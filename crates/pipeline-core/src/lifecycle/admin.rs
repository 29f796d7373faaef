//! The listener for operators: `/livez`, `/readyz`, `/metrics`, `/version`.
//!
//! It goes on while the service drains, until the process ends or its handle is dropped. Every
//! connection is one request, within a time; there are at most [`CONNECTIONS_MAX`] at once.

use std::{
    convert::Infallible,
    future::ready,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::Semaphore,
    task::JoinHandle,
    time,
};

use super::{
    Readiness,
    probe::{not_ready, only_read, probe, problem, text},
};
use crate::telemetry::{MetricsHandle, build, catalog, process};

/// More than that wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 64;
/// From the accept to the last byte of the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept that failed (no descriptors left), so that it is not tried in a tight loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A running listener; dropped, it ends.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    task: JoinHandle<()>,
    metrics: Arc<OnceLock<Render>>,
}

/// Makes what `/metrics` says, at each look; it has less than [`CONNECTION_TIMEOUT`] for it.
pub struct Render(Box<dyn Fn() -> Rendering + Send + Sync>);

type Rendering = Pin<Box<dyn Future<Output = String> + Send>>;

impl Render {
    /// For metrics of which something has to be asked first.
    pub fn new<F>(render: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = String> + Send + 'static,
    {
        Self(Box::new(move || Box::pin(render())))
    }
}

impl From<MetricsHandle> for Render {
    fn from(metrics: MetricsHandle) -> Self {
        Self::new(move || ready(metrics.render()))
    }
}

impl std::fmt::Debug for Render {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Render")
    }
}

impl Admin {
    /// From now on `/metrics` is answered; see [`serve_before`]. Once only.
    pub fn show_metrics(&self, metrics: impl Into<Render>) {
        let _ = self.metrics.set(metrics.into());
    }

    /// The real address, also where port 0 was asked for.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Binds `addr` and serves on the current runtime; logs the real address.
///
/// # Errors
/// Where the address cannot be bound, with the address.
pub async fn serve(
    addr: SocketAddr,
    service: &'static str,
    readiness: Readiness,
    metrics: MetricsHandle,
) -> io::Result<Admin> {
    let admin = serve_before(addr, service, readiness).await?;
    admin.show_metrics(metrics);
    Ok(admin)
}

/// As [`serve`], but `/metrics` is refused (503) until [`Admin::show_metrics`]: for a service whose
/// metrics say something wrong before it knows what is there.
///
/// # Errors
/// As [`serve`].
pub async fn serve_before(
    addr: SocketAddr,
    service: &'static str,
    readiness: Readiness,
) -> io::Result<Admin> {
    let answers = Answers {
        version: version(service),
        readiness,
        metrics: Arc::default(),
    };
    serve_answers(addr, answers, CONNECTION_TIMEOUT).await
}

async fn serve_answers(addr: SocketAddr, answers: Answers, timeout: Duration) -> io::Result<Admin> {
    let listener = TcpListener::bind(addr).await.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("failed to listen for admin requests on {addr}: {error}"),
        )
    })?;
    let addr = listener.local_addr()?;
    tracing::info!("admin listens on {addr}");
    let metrics = Arc::clone(&answers.metrics);
    let task = tokio::spawn(accept(listener, Arc::new(answers), timeout));
    Ok(Admin {
        addr,
        task,
        metrics,
    })
}

/// What `/version` says: service, version, and the commit where the build was told it
/// (environment variable `SLUICE_COMMIT` while compiling).
#[must_use]
pub fn version(service: &str) -> String {
    let mut answer = serde_json::json!({
        "service": service,
        "version": build::VERSION,
        "commit": build::COMMIT,
    })
    .to_string();
    answer.push('\n');
    answer
}

struct Answers {
    version: String,
    readiness: Readiness,
    metrics: Arc<OnceLock<Render>>,
}

impl Answers {
    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if let Some(answer) = probe(method, path, &self.readiness) {
            return answer;
        }
        if !["/metrics", "/version"].contains(&path) {
            return problem(
                StatusCode::NOT_FOUND,
                "not_found",
                "found an unknown path, there are /livez, /readyz, /metrics and /version",
            );
        }
        if let Some(refused) = only_read(method) {
            return refused;
        }
        if path == "/version" {
            return text("application/json", self.version.clone());
        }
        let Some(Render(render)) = self.metrics.get() else {
            let why = self.readiness.check().err();
            return not_ready(&why.unwrap_or_else(|| "starting".to_owned()));
        };
        let runtime = Handle::current().metrics();
        metrics::gauge!(catalog::RUNTIME_TASKS).set(runtime.num_alive_tasks() as f64);
        let waiting = runtime.global_queue_depth();
        metrics::gauge!(catalog::RUNTIME_QUEUE_DEPTH).set(waiting as f64);
        process::refresh();
        text(METRICS_TYPE, render().await)
    }
}

async fn accept(listener: TcpListener, answers: Arc<Answers>, timeout: Duration) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("nobody closes the semaphore");
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    // A peer that is slow or gone is its own trouble.
                    let _ = time::timeout(timeout, one_request(stream, &answers)).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("failed to accept an admin connection: {error}");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn one_request(stream: TcpStream, answers: &Answers) {
    let service = service_fn(
        |request: hyper::Request<hyper::body::Incoming>| async move {
            Ok::<_, Infallible>(answers.answer(request.method(), request.uri().path()).await)
        },
    );
    let connection = http1::Builder::new()
        // The time for the whole connection covers the headers.
        .header_read_timeout(None)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("admin connection ended early: {error}");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::telemetry::{catalog::Service, start_metrics};

    async fn admin(readiness: &Readiness) -> Admin {
        serve(
            "127.0.0.1:0".parse().unwrap(),
            "ingest-gateway",
            readiness.clone(),
            start_metrics(Service::Gateway),
        )
        .await
        .unwrap()
    }

    /// Status line, headers (lower case) and body.
    async fn ask(addr: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn readyz_follows_readiness_and_livez_does_not() {
        let readiness = Readiness::default();
        readiness.wait_for("listener");
        let admin = admin(&readiness).await;
        let (status, head, body) = ask(admin.addr(), "GET", "/readyz").await;
        assert_eq!(status, 503);
        assert!(head.contains("content-type: application/problem+json"));
        assert!(head.contains("retry-after: 1"));
        assert!(body.contains("\"code\":\"not_ready\""), "{body}");
        assert!(body.contains("waiting for listener"), "{body}");
        readiness.met("listener");
        assert_eq!(ask(admin.addr(), "GET", "/readyz?x=1").await.0, 200);
        readiness.drain();
        let (status, _, body) = ask(admin.addr(), "GET", "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("\"code\":\"draining\""), "{body}");
        let (status, _, body) = ask(admin.addr(), "GET", "/livez").await;
        assert_eq!((status, body.as_str()), (200, "ok\n"));
    }

    #[tokio::test]
    async fn metrics_are_refused_until_they_are_shown_and_probes_are_not() {
        let readiness = Readiness::default();
        readiness.wait_for("directories");
        let addr = "127.0.0.1:0".parse().unwrap();
        let metrics = start_metrics(Service::Writer);
        let admin = serve_before(addr, "kafka-consumer-writer", readiness);
        let admin = admin.await.unwrap();
        let (status, head, body) = ask(admin.addr(), "GET", "/metrics").await;
        assert_eq!(status, 503);
        assert!(head.contains("retry-after: 1"), "{head}");
        assert!(body.contains("waiting for directories"), "{body}");
        assert_eq!(ask(admin.addr(), "GET", "/livez").await.0, 200);
        admin.show_metrics(metrics);
        assert_eq!(ask(admin.addr(), "GET", "/metrics").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_and_version_come_in_their_formats() {
        let admin = admin(&Readiness::default()).await;
        let (status, head, body) = ask(admin.addr(), "GET", "/metrics").await;
        assert_eq!(status, 200);
        assert!(
            head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        assert!(body.contains("# TYPE log_batches_received_total counter"));
        let start = body
            .lines()
            .find_map(|line| line.strip_prefix("process_start_time_seconds "));
        let start: f64 = start.unwrap().parse().unwrap();
        assert!(start > 1e9, "{body}");
        let (status, head, body) = ask(admin.addr(), "GET", "/version").await;
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"));
        let version: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(version["service"], "ingest-gateway");
        assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    }

    #[tokio::test]
    async fn other_paths_are_404_and_other_methods_405_with_allow() {
        let admin = admin(&Readiness::default()).await;
        for path in ["/livez", "/readyz", "/metrics", "/version"] {
            let (status, head, body) = ask(admin.addr(), "HEAD", path).await;
            assert_eq!((status, body.as_str()), (200, ""), "{path}");
            assert!(head.contains("content-length: "), "{head}");
            let (status, head, body) = ask(admin.addr(), "POST", path).await;
            assert_eq!(status, 405, "{path}");
            assert!(head.contains("allow: get, head"), "{head}");
            assert!(body.contains("\"code\":\"method_not_allowed\""), "{body}");
        }
        for path in ["/", "/metrics/", "/livezz"] {
            let (status, _, body) = ask(admin.addr(), "GET", path).await;
            assert_eq!(status, 404, "{path}");
            assert!(body.contains("\"code\":\"not_found\""), "{body}");
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_in_the_error() {
        let first = admin(&Readiness::default()).await;
        let error = serve(
            first.addr(),
            "aggregator",
            Readiness::default(),
            start_metrics(Service::Aggregator),
        )
        .await
        .unwrap_err();
        let expected = format!("failed to listen for admin requests on {}", first.addr());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[tokio::test]
    async fn silent_connections_give_their_places_back() {
        let answers = Answers {
            version: version("aggregator"),
            readiness: Readiness::default(),
            metrics: Arc::default(),
        };
        let addr = "127.0.0.1:0".parse().unwrap();
        let admin = serve_answers(addr, answers, Duration::from_millis(20))
            .await
            .unwrap();
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(admin.addr()).await.unwrap());
        }
        assert_eq!(ask(admin.addr(), "GET", "/livez").await.0, 200);
    }
}
