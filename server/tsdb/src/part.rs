//! Reading a part: an immutable file, mapped; the index is checked when it is opened, samples when they are read.

use crate::{
    Error, clocks,
    disk_format::unpack,
    head::Points,
    writer::{FOOTER, GROUP, LONG_WINDOW_MS, MAGIC, Summary},
};
use chunk::{Damaged, histograms, values, varint};
use runtime::{Disk, Mapped, Open};
use std::{collections::HashMap, sync::Arc};
use storage::ReadError;

/// Bytes of a group in a window, unpacked, at most.
const BLOCK_MAX: usize = 1 << 30;
/// Clocks that a reader keeps decoded.
const CLOCKS_KEPT: usize = 256;

/// A part of the store.
pub(crate) struct Part {
    pub(crate) name: String,
    /// The number in its name: what has a higher one was written later.
    pub(crate) number: u64,
    pub(crate) summary: Summary,
    bytes: Mapped,
    /// Places of the sections in the file.
    pub(crate) texts: (usize, usize),
    pub(crate) series: (usize, usize),
    pub(crate) postings: (usize, usize),
    directory: (usize, usize),
    clocks: (usize, usize),
    pub(crate) strings: usize,
    clock_count: usize,
    window_ms: i64,
}

/// Clocks that a reader has decoded of one part.
pub(crate) type ClockCache = HashMap<u32, Arc<[i64]>>;

pub(crate) fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

pub(crate) fn small(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

impl Part {
    /// Opens a file and checks its footer and index.
    pub(crate) fn open(disk: &Disk, name: &str) -> Result<Self, Error> {
        let file = disk.open_file(name, Open::Read).map_err(Error::disk(format!("opening {name}")))?;
        let length = file.len().map_err(Error::disk(format!("opening {name}")))?;
        let bytes = file.map(length).map_err(Error::disk(format!("mapping {name}")))?;
        let end = bytes.len().checked_sub(FOOTER * 8 + 12).ok_or_else(|| Error::damaged(name, "too short"))?;
        let footer = &bytes[end..];
        if !bytes.starts_with(MAGIC) || !footer.ends_with(MAGIC) {
            return Err(Error::damaged(name, "no part of this version"));
        }
        if crc32c::crc32c(&footer[..FOOTER * 8]) != small(footer, FOOTER * 8) {
            return Err(Error::damaged(name, "wrong checksum of the footer"));
        }
        let field = |place: usize| number(footer, place * 8);
        let section = |place: usize| {
            let (from, length) = (usize::try_from(field(place * 2)), usize::try_from(field(place * 2 + 1)));
            let (from, length) = (from.ok()?, length.ok()?);
            from.checked_add(length).filter(|to| *to <= end).map(|to| (from, to))
        };
        let sections = [section(0), section(1), section(2), section(3), section(4)];
        let [Some(texts), Some(series), Some(postings), Some(directory), Some(clocks)] = sections else {
            return Err(Error::damaged(name, "a section lies outside the file"));
        };
        let sum = [texts, series, postings, directory, clocks]
            .iter()
            .fold(0, |sum, (from, to)| crc32c::crc32c_append(sum, &bytes[*from..*to]));
        if u64::from(sum) != field(17) {
            return Err(Error::damaged(name, "wrong checksum of the index"));
        }
        let summary = Summary { min: field(10) as i64, max: field(11) as i64, series: field(12), samples: field(13) };
        let count = |place: usize| usize::try_from(field(place)).unwrap_or_default();
        let window_ms = field(16) as i64;
        // Every series, string and clock has a byte at least, and a window has room for so many samples.
        let counts = [count(12), count(14), count(15)];
        if counts.iter().any(|count| *count > end) || !(1..=LONG_WINDOW_MS).contains(&window_ms) {
            return Err(Error::damaged(name, "counts that the file has no room for"));
        }
        let [_, strings, clock_count] = counts;
        let number = name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let name = name.to_owned();
        Ok(Self {
            name,
            number,
            summary,
            texts,
            series,
            postings,
            directory,
            clocks,
            strings,
            clock_count,
            window_ms,
            bytes,
        })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn damaged(&self) -> impl Fn(Damaged) -> ReadError + use<'_> {
        |Damaged| ReadError::Damaged(format!("{} holds an index that is not what was written", self.name))
    }

    pub(crate) fn section(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.bytes[from..to]
    }

    /// The places of a group's blocks: window, place, length and checksum, in the order of windows.
    fn blocks(&self, group: u32) -> Result<Vec<(i64, u64, usize, u32)>, Damaged> {
        let section = self.section(self.directory);
        let groups = usize::try_from(self.summary.series).map_err(|_| Damaged)?.div_ceil(GROUP);
        let at = group as usize * 8;
        if group as usize >= groups || section.len() < groups * 8 {
            return Err(Damaged);
        }
        let from = usize::try_from(number(section, at)).ok().and_then(|from| from.checked_add(groups * 8));
        let mut data = from.and_then(|from| section.get(from..)).ok_or(Damaged)?;
        let data = &mut data;
        let mut place = varint::take(data)?;
        let (mut window, mut blocks) = (0_i64, Vec::new());
        for _ in 0..varint::take_length(data)? {
            window = window.wrapping_add(varint::take_signed(data)?);
            let length = varint::take_count(data, u32::MAX as usize)?;
            blocks.push((window, place, length, small(varint::take_bytes(data, 4)?, 0)));
            place = place.checked_add(length as u64).ok_or(Damaged)?;
        }
        Ok(blocks)
    }

    /// The samples of series of one group that lie in the closed range, one answer for each series asked for, ascending.
    pub(crate) fn points(
        &self,
        series: &[u32],
        min: i64,
        max: i64,
        clocks: &mut ClockCache,
    ) -> Result<Vec<Points>, ReadError> {
        let mut all = vec![Points::default(); series.len()];
        let Some(group) = series.first().map(|series| series / GROUP as u32) else { return Ok(all) };
        let (first, last) = (min.div_euclid(self.window_ms), max.div_euclid(self.window_ms));
        for (window, place, length, sum) in self.blocks(group).map_err(self.damaged())? {
            if window < first || window > last {
                continue;
            }
            let block = usize::try_from(place).ok().and_then(|from| self.bytes.get(from..)?.get(..length));
            let block = block.filter(|block| crc32c::crc32c(block) == sum);
            let read = block.ok_or(Damaged).and_then(|mut block| {
                unpack(&mut block, BLOCK_MAX, |plain| self.read_block(plain, window, series, &mut all, clocks))
            });
            read.map_err(|Damaged| {
                ReadError::Damaged(format!("{} is damaged at byte {place}: these samples are lost", self.name))
            })?;
        }
        all.iter_mut().for_each(|points| points.clip(min, max));
        Ok(all)
    }

    /// Appends the samples of the wanted series, all of one group, to their answers.
    fn read_block(
        &self,
        mut plain: &[u8],
        window: i64,
        wanted: &[u32],
        all: &mut [Points],
        clocks: &mut ClockCache,
    ) -> Result<(), Damaged> {
        let bodies = take_bodies(&mut plain)?;
        let mut columns = values::Decoder::new(bodies.iter().map(|body| body.floats.column).collect());
        for (series, points) in wanted.iter().zip(all) {
            let place = *series as usize % GROUP;
            let body = bodies.get(place).ok_or(Damaged)?;
            let before = points.times.len();
            if let Some(clock) = body.floats.clock {
                clocks::pick(&self.clock(clock, clocks)?, &body.floats.runs, &mut points.times)?;
                columns.take(place, points.times.len() - before, &mut points.values)?;
            }
            let mut times = Vec::new();
            if let Some(clock) = body.histograms.clock {
                clocks::pick(&self.clock(clock, clocks)?, &body.histograms.runs, &mut times)?;
                points.histograms.append(&mut histograms::take_values(&mut { body.histograms.column }, &times)?);
            }
            if !body.starts.is_empty() {
                times.extend_from_slice(&points.times[before..]);
                times.sort_unstable();
                let from = window.wrapping_mul(self.window_ms);
                let mut rest = times.as_slice();
                for (skipped, length, distance) in &body.starts {
                    rest = rest.get(*skipped..).ok_or(Damaged)?;
                    let (own, later) = rest.split_at_checked(*length).ok_or(Damaged)?;
                    points.starts.extend(own.iter().map(|at| (*at, from.wrapping_add(*distance))));
                    rest = later;
                }
            }
        }
        Ok(())
    }

    fn clock(&self, number: u32, clocks: &mut ClockCache) -> Result<Arc<[i64]>, Damaged> {
        if let Some(clock) = clocks.get(&number) {
            return Ok(Arc::clone(clock));
        }
        if clocks.len() >= CLOCKS_KEPT {
            clocks.clear();
        }
        let count_max = usize::try_from(self.window_ms).map_err(|_| Damaged)?;
        let clock = clocks::take(self.section(self.clocks), self.clock_count, number, count_max)?;
        let clock: Arc<[i64]> = clock.into();
        clocks.insert(number, Arc::clone(&clock));
        Ok(clock)
    }
}

/// Samples of one kind of one series, as they lie in a block.
#[derive(Default)]
struct Samples<'a> {
    clock: Option<u32>,
    runs: clocks::Runs,
    column: &'a [u8],
}

/// One series in a block.
struct Body<'a> {
    floats: Samples<'a>,
    histograms: Samples<'a>,
    /// Samples without a start time, samples with one, and its distance from the begin of the window.
    starts: Vec<(usize, usize, i64)>,
}

fn take_bodies<'a>(bytes: &mut &'a [u8]) -> Result<Vec<Body<'a>>, Damaged> {
    let (mut bodies, mut last) = (Vec::new(), 0);
    for _ in 0..varint::take_count(bytes, GROUP)? {
        let floats = take_samples(bytes, &mut last)?;
        let histograms = take_samples(bytes, &mut last)?;
        let mut starts = Vec::new();
        for _ in 0..varint::take_length(bytes)? {
            let skipped = varint::take_count(bytes, u32::MAX as usize)?;
            starts.push((skipped, varint::take_count(bytes, u32::MAX as usize)?, varint::take_signed(bytes)?));
        }
        bodies.push(Body { floats, histograms, starts });
    }
    if bytes.is_empty() { Ok(bodies) } else { Err(Damaged) }
}

fn take_samples<'a>(bytes: &mut &'a [u8], last: &mut i64) -> Result<Samples<'a>, Damaged> {
    let Some(runs) = varint::take_length(bytes)?.checked_sub(1) else { return Ok(Samples::default()) };
    *last = last.wrapping_add(varint::take_signed(bytes)?);
    let clock = Some(u32::try_from(*last).map_err(|_| Damaged)?);
    let runs = clocks::take_runs(bytes, runs)?;
    let length = varint::take_length(bytes)?;
    Ok(Samples { clock, runs, column: varint::take_bytes(bytes, length)? })
}
