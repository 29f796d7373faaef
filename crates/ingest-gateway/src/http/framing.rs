//! Follows the framing of an HTTP/1 connection beside hyper, as it comes, to see what hyper does
//! not tell: a head that gives its body's length in two ways, or that another server might read
//! otherwise. Stores nothing of what it sees but the start of a line.
//!
//! hyper decides what a request is. Where this follower meets what hyper refuses, it stops: hyper
//! reads no further then either.

/// Of a header line; the two names that count and any length fit.
const LINE_BYTES: usize = 64;

/// What makes a head ambiguous.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Odd {
    /// `Content-Length` and `Transfer-Encoding` (RFC 9112, 6.1).
    TwoFramings,
    /// `Content-Length` more than once, the same or not.
    TwoLengths,
    /// A line that ends with LF alone.
    BareLf,
}

impl Odd {
    #[must_use]
    pub fn found(self) -> &'static str {
        match self {
            Self::TwoFramings => {
                "found both Content-Length and Transfer-Encoding, allowed is one of them"
            }
            Self::TwoLengths => "found Content-Length more than once, allowed is one",
            Self::BareLf => "found a line of the head that ends with LF, allowed is CRLF",
        }
    }
}

#[derive(Debug)]
pub struct Framing {
    state: State,
    line: Line,
    head: Head,
    /// Heads that were whole.
    heads: u64,
    odd: Option<(u64, Odd)>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a request line, where empty lines are skipped.
    Between,
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// Nothing more is looked at.
    Over,
}

#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    lengths: u32,
    transfer_encoding: bool,
    bare_lf: bool,
}

/// The line at hand: its start, and how long it is.
#[derive(Debug)]
struct Line {
    start: [u8; LINE_BYTES],
    len: usize,
    last: u8,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            state: State::Between,
            line: Line {
                start: [0; LINE_BYTES],
                len: 0,
                last: 0,
            },
            head: Head::default(),
            heads: 0,
            odd: None,
        }
    }
}

impl Framing {
    /// The number (from 1 on) of the first odd request on this connection.
    #[must_use]
    pub fn odd(&self) -> Option<(u64, Odd)> {
        self.odd
    }

    /// Whether what came ends with the end of a request.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Between) && self.line.len == 0
    }

    /// The next bytes of the connection.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Over => return,
                State::Body(left) | State::Chunk(left) => {
                    let taken = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = match self.state {
                            State::Body(_) => State::Between,
                            _ => State::ChunkEnd,
                        };
                    }
                    taken
                }
                _ => match memchr::memchr(b'\n', bytes) {
                    None => {
                        self.line.extend(bytes);
                        return;
                    }
                    Some(at) => {
                        self.line.extend(&bytes[..at]);
                        self.line_ends();
                        self.line.clear();
                        at + 1
                    }
                },
            };
            bytes = &bytes[taken..];
        }
    }

    fn line_ends(&mut self) {
        let bare_lf = self.line.last != b'\r';
        let empty = self.line.len == usize::from(!bare_lf);
        self.state = match self.state {
            State::Between if empty => State::Between,
            State::Between => {
                self.head = Head {
                    bare_lf,
                    ..Head::default()
                };
                State::Head
            }
            State::Head if empty => {
                self.head.bare_lf |= bare_lf;
                self.head_ends()
            }
            State::Head => {
                self.head.bare_lf |= bare_lf;
                self.head.header(self.line.known());
                State::Head
            }
            _ if bare_lf => State::Over,
            State::ChunkSize => match chunk_size(self.line.known()) {
                None => State::Over,
                Some(0) => State::Trailers,
                Some(size) => State::Chunk(size),
            },
            State::ChunkEnd if empty => State::ChunkSize,
            State::Trailers if empty => State::Between,
            State::Trailers => State::Trailers,
            State::ChunkEnd | State::Body(_) | State::Chunk(_) | State::Over => State::Over,
        };
    }

    fn head_ends(&mut self) -> State {
        self.heads += 1;
        let odd = match &self.head {
            head if head.transfer_encoding && head.lengths > 0 => Some(Odd::TwoFramings),
            head if head.lengths > 1 => Some(Odd::TwoLengths),
            head if head.bare_lf => Some(Odd::BareLf),
            _ => None,
        };
        if let Some(odd) = odd {
            self.odd = Some((self.heads, odd));
            return State::Over;
        }
        match self.head {
            Head {
                transfer_encoding: true,
                ..
            } => State::ChunkSize,
            Head { lengths: 0, .. } => State::Between,
            Head { length: None, .. } => State::Over,
            Head {
                length: Some(0), ..
            } => State::Between,
            Head {
                length: Some(length),
                ..
            } => State::Body(length),
        }
    }
}

impl Head {
    fn header(&mut self, line: &[u8]) {
        let Some(colon) = memchr::memchr(b':', line) else {
            return;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // A blank before the colon is refused by hyper; here it must not hide a name.
        let name = name.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            self.length = std::str::from_utf8(value)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok());
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding = true;
        }
    }
}

impl Line {
    fn extend(&mut self, bytes: &[u8]) {
        let at = self.len.min(LINE_BYTES);
        let taken = bytes.len().min(LINE_BYTES - at);
        self.start[at..at + taken].copy_from_slice(&bytes[..taken]);
        self.len = self.len.saturating_add(bytes.len());
        if let Some(last) = bytes.last() {
            self.last = *last;
        }
    }

    fn clear(&mut self) {
        self.len = 0;
        self.last = 0;
    }

    fn known(&self) -> &[u8] {
        &self.start[..self.len.min(LINE_BYTES)]
    }
}

/// Of `1a;extension\r`; `None` where it is none, or not to be seen whole.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    let digits = std::str::from_utf8(&line[..end]).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first odd request, the same however the bytes are cut.
    fn odd(bytes: &str) -> Option<(u64, Odd)> {
        let mut whole = Framing::default();
        whole.feed(bytes.as_bytes());
        let mut single = Framing::default();
        for byte in bytes.as_bytes() {
            single.feed(&[*byte]);
        }
        assert_eq!(whole.odd(), single.odd(), "{bytes}");
        whole.odd()
    }

    const GOOD: &str = "\r\nPOST /logs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\ncd\
        POST /logs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x=\"Content-Length: 1\"\r\na\r\n\r\n00A \r\n0123456789\r\n0\r\nContent-Length: 7\r\n\r\n\
        GET /livez HTTP/1.1\r\n\r\n";

    #[test]
    fn plain_requests_are_not_odd_whatever_their_bodies_hold() {
        assert_eq!(odd(GOOD), None);
    }

    #[test]
    fn each_oddity_is_seen_in_the_request_that_has_it_behind_any_others() {
        let oddities = [
            (
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                Odd::TwoFramings,
            ),
            (
                "transfer-encoding:\tx\r\nX: y\r\ncontent-length:3\r\n\r\n",
                Odd::TwoFramings,
            ),
            (
                "Content-Length : 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                Odd::TwoFramings,
            ),
            (
                "Content-Length: 3\r\nContent-Length: 3\r\n\r\n",
                Odd::TwoLengths,
            ),
            (
                "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
                Odd::TwoLengths,
            ),
            ("A: b\nContent-Length: 3\r\n\r\n", Odd::BareLf),
            ("A: b\r\n\n", Odd::BareLf),
        ];
        for (headers, expected) in oddities {
            let request = format!("POST /logs HTTP/1.1\r\n{headers}");
            assert_eq!(odd(&request), Some((1, expected)), "{request}");
            let behind = format!("{GOOD}{request}");
            assert_eq!(odd(&behind), Some((4, expected)), "{request}");
        }
        assert_eq!(odd("GET / HTTP/1.1\n\r\n"), Some((1, Odd::BareLf)));
    }

    #[test]
    fn it_stops_where_hyper_does() {
        let tail = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n";
        for stop in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        ] {
            assert_eq!(odd(&format!("{stop}{tail}")), None, "{stop}");
        }
    }
}
