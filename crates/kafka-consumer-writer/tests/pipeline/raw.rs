//! Record batches byte by byte (KIP-98, magic 2), for what no well-meaning producer makes.

/// One record: value and headers may be null.
pub struct Record<'a> {
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Bit of the attributes: a control batch.
pub const CONTROL: u16 = 1 << 5;

/// An uncompressed batch; `deltas` are the offsets within it, so that gaps can be made.
pub fn batch(
    attributes: u16,
    producer_id: i64,
    records: &[(u8, Record<'_>)],
    last_delta: u8,
) -> Vec<u8> {
    let mut body = Vec::new();
    for (delta, record) in records {
        let mut bytes = vec![0]; // attributes
        varint(&mut bytes, 0); // timestamp delta
        varint(&mut bytes, i64::from(*delta));
        varint(&mut bytes, -1); // no key
        slice(&mut bytes, record.value);
        varint(&mut bytes, record.headers.len() as i64);
        for (name, value) in record.headers {
            slice(&mut bytes, Some(name.as_bytes()));
            slice(&mut bytes, *value);
        }
        varint(&mut body, bytes.len() as i64);
        body.extend_from_slice(&bytes);
    }
    let mut checked = Vec::new();
    checked.extend_from_slice(&attributes.to_be_bytes());
    checked.extend_from_slice(&i32::from(last_delta).to_be_bytes());
    checked.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    checked.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes());
    checked.extend_from_slice(&producer_id.to_be_bytes());
    checked.extend_from_slice(&0_i16.to_be_bytes()); // producer epoch
    checked.extend_from_slice(&(-1_i32).to_be_bytes()); // base sequence
    checked.extend_from_slice(&(records.len() as i32).to_be_bytes());
    checked.extend_from_slice(&body);
    let mut batch = Vec::new();
    batch.extend_from_slice(&0_i64.to_be_bytes()); // base offset
    batch.extend_from_slice(&(checked.len() as i32 + 9).to_be_bytes());
    batch.extend_from_slice(&0_i32.to_be_bytes()); // leader epoch
    batch.push(2);
    batch.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
    batch.extend_from_slice(&checked);
    batch
}

/// A batch of one record.
pub fn one(value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    batch(0, -1, &[(0, Record { value, headers })], 0)
}

fn slice(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}
