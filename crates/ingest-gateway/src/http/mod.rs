//! HTTP in: routes, connections with their bounds, and answers.
//!
//! HTTP/1 and HTTP/2 on one listener, plain or over TLS: `connections` (accept, protocol),
//! `places` and `activity` (who may stay), `wire` and `framing` (the bytes). Nothing here knows
//! Kafka or the disk; `logs` puts a batch on the queue and waits for its answer. Who a client is
//! is not logged.

pub mod activity;
pub mod body;
pub mod connections;
pub mod framing;
pub mod gate;
pub mod incoming;
pub mod logs;
pub mod openapi;
pub mod places;
pub mod problem;
pub mod reply;
pub mod request;
pub mod room;
pub mod tls;
mod verdict;
pub mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    header::{ALLOW, CONNECTION, EXPECT, HeaderValue, WWW_AUTHENTICATE},
};
use pipeline_core::lifecycle::{Readiness, probe};
use tokio_util::task::TaskTracker;

use self::{
    body::let_go,
    framing::Odd,
    incoming::Incoming,
    logs::{Ingest, draining},
    openapi::OpenApi,
    problem::{Code, Problem},
};
use crate::{
    auth::{
        Access,
        keys::{Client, NoKey},
    },
    telemetry,
};

pub type Answer = Response<Full<Bytes>>;

/// All that a request can reach.
#[derive(Debug)]
pub struct App {
    pub access: Arc<Access>,
    pub ingest: Ingest,
    pub readiness: Readiness,
    openapi: OpenApi,
    /// Set once: from then on every request is told to come again.
    draining: AtomicBool,
    /// Requests that are being answered.
    requests: TaskTracker,
}

impl App {
    #[must_use]
    pub fn new(
        access: Arc<Access>,
        ingest: Ingest,
        readiness: Readiness,
        openapi: OpenApi,
    ) -> Arc<Self> {
        let requests = TaskTracker::new();
        requests.close();
        Arc::new(Self {
            access,
            ingest,
            readiness,
            openapi,
            draining: AtomicBool::new(false),
            requests,
        })
    }

    /// From now on no new request is taken.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Ends when no request is being answered.
    pub async fn idle(&self) {
        self.requests.wait().await;
    }

    /// Answers one request, whatever it is.
    pub async fn answer(&self, request: Request<Incoming>, odd: Option<Odd>) -> Answer {
        let malformed = request::check_framing(&request, odd).err();
        if malformed.is_none()
            && let Some(answer) = self.looked_up(&request)
        {
            return answer;
        }
        let began = Instant::now();
        let http1 = request.version() < hyper::Version::HTTP_2;
        let result = match malformed {
            // Where its body ends is not sure, so nothing behind it is read.
            Some(problem) => Err(problem.closing()),
            None => self.route(request).await,
        };
        let refusal = result.as_ref().err().map(|problem| problem.code);
        let close = result.as_ref().is_err_and(|problem| problem.close);
        let mut answer = result.unwrap_or_else(Problem::into_answer);
        let leaving = || self.draining.load(Ordering::SeqCst) || self.readiness.check().is_err();
        if http1 && (close || leaving()) {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        telemetry::request_ended(refusal, began.elapsed());
        answer
    }

    /// What is there to be read by anybody.
    fn looked_up(&self, request: &Request<Incoming>) -> Option<Answer> {
        let (method, path) = (request.method(), request.uri().path());
        probe(method, path, &self.readiness).or_else(|| {
            let is_read = matches!(*method, Method::GET | Method::HEAD);
            (is_read && path == openapi::PATH).then(|| self.openapi.answer())
        })
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Answer, Problem> {
        let client = match self.admit(&request) {
            Ok(client) => client,
            Err(problem) => {
                let expects_continue = request.headers().contains_key(EXPECT);
                let hurry = self.ingest.drain.expired();
                return Err(let_go(request.into_body(), expects_continue, problem, hurry).await);
            }
        };
        // A drain that begins right here does not wait for this request; the closed queue then
        // refuses it in the same words.
        let _token = self.requests.token();
        let accepted = self.ingest.post(request, client).await?;
        Ok(accepted.into_answer())
    }

    /// Who sends this. Where a key is needed, nobody without one learns anything else.
    fn admit(&self, request: &Request<Incoming>) -> Result<Arc<Client>, Problem> {
        let client = match *request.method() {
            Method::POST => self.access.keys().identify(request.headers()),
            // It goes nowhere.
            _ => Ok(Arc::default()),
        };
        let client = client.map_err(unauthorized)?;
        self.misdirected(request).map_or(Ok(client), Err)
    }

    fn misdirected(&self, request: &Request<Incoming>) -> Option<Problem> {
        let (method, path) = (request.method(), request.uri().path());
        let allowed = match path {
            "/logs" => "POST",
            openapi::PATH => "GET, HEAD",
            _ => {
                let detail = format!(
                    "found path `{}`, allowed are /logs, /livez, /readyz and {}",
                    pipeline_core::record::shown(path.as_bytes()),
                    openapi::PATH
                );
                return Some(Problem::new(Code::NotFound, detail));
            }
        };
        if method.as_str() != allowed {
            let detail = format!("found method {method}, allowed: {allowed}");
            return Some(Problem::new(Code::MethodNotAllowed, detail).with_header(ALLOW, allowed));
        }
        self.draining.load(Ordering::SeqCst).then(draining)
    }
}

fn unauthorized(why: NoKey) -> Problem {
    Problem::new(Code::Unauthorized, why.to_string())
        .with_header(WWW_AUTHENTICATE, r#"Bearer realm="sluice""#)
}
