//! Kafka's protocol by hand, as far as this crate needs it: it shares no protocol code with the
//! product. Only versions without tagged fields. <https://kafka.apache.org/protocol.html>

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::access::{self, Access, Stream};

const CORRELATION: [u8; 4] = [0, 0, 0, 7];
const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Asks with this key and version; the answer without its head.
///
/// # Errors
/// When there is no answer, or one to another question.
pub fn ask(address: SocketAddr, what: (u16, u16), body: &[u8]) -> Result<Vec<u8>> {
    match access::of(address) {
        Some((host, access)) => ask_by(Some(access), &host, address, what, body),
        None => ask_by(None, "", address, what, body),
    }
}

/// The same by a way that is known.
pub(super) fn ask_by(
    access: Option<&Access>,
    host: &str,
    address: SocketAddr,
    what: (u16, u16),
    body: &[u8],
) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    match access {
        None => exchange(&mut stream, what, body),
        Some(access) => exchange(&mut *access.secure(host, stream)?, what, body),
    }
}

/// One request, and its answer without its head.
pub(super) fn exchange(
    stream: &mut dyn Stream,
    (key, version): (u16, u16),
    body: &[u8],
) -> Result<Vec<u8>> {
    let mut request = key.to_be_bytes().to_vec();
    request.extend(version.to_be_bytes());
    request.extend(CORRELATION);
    request.extend([0xff, 0xff]); // no client id
    request.extend(body);
    stream.write_all(&u32::try_from(request.len())?.to_be_bytes())?;
    stream.write_all(&request)?;
    stream.flush()?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size) as usize;
    if size > ANSWER_BYTES_MAX {
        bail!("an answer of {size} bytes");
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    if answer.get(..4) != Some(&CORRELATION) {
        bail!("an answer to another question");
    }
    Ok(answer.split_off(4))
}

/// # Errors
/// When it is longer than any name.
pub fn put_text(into: &mut Vec<u8>, text: &str) -> Result<()> {
    into.extend(i16::try_from(text.len())?.to_be_bytes());
    into.extend(text.as_bytes());
    Ok(())
}

/// What of an answer is not read yet.
pub struct Rest<'a>(pub &'a [u8]);

impl<'a> Rest<'a> {
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).context("it ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    pub fn count(&mut self) -> Result<usize> {
        usize::try_from(self.i32()?).context("a length below 0")
    }

    /// A null is empty.
    pub fn text(&mut self) -> Result<String> {
        let len = self.i16()?;
        let bytes = self.take(usize::try_from(len).unwrap_or(0))?;
        Ok(String::from_utf8(bytes.to_vec())?)
    }
}
