//! The socket of one connection: one task that writes the frames it is handed and sorts the
//! answers by correlation id. It ends with the connection.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
};

use super::{
    refusal::{self, Manner},
    trouble::Trouble,
};

/// A request to be written.
pub(super) struct Frame {
    pub bytes: BytesMut,
    pub ticket: Arc<Ticket>,
}

/// Who has a frame: its caller may take it back until the writer has it.
pub(super) struct Ticket(AtomicU8);

impl Ticket {
    const QUEUED: u8 = 0;
    const TAKEN: u8 = 1;
    const WITHDRAWN: u8 = 2;

    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(Self::QUEUED)))
    }

    /// The writer's side; `false`: the caller has gone.
    fn take(&self) -> bool {
        self.change(Self::TAKEN)
    }

    /// The caller's side; `false`: it is (being) written.
    pub(super) fn withdraw(&self) -> bool {
        self.change(Self::WITHDRAWN)
    }

    fn change(&self, to: u8) -> bool {
        let swapped =
            self.0
                .compare_exchange(Self::QUEUED, to, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok() || swapped == Err(to)
    }
}

/// What the task and the callers share.
pub(super) struct Shared(Mutex<State>);

pub(super) struct State {
    pub waiting: HashMap<i32, oneshot::Sender<Bytes>>,
    pub next_id: i32,
    /// Once it is.
    pub closed: Option<Closed>,
    /// That have come.
    pub answers: usize,
    pub last_used: Instant,
}

/// Why it is.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub trouble: Trouble,
    pub reason: String,
}

impl Closed {
    fn network(reason: impl Into<String>) -> Self {
        Self {
            trouble: Trouble::Network,
            reason: reason.into(),
        }
    }

    fn refused(reason: impl Into<String>) -> Self {
        Self {
            trouble: Trouble::Refused,
            reason: reason.into(),
        }
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            waiting: HashMap::new(),
            next_id: 0,
            closed: None,
            answers: 0,
            last_used: Instant::now(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    pub(super) fn close(&self, reason: &str) {
        self.close_as(Closed::network(reason));
    }

    fn close_as(&self, closed: Closed) {
        let mut state = self.lock();
        // The first reason is the cause; what follows from it says less.
        state.closed.get_or_insert(closed);
        // Dropping their senders tells those who wait.
        state.waiting.clear();
    }
}

/// The task of a connection, by the two halves of its stream.
pub(super) async fn own_socket(
    (reader, writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    frames: mpsc::Receiver<Frame>,
    shared: Arc<Shared>,
    manner: Manner,
    response_bytes_max: usize,
) {
    let closed = tokio::select! {
        closed = write_frames(writer, frames, manner) => closed,
        closed = read_frames(reader, &shared, manner, response_bytes_max) => closed,
    };
    shared.close_as(closed);
}

async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    manner: Manner,
) -> Closed {
    while let Some(frame) = frames.recv().await {
        if !frame.ticket.take() {
            continue;
        }
        // What TLS has taken is not on its way yet.
        let written = async {
            writer.write_all(&frame.bytes).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return failed("write", &error, manner);
        }
    }
    Closed::network("the connection was dropped")
}

async fn read_frames(
    mut reader: impl AsyncRead + Unpin,
    shared: &Shared,
    manner: Manner,
    bytes_max: usize,
) -> Closed {
    loop {
        let body = match read_frame(&mut reader, manner, bytes_max).await {
            Ok(body) => body,
            Err(mut closed) => {
                if closed.reason == ENDED {
                    let answers = shared.lock().answers;
                    closed.reason.push_str(refusal::hint(manner, answers));
                }
                return closed;
            }
        };
        let id = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
        let waiting = {
            let mut state = shared.lock();
            state.last_used = Instant::now();
            state.answers = state.answers.saturating_add(1);
            state.waiting.remove(&id)
        };
        let Some(answer) = waiting else {
            return Closed::network(format!(
                "an answer came to no request of ours (correlation id {id})"
            ));
        };
        // Nobody may want it any more.
        let _ = answer.send(body);
    }
}

const ENDED: &str = "the broker closed the connection";

fn failed(what: &str, error: &io::Error, manner: Manner) -> Closed {
    match refusal::of_tls(error, manner.certified) {
        Some(why) => Closed::refused(why),
        None if refusal::is_end(error) => Closed::network(ENDED),
        None => Closed::network(format!("failed to {what}: {error}")),
    }
}

async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    manner: Manner,
    bytes_max: usize,
) -> Result<Bytes, Closed> {
    let failed = |error: io::Error| failed("read", &error, manner);
    let len = reader.read_i32().await.map_err(failed)?;
    if !manner.tls && refusal::is_tls_record(len) {
        return Err(Closed::refused(refusal::SPEAKS_TLS));
    }
    let len = usize::try_from(len)
        .ok()
        .filter(|len| (4..=bytes_max).contains(len))
        .ok_or_else(|| {
            Closed::network(format!(
                "an answer of {len} bytes came, allowed are 4 to {bytes_max}"
            ))
        })?;
    let mut body = BytesMut::with_capacity(len);
    let mut bounded = reader.take(len as u64);
    while body.len() < len {
        if bounded.read_buf(&mut body).await.map_err(failed)? == 0 {
            return Err(Closed::network(
                "the broker closed the connection inside an answer",
            ));
        }
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_either_taken_or_withdrawn() {
        let ticket = Ticket::new();
        assert!(ticket.withdraw());
        assert!(ticket.withdraw());
        assert!(!ticket.take());
        let ticket = Ticket::new();
        assert!(ticket.take());
        assert!(!ticket.withdraw());
    }
}
