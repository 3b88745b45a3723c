//! Reading a part: an immutable file, mapped; the index is checked when it is opened, samples when they are read.

use crate::{
    Error,
    disk_format::unpack,
    head::Points,
    index::{Ids, Postings, union},
    writer::{BLOCK, FOOTER, GROUP, MAGIC, Summary, WINDOW_MS},
};
use chunk::{Damaged, histograms, times, values, varint};
use model::Labels;
use runtime::{Disk, Mapped, Open};
use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
};
use storage::ReadError;

/// Bytes of a group in a window, unpacked, at most.
const BLOCK_MAX: usize = 1 << 30;
/// Texts kept while labels are read, at most.
const TEXTS_MAX: usize = 1 << 16;
/// Bytes of a row in the table of postings and in the directory.
const ROW: usize = 16;
const ENTRY: usize = 28;

/// A part of the store.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) summary: Summary,
    bytes: Mapped,
    symbols: (usize, usize),
    series: (usize, usize),
    postings: (usize, usize),
    directory: (usize, usize),
    strings: usize,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn small(bytes: &[u8], at: usize) -> u32 {
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
        let sections = [section(0), section(1), section(2), section(3)];
        let [Some(symbols), Some(series), Some(postings), Some(directory)] = sections else {
            return Err(Error::damaged(name, "a section lies outside the file"));
        };
        let sum = [symbols, series, postings, directory]
            .iter()
            .fold(0, |sum, (from, to)| crc32c::crc32c_append(sum, &bytes[*from..*to]));
        if u64::from(sum) != field(13) {
            return Err(Error::damaged(name, "wrong checksum of the index"));
        }
        let summary = Summary { min: field(8) as i64, max: field(9) as i64, series: field(10), samples: field(11) };
        let strings = usize::try_from(field(12)).unwrap_or_default();
        Ok(Self { name: name.to_owned(), summary, symbols, series, postings, directory, strings, bytes })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn damaged(&self) -> impl Fn(Damaged) -> ReadError + use<'_> {
        |Damaged| ReadError::Damaged(format!("{} holds an index that is not what was written", self.name))
    }

    fn section(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.bytes[from..to]
    }

    /// The strings of a block, until `visit` answers false.
    fn block(&self, block: usize, mut visit: impl FnMut(usize, &str) -> bool) -> Result<(), Damaged> {
        let section = self.section(self.symbols);
        let table = self.strings.div_ceil(BLOCK) * 8;
        let place = usize::try_from(number(section, block * 8)).map_err(|_| Damaged)?;
        let mut data = table.checked_add(place).and_then(|from| section.get(from..)).ok_or(Damaged)?;
        let mut text = Vec::new();
        for number in block * BLOCK..(block * BLOCK + BLOCK).min(self.strings) {
            let shared = varint::take_count(&mut data, text.len())?;
            let rest = varint::take_length(&mut data)?;
            text.truncate(shared);
            text.extend_from_slice(varint::take_bytes(&mut data, rest)?);
            if !visit(number, std::str::from_utf8(&text).map_err(|_| Damaged)?) {
                break;
            }
        }
        Ok(())
    }

    /// Gives a string to `visit`.
    fn string(&self, number: u32, mut visit: impl FnMut(&str)) -> Result<(), Damaged> {
        let mut found = false;
        self.block(number as usize / BLOCK, |have, text| {
            found = have == number as usize;
            if found {
                visit(text);
            }
            !found
        })?;
        if found { Ok(()) } else { Err(Damaged) }
    }

    /// The number of a string. O(log strings).
    fn find(&self, text: &str) -> Result<Option<u32>, Damaged> {
        let (mut low, mut high) = (0, self.strings.div_ceil(BLOCK));
        while low < high {
            let middle = usize::midpoint(low, high);
            let mut first = Ordering::Equal;
            self.block(middle, |_, have| {
                first = have.cmp(text);
                false
            })?;
            if first == Ordering::Greater { high = middle } else { low = middle + 1 }
        }
        let mut found = None;
        if let Some(block) = low.checked_sub(1) {
            self.block(block, |number, have| {
                if have == text {
                    found = u32::try_from(number).ok();
                }
                have < text
            })?;
        }
        Ok(found)
    }

    /// Name, value and place of a row of the postings.
    fn row(&self, row: usize) -> (u32, u32, usize) {
        let section = self.section(self.postings);
        let at = 8 + row * ROW;
        (small(section, at), small(section, at + 4), usize::try_from(number(section, at + 8)).unwrap_or(usize::MAX))
    }

    fn rows(&self) -> usize {
        let section = self.section(self.postings);
        usize::try_from(number(section, 0)).unwrap_or_default().min(section.len() / ROW)
    }

    /// The first row that is not before (name, value).
    fn lower(&self, name: u32, value: u32) -> usize {
        let (mut low, mut high) = (0, self.rows());
        while low < high {
            let middle = usize::midpoint(low, high);
            let (have, with, _) = self.row(middle);
            if (have, with) < (name, value) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn list(&self, row: usize) -> Result<Ids<u32>, Damaged> {
        let section = self.section(self.postings);
        let from = (8 + self.rows() * ROW).checked_add(self.row(row).2).ok_or(Damaged)?;
        let mut data = section.get(from..).ok_or(Damaged)?;
        let count = varint::take_length(&mut data)?;
        let (mut ids, mut last) = (Vec::with_capacity(count), 0_u32);
        for _ in 0..count {
            last =
                u32::try_from(varint::take(&mut data)?).ok().and_then(|next| last.checked_add(next)).ok_or(Damaged)?;
            ids.push(last);
        }
        Ok(ids)
    }

    /// All values of a label, in order, with their rows.
    fn each_value(&self, name: &str, mut visit: impl FnMut(&str, usize) -> Result<(), Damaged>) -> Result<(), Damaged> {
        let Some(name) = self.find(name)? else { return Ok(()) };
        for row in self.lower(name, 0)..self.rows() {
            let (have, value, _) = self.row(row);
            if have != name {
                break;
            }
            let mut visited = Ok(());
            self.string(value, |text| visited = visit(text, row))?;
            visited?;
        }
        Ok(())
    }

    /// All labels' names.
    pub(crate) fn label_names(&self) -> Result<Vec<String>, ReadError> {
        let mut names = Vec::new();
        let mut row = 0;
        while row < self.rows() {
            let (name, ..) = self.row(row);
            self.string(name, |text| names.push(text.to_owned())).map_err(self.damaged())?;
            let Some(next) = name.checked_add(1) else { break };
            row = self.lower(next, 0);
        }
        Ok(names)
    }

    /// All values of a label.
    pub(crate) fn label_values(&self, name: &str) -> Result<Vec<String>, ReadError> {
        let mut values = Vec::new();
        let visit = |text: &str, _| {
            values.push(text.to_owned());
            Ok(())
        };
        self.each_value(name, visit).map_err(self.damaged())?;
        Ok(values)
    }

    /// The series that satisfy all matchers, ascending, which is also the order of their labels.
    pub(crate) fn select(&self, matchers: &[model::Matcher]) -> Result<Ids<u32>, ReadError> {
        let checked = Checked { part: self, failed: std::cell::Cell::new(false) };
        let found = crate::index::select(&checked, matchers);
        if checked.failed.get() { Err(self.damaged()(Damaged)) } else { Ok(found) }
    }

    /// The labels of a series.
    pub(crate) fn labels(&self, series: u32) -> Result<Labels, ReadError> {
        self.labels_with(series, &mut HashMap::new())
    }

    /// The labels of a series; `texts` keeps what was read of the strings, for the next one.
    pub(crate) fn labels_with(&self, series: u32, texts: &mut HashMap<u32, Box<str>>) -> Result<Labels, ReadError> {
        if texts.len() > TEXTS_MAX {
            texts.clear();
        }
        self.take_labels(series, texts).map_err(self.damaged())
    }

    fn take_labels(&self, series: u32, texts: &mut HashMap<u32, Box<str>>) -> Result<Labels, Damaged> {
        let section = self.section(self.series);
        let groups = usize::try_from(self.summary.series).map_err(|_| Damaged)?.div_ceil(GROUP);
        let (group, place) = (series as usize / GROUP, series as usize % GROUP);
        let from = usize::try_from(number(section, group * 8)).ok().and_then(|from| from.checked_add(groups * 8));
        let mut data = from.and_then(|from| section.get(from..)).ok_or(Damaged)?;
        for _ in 0..place {
            for _ in 0..2 * varint::take_length(&mut data)? {
                varint::take(&mut data)?;
            }
        }
        let mut numbers = Vec::new();
        for _ in 0..2 * varint::take_length(&mut data)? {
            let number = u32::try_from(varint::take(&mut data)?).map_err(|_| Damaged)?;
            if let Entry::Vacant(vacant) = texts.entry(number) {
                let mut text = Box::default();
                self.string(number, |have| text = Box::from(have))?;
                vacant.insert(text);
            }
            numbers.push(number);
        }
        let text = |number: &u32| texts.get(number).map_or("", |text| &**text);
        Ok(Labels::from_pairs(numbers.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1])))))
    }

    /// The samples of series of one group that lie in the closed range, one answer for each series asked for, ascending.
    pub(crate) fn points(&self, series: &[u32], min: i64, max: i64) -> Result<Vec<Points>, ReadError> {
        let mut all = vec![Points::default(); series.len()];
        let Some(group) = series.first().map(|series| series / GROUP as u32) else { return Ok(all) };
        let (first, last) = (min.div_euclid(WINDOW_MS), max.div_euclid(WINDOW_MS));
        let section = self.section(self.directory);
        let entries = section.len() / ENTRY;
        let key = |entry: usize| (small(section, entry * ENTRY), number(section, entry * ENTRY + 4) as i64);
        let (mut low, mut high) = (0, entries);
        while low < high {
            let middle = usize::midpoint(low, high);
            if key(middle) < (group, first) { low = middle + 1 } else { high = middle }
        }
        for entry in low..entries {
            let (have, window) = key(entry);
            if have != group || window > last {
                break;
            }
            let at = entry * ENTRY;
            let (place, length) = (number(section, at + 12), small(section, at + 20));
            let block = usize::try_from(place).ok().and_then(|from| self.bytes.get(from..)?.get(..length as usize));
            let block = block.filter(|block| crc32c::crc32c(block) == small(section, at + 24));
            let read = block.ok_or(Damaged).and_then(|block| read_block(block, series, &mut all));
            read.map_err(|Damaged| {
                ReadError::Damaged(format!("{} is damaged at byte {place}: these samples are lost", self.name))
            })?;
        }
        all.iter_mut().for_each(|points| points.clip(min, max));
        Ok(all)
    }
}

/// Appends the samples of the wanted series, all of one group, to their answers.
fn read_block(mut block: &[u8], wanted: &[u32], all: &mut [Points]) -> Result<(), Damaged> {
    unpack(&mut block, BLOCK_MAX, |mut plain| {
        let bytes = &mut plain;
        let mut columns = Vec::new();
        for _ in 0..varint::take_count(bytes, GROUP)? {
            let length = varint::take_length(bytes)?;
            columns.push(varint::take_bytes(bytes, length)?);
        }
        // Series of a group mostly share their times: the last column decoded is kept.
        let mut decoded: Option<(usize, Vec<i64>)> = None;
        let mut wanted = wanted.iter().zip(all).peekable();
        for place in 0..varint::take_count(bytes, GROUP)? {
            let length = varint::take_length(bytes)?;
            let mut body = varint::take_bytes(bytes, length)?;
            if let Some((_, points)) = wanted.next_if(|(series, _)| **series as usize % GROUP == place) {
                read_series(&mut body, &columns, &mut decoded, points)?;
            }
        }
        if wanted.peek().is_some() { Err(Damaged) } else { Ok(()) }
    })
}

fn read_series(
    body: &mut &[u8],
    columns: &[&[u8]],
    decoded: &mut Option<(usize, Vec<i64>)>,
    points: &mut Points,
) -> Result<(), Damaged> {
    let count = varint::take_count(body, BLOCK_MAX)?;
    if count > 0 {
        let place = varint::take_count(body, columns.len().saturating_sub(1))?;
        if decoded.as_ref().is_none_or(|(have, times)| *have != place || times.len() != count) {
            let mut column = *columns.get(place).ok_or(Damaged)?;
            *decoded = Some((place, times::take(&mut column, count)?));
        }
        points.times.extend_from_slice(decoded.as_ref().map_or(&[], |(_, times)| times));
        points.values.append(&mut values::take(body, count)?);
    }
    let count = varint::take_count(body, BLOCK_MAX)?;
    if count > 0 {
        points.histograms.append(&mut histograms::take(body, count)?);
    }
    for _ in 0..varint::take_length(body)? {
        let at = varint::take_signed(body)?;
        points.starts.push((at, at.wrapping_sub(varint::take_signed(body)?)));
    }
    Ok(())
}

/// An index that notes damage instead of answering it, for a selection made of many steps.
struct Checked<'a> {
    part: &'a Part,
    failed: std::cell::Cell<bool>,
}

impl Checked<'_> {
    fn or_empty(&self, ids: Result<Ids<u32>, Damaged>) -> Ids<u32> {
        ids.unwrap_or_else(|Damaged| {
            self.failed.set(true);
            Vec::new()
        })
    }
}

impl Postings for Checked<'_> {
    type Id = u32;

    fn all(&self) -> Ids<u32> {
        (0..u32::try_from(self.part.summary.series).unwrap_or(u32::MAX)).collect()
    }

    fn pair(&self, name: &str, value: &str) -> Ids<u32> {
        self.or_empty(self.part.find(name).and_then(|name| {
            let (Some(name), Some(value)) = (name, self.part.find(value)?) else { return Ok(Vec::new()) };
            let row = self.part.lower(name, value);
            let there = row < self.part.rows() && {
                let (have, with, _) = self.part.row(row);
                (have, with) == (name, value)
            };
            if there { self.part.list(row) } else { Ok(Vec::new()) }
        }))
    }

    fn values(&self, name: &str, keep: &dyn Fn(&str) -> bool) -> Ids<u32> {
        let mut lists = Vec::new();
        let visit = |text: &str, row| {
            if keep(text) {
                lists.push(self.part.list(row)?);
            }
            Ok(())
        };
        let visited = self.part.each_value(name, visit);
        self.or_empty(visited.map(|()| union(lists)))
    }
}
