//! Requests as frames, and answers out of them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};

use super::{calls::ANSWER_HEADER, shape::Layout};

/// A whole frame: length, header, request.
pub(super) fn encode_frame<R: Request>(
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

/// An answer without its length.
pub(super) fn decode_answer<A: Decodable + HeaderVersion>(
    body: &mut Bytes,
    version: i16,
    layout: &Layout,
) -> Result<A, String> {
    let header_version = A::header_version(version);
    ANSWER_HEADER.check(body, header_version)?;
    let malformed = |error, body: &Bytes| format!("{error:#}, {} bytes left", body.remaining());
    ResponseHeader::decode(body, header_version).map_err(|error| malformed(error, body))?;
    layout.check(body, version)?;
    A::decode(body, version).map_err(|error| malformed(error, body))
}
