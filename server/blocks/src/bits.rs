//! Bits of upstream's chunks, most significant first, and its numbers of variable width.
//!
//! Source: `tsdb/chunkenc` of upstream (`bstream.go`, `varbit.go`) as the format pages describe it.

use chunk::Damaged;

/// Bits appended to bytes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    used: u32,
}

impl Writer {
    /// Appends the lowest `count` bits, at most 64.
    pub(crate) fn put(&mut self, bits: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.used == 0 {
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

    /// LEB128, wherever the bits stand.
    pub(crate) fn uvarint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put(number & 0x7f | 0x80, 8);
            number >>= 7;
        }
        self.put(number, 8);
    }

    pub(crate) fn varint(&mut self, number: i64) {
        self.uvarint(((number << 1) ^ (number >> 63)) as u64);
    }

    pub(crate) fn varbit_int(&mut self, number: i64) {
        if number == 0 {
            return self.put(0, 1);
        }
        for (class, bits) in CLASSES.iter().enumerate() {
            if *bits == 64 || fits(number, *bits) {
                self.prefix(class);
                return self.put(number as u64, *bits);
            }
        }
    }

    pub(crate) fn varbit_uint(&mut self, number: u64) {
        if number == 0 {
            return self.put(0, 1);
        }
        for (class, bits) in CLASSES.iter().enumerate() {
            if *bits == 64 || number < 1 << bits {
                self.prefix(class);
                return self.put(number, *bits);
            }
        }
    }

    /// As many ones as the class has, and a zero unless it is the last.
    fn prefix(&mut self, class: usize) {
        self.put(u64::MAX, class as u32 + 1);
        if class + 1 < CLASSES.len() {
            self.put(0, 1);
        }
    }
}

/// Bits of the numbers behind `10`, `110` and so on.
const CLASSES: [u32; 8] = [3, 6, 9, 12, 18, 25, 56, 64];

/// Whether a signed number has a place in so many bits; the highest value is positive.
pub(crate) fn fits(number: i64, bits: u32) -> bool {
    let half = 1_i64 << (bits - 1);
    (1 - half..=half).contains(&number)
}

/// The number behind so many bits of it.
pub(crate) fn signed(code: u64, bits: u32) -> i64 {
    if bits < 64 && code > 1 << (bits - 1) { (code as i64).wrapping_sub(1 << bits) } else { code as i64 }
}

/// Bits read from bytes.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn take(&mut self, count: u32) -> Result<u64, Damaged> {
        let end = self.at + count as usize;
        if end > self.bytes.len() * 8 {
            return Err(Damaged);
        }
        if count == 0 {
            return Ok(0);
        }
        let (first, shift) = (self.at / 8, self.at % 8);
        let mut window = [0; 16];
        let there = self.bytes.len().min(first + 16) - first;
        window[..there].copy_from_slice(&self.bytes[first..first + there]);
        self.at = end;
        Ok((u128::from_be_bytes(window) << shift >> (128 - count)) as u64)
    }

    pub(crate) fn bit(&mut self) -> Result<bool, Damaged> {
        self.take(1).map(|bit| bit == 1)
    }

    /// How many ones come before a zero, `max` at most; after `max` none is read.
    pub(crate) fn ones(&mut self, max: u32) -> Result<u32, Damaged> {
        let mut ones = 0;
        while ones < max && self.bit()? {
            ones += 1;
        }
        Ok(ones)
    }

    pub(crate) fn float(&mut self) -> Result<f64, Damaged> {
        self.take(64).map(f64::from_bits)
    }

    pub(crate) fn uvarint(&mut self) -> Result<u64, Damaged> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.take(8)?;
            if shift == 63 && byte > 1 {
                return Err(Damaged);
            }
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }

    pub(crate) fn varint(&mut self) -> Result<i64, Damaged> {
        self.uvarint().map(|code| (code >> 1) as i64 ^ -((code & 1) as i64))
    }

    pub(crate) fn varbit_int(&mut self) -> Result<i64, Damaged> {
        match self.ones(CLASSES.len() as u32)? {
            0 => Ok(0),
            ones => {
                let bits = CLASSES[ones as usize - 1];
                Ok(signed(self.take(bits)?, bits))
            }
        }
    }

    pub(crate) fn varbit_uint(&mut self) -> Result<u64, Damaged> {
        match self.ones(CLASSES.len() as u32)? {
            0 => Ok(0),
            ones => self.take(CLASSES[ones as usize - 1]),
        }
    }
}

/// A float coded by what changed since the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Xor {
    pub(crate) bits: u64,
    leading: u32,
    width: u32,
}

impl Xor {
    pub(crate) fn new(value: f64) -> Self {
        Self { bits: value.to_bits(), ..Self::default() }
    }

    pub(crate) fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }

    pub(crate) fn put(&mut self, value: f64, writer: &mut Writer) {
        let xor = value.to_bits() ^ self.bits;
        self.bits = value.to_bits();
        if xor == 0 {
            return writer.put(0, 1);
        }
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        if self.width > 0 && leading >= self.leading && trailing >= 64 - self.leading - self.width {
            writer.put(0b10, 2);
        } else {
            (self.leading, self.width) = (leading, 64 - leading - trailing);
            writer.put(0b11, 2);
            self.put_window(writer);
        }
        writer.put(xor >> (64 - self.leading - self.width), self.width);
    }

    fn put_window(self, writer: &mut Writer) {
        writer.put(u64::from(self.leading), 5);
        // 64 has no place in six bits.
        writer.put(u64::from(self.width % 64), 6);
    }

    pub(crate) fn take(&mut self, reader: &mut Reader<'_>) -> Result<f64, Damaged> {
        if reader.bit()? {
            let new = reader.bit()?;
            self.changed(new, reader)?;
        }
        Ok(self.value())
    }

    /// Takes changed bits, in a new window or in the last one.
    pub(crate) fn changed(&mut self, new: bool, reader: &mut Reader<'_>) -> Result<(), Damaged> {
        if new {
            self.leading = reader.take(5)? as u32;
            self.width = match reader.take(6)? as u32 {
                0 => 64,
                width => width,
            };
        }
        let shift = 64_u32.checked_sub(self.leading + self.width).filter(|_| self.width > 0).ok_or(Damaged)?;
        self.bits ^= reader.take(self.width)? << shift;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    #[test]
    fn numbers_come_back() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let numbers: Vec<u64> = (0..200).map(|_| rng.next_u64() >> rng.below(64)).collect();
            let edges = [0, 1, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 255, 256, u64::MAX, 1 << 63, 1 << 55, (1 << 55) + 1];
            let mut writer = Writer::default();
            let mut xor = Xor::default();
            for number in numbers.iter().chain(&edges) {
                writer.put(1, 1);
                writer.varbit_uint(*number);
                writer.varbit_int(*number as i64);
                writer.varbit_int((*number as i64).wrapping_neg());
                writer.varint(*number as i64);
                xor.put(f64::from_bits(*number), &mut writer);
            }
            let mut reader = Reader::new(&writer.bytes);
            let mut xor = Xor::default();
            for number in numbers.iter().chain(&edges) {
                assert_eq!(reader.bit(), Ok(true));
                assert_eq!(reader.varbit_uint(), Ok(*number));
                assert_eq!(reader.varbit_int(), Ok(*number as i64));
                assert_eq!(reader.varbit_int(), Ok((*number as i64).wrapping_neg()));
                assert_eq!(reader.varint(), Ok(*number as i64));
                assert_eq!(xor.take(&mut reader).map(f64::to_bits), Ok(*number));
            }
        }
    }
}
