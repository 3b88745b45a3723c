//! The stream of one open chunk: samples are appended one by one, and a series that repeats itself costs no bytes.
//!
//! The first sample is 128 bits. Each later one that is not what an even course brings is: how many samples before it
//! went on evenly (same step, and same value or same difference of whole numbers), the change of the step, and the
//! value: for whole numbers the change of the difference, else the changed bits as in Gorilla (Pelkonen et al., VLDB
//! 2015). Even samples at the end are a number beside the bytes.

use crate::{
    Damaged,
    bits::{Reader, put_count, put_signed, take_count, take_signed},
};

pub use crate::bits::{Sink, Writer};

/// What the encoder must know of the samples before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// Time of the last sample.
    pub time: i64,
    /// Bits of its value.
    pub value: u64,
    step: i64,
    delta: i64,
    leading: u8,
    width: u8,
    /// Samples so far.
    pub count: u16,
    /// How many of them, at the end, went on evenly and are not in the bytes.
    pub repeats: u16,
}

impl State {
    /// The state of a new chunk of the same series: it knows the last sample and has none itself.
    pub fn next_chunk(&self) -> Self {
        Self { time: self.time, value: self.value, ..Self::default() }
    }

    /// The state as numbers, for a snapshot.
    pub fn parts(&self) -> [i64; 8] {
        let Self { time, value, step, delta, leading, width, count, repeats } = *self;
        [time, value as i64, step, delta, i64::from(leading), i64::from(width), i64::from(count), i64::from(repeats)]
    }

    /// What [`State::parts`] gave.
    ///
    /// # Errors
    /// [`Damaged`] for numbers that no state has.
    pub fn of_parts([time, value, step, delta, leading, width, count, repeats]: [i64; 8]) -> Result<Self, Damaged> {
        let small = |number: i64| u8::try_from(number).map_err(|_| Damaged);
        let short = |number: i64| u16::try_from(number).map_err(|_| Damaged);
        let (leading, width) = (small(leading)?, small(width)?);
        let (count, repeats) = (short(count)?, short(repeats)?);
        if leading > 31 || leading + width > 64 || repeats > count || (repeats == count && count > 0) {
            return Err(Damaged);
        }
        Ok(Self { time, value: value as u64, step, delta, leading, width, count, repeats })
    }
}

/// The whole number that has exactly these bits, when differences of such numbers cannot overflow.
fn whole(bits: u64) -> Option<i64> {
    let number = f64::from_bits(bits) as i64;
    ((number as f64).to_bits() == bits && number.unsigned_abs() < 1 << 53).then_some(number)
}

impl State {
    /// Appends a sample. At most 65,535 samples fit; callers seal long before.
    pub fn push(&mut self, sink: &mut impl Sink, time: i64, value: f64) {
        let bits = value.to_bits();
        if self.count == 0 {
            sink.put(time as u64, 64);
            sink.put(bits, 64);
            *self = Self { time, value: bits, count: 1, ..Self::default() };
            return;
        }
        let step = time.wrapping_sub(self.time);
        self.count += 1;
        if step == self.step && Some(bits) == self.next() {
            self.repeats += 1;
            (self.time, self.value) = (time, bits);
            return;
        }
        put_count(sink, u32::from(self.repeats));
        put_signed(sink, step.wrapping_sub(self.step));
        self.put_value(sink, bits);
        (self.time, self.step, self.value, self.repeats) = (time, step, bits, 0);
    }

    /// The bits that an even course brings next; none when it leaves the whole numbers.
    fn next(&self) -> Option<u64> {
        if self.delta == 0 {
            return Some(self.value);
        }
        let next = whole(self.value)?.checked_add(self.delta)? as f64;
        whole(next.to_bits()).map(|_| next.to_bits())
    }

    fn put_value(&mut self, sink: &mut impl Sink, bits: u64) {
        if let (Some(new), Some(old)) = (whole(bits), whole(self.value)) {
            sink.put(0, 1);
            let delta = new - old;
            put_signed(sink, delta - self.delta);
            self.delta = delta;
            return;
        }
        self.delta = 0;
        let xor = bits ^ self.value;
        if xor == 0 {
            return sink.put(0b10, 2);
        }
        let (leading, trailing) = (xor.leading_zeros().min(31) as u8, xor.trailing_zeros() as u8);
        let fits = self.width > 0 && leading >= self.leading && trailing >= 64 - self.leading - self.width;
        if fits {
            sink.put(0b110, 3);
        } else {
            self.leading = leading;
            self.width = 64 - leading - trailing;
            sink.put(0b111, 3);
            sink.put(u64::from(leading), 5);
            sink.put(u64::from(self.width) - 1, 6);
        }
        sink.put(xor >> (64 - self.leading - self.width), u32::from(self.width));
    }
}

/// Appends the samples of a stream to two columns. `count` and `repeats` are those of [`State`].
///
/// # Errors
/// [`Damaged`] when the bytes are not what such a state wrote.
pub fn decode(
    bytes: &[u8],
    count: u16,
    repeats: u16,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), Damaged> {
    let written = count.checked_sub(repeats).ok_or(Damaged)?;
    if written == 0 {
        return if count == 0 { Ok(()) } else { Err(Damaged) };
    }
    let mut reader = Reader::new(bytes);
    let mut state = State { time: reader.take(64)? as i64, value: reader.take(64)?, count: 1, ..State::default() };
    times.push(state.time);
    values.push(f64::from_bits(state.value));
    while state.count < written {
        let repeats = take_count(&mut reader)?;
        if repeats >= u32::from(written - state.count) {
            return Err(Damaged);
        }
        repeat(&mut state, repeats, times, values)?;
        state.step = state.step.wrapping_add(take_signed(&mut reader)?);
        state.time = state.time.wrapping_add(state.step);
        take_value(&mut reader, &mut state)?;
        state.count += 1;
        times.push(state.time);
        values.push(f64::from_bits(state.value));
    }
    repeat(&mut state, u32::from(repeats), times, values)
}

fn repeat(state: &mut State, repeats: u32, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Damaged> {
    for _ in 0..repeats {
        state.time = state.time.wrapping_add(state.step);
        state.value = state.next().ok_or(Damaged)?;
        state.count += 1;
        times.push(state.time);
        values.push(f64::from_bits(state.value));
    }
    Ok(())
}

fn take_value(reader: &mut Reader<'_>, state: &mut State) -> Result<(), Damaged> {
    if !reader.bit()? {
        state.delta = state.delta.wrapping_add(take_signed(reader)?);
        let number = whole(state.value).ok_or(Damaged)?.wrapping_add(state.delta);
        state.value = (number as f64).to_bits();
        return Ok(());
    }
    state.delta = 0;
    if !reader.bit()? {
        return Ok(());
    }
    if reader.bit()? {
        state.leading = reader.take(5)? as u8;
        state.width = reader.take(6)? as u8 + 1;
    }
    let shift = 64_u8.checked_sub(state.leading + state.width).filter(|_| state.width > 0).ok_or(Damaged)?;
    state.value ^= reader.take(u32::from(state.width))? << shift;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    fn encode(samples: &[(i64, f64)]) -> (Vec<u8>, State) {
        let (mut writer, mut state) = (Writer::default(), State::default());
        samples.iter().for_each(|(time, value)| state.push(&mut writer, *time, *value));
        (writer.bytes, state)
    }

    fn check(samples: &[(i64, f64)]) -> usize {
        let (bytes, state) = encode(samples);
        let (mut times, mut values) = (Vec::new(), Vec::new());
        decode(&bytes, state.count, state.repeats, &mut times, &mut values).expect("decodes");
        let found: Vec<(i64, u64)> = times.into_iter().zip(values.iter().map(|value| value.to_bits())).collect();
        let want: Vec<(i64, u64)> = samples.iter().map(|(time, value)| (*time, value.to_bits())).collect();
        assert_eq!(found, want);
        bytes.len()
    }

    fn regular(values: impl IntoIterator<Item = f64>) -> Vec<(i64, f64)> {
        (0..).map(|i| 1_700_000_000_000 + i * 15_000).zip(values).collect()
    }

    #[test]
    fn every_kind_of_series_comes_back_and_costs_what_it_should() {
        let nan = f64::from_bits(0x7ff0_0000_0000_0002);
        assert_eq!(check(&regular([1.5; 120])), 20, "a constant costs its first sample and its step");
        assert!(check(&regular((0..120).map(f64::from))) <= 22);
        assert!(check(&regular((0..120).map(|i| f64::from(i * i % 17)))) < 250);
        check(&regular((0..120).map(|i| f64::from(i) * 0.1)));
        check(&regular([0.0, -0.0, 0.0, nan, 1.0, f64::INFINITY, f64::MIN, f64::MAX, 5e-324, 9e15, 9.1e15, 1e300]));
        check(&[(i64::MIN, 1.0), (i64::MAX, 2.0), (0, 3.0)]);
        check(&[]);
        check(&[(5, f64::NAN)]);
    }

    #[test]
    fn a_stream_goes_on_after_a_restart() {
        let samples = regular((0..100).map(|i| f64::from(i * i % 13) * 0.5));
        let (bytes, whole) = encode(&samples);
        for cut in [1, 2, 17, 99] {
            let (mut writer, mut state) = (Writer::default(), State::default());
            samples[..cut].iter().for_each(|(time, value)| state.push(&mut writer, *time, *value));
            let mut state = State::of_parts(state.parts()).expect("a state");
            let mut writer = Writer::resume(writer.bytes().to_vec(), writer.used());
            samples[cut..].iter().for_each(|(time, value)| state.push(&mut writer, *time, *value));
            assert_eq!((writer.bytes(), state), (&bytes[..], whole));
        }
    }

    #[test]
    fn random_series_come_back() {
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let (mut time, mut value) = (rng.next_u64() as i64 >> 20, 0.0);
            let samples: Vec<(i64, f64)> = (0..rng.below(200))
                .map(|_| {
                    time += if rng.chance(80) { 15_000 } else { rng.below(40_000) as i64 };
                    value = match rng.below(6) {
                        0..=2 => value,
                        3 => value + rng.below(1000) as f64,
                        4 => rng.below(100_000) as f64 / 100.0,
                        _ => f64::from_bits(rng.next_u64()),
                    };
                    (time, value)
                })
                .collect();
            check(&samples);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_within_the_count() {
        for seed in 0..20_000 {
            let mut rng = Rng::new(seed);
            let length = rng.below(60);
            let bytes = rng.bytes(length);
            let (mut times, mut values) = (Vec::new(), Vec::new());
            let (count, repeats) = (rng.below(200) as u16, rng.below(50) as u16);
            let _ = decode(&bytes, count, repeats, &mut times, &mut values);
            assert!(times.len() <= usize::from(count) && times.len() == values.len());
        }
    }
}
