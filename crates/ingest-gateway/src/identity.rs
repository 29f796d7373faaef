//! The identity of one body: its batch id. Pure; never looks at records.
//!
//! With an `Idempotency-Key` the id is the first 16 bytes of SHA-256 over a version byte and then,
//! each with its length in front (u64, big-endian): client, key, the site of `?site=` (empty where
//! there is none), the canonical media type, and the decoded body. The lengths make the parts
//! unambiguous: no two different requests give the same input. Without a key the id is random.

use pipeline_core::BatchId;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;

/// How much of a kept body is hashed at once.
const STEP_BYTES: usize = 1024 * 1024;

/// What beside its body makes two requests with a key the same batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchKey<'a> {
    /// The API key's id; empty without authentication (all clients are one).
    pub client: &'a str,
    /// The `Idempotency-Key`.
    pub key: &'a str,
    /// The site of `?site=`; empty where there is none.
    pub site: &'a str,
    /// As `application/x-ndjson`, whatever alias the request used.
    pub media_type: &'a str,
}

/// The id of a keyed body, hashed as it comes where its length is known, and kept until its end
/// where it is not: the length stands before it.
#[derive(Clone)]
pub struct KeyedHash {
    /// All but the body.
    head: Sha256,
    state: State,
}

#[derive(Clone)]
enum State {
    Hashing {
        hash: Sha256,
        bytes_left: u64,
    },
    /// Its length is not known yet.
    Keeping(Vec<u8>),
    /// It is, and it is hashed up to here.
    Kept {
        hash: Sha256,
        body: Vec<u8>,
        at: usize,
    },
}

/// A body has another length than was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the body has another length than was announced")]
pub struct WrongLength;

impl BatchKey<'_> {
    /// Before the first byte of the body, which has `body_len` if that is known.
    #[must_use]
    pub fn begin(&self, body_len: Option<u64>) -> KeyedHash {
        let mut head = Sha256::new();
        head.update([VERSION]);
        for part in [self.client, self.key, self.site, self.media_type] {
            head.update((part.len() as u64).to_be_bytes());
            head.update(part);
        }
        let state = State::Keeping(Vec::new());
        let mut body = KeyedHash { head, state };
        body.restart(body_len);
        body
    }

    /// The id with a body that is there as a whole.
    #[must_use]
    pub fn batch_id(&self, body: &[u8]) -> BatchId {
        let mut hash = self.begin(None).before(body.len() as u64);
        hash.update(body);
        id_of(hash)
    }
}

impl KeyedHash {
    /// Forgets the body: it comes again.
    pub fn restart(&mut self, body_len: Option<u64>) {
        self.state = match body_len {
            Some(bytes_left) => State::Hashing {
                hash: self.before(bytes_left),
                bytes_left,
            },
            None => State::Keeping(Vec::new()),
        };
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// Where they are more than were announced.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WrongLength> {
        match &mut self.state {
            State::Hashing { hash, bytes_left } => {
                *bytes_left = bytes_left
                    .checked_sub(bytes.len() as u64)
                    .ok_or(WrongLength)?;
                hash.update(bytes);
            }
            State::Keeping(body) | State::Kept { body, .. } => body.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// The body has ended; `None` is to be asked again: there is more to hash than fits into one
    /// step.
    ///
    /// # Errors
    /// Where it has fewer bytes than were announced.
    pub fn finish(&mut self) -> Result<Option<BatchId>, WrongLength> {
        if let State::Keeping(body) = &mut self.state {
            let body = std::mem::take(body);
            self.state = State::Kept {
                hash: self.before(body.len() as u64),
                body,
                at: 0,
            };
        }
        let hash = match &mut self.state {
            State::Hashing {
                hash,
                bytes_left: 0,
            } => hash,
            State::Hashing { .. } | State::Keeping(_) => return Err(WrongLength),
            State::Kept { hash, body, at } => {
                let end = body.len().min(*at + STEP_BYTES);
                hash.update(&body[*at..end]);
                *at = end;
                if end < body.len() {
                    return Ok(None);
                }
                hash
            }
        };
        Ok(Some(id_of(hash.clone())))
    }

    /// Bytes of the body that are kept.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.state {
            State::Hashing { .. } => 0,
            State::Keeping(body) | State::Kept { body, .. } => body.capacity(),
        }
    }

    fn before(&self, body_len: u64) -> Sha256 {
        let mut hash = self.head.clone();
        hash.update(body_len.to_be_bytes());
        hash
    }
}

fn id_of(hash: Sha256) -> BatchId {
    let digest = hash.finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    BatchId(id)
}

/// An id for a body without a key: 128 random bits from the system.
///
/// # Errors
/// Where the system has no randomness to give.
pub fn random_batch_id() -> Result<BatchId, getrandom::Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(BatchId(id))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SAMPLE: BatchKey<'_> = BatchKey {
        client: "",
        key: "k1",
        site: "a.example",
        media_type: "application/json",
    };

    #[test]
    fn id_is_the_hash_of_the_parts_with_their_lengths() {
        let mut input = vec![1];
        for part in [&b""[..], b"k1", b"a.example", b"application/json", b"[]"] {
            input.extend_from_slice(&(part.len() as u64).to_be_bytes());
            input.extend_from_slice(part);
        }
        assert_eq!(SAMPLE.batch_id(b"[]").0, Sha256::digest(&input)[..16]);
    }

    #[test]
    fn a_body_in_pieces_of_known_length_or_not_has_the_same_id() {
        let body: Vec<u8> = (0..STEP_BYTES * 2 + 7).map(|at| (at % 251) as u8).collect();
        for len in [0, 1, 5000, STEP_BYTES, body.len()] {
            let body = &body[..len];
            let mut ids = HashSet::from([SAMPLE.batch_id(body).0]);
            for known in [None, Some(len as u64)] {
                let mut keyed = SAMPLE.begin(known);
                keyed.push(b"of a first reading").unwrap_or(());
                keyed.restart(known);
                for piece in body.chunks(1000) {
                    keyed.push(piece).unwrap();
                }
                let steps = len.div_ceil(STEP_BYTES).max(1);
                for _ in 1..steps {
                    if known.is_none() {
                        assert_eq!(keyed.finish(), Ok(None), "bounded steps");
                    }
                }
                ids.insert(keyed.finish().unwrap().unwrap().0);
                assert_eq!(keyed.memory() > 0, known.is_none() && len > 0);
            }
            assert_eq!(ids.len(), 1, "{len}");
        }
    }

    #[test]
    fn a_wrong_length_never_gives_an_id() {
        let mut keyed = SAMPLE.begin(Some(2));
        keyed.push(b"[").unwrap();
        assert_eq!(keyed.finish(), Err(WrongLength));
        assert_eq!(keyed.push(b"]]"), Err(WrongLength));
    }

    #[test]
    fn each_part_counts_and_none_runs_into_the_next() {
        let variants = [
            (SAMPLE, "[]"),
            (
                BatchKey {
                    client: "c",
                    ..SAMPLE
                },
                "[]",
            ),
            (
                BatchKey {
                    key: "k2",
                    ..SAMPLE
                },
                "[]",
            ),
            (
                BatchKey {
                    key: "k1a",
                    site: ".example",
                    ..SAMPLE
                },
                "[]",
            ),
            (BatchKey { site: "", ..SAMPLE }, "[]"),
            (
                BatchKey {
                    media_type: "text/csv",
                    ..SAMPLE
                },
                "[]",
            ),
            (SAMPLE, "[ ]"),
            (
                BatchKey {
                    client: "k",
                    key: "1",
                    ..SAMPLE
                },
                "[]",
            ),
        ];
        let ids = variants.map(|(key, body)| key.batch_id(body.as_bytes()).0);
        assert_eq!(HashSet::from(ids).len(), variants.len());
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_batch_id().unwrap(), random_batch_id().unwrap());
    }
}
