//! A commit as a record of the log: the series it needs that no record before has named, and its samples.

use crate::disk_format::{pack, put_labels, take_labels, unpack};
use chunk::{Damaged, histograms, varint};
use model::{FloatHistogram, Labels};
use std::sync::Arc;

/// Level of zstd for records: fast, and twice as small as plain.
const LEVEL: i32 = 1;
/// Bytes of a record unpacked at most.
const RECORD_MAX: usize = 1 << 30;
/// Items of a record at most; each has a byte at least.
const ITEMS_MAX: usize = 1 << 28;

/// What one sample holds.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Entry {
    /// Whether both are the same bits, which makes a repeated append harmless.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => a == b,
            _ => false,
        }
    }
}

/// One sample of one series.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) series: u64,
    pub(crate) at: i64,
    pub(crate) start: Option<i64>,
    pub(crate) entry: Entry,
}

const WHOLE: u8 = 0;
const BITS: u8 = 1;
const HISTOGRAM: u8 = 2;
const STARTED: u8 = 4;

/// Writes a record.
pub(crate) fn put<'a>(series: impl ExactSizeIterator<Item = (u64, &'a Labels)>, samples: &[Sample], out: &mut Vec<u8>) {
    let mut plain = Vec::new();
    varint::put(series.len() as u64, &mut plain);
    for (id, labels) in series {
        varint::put(id, &mut plain);
        put_labels(labels, &mut plain);
    }
    varint::put(samples.len() as u64, &mut plain);
    let (mut id, mut at) = (0_u64, 0_i64);
    for sample in samples {
        varint::put_signed(sample.series.wrapping_sub(id) as i64, &mut plain);
        varint::put_signed(sample.at.wrapping_sub(at), &mut plain);
        (id, at) = (sample.series, sample.at);
        put_entry(sample, &mut plain);
    }
    pack(&plain, LEVEL, out);
}

fn put_entry(sample: &Sample, out: &mut Vec<u8>) {
    let started = if sample.start.is_some() { STARTED } else { 0 };
    match &sample.entry {
        Entry::Float(value) => {
            let whole = *value as i64;
            if (whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < 1 << 42 {
                out.push(WHOLE | started);
                varint::put_signed(whole, out);
            } else {
                out.push(BITS | started);
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        }
        Entry::Histogram(histogram) => {
            out.push(HISTOGRAM | started);
            histograms::put(&[(sample.at, Arc::clone(histogram))], out);
        }
    }
    if let Some(start) = sample.start {
        varint::put_signed(sample.at.wrapping_sub(start), out);
    }
}

/// Reads a record: first every series, then every sample, to one receiver.
pub(crate) fn take(mut bytes: &[u8], receiver: &mut impl Receiver) -> Result<(), Damaged> {
    unpack(&mut bytes, RECORD_MAX, |mut plain| {
        let bytes = &mut plain;
        for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
            let id = varint::take(bytes)?;
            receiver.series(id, take_labels(bytes)?);
        }
        let (mut id, mut at) = (0_u64, 0_i64);
        for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
            id = id.wrapping_add(varint::take_signed(bytes)? as u64);
            at = at.wrapping_add(varint::take_signed(bytes)?);
            let (entry, start) = take_entry(bytes, at)?;
            receiver.sample(Sample { series: id, at, start, entry });
        }
        Ok(())
    })
}

/// Who reads a record.
pub(crate) trait Receiver {
    fn series(&mut self, id: u64, labels: Labels);
    fn sample(&mut self, sample: Sample);
}

fn take_entry(bytes: &mut &[u8], at: i64) -> Result<(Entry, Option<i64>), Damaged> {
    let tag = varint::take_bytes(bytes, 1)?[0];
    let entry = match tag & !STARTED {
        WHOLE => Entry::Float(varint::take_signed(bytes)? as f64),
        BITS => {
            let bits = varint::take_bytes(bytes, 8)?.try_into().map_err(|_| Damaged)?;
            Entry::Float(f64::from_bits(u64::from_le_bytes(bits)))
        }
        HISTOGRAM => Entry::Histogram(histograms::take(bytes, 1)?.pop().ok_or(Damaged)?.1),
        _ => return Err(Damaged),
    };
    let start = if tag & STARTED == 0 { None } else { Some(at.wrapping_sub(varint::take_signed(bytes)?)) };
    Ok((entry, start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    #[derive(Default, Debug)]
    struct Found(Vec<(u64, Labels)>, Vec<Sample>);

    impl Receiver for Found {
        fn series(&mut self, id: u64, labels: Labels) {
            self.0.push((id, labels));
        }
        fn sample(&mut self, sample: Sample) {
            self.1.push(sample);
        }
    }

    #[test]
    fn records_come_back_and_damaged_ones_are_refused() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let series: Vec<(u64, Labels)> = (0..rng.below(20))
                .map(|i| (rng.next_u64(), Labels::from_pairs([("__name__", "é"), ("i", &i.to_string())])))
                .collect();
            let samples: Vec<Sample> = (0..rng.below(100))
                .map(|_| Sample {
                    series: rng.next_u64() >> rng.below(60),
                    at: rng.next_u64() as i64 >> 20,
                    start: rng.chance(10).then_some(5),
                    entry: match rng.below(3) {
                        0 => Entry::Float(rng.below(1000) as f64),
                        1 => Entry::Float(f64::from_bits(rng.next_u64())),
                        _ => Entry::Histogram(Arc::default()),
                    },
                })
                .collect();
            let mut out = Vec::new();
            put(series.iter().map(|(id, labels)| (*id, labels)), &samples, &mut out);
            let mut found = Found::default();
            take(&out, &mut found).expect("reads");
            assert_eq!(format!("{found:?}"), format!("{:?}", Found(series, samples)));
            let place = rng.below(out.len());
            out[place] ^= 1 << rng.below(8);
            let _ = take(&out, &mut Found::default());
            let _ = take(&out[..place], &mut Found::default());
        }
    }
}
