//! Whole numbers in as many bytes as they need, seven bits each, lowest first (LEB128).

use crate::Damaged;

/// Appends a number; 1 to 10 bytes.
pub fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number, small in either direction being short.
pub fn put_signed(number: i64, out: &mut Vec<u8>) {
    put(((number << 1) ^ (number >> 63)) as u64, out);
}

/// Takes a number off the front.
///
/// # Errors
/// [`Damaged`] at the end of the bytes or after 64 bits.
pub fn take(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Damaged)?;
        *bytes = rest;
        if shift == 63 && *byte > 1 {
            return Err(Damaged);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

/// Takes a signed number off the front.
///
/// # Errors
/// As [`take`].
pub fn take_signed(bytes: &mut &[u8]) -> Result<i64, Damaged> {
    take(bytes).map(|zigzag| (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

/// Takes a number that is a count or a length and at most `max`.
///
/// # Errors
/// As [`take`], and above the bound.
pub fn take_count(bytes: &mut &[u8], max: usize) -> Result<usize, Damaged> {
    usize::try_from(take(bytes)?).ok().filter(|count| *count <= max).ok_or(Damaged)
}

/// Takes a length, or a count of things that have a byte each at least: not more than what follows.
///
/// # Errors
/// As [`take`], and above the bound.
pub fn take_length(bytes: &mut &[u8]) -> Result<usize, Damaged> {
    let length = take(bytes)?;
    usize::try_from(length).ok().filter(|length| *length <= bytes.len()).ok_or(Damaged)
}

/// Takes so many bytes off the front.
///
/// # Errors
/// [`Damaged`] when there are fewer.
pub fn take_bytes<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Damaged> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Damaged)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_what_is_too_long_is_refused() {
        let mut out = Vec::new();
        let numbers = [0, 1, 127, 128, 300, 1 << 35, u64::MAX];
        let signed = [0, -1, 1, -64, 64, i64::MIN, i64::MAX];
        numbers.iter().for_each(|number| put(*number, &mut out));
        signed.iter().for_each(|number| put_signed(*number, &mut out));
        let mut rest = out.as_slice();
        assert_eq!(numbers.map(|_| take(&mut rest)), numbers.map(Ok));
        assert_eq!(signed.map(|_| take_signed(&mut rest)), signed.map(Ok));
        assert!(rest.is_empty());
        assert_eq!(take(&mut rest), Err(Damaged));
        assert_eq!(take(&mut [0xff; 10].as_slice()), Err(Damaged));
        assert_eq!(take_count(&mut [5].as_slice(), 4), Err(Damaged));
        assert_eq!(take_bytes(&mut [5].as_slice(), 2), Err(Damaged));
    }
}
