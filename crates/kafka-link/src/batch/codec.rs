//! The five codecs, as Kafka frames them, with a bound on what decompression may give.
//!
//! gzip is RFC 1952; snappy is the `snappy-java` stream (or one raw block, as some clients
//! write); lz4 is the frame format; zstd is RFC 8878.

use std::io::{self, Read, Write};

use super::Codec;

/// As Kafka's own producer: favours speed where the format gives a choice.
const ZSTD_LEVEL: i32 = 3;
const LZ4_LEVEL: u32 = 1;

/// `snappy-java`'s stream: magic, version, least compatible version; then blocks, each with its
/// compressed length in front.
const SNAPPY_HEADER: &[u8; 16] = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const SNAPPY_MAGIC_LEN: usize = 8;
const SNAPPY_BLOCK_LEN: usize = 32 * 1024;

/// The codec's bits of a batch's attributes.
pub(super) fn attribute(codec: Codec) -> i16 {
    match codec {
        Codec::None => 0,
        Codec::Gzip => 1,
        Codec::Snappy => 2,
        Codec::Lz4 => 3,
        Codec::Zstd => 4,
    }
}

/// The codec that a batch's attributes name.
pub(super) fn from_attributes(attributes: i16) -> Result<Codec, String> {
    match attributes & 7 {
        0 => Ok(Codec::None),
        1 => Ok(Codec::Gzip),
        2 => Ok(Codec::Snappy),
        3 => Ok(Codec::Lz4),
        4 => Ok(Codec::Zstd),
        other => Err(format!("unknown compression {other}")),
    }
}

/// Appends `records`, compressed, to `out`.
pub(super) fn compress(codec: Codec, records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match codec {
        Codec::None => out.extend_from_slice(records),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            encoder.write_all(records)?;
            encoder.finish()?;
        }
        Codec::Snappy => {
            out.extend_from_slice(SNAPPY_HEADER);
            let mut encoder = snap::raw::Encoder::new();
            for block in records.chunks(SNAPPY_BLOCK_LEN) {
                let start = out.len();
                out.resize(start + 4 + snap::raw::max_compress_len(block.len()), 0);
                let len = encoder.compress(block, &mut out[start + 4..])?;
                out[start..start + 4].copy_from_slice(&(len as u32).to_be_bytes());
                out.truncate(start + 4 + len);
            }
        }
        Codec::Lz4 => {
            let mut encoder = lz4::EncoderBuilder::new()
                .level(LZ4_LEVEL)
                .block_size(lz4::BlockSize::Max64KB)
                .block_mode(lz4::BlockMode::Independent)
                .build(out)?;
            encoder.write_all(records)?;
            encoder.finish().1?;
        }
        Codec::Zstd => zstd::stream::copy_encode(records, out, ZSTD_LEVEL)?,
    }
    Ok(())
}

/// Why there are no records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Undone {
    /// There would be more than may be.
    TooLarge,
    Damaged(String),
}

/// Decompresses to at most `bytes_max`.
pub(super) fn decompress(
    codec: Codec,
    compressed: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, Undone> {
    let failed = |error: io::Error| Undone::Damaged(format!("{codec:?} data is damaged: {error}"));
    match codec {
        Codec::None => Ok(compressed.to_vec()),
        Codec::Gzip => read_bounded(
            flate2::read::MultiGzDecoder::new(compressed),
            compressed.len(),
            bytes_max,
        ),
        Codec::Snappy => unsnap(compressed, bytes_max),
        Codec::Lz4 => {
            let mut decoder = lz4::Decoder::new(compressed).map_err(failed)?;
            let out = read_bounded(&mut decoder, compressed.len(), bytes_max)?;
            // The decoder takes the end of the input for the end of the frame.
            decoder.finish().1.map_err(failed)?;
            Ok(out)
        }
        Codec::Zstd => read_bounded(
            zstd::stream::read::Decoder::with_buffer(compressed).map_err(failed)?,
            compressed.len(),
            bytes_max,
        ),
    }
}

fn read_bounded(
    reader: impl Read,
    compressed_len: usize,
    bytes_max: usize,
) -> Result<Vec<u8>, Undone> {
    let mut out = Vec::with_capacity((compressed_len * 4).min(bytes_max));
    reader
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|error| Undone::Damaged(format!("compressed data is damaged: {error}")))?;
    if out.len() > bytes_max {
        return Err(Undone::TooLarge);
    }
    Ok(out)
}

fn unsnap(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Undone> {
    let cut = |what: &str| Undone::Damaged(what.to_owned());
    let mut out = Vec::new();
    let mut decoder = snap::raw::Decoder::new();
    if !compressed.starts_with(&SNAPPY_HEADER[..SNAPPY_MAGIC_LEN]) {
        unsnap_block(&mut decoder, compressed, &mut out, bytes_max)?;
        return Ok(out);
    }
    let mut rest = compressed
        .get(SNAPPY_HEADER.len()..)
        .ok_or_else(|| cut("snappy stream ends in its header"))?;
    while !rest.is_empty() {
        let (len, behind) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| cut("snappy stream ends in a block's length"))?;
        let len = u32::from_be_bytes(*len) as usize;
        let (block, behind) = behind
            .split_at_checked(len)
            .ok_or_else(|| cut("snappy stream ends in a block"))?;
        unsnap_block(&mut decoder, block, &mut out, bytes_max)?;
        rest = behind;
    }
    Ok(out)
}

fn unsnap_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), Undone> {
    let damaged = |error: snap::Error| Undone::Damaged(format!("snappy data is damaged: {error}"));
    let len = snap::raw::decompress_len(block).map_err(damaged)?;
    let start = out.len();
    // Checked before the memory is taken: the length is only a claim.
    if start + len > bytes_max {
        return Err(Undone::TooLarge);
    }
    out.resize(start + len, 0);
    decoder
        .decompress(block, &mut out[start..])
        .map_err(damaged)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(3);
        (0..len).map(|_| b'a' + rng.u8(0..4)).collect()
    }

    #[test]
    fn every_codec_gives_back_what_went_in() {
        for codec in Codec::ALL {
            for len in [0, 1, 1000, SNAPPY_BLOCK_LEN, 300_000] {
                let records = sample(len);
                let mut out = b"in front".to_vec();
                compress(codec, &records, &mut out).unwrap();
                assert_eq!(&out[..8], b"in front");
                let back = decompress(codec, &out[8..], len).unwrap();
                assert!(back == records, "{codec:?} {len}");
                assert_eq!(from_attributes(attribute(codec)), Ok(codec));
            }
        }
    }

    #[test]
    fn more_than_the_bound_is_refused() {
        let records = sample(100_000);
        for codec in Codec::ALL.into_iter().skip(1) {
            let mut out = Vec::new();
            compress(codec, &records, &mut out).unwrap();
            let undone = decompress(codec, &out, 99_999).unwrap_err();
            assert_eq!(undone, Undone::TooLarge, "{codec:?}");
        }
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let mut rng = fastrand::Rng::with_seed(11);
        let records = sample(5_000);
        for codec in Codec::ALL.into_iter().skip(1) {
            let mut out = Vec::new();
            compress(codec, &records, &mut out).unwrap();
            assert!(decompress(codec, &out[..out.len() / 2], 1 << 20).is_err());
            for _ in 0..300 {
                let mut broken = out.clone();
                let at = rng.usize(..broken.len());
                broken[at] ^= 1 << rng.u32(0..8);
                let _ = decompress(codec, &broken, 1 << 20);
            }
        }
    }

    #[test]
    fn a_raw_snappy_block_is_read_too() {
        let records = sample(5_000);
        let raw = snap::raw::Encoder::new().compress_vec(&records).unwrap();
        assert_eq!(decompress(Codec::Snappy, &raw, 5_000).unwrap(), records);
    }
}
