//! Bits in bytes, most significant first.

use crate::Damaged;

/// Something that takes bits.
pub trait Sink {
    /// Appends the lowest `count` bits of `bits`, at most 64.
    fn put(&mut self, bits: u64, count: u32);
}

/// Bits appended to a byte vector.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// Bits used of the last byte; 0 is "none is begun".
    used: u32,
}

impl Writer {
    /// Goes on behind bytes that were written before; `used` is what [`Writer::used`] said then.
    pub fn resume(bytes: Vec<u8>, used: u8) -> Self {
        Self { bytes, used: u32::from(used % 8) }
    }

    /// Bits used of the last byte; 0 is all of them.
    pub fn used(&self) -> u8 {
        self.used as u8
    }

    /// What was written, the last byte filled up with zeros.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Sink for Writer {
    fn put(&mut self, bits: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.used == 0 {
                // Small steps: a head has a million of these, most of them done growing.
                if self.bytes.len() == self.bytes.capacity() {
                    self.bytes.reserve_exact((self.bytes.len() / 4).clamp(8, 64));
                }
                self.bytes.push(0);
            }
            let take = left.min(8 - self.used);
            let part = (bits >> (left - take)) as u8 & (0xff_u16 >> (8 - take)) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << (8 - self.used - take);
            }
            self.used = (self.used + take) % 8;
            left -= take;
        }
    }
}

/// Gathers many small writes into few large ones.
pub(crate) struct Gather<'a, S> {
    sink: &'a mut S,
    bits: u128,
    count: u32,
}

impl<'a, S: Sink> Gather<'a, S> {
    pub(crate) fn new(sink: &'a mut S) -> Self {
        Self { sink, bits: 0, count: 0 }
    }

    /// Hands on what is left.
    pub(crate) fn finish(&mut self) {
        if self.count > 64 {
            self.sink.put((self.bits >> 64) as u64, self.count - 64);
            self.count = 64;
        }
        if self.count > 0 {
            self.sink.put(self.bits as u64, self.count);
        }
        (self.bits, self.count) = (0, 0);
    }
}

impl<S: Sink> Sink for Gather<'_, S> {
    fn put(&mut self, bits: u64, count: u32) {
        if self.count + count > 128 {
            self.finish();
        }
        // Bits above `count` are zero but for the caller's mistake, and no count is 0 or above 64.
        let mask = u64::MAX >> (64 - count.clamp(1, 64));
        self.bits = self.bits << count | u128::from(bits & mask);
        self.count += count;
    }
}

/// Bits read from bytes.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// Bits taken so far.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits, at most 64.
    pub(crate) fn take(&mut self, count: u32) -> Result<u64, Damaged> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(Damaged);
        }
        if count == 0 {
            return Ok(0);
        }
        // The bits span at most nine bytes; a window of sixteen makes one shift of them.
        let (first, shift) = (self.at / 8, self.at % 8);
        let mut window = [0; 16];
        let there = self.bytes.len().min(first + 16) - first;
        window[..there].copy_from_slice(&self.bytes[first..first + there]);
        let bits = u128::from_be_bytes(window) << shift >> (128 - count);
        self.at = end;
        Ok(bits as u64)
    }

    pub(crate) fn bit(&mut self) -> Result<bool, Damaged> {
        let byte = *self.bytes.get(self.at / 8).ok_or(Damaged)?;
        let bit = byte >> (7 - self.at % 8) & 1 == 1;
        self.at += 1;
        Ok(bit)
    }
}

/// Small numbers next to zero in few bits: `0`, or a class of `1…10` and that many bits, or `1111` and all 64.
const CLASSES: [(u32, u32); 4] = [(2, 7), (3, 14), (4, 24), (4, 64)];

/// Writes a signed number by its class.
pub(crate) fn put_signed(sink: &mut impl Sink, number: i64) {
    let zigzag = ((number << 1) ^ (number >> 63)) as u64;
    if zigzag == 0 {
        return sink.put(0, 1);
    }
    for (class, (prefix, bits)) in CLASSES.iter().enumerate() {
        if class == 3 || zigzag < 1 << bits {
            let code = if class == 3 { 0b1111 } else { (1 << prefix) - 2 };
            sink.put(code, *prefix);
            return sink.put(zigzag, *bits);
        }
    }
}

/// Reads what [`put_signed`] wrote.
pub(crate) fn take_signed(reader: &mut Reader<'_>) -> Result<i64, Damaged> {
    let mut ones = 0;
    while ones < 4 && reader.bit()? {
        ones += 1;
    }
    let zigzag = match ones {
        0 => return Ok(0),
        ones => reader.take(CLASSES[ones - 1].1)?,
    };
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

/// Writes a count from 0 in 1 bit for 0, 3 for 1 and 2, and two more for each doubling (Elias gamma of one more).
pub(crate) fn put_count(sink: &mut impl Sink, count: u32) {
    let number = u64::from(count) + 1;
    let width = 64 - number.leading_zeros();
    sink.put(0, width - 1);
    sink.put(number, width);
}

/// Reads what [`put_count`] wrote.
pub(crate) fn take_count(reader: &mut Reader<'_>) -> Result<u32, Damaged> {
    let mut zeros = 0;
    while !reader.bit()? {
        zeros += 1;
        if zeros > 32 {
            return Err(Damaged);
        }
    }
    let number = 1 << zeros | reader.take(zeros)?;
    u32::try_from(number - 1).map_err(|_| Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    #[test]
    fn bits_come_back() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let items: Vec<(u64, u32)> = (0..100)
                .map(|_| {
                    let count = rng.below(65) as u32;
                    let mask = if count == 64 { u64::MAX } else { (1 << count) - 1 };
                    (rng.next_u64() & mask, count)
                })
                .collect();
            let mut writer = Writer::default();
            items.iter().for_each(|(bits, count)| writer.put(*bits, *count));
            let mut reader = Reader::new(&writer.bytes);
            for (bits, count) in items {
                assert_eq!(reader.take(count), Ok(bits));
            }
        }
    }

    #[test]
    fn numbers_and_counts_come_back_and_the_end_is_an_error() {
        let numbers = [0, 1, -1, 63, 64, -64, 8191, 8192, 1 << 23, i64::MAX, i64::MIN];
        let counts = [0, 1, 2, 3, 119, 65_535, u32::MAX - 1];
        let mut writer = Writer::default();
        numbers.iter().for_each(|number| put_signed(&mut writer, *number));
        counts.iter().for_each(|count| put_count(&mut writer, *count));
        let mut reader = Reader::new(&writer.bytes);
        assert_eq!(numbers.map(|_| take_signed(&mut reader)), numbers.map(Ok));
        assert_eq!(counts.map(|_| take_count(&mut reader)), counts.map(Ok));
        assert_eq!(take_signed(&mut Reader::new(&[0xff])), Err(Damaged));
        assert_eq!(take_count(&mut Reader::new(&[0])), Err(Damaged));
    }
}
