//! From what a handler knows of a body to what is kept of it. Pure.

use pipeline_core::BatchId;

use super::entry::{Part, RAW_BYTES_ASKED, Refused};
use crate::decode::{DecodedBatch, Encoding, IndexedError, Inflater, Media};

/// The request, as far as rejects are told of it.
#[derive(Clone, Debug)]
pub struct Origin {
    pub received_ms: i64,
    pub client: String,
    pub site: Option<String>,
    pub media: Media,
}

/// The first bytes of a body, as they came; for the case that it cannot be read.
#[derive(Debug)]
pub struct Beginning {
    encoding: Encoding,
    wire: Vec<u8>,
    bytes_max: usize,
}

impl Origin {
    /// The invalid records of a body that could be read. Their bytes are taken out of `decoded`.
    #[must_use]
    pub fn records(self, batch: BatchId, decoded: &mut DecodedBatch) -> Refused {
        let parts = decoded.errors.iter_mut().map(Part::of).collect();
        self.refused(Some(batch), Some(decoded.rejected), parts)
    }

    /// A body that could not be.
    #[must_use]
    pub fn body(self, code: &'static str, message: String, beginning: &Beginning) -> Refused {
        let part = Part {
            index: None,
            code,
            field: None,
            message,
            raw: beginning.shown(),
        };
        self.refused(None, None, vec![part])
    }

    fn refused(self, batch: Option<BatchId>, rejected: Option<u64>, parts: Vec<Part>) -> Refused {
        Refused {
            received_ms: self.received_ms,
            batch,
            client: self.client,
            site: self.site,
            media: self.media,
            rejected,
            parts,
        }
    }
}

impl Part {
    fn of(indexed: &mut IndexedError) -> Self {
        Self {
            index: Some(indexed.index),
            code: indexed.error.code.as_str(),
            field: indexed.error.field.clone(),
            message: indexed.error.message.clone(),
            raw: std::mem::take(&mut indexed.raw),
        }
    }
}

impl Beginning {
    #[must_use]
    pub fn of(encoding: Encoding) -> Self {
        Self {
            encoding,
            wire: Vec::new(),
            bytes_max: RAW_BYTES_ASKED,
        }
    }

    /// One that keeps nothing.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self {
            encoding: Encoding::Identity,
            wire: Vec::new(),
            bytes_max: 0,
        }
    }

    /// The next bytes of the body.
    #[inline]
    pub fn note(&mut self, wire: &[u8]) {
        let left = self.bytes_max - self.wire.len();
        if left > 0 {
            self.wire.extend_from_slice(&wire[..wire.len().min(left)]);
        }
    }

    /// Decompressed as far as that goes; as they came where nothing of it does.
    fn shown(&self) -> Vec<u8> {
        let mut text = vec![0; RAW_BYTES_ASKED];
        let mut made = 0;
        if self.encoding != Encoding::Identity {
            // Most often it is the encoding that is broken: what came before that is here.
            // So it is taken byte by byte.
            let mut inflater = Inflater::new(self.encoding);
            for byte in self.wire.chunks(1) {
                match inflater.run(byte, &mut text[made..]) {
                    Ok(moved) => made += moved.made,
                    Err(_) => break,
                }
            }
        }
        text.truncate(made);
        if text.is_empty() {
            self.wire.clone()
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::rejects::entry::RAW_BYTES_MAX;

    #[test]
    fn the_beginning_of_a_body_is_kept_however_it_comes() {
        let body = vec![b'x'; 2 * RAW_BYTES_MAX];
        for step in [1, 1000, body.len()] {
            let mut beginning = Beginning::of(Encoding::Identity);
            body.chunks(step).for_each(|chunk| beginning.note(chunk));
            assert_eq!(beginning.shown(), body[..RAW_BYTES_ASKED]);
        }
        let mut nothing = Beginning::of_nothing();
        nothing.note(&body);
        assert_eq!(nothing.shown(), b"");
    }

    #[test]
    fn a_compressed_beginning_is_shown_as_what_it_holds() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"[{\"path\"").unwrap();
        gzip.flush().unwrap();
        let mut beginning = Beginning::of(Encoding::Gzip);
        beginning.note(gzip.get_ref());
        beginning.note(b"broken from here on");
        let shown = beginning.shown();
        assert!(shown.starts_with(b"[{\"path\""), "{shown:?}");
        // Said to be gzip, and is not.
        let mut plain = Beginning::of(Encoding::Gzip);
        plain.note(b"[{}]");
        assert_eq!(plain.shown(), b"[{}]");
        // A bomb shows no more than any other.
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![b'x'; 1 << 22]).unwrap();
        let mut beginning = Beginning::of(Encoding::Gzip);
        beginning.note(&bomb.finish().unwrap());
        assert_eq!(beginning.shown().len(), RAW_BYTES_ASKED);
    }
}
