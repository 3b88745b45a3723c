//! Writing a part: series come in the order of their labels and leave in groups of 32; layout in `docs/format/part.md`.
//!
//! Memory: one group of series, and the index of the part.

use crate::{Error, disk_format::pack, head::Points};
use chunk::{histograms, times, values, varint};
use model::Labels;
use runtime::{Disk, File, Open};
use std::collections::BTreeMap;

pub(crate) const MAGIC: &[u8; 8] = b"NXPART\0\x01";
/// Series of a group: the unit of reading and of the checksum.
pub(crate) const GROUP: usize = 32;
/// Strings of a block that share prefixes.
pub(crate) const BLOCK: usize = 16;
/// Columns are cut at multiples of this time, so that a query for an hour does not decode two days.
pub(crate) const WINDOW_MS: i64 = 8 * 3_600_000;
/// Level of zstd for groups.
const LEVEL: i32 = 3;
/// Numbers of the footer, 8 bytes each.
pub(crate) const FOOTER: usize = 14;

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
    group: Vec<Points>,
    /// Per series its pairs, as strings of the part by number of first appearance.
    series: Vec<Vec<(u32, u32)>>,
    strings: BTreeMap<String, u32>,
    /// Per group and window: window, offset, length, checksum.
    directory: Vec<(u32, i64, u64, u32, u32)>,
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
    /// Begins a file under a temporary name.
    pub(crate) fn create(disk: &'a Disk, name: &str) -> Result<Self, Error> {
        let temporary = format!("{name}.tmp");
        let file = disk.open_file(&temporary, Open::Create).map_err(Error::disk(format!("creating {temporary}")))?;
        let mut writer = Self {
            disk,
            name: name.to_owned(),
            file,
            at: 0,
            group: Vec::new(),
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
        self.group.push(points);
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
        let windows = group.iter().flat_map(|points| {
            points.times.iter().chain(points.histograms.iter().map(|(at, _)| at)).map(|at| at.div_euclid(WINDOW_MS))
        });
        let windows: std::collections::BTreeSet<i64> = windows.collect();
        for window in windows {
            let block = block(&group, window);
            let length = u32::try_from(block.len()).expect("32 series of a window are far from 4 GiB");
            self.directory.push((number, window, self.at, length, crc32c::crc32c(&block)));
            self.write(&block)?;
        }
        Ok(())
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
        self.disk.sync_dir("").map_err(Error::disk(format!("naming {}", self.name)))?;
        Ok(Some(self.summary))
    }

    fn write_index(&mut self) -> Result<(), Error> {
        // Strings are numbered by order, so that numbers compare as their strings do.
        let mut order = vec![0; self.strings.len()];
        for (rank, number) in (0..).zip(self.strings.values()) {
            order[*number as usize] = rank;
        }
        let sections = [
            symbols(&self.strings),
            series(&self.series, &order),
            postings(&self.series, &order),
            directory(&self.directory),
        ];
        let mut footer = Vec::new();
        for section in &sections {
            footer.push(self.at);
            footer.push(section.len() as u64);
            self.write(section)?;
        }
        let Summary { min, max, series, samples } = self.summary;
        let sums = sections.iter().fold(0, |sum, section| crc32c::crc32c_append(sum, section));
        footer.extend([min as u64, max as u64, series, samples, self.strings.len() as u64, u64::from(sums)]);
        let mut bytes: Vec<u8> = footer.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(MAGIC);
        self.write(&bytes)
    }
}

/// The samples of a group in a window: distinct columns of times, then every series.
fn block(group: &[Points], window: i64) -> Vec<u8> {
    let (from, to) = (window * WINDOW_MS, (window + 1) * WINDOW_MS - 1);
    let mut columns: Vec<Vec<u8>> = Vec::new();
    let mut bodies = Vec::new();
    for points in group {
        let mut points = points.clone();
        points.clip(from, to);
        let mut body = Vec::new();
        varint::put(points.times.len() as u64, &mut body);
        if !points.times.is_empty() {
            let mut column = Vec::new();
            times::put(&points.times, &mut column);
            let place = columns.iter().position(|have| *have == column).unwrap_or_else(|| {
                columns.push(column);
                columns.len() - 1
            });
            varint::put(place as u64, &mut body);
            values::put(&points.values, &mut body);
        }
        varint::put(points.histograms.len() as u64, &mut body);
        if !points.histograms.is_empty() {
            histograms::put(&points.histograms, &mut body);
        }
        varint::put(points.starts.len() as u64, &mut body);
        for (at, start) in &points.starts {
            varint::put_signed(*at, &mut body);
            varint::put_signed(at.wrapping_sub(*start), &mut body);
        }
        bodies.push(body);
    }
    let mut plain = Vec::new();
    for list in [&columns, &bodies] {
        varint::put(list.len() as u64, &mut plain);
        for item in list {
            varint::put(item.len() as u64, &mut plain);
            plain.extend_from_slice(item);
        }
    }
    let mut out = Vec::new();
    pack(&plain, LEVEL, &mut out);
    out
}

/// Strings in blocks that say how much each shares with the one before; a table of the blocks' places comes first.
fn symbols(strings: &BTreeMap<String, u32>) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    let mut last = "";
    for (place, text) in strings.keys().enumerate() {
        if place.is_multiple_of(BLOCK) {
            table.extend_from_slice(&(data.len() as u64).to_le_bytes());
            last = "";
        }
        let shared = text.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        varint::put(shared as u64, &mut data);
        varint::put((text.len() - shared) as u64, &mut data);
        data.extend_from_slice(&text.as_bytes()[shared..]);
        last = text;
    }
    table.extend_from_slice(&data);
    table
}

/// Pairs of each series in order, by group; a table of the groups' places comes first.
fn series(all: &[Vec<(u32, u32)>], order: &[u32]) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for group in all.chunks(GROUP) {
        table.extend_from_slice(&(data.len() as u64).to_le_bytes());
        for pairs in group {
            varint::put(pairs.len() as u64, &mut data);
            for (name, value) in pairs {
                varint::put(u64::from(order[*name as usize]), &mut data);
                varint::put(u64::from(order[*value as usize]), &mut data);
            }
        }
    }
    table.extend_from_slice(&data);
    table
}

/// For every pair, in the order of name and value, the series that have it: a count of pairs, a table of name, value and
/// place, then the lists as distances.
fn postings(all: &[Vec<(u32, u32)>], order: &[u32]) -> Vec<u8> {
    let mut lists: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for (number, pairs) in (0..).zip(all) {
        for (name, value) in pairs {
            lists.entry((order[*name as usize], order[*value as usize])).or_default().push(number);
        }
    }
    let (mut table, mut data) = ((lists.len() as u64).to_le_bytes().to_vec(), Vec::new());
    for ((name, value), list) in lists {
        table.extend_from_slice(&name.to_le_bytes());
        table.extend_from_slice(&value.to_le_bytes());
        table.extend_from_slice(&(data.len() as u64).to_le_bytes());
        varint::put(list.len() as u64, &mut data);
        let mut last = 0;
        for number in list {
            varint::put(u64::from(number - last), &mut data);
            last = number;
        }
    }
    table.extend_from_slice(&data);
    table
}

/// Where the samples of a group in a window are: group, window, place, length and checksum, 28 bytes each.
fn directory(entries: &[(u32, i64, u64, u32, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (group, window, place, length, sum) in entries {
        out.extend_from_slice(&group.to_le_bytes());
        out.extend_from_slice(&window.to_le_bytes());
        out.extend_from_slice(&place.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&sum.to_le_bytes());
    }
    out
}
