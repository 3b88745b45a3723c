//! Writing a part: series come in the order of their labels and leave in groups of 32; layout in `docs/format/part.md`.
//!
//! Memory: one group of series, the index of the part, and the times of its targets.

use crate::{
    Error,
    clocks::{self, Clocks},
    disk_format::pack,
    head::Points,
    sections::{self, Entry},
};
use chunk::{histograms, values, varint};
use model::Labels;
use runtime::{Disk, File, Open};
use std::collections::BTreeMap;

pub(crate) const MAGIC: &[u8; 8] = b"NXPART\0\x02";
/// Series of a group: the unit of reading and of the checksum.
pub(crate) const GROUP: usize = 32;
/// Columns are cut at multiples of this time: 1,920 samples at 15 s, so that a query for an hour does not decode two days.
pub(crate) const WINDOW_MS: i64 = 8 * 3_600_000;
/// The same for parts of more than a day: longer columns are smaller, and old data is asked for in long ranges.
pub(crate) const LONG_WINDOW_MS: i64 = 24 * 3_600_000;
/// Level of zstd for groups.
const LEVEL: i32 = 3;
/// Numbers of the footer, 8 bytes each.
pub(crate) const FOOTER: usize = 18;

/// What a finished part says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) series: u64,
    pub(crate) samples: u64,
}

/// A part on its way to disk.
pub(crate) struct PartWriter<'a> {
    disk: &'a Disk,
    name: String,
    file: File,
    at: u64,
    window_ms: i64,
    /// The target and the samples of each series of the group.
    group: Vec<(u32, Points)>,
    clocks: Clocks,
    /// Per series its pairs, as strings of the part by number of first appearance.
    series: Vec<Vec<(u32, u32)>>,
    strings: BTreeMap<String, u32>,
    /// Per group and window: the place and what is there.
    directory: Vec<(u64, Entry)>,
    summary: Summary,
    named: bool,
}

/// What was begun and not finished makes room at once: the disk may be full because of it.
impl Drop for PartWriter<'_> {
    fn drop(&mut self) {
        if !self.named {
            // A leftover is removed at the next start.
            let _ = self.disk.remove(&format!("{}.tmp", self.name));
        }
    }
}

impl<'a> PartWriter<'a> {
    /// Begins a file under a temporary name; its columns are cut at multiples of `window_ms`.
    pub(crate) fn create(disk: &'a Disk, name: &str, window_ms: i64) -> Result<Self, Error> {
        let temporary = format!("{name}.tmp");
        let file = disk.open_file(&temporary, Open::Create).map_err(Error::disk(format!("creating {temporary}")))?;
        let mut writer = Self {
            disk,
            name: name.to_owned(),
            file,
            at: 0,
            window_ms,
            group: Vec::new(),
            clocks: Clocks::default(),
            series: Vec::new(),
            strings: BTreeMap::new(),
            directory: Vec::new(),
            summary: Summary { min: i64::MAX, max: i64::MIN, series: 0, samples: 0 },
            named: false,
        };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    /// Adds a series; its labels are greater than those of the one before. One without samples is passed over.
    pub(crate) fn add(&mut self, labels: &Labels, points: Points) -> Result<(), Error> {
        if points.is_empty() {
            return Ok(());
        }
        let pairs = labels.iter().map(|(name, value)| (self.string(name), self.string(value))).collect();
        self.series.push(pairs);
        let first = points.times.first().copied().into_iter().chain(points.histograms.first().map(|(at, _)| *at)).min();
        let last = points.times.last().copied().into_iter().chain(points.histograms.last().map(|(at, _)| *at)).max();
        self.summary.min = self.summary.min.min(first.unwrap_or(i64::MAX));
        self.summary.max = self.summary.max.max(last.unwrap_or(i64::MIN));
        self.summary.series += 1;
        self.summary.samples += points.len() as u64;
        self.group.push((self.clocks.target(labels), points));
        if self.group.len() == GROUP { self.end_group() } else { Ok(()) }
    }

    fn string(&mut self, text: &str) -> u32 {
        if let Some(number) = self.strings.get(text) {
            return *number;
        }
        let number = u32::try_from(self.strings.len()).expect("a part has fewer strings than a head has series pairs");
        self.strings.insert(text.to_owned(), number);
        number
    }

    fn end_group(&mut self) -> Result<(), Error> {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return Ok(());
        }
        let number = u32::try_from((self.series.len() - 1) / GROUP).expect("a part has fewer groups than series");
        let windows = group.iter().flat_map(|(_, points)| {
            points
                .times
                .iter()
                .chain(points.histograms.iter().map(|(at, _)| at))
                .map(|at| at.div_euclid(self.window_ms))
        });
        let windows: std::collections::BTreeSet<i64> = windows.collect();
        for window in windows {
            let block = self.block(&group, window);
            let length = u32::try_from(block.len()).expect("32 series of a window are far from 4 GiB");
            self.directory.push((self.at, Entry { group: number, window, length, sum: crc32c::crc32c(&block) }));
            self.write(&block)?;
        }
        Ok(())
    }

    /// The samples of a group in a window: every series with the clock it goes by.
    fn block(&mut self, group: &[(u32, Points)], window: i64) -> Vec<u8> {
        let from = window * self.window_ms;
        let mut encoder = values::Encoder::default();
        let (mut plain, mut last) = (Vec::new(), 0);
        varint::put(group.len() as u64, &mut plain);
        for (target, points) in group {
            let points = points.within(from, from + self.window_ms - 1);
            let mut body = Vec::new();
            let mut column = Vec::new();
            let times: Vec<i64> = points.histograms.iter().map(|(at, _)| *at).collect();
            encoder.put(&points.values, &mut column);
            for (times, histograms) in [(&points.times, false), (&times, true)] {
                if times.is_empty() {
                    body.push(0);
                    continue;
                }
                let (clock, runs) = self.clocks.place(*target, window, times);
                varint::put(runs.len() as u64 + 1, &mut body);
                varint::put_signed(i64::from(clock) - last, &mut body);
                last = i64::from(clock);
                clocks::put_runs(&runs, &mut body);
                if histograms {
                    column.clear();
                    histograms::put_values(&points.histograms, &mut column);
                }
                varint::put(column.len() as u64, &mut body);
                body.extend_from_slice(&column);
            }
            put_starts(&points, from, &mut body);
            plain.extend_from_slice(&body);
        }
        let mut out = Vec::new();
        pack(&plain, LEVEL, &mut out);
        out
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_at(self.at, bytes).map_err(Error::disk(format!("writing {}", self.name)))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes the index and gives the file its name; only the manifest makes it part of the store. None when nothing was
    /// added.
    pub(crate) fn finish(mut self) -> Result<Option<Summary>, Error> {
        self.end_group()?;
        let temporary = format!("{}.tmp", self.name);
        if self.series.is_empty() {
            return Ok(None);
        }
        self.write_index()?;
        self.file.sync().map_err(Error::disk(format!("syncing {temporary}")))?;
        self.disk.rename(&temporary, &self.name).map_err(Error::disk(format!("naming {}", self.name)))?;
        self.named = true;
        let folder = self.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.disk.sync_dir(folder).map_err(Error::disk(format!("naming {}", self.name)))?;
        Ok(Some(self.summary))
    }

    fn write_index(&mut self) -> Result<(), Error> {
        // Strings are numbered by order, so that numbers compare as their strings do.
        let mut order = vec![0; self.strings.len()];
        for (rank, number) in (0..).zip(self.strings.values()) {
            order[*number as usize] = rank;
        }
        let groups = self.series.len().div_ceil(GROUP);
        let sections = [
            sections::strings(&self.strings),
            sections::series(&self.series, &order),
            sections::postings(&self.series, &order),
            sections::directory(&self.directory, groups),
            self.clocks.section(),
        ];
        let mut footer = Vec::new();
        for section in &sections {
            footer.push(self.at);
            footer.push(section.len() as u64);
            self.write(section)?;
        }
        let Summary { min, max, series, samples } = self.summary;
        let sums = sections.iter().fold(0, |sum, section| crc32c::crc32c_append(sum, section));
        let (strings, clocks) = (self.strings.len() as u64, self.clocks.len() as u64);
        footer.extend([min as u64, max as u64, series, samples, strings, clocks]);
        footer.extend([self.window_ms as u64, u64::from(sums)]);
        let mut bytes: Vec<u8> = footer.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(MAGIC);
        self.write(&bytes)
    }
}

/// Start times as runs of samples with the same one, floats and histograms counted together in the order of time: how many
/// samples have none, how many follow with one, and its distance from the begin of the window.
fn put_starts(points: &Points, from: i64, out: &mut Vec<u8>) {
    let mut runs: Vec<(usize, usize, i64)> = Vec::new();
    let mut next = 0;
    if !points.starts.is_empty() {
        let mut times: Vec<i64> =
            points.times.iter().chain(points.histograms.iter().map(|(at, _)| at)).copied().collect();
        times.sort_unstable();
        for (at, start) in &points.starts {
            let Ok(place) = times.binary_search(at) else { continue };
            match runs.last_mut() {
                Some((_, length, same)) if next == place && *same == *start => *length += 1,
                _ => runs.push((place - next, 1, *start)),
            }
            next = place + 1;
        }
    }
    varint::put(runs.len() as u64, out);
    for (skipped, length, start) in runs {
        varint::put(skipped as u64, out);
        varint::put(length as u64, out);
        varint::put_signed(start.wrapping_sub(from), out);
    }
}
