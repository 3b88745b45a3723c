//! Columns of whole numbers: values, differences or differences of differences, packed in blocks of 128.
//!
//! Frame of reference: a block stores its smallest number and every number's distance from it in as many bits as the
//! largest distance needs. What goes on evenly needs none.

use crate::{
    Damaged,
    bits::{Reader, Sink, Writer},
    varint,
};

const BLOCK: usize = 128;

/// How often neighbours are subtracted before packing.
const ORDERS: [u8; 3] = [0, 1, 2];

/// Appends a column; its length is not part of it. O(numbers).
pub(crate) fn put(numbers: &[i64], out: &mut Vec<u8>) {
    let mut work = numbers.to_vec();
    let mut best: Option<(usize, u8, Vec<i64>)> = None;
    for order in ORDERS {
        if order > 0 {
            subtract(&mut work, usize::from(order) - 1);
        }
        let size = packed_bits(&work[usize::from(order).min(work.len())..]);
        if best.as_ref().is_none_or(|(least, ..)| size < *least) {
            best = Some((size, order, work.clone()));
        }
    }
    let (_, order, work) = best.unwrap_or_default();
    out.push(order);
    let (first, rest) = work.split_at(usize::from(order).min(work.len()));
    first.iter().for_each(|number| varint::put_signed(*number, out));
    rest.chunks(BLOCK).for_each(|block| put_block(block, out));
}

/// Replaces every number after the first `skip` + 1 by its distance from the one before.
fn subtract(numbers: &mut [i64], skip: usize) {
    for i in (skip + 1..numbers.len()).rev() {
        numbers[i] = numbers[i].wrapping_sub(numbers[i - 1]);
    }
}

fn add(numbers: &mut [i64], skip: usize) {
    for i in skip + 1..numbers.len() {
        numbers[i] = numbers[i].wrapping_add(numbers[i - 1]);
    }
}

/// Smallest number of a block, and the bits of the largest distance from it.
fn frame(block: &[i64]) -> (i64, u32) {
    let least = block.iter().copied().min().unwrap_or_default();
    let most = block.iter().copied().max().unwrap_or_default();
    (least, 64 - (most.wrapping_sub(least) as u64).leading_zeros())
}

fn packed_bits(numbers: &[i64]) -> usize {
    numbers.chunks(BLOCK).map(|block| 24 + frame(block).1 as usize * block.len()).sum()
}

fn put_block(block: &[i64], out: &mut Vec<u8>) {
    let (least, width) = frame(block);
    varint::put_signed(least, out);
    out.push(width as u8);
    let mut writer = Writer::default();
    block.iter().for_each(|number| writer.put(number.wrapping_sub(least) as u64, width));
    out.extend_from_slice(&writer.bytes);
}

/// Takes a column of `count` numbers off the front. O(count).
pub(crate) fn take(bytes: &mut &[u8], count: usize) -> Result<Vec<i64>, Damaged> {
    let (order, rest) = bytes.split_first().ok_or(Damaged)?;
    *bytes = rest;
    let order = usize::from(*order);
    if order > 2 {
        return Err(Damaged);
    }
    // An announced length is believed only as far as there are bytes for it: a block of 128 has two at least.
    let mut numbers = Vec::with_capacity(count.min(bytes.len().saturating_mul(BLOCK / 2)));
    for _ in 0..order.min(count) {
        numbers.push(varint::take_signed(bytes)?);
    }
    while numbers.len() < count {
        let length = BLOCK.min(count - numbers.len());
        let least = varint::take_signed(bytes)?;
        let width = u32::from(varint::take_bytes(bytes, 1)?[0]);
        if width > 64 {
            return Err(Damaged);
        }
        let packed = varint::take_bytes(bytes, (width as usize * length).div_ceil(8))?;
        let mut reader = Reader::new(packed);
        for _ in 0..length {
            numbers.push(least.wrapping_add(reader.take(width)? as i64));
        }
    }
    for skip in (0..order).rev() {
        add(&mut numbers, skip);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    fn check(numbers: &[i64]) -> usize {
        let mut out = Vec::new();
        put(numbers, &mut out);
        let mut rest = out.as_slice();
        assert_eq!(take(&mut rest, numbers.len()).as_deref(), Ok(numbers));
        assert!(rest.is_empty());
        out.len()
    }

    #[test]
    fn columns_come_back() {
        check(&[]);
        check(&[i64::MAX]);
        check(&[i64::MIN, i64::MAX, 0, -1]);
        assert!(check(&(0..1000).map(|i| 1_700_000_000_000 + i * 15_000).collect::<Vec<_>>()) < 40);
        assert!(check(&[7; 1000]) < 30);
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let width = rng.below(64) as u32;
            let numbers: Vec<i64> = (0..rng.below(400)).map(|_| (rng.next_u64() >> width) as i64).collect();
            check(&numbers);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..5000 {
            let mut rng = Rng::new(seed);
            let length = rng.below(50);
            let bytes = rng.bytes(length);
            let count = rng.below(5000);
            if let Ok(numbers) = take(&mut bytes.as_slice(), count) {
                assert_eq!(numbers.len(), count);
            }
        }
    }
}
