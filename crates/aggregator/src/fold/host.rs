//! The host of a URL that a browser has sent as `Referer`. Pure.

use std::borrow::Cow;

/// Longest host name in characters (RFC 1123, section 2.1).
const HOST_BYTES_MAX: usize = 253;

/// The host in lower case, without user, port and the dot of the root; `None` of what is no URL
/// with a host.
#[must_use]
pub fn of_url(url: &str) -> Option<Cow<'_, str>> {
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
        }
        assert_eq!(of_url(&format!("http://{}/", "a".repeat(254))), None);
    }
}
