//! A column of native histograms: what stays is said once, counts are differences from the histogram before.

use crate::{Damaged, times, varint};
use model::{FloatHistogram, Span};
use std::sync::Arc;

/// Buckets and spans of one histogram beyond this are damage: no scrape is allowed as many.
const BUCKETS_MAX: usize = 1 << 20;

/// Appends a column with its times; its length is not part of it.
pub fn put(samples: &[(i64, Arc<FloatHistogram>)], out: &mut Vec<u8>) {
    let at: Vec<i64> = samples.iter().map(|(at, _)| *at).collect();
    times::put(&at, out);
    put_values(samples, out);
}

/// Takes a column of `count` histograms off the front.
///
/// # Errors
/// [`Damaged`].
pub fn take(bytes: &mut &[u8], count: usize) -> Result<Vec<(i64, Arc<FloatHistogram>)>, Damaged> {
    let at = times::take(bytes, count)?;
    take_values(bytes, &at)
}

/// Appends a column without its times, which are elsewhere.
pub fn put_values(samples: &[(i64, Arc<FloatHistogram>)], out: &mut Vec<u8>) {
    let mut last = FloatHistogram::default();
    for (_, histogram) in samples {
        put_one(histogram, &last, out);
        last = (**histogram).clone();
    }
}

/// Takes a column of histograms at these times off the front.
///
/// # Errors
/// [`Damaged`].
pub fn take_values(bytes: &mut &[u8], times: &[i64]) -> Result<Vec<(i64, Arc<FloatHistogram>)>, Damaged> {
    let mut samples: Vec<(i64, Arc<FloatHistogram>)> = Vec::new();
    let mut last = Arc::default();
    for at in times {
        last = Arc::new(take_one(bytes, &last)?);
        samples.push((*at, Arc::clone(&last)));
    }
    Ok(samples)
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

const INTEGER: u8 = 1;
const GAUGE: u8 = 2;
const LAYOUT: u8 = 4;
/// The hint on counter resets: whether it is known, and what it is.
const RESET_KNOWN: u8 = 8;
const RESET: u8 = 16;

fn put_one(histogram: &FloatHistogram, last: &FloatHistogram, out: &mut Vec<u8>) {
    let layout = !same_layout(histogram, last);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let hint = flag(histogram.reset.is_some(), RESET_KNOWN) | flag(histogram.reset == Some(true), RESET);
    out.push(flag(histogram.integer, INTEGER) | flag(histogram.gauge, GAUGE) | flag(layout, LAYOUT) | hint);
    if layout {
        varint::put_signed(i64::from(histogram.schema), out);
        put_float(histogram.zero_threshold, out);
        for (spans, buckets) in
            [(&histogram.positive_spans, &histogram.positive), (&histogram.negative_spans, &histogram.negative)]
        {
            varint::put(spans.len() as u64, out);
            for span in spans {
                varint::put_signed(i64::from(span.offset), out);
                varint::put(u64::from(span.length), out);
            }
            varint::put(buckets.len() as u64, out);
        }
        varint::put(histogram.custom_bounds.len() as u64, out);
        histogram.custom_bounds.iter().for_each(|bound| put_float(*bound, out));
    }
    put_float(histogram.sum, out);
    let base = if layout { &FloatHistogram::default() } else { last };
    put_counted(histogram.zero_count, base.zero_count, out);
    put_counted(histogram.count, base.count, out);
    for (buckets, before) in [(&histogram.positive, &base.positive), (&histogram.negative, &base.negative)] {
        for (place, bucket) in buckets.iter().enumerate() {
            put_counted(*bucket, before.get(place).copied().unwrap_or_default(), out);
        }
    }
}

fn take_one(bytes: &mut &[u8], last: &FloatHistogram) -> Result<FloatHistogram, Damaged> {
    let flags = varint::take_bytes(bytes, 1)?[0];
    let (mut histogram, base) = if flags & LAYOUT == 0 {
        (last.clone(), last.clone())
    } else {
        (take_layout(bytes)?, FloatHistogram::default())
    };
    (histogram.integer, histogram.gauge) = (flags & INTEGER != 0, flags & GAUGE != 0);
    histogram.reset = (flags & RESET_KNOWN != 0).then_some(flags & RESET != 0);
    histogram.sum = take_float(bytes)?;
    histogram.zero_count = take_counted(bytes, base.zero_count)?;
    histogram.count = take_counted(bytes, base.count)?;
    for (buckets, before) in [(&mut histogram.positive, &base.positive), (&mut histogram.negative, &base.negative)] {
        for (place, bucket) in buckets.iter_mut().enumerate() {
            *bucket = take_counted(bytes, before.get(place).copied().unwrap_or_default())?;
        }
    }
    Ok(histogram)
}

fn take_layout(bytes: &mut &[u8]) -> Result<FloatHistogram, Damaged> {
    let schema = i32::try_from(varint::take_signed(bytes)?).map_err(|_| Damaged)?;
    let mut histogram = FloatHistogram { schema, zero_threshold: take_float(bytes)?, ..FloatHistogram::default() };
    for negative in [false, true] {
        let mut spans = Vec::new();
        for _ in 0..varint::take_count(bytes, BUCKETS_MAX)? {
            let offset = i32::try_from(varint::take_signed(bytes)?).map_err(|_| Damaged)?;
            let length = u32::try_from(varint::take(bytes)?).map_err(|_| Damaged)?;
            spans.push(Span { offset, length });
        }
        // A bucket has a byte at least.
        let buckets = vec![0.0; varint::take_count(bytes, bytes.len().min(BUCKETS_MAX))?];
        if negative {
            (histogram.negative_spans, histogram.negative) = (spans, buckets);
        } else {
            (histogram.positive_spans, histogram.positive) = (spans, buckets);
        }
    }
    for _ in 0..varint::take_count(bytes, BUCKETS_MAX)? {
        histogram.custom_bounds.push(take_float(bytes)?);
    }
    Ok(histogram)
}

fn put_float(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn take_float(bytes: &mut &[u8]) -> Result<f64, Damaged> {
    let bits = varint::take_bytes(bytes, 8)?.try_into().map_err(|_| Damaged)?;
    Ok(f64::from_bits(u64::from_le_bytes(bits)))
}

/// The whole number that has exactly these bits.
fn whole(value: f64) -> Option<i64> {
    let number = value as i64;
    ((number as f64).to_bits() == value.to_bits() && number.unsigned_abs() < 1 << 53).then_some(number)
}

/// A count: twice its distance from the one before, or 1 and the bits of what is not whole.
fn put_counted(value: f64, before: f64, out: &mut Vec<u8>) {
    match (whole(value), whole(before)) {
        (Some(new), Some(old)) => {
            let distance = new - old;
            varint::put(((distance << 1) ^ (distance >> 63)) as u64 * 2, out);
        }
        _ => {
            varint::put(1, out);
            put_float(value, out);
        }
    }
}

fn take_counted(bytes: &mut &[u8], before: f64) -> Result<f64, Damaged> {
    let code = varint::take(bytes)?;
    if code & 1 == 1 {
        return take_float(bytes);
    }
    let zigzag = code / 2;
    let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    Ok(whole(before).ok_or(Damaged)?.wrapping_add(distance) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    fn random(rng: &mut Rng, last: &FloatHistogram) -> FloatHistogram {
        let mut histogram = last.clone();
        if rng.chance(20) {
            let length = rng.below(20) as u32;
            histogram.schema = rng.below(13) as i32 - 4;
            histogram.positive_spans = vec![Span { offset: rng.below(100) as i32 - 50, length }];
            histogram.positive = vec![0.0; length as usize];
            histogram.custom_bounds = (0..rng.below(3)).map(|i| i as f64).collect();
        }
        histogram.integer = rng.chance(80);
        histogram.gauge = rng.chance(10);
        histogram.reset = [None, Some(true), Some(false)][rng.below(3)];
        histogram.sum =
            if rng.chance(5) { f64::from_bits(0x7ff0_0000_0000_0002) } else { rng.below(1000) as f64 / 7.0 };
        histogram.count += rng.below(100) as f64;
        for bucket in &mut histogram.positive {
            *bucket += if rng.chance(90) { rng.below(10) as f64 } else { 0.5 };
        }
        histogram
    }

    #[test]
    fn random_columns_come_back() {
        for seed in 0..500 {
            let mut rng = Rng::new(seed);
            let mut last = FloatHistogram::default();
            let samples: Vec<(i64, Arc<FloatHistogram>)> = (0..rng.below(60) as i64)
                .map(|i| {
                    last = random(&mut rng, &last);
                    (i * 15_000, Arc::new(last.clone()))
                })
                .collect();
            let mut out = Vec::new();
            put(&samples, &mut out);
            let found = take(&mut out.as_slice(), samples.len()).expect("decodes");
            assert_eq!(format!("{found:?}"), format!("{samples:?}"));
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..10_000 {
            let mut rng = Rng::new(seed);
            let length = rng.below(100);
            let bytes = rng.bytes(length);
            let count = rng.below(20);
            if let Ok(samples) = take(&mut bytes.as_slice(), count) {
                assert_eq!(samples.len(), count);
            }
        }
    }
}
