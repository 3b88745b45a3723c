//! Reading the index of a part in place: strings, series, postings. What `sections.rs` writes.

use crate::{
    index::{Ids, Postings, union},
    part::{Part, number, small},
    sections::{PAIR_ROW, RUN},
    writer::GROUP,
};
use chunk::{Damaged, varint};
use model::Labels;
use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::Entry},
};
use storage::ReadError;

/// Labels of one series beyond this many are damage.
const LABELS_MAX: usize = 1 << 16;
/// Texts kept while labels are read, at most.
const TEXTS_MAX: usize = 1 << 16;

impl Part {
    /// The strings of a block, until `visit` answers false.
    fn block(&self, block: usize, mut visit: impl FnMut(usize, &str) -> bool) -> Result<(), Damaged> {
        let section = self.section(self.texts);
        let table = self.strings.div_ceil(RUN) * 8;
        let place = usize::try_from(number(section, block * 8)).map_err(|_| Damaged)?;
        let mut data = table.checked_add(place).and_then(|from| section.get(from..)).ok_or(Damaged)?;
        let mut text = Vec::new();
        for number in block * RUN..(block * RUN + RUN).min(self.strings) {
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
        self.block(number as usize / RUN, |have, text| {
            found = have == number as usize;
            if found {
                visit(text);
            }
            !found
        })?;
        if found { Ok(()) } else { Err(Damaged) }
    }

    /// The number of the first string that is not before a text. O(log strings).
    fn lower(&self, text: &str) -> Result<u32, Damaged> {
        let (mut low, mut high) = (0, self.strings.div_ceil(RUN));
        while low < high {
            let middle = usize::midpoint(low, high);
            let mut before = false;
            self.block(middle, |_, have| {
                before = have < text;
                false
            })?;
            if before { low = middle + 1 } else { high = middle }
        }
        let mut found = low * RUN;
        if let Some(block) = low.checked_sub(1) {
            self.block(block, |number, have| {
                let before = have < text;
                if !before {
                    found = number;
                }
                before
            })?;
        }
        u32::try_from(found).map_err(|_| Damaged)
    }

    /// The number of a string. O(log strings).
    fn find(&self, text: &str) -> Result<Option<u32>, Damaged> {
        let (mut low, mut high) = (0, self.strings.div_ceil(RUN));
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

    /// The sections of the postings: how many pairs there are, the table, the rows and the lists.
    fn pairs(&self) -> Result<(usize, [&[u8]; 3]), Damaged> {
        let section = self.section(self.postings);
        let count = usize::try_from(number(section, 0)).ok().filter(|count| *count <= section.len()).ok_or(Damaged)?;
        let rows = usize::try_from(number(section, 8)).map_err(|_| Damaged)?;
        let (table, rest) =
            section.get(16..).and_then(|rest| rest.split_at_checked(count.div_ceil(RUN) * PAIR_ROW)).ok_or(Damaged)?;
        let (rows, lists) = rest.split_at_checked(rows).ok_or(Damaged)?;
        Ok((count, [table, rows, lists]))
    }

    /// Calls `visit` with the pairs from (name, value) on and the bytes of their lists, until it answers false.
    fn each_pair(
        &self,
        name: u32,
        value: u32,
        mut visit: impl FnMut(u32, u32, &[u8]) -> Result<bool, Damaged>,
    ) -> Result<(), Damaged> {
        let (count, [table, rows, lists]) = self.pairs()?;
        let (mut low, mut high) = (0, count.div_ceil(RUN));
        while low < high {
            let middle = usize::midpoint(low, high);
            let at = middle * PAIR_ROW;
            if (small(table, at), small(table, at + 4)) <= (name, value) { low = middle + 1 } else { high = middle }
        }
        let run = low.saturating_sub(1);
        let at = run * PAIR_ROW;
        let (mut have, mut with) = (small(table, at), small(table, at + 4));
        let mut row = rows.get(small(table, at + 8) as usize..).ok_or(Damaged)?;
        let mut list = small(table, at + 12) as usize;
        // The first pair of a run is written as no distance from what the table says, as is every later one of its own
        // run; so that rows can be read on over the end of a run.
        for place in run * RUN..count {
            if place > run * RUN && place.is_multiple_of(RUN) {
                let at = place / RUN * PAIR_ROW;
                (have, with) = (small(table, at), small(table, at + 4));
            }
            have =
                u32::try_from(varint::take(&mut row)?).ok().and_then(|more| have.checked_add(more)).ok_or(Damaged)?;
            with = u32::try_from(i64::from(with).wrapping_add(varint::take_signed(&mut row)?)).map_err(|_| Damaged)?;
            let length = varint::take_count(&mut row, lists.len())?;
            let own = lists.get(list..).and_then(|rest| rest.get(..length)).ok_or(Damaged)?;
            list += length;
            if (have, with) >= (name, value) && !visit(have, with, own)? {
                break;
            }
        }
        Ok(())
    }

    /// The ids of a list.
    fn take_list(&self, mut bytes: &[u8]) -> Result<Ids<u32>, Damaged> {
        let (mut ids, mut end) = (Vec::new(), 0_u64);
        while !bytes.is_empty() {
            let code = varint::take(&mut bytes)?;
            let more = if code & 1 == 0 { 1 } else { varint::take(&mut bytes)?.checked_add(2).ok_or(Damaged)? };
            let first = end.checked_add(code / 2).ok_or(Damaged)?;
            end = first.checked_add(more).filter(|end| *end <= self.summary.series).ok_or(Damaged)?;
            ids.extend((first..end).map(|id| id as u32));
        }
        Ok(ids)
    }

    /// The values of a label that begin with a prefix, in order, with the bytes of their lists. Strings are read a block
    /// at a time, as they follow each other.
    fn each_value(
        &self,
        name: &str,
        prefix: &str,
        mut visit: impl FnMut(&str, &[u8]) -> Result<(), Damaged>,
    ) -> Result<(), Damaged> {
        let Some(name) = self.find(name)? else { return Ok(()) };
        let first = if prefix.is_empty() { 0 } else { self.lower(prefix)? };
        let (mut block, mut texts): (usize, Vec<String>) = (usize::MAX, Vec::new());
        self.each_pair(name, first, |have, value, list| {
            if have != name {
                return Ok(false);
            }
            if value as usize / RUN != block {
                (block, texts) = (value as usize / RUN, Vec::with_capacity(RUN));
                self.block(block, |_, text| {
                    texts.push(text.to_owned());
                    true
                })?;
            }
            let text = texts.get(value as usize % RUN).ok_or(Damaged)?;
            if !text.starts_with(prefix) {
                return Ok(false);
            }
            visit(text, list).map(|()| true)
        })
    }

    /// All labels' names.
    pub(crate) fn label_names(&self) -> Result<Vec<String>, ReadError> {
        let (mut names, mut next) = (Vec::new(), 0);
        loop {
            let mut found = None;
            let first = |name, _, _: &[u8]| {
                found = Some(name);
                Ok(false)
            };
            self.each_pair(next, 0, first).map_err(self.damaged())?;
            let Some(name) = found else { return Ok(names) };
            self.string(name, |text| names.push(text.to_owned())).map_err(self.damaged())?;
            let Some(after) = name.checked_add(1) else { return Ok(names) };
            next = after;
        }
    }

    /// All values of a label.
    pub(crate) fn label_values(&self, name: &str) -> Result<Vec<String>, ReadError> {
        let mut values = Vec::new();
        let visit = |text: &str, _: &[u8]| {
            values.push(text.to_owned());
            Ok(())
        };
        self.each_value(name, "", visit).map_err(self.damaged())?;
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
        if group >= groups || section.len() < groups * 8 {
            return Err(Damaged);
        }
        let from = usize::try_from(number(section, group * 8)).ok().and_then(|from| from.checked_add(groups * 8));
        let mut data = from.and_then(|from| section.get(from..)).ok_or(Damaged)?;
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for _ in 0..=place {
            let length = varint::take_count(&mut data, LABELS_MAX)?;
            let same = varint::take(&mut data)?;
            pairs.resize(length, (0, 0));
            for (place, (name, value)) in pairs.iter_mut().enumerate() {
                if place < 64 && same >> place & 1 == 1 {
                    continue;
                }
                for number in [name, value] {
                    let next = i64::from(*number).wrapping_add(varint::take_signed(&mut data)?);
                    *number = u32::try_from(next).map_err(|_| Damaged)?;
                }
            }
        }
        for number in pairs.iter().flat_map(|(name, value)| [*name, *value]) {
            if let Entry::Vacant(vacant) = texts.entry(number) {
                let mut text = Box::default();
                self.string(number, |have| text = Box::from(have))?;
                vacant.insert(text);
            }
        }
        let text = |number: u32| texts.get(&number).map_or("", |text| &**text);
        Ok(Labels::from_pairs(pairs.iter().map(|(name, value)| (text(*name), text(*value)))))
    }
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
            let mut ids = Vec::new();
            self.part.each_pair(name, value, |have, with, list| {
                if (have, with) == (name, value) {
                    ids = self.part.take_list(list)?;
                }
                Ok(false)
            })?;
            Ok(ids)
        }))
    }

    fn values(&self, name: &str, prefix: &str, keep: &dyn Fn(&str) -> bool) -> Ids<u32> {
        let mut lists = Vec::new();
        let visit = |text: &str, list: &[u8]| {
            if keep(text) {
                lists.push(self.part.take_list(list)?);
            }
            Ok(())
        };
        let visited = self.part.each_value(name, prefix, visit);
        self.or_empty(visited.map(|()| union(lists)))
    }
}
