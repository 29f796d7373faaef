//! A small HTTP/1.1 client on a blocking socket: it knows whether a request without an answer may
//! have been seen, which libraries hide, and it can send what a well-behaved one would not.

use std::{
    fmt,
    io::{self, BufRead, BufReader, IoSlice, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Result, bail};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

/// One connection, kept alive between requests and made anew after any trouble.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    /// Longest wait for any one read or write.
    timeout: Duration,
    stream: Option<BufReader<TcpStream>>,
}

/// What to send; `Host` and `Content-Length` are added.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No connection: the server has seen nothing.
    NotSent(io::Error),
    /// It may have seen everything.
    NoAnswer(io::Error),
}

impl Client {
    pub fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self {
            address,
            timeout,
            stream: None,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends and waits for the answer.
    ///
    /// # Errors
    /// When there is no answer, and whether the request may have been seen.
    pub fn send(&mut self, request: &Request<'_>) -> Result<Response, Failure> {
        let mut stream = match self.stream.take().filter(still_open) {
            Some(stream) => stream,
            None => self.connect().map_err(Failure::NotSent)?,
        };
        let written = write(stream.get_mut(), request);
        // A server may answer before it has read the body, and close: the answer is still there.
        match (read(&mut stream, request.method == "HEAD"), written) {
            (Ok(response), written) => {
                let closing = response
                    .header("connection")
                    .is_some_and(|value| value == "close");
                if written.is_ok() && !closing {
                    self.stream = Some(stream);
                }
                Ok(response)
            }
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(Failure::NoAnswer(error)),
        }
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(BufReader::with_capacity(16 * 1024, stream))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(error) => write!(f, "not sent: {error}"),
            Self::NoAnswer(error) => write!(f, "no answer: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

/// One GET on a connection of its own.
///
/// # Errors
/// When there is no answer.
pub fn get(address: SocketAddr, target: &str) -> Result<Response> {
    let mut client = Client::new(address, Duration::from_secs(10));
    let headers = [("connection", "close")];
    Ok(client.send(&Request {
        method: "GET",
        target,
        headers: &headers,
        body: b"",
    })?)
}

/// One POST to `/logs` on a connection of its own.
///
/// # Errors
/// When there is no answer.
pub fn post(
    address: SocketAddr,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Response> {
    let mut client = Client::new(address, Duration::from_secs(60));
    Ok(client.send(&Request {
        method: "POST",
        target,
        headers,
        body,
    })?)
}

/// The bytes as they are, on a connection of their own, and what comes back until the end.
///
/// # Errors
/// When there is no connection, or no answer in time.
pub fn raw(address: SocketAddr, bytes: &[u8], timeout: Duration) -> Result<Response> {
    let client = Client::new(address, timeout);
    let mut stream = client.connect()?;
    let sent = stream.get_mut().write_all(bytes);
    match (read(&mut stream, false), sent) {
        (Ok(response), _) => Ok(response),
        (Err(error), Ok(())) => bail!("no answer: {error}"),
        (Err(answer), Err(sent)) => bail!("no answer: {answer}, sending: {sent}"),
    }
}

/// Whether a connection kept from the last request is still good: a server that ends closes the
/// idle ones, and a request sent into such a one would count as perhaps seen.
fn still_open(stream: &BufReader<TcpStream>) -> bool {
    let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = recv(stream.get_ref(), &mut [0_u8; 1][..], peek);
    matches!(peeked, Err(Errno::WOULDBLOCK)) && stream.buffer().is_empty()
}

fn write(stream: &mut TcpStream, request: &Request<'_>) -> io::Result<()> {
    let mut head = Vec::with_capacity(256);
    let _ = write!(
        head,
        "{} {} HTTP/1.1\r\nhost: sluice\r\n",
        request.method, request.target
    );
    for (name, value) in request.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", request.body.len());
    // Head and body in one packet where they fit, as good clients send them.
    let sent = stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(request.body)])?;
    match sent.checked_sub(head.len()) {
        Some(of_body) => stream.write_all(&request.body[of_body..]),
        None => {
            stream.write_all(&head[sent..])?;
            stream.write_all(request.body)
        }
    }
}

fn read(stream: &mut BufReader<TcpStream>, head_only: bool) -> io::Result<Response> {
    let status_line = line(stream)?;
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| status_line.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| odd(&status_line))?;
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| odd(&line))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    if head_only || status == 204 {
        return Ok(response);
    }
    if response
        .header("transfer-encoding")
        .is_some_and(|value| value == "chunked")
    {
        chunks(stream, &mut response.body)?;
    } else if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().map_err(|_| odd(length))?;
        response.body.resize(length, 0);
        stream.read_exact(&mut response.body)?;
    } else {
        stream.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(stream)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| odd(&size))?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        line(stream)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}
