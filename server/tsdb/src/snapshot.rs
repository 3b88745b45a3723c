//! The head as a file: every series with its chunks as they lie, so that the log before it can go.
//!
//! Written whole under a lock and published in one step; layout in `docs/format/head.md`.

use crate::{
    Error,
    disk_format::{put_labels, take_labels},
    head::{Head, Sealed, Series},
    options::Options,
};
use chunk::{
    Damaged, histograms,
    stream::{State, Writer, decode},
    varint,
};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"NXHEAD\0\x01";
/// Items of one series beyond this many are damage.
const ITEMS_MAX: usize = 1 << 24;

/// The bytes of a snapshot without what lies wholly before `floor`, `moved` samples. O(bytes of all chunks).
pub(crate) fn write(head: &Head, floor: i64, moved: u64) -> Vec<u8> {
    let mut body = Vec::new();
    varint::put(head.next, &mut body);
    varint::put(head.samples.saturating_sub(moved), &mut body);
    varint::put(head.series.len() as u64, &mut body);
    for (id, series) in &head.series {
        varint::put(*id, &mut body);
        put_series(series, floor, &mut body);
    }
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    file.extend_from_slice(&body);
    file
}

/// The head that a snapshot holds; what lies before `floor` is not in it.
pub(crate) fn read(name: &str, bytes: &[u8], options: Options, floor: i64) -> Result<Head, Error> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| Error::damaged(name, "no head snapshot of this version"))?;
    let (sum, body) = rest.split_first_chunk::<4>().ok_or_else(|| Error::damaged(name, "too short"))?;
    if u32::from_le_bytes(*sum) != crc32c::crc32c(body) {
        return Err(Error::damaged(name, "wrong checksum"));
    }
    take(body, options, floor).map_err(|Damaged| Error::damaged(name, "not what was written"))
}

fn take(mut body: &[u8], options: Options, floor: i64) -> Result<Head, Damaged> {
    let bytes = &mut body;
    let mut head = Head::new(options, floor);
    let next = varint::take(bytes)?;
    head.samples = varint::take(bytes)?;
    for _ in 0..varint::take_length(bytes)? {
        let id = varint::take(bytes)?;
        let series = take_series(bytes)?;
        let sealed = series.sealed.iter().map(|sealed| (sealed.min, sealed.max));
        let open = (series.state.count > 0).then_some((series.first, series.state.time));
        let histograms = series.histograms.iter().map(|(at, _)| (*at, *at));
        for (min, max) in sealed.chain(open).chain(histograms) {
            head.min_time = Some(head.min_time.map_or(min, |have| have.min(min)).max(floor));
            head.max_time = Some(head.max_time.map_or(max, |have| have.max(max)));
        }
        head.insert(id, series);
    }
    head.next = next;
    Ok(head)
}

fn put_series(series: &Series, floor: i64, out: &mut Vec<u8>) {
    put_labels(&series.labels, out);
    let kept = &series.sealed[series.sealed.partition_point(|sealed| sealed.max < floor)..];
    varint::put(kept.len() as u64, out);
    for sealed in kept {
        varint::put_signed(sealed.min, out);
        varint::put_signed(sealed.max, out);
        varint::put(u64::from(sealed.count), out);
        varint::put(u64::from(sealed.repeats), out);
        varint::put(sealed.bytes.len() as u64, out);
        out.extend_from_slice(&sealed.bytes);
    }
    varint::put_signed(series.first, out);
    series.state.parts().iter().for_each(|number| varint::put_signed(*number, out));
    out.push(series.open.used());
    varint::put(series.open.bytes().len() as u64, out);
    out.extend_from_slice(series.open.bytes());
    let kept = &series.histograms[series.histograms.partition_point(|(at, _)| *at < floor)..];
    varint::put(kept.len() as u64, out);
    histograms::put(kept, out);
    let kept = &series.starts[series.starts.partition_point(|(at, _)| *at < floor)..];
    varint::put(kept.len() as u64, out);
    for (at, start) in kept {
        varint::put_signed(*at, out);
        varint::put_signed(*start, out);
    }
}

fn take_series(bytes: &mut &[u8]) -> Result<Series, Damaged> {
    let mut series = Series::restored(take_labels(bytes)?);
    for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
        let (min, max) = (varint::take_signed(bytes)?, varint::take_signed(bytes)?);
        let (count, repeats) = (small(bytes)?, small(bytes)?);
        let length = varint::take_length(bytes)?;
        let sealed = Sealed { min, max, count, repeats, bytes: Arc::from(varint::take_bytes(bytes, length)?) };
        check(&sealed.bytes, count, repeats)?;
        series.sealed.push(sealed);
    }
    series.first = varint::take_signed(bytes)?;
    let mut parts = [0; 8];
    for number in &mut parts {
        *number = varint::take_signed(bytes)?;
    }
    series.state = State::of_parts(parts)?;
    let used = varint::take_bytes(bytes, 1)?[0];
    let length = varint::take_length(bytes)?;
    series.open = Writer::resume(varint::take_bytes(bytes, length)?.to_vec(), used);
    check(series.open.bytes(), series.state.count, series.state.repeats)?;
    let count = varint::take_count(bytes, ITEMS_MAX)?;
    series.histograms = histograms::take(bytes, count)?;
    for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
        series.starts.push((varint::take_signed(bytes)?, varint::take_signed(bytes)?));
    }
    Ok(series)
}

fn small(bytes: &mut &[u8]) -> Result<u16, Damaged> {
    u16::try_from(varint::take(bytes)?).map_err(|_| Damaged)
}

/// Readers trust chunks of the head, so that they are decoded once here.
fn check(bytes: &[u8], count: u16, repeats: u16) -> Result<(), Damaged> {
    decode(bytes, count, repeats, &mut Vec::new(), &mut Vec::new())
}
