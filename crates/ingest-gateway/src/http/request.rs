//! What a `POST /logs` says about itself before its body: site, media type, encoding, key.

use hyper::{
    HeaderMap, Request, Uri,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING,
    },
};
use pipeline_core::record::check_site;

use super::{
    framing::Odd,
    problem::{Code, Problem},
};
use crate::decode::{Encoding, Media};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const KEY_CHARS_MAX: usize = 255;

/// The head of one `POST /logs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Of `?site=`.
    pub site: Option<String>,
    pub media: Media,
    pub encoding: Encoding,
    /// The `Idempotency-Key`.
    pub key: Option<String>,
    /// What all its headers took.
    pub bytes: u64,
}

impl Head {
    /// # Errors
    /// The first thing that is not as it must be.
    pub fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            site: site(uri.query())?,
            media: media(headers)?,
            encoding: encoding(headers)?,
            key: key(headers)?,
            bytes: bytes(headers),
        })
    }
}

/// Refuses what says in two ways, or in one that is not spoken here, where its body ends or whom
/// it is for: another server before this one may have read it otherwise.
///
/// # Errors
/// What is odd.
pub fn check_framing<B>(request: &Request<B>, odd: Option<Odd>) -> Result<(), Problem> {
    if let Some(odd) = odd {
        return Err(bad(odd.found()));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    if hosts.next().is_some() && hosts.next().is_some() {
        return Err(bad("found `Host` more than once, allowed is one"));
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(bad(
            "found a Transfer-Encoding other than `chunked`, allowed is that one alone",
        ));
    }
    Ok(())
}

fn site(query: Option<&str>) -> Result<Option<String>, Problem> {
    let mut site = None;
    for pair in query.unwrap_or_default().split('&') {
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (percent_decoded(name), percent_decoded(value));
        if name != "site" {
            return Err(bad(format!(
                "found query parameter `{}`, allowed is `site`",
                shown(&name)
            )));
        }
        if site.is_some() {
            return Err(bad("found query parameter `site` twice, allowed is one"));
        }
        if let Err(error) = check_site(&value) {
            return Err(bad(format!("query parameter `site`: {}", error.message)));
        }
        site = Some(value);
    }
    Ok(site)
}

fn media(headers: &HeaderMap) -> Result<Media, Problem> {
    let unsupported = |why: String| {
        Problem::new(Code::UnsupportedMediaType, why).with_header(ACCEPT_POST, Media::ACCEPT_POST)
    };
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(bad("found `Content-Type` twice, allowed is one"));
    }
    let value = match value {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| unsupported("the content type is not ASCII text".to_owned()))?,
        ),
    };
    Media::parse(value).map_err(|error| unsupported(error.to_string()))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let unsupported = |why: String| {
        Problem::new(Code::UnsupportedMediaType, why)
            .with_header(ACCEPT_ENCODING, Encoding::ACCEPT_ENCODING)
    };
    let mut all = String::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value
            .to_str()
            .map_err(|_| unsupported("the content encoding is not ASCII text".to_owned()))?;
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(value);
    }
    Encoding::parse(Some(&all)).map_err(|error| unsupported(error.to_string()))
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(bad("found `Idempotency-Key` twice, allowed is one"));
    }
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > KEY_CHARS_MAX {
        return Err(bad(format!(
            "found an `Idempotency-Key` of {} characters, allowed are 1 to {KEY_CHARS_MAX}",
            bytes.len()
        )));
    }
    match bytes.iter().position(|byte| !byte.is_ascii_graphic()) {
        Some(at) => Err(bad(format!(
            "found byte 0x{:02x} at {at} in `Idempotency-Key`, allowed are visible ASCII \
             characters",
            bytes[at]
        ))),
        None => Ok(Some(
            String::from_utf8(bytes.to_vec()).expect("ASCII is UTF-8"),
        )),
    }
}

fn bytes(headers: &HeaderMap) -> u64 {
    let lens = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    lens.sum::<usize>() as u64
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

/// As in a form (`+` is a blank); what is not an escape stands for itself.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (escaped, bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 3;
            }
            (None, b'+') => {
                out.push(b' ');
                at += 1;
            }
            (None, byte) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn shown(text: &str) -> String {
    pipeline_core::record::shown(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn head(uri: &str, headers: &[(&'static str, &str)]) -> Result<Head, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        Head::read(&uri.parse().unwrap(), &map)
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn a_whole_head_is_read() {
        let read = head(
            "/logs?site=a%2Eexample",
            &[
                ("content-type", "application/jsonl; charset=utf-8"),
                ("content-encoding", "gzip"),
                ("idempotency-key", "k-1"),
            ],
        );
        assert_eq!(
            read.unwrap(),
            Head {
                site: Some("a.example".to_owned()),
                media: Media::Ndjson,
                encoding: Encoding::Gzip,
                key: Some("k-1".to_owned()),
                bytes: 82,
            }
        );
    }

    #[test]
    fn queries_other_than_one_good_site_are_refused_and_named() {
        for (uri, named) in [
            ("/logs?sight=a.example", "sight"),
            ("/logs?site=a.example&x=1", "`x`"),
            ("/logs?site=a.example&site=b.example", "twice"),
            ("/logs?site=a+b", "a b"),
            ("/logs?site=", "site"),
            ("/logs?site=a.example:80", "a.example:80"),
            ("/logs?site=%ff", "site"),
        ] {
            let problem = head(uri, &[JSON]).unwrap_err();
            assert_eq!(problem.code, Code::BadRequest, "{uri}");
            assert!(problem.detail.contains(named), "{uri}: {}", problem.detail);
        }
        assert_eq!(head("/logs?", &[JSON]).unwrap().site, None);
    }

    #[test]
    fn keys_are_visible_ascii_of_up_to_255() {
        let with = |key: &str| head("/logs", &[JSON, ("idempotency-key", key)]);
        assert_eq!(with(&"k".repeat(255)).unwrap().key.unwrap().len(), 255);
        for bad in ["", "a b", "é", &"k".repeat(256)] {
            assert_eq!(with(bad).unwrap_err().code, Code::BadRequest, "{bad}");
        }
        let twice = [JSON, ("idempotency-key", "a"), ("idempotency-key", "b")];
        assert_eq!(head("/logs", &twice).unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn two_content_types_are_refused_also_where_they_are_the_same() {
        for second in ["text/csv", "application/json"] {
            let problem = head("/logs", &[JSON, ("content-type", second)]).unwrap_err();
            assert_eq!(problem.code, Code::BadRequest);
            assert!(problem.detail.contains("Content-Type"), "{problem:?}");
        }
    }

    #[test]
    fn unsupported_bodies_are_told_what_is() {
        let problem = head("/logs", &[("content-type", "text/html")]).unwrap_err();
        assert_eq!(problem.code, Code::UnsupportedMediaType);
        assert_eq!(problem.header.unwrap().0, ACCEPT_POST);
        assert!(head("/logs", &[]).is_err());
        for encodings in [&["lzma"][..], &["gzip, br"], &["gzip", "gzip"]] {
            let mut headers = vec![JSON];
            headers.extend(encodings.iter().map(|e| ("content-encoding", *e)));
            let problem = head("/logs", &headers).unwrap_err();
            assert_eq!(problem.code, Code::UnsupportedMediaType);
            assert_eq!(problem.header.unwrap().0, ACCEPT_ENCODING);
        }
    }
}
