//! Access-log lines as Apache and nginx write them.
//!
//! ```text
//! [host:port ]addr ident user [17/May/2015:10:05:03 +0000] "request" status bytes[ "referer" "agent"[ "more"]…]
//! ```
//!
//! Common (without agent: it becomes `-`), combined, `vhost_combined` (`host` becomes `site`, the
//! port is dropped) and nginx `main`. Parts are one blank apart and nothing stands behind the last
//! one. Text between quotes is kept as it stands: a backslash only keeps a quote from ending its
//! field. `-` in place of an optional part is absent; ident and user become the fields
//! `remoteIdent` and `remoteUser` where they are known. Quoted fields behind the agent are checked
//! and not kept: their meaning differs from server to server.

use pipeline_core::record::{
    Known, RecordErrorCode, Refusal, Rules, TextRecord, shown, timestamp::Civil,
};

use super::sink::Judge;

const TIME_ALLOWED: &str = "a time such as 17/May/2015:10:05:03 +0000";

/// As one line of a log.
pub(super) struct AsLogLine;

impl Judge for AsLogLine {
    #[inline]
    fn append<R: Refusal>(&self, raw: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), R> {
        append_line(raw, rules, out)
    }
}

/// Appends the record of one line.
fn append_line<R: Refusal>(line: &[u8], rules: &Rules, out: &mut Vec<u8>) -> Result<(), R> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = simdutf8::basic::from_utf8(line).map_err(|_| R::invalid_utf8(line))?;
    let parts = Parts::of(text).map_err(|broken| broken.refusal::<R>(line))?;
    let time = civil(parts.time)
        .ok_or("it has another form")
        .and_then(|civil| civil.to_timestamp().map_err(|reason| reason.0))
        .map_err(|reason| {
            R::refuse(RecordErrorCode::Invalid, Some(Known::Timestamp), || {
                let found = shown(parts.time.as_bytes());
                format!("timestamp: found \"{found}\", allowed is {TIME_ALLOWED}: {reason}")
            })
        })?;
    let (method, path, protocol) = request(parts.request);

    let mut record = TextRecord::<R>::new(rules, out);
    record.time(time)?;
    record.known(Known::Path, path)?;
    record.known(Known::UserAgent, parts.agent)?;
    for (field, text) in [
        (Known::Site, parts.site),
        (Known::Method, method),
        (Known::Status, parts.status),
        (Known::Bytes, parts.bytes),
        (Known::RemoteAddr, parts.addr),
        (Known::Referer, parts.referer),
        (Known::Protocol, protocol),
    ] {
        if text != "-" {
            record.known(field, text)?;
        }
    }
    for (name, text) in [("remoteIdent", parts.ident), ("remoteUser", parts.user)] {
        if text != "-" {
            record.extra(name, text)?;
        }
    }
    record.finish()
}

/// A line, split; what is absent is empty.
struct Parts<'l> {
    site: &'l str,
    addr: &'l str,
    ident: &'l str,
    user: &'l str,
    time: &'l str,
    request: &'l str,
    status: &'l str,
    bytes: &'l str,
    referer: &'l str,
    agent: &'l str,
}

/// Where a line is not what it should be.
struct Broken {
    at: usize,
    expected: &'static str,
}

impl Broken {
    fn refusal<R: Refusal>(&self, line: &[u8]) -> R {
        R::new(RecordErrorCode::Malformed, || {
            let found = match line.get(self.at..) {
                Some(rest) if !rest.is_empty() => format!("`{}`", shown(rest)),
                _ => "the end".to_owned(),
            };
            format!(
                "at byte {} of the line `{}`: expected {}, found {found}",
                self.at,
                shown(line),
                self.expected
            )
        })
    }
}

impl<'l> Parts<'l> {
    fn of(line: &'l str) -> Result<Self, Broken> {
        let mut rest = Rest { line, at: 0 };
        let first = rest.word("a remote address and a blank")?;
        let (site, addr) = match host_of(first) {
            // An address can look like a host with a port; the part before the time decides.
            Some(host) if words_before_time(&line[rest.at..]) >= 3 => {
                (host, rest.word("a remote address and a blank")?)
            }
            _ => ("", first),
        };
        let ident = rest.word("an ident and a blank")?;
        // A user's name may have blanks: it ends where the time begins.
        let user = rest.until(" [", "a user and a blank, then a time in brackets")?;
        let time = rest.until("] ", "a time, a bracket and a blank")?;
        let request = rest.quoted("a quoted request")?;
        rest.blank("a blank behind the request")?;
        let status = rest.word("a status and a blank")?;
        let bytes = rest.last_word();
        let (mut referer, mut agent) = ("", "-");
        if !rest.is_empty() {
            rest.blank("a blank and a quoted referer")?;
            referer = rest.quoted("a quoted referer")?;
            rest.blank("a blank and a quoted user agent")?;
            agent = rest.quoted("a quoted user agent")?;
            while !rest.is_empty() {
                rest.blank("the end, or a blank and a quoted field")?;
                rest.quoted("a quoted field")?;
            }
        }
        Ok(Self {
            site,
            addr,
            ident,
            user,
            time,
            request,
            status,
            bytes,
            referer,
            agent,
        })
    }
}

/// What is left of a line.
struct Rest<'l> {
    line: &'l str,
    at: usize,
}

impl<'l> Rest<'l> {
    fn is_empty(&self) -> bool {
        self.at == self.line.len()
    }

    fn broken(&self, expected: &'static str) -> Broken {
        Broken {
            at: self.at,
            expected,
        }
    }

    /// Passes a word that is not empty, and the blank behind it.
    fn word(&mut self, expected: &'static str) -> Result<&'l str, Broken> {
        let rest = &self.line[self.at..];
        match memchr::memchr(b' ', rest.as_bytes()) {
            Some(len) if len > 0 => {
                self.at += len + 1;
                Ok(&rest[..len])
            }
            _ => Err(self.broken(expected)),
        }
    }

    /// Passes a word up to a blank or the end.
    fn last_word(&mut self) -> &'l str {
        let rest = &self.line[self.at..];
        let len = memchr::memchr(b' ', rest.as_bytes()).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Passes text that is not empty, and the first `end` behind it.
    fn until(&mut self, end: &str, expected: &'static str) -> Result<&'l str, Broken> {
        let rest = &self.line[self.at..];
        match rest.find(end) {
            Some(len) if len > 0 => {
                self.at += len + end.len();
                Ok(&rest[..len])
            }
            _ => Err(self.broken(expected)),
        }
    }

    fn blank(&mut self, expected: &'static str) -> Result<(), Broken> {
        if self.line.as_bytes().get(self.at) != Some(&b' ') {
            return Err(self.broken(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes a field in quotes; gives what stands between them.
    fn quoted(&mut self, expected: &'static str) -> Result<&'l str, Broken> {
        let bytes = self.line.as_bytes();
        if bytes.get(self.at) != Some(&b'"') {
            return Err(self.broken(expected));
        }
        let start = self.at + 1;
        let mut at = start;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(len) = memchr::memchr2(b'"', b'\\', rest) else {
                // Cut off: the field that does not end is what is shown.
                return Err(self.broken("a closing quote"));
            };
            at += len;
            if bytes[at] == b'"' {
                self.at = at + 1;
                return Ok(&self.line[start..at]);
            }
            at += 2;
        }
    }
}

/// The host of `host:port`; an IPv6 address is none.
fn host_of(word: &str) -> Option<&str> {
    let (host, port) = word.rsplit_once(':')?;
    let is_port =
        !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && !host.is_empty() && !host.contains(':')).then_some(host)
}

/// How many words stand before the time in brackets.
fn words_before_time(text: &str) -> usize {
    let end = text.find(" [").unwrap_or(0);
    text[..end]
        .split(' ')
        .filter(|word| !word.is_empty())
        .count()
}

/// `METHOD target PROTOCOL`; anything else is kept whole as the path.
fn request(request: &str) -> (&str, &str, &str) {
    let mut words = request.split(' ');
    if let (Some(method), Some(target), Some(protocol), None) =
        (words.next(), words.next(), words.next(), words.next())
        && is_method(method)
        && !target.is_empty()
        && is_protocol(protocol)
    {
        return (method, target, protocol);
    }
    ("", request, "")
}

/// A token (RFC 9110, section 5.6.2).
fn is_method(word: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(token)
}

/// A name, a slash and a version, such as `HTTP/1.1` or `HTTP/2`.
fn is_protocol(word: &str) -> bool {
    let Some((name, version)) = word.split_once('/') else {
        return false;
    };
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && number(major)
        && number(minor)
}

/// `17/May/2015:10:05:03 +0000`.
fn civil(time: &str) -> Option<Civil> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let time: &[u8; 26] = time.as_bytes().try_into().ok()?;
    let number = |from: usize, len: usize| {
        time[from..from + len].iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    let separators = [time[2], time[6], time[11], time[14], time[17], time[20]];
    if &separators != b"//::: " {
        return None;
    }
    let month = MONTHS.iter().position(|name| name[..] == time[3..6])?;
    let (hours, minutes) = (number(22, 2)?, number(24, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = i32::try_from(hours * 60 + minutes).ok()?;
    Some(Civil {
        year: number(7, 4)?,
        month: u32::try_from(month).ok()? + 1,
        day: number(0, 2)?,
        hour: number(12, 2)?,
        minute: number(15, 2)?,
        second: number(18, 2)?,
        offset_minutes: match time[21] {
            b'+' => offset,
            b'-' => -offset,
            _ => return None,
        },
    })
}
