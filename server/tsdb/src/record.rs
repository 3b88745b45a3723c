//! A commit as a record of the log, in sections: series that it names, floats as a row, and whatever else came.
//!
//! A row is the floats of a scrape: which of them changed, and by how much from the last value of their series. The first
//! row of a series in a segment of the log has its values in full, and every other row a checksum over the values that
//! it builds on: when records before it are missing, a row is refused and never wrong. Layout: `docs/format/head.md`.

use crate::disk_format::{pack, put_labels, put_plain, put_text, take_labels, take_text, unpack};
use chunk::{Damaged, histograms, varint};
use model::{Exemplar, FloatHistogram, Labels, Metadata, MetricType, Timestamp};
use std::sync::Arc;

/// Level of zstd for records with texts: fast, and a third of plain. Rows are not packed: they would lose a tenth of
/// their bytes for as much time as all else that happens to them.
const LEVEL: i32 = 1;
/// Bytes of a record unpacked at most.
const RECORD_MAX: usize = 1 << 30;
/// Items of a record at most; each has a bit at least.
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

/// One float of one series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Float {
    pub(crate) series: u64,
    pub(crate) at: i64,
    pub(crate) value: f64,
}

/// All that a commit brings but the names of its series.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Those of one series follow each other.
    pub(crate) floats: Vec<Float>,
    /// In the order of their times behind the floats of their series.
    pub(crate) others: Vec<Sample>,
    pub(crate) late: Vec<Sample>,
    pub(crate) exemplars: Vec<(u64, Exemplar)>,
    pub(crate) metadata: Vec<(u64, Metadata)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        let samples = self.floats.is_empty() && self.others.is_empty() && self.late.is_empty();
        samples && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.floats.clear();
        self.others.clear();
        self.late.clear();
        self.exemplars.clear();
        self.metadata.clear();
    }
}

const SERIES: u8 = 1;
const ROW: u8 = 2;
const SAMPLES: u8 = 3;
const LATE: u8 = 4;
const EXEMPLARS: u8 = 5;
const METADATA: u8 = 6;

/// A row with its values in full.
const KEY: u8 = 1;
/// A row whose samples have times of their own.
const TIMES: u8 = 2;

const WHOLE: u8 = 0;
const BITS: u8 = 1;
const HISTOGRAM: u8 = 2;
const STARTED: u8 = 4;

/// Writes a record into `out`; `plain` is scratch. `bases` are the bits of the last float of the series of each float;
/// without them the row has its values in full.
pub(crate) fn put(
    series: &[(u64, Labels)],
    batch: &Batch,
    bases: Option<&[u64]>,
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    plain.clear();
    if !series.is_empty() {
        plain.push(SERIES);
        varint::put(series.len() as u64, plain);
        let mut last = 0;
        for (id, labels) in series {
            put_id(*id, &mut last, plain);
            put_labels(labels, plain);
        }
    }
    if !batch.floats.is_empty() {
        put_row(&batch.floats, bases, plain);
    }
    put_samples(SAMPLES, &batch.others, plain);
    put_samples(LATE, &batch.late, plain);
    put_texts(batch, plain);
    if series.is_empty() && batch.others.is_empty() && batch.metadata.is_empty() {
        put_plain(plain, out);
    } else {
        pack(plain, LEVEL, out);
    }
}

fn put_id(id: u64, last: &mut u64, out: &mut Vec<u8>) {
    varint::put_signed(id.wrapping_sub(*last) as i64, out);
    *last = id;
}

fn take_id(bytes: &mut &[u8], last: &mut u64) -> Result<u64, Damaged> {
    *last = last.wrapping_add(varint::take_signed(bytes)? as u64);
    Ok(*last)
}

/// Folds a value that a row builds on into its checksum.
fn fold(sum: u64, bits: u64) -> u64 {
    (sum ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn whole(bits: u64) -> Option<i64> {
    let number = f64::from_bits(bits) as i64;
    ((number as f64).to_bits() == bits && number.unsigned_abs() < 1 << 53).then_some(number)
}

fn put_row(floats: &[Float], bases: Option<&[u64]>, out: &mut Vec<u8>) {
    let first = floats[0].at;
    let times = floats.iter().any(|float| float.at != first);
    out.push(ROW);
    out.push(if bases.is_none() { KEY } else { 0 } | if times { TIMES } else { 0 });
    varint::put(floats.len() as u64, out);
    put_runs(floats, out);
    varint::put_signed(first, out);
    if times {
        let mut last = first;
        for float in floats {
            varint::put_signed(float.at.wrapping_sub(last), out);
            last = float.at;
        }
    }
    let check = out.len();
    let map = check + if bases.is_some() { 4 } else { 0 };
    out.resize(map + floats.len().div_ceil(8), 0);
    let (mut sum, mut last) = (0, None);
    for (place, float) in floats.iter().enumerate() {
        let before = match last {
            Some((series, bits)) if series == float.series => bits,
            _ => bases.map_or(0, |bases| bases[place]),
        };
        let bits = float.value.to_bits();
        sum = fold(sum, before);
        last = Some((float.series, bits));
        if bits == before {
            continue;
        }
        out[map + place / 8] |= 1 << (place % 8);
        match (whole(bits), whole(before)) {
            (Some(new), Some(old)) => {
                let distance = new - old;
                varint::put((((distance << 1) ^ (distance >> 63)) as u64) << 1, out);
            }
            _ => {
                let xor = bits ^ before;
                let (skipped, zeros) = (xor.trailing_zeros() / 8, xor.leading_zeros() / 8);
                let length = 8 - skipped - zeros;
                out.push(1 | (skipped << 1 | length << 4) as u8);
                out.extend_from_slice(&(xor >> (skipped * 8)).to_le_bytes()[..length as usize]);
            }
        }
    }
    if bases.is_some() {
        out[check..check + 4].copy_from_slice(&((sum >> 32) as u32).to_le_bytes());
    }
}

/// The series of a row as runs of neighbours: distance from the end of the run before, and length.
fn put_runs(floats: &[Float], out: &mut Vec<u8>) {
    let (mut rest, mut end) = (floats, 0_u64);
    while let Some(first) = rest.first() {
        let run =
            rest.iter().zip(0_u64..).take_while(|(float, i)| float.series == first.series.wrapping_add(*i)).count();
        varint::put_signed(first.series.wrapping_sub(end) as i64, out);
        varint::put(run as u64, out);
        end = first.series.wrapping_add(run as u64);
        rest = &rest[run..];
    }
}

fn put_samples(kind: u8, samples: &[Sample], out: &mut Vec<u8>) {
    if samples.is_empty() {
        return;
    }
    out.push(kind);
    varint::put(samples.len() as u64, out);
    let (mut id, mut at) = (0_u64, 0_i64);
    for sample in samples {
        put_id(sample.series, &mut id, out);
        varint::put_signed(sample.at.wrapping_sub(at), out);
        at = sample.at;
        put_entry(sample, out);
    }
}

fn put_entry(sample: &Sample, out: &mut Vec<u8>) {
    let started = if sample.start.is_some() { STARTED } else { 0 };
    match &sample.entry {
        Entry::Float(value) => match whole(value.to_bits()).filter(|whole| whole.unsigned_abs() < 1 << 42) {
            Some(whole) => {
                out.push(WHOLE | started);
                varint::put_signed(whole, out);
            }
            None => {
                out.push(BITS | started);
                out.extend_from_slice(&value.to_bits().to_le_bytes());
            }
        },
        Entry::Histogram(histogram) => {
            out.push(HISTOGRAM | started);
            histograms::put(&[(sample.at, Arc::clone(histogram))], out);
        }
    }
    if let Some(start) = sample.start {
        varint::put_signed(sample.at.wrapping_sub(start), out);
    }
}

fn put_texts(batch: &Batch, out: &mut Vec<u8>) {
    if !batch.exemplars.is_empty() {
        out.push(EXEMPLARS);
        varint::put(batch.exemplars.len() as u64, out);
        let mut last = 0;
        for (id, exemplar) in &batch.exemplars {
            put_id(*id, &mut last, out);
            put_exemplar(exemplar, out);
        }
    }
    if !batch.metadata.is_empty() {
        out.push(METADATA);
        varint::put(batch.metadata.len() as u64, out);
        let mut last = 0;
        for (id, metadata) in &batch.metadata {
            put_id(*id, &mut last, out);
            put_metadata(metadata, out);
        }
    }
}

/// Time, value and labels of an exemplar, which has a time.
pub(crate) fn put_exemplar(exemplar: &Exemplar, out: &mut Vec<u8>) {
    varint::put_signed(exemplar.at.map_or(0, |at| at.0), out);
    out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
    put_labels(&exemplar.labels, out);
}

pub(crate) fn take_exemplar(bytes: &mut &[u8]) -> Result<Exemplar, Damaged> {
    let at = Some(Timestamp(varint::take_signed(bytes)?));
    Ok(Exemplar { at, value: f64::from_bits(take_bits(bytes)?), labels: take_labels(bytes)? })
}

pub(crate) fn put_metadata(metadata: &Metadata, out: &mut Vec<u8>) {
    put_text(metadata.kind.as_str(), out);
    put_text(&metadata.help, out);
    put_text(&metadata.unit, out);
}

pub(crate) fn take_metadata(bytes: &mut &[u8]) -> Result<Metadata, Damaged> {
    let kind = MetricType::parse(take_text(bytes)?).ok_or(Damaged)?;
    Ok(Metadata { kind, help: take_text(bytes)?.to_owned(), unit: take_text(bytes)?.to_owned() })
}

fn take_bits(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    Ok(u64::from_le_bytes(varint::take_bytes(bytes, 8)?.try_into().map_err(|_| Damaged)?))
}

/// Who reads records.
pub(crate) trait Receiver {
    /// A series has this id from now on.
    fn series(&mut self, id: u64, labels: Labels) -> Result<(), Damaged>;
    /// The bits of the last float of a series, if it is known.
    fn base(&self, id: u64) -> Option<u64>;
    fn float(&mut self, float: Float);
    fn sample(&mut self, sample: Sample);
    fn late(&mut self, sample: Sample);
    fn exemplar(&mut self, series: u64, exemplar: Exemplar);
    fn metadata(&mut self, series: u64, metadata: Metadata);
}

/// Reads a record; `row` is scratch.
///
/// # Errors
/// [`Damaged`], also for a row that builds on values which the receiver does not have; sections before it were given.
pub(crate) fn take(mut bytes: &[u8], receiver: &mut impl Receiver, row: &mut Vec<Float>) -> Result<(), Damaged> {
    unpack(&mut bytes, RECORD_MAX, |mut plain| {
        let bytes = &mut plain;
        while let Some((kind, rest)) = bytes.split_first() {
            *bytes = rest;
            match *kind {
                SERIES => each(bytes, |bytes, id| receiver.series(id, take_labels(bytes)?))?,
                ROW => take_row(bytes, receiver, row)?,
                SAMPLES => take_samples(bytes, |sample| receiver.sample(sample))?,
                LATE => take_samples(bytes, |sample| receiver.late(sample))?,
                EXEMPLARS => each(bytes, |bytes, id| {
                    receiver.exemplar(id, take_exemplar(bytes)?);
                    Ok(())
                })?,
                METADATA => each(bytes, |bytes, id| {
                    receiver.metadata(id, take_metadata(bytes)?);
                    Ok(())
                })?,
                _ => return Err(Damaged),
            }
        }
        Ok(())
    })
}

fn each(bytes: &mut &[u8], mut item: impl FnMut(&mut &[u8], u64) -> Result<(), Damaged>) -> Result<(), Damaged> {
    let mut last = 0;
    for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
        let id = take_id(bytes, &mut last)?;
        item(bytes, id)?;
    }
    Ok(())
}

fn take_samples(bytes: &mut &[u8], mut give: impl FnMut(Sample)) -> Result<(), Damaged> {
    let mut at = 0_i64;
    each(bytes, |bytes, series| {
        at = at.wrapping_add(varint::take_signed(bytes)?);
        let (entry, start) = take_entry(bytes, at)?;
        give(Sample { series, at, start, entry });
        Ok(())
    })
}

fn take_entry(bytes: &mut &[u8], at: i64) -> Result<(Entry, Option<i64>), Damaged> {
    let tag = varint::take_bytes(bytes, 1)?[0];
    let entry = match tag & !STARTED {
        WHOLE => Entry::Float(varint::take_signed(bytes)? as f64),
        BITS => Entry::Float(f64::from_bits(take_bits(bytes)?)),
        HISTOGRAM => Entry::Histogram(histograms::take(bytes, 1)?.pop().ok_or(Damaged)?.1),
        _ => return Err(Damaged),
    };
    let start = if tag & STARTED == 0 { None } else { Some(at.wrapping_sub(varint::take_signed(bytes)?)) };
    Ok((entry, start))
}

/// Reads a row whole before any of it is given.
fn take_row(bytes: &mut &[u8], receiver: &mut impl Receiver, row: &mut Vec<Float>) -> Result<(), Damaged> {
    let flags = varint::take_bytes(bytes, 1)?[0];
    // A sample has a bit of the map at least.
    let count = varint::take_count(bytes, bytes.len().saturating_mul(8).min(ITEMS_MAX))?;
    row.clear();
    let mut end = 0_u64;
    while row.len() < count {
        let first = end.wrapping_add(varint::take_signed(bytes)? as u64);
        let length = varint::take_count(bytes, count - row.len())? as u64;
        if length == 0 {
            return Err(Damaged);
        }
        row.extend((0..length).map(|i| Float { series: first.wrapping_add(i), at: 0, value: 0.0 }));
        end = first.wrapping_add(length);
    }
    let mut at = varint::take_signed(bytes)?;
    for float in row.iter_mut() {
        if flags & TIMES != 0 {
            at = at.wrapping_add(varint::take_signed(bytes)?);
        }
        float.at = at;
    }
    take_values(bytes, flags & KEY != 0, receiver, row)?;
    for float in row.iter() {
        receiver.float(*float);
    }
    Ok(())
}

fn take_values(bytes: &mut &[u8], key: bool, receiver: &impl Receiver, row: &mut [Float]) -> Result<(), Damaged> {
    let check = if key { None } else { Some(varint::take_bytes(bytes, 4)?) };
    let map = varint::take_bytes(bytes, row.len().div_ceil(8))?;
    let (mut sum, mut last) = (0, None);
    for (place, float) in row.iter_mut().enumerate() {
        let before = match last {
            Some((series, bits)) if series == float.series => bits,
            _ if key => 0,
            _ => receiver.base(float.series).ok_or(Damaged)?,
        };
        sum = fold(sum, before);
        let changed = map[place / 8] >> (place % 8) & 1 == 1;
        let bits = if changed { take_change(bytes, before)? } else { before };
        float.value = f64::from_bits(bits);
        last = Some((float.series, bits));
    }
    match check {
        Some(check) if check != ((sum >> 32) as u32).to_le_bytes() => Err(Damaged),
        _ => Ok(()),
    }
}

fn take_change(bytes: &mut &[u8], before: u64) -> Result<u64, Damaged> {
    let head = *bytes.first().ok_or(Damaged)?;
    if head & 1 == 0 {
        let zigzag = varint::take(bytes)? >> 1;
        let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        return Ok((whole(before).ok_or(Damaged)?.wrapping_add(distance) as f64).to_bits());
    }
    *bytes = &bytes[1..];
    let (skipped, length) = (u32::from(head >> 1 & 7), usize::from(head >> 4));
    if length + skipped as usize > 8 {
        return Err(Damaged);
    }
    let mut xor = [0; 8];
    xor[..length].copy_from_slice(varint::take_bytes(bytes, length)?);
    Ok(before ^ u64::from_le_bytes(xor) << (skipped * 8))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
