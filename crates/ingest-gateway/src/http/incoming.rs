//! The body of a request as the handler gets it: hyper's, watched by its connection. Reads
//! nothing by itself.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{sleep, timeout};

use super::{activity::Receiving, gate::Unwanted, wire::LINGER};

#[derive(Debug)]
pub struct Incoming {
    body: hyper::body::Incoming,
    is_http2: bool,
    /// Until the body is whole.
    receiving: Option<Receiving>,
    /// Until it is asked for. On HTTP/2.
    unwanted: Option<Unwanted>,
}

/// Why a body does not go on.
#[derive(Debug)]
pub enum BodyCut {
    /// Most often the client has gone.
    Broken(hyper::Error),
    /// It came too slowly while others wanted its connection's place.
    TooSlow,
}

impl Incoming {
    #[must_use]
    pub fn new(
        body: hyper::body::Incoming,
        is_http2: bool,
        receiving: Option<Receiving>,
        unwanted: Option<Unwanted>,
    ) -> Self {
        Self {
            body,
            is_http2,
            receiving,
            unwanted,
        }
    }

    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// Nothing more of it is wanted, and the little that comes within [`LINGER`] takes no room of
    /// the connection's from other bodies. For HTTP/2.
    pub fn discard_aside(self) {
        let (mut body, unwanted) = (self.body, self.unwanted);
        tokio::spawn(timeout(LINGER, async move {
            let ended = loop {
                match body.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => break false,
                    None => break true,
                }
            };
            if let Some(unwanted) = unwanted.filter(|_| ended) {
                unwanted.is_over();
            }
        }));
    }

    /// Nothing more of it is wanted. On HTTP/2 that resets the stream, which some clients (curl
    /// before 8) then see instead of their answer; so it waits until that has arrived.
    pub fn leave(self) {
        if self.is_http2 {
            tokio::spawn(async move {
                sleep(LINGER).await;
                drop((self.body, self.unwanted));
            });
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        if let Some(unwanted) = self.unwanted.take() {
            unwanted.is_wanted();
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(receiving), Some(data)) = (&self.receiving, frame.data_ref()) {
                    receiving.heard(data.len());
                }
                if self.body.is_end_stream() {
                    self.receiving = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyCut::Broken(error)))),
            Poll::Ready(None) => {
                self.receiving = None;
                Poll::Ready(None)
            }
            Poll::Pending => match &self.receiving {
                Some(receiving) if receiving.is_hurried(context.waker()) => {
                    Poll::Ready(Some(Err(BodyCut::TooSlow)))
                }
                _ => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Display for BodyCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "the body broke off: {error}"),
            Self::TooSlow => f.write_str(
                "the body came at less than 1 KiB a second while every connection was taken \
                 (server.maxConnections)",
            ),
        }
    }
}
