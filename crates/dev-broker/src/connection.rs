//! One client's connection: frames in, answers out, in order and one at a time, as a real broker
//! does it. Faults are applied here, around the handlers of [`crate::api`], which know of none.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind},
    protocol::{Decodable, Encodable},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use crate::{
    api::{self, Context, Reply},
    faults::{Armed, Fault, Seen},
    shared::Shared,
};

/// Room asked for at each read; a longer request grows the buffer once.
const READ_BYTES: usize = 64 * 1024;

/// Serves until the client goes, breaks the protocol, or a fault cuts it.
pub(crate) async fn serve(shared: Arc<Shared>, node: i32, stream: TcpStream, peer: SocketAddr) {
    let mut connection = Connection {
        shared,
        node,
        stream,
        peer,
        buffer: BytesMut::with_capacity(READ_BYTES),
        waiter: Arc::new(Notify::new()),
    };
    match connection.run().await {
        Ok(()) => {}
        Err(error) => tracing::debug!(%peer, node, %error, "connection ended"),
    }
}

struct Connection {
    shared: Arc<Shared>,
    node: i32,
    stream: TcpStream,
    peer: SocketAddr,
    buffer: BytesMut,
    waiter: Arc<Notify>,
}

/// What is known of a request before its body is decoded.
struct Head {
    api: ApiKey,
    version: i16,
    correlation: i32,
    client_id: String,
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        while let Some(frame) = self.read_frame().await? {
            self.shared.unpaused(self.node).await;
            if !self.answer(frame).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// `None` at the end of the stream between two requests.
    async fn read_frame(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(size) = self.buffer.first_chunk::<4>() {
                let size = i32::from_be_bytes(*size);
                let max = self.shared.options.request_max_bytes;
                let size = usize::try_from(size).ok().filter(|size| *size <= max);
                let size = size.ok_or_else(|| invalid("a request of an impossible size"))?;
                if self.buffer.len() >= 4 + size {
                    self.buffer.advance(4);
                    return Ok(Some(self.buffer.split_to(size).freeze()));
                }
                self.buffer.reserve(4 + size - self.buffer.len());
            } else {
                self.buffer.reserve(READ_BYTES);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// One request. Returns whether the connection goes on.
    async fn answer(&mut self, mut frame: Bytes) -> io::Result<bool> {
        let head = read_head(&frame)?;
        self.shared.seen.count(head.api);
        if !api::supports(head.api, head.version) {
            if head.api != ApiKey::ApiVersions {
                let why = format!("unsupported version {} of {:?}", head.version, head.api);
                return Err(invalid(&why));
            }
            // the one request that is answered in a version the client did not ask for
            let reply = api::versions_refused();
            self.write(&head, 0, &reply, &mut []).await?;
            return Ok(true);
        }
        let decoded =
            RequestHeader::decode(&mut frame, head.api.request_header_version(head.version))
                .and_then(|_| RequestKind::decode(head.api, &mut frame, head.version));
        let mut request = decoded.map_err(|error| invalid(&format!("{:?}: {error}", head.api)))?;
        let ids = api::topic_ids::name_topics(&self.shared.cluster, &mut request, head.version);
        let mut armed = self.shared.faults.decide(&Seen {
            api: head.api,
            node: self.node,
            client_id: &head.client_id,
            request: &request,
        });
        for fault in &armed {
            match fault.fault {
                Fault::Delay(time) => tokio::time::sleep(time).await,
                Fault::Drop => return Ok(true),
                Fault::Cut => return Ok(false),
                _ => {}
            }
        }
        let reply = self.run_with(&head, request, &armed).await;
        for fault in &armed {
            match fault.fault {
                Fault::DelayAnswer(time) => tokio::time::sleep(time).await,
                Fault::DropAnswer => return Ok(true),
                Fault::CutAnswer => return Ok(false),
                _ => {}
            }
        }
        match reply {
            Reply::Answer(mut reply) => {
                api::topic_ids::put_ids(&mut reply, &ids);
                self.write(&head, head.version, &reply, &mut armed).await?;
            }
            Reply::Nothing => {}
            Reply::Close => return Ok(false),
        }
        let throttled = armed.iter().filter_map(Armed::throttle).max();
        if let Some(time) = throttled {
            // a real broker answers at once and then does not read from the channel
            tokio::time::sleep(time).await;
        }
        Ok(true)
    }

    /// The handler, with what the faults say of its result.
    async fn run_with(&mut self, head: &Head, mut request: RequestKind, armed: &[Armed]) -> Reply {
        // Where several rules hit: what one of them refuses is not done.
        if let Some(code) = armed.iter().find_map(Armed::refusal) {
            return Reply::Answer(Box::new(api::refuse::all(&request, head.version, code)));
        }
        let done_but = armed.iter().find_map(Armed::done_but);
        let refused = done_but.map(|code| api::refuse::all(&request, head.version, code));
        let is_empty = |armed: &Armed| armed.fault == Fault::EmptyAnswer;
        let empty = armed.iter().any(is_empty);
        let empty = empty.then(|| api::refuse::empty(&request, head.version, 0));
        for (topic, partition, _) in armed.iter().filter_map(Armed::partition_not_done) {
            api::partitions::take_out(&mut request, topic, partition);
        }
        let context = Context {
            shared: &self.shared,
            node: self.node,
            client_id: &head.client_id,
            host: self.peer.ip(),
            version: head.version,
            waiter: &self.waiter,
        };
        let mut reply = Box::pin(api::handle(&context, request)).await;
        if let Reply::Answer(answer) = &mut reply {
            if let Some(refused) = refused {
                **answer = refused;
            }
            if let Some(empty) = empty {
                **answer = empty;
            }
            for (topic, partition, code) in armed.iter().filter_map(Armed::partition_error) {
                api::partitions::put_error(answer, topic, partition, code);
            }
            if let Some(time) = armed.iter().filter_map(Armed::throttle).max() {
                api::refuse::set_throttle(answer, millis(time));
            }
        }
        reply
    }

    async fn write(
        &mut self,
        head: &Head,
        version: i16,
        reply: &ResponseKind,
        armed: &mut [Armed],
    ) -> io::Result<()> {
        let mut out = BytesMut::with_capacity(256);
        out.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(head.correlation);
        header
            .encode(&mut out, head.api.response_header_version(version))
            .and_then(|()| reply.encode(&mut out, version))
            .map_err(|error| {
                tracing::error!(api = ?head.api, version, %error, "failed to encode an answer");
                invalid("an answer that does not encode")
            })?;
        let mut size = (out.len() - 4) as i32;
        let mut end = out.len();
        for fault in armed.iter() {
            match fault.fault {
                Fault::ClaimLength(claimed) => size = claimed,
                Fault::HalfAnswer => end = out.len() / 2,
                Fault::OtherCorrelation => out[4] ^= 0x40,
                Fault::Zeros => out[8..].fill(0),
                _ => {}
            }
        }
        out[..4].copy_from_slice(&size.to_be_bytes());
        self.shared.unpaused(self.node).await;
        self.stream.write_all(&out[..end]).await
    }
}

fn read_head(frame: &Bytes) -> io::Result<Head> {
    let mut at = &frame[..];
    if at.len() < 10 {
        return Err(invalid("a request without a header"));
    }
    let key = at.get_i16();
    let api = ApiKey::try_from(key).map_err(|()| invalid(&format!("unknown API key {key}")))?;
    let version = at.get_i16();
    let correlation = at.get_i32();
    let client_len = usize::try_from(at.get_i16()).unwrap_or(0);
    let client_id = at.get(..client_len).unwrap_or_default();
    Ok(Head {
        api,
        version,
        correlation,
        client_id: String::from_utf8_lossy(client_id).into_owned(),
    })
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
