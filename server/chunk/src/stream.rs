//! The stream of one open chunk: samples are appended one by one, and a series that goes on evenly costs no bytes.
//!
//! An even course has the same step of time and the same value, or the same difference of whole numbers. As long as all
//! samples of a chunk lie on one, nothing is written: the state tells them all. The first sample that breaks it writes
//! the header (first time and value, step, difference); every break is then how many samples before it went on evenly,
//! the change of the step, and the value: for whole numbers the change of the difference, else the changed bits as in
//! Gorilla (Pelkonen et al., VLDB 2015). Even samples at the end are a number beside the bytes. Layout:
//! `docs/format/head.md`.

use crate::{
    Damaged,
    bits::{Gather, Reader, put_count, put_signed, take_count, take_signed},
};

pub use crate::bits::{Sink, Writer};

/// Times that the short form of a header holds, in milliseconds: to the year 2527.
const SHORT_TIME_BITS: u32 = 44;

/// What the encoder must know of the samples before; 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// Time of the last sample.
    pub time: i64,
    /// Bits of its value.
    pub value: u64,
    step: i32,
    delta: i32,
    /// Samples so far.
    pub count: u16,
    /// How many of them, at the end, went on evenly and are not in the bytes.
    pub repeats: u16,
    leading: u8,
    width: u8,
    /// Whether the header was written.
    begun: bool,
}

impl State {
    /// The state of a new chunk of the same series: it knows the last sample and has none itself.
    pub fn next_chunk(&self) -> Self {
        Self { time: self.time, value: self.value, ..Self::default() }
    }

    /// The state as numbers, for a snapshot.
    pub fn parts(&self) -> [i64; 9] {
        let Self { time, value, step, delta, leading, width, count, repeats, begun } = *self;
        let small = [leading.into(), width.into(), count.into(), repeats.into(), begun.into()];
        [time, value as i64, step.into(), delta.into(), small[0], small[1], small[2], small[3], small[4]]
    }

    /// What [`State::parts`] gave.
    ///
    /// # Errors
    /// [`Damaged`] for numbers that no state has.
    pub fn of_parts(
        [time, value, step, delta, leading, width, count, repeats, begun]: [i64; 9],
    ) -> Result<Self, Damaged> {
        let small = |number: i64| u8::try_from(number).map_err(|_| Damaged);
        let short = |number: i64| u16::try_from(number).map_err(|_| Damaged);
        let int = |number: i64| i32::try_from(number).map_err(|_| Damaged);
        let (leading, width, begun) = (small(leading)?, small(width)?, small(begun)? != 0);
        let (count, repeats) = (short(count)?, short(repeats)?);
        if leading > 31 || leading.saturating_add(width) > 64 || repeats > count || (repeats == count && count > 0) {
            return Err(Damaged);
        }
        if !begun && count > 0 && repeats != count - 1 {
            return Err(Damaged);
        }
        Ok(Self {
            time,
            value: value as u64,
            step: int(step)?,
            delta: int(delta)?,
            leading,
            width,
            count,
            repeats,
            begun,
        })
    }
}

/// The whole number that has exactly these bits, when differences of such numbers cannot overflow.
fn whole(bits: u64) -> Option<i64> {
    let number = f64::from_bits(bits) as i64;
    ((number as f64).to_bits() == bits && number.unsigned_abs() < 1 << 53).then_some(number)
}

/// The difference of two whole numbers that fits the state.
fn difference(new: u64, old: u64) -> Option<i32> {
    i32::try_from(whole(new)? - whole(old)?).ok()
}

impl State {
    /// Appends a sample; false when it does not fit and the chunk must be sealed first, which is never so of the first
    /// sample of a chunk. At most 65,535 samples fit; callers seal long before.
    pub fn push(&mut self, sink: &mut impl Sink, time: i64, value: f64) -> bool {
        let bits = value.to_bits();
        if self.count == 0 {
            *self = Self { time, value: bits, count: 1, ..Self::default() };
            return true;
        }
        let Some(step) = time.checked_sub(self.time).and_then(|step| i32::try_from(step).ok()) else { return false };
        if self.count == 1 {
            // The second sample says what the course is.
            self.step = step;
            self.delta = difference(bits, self.value).unwrap_or_default();
        }
        self.count += 1;
        if step == self.step && Some(bits) == self.next() {
            self.repeats += 1;
            (self.time, self.value) = (time, bits);
            return true;
        }
        let mut sink = Gather::new(sink);
        self.begin(&mut sink);
        put_count(&mut sink, u32::from(self.repeats));
        put_signed(&mut sink, i64::from(step) - i64::from(self.step));
        self.put_value(&mut sink, bits);
        (self.time, self.step, self.value, self.repeats) = (time, step, bits, 0);
        sink.finish();
        true
    }

    /// Writes the header if it was not: after this the bytes alone, with `count` and `repeats`, tell all samples.
    pub fn begin(&mut self, sink: &mut impl Sink) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let (before, evenly) = (i64::from(self.repeats), whole(self.value).filter(|_| self.delta != 0));
        let time = self.time.wrapping_sub(i64::from(self.step) * before);
        if (0..1 << SHORT_TIME_BITS).contains(&time) {
            sink.put(time as u64, SHORT_TIME_BITS + 1);
        } else {
            sink.put(1, 1);
            sink.put(time as u64, 64);
        }
        let first = evenly.map_or(self.value, |last| ((last - i64::from(self.delta) * before) as f64).to_bits());
        match whole(first) {
            Some(number) => {
                sink.put(0, 1);
                put_signed(sink, number);
            }
            None => {
                sink.put(1, 1);
                sink.put(first, 64);
            }
        }
        put_signed(sink, i64::from(self.step));
        put_signed(sink, i64::from(self.delta));
    }

    /// Whether all samples lie on one course, so that there are no bytes.
    pub fn is_even(&self) -> bool {
        !self.begun
    }

    /// Time of the first sample of the chunk, whose bytes are given as far as they hold the header: 9 of them do.
    pub fn first_time(&self, bytes: &[u8]) -> Option<i64> {
        if !self.begun {
            return Some(self.time.wrapping_sub(i64::from(self.step) * i64::from(self.repeats)));
        }
        take_time(&mut Reader::new(bytes)).ok()
    }

    /// The bits that an even course brings next; none when it leaves the whole numbers.
    fn next(&self) -> Option<u64> {
        if self.delta == 0 {
            return Some(self.value);
        }
        let next = whole(self.value)?.checked_add(i64::from(self.delta))? as f64;
        whole(next.to_bits()).map(|_| next.to_bits())
    }

    fn put_value(&mut self, sink: &mut impl Sink, bits: u64) {
        if let Some(delta) = difference(bits, self.value) {
            sink.put(0, 1);
            put_signed(sink, i64::from(delta) - i64::from(self.delta));
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

fn take_time(reader: &mut Reader<'_>) -> Result<i64, Damaged> {
    Ok(if reader.bit()? { reader.take(64)? } else { reader.take(SHORT_TIME_BITS)? } as i64)
}

/// Appends the samples of a stream with its header to two columns. `count` and `repeats` are those of [`State`].
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
    let mut state = State { time: take_time(&mut reader)?, count: 1, ..State::default() };
    state.value = if reader.bit()? { reader.take(64)? } else { (take_signed(&mut reader)? as f64).to_bits() };
    state.step = i32::try_from(take_signed(&mut reader)?).map_err(|_| Damaged)?;
    state.delta = i32::try_from(take_signed(&mut reader)?).map_err(|_| Damaged)?;
    times.push(state.time);
    values.push(f64::from_bits(state.value));
    while state.count < written {
        let repeats = take_count(&mut reader)?;
        if repeats >= u32::from(written - state.count) {
            return Err(Damaged);
        }
        repeat(&mut state, repeats, times, values)?;
        let step = i64::from(state.step).checked_add(take_signed(&mut reader)?).ok_or(Damaged)?;
        state.step = i32::try_from(step).map_err(|_| Damaged)?;
        state.time = state.time.wrapping_add(step);
        take_value(&mut reader, &mut state)?;
        state.count += 1;
        times.push(state.time);
        values.push(f64::from_bits(state.value));
    }
    repeat(&mut state, u32::from(repeats), times, values)
}

fn repeat(state: &mut State, repeats: u32, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Damaged> {
    for _ in 0..repeats {
        state.time = state.time.wrapping_add(i64::from(state.step));
        state.value = state.next().ok_or(Damaged)?;
        state.count += 1;
        times.push(state.time);
        values.push(f64::from_bits(state.value));
    }
    Ok(())
}

fn take_value(reader: &mut Reader<'_>, state: &mut State) -> Result<(), Damaged> {
    if !reader.bit()? {
        let delta = i64::from(state.delta).checked_add(take_signed(reader)?).ok_or(Damaged)?;
        state.delta = i32::try_from(delta).map_err(|_| Damaged)?;
        state.value = ((whole(state.value).ok_or(Damaged)? + delta) as f64).to_bits();
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
        samples.iter().for_each(|(time, value)| assert!(state.push(&mut writer, *time, *value)));
        if let Some((first, _)) = samples.first() {
            assert_eq!(state.first_time(&writer.bytes[..writer.bytes.len().min(9)]), Some(*first));
            state.begin(&mut writer);
            assert_eq!(state.first_time(&writer.bytes[..writer.bytes.len().min(9)]), Some(*first));
        }
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
        assert_eq!(check(&regular([1.5; 120])), 18, "a constant costs its first sample and its step");
        assert_eq!(check(&regular((0..120).map(f64::from))), 11);
        assert!(check(&regular((0..120).map(|i| f64::from(i * i % 17)))) < 250);
        check(&regular((0..120).map(|i| f64::from(i) * 0.1)));
        check(&regular([0.0, -0.0, 0.0, nan, 1.0, f64::INFINITY, f64::MIN, f64::MAX, 5e-324, 9e15, 9.1e15, 1e300]));
        check(&[(i64::MIN, 1.0), (i64::MIN + 5, 2.0), (i64::MIN + 9, 3.0)]);
        check(&[(-1, 1e15), (0, -1e15), (i64::from(i32::MAX), 5.0)]);
        check(&[]);
        check(&[(5, f64::NAN)]);
    }

    #[test]
    fn a_stream_goes_on_after_a_restart() {
        let samples = regular((0..100).map(|i| f64::from(i * i % 13) * 0.5));
        let (bytes, whole) = encode(&samples);
        for cut in [1, 2, 17, 99] {
            let (mut writer, mut state) = (Writer::default(), State::default());
            samples[..cut].iter().for_each(|(time, value)| assert!(state.push(&mut writer, *time, *value)));
            let mut state = State::of_parts(state.parts()).expect("a state");
            let mut writer = Writer::resume(writer.bytes().to_vec(), writer.used());
            samples[cut..].iter().for_each(|(time, value)| assert!(state.push(&mut writer, *time, *value)));
            assert_eq!((writer.bytes(), state), (&bytes[..], whole));
        }
    }

    #[test]
    fn a_course_that_stays_even_writes_nothing() {
        let (mut writer, mut state) = (Writer::default(), State::default());
        for (time, value) in regular((0..100).map(|i| f64::from(i * 7))) {
            assert!(state.push(&mut writer, time, value));
        }
        assert!(writer.bytes().is_empty());
        assert!(!state.push(&mut writer, state.time + (1 << 31), 0.0), "a step of 25 days does not fit");
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
