//! Integers of variable length: LEB128, at most ten bytes, no longer than necessary.

use crate::error::DecodeErrorKind;

/// Appends `value`.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Reads a value off the front of `rest`.
#[inline]
pub(crate) fn take(rest: &mut &[u8]) -> Result<u64, DecodeErrorKind> {
    if let Some((&first, tail)) = rest.split_first()
        && first < 0x80
    {
        *rest = tail;
        return Ok(u64::from(first));
    }
    take_long(rest)
}

fn take_long(rest: &mut &[u8]) -> Result<u64, DecodeErrorKind> {
    let mut value = 0u64;
    let mut shift = 0u32;
    let mut input = *rest;
    loop {
        let (&byte, tail) = input.split_first().ok_or(DecodeErrorKind::UnexpectedEnd)?;
        input = tail;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if shift == 63 && bits > 1 {
            return Err(DecodeErrorKind::InvalidVarint);
        }
        value |= bits << shift;
        if byte < 0x80 {
            if byte == 0 && shift > 0 {
                return Err(DecodeErrorKind::InvalidVarint);
            }
            *rest = input;
            return Ok(value);
        }
        if shift == 63 {
            return Err(DecodeErrorKind::InvalidVarint);
        }
        shift += 7;
    }
}

/// Signed to unsigned, small magnitudes first.
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(mut bytes: &[u8]) -> Result<(u64, usize), DecodeErrorKind> {
        take(&mut bytes).map(|value| (value, bytes.len()))
    }

    proptest! {
        #[test]
        fn every_integer_comes_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(read(&out), Ok((value, 0)));
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn what_is_accepted_is_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok((value, left)) = read(&bytes) {
                let mut out = Vec::new();
                put(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - left]);
            }
        }
    }

    #[test]
    fn the_largest_takes_ten_bytes_and_more_is_refused() {
        let mut out = Vec::new();
        put(&mut out, u64::MAX);
        assert_eq!(out.len(), 10);
        out[9] = 2;
        assert_eq!(read(&out), Err(DecodeErrorKind::InvalidVarint));
        assert_eq!(read(&[0xff; 11]), Err(DecodeErrorKind::InvalidVarint));
        assert_eq!(read(&[0xff; 9]), Err(DecodeErrorKind::UnexpectedEnd));
    }

    #[test]
    fn padding_is_refused() {
        assert_eq!(read(&[0x80, 0]), Err(DecodeErrorKind::InvalidVarint));
    }

    #[test]
    fn zigzag_keeps_small_magnitudes_small() {
        let encoded: Vec<u64> = [0, -1, 1, -2, i64::MAX, i64::MIN].map(zigzag).to_vec();
        assert_eq!(encoded, [0, 1, 2, 3, u64::MAX - 1, u64::MAX]);
    }
}
