//! The host of a URL that a browser has sent as `Referer`. Pure.

use std::borrow::Cow;

/// Longest host name in characters (RFC 1123, section 2.1).
const HOST_BYTES_MAX: usize = 253;

/// The host in lower case, without user, port and the dot of the root; `None` of what is no URL
/// with a host.
#[must_use]
pub fn of_url(url: &str) -> Option<Cow<'_, str>> {
    match plain(url) {
        Some(host) => Some(host.into()),
        None => generally(url),
    }
}

/// That of a URL as most are; `None` says nothing of others.
#[inline]
fn plain(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http")?;
    let rest = rest.strip_prefix('s').unwrap_or(rest).strip_prefix("://")?;
    let named = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let end = rest.bytes().position(|byte| !named(&byte))?;
    let whole = rest.as_bytes()[end] == b'/' && (1..=HOST_BYTES_MAX).contains(&end);
    let host = rest.get(..end).filter(|_| whole)?;
    (!host.ends_with('.')).then_some(host)
}

fn generally(url: &str) -> Option<Cow<'_, str>> {
    let bytes = url.as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = (&bytes[..colon], url[colon + 1..].strip_prefix("//")?);
    let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.first()?.is_ascii_alphabetic() || !scheme.iter().all(named) {
        return None;
    }
    let (mut end, mut user) = (rest.len(), false);
    for (place, byte) in rest.bytes().enumerate() {
        match byte {
            b'/' | b'?' | b'#' | b'\\' => {
                end = place;
                break;
            }
            b'@' => user = true,
            _ => {}
        }
    }
    let authority = &rest[..end];
    let behind_user = user.then(|| authority.rsplit_once('@')).flatten();
    let host = behind_user.map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(address) => address.split_once(']')?.0,
        None => host.split_once(':').map_or(host, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return None;
    }
    let (odd, upper) = host.bytes().fold((false, false), |(odd, upper), byte| {
        let no_host =
            matches!(byte, 0..=b' ' | 0x7f | b'"' | b'<' | b'>' | b'^' | b'`' | b'{'..=b'}');
        (odd | no_host, upper | byte.is_ascii_uppercase())
    });
    match (odd, upper) {
        (true, _) => None,
        (false, true) => Some(host.to_ascii_lowercase().into()),
        (false, false) => Some(host.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_has_the_host_that_it_has_generally() {
        let mut rng = fastrand::Rng::with_seed(8);
        let parts = [
            "http",
            "https",
            "://",
            ":",
            "/",
            "a.example",
            ".",
            "@",
            "A",
            "[",
            "?",
            "-",
        ];
        let mut plains = 0;
        for _ in 0..40_000 {
            let count = rng.usize(2..7);
            let begin = *rng.choice(&["", "http://", "https://"]).unwrap();
            let rest = (0..count).map(|_| *rng.choice(&parts).unwrap());
            let url: String = std::iter::once(begin).chain(rest).collect();
            if let Some(host) = plain(&url) {
                assert_eq!(generally(&url).as_deref(), Some(host), "{url}");
                plains += 1;
            }
        }
        assert!(plains > 1_000, "{plains}");
    }

    #[test]
    fn hosts_are_found_in_urls_and_nowhere_else() {
        for (url, host) in [
            (
                "https://www.example.com/a?b=http://c.example/",
                Some("www.example.com"),
            ),
            ("http://Example.COM:8080", Some("example.com")),
            ("https://user:p%40ss@host.example./x", Some("host.example")),
            ("http://[2001:db8::1]:80/", Some("2001:db8::1")),
            (
                "android-app://com.google.android.gm/",
                Some("com.google.android.gm"),
            ),
            ("https://b\u{fc}cher.example/", Some("b\u{fc}cher.example")),
            ("https://h.example?q", Some("h.example")),
            ("-", None),
            ("", None),
            ("www.example.com/", None),
            ("about:blank", None),
            ("https:///path", None),
            ("http://[::1/", None),
            ("1http://a/", None),
            ("http://a b/", None),
            ("http://<script>/", None),
            ("://a/", None),
        ] {
            assert_eq!(of_url(url).as_deref(), host, "{url}");
            assert_eq!(generally(url).as_deref(), host, "{url}");
        }
        assert_eq!(of_url(&format!("http://{}/", "a".repeat(254))), None);
    }
}
