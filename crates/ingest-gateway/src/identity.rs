//! The identity of one body: its batch id. Pure; never looks at records.
//!
//! With an `Idempotency-Key` the id is the first 16 bytes of SHA-256 over a version byte and then,
//! each with its length in front (u64, big-endian): client, key, the site of `?site=` (empty where
//! there is none), the canonical media type, and the decoded body. The lengths make the parts
//! unambiguous: no two different requests give the same input. Without a key the id is random.

use pipeline_core::BatchId;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;

/// What makes two requests with a key the same batch.
#[derive(Clone, Copy, Debug)]
pub struct KeyedBody<'a> {
    /// The API key's id; empty without authentication (all clients are one).
    pub client: &'a str,
    /// The `Idempotency-Key`.
    pub key: &'a str,
    /// The site of `?site=`; empty where there is none.
    pub site: &'a str,
    /// As `application/x-ndjson`, whatever alias the request used.
    pub media_type: &'a str,
    /// The body after its `Content-Encoding` has been undone.
    pub body: &'a [u8],
}

impl KeyedBody<'_> {
    #[must_use]
    pub fn batch_id(&self) -> BatchId {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        for part in [
            self.client.as_bytes(),
            self.key.as_bytes(),
            self.site.as_bytes(),
            self.media_type.as_bytes(),
            self.body,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        BatchId(id)
    }
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

    const SAMPLE: KeyedBody<'_> = KeyedBody {
        client: "",
        key: "k1",
        site: "a.example",
        media_type: "application/json",
        body: b"[]",
    };

    #[test]
    fn id_is_the_hash_of_the_parts_with_their_lengths() {
        let mut input = vec![1];
        for part in [&b""[..], b"k1", b"a.example", b"application/json", b"[]"] {
            input.extend_from_slice(&(part.len() as u64).to_be_bytes());
            input.extend_from_slice(part);
        }
        assert_eq!(SAMPLE.batch_id().0, Sha256::digest(&input)[..16]);
    }

    #[test]
    fn each_part_counts_and_none_runs_into_the_next() {
        let variants = [
            SAMPLE,
            KeyedBody {
                client: "c",
                ..SAMPLE
            },
            KeyedBody {
                key: "k2",
                ..SAMPLE
            },
            KeyedBody {
                key: "k1a",
                site: ".example",
                ..SAMPLE
            },
            KeyedBody { site: "", ..SAMPLE },
            KeyedBody {
                media_type: "text/csv",
                ..SAMPLE
            },
            KeyedBody {
                body: b"[ ]",
                ..SAMPLE
            },
            KeyedBody {
                client: "k",
                key: "1",
                ..SAMPLE
            },
        ];
        let ids: HashSet<_> = variants.iter().map(|v| v.batch_id().0).collect();
        assert_eq!(ids.len(), variants.len());
    }

    #[test]
    fn random_ids_differ() {
        assert_ne!(random_batch_id().unwrap(), random_batch_id().unwrap());
    }
}
