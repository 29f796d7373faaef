//! Which API key a request has: its headers against the hashes of the configuration. No I/O.

use std::{fmt, sync::Arc, time::Instant};

use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName},
};
use pipeline_core::config::{ApiKey, Auth, KeyHash};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::quota::Quota;

const SCHEME: &[u8] = b"bearer ";

/// Who sent a request: one API key, or everyone where none is asked for.
#[derive(Debug, Default)]
pub struct Client {
    /// The key's id, a part of batch identities; empty for everyone.
    pub id: String,
    /// The one site of its records.
    pub site: Option<String>,
    pub quota: Option<Arc<Quota>>,
}

/// All keys of one configuration.
#[derive(Debug)]
pub struct Keys {
    /// `None` where no key is asked for.
    header: Option<HeaderName>,
    hashes: Vec<Words>,
    /// In the order of `hashes`.
    clients: Vec<Arc<Client>>,
    everyone: Arc<Client>,
}

/// A hash as four words: with a thousand keys, byte by byte would cost more than all else.
#[derive(Clone, Copy)]
struct Words([u64; 4]);

/// Why a request has no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoKey {
    Missing,
    /// A header that carries one stands there twice.
    Twice,
    /// The two headers carry different ones.
    Differ,
    Unknown,
}

impl Client {
    /// Whether a request may come in.
    ///
    /// # Errors
    /// Seconds until its quota lets it.
    pub fn admit(&self) -> Result<(), u32> {
        match &self.quota {
            None => Ok(()),
            Some(quota) => quota.admit(Instant::now()),
        }
    }

    /// Counts `records` where a request may come in.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub fn charge(&self, records: u64) -> Result<(), u32> {
        match &self.quota {
            None => Ok(()),
            Some(quota) => quota.charge(records, Instant::now()),
        }
    }

    /// Records that were counted and are kept nowhere.
    pub fn refund(&self, records: u64) {
        if let Some(quota) = &self.quota {
            quota.refund(records, Instant::now());
        }
    }
}

impl Keys {
    /// Those of `auth`, all of them with a full quota but those that are among `before`.
    #[must_use]
    pub fn new(auth: &Auth, before: &[Arc<Client>], now: Instant) -> Self {
        let header = auth.enabled.then(|| {
            HeaderName::from_bytes(auth.header_name.as_bytes())
                .expect("a configuration's header name is one")
        });
        Self {
            header,
            hashes: auth.keys.iter().map(|key| Words::of(key.sha256)).collect(),
            clients: auth
                .keys
                .iter()
                .map(|key| Arc::new(client(key, before, now)))
                .collect(),
            everyone: Arc::default(),
        }
    }

    /// Each key's, in the order of the configuration.
    #[must_use]
    pub fn clients(&self) -> &[Arc<Client>] {
        &self.clients
    }

    /// # Errors
    /// Where a key is asked for, and there is none that is known.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Arc<Client>, NoKey> {
        match &self.header {
            None => Ok(Arc::clone(&self.everyone)),
            Some(header) => self.find(presented(headers, header)?).ok_or(NoKey::Unknown),
        }
    }

    /// Looks at every hash, whatever it finds: how long it takes says nothing of any of them.
    fn find(&self, key: &[u8]) -> Option<Arc<Client>> {
        const NONE: u32 = u32::MAX;
        let found = Words::of(KeyHash(Sha256::digest(key).into()));
        let mut place = NONE;
        for (index, hash) in (0..NONE).zip(&self.hashes) {
            place.conditional_assign(&index, found.ct_eq(hash));
        }
        self.clients.get(place as usize).cloned()
    }
}

impl Words {
    fn of(hash: KeyHash) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(hash.0.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Self(words)
    }
}

impl ConstantTimeEq for Words {
    fn ct_eq(&self, other: &Self) -> Choice {
        let pairs = self.0.iter().zip(&other.0);
        let differing = pairs.fold(0, |differing, (own, other)| differing | (own ^ other));
        differing.ct_eq(&0)
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "found no API key",
            Self::Twice => "found a header with an API key twice",
            Self::Differ => "found two different API keys",
            Self::Unknown => "found an API key that is not known here",
        })
    }
}

/// The one key that the headers carry. An authorization by another scheme is none.
fn presented<'h>(headers: &'h HeaderMap, header: &HeaderName) -> Result<&'h [u8], NoKey> {
    let own = only(headers, header)?;
    if header == AUTHORIZATION {
        // With the scheme or without.
        return own
            .map(|value| bearer(value).unwrap_or(value))
            .filter(|key| !key.is_empty())
            .ok_or(NoKey::Missing);
    }
    let bearer = only(headers, &AUTHORIZATION)?.and_then(bearer);
    match (own, bearer) {
        (Some(own), Some(bearer)) if own != bearer => Err(NoKey::Differ),
        (own, bearer) => own
            .or(bearer)
            .filter(|key| !key.is_empty())
            .ok_or(NoKey::Missing),
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, NoKey> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(NoKey::Twice),
        None => Ok(first.map(|value| value.as_bytes())),
    }
}

/// What stands behind the scheme `Bearer` (RFC 6750, section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| key.trim_ascii())
}

fn client(key: &ApiKey, before: &[Arc<Client>], now: Instant) -> Client {
    let kept = before
        .iter()
        .find(|client| client.id == key.id)
        .and_then(|client| client.quota.clone());
    let quota = match (key.records_per_second, kept) {
        (None, _) => None,
        (Some(rate), None) => Some(Arc::new(Quota::new(rate, now))),
        (Some(rate), Some(quota)) => {
            quota.set_rate(rate, now);
            Some(quota)
        }
    };
    Client {
        id: key.id.clone(),
        site: key.site.clone(),
        quota,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn key(id: &str, key: &str, rate: Option<u64>) -> ApiKey {
        ApiKey {
            id: id.to_owned(),
            sha256: KeyHash(Sha256::digest(key.as_bytes()).into()),
            site: None,
            records_per_second: rate,
        }
    }

    fn auth(header: &str, keys: Vec<ApiKey>) -> Auth {
        Auth {
            enabled: true,
            allow_anonymous: false,
            header_name: header.to_owned(),
            keys,
        }
    }

    fn keys(header: &str) -> Keys {
        let known = vec![key("one", "slk_1", None), key("two", "slk_2", None)];
        Keys::new(&auth(header, known), &[], Instant::now())
    }

    fn identify(keys: &Keys, headers: &[(&'static str, &str)]) -> Result<String, NoKey> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        keys.identify(&map).map(|client| client.id.clone())
    }

    #[test]
    fn a_key_is_taken_from_either_header_and_from_both_where_they_agree() {
        let keys = keys("X-API-Key");
        let one = Ok("one".to_owned());
        assert_eq!(identify(&keys, &[("x-api-key", "slk_1")]), one);
        for scheme in ["Bearer slk_1", "bearer slk_1", "BEARER   slk_1 "] {
            assert_eq!(
                identify(&keys, &[("authorization", scheme)]),
                one,
                "{scheme}"
            );
        }
        let both = [("x-api-key", "slk_1"), ("authorization", "Bearer slk_1")];
        assert_eq!(identify(&keys, &both), one);
        // Some proxy's own.
        let basic = [("x-api-key", "slk_1"), ("authorization", "Basic eDp5")];
        assert_eq!(identify(&keys, &basic), one);
        assert_eq!(
            identify(&keys, &[("x-api-key", "slk_2")]),
            Ok("two".to_owned())
        );
    }

    #[test]
    fn hashes_that_differ_in_any_one_bit_are_not_the_same() {
        let hash: [u8; 32] = Sha256::digest("slk_1").into();
        let words = Words::of(KeyHash(hash));
        assert!(bool::from(words.ct_eq(&words)));
        for bit in 0..256 {
            let mut other = hash;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !bool::from(words.ct_eq(&Words::of(KeyHash(other)))),
                "{bit}"
            );
        }
    }

    #[test]
    fn what_is_missing_wrong_twice_or_contradicts_itself_is_no_key() {
        let keys = keys("X-API-Key");
        let cases: &[(&[(&str, &str)], NoKey)] = &[
            (&[], NoKey::Missing),
            (&[("x-api-key", "")], NoKey::Missing),
            (&[("authorization", "Bearer")], NoKey::Missing),
            (&[("authorization", "Bearer ")], NoKey::Missing),
            (&[("authorization", "slk_1")], NoKey::Missing),
            (&[("authorization", "Basic slk_1")], NoKey::Missing),
            (&[("x-other", "slk_1")], NoKey::Missing),
            (&[("x-api-key", "slk_3")], NoKey::Unknown),
            (&[("x-api-key", "slk_1x")], NoKey::Unknown),
            (&[("x-api-key", "Bearer slk_1")], NoKey::Unknown),
            (&[("x-api-key", "é")], NoKey::Unknown),
            (
                &[("x-api-key", "slk_1"), ("x-api-key", "slk_1")],
                NoKey::Twice,
            ),
            (
                &[
                    ("authorization", "Bearer slk_1"),
                    ("authorization", "Basic x"),
                ],
                NoKey::Twice,
            ),
            (
                &[("x-api-key", "slk_1"), ("authorization", "Bearer slk_2")],
                NoKey::Differ,
            ),
            (
                &[("x-api-key", ""), ("authorization", "Bearer slk_2")],
                NoKey::Differ,
            ),
        ];
        for (headers, expected) in cases {
            let headers: Vec<(&'static str, &str)> = headers.to_vec();
            assert_eq!(identify(&keys, &headers), Err(*expected), "{headers:?}");
        }
    }

    #[test]
    fn the_configured_header_may_have_any_name() {
        let custom = keys("X-Sluice");
        assert_eq!(
            identify(&custom, &[("x-sluice", "slk_2")]),
            Ok("two".to_owned())
        );
        assert_eq!(
            identify(&custom, &[("x-api-key", "slk_2")]),
            Err(NoKey::Missing)
        );
        let standard = keys("authorization");
        for value in ["slk_2", "Bearer slk_2"] {
            let found = identify(&standard, &[("authorization", value)]);
            assert_eq!(found, Ok("two".to_owned()), "{value}");
        }
        let empty = identify(&standard, &[("authorization", "Bearer ")]);
        assert_eq!(empty, Err(NoKey::Missing));
    }

    #[test]
    fn without_auth_everyone_is_one_client_and_keys_are_not_looked_at() {
        let mut off = auth("X-API-Key", vec![key("one", "slk_1", Some(1))]);
        off.enabled = false;
        let keys = Keys::new(&off, &[], Instant::now());
        for headers in [&[][..], &[("x-api-key", "slk_1")], &[("x-api-key", "no")]] {
            assert_eq!(identify(&keys, headers), Ok(String::new()));
        }
    }

    #[test]
    fn a_quota_outlives_its_keys_and_follows_the_new_rate() {
        let now = Instant::now();
        let with = |keys| auth("X-API-Key", keys);
        let first = with(vec![key("a", "1", Some(10)), key("b", "2", Some(10))]);
        let first = Keys::new(&first, &[], now);
        let quota = |keys: &Keys, at: usize| keys.clients()[at].quota.clone().unwrap();
        assert_eq!(quota(&first, 0).charge(30, now), Ok(()));
        // Another key of the same id, another id of the same key.
        let second = with(vec![key("c", "2", Some(10)), key("a", "9", Some(20))]);
        let second = Keys::new(&second, first.clients(), now);
        assert_eq!(quota(&second, 0).admit(now), Ok(()));
        assert_eq!(quota(&second, 1).admit(now), Err(2));
        let third = with(vec![key("a", "9", None)]);
        let third = Keys::new(&third, second.clients(), now);
        assert!(third.clients()[0].quota.is_none());
    }

    #[test]
    fn nothing_that_is_shown_tells_a_hash() {
        let known = key("one", "slk_1", None);
        let digits: String = known.sha256.0.iter().map(|b| format!("{b:02x}")).collect();
        let keys = Keys::new(&auth("X-API-Key", vec![known.clone()]), &[], Instant::now());
        let shown = format!("{keys:?} {keys:#?} {known:?}");
        assert!(!shown.contains(&digits), "{shown}");
        let first = u64::from_ne_bytes(known.sha256.0[..8].try_into().unwrap());
        assert!(!shown.contains(&first.to_string()), "{shown}");
        assert!(!shown.contains(&format!("{:?}", known.sha256.0)), "{shown}");
    }
}
