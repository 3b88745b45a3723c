//! Upstream's chunk of floats, encoded: differences of differences of times, and values by what changed of their bits.
//!
//! Truth: the chunk page of the Prometheus documentation and `tsdb/chunkenc` of release 3.14. Only encoding; reading
//! belongs to whoever imports blocks.

/// Bits on their way out, highest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken; 0 when it is full.
    used: u32,
}

impl Bits {
    fn bit(&mut self, on: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(on) << (7 - self.used);
        }
        self.used = (self.used + 1) % 8;
    }

    /// The lowest `count` bits.
    fn put(&mut self, value: u64, count: u32) {
        (0..count).rev().for_each(|place| self.bit(value >> place & 1 == 1));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }
}

/// A chunk of at most 65,535 samples, its count in front. O(samples).
pub(crate) fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let count = u16::try_from(samples.len()).unwrap_or(u16::MAX);
    let mut bits = Bits { bytes: count.to_be_bytes().to_vec(), used: 0 };
    let (mut time, mut delta, mut value) = (0_i64, 0_u64, 0_u64);
    let (mut leading, mut trailing) = (0xff_u32, 0_u32);
    for (place, (at, sample)) in samples.iter().take(usize::from(count)).enumerate() {
        let bits_of = sample.to_bits();
        match place {
            0 => {
                bits.varint((*at << 1 ^ *at >> 63) as u64);
                bits.put(bits_of, 64);
            }
            1 => {
                delta = at.wrapping_sub(time) as u64;
                bits.varint(delta);
                value_bits(&mut bits, bits_of ^ value, &mut leading, &mut trailing);
            }
            _ => {
                let next = at.wrapping_sub(time) as u64;
                difference(&mut bits, next.wrapping_sub(delta) as i64);
                delta = next;
                value_bits(&mut bits, bits_of ^ value, &mut leading, &mut trailing);
            }
        }
        (time, value) = (*at, bits_of);
    }
    bits.bytes
}

/// How much longer the gap between two times is than the one before.
fn difference(bits: &mut Bits, dod: i64) {
    let fits = |width: u32| -((1_i64 << (width - 1)) - 1) <= dod && dod <= 1 << (width - 1);
    match dod {
        0 => bits.put(0, 1),
        _ if fits(14) => {
            bits.put(0b10, 2);
            bits.put(dod as u64, 14);
        }
        _ if fits(17) => {
            bits.put(0b110, 3);
            bits.put(dod as u64, 17);
        }
        _ if fits(20) => {
            bits.put(0b1110, 4);
            bits.put(dod as u64, 20);
        }
        _ => {
            bits.put(0b1111, 4);
            bits.put(dod as u64, 64);
        }
    }
}

/// The bits in which two values differ, within the window of the value before where that is wide enough.
fn value_bits(bits: &mut Bits, change: u64, leading: &mut u32, trailing: &mut u32) {
    if change == 0 {
        bits.bit(false);
        return;
    }
    bits.bit(true);
    // Five bits hold the count.
    let (zeros, tail) = (change.leading_zeros().min(31), change.trailing_zeros());
    if *leading != 0xff && zeros >= *leading && tail >= *trailing {
        bits.bit(false);
        bits.put(change >> *trailing, 64 - *leading - *trailing);
        return;
    }
    (*leading, *trailing) = (zeros, tail);
    let width = 64 - zeros - tail;
    bits.bit(true);
    bits.put(u64::from(zeros), 5);
    // All 64 are written as 0, which no width is.
    bits.put(u64::from(width), 6);
    bits.put(change >> tail, width);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    struct Reader<'a>(&'a [u8], usize);

    impl Reader<'_> {
        fn get(&mut self, count: u32) -> u64 {
            (0..count).fold(0, |sum, _| {
                let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
                self.1 += 1;
                sum << 1 | u64::from(bit)
            })
        }

        fn varint(&mut self) -> u64 {
            let (mut sum, mut shift) = (0, 0);
            loop {
                let byte = self.get(8);
                sum |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    return sum;
                }
                shift += 7;
            }
        }

        fn value(&mut self, last: u64, window: &mut (u32, u32)) -> u64 {
            if self.get(1) == 0 {
                return last;
            }
            if self.get(1) == 1 {
                let (leading, width) = (self.get(5) as u32, self.get(6) as u32);
                let width = if width == 0 { 64 } else { width };
                *window = (leading, 64 - leading - width);
            }
            last ^ self.get(64 - window.0 - window.1) << window.1
        }
    }

    /// The reading side, from the same description.
    pub(crate) fn decode(bytes: &[u8]) -> Vec<(i64, f64)> {
        let mut reader = Reader(bytes, 0);
        let count = reader.get(16);
        let (mut time, mut delta, mut value, mut window) = (0_i64, 0_u64, 0_u64, (0, 0));
        let mut out = Vec::new();
        for place in 0..count {
            match place {
                0 => {
                    let raw = reader.varint();
                    time = (raw >> 1) as i64 ^ -((raw & 1) as i64);
                    value = reader.get(64);
                }
                1 => {
                    delta = reader.varint();
                    time = time.wrapping_add(delta as i64);
                    value = reader.value(value, &mut window);
                }
                _ => {
                    let ones = (0..4).take_while(|_| reader.get(1) == 1).count();
                    let width = [0, 14, 17, 20, 64][ones];
                    let raw = reader.get(width);
                    let dod = if width > 0 && width < 64 && raw > 1 << (width - 1) {
                        raw as i64 - (1 << width)
                    } else {
                        raw as i64
                    };
                    delta = delta.wrapping_add(dod as u64);
                    time = time.wrapping_add(delta as i64);
                    value = reader.value(value, &mut window);
                }
            }
            out.push((time, f64::from_bits(value)));
        }
        out
    }

    #[test]
    fn samples_come_back_bit_for_bit() {
        let mut rng = testkit::Rng::new(3);
        for round in 0..2_000 {
            let (mut at, mut samples) = (rng.next_u64() as i64 >> rng.below(64), Vec::new());
            for _ in 0..rng.below(130) {
                at = at.wrapping_add((rng.next_u64() >> (rng.below(50) + 14)) as i64);
                let value = match rng.below(4) {
                    0 => f64::from_bits(rng.next_u64()),
                    1 => rng.below(100) as f64,
                    _ => samples.last().map_or(0.0, |(_, value): &(i64, f64)| *value),
                };
                samples.push((at, value));
            }
            let bits = |list: &[(i64, f64)]| list.iter().map(|(at, v)| (*at, v.to_bits())).collect::<Vec<_>>();
            assert_eq!(bits(&decode(&encode(&samples))), bits(&samples), "{round}");
        }
    }

    #[test]
    fn regular_samples_cost_two_bits() {
        let samples: Vec<(i64, f64)> = (0..120).map(|i| (i * 15_000, 1.0)).collect();
        assert!(encode(&samples).len() < 50);
    }
}
