//! One connection to one broker, over TCP or TLS, logged in where there is a login: frames out,
//! frames in, matched by correlation id.
//!
//! One task owns the socket and ends with the connection; callers hand it whole frames. So a
//! caller that goes away never leaves half a frame behind, and whether a request was written is
//! always known: that is the difference between "nothing happened" and "it may have happened".
//! Nothing is ever sent twice.

mod pending;

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    messages::{ApiVersionsRequest, ApiVersionsResponse},
    protocol::{Request, StrBytes, VersionRange},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::timeout_at,
};

use super::{
    Call, CallError,
    calls::API_VERSIONS,
    frame::{decode_answer, encode_frame},
    refusal::Manner,
    sasl,
    security::{Credentials, Security},
    socket::{Frame, Shared, Ticket, own_socket},
    tls,
    trouble::Trouble,
};

pub(crate) use pending::Pending;
use pending::RawPending;

/// Most requests that wait to be written on one connection.
const QUEUE_LEN_MAX: usize = 256;
/// `UnsupportedVersion`.
const UNSUPPORTED_VERSION: i16 = 35;
const API_VERSIONS_VERSION: i16 = 3;

#[derive(Clone)]
pub(crate) struct Limits {
    pub client_id: String,
    pub connect_timeout: Duration,
    /// How long a connection may use what was read from files for it, before another is made with
    /// what they hold by then.
    pub files_age_max: Duration,
    pub response_bytes_max: usize,
    pub security: Arc<Security>,
}

pub(crate) struct Connection {
    peer: Arc<str>,
    client_id: StrBytes,
    versions: HashMap<i16, VersionRange>,
    queue: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
    task: AbortHandle,
    /// From then on it gets no new request: the broker would close it soon after, or the files
    /// that it was made with may be others by now.
    spent_at: Option<Instant>,
}

impl Connection {
    /// Connects to `host:port`, learns which versions the broker speaks, and logs in.
    pub(crate) async fn open(peer: &Arc<str>, limits: &Limits) -> Result<Self, CallError> {
        let deadline = Instant::now() + limits.connect_timeout;
        let failed = |error: CallError| CallError {
            sent: false,
            message: format!("failed to connect to {peer}: {}", error.message),
            ..error
        };
        let (host, port) = split_address(peer).map_err(|what| failed(CallError::unsent(what)))?;
        let credentials = limits
            .security
            .credentials(deadline)
            .await
            .map_err(failed)?;
        let stream = connect(host, port, deadline, limits.connect_timeout)
            .await
            .map_err(failed)?;
        let mut connection = Self::over(stream, peer, host, limits, &credentials, deadline)
            .await
            .map_err(failed)?;
        // What is sent here changes nothing: for the caller, the connection was not there yet.
        let opened = connection.begin(&credentials, limits, deadline).await;
        match opened {
            Ok(()) => Ok(connection),
            Err(error) => Err(CallError {
                sent: false,
                ..error
            }),
        }
    }

    async fn over(
        stream: TcpStream,
        peer: &Arc<str>,
        host: &str,
        limits: &Limits,
        credentials: &Credentials,
        deadline: Instant,
    ) -> Result<Self, CallError> {
        let manner = Manner {
            tls: credentials.tls.is_some(),
            certified: credentials.certificate_ends.is_some(),
            sasl: credentials.login.is_some(),
        };
        let shared = Arc::new(Shared::new());
        let (queue, frames) = mpsc::channel(QUEUE_LEN_MAX);
        let (for_task, bytes_max) = (Arc::clone(&shared), limits.response_bytes_max);
        let task = match &credentials.tls {
            None => {
                let halves = stream.into_split();
                tokio::spawn(own_socket(halves, frames, for_task, manner, bytes_max))
            }
            Some(config) => {
                let config = Arc::clone(config);
                let stream =
                    tls::handshake(stream, config, host, manner.certified, deadline).await?;
                let halves = tokio::io::split(stream);
                tokio::spawn(own_socket(halves, frames, for_task, manner, bytes_max))
            }
        };
        Ok(Self {
            peer: Arc::clone(peer),
            client_id: StrBytes::from_string(limits.client_id.clone()),
            versions: HashMap::new(),
            queue,
            shared,
            task: task.abort_handle(),
            spent_at: None,
        })
    }

    async fn begin(
        &mut self,
        credentials: &Credentials,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<(), CallError> {
        self.versions = self.ask_versions(deadline).await?;
        let began = Instant::now();
        let session_ends = match &credentials.login {
            Some(login) => sasl::log_in(self, login, deadline).await?,
            None => None,
        };
        let files_age = limits.security.uses_files().then_some(limits.files_age_max);
        let ends = session_ends.into_iter();
        let ends = ends.chain(files_age.map(|age| began + age)).min();
        // Early enough for what is on its way then, and not all connections at once.
        let share = 0.7 + 0.15 * fastrand::f64();
        self.spent_at = ends.map(|ends| began + (ends - began).mul_f64(share));
        Ok(())
    }

    /// The version in which both sides speak `R`.
    pub(crate) fn version<R: Call>(&self) -> Result<i16, CallError> {
        let ours = R::OURS;
        let Some(theirs) = self.versions.get(&R::KEY) else {
            return Err(CallError::unsupported(format!(
                "broker {} does not know the call `{}`",
                self.peer,
                R::NAME
            )));
        };
        let both = ours.intersect(theirs);
        if both.is_empty() {
            return Err(CallError::unsupported(format!(
                "broker {} speaks versions {theirs} of the call `{}`, ours are {ours}",
                self.peer,
                R::NAME
            )));
        }
        Ok(both.max)
    }

    /// Puts a request on the way.
    pub(crate) fn start<R: Request>(
        self: &Arc<Self>,
        request: &R,
        version: i16,
    ) -> Result<Pending<R>, CallError> {
        let raw = self.start_raw(request, version)?;
        Ok(Pending {
            raw,
            version,
            connection: Arc::clone(self),
            request: PhantomData,
        })
    }

    /// One call while the connection is being opened.
    pub(super) async fn ask<R: Call>(
        &self,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, CallError> {
        let version = self.version::<R>()?;
        let mut body = self
            .start_raw(request, version)?
            .wait(self, deadline)
            .await?;
        decode_answer(&mut body, version, &R::ANSWER).map_err(|error| self.malformed(&error))
    }

    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some()
    }

    /// Whether it is to get no new request.
    pub(super) fn is_spent(&self) -> bool {
        self.is_closed() || self.spent_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Requests written or to be written whose answer has not come, wanted or not.
    pub(crate) fn in_flight(&self) -> usize {
        self.shared.lock().waiting.len()
    }

    pub(crate) fn idle_for(&self) -> Duration {
        self.shared.lock().last_used.elapsed()
    }

    /// Closes at once; requests on the way fail.
    pub(crate) fn close(&self, reason: &str) {
        self.shared.close(reason);
        self.task.abort();
    }

    fn start_raw<R: Request>(&self, request: &R, version: i16) -> Result<RawPending, CallError> {
        let unsent = |what: &str| CallError::unsent(format!("broker {}: {what}", self.peer));
        let (answer, receiver) = oneshot::channel();
        let id = {
            let mut state = self.shared.lock();
            if let Some(closed) = &state.closed {
                return Err(CallError {
                    trouble: closed.trouble,
                    ..unsent(&closed.reason)
                });
            }
            state.last_used = Instant::now();
            let id = state.next_id;
            state.next_id = id.wrapping_add(1) & i32::MAX;
            state.waiting.insert(id, answer);
            id
        };
        let pending = RawPending {
            id,
            ticket: Ticket::new(),
            receiver,
            shared: Arc::clone(&self.shared),
        };
        // A failure from here on drops `pending`, which takes the id back.
        let bytes = encode_frame(request, version, id, &self.client_id).map_err(|error| {
            CallError::unsupported(format!(
                "broker {} cannot be asked in version {version} of call {}: {error}",
                self.peer,
                R::KEY
            ))
        })?;
        let frame = Frame {
            bytes,
            ticket: Arc::clone(&pending.ticket),
        };
        match self.queue.try_send(frame) {
            Ok(()) => Ok(pending),
            Err(mpsc::error::TrySendError::Full(_)) => Err(unsent("too many requests wait")),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(unsent("the connection was closed")),
        }
    }

    async fn ask_versions(
        &self,
        deadline: Instant,
    ) -> Result<HashMap<i16, VersionRange>, CallError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("sluice"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = API_VERSIONS_VERSION;
        loop {
            let mut raw = self.start_raw(&request_in(&request, version), version)?;
            let mut body = raw.wait(self, deadline).await?;
            let code = body
                .get(4..6)
                .map(|code| i16::from_be_bytes([code[0], code[1]]));
            // A broker that does not know the version says so in version 0.
            let refused = code == Some(UNSUPPORTED_VERSION) && version > 0;
            let decode_as = if refused { 0 } else { version };
            let answer: ApiVersionsResponse = decode_answer(&mut body, decode_as, &API_VERSIONS)
                .map_err(|error| self.malformed(&error))?;
            if refused {
                version = 0;
                continue;
            }
            if answer.error_code != 0 {
                return Err(CallError::unsent(format!(
                    "broker {} refused to tell its versions (code {})",
                    self.peer, answer.error_code
                )));
            }
            if answer.api_keys.is_empty() {
                // It would be believed for as long as the connection lasts.
                return Err(self.malformed(&"it speaks no call at all"));
            }
            let versions = answer.api_keys.iter().map(|api| {
                let range = VersionRange {
                    min: api.min_version,
                    max: api.max_version,
                };
                (api.api_key, range)
            });
            return Ok(versions.collect());
        }
    }

    fn malformed(&self, error: &dyn std::fmt::Display) -> CallError {
        let message = format!("broker {} sent a malformed answer: {error}", self.peer);
        self.close(&message);
        CallError {
            sent: true,
            trouble: Trouble::Network,
            message,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close("the connection was dropped");
    }
}

async fn connect(
    host: &str,
    port: u16,
    deadline: Instant,
    at_most: Duration,
) -> Result<TcpStream, CallError> {
    let stream = timeout_at(deadline.into(), TcpStream::connect((host, port)))
        .await
        .map_err(|_| CallError::unsent(format!("no connection within {at_most:?}")))?
        .map_err(|error| CallError::unsent(error.to_string()))?;
    // Without it a request in two packets waits for the broker's delayed acknowledgement.
    stream
        .set_nodelay(true)
        .map_err(|error| CallError::unsent(error.to_string()))?;
    Ok(stream)
}

/// Before version 3 the request has no fields.
fn request_in(request: &ApiVersionsRequest, version: i16) -> ApiVersionsRequest {
    if version < 3 {
        ApiVersionsRequest::default()
    } else {
        request.clone()
    }
}

/// Host and port; an IPv6 address stands in brackets.
fn split_address(address: &str) -> Result<(&str, u16), String> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| format!("`{address}` is not host:port"))?;
    let port = port
        .parse()
        .map_err(|_| format!("`{port}` is not a port"))?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Ok((host, port))
}

#[cfg(test)]
mod tests;
