//! Streams of small whole numbers as bytes: packed bits in blocks of 128, runs of zeros, or plain varints.
//!
//! A block keeps the bits that most of its numbers need; the few that need more are patches behind it. What is chosen
//! is what is smallest. Order and references are the callers' business, see [`crate::ints`] and [`crate::values`].

use crate::{Damaged, varint};

/// Numbers of a block.
pub(crate) const BLOCK: usize = 128;
/// Each number's distance from the smallest of its block.
const FRAMES: u8 = 0;
/// Each number with its sign in the lowest bit.
const SIGNED: u8 = 1;
/// How many zeros come before the next number that is none, and that number.
const RUNS: u8 = 2;
/// Nothing but zeros.
const ZEROS: u8 = 3;
/// A width of this and more has patches.
const PATCHED: u8 = 0x80;

pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(crate) fn unzigzag(code: u64) -> i64 {
    (code >> 1) as i64 ^ -((code & 1) as i64)
}

fn width(number: u64) -> u32 {
    64 - number.leading_zeros()
}

/// Appends a stream; its length is not part of it. O(numbers).
pub(crate) fn put(numbers: &[i64], out: &mut Vec<u8>) {
    if numbers.iter().all(|number| *number == 0) {
        return out.push(ZEROS);
    }
    let begin = out.len();
    out.push(RUNS);
    put_runs(numbers, out);
    for kind in [SIGNED, FRAMES] {
        let other = out.len();
        out.push(kind);
        numbers.chunks(BLOCK).for_each(|block| put_block(block, kind, out));
        // The shorter of what is there and what was just written stays.
        if out.len() - other < other - begin {
            out.drain(begin..other);
        } else {
            out.truncate(other);
        }
    }
}

fn put_runs(numbers: &[i64], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for number in numbers {
        if *number == 0 {
            zeros += 1;
        } else {
            varint::put(zeros, out);
            varint::put(zigzag(*number), out);
            zeros = 0;
        }
    }
    if zeros > 0 {
        varint::put(zeros, out);
    }
}

fn put_block(block: &[i64], kind: u8, out: &mut Vec<u8>) {
    let mut codes = [0; BLOCK];
    let codes = &mut codes[..block.len()];
    if kind == FRAMES {
        let least = block.iter().copied().min().unwrap_or_default();
        varint::put_signed(least, out);
        codes.iter_mut().zip(block).for_each(|(code, number)| *code = number.wrapping_sub(least) as u64);
    } else {
        codes.iter_mut().zip(block).for_each(|(code, number)| *code = zigzag(*number));
    }
    let bits = best_width(codes);
    let patches = codes.iter().filter(|code| width(**code) > bits).count();
    out.push(bits as u8 | if patches > 0 { PATCHED } else { 0 });
    pack(codes, bits, out);
    if patches > 0 {
        out.push(patches as u8);
        for (place, code) in codes.iter().enumerate().filter(|(_, code)| width(**code) > bits) {
            out.push(place as u8);
            varint::put(code >> bits, out);
        }
    }
}

/// The width at which packed bits and patches together are shortest.
fn best_width(codes: &[u64]) -> u32 {
    let mut counts = [0_usize; 65];
    codes.iter().for_each(|code| counts[width(*code) as usize] += 1);
    let widest = counts.iter().rposition(|count| *count > 0).unwrap_or_default();
    let size = |bits: &usize| {
        // A patch is its place and a varint of the bits that did not fit.
        let patches: usize = (bits + 1..=widest).map(|wide| counts[wide] * (1 + (wide - bits).div_ceil(7))).sum();
        (codes.len() * bits).div_ceil(8) + patches + usize::from(patches > 0)
    };
    (0..=widest).min_by_key(size).unwrap_or_default() as u32
}

/// Numbers of the same width, lowest bits first.
fn pack(codes: &[u64], bits: u32, out: &mut Vec<u8>) {
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let (mut window, mut used) = (0_u128, 0);
    for code in codes {
        window |= u128::from(code & mask) << used;
        used += bits;
        while used >= 8 {
            out.push(window as u8);
            window >>= 8;
            used -= 8;
        }
    }
    if used > 0 {
        out.push(window as u8);
    }
}

fn unpack(packed: &[u8], bits: u32, codes: &mut [u64]) {
    // Behind the bytes of the widest block there is room for the last load.
    let mut bytes = [0_u8; BLOCK * 8 + 16];
    bytes[..packed.len()].copy_from_slice(packed);
    if bits == 0 {
        return codes.fill(0);
    }
    let bits = bits as usize;
    if bits <= 56 {
        let mask = (1_u64 << bits) - 1;
        for (place, code) in codes.iter_mut().enumerate() {
            let at = place * bits;
            let mut load = [0; 8];
            load.copy_from_slice(&bytes[at / 8..at / 8 + 8]);
            *code = u64::from_le_bytes(load) >> (at % 8) & mask;
        }
    } else {
        let mask = u64::MAX >> (64 - bits);
        for (place, code) in codes.iter_mut().enumerate() {
            let at = place * bits;
            let mut load = [0; 16];
            load.copy_from_slice(&bytes[at / 8..at / 8 + 16]);
            *code = (u128::from_le_bytes(load) >> (at % 8)) as u64 & mask;
        }
    }
}

/// Takes a stream of `count` numbers off the front. O(count).
pub(crate) fn take(bytes: &mut &[u8], count: usize) -> Result<Vec<i64>, Damaged> {
    let kind = varint::take_bytes(bytes, 1)?[0];
    match kind {
        // Zeros need no bytes: what bounds them is the count, which callers check against what they have read.
        ZEROS => Ok(vec![0; count]),
        RUNS => take_runs(bytes, count),
        FRAMES | SIGNED => {
            // An announced length is believed only as far as there are bytes for it: a block has one at least.
            let mut numbers = Vec::with_capacity(count.min(bytes.len().saturating_mul(BLOCK)));
            while numbers.len() < count {
                take_block(bytes, kind, BLOCK.min(count - numbers.len()), &mut numbers)?;
            }
            Ok(numbers)
        }
        _ => Err(Damaged),
    }
}

fn take_runs(bytes: &mut &[u8], count: usize) -> Result<Vec<i64>, Damaged> {
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let zeros = varint::take_count(bytes, count - numbers.len())?;
        numbers.resize(numbers.len() + zeros, 0);
        if numbers.len() < count {
            numbers.push(unzigzag(varint::take(bytes)?));
        }
    }
    Ok(numbers)
}

fn take_block(bytes: &mut &[u8], kind: u8, length: usize, numbers: &mut Vec<i64>) -> Result<(), Damaged> {
    let least = if kind == FRAMES { varint::take_signed(bytes)? } else { 0 };
    let head = varint::take_bytes(bytes, 1)?[0];
    let bits = u32::from(head & !PATCHED);
    if bits > 64 {
        return Err(Damaged);
    }
    let mut codes = [0; BLOCK];
    let codes = &mut codes[..length];
    unpack(varint::take_bytes(bytes, (bits as usize * length).div_ceil(8))?, bits, codes);
    if head & PATCHED != 0 {
        for _ in 0..varint::take_bytes(bytes, 1)?[0] {
            let place = varint::take_bytes(bytes, 1)?[0];
            let high = varint::take(bytes)?.checked_shl(bits).ok_or(Damaged)?;
            *codes.get_mut(usize::from(place)).ok_or(Damaged)? |= high;
        }
    }
    if kind == FRAMES {
        numbers.extend(codes.iter().map(|code| least.wrapping_add(*code as i64)));
    } else {
        numbers.extend(codes.iter().map(|code| unzigzag(*code)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    fn check(numbers: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        put(numbers, &mut out);
        let mut rest = out.as_slice();
        assert_eq!(take(&mut rest, numbers.len()).as_deref(), Ok(numbers));
        assert!(rest.is_empty());
        out
    }

    #[test]
    fn each_kind_of_stream_takes_its_form() {
        assert_eq!(check(&[0; 5000]), [ZEROS]);
        assert_eq!(check(&[]), [ZEROS]);
        let mut rare = vec![0; 1000];
        rare[500] = -7;
        assert_eq!(check(&rare)[0], RUNS);
        let noise: Vec<i64> = (0..1000).map(|i| i * 7919 % 100 - 50).collect();
        assert_eq!(check(&noise)[0], SIGNED);
        let far: Vec<i64> = noise.iter().map(|number| number + 1_000_000).collect();
        assert_eq!(check(&far)[0], FRAMES);
        let plain = check(&noise).len();
        let mut spikes = noise;
        (spikes[3], spikes[700], spikes[999]) = (i64::MIN, i64::MAX, 1 << 40);
        assert!(check(&spikes).len() < plain + 50, "what needs more bits is listed apart");
    }

    #[test]
    fn the_examples_of_the_page() {
        let page = include_str!("../../../docs/format/part.md");
        let (_, page) = page.split_once("\nStreams (").expect("streams");
        let (page, _) = page.split_once("\nValue columns (").expect("columns");
        let mut count = 0;
        for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
            let (hex, numbers) = row.split_once("` | ").expect("two cells");
            let bytes: Vec<u8> =
                hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
            let numbers: Vec<i64> =
                numbers.trim_end_matches(" |").split(' ').map(|number| number.parse().expect("a number")).collect();
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest, numbers.len()).as_deref(), Ok(numbers.as_slice()), "{hex}");
            assert!(rest.is_empty(), "{hex}");
            assert_eq!(check(&numbers), bytes, "{hex} is what is written");
            count += 1;
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn random_streams_come_back() {
        for seed in 0..1000 {
            let mut rng = Rng::new(seed);
            let (bits, zero, wide) = (rng.below(64) as u32, rng.below(100) as u64, rng.below(10) as u64);
            let number = |rng: &mut Rng| match () {
                () if rng.chance(zero) => 0,
                () if rng.chance(wide) => rng.next_u64() as i64,
                () => (rng.next_u64() >> bits) as i64,
            };
            let length = rng.below(700);
            check(&(0..length).map(|_| number(&mut rng)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..20_000 {
            let mut rng = Rng::new(seed);
            let length = 1 + rng.below(60);
            let mut bytes = rng.bytes(length);
            bytes[0] %= 5;
            let count = rng.below(3000);
            if let Ok(numbers) = take(&mut bytes.as_slice(), count) {
                assert_eq!(numbers.len(), count);
            }
        }
    }
}
