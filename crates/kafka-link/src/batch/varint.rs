//! Zigzag varints, as records use them (protobuf's `sint32` and `sint64`).

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] appends.
pub(super) fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads a value from `bytes` at `*at` and moves `*at` behind it; `None` where the bytes end or
/// the value has more than ten of them.
#[inline]
pub(super) fn get(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    // Nearly every varint of a log record is one or two bytes.
    if first < 0x80 {
        return Some(unzigzag(u64::from(first)));
    }
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(unzigzag(value));
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_and_has_the_length_foretold() {
        let mut rng = fastrand::Rng::with_seed(7);
        let edges = [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::MAX, i64::MIN];
        let random = (0..10_000).map(|_| rng.i64(..) >> rng.u32(0..64));
        for value in edges.into_iter().chain(random) {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), len(value), "{value}");
            let mut at = 0;
            assert_eq!(get(&out, &mut at), Some(value));
            assert_eq!(at, out.len());
        }
    }

    #[test]
    fn a_cut_or_endless_value_is_none() {
        assert_eq!(get(&[], &mut 0), None);
        assert_eq!(get(&[0x80], &mut 0), None);
        assert_eq!(get(&[0xff; 11], &mut 0), None);
    }
}
