//! The index of a part on its way out: strings, series, postings and the directory of blocks, each a few bytes a series.
//!
//! Every section is read in place, see `part_index.rs`: a sparse table says where each run of sixteen strings, sixteen
//! pairs or thirty-two series begins, and what is in a run is written as the difference from the one before.

use crate::writer::GROUP;
use chunk::varint;
use std::collections::BTreeMap;

/// Strings, and pairs of the postings, that share a row of the table.
pub(crate) const RUN: usize = 16;
/// Bytes of a row in the table of postings.
pub(crate) const PAIR_ROW: usize = 16;

/// Where the samples of a group in a window are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) group: u32,
    pub(crate) window: i64,
    pub(crate) length: u32,
    pub(crate) sum: u32,
}

/// Strings in runs that say how much each shares with the one before.
pub(crate) fn strings(strings: &BTreeMap<String, u32>) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    let mut last = "";
    for (place, text) in strings.keys().enumerate() {
        if place.is_multiple_of(RUN) {
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

/// Pairs of each series in order, by group: how many, which of them are those of the series before at the same place, as
/// bits, and the others as distances from it.
pub(crate) fn series(all: &[Vec<(u32, u32)>], order: &[u32]) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for group in all.chunks(GROUP) {
        table.extend_from_slice(&(data.len() as u64).to_le_bytes());
        let mut before: Vec<(u32, u32)> = Vec::new();
        for pairs in group {
            let pairs: Vec<(u32, u32)> =
                pairs.iter().map(|(name, value)| (order[*name as usize], order[*value as usize])).collect();
            varint::put(pairs.len() as u64, &mut data);
            // Pairs beyond the width of the bits are always written.
            let same = |place: usize| place < 64 && before.get(place) == pairs.get(place);
            varint::put(
                (0..pairs.len()).filter(|place| same(*place)).fold(0, |bits, place| bits | 1 << place),
                &mut data,
            );
            for (place, (name, value)) in pairs.iter().enumerate().filter(|(place, _)| !same(*place)) {
                let (old_name, old_value) = before.get(place).copied().unwrap_or_default();
                varint::put_signed(i64::from(*name) - i64::from(old_name), &mut data);
                varint::put_signed(i64::from(*value) - i64::from(old_value), &mut data);
            }
            before = pairs;
        }
    }
    table.extend_from_slice(&data);
    table
}

/// For every pair, in the order of name and value, the series that have it: a count of pairs and the length of the table
/// and of the rows; the table with name, value, place of the row and of the list of every sixteenth pair; the rows; the
/// lists.
pub(crate) fn postings(all: &[Vec<(u32, u32)>], order: &[u32]) -> Vec<u8> {
    let mut lists: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for (number, pairs) in (0..).zip(all) {
        for (name, value) in pairs {
            lists.entry((order[*name as usize], order[*value as usize])).or_default().push(number);
        }
    }
    let (mut table, mut rows, mut data) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = (0, 0);
    for (place, (pair, list)) in lists.iter().enumerate() {
        if place.is_multiple_of(RUN) {
            table.extend_from_slice(&pair.0.to_le_bytes());
            table.extend_from_slice(&pair.1.to_le_bytes());
            // A part is far from holding 4 GiB of lists: a series has a few bytes in each.
            table.extend_from_slice(&(rows.len() as u32).to_le_bytes());
            table.extend_from_slice(&(data.len() as u32).to_le_bytes());
            last = *pair;
        }
        varint::put(u64::from(pair.0 - last.0), &mut rows);
        varint::put_signed(i64::from(pair.1) - i64::from(last.1), &mut rows);
        last = *pair;
        let begin = data.len();
        put_list(list, &mut data);
        varint::put((data.len() - begin) as u64, &mut rows);
    }
    let mut out = Vec::new();
    out.extend_from_slice(&(lists.len() as u64).to_le_bytes());
    out.extend_from_slice(&(rows.len() as u64).to_le_bytes());
    out.extend_from_slice(&table);
    out.extend_from_slice(&rows);
    out.extend_from_slice(&data);
    out
}

/// Ascending numbers as runs: twice the distance from the end of the run before, plus one if more than one number follows,
/// and then how many more than two.
fn put_list(list: &[u32], out: &mut Vec<u8>) {
    let (mut end, mut rest) = (0, list);
    while let Some(first) = rest.first() {
        let length = (*first..).zip(rest).take_while(|(want, have)| want == *have).count();
        let distance = u64::from(first - end) * 2;
        if length == 1 {
            varint::put(distance, out);
        } else {
            varint::put(distance + 1, out);
            varint::put(length as u64 - 2, out);
        }
        end = first + length as u32;
        rest = &rest[length..];
    }
}

/// Where the blocks of each group are, which lie behind each other: place of the first, count, and for each the window,
/// the length and the checksum.
pub(crate) fn directory(entries: &[(u64, Entry)], groups: usize) -> Vec<u8> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    let mut rest = entries;
    for group in 0..groups {
        table.extend_from_slice(&(data.len() as u64).to_le_bytes());
        let own = rest.iter().take_while(|(_, entry)| entry.group as usize == group).count();
        let (own, later) = rest.split_at(own);
        varint::put(own.first().map_or(0, |(place, _)| *place), &mut data);
        varint::put(own.len() as u64, &mut data);
        let mut window = 0;
        for (_, entry) in own {
            varint::put_signed(entry.window - window, &mut data);
            varint::put(u64::from(entry.length), &mut data);
            data.extend_from_slice(&entry.sum.to_le_bytes());
            window = entry.window;
        }
        rest = later;
    }
    table.extend_from_slice(&data);
    table
}
