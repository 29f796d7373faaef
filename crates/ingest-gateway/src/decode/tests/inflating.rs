//! Decompression: whatever the pieces, the same text; whatever the damage, an error or the text.

use std::io::Write;

use flate2::{Compression, write};

use super::*;

pub const ENCODINGS: [Encoding; 4] = [
    Encoding::Gzip,
    Encoding::Deflate,
    Encoding::Brotli,
    Encoding::Zstd,
];

/// 40 lines "/item/" and a square, compressed by another brotli; we have no compressor for it.
const BROTLI_ITEMS: &str = "1b8901301c09368ef2f92f45952f6569ded07fdf8564a9363a28f5809ad1b7741b90166cd47c32e2c1061ca5e3324fe39f079e82e1e83048ab895cc53a9a18ae32ed4cd5206d6975656426c440d93ab32afb43b42b7c957fe64c0ab83919c238864bfb91369b3d29b6bb78e203";
/// 50,000,000 zeros.
pub const BROTLI_BOMB: &str =
    "cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd7ffec1ebe39f0088c322001d747d";

fn items() -> Vec<u8> {
    (0..40)
        .flat_map(|item| format!("/item/{}\n", item * item).into_bytes())
        .collect()
}

pub fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex
        .chars()
        .map(|digit| digit.to_digit(16).expect("hex"))
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits"))
        .collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).expect("a compressor");
    encoder.include_checksum(true).expect("a parameter");
    encoder.write_all(text).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

/// [`items`], compressed.
pub fn compressed(encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Identity => items(),
        Encoding::Gzip => gzip(&items()),
        Encoding::Deflate => zlib(&items()),
        Encoding::Brotli => bytes_of(BROTLI_ITEMS),
        Encoding::Zstd => zstd(&items()),
    }
}

/// Inflates `body`, given in pieces of `piece` bytes, into room of as many; `Err(None)` where it
/// is more than `limit`.
fn inflate(
    encoding: Encoding,
    body: &[u8],
    piece: usize,
    limit: u64,
) -> Result<Vec<u8>, Option<InflateError>> {
    let mut inflater = Inflater::new(encoding);
    let (mut all, mut out) = (Vec::new(), vec![0; piece.min(100_000)]);
    for mut input in body.chunks(piece) {
        loop {
            let moved = inflater.run(input, &mut out).map_err(Some)?;
            input = &input[moved.taken..];
            all.extend_from_slice(&out[..moved.made]);
            if all.len() as u64 > limit {
                return Err(None);
            }
            if moved.made < out.len() {
                assert!(input.is_empty(), "it stops only where there is no room");
                break;
            }
        }
    }
    inflater.finish().map_err(Some)?;
    Ok(all)
}

fn is_corrupt(result: &Result<Vec<u8>, Option<InflateError>>) -> bool {
    matches!(result, Err(Some(_)))
}

#[test]
fn pieces_of_any_size_give_the_same_text() {
    for encoding in ENCODINGS.into_iter().chain([Encoding::Identity]) {
        let body = compressed(encoding);
        for piece in [1, 2, 7, 64, body.len()] {
            assert_eq!(
                inflate(encoding, &body, piece, 1 << 20),
                Ok(items()),
                "{encoding:?} {piece}"
            );
        }
    }
    // More than one step of output, and than one window.
    let long: Vec<u8> = (0..300_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    for (encoding, body) in [
        (Encoding::Gzip, gzip(&long)),
        (Encoding::Deflate, zlib(&long)),
        (Encoding::Zstd, zstd(&long)),
    ] {
        for piece in [4093, 100_000, body.len()] {
            assert_eq!(
                inflate(encoding, &body, piece, 1 << 30).as_ref(),
                Ok(&long),
                "{encoding:?} {piece}"
            );
        }
    }
}

#[test]
fn members_and_frames_follow_each_other() {
    let twice = [items(), items()].concat();
    for (encoding, body) in [
        (
            Encoding::Gzip,
            [gzip(&items()), gzip(&[]), gzip(&items())].concat(),
        ),
        (
            Encoding::Zstd,
            [
                zstd(&items()),
                b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec(),
                zstd(&items()),
            ]
            .concat(),
        ),
    ] {
        for piece in [1, 5, body.len()] {
            assert_eq!(
                inflate(encoding, &body, piece, 1 << 20).as_ref(),
                Ok(&twice),
                "{encoding:?}"
            );
        }
    }
}

#[test]
fn a_gzip_header_may_have_all_its_parts() {
    let body = flate2::GzBuilder::new()
        .filename("access.log")
        .comment("of yesterday")
        .extra(vec![1; 300])
        .write(Vec::new(), Compression::default());
    let mut encoder = body;
    encoder.write_all(&items()).expect("writes to memory");
    let mut body = encoder.finish().expect("writes to memory");
    assert_eq!(inflate(Encoding::Gzip, &body, 1, 1 << 20), Ok(items()));
    // A header that never ends is not collected for ever.
    body.splice(13..13, vec![1; 10_000]);
    body[10..12].copy_from_slice(&[0xff, 0xff]);
    assert!(is_corrupt(&inflate(Encoding::Gzip, &body, 1, 1 << 20)));
}

#[test]
fn the_checksum_of_a_gzip_header_is_held_where_it_has_one() {
    let mut body = gzip(&items());
    body[3] = 2;
    let mut crc = flate2::Crc::new();
    crc.update(&body[..10]);
    let [low, high, ..] = crc.sum().to_le_bytes();
    body.splice(10..10, [low, high]);
    for piece in [1, body.len()] {
        let all = inflate(Encoding::Gzip, &body, piece, 1 << 20);
        assert_eq!(all, Ok(items()));
        for place in [4, 10, 11] {
            let mut damaged = body.clone();
            damaged[place] ^= 1;
            let result = inflate(Encoding::Gzip, &damaged, piece, 1 << 20);
            assert!(is_corrupt(&result), "byte {place}");
        }
    }
}

#[test]
fn raw_deflate_is_understood_as_well() {
    let mut encoder = write::DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&items()).expect("writes to memory");
    let body = encoder.finish().expect("writes to memory");
    for piece in [1, body.len()] {
        assert_eq!(
            inflate(Encoding::Deflate, &body, piece, 1 << 20),
            Ok(items())
        );
    }
}

#[test]
fn a_body_that_is_cut_off_anywhere_is_corrupt() {
    for encoding in ENCODINGS {
        let body = compressed(encoding);
        for len in 0..body.len() {
            let result = inflate(encoding, &body[..len], 16, 1 << 20);
            assert!(is_corrupt(&result), "{encoding:?} {len} of {}", body.len());
        }
    }
}

#[test]
fn something_behind_the_end_is_corrupt() {
    for encoding in ENCODINGS {
        for piece in [1, 1 << 20] {
            let mut body = compressed(encoding);
            body.extend_from_slice(b"{}");
            assert!(
                is_corrupt(&inflate(encoding, &body, piece, 1 << 20)),
                "{encoding:?}"
            );
        }
    }
}

#[test]
fn damage_is_found_where_there_is_a_checksum_and_never_a_panic() {
    for encoding in ENCODINGS {
        let body = compressed(encoding);
        for bit in 0..body.len() * 8 {
            let mut damaged = body.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let result = inflate(encoding, &damaged, 64, 1 << 20);
            // Brotli has none; in a gzip header time, system and the like are anyone's.
            let checked = match encoding {
                Encoding::Brotli => false,
                Encoding::Gzip => bit / 8 >= 10,
                _ => true,
            };
            if encoding == Encoding::Gzip && bit / 8 >= body.len() - 8 {
                assert!(is_corrupt(&result), "trailer bit {bit}");
            }
            if checked && result.is_ok() {
                assert_eq!(result, Ok(items()), "{encoding:?} bit {bit}");
            }
        }
    }
}

#[test]
fn a_zstd_window_beyond_8_mib_is_refused() {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).expect("a compressor");
    encoder.window_log(24).expect("a parameter");
    encoder
        .write_all(&vec![7; 20_000_000])
        .expect("writes to memory");
    let body = encoder.finish().expect("writes to memory");
    assert!(is_corrupt(&inflate(Encoding::Zstd, &body, 1000, 1 << 30)));
}

/// Bits of a brotli stream (RFC 7932), the first one the lowest.
#[derive(Default)]
pub struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// A stream with the longest window.
    pub fn with_window_of_16_mib() -> Self {
        let mut bits = Self::default();
        bits.put(0b1111, 4);
        bits
    }

    /// A block of one byte, and as often again as makes `len` of it (at most 16 MiB).
    pub fn put_run(&mut self, byte: u8, len: usize) {
        // Not the last one; its length in 6 half bytes; compressed.
        self.put(0, 1);
        self.put(2, 2);
        self.put(len - 1, 24);
        self.put(0, 1);
        // One type of each kind of blocks, one code for each; no distance is direct.
        self.put(0, 3 + 2 + 4 + 2 + 2);
        self.put_only(byte.into(), 8);
        // Insert one, copy from 2118 on (with 24 bits that say how many more); from 1 before.
        self.put_only(384 + (1 << 3) + 7, 10);
        self.put_only(16, 6);
        self.put(len - 1 - 2118, 24);
        self.put(0, 1);
    }

    /// A block of bytes as they are, at most 64 KiB.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.put(0, 1);
        self.put(0, 2);
        self.put(bytes.len() - 1, 16);
        self.put(1, 1);
        self.bytes.extend_from_slice(bytes);
        self.len = self.bytes.len() * 8;
    }

    /// The stream, ended.
    pub fn end(mut self) -> Vec<u8> {
        self.put(0b11, 2);
        self.bytes
    }

    fn put(&mut self, value: usize, bits: usize) {
        for bit in 0..bits {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            self.bytes[self.len / 8] |= ((value >> bit & 1) as u8) << (self.len % 8);
            self.len += 1;
        }
    }

    /// The number 256, as a count of block types or of prefix codes.
    fn put_256(&mut self) {
        self.put(0b111_1111_1111, 11);
    }

    /// A prefix code of one symbol, which has so many bits.
    fn put_code(&mut self, symbol_bits: usize) {
        self.put_only(0, symbol_bits);
    }

    fn put_only(&mut self, symbol: usize, symbol_bits: usize) {
        self.put(0b0001, 4);
        self.put(symbol, symbol_bits);
    }
}

#[test]
fn the_prefix_codes_of_a_brotli_body_count_as_memory() {
    let mut bits = Bits::default();
    // A window of 64 KiB; a block that is not the last, of 64 KiB, compressed.
    bits.put(0, 1);
    bits.put(0b000, 3);
    bits.put(0xffff, 16);
    bits.put(0, 1);
    // One type of literal blocks, 256 of insert-and-copy blocks, one of distances.
    bits.put(0, 1);
    bits.put_256();
    bits.put_code(9);
    bits.put_code(5);
    bits.put(0, 2);
    bits.put(0, 1);
    // Distance parameters, a context mode; 256 codes of literals and of distances, the first of
    // which is each context's.
    bits.put(0, 2 + 4 + 2);
    for _ in 0..2 {
        bits.put_256();
        bits.put(0, 1);
        bits.put_code(8);
        bits.put(0, 1);
    }
    for symbol_bits in [8, 10, 6] {
        (0..256).for_each(|_| bits.put_code(symbol_bits));
    }
    assert!(bits.bytes.len() < 1300);

    // All but the last code.
    let body = &bits.bytes[..bits.bytes.len() - 1];
    let mut inflater = Inflater::new(Encoding::Brotli);
    let moved = inflater.run(body, &mut [0; 1024]).expect("it goes on");
    assert_eq!((moved.taken, moved.made), (body.len(), 0));
    let codes = inflater.codes_bytes();
    assert!(codes > 3 << 20, "{codes}");
    // What a body of the usual kind has is little.
    let mut inflater = Inflater::new(Encoding::Brotli);
    inflater
        .run(&bytes_of(BROTLI_ITEMS), &mut [0; 4096])
        .expect("readable");
    assert!(
        inflater.codes_bytes() < 64 << 10,
        "{}",
        inflater.codes_bytes()
    );
}
