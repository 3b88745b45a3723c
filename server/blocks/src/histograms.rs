//! Upstream's chunks of native histograms: whole numbers (encoding 2) and floats (encoding 3).
//!
//! Source: upstream's format page of chunks and `tsdb/chunkenc`. All histograms of a chunk have one layout; one that has
//! another, or comes after a reset, begins a new chunk.

use crate::{
    bits::{Reader, Writer, Xor},
    chunks::Samples,
};
use chunk::Damaged;
use model::{FloatHistogram, Span, is_stale};
use std::sync::Arc;

/// Buckets, spans and bounds of a histogram beyond this are damage.
const BUCKETS_MAX: u64 = 1 << 20;
/// The schema of histograms with bounds of their own.
const CUSTOM: i32 = -53;
/// What the header says of resets.
const RESET: u8 = 0x80;
const NO_RESET: u8 = 0x40;
const GAUGE: u8 = 0xc0;

/// A histogram as a sample.
pub(crate) type Sample = (i64, Arc<FloatHistogram>);

/// How many samples from the first on go into one chunk.
pub(crate) fn run(samples: &[Sample], max: usize) -> usize {
    let mut length = 1;
    while let (Some((_, before)), Some((_, now))) = (samples.get(length - 1), samples.get(length))
        && length < max
    {
        let layout = same_layout(before, now) || is_stale(now.sum);
        let goes_on = now.gauge || now.reset == Some(false) || is_stale(now.sum);
        let same_kind = before.gauge == now.gauge && before.integer == now.integer;
        if is_stale(before.sum) || !layout || !goes_on || !same_kind {
            break;
        }
        length += 1;
    }
    length.min(samples.len())
}

fn same_layout(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let bits = |bounds: &[f64]| bounds.iter().map(|bound| bound.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive.len() == b.positive.len()
        && a.negative.len() == b.negative.len()
        && bits(&a.custom_bounds) == bits(&b.custom_bounds)
}

/// Writes the chunk of a [`run`], without length and checksum: whether it is one of whole numbers, and its bytes.
pub(crate) fn put(samples: &[Sample]) -> (bool, Vec<u8>) {
    let Some((_, first)) = samples.first() else { return (true, vec![0; 3]) };
    let mut writer = Writer::default();
    writer.put(samples.len() as u64, 16);
    let flags = match first.reset {
        _ if first.gauge => GAUGE,
        Some(true) => RESET,
        Some(false) => NO_RESET,
        None => 0,
    };
    writer.put(u64::from(flags), 8);
    put_layout(first, &mut writer);
    if first.integer {
        put_wholes(samples, &mut writer)
    } else {
        put_floats(samples, &mut writer)
    }
    (first.integer, writer.bytes)
}

fn put_layout(histogram: &FloatHistogram, writer: &mut Writer) {
    let threshold = histogram.zero_threshold;
    // Powers of two that fit are one byte.
    let power = (1..=254).find(|byte| f64::from(*byte - 244).exp2() == threshold);
    match power {
        _ if threshold == 0.0 => writer.put(0, 8),
        Some(byte) => writer.put(byte as u64, 8),
        None => {
            writer.put(255, 8);
            writer.put(threshold.to_bits(), 64);
        }
    }
    writer.varbit_int(i64::from(histogram.schema));
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        writer.varbit_uint(spans.len() as u64);
        for span in spans {
            writer.varbit_uint(u64::from(span.length));
            writer.varbit_int(i64::from(span.offset));
        }
    }
    if histogram.schema == CUSTOM {
        writer.varbit_uint(histogram.custom_bounds.len() as u64);
        for bound in &histogram.custom_bounds {
            let thousandths = bound * 1000.0;
            if (0.0..=33_554_430.0).contains(&thousandths)
                && thousandths.fract() == 0.0
                && thousandths / 1000.0 == *bound
            {
                writer.varbit_uint(thousandths as u64 + 1);
            } else {
                writer.put(0, 1);
                writer.put(bound.to_bits(), 64);
            }
        }
    }
}

/// A number that is written as itself, then as its difference, then as the change of that.
#[derive(Clone, Copy, Default)]
struct Course {
    value: i64,
    step: i64,
}

impl Course {
    fn change(&mut self, value: i64, place: usize) -> i64 {
        let step = value.wrapping_sub(self.value);
        let change = match place {
            0 => value,
            1 => step,
            _ => step.wrapping_sub(self.step),
        };
        *self = Self { value, step: if place == 0 { 0 } else { step } };
        change
    }

    fn follow(&mut self, change: i64, place: usize) -> i64 {
        if place == 0 {
            self.value = change;
        } else {
            self.step = self.step.wrapping_add(change);
            self.value = self.value.wrapping_add(self.step);
        }
        self.value
    }
}

/// Counts of buckets as differences from the bucket before.
fn distances(buckets: &[f64]) -> impl Iterator<Item = i64> {
    buckets.iter().scan(0, |last, bucket| {
        let distance = *bucket as i64 - *last;
        *last = *bucket as i64;
        Some(distance)
    })
}

fn put_wholes(samples: &[Sample], writer: &mut Writer) {
    let (mut time, mut count, mut zero, mut sum) =
        (Course::default(), Course::default(), Course::default(), Xor::default());
    let mut buckets: Vec<Course> = Vec::new();
    for (place, (at, histogram)) in samples.iter().enumerate() {
        writer.varbit_int(time.change(*at, place));
        for (course, number) in [(&mut count, histogram.count), (&mut zero, histogram.zero_count)] {
            let change = course.change(number as i64, place);
            if place == 0 { writer.varbit_uint(change as u64) } else { writer.varbit_int(change) }
        }
        if place == 0 {
            writer.put(histogram.sum.to_bits(), 64);
            sum = Xor::new(histogram.sum);
        } else {
            sum.put(histogram.sum, writer);
        }
        if is_stale(histogram.sum) {
            continue;
        }
        let numbers: Vec<i64> = distances(&histogram.positive).chain(distances(&histogram.negative)).collect();
        buckets.resize(numbers.len(), Course::default());
        for (course, number) in buckets.iter_mut().zip(numbers) {
            writer.varbit_int(course.change(number, place));
        }
    }
}

fn put_floats(samples: &[Sample], writer: &mut Writer) {
    let mut time = Course::default();
    let mut columns: Vec<Xor> = Vec::new();
    for (place, (at, histogram)) in samples.iter().enumerate() {
        writer.varbit_int(time.change(*at, place));
        let mut numbers = vec![histogram.count, histogram.zero_count, histogram.sum];
        if !is_stale(histogram.sum) {
            numbers.extend(histogram.positive.iter().chain(&histogram.negative));
        }
        if place == 0 {
            numbers.iter().for_each(|number| writer.put(number.to_bits(), 64));
            columns = numbers.into_iter().map(Xor::new).collect();
        } else {
            columns.iter_mut().zip(numbers).for_each(|(column, number)| column.put(number, writer));
        }
    }
}

/// Appends the samples of a chunk.
pub(crate) fn take(bytes: &[u8], integer: bool, out: &mut Samples) -> Result<(), Damaged> {
    let mut reader = Reader::new(bytes);
    let (count, flags) = (reader.take(16)? as usize, reader.take(8)? as u8 & GAUGE);
    if count == 0 {
        return Ok(());
    }
    let mut layout = take_layout(&mut reader)?;
    layout.integer = integer;
    layout.gauge = flags == GAUGE;
    let mut state = State::default();
    for place in 0..count {
        let mut histogram = layout.clone();
        let at = if integer {
            state.take_whole(place, &mut histogram, &mut reader)?
        } else {
            state.take_float(place, &mut histogram, &mut reader)?
        };
        if is_stale(histogram.sum) {
            histogram =
                FloatHistogram { sum: histogram.sum, integer, gauge: layout.gauge, ..FloatHistogram::default() };
        }
        histogram.reset = match place {
            _ if layout.gauge => None,
            0 => (flags == RESET).then_some(true),
            _ => Some(false),
        };
        out.histograms.push((at, Arc::new(histogram)));
    }
    Ok(())
}

fn take_layout(reader: &mut Reader<'_>) -> Result<FloatHistogram, Damaged> {
    let zero_threshold = match reader.take(8)? {
        0 => 0.0,
        255 => reader.float()?,
        byte => (byte as f64 - 244.0).exp2(),
    };
    let schema = i32::try_from(reader.varbit_int()?).map_err(|_| Damaged)?;
    let mut histogram = FloatHistogram { schema, zero_threshold, ..FloatHistogram::default() };
    for negative in [false, true] {
        let (mut spans, mut buckets) = (Vec::new(), 0);
        for _ in 0..bounded(reader.varbit_uint()?)? {
            let length = u32::try_from(reader.varbit_uint()?).map_err(|_| Damaged)?;
            let offset = i32::try_from(reader.varbit_int()?).map_err(|_| Damaged)?;
            buckets = bounded(buckets + u64::from(length))?;
            spans.push(Span { offset, length });
        }
        let buckets = vec![0.0; buckets as usize];
        if negative {
            (histogram.negative_spans, histogram.negative) = (spans, buckets);
        } else {
            (histogram.positive_spans, histogram.positive) = (spans, buckets);
        }
    }
    if schema == CUSTOM {
        for _ in 0..bounded(reader.varbit_uint()?)? {
            histogram.custom_bounds.push(match reader.varbit_uint()? {
                0 => reader.float()?,
                code => (code - 1) as f64 / 1000.0,
            });
        }
    }
    Ok(histogram)
}

fn bounded(count: u64) -> Result<u64, Damaged> {
    if count <= BUCKETS_MAX { Ok(count) } else { Err(Damaged) }
}

/// What a decoder knows of the samples before.
#[derive(Default)]
struct State {
    time: Course,
    count: Course,
    zero: Course,
    sum: Xor,
    buckets: Vec<Course>,
    floats: Vec<Xor>,
}

impl State {
    fn take_whole(&mut self, place: usize, to: &mut FloatHistogram, reader: &mut Reader<'_>) -> Result<i64, Damaged> {
        let at = self.time.follow(reader.varbit_int()?, place);
        for (course, count) in [(&mut self.count, &mut to.count), (&mut self.zero, &mut to.zero_count)] {
            let change = if place == 0 { reader.varbit_uint()? as i64 } else { reader.varbit_int()? };
            *count = course.follow(change, place) as u64 as f64;
        }
        if place == 0 {
            self.sum = Xor::new(reader.float()?);
        } else {
            self.sum.take(reader)?;
        }
        to.sum = self.sum.value();
        if is_stale(to.sum) {
            return Ok(at);
        }
        self.buckets.resize(to.positive.len() + to.negative.len(), Course::default());
        let mut courses = self.buckets.iter_mut();
        for buckets in [&mut to.positive, &mut to.negative] {
            let mut last = 0_i64;
            for (bucket, course) in buckets.iter_mut().zip(courses.by_ref()) {
                last = last.wrapping_add(course.follow(reader.varbit_int()?, place));
                *bucket = last as f64;
            }
        }
        Ok(at)
    }

    fn take_float(&mut self, place: usize, to: &mut FloatHistogram, reader: &mut Reader<'_>) -> Result<i64, Damaged> {
        let at = self.time.follow(reader.varbit_int()?, place);
        self.floats.resize(3 + to.positive.len() + to.negative.len(), Xor::default());
        let (head, buckets) = self.floats.split_at_mut(3);
        let take = |column: &mut Xor, number: &mut f64, reader: &mut Reader<'_>| {
            if place == 0 {
                *column = Xor::new(reader.float()?);
            } else {
                column.take(reader)?;
            }
            *number = column.value();
            Ok::<(), Damaged>(())
        };
        for (column, number) in head.iter_mut().zip([&mut to.count, &mut to.zero_count, &mut to.sum]) {
            take(column, number, reader)?;
        }
        if !is_stale(to.sum) {
            for (column, number) in buckets.iter_mut().zip(to.positive.iter_mut().chain(&mut to.negative)) {
                take(column, number, reader)?;
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    fn random(rng: &mut Rng, last: &FloatHistogram, integer: bool) -> FloatHistogram {
        let mut histogram = last.clone();
        histogram.reset = Some(false);
        histogram.integer = integer;
        if rng.chance(10) || histogram.positive.is_empty() {
            let (a, b) = (1 + rng.below(6) as u32, rng.below(4) as u32);
            histogram = FloatHistogram {
                schema: [0, 3, -4, CUSTOM][rng.below(4)],
                integer,
                zero_threshold: [0.0, 0.001, 1.0, 2.0_f64.powi(-128)][rng.below(4)],
                positive_spans: vec![
                    Span { offset: rng.below(50) as i32 - 25, length: a },
                    Span { offset: 2, length: b },
                ],
                positive: vec![1.0; (a + b) as usize],
                reset: [None, Some(true)][rng.below(2)],
                ..FloatHistogram::default()
            };
            if histogram.schema == CUSTOM {
                histogram.custom_bounds = vec![0.005, 1.0 / 3.0, 10.0, 1e9];
            } else {
                histogram.negative_spans = vec![Span { offset: 1, length: 2 }];
                histogram.negative = vec![0.0, 4.0];
            }
        }
        let fraction = if integer { 0.0 } else { 0.25 };
        histogram.sum = rng.below(1000) as f64 / 7.0;
        histogram.count += rng.below(100) as f64 + fraction;
        histogram.zero_count += rng.below(3) as f64;
        for bucket in histogram.positive.iter_mut().chain(&mut histogram.negative) {
            *bucket += rng.below(10) as f64 + fraction;
        }
        histogram
    }

    #[test]
    fn random_chunks_come_back() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut last = FloatHistogram::default();
            let samples: Vec<Sample> = (0..1 + rng.below(80) as i64)
                .map(|place| {
                    last = random(&mut rng, &last, seed % 2 == 0);
                    if rng.chance(3) {
                        let sum = f64::from_bits(0x7ff0_0000_0000_0002);
                        let integer = last.integer;
                        let stale = FloatHistogram { sum, integer, reset: Some(false), ..FloatHistogram::default() };
                        last = FloatHistogram::default();
                        return (place * 15_000, Arc::new(stale));
                    }
                    (place * 15_000, Arc::new(last.clone()))
                })
                .collect();
            let (mut found, mut rest) = (Samples::default(), samples.as_slice());
            while !rest.is_empty() {
                let length = run(rest, 50);
                let (integer, bytes) = put(&rest[..length]);
                take(&bytes, integer, &mut found).expect("decodes");
                rest = &rest[length..];
            }
            let text = |samples: &[Sample]| {
                let plain = samples.iter().map(|(at, one)| (*at, FloatHistogram { reset: None, ..(**one).clone() }));
                plain.map(|one| format!("{one:?}")).collect::<Vec<_>>()
            };
            assert_eq!(text(&found.histograms), text(&samples), "seed {seed}");
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..10_000 {
            let mut rng = Rng::new(seed);
            let length = rng.below(90);
            let mut bytes = rng.bytes(length);
            bytes.iter_mut().take(1).for_each(|byte| *byte = 0);
            let _ = take(&bytes, seed % 2 == 0, &mut Samples::default());
        }
    }
}
