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
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
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
    /// Why, once it is.
    pub closed: Option<String>,
    pub last_used: Instant,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            waiting: HashMap::new(),
            next_id: 0,
            closed: None,
            last_used: Instant::now(),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    pub(super) fn close(&self, reason: &str) {
        let mut state = self.lock();
        // The first reason is the cause; what follows from it says less.
        state.closed.get_or_insert_with(|| reason.to_owned());
        // Dropping their senders tells those who wait.
        state.waiting.clear();
    }
}

/// The task of a connection.
pub(super) async fn own_socket(
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
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "the broker closed the connection".to_owned(),
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
