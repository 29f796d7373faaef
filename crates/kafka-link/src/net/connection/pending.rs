//! A request that was put on the way, and the wait for its answer.

use std::{marker::PhantomData, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    super::{
        Call, CallError,
        frame::decode_answer,
        socket::{Shared, Ticket},
        trouble::Trouble,
    },
    Connection,
};

/// A request on the way. Dropped before it was written, it never will be; dropped later, its
/// answer is thrown away when it comes.
pub(crate) struct Pending<R> {
    pub(super) raw: RawPending,
    pub(super) version: i16,
    pub(super) connection: Arc<Connection>,
    pub(super) request: PhantomData<fn() -> R>,
}

impl<R: Call> Pending<R> {
    /// Waits for the answer. May be dropped and called again. When the time is over the connection
    /// is closed: nobody knows what state its broker is in.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<R::Response, CallError> {
        let mut body = self.raw.wait(&self.connection, deadline).await?;
        decode_answer(&mut body, self.version, &R::ANSWER)
            .map_err(|error| self.connection.malformed(&error))
    }
}

pub(super) struct RawPending {
    pub(super) id: i32,
    pub(super) ticket: Arc<Ticket>,
    pub(super) receiver: oneshot::Receiver<Bytes>,
    pub(super) shared: Arc<Shared>,
}

impl RawPending {
    pub(super) async fn wait(
        &mut self,
        connection: &Connection,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let peer = &connection.peer;
        let started = Instant::now();
        let mut trouble = Trouble::Network;
        let message = match timeout_at(deadline.into(), &mut self.receiver).await {
            Ok(Ok(body)) => return Ok(body),
            Ok(Err(_)) => {
                let closed = self.shared.lock().closed.clone();
                trouble = closed.as_ref().map_or(trouble, |closed| closed.trouble);
                let reason = closed.map(|closed| closed.reason);
                let reason = reason.as_deref().unwrap_or("the connection was closed");
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
            trouble,
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
