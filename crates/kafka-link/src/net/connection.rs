//! One TCP connection to one broker: frames out, frames in, matched by correlation id.
//!
//! One task owns the socket and ends with the connection; callers hand it whole frames. So a
//! caller that goes away never leaves half a frame behind, and whether a request was written is
//! always known: that is the difference between "nothing happened" and "it may have happened".
//! Nothing is ever sent twice.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::timeout_at,
};

use super::Call;
use crate::error::{Context, ErrorKind, KafkaError};

/// Most requests that wait to be written on one connection.
const QUEUE_LEN_MAX: usize = 256;
/// `UnsupportedVersion`.
const UNSUPPORTED_VERSION: i16 = 35;
const API_VERSIONS_VERSION: i16 = 3;

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub client_id: String,
    pub connect_timeout: Duration,
    pub response_bytes_max: usize,
}

/// Why a call has no answer.
#[derive(Clone, Debug)]
pub(crate) struct CallError {
    /// Whether (part of) the request was written.
    pub sent: bool,
    pub trouble: Trouble,
    pub message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// Connecting, writing, reading, time.
    Network,
    /// The broker does not speak the call as we need it.
    Unsupported,
}

impl CallError {
    pub(crate) fn unsent(message: impl Into<String>) -> Self {
        Self {
            sent: false,
            trouble: Trouble::Network,
            message: message.into(),
        }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self {
            sent: false,
            trouble: Trouble::Unsupported,
            message: message.into(),
        }
    }

    pub(crate) fn in_context(self, context: Context) -> KafkaError {
        let kind = match self.trouble {
            Trouble::Unsupported => ErrorKind::Fatal,
            Trouble::Network if self.sent => context.unanswered(),
            Trouble::Network => ErrorKind::Retry,
        };
        KafkaError::new(kind, self.message)
    }
}

pub(crate) struct Connection {
    peer: Arc<str>,
    client_id: StrBytes,
    versions: HashMap<i16, VersionRange>,
    queue: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Connection {
    /// Connects to `host:port` and learns which versions the broker speaks.
    pub(crate) async fn open(peer: &Arc<str>, limits: &Limits) -> Result<Self, CallError> {
        let deadline = Instant::now() + limits.connect_timeout;
        let failed =
            |what: String| CallError::unsent(format!("failed to connect to {peer}: {what}"));
        let (host, port) = split_address(peer).map_err(failed)?;
        let stream = match timeout_at(deadline.into(), TcpStream::connect((host, port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => {
                return Err(failed(format!(
                    "no connection within {:?}",
                    limits.connect_timeout
                )));
            }
        };
        // Without it a request in two packets waits for the broker's delayed acknowledgement.
        stream
            .set_nodelay(true)
            .map_err(|error| failed(error.to_string()))?;
        let shared = Arc::new(Shared::new());
        let (queue, frames) = mpsc::channel(QUEUE_LEN_MAX);
        let task = tokio::spawn(own_socket(
            stream,
            frames,
            Arc::clone(&shared),
            limits.response_bytes_max,
        ));
        let mut connection = Self {
            peer: Arc::clone(peer),
            client_id: StrBytes::from_string(limits.client_id.clone()),
            versions: HashMap::new(),
            queue,
            shared,
            task: task.abort_handle(),
        };
        // What is sent here changes nothing: for the caller, the connection was not there yet.
        connection.versions =
            connection
                .ask_versions(deadline)
                .await
                .map_err(|error| CallError {
                    sent: false,
                    ..error
                })?;
        Ok(connection)
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

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().closed.is_some()
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
            if let Some(reason) = &state.closed {
                return Err(unsent(reason));
            }
            state.last_used = Instant::now();
            let id = state.next_id;
            state.next_id = id.wrapping_add(1) & i32::MAX;
            state.waiting.insert(id, answer);
            id
        };
        let pending = RawPending {
            id,
            ticket: Arc::new(Ticket(AtomicU8::new(Ticket::QUEUED))),
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
            let answer: ApiVersionsResponse =
                decode_answer(&mut body, decode_as).map_err(|error| self.malformed(&error))?;
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

/// A request on the way. Dropped before it was written, it never will be; dropped later, its
/// answer is thrown away when it comes.
pub(crate) struct Pending<R> {
    raw: RawPending,
    version: i16,
    connection: Arc<Connection>,
    request: PhantomData<fn() -> R>,
}

impl<R: Call> Pending<R> {
    /// Waits for the answer. May be dropped and called again. When the time is over the connection
    /// is closed: nobody knows what state its broker is in.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<R::Response, CallError> {
        let mut body = self.raw.wait(&self.connection, deadline).await?;
        decode_answer(&mut body, self.version).map_err(|error| self.connection.malformed(&error))
    }
}

struct RawPending {
    id: i32,
    ticket: Arc<Ticket>,
    receiver: oneshot::Receiver<Bytes>,
    shared: Arc<Shared>,
}

impl RawPending {
    async fn wait(
        &mut self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let peer = &connection.peer;
        let started = Instant::now();
        let message = match timeout_at(deadline.into(), &mut self.receiver).await {
            Ok(Ok(body)) => return Ok(body),
            Ok(Err(_)) => {
                let state = self.shared.lock();
                let reason = state
                    .closed
                    .as_deref()
                    .unwrap_or("the connection was closed");
                format!("broker {peer}: {reason}")
            }
            Err(_) => {
                let message = format!(
                    "no answer from broker {peer} within {:?}",
                    started.elapsed()
                );
                connection.close(&message);
                message
            }
        };
        Err(CallError {
            sent: !self.ticket.withdraw(),
            trouble: Trouble::Network,
            message,
        })
    }
}

impl Drop for RawPending {
    fn drop(&mut self) {
        if self.ticket.withdraw() {
            self.shared.lock().waiting.remove(&self.id);
        }
    }
}

struct Frame {
    bytes: BytesMut,
    ticket: Arc<Ticket>,
}

/// Who has a frame: its caller may take it back until the writer has it.
struct Ticket(AtomicU8);

impl Ticket {
    const QUEUED: u8 = 0;
    const TAKEN: u8 = 1;
    const WITHDRAWN: u8 = 2;

    /// The writer's side; `false`: the caller has gone.
    fn take(&self) -> bool {
        self.change(Self::TAKEN)
    }

    /// The caller's side; `false`: it is (being) written.
    fn withdraw(&self) -> bool {
        self.change(Self::WITHDRAWN)
    }

    fn change(&self, to: u8) -> bool {
        let swapped =
            self.0
                .compare_exchange(Self::QUEUED, to, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok() || swapped == Err(to)
    }
}

struct Shared(Mutex<State>);

struct State {
    waiting: HashMap<i32, oneshot::Sender<Bytes>>,
    next_id: i32,
    /// Why, once it is.
    closed: Option<String>,
    last_used: Instant,
}

impl Shared {
    fn new() -> Self {
        Self(Mutex::new(State {
            waiting: HashMap::new(),
            next_id: 0,
            closed: None,
            last_used: Instant::now(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    fn close(&self, reason: &str) {
        let mut state = self.lock();
        // The first reason is the cause; what follows from it says less.
        state.closed.get_or_insert_with(|| reason.to_owned());
        // Dropping their senders tells those who wait.
        state.waiting.clear();
    }
}

/// The task of a connection.
async fn own_socket(
    stream: TcpStream,
    frames: mpsc::Receiver<Frame>,
    shared: Arc<Shared>,
    response_bytes_max: usize,
) {
    let (reader, writer) = stream.into_split();
    let reason = tokio::select! {
        reason = write_frames(writer, frames) => reason,
        reason = read_frames(reader, &shared, response_bytes_max) => reason,
    };
    shared.close(&reason);
}

async fn write_frames(mut writer: OwnedWriteHalf, mut frames: mpsc::Receiver<Frame>) -> String {
    while let Some(frame) = frames.recv().await {
        if frame.ticket.take()
            && let Err(error) = writer.write_all(&frame.bytes).await
        {
            return format!("failed to write: {error}");
        }
    }
    "the connection was dropped".to_owned()
}

async fn read_frames(mut reader: OwnedReadHalf, shared: &Shared, bytes_max: usize) -> String {
    loop {
        let body = match read_frame(&mut reader, bytes_max).await {
            Ok(body) => body,
            Err(reason) => return reason,
        };
        let id = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        let waiting = {
            let mut state = shared.lock();
            state.last_used = Instant::now();
            state.waiting.remove(&id)
        };
        let Some(answer) = waiting else {
            return format!("an answer came to no request of ours (correlation id {id})");
        };
        // Nobody may want it any more.
        let _ = answer.send(body);
    }
}

async fn read_frame(reader: &mut OwnedReadHalf, bytes_max: usize) -> Result<Bytes, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
        _ => format!("failed to read: {error}"),
    };
    let len = reader.read_i32().await.map_err(failed)?;
    let len = usize::try_from(len)
        .ok()
        .filter(|len| (4..=bytes_max).contains(len))
        .ok_or_else(|| format!("an answer of {len} bytes came, allowed are 4 to {bytes_max}"))?;
    let mut body = BytesMut::with_capacity(len);
    let mut bounded = reader.take(len as u64);
    while body.len() < len {
        if bounded.read_buf(&mut body).await.map_err(failed)? == 0 {
            return Err("the broker closed the connection inside an answer".to_owned());
        }
    }
    Ok(body.freeze())
}

fn encode_frame<R: Request>(
    request: &R,
    version: i16,
    id: i32,
    client_id: &StrBytes,
) -> Result<BytesMut, String> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(client_id.clone()));
    let header_version = R::header_version(version);
    let text = |error| format!("{error:#}");
    let len = header.compute_size(header_version).map_err(text)?
        + request.compute_size(version).map_err(text)?;
    let mut frame = BytesMut::with_capacity(4 + len);
    frame.put_i32(i32::try_from(len).map_err(|_| format!("request of {len} bytes"))?);
    header.encode(&mut frame, header_version).map_err(text)?;
    request.encode(&mut frame, version).map_err(text)?;
    Ok(frame)
}

fn decode_answer<A: Decodable + HeaderVersion>(
    body: &mut Bytes,
    version: i16,
) -> Result<A, String> {
    let header_version = A::header_version(version);
    ResponseHeader::decode(body, header_version)
        .and_then(|_| A::decode(body, version))
        .map_err(|error| format!("{error:#}, {} bytes left", body.remaining()))
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
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_port() {
        assert_eq!(
            split_address("kafka-1.local:9092"),
            Ok(("kafka-1.local", 9092))
        );
        assert_eq!(split_address("[::1]:9092"), Ok(("::1", 9092)));
        assert!(split_address("kafka").is_err());
        assert!(split_address("kafka:port").is_err());
    }

    #[test]
    fn a_frame_is_either_taken_or_withdrawn() {
        let ticket = Ticket(AtomicU8::new(Ticket::QUEUED));
        assert!(ticket.withdraw());
        assert!(ticket.withdraw());
        assert!(!ticket.take());
        let ticket = Ticket(AtomicU8::new(Ticket::QUEUED));
        assert!(ticket.take());
        assert!(!ticket.withdraw());
    }
}
