//! The head as a file: every series with its open chunk as it lies, so that the log before it can go.
//!
//! It is written and read in blocks with their own checksums, so that neither takes memory beside the head; sealed chunks
//! stay in their segments, which it names. Layout in `docs/format/head.md`.

use crate::{
    Error,
    disk_format::{put_labels, put_text, take_labels, take_text},
    head::{
        Head, Series, Side,
        segments::{self, Position},
    },
    options::Options,
    record::{Entry, put_exemplar, put_metadata, take_exemplar, take_metadata},
};
use chunk::{
    Damaged, histograms,
    stream::{State, decode},
    varint,
};
use runtime::{Disk, File, Open};
use storage::Exemplars;

const MAGIC: &[u8; 8] = b"NXHEAD\0\x02";
/// A block is ended after so many bytes.
const BLOCK: usize = 1 << 16;
/// A block longer than this is damage: one series with all its histograms is far from it.
const BLOCK_MAX: usize = 1 << 28;
/// Items of one series beyond this many are damage.
const ITEMS_MAX: usize = 1 << 24;

const HEADER: u8 = 1;
const PAIRS: u8 = 2;
const SERIES: u8 = 3;
const EXEMPLARS: u8 = 4;
const END: u8 = 5;

/// The name under which a snapshot is written.
pub(crate) fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

/// Blocks on their way into a file.
struct Writer<'a> {
    file: File,
    name: &'a str,
    at: u64,
    kind: u8,
    block: Vec<u8>,
    frame: Vec<u8>,
}

impl Writer<'_> {
    /// Room for an item of a kind.
    fn item(&mut self, kind: u8) -> Result<&mut Vec<u8>, Error> {
        if self.kind != kind || self.block.len() >= BLOCK {
            self.end_block()?;
            self.kind = kind;
        }
        Ok(&mut self.block)
    }

    fn end_block(&mut self) -> Result<(), Error> {
        if self.kind == 0 {
            return Ok(());
        }
        self.frame.clear();
        self.frame.extend_from_slice(&(self.block.len() as u32).to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&[self.kind]), &self.block);
        self.frame.extend_from_slice(&sum.to_le_bytes());
        self.frame.push(self.kind);
        self.frame.extend_from_slice(&self.block);
        self.file.write_at(self.at, &self.frame).map_err(Error::disk(format!("writing {}", self.name)))?;
        self.at += self.frame.len() as u64;
        self.block.clear();
        self.kind = 0;
        Ok(())
    }
}

/// What is not in a snapshot any more, because it is in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Samples in order lie before this time.
    pub(crate) floor: i64,
    /// Samples that came out of order lie before this time.
    pub(crate) late: i64,
    /// How many they are.
    pub(crate) samples: u64,
}

/// Writes a snapshot without what was cut off, under its temporary name. The segments of the head are all ended. O(bytes
/// of open chunks).
pub(crate) fn write(disk: &Disk, name: &str, head: &Head, ring: &Exemplars, cut: Cut) -> Result<(), Error> {
    let temporary = temporary(name);
    let written = disk.open_file(&temporary, Open::Create).map_err(Error::disk(format!("creating {temporary}")));
    let written = written.and_then(|file| {
        file.write_at(0, MAGIC).map_err(Error::disk(format!("writing {temporary}")))?;
        let mut writer = Writer { file, name, at: MAGIC.len() as u64, kind: 0, block: Vec::new(), frame: Vec::new() };
        write_all(&mut writer, head, ring, cut)
    });
    if written.is_err() {
        // Best effort: a leftover is removed at the next start.
        let _ = disk.remove(&temporary);
    }
    written
}

fn write_all(writer: &mut Writer<'_>, head: &Head, ring: &Exemplars, cut: Cut) -> Result<(), Error> {
    put_header(head, cut, writer.item(HEADER)?);
    for pair in head.names.all_pairs() {
        let (name, value) = pair.unwrap_or_default();
        let out = writer.item(PAIRS)?;
        put_text(name, out);
        put_text(value, out);
    }
    for (slot, series) in head.slots() {
        put_series(head, slot, series, cut, writer.item(SERIES)?);
    }
    for (labels, exemplar) in ring.iter() {
        let out = writer.item(EXEMPLARS)?;
        put_labels(labels, out);
        put_exemplar(exemplar, out);
    }
    varint::put(head.len(), writer.item(END)?);
    writer.end_block()
}

/// Makes a written snapshot survive a power cut under its name; only the manifest makes it count.
pub(crate) fn publish(disk: &Disk, name: &str) -> Result<(), Error> {
    let temporary = temporary(name);
    let file = disk.open_file(&temporary, Open::Write).map_err(Error::disk(format!("opening {temporary}")))?;
    file.sync().map_err(Error::disk(format!("syncing {temporary}")))?;
    disk.rename(&temporary, name).map_err(Error::disk(format!("naming {name}")))?;
    disk.sync_dir("").map_err(Error::disk(format!("naming {name}")))
}

fn put_header(head: &Head, cut: Cut, out: &mut Vec<u8>) {
    varint::put(u64::from(head.generation()), out);
    varint::put(head.samples.saturating_sub(cut.samples), out);
    varint::put(head.len(), out);
    varint::put(u64::from(head.segments.next()), out);
    let kept = head.segments.sealed().iter().filter(|segment| segment.max >= cut.floor);
    varint::put(kept.clone().count() as u64, out);
    for segment in kept {
        varint::put(u64::from(segment.number), out);
        varint::put_signed(segment.min, out);
        varint::put_signed(segment.max, out);
        varint::put(segment.chunks, out);
        varint::put(segment.bytes.len() as u64, out);
    }
}

fn put_series(head: &Head, slot: u32, series: &Series, cut: Cut, out: &mut Vec<u8>) {
    varint::put(series.id(slot), out);
    varint::put(head.names.numbers(series.labels).count() as u64, out);
    head.names.numbers(series.labels).for_each(|number| varint::put(u64::from(number), out));
    series.state.parts().iter().for_each(|number| varint::put_signed(*number, out));
    varint::put(u64::from(series.sealed.segment), out);
    varint::put(u64::from(series.sealed.offset), out);
    varint::put(u64::from(series.open.bits()), out);
    head.open_bytes(series, out);
    match head.side(series.id(slot)) {
        None => out.push(0),
        Some(side) => {
            out.push(1);
            put_side(side, cut, out);
        }
    }
}

fn put_side(side: &Side, cut: Cut, out: &mut Vec<u8>) {
    let kept = &side.histograms[side.histograms.partition_point(|(at, _)| *at < cut.floor)..];
    varint::put(kept.len() as u64, out);
    histograms::put(kept, out);
    let kept = &side.starts[side.starts.partition_point(|(at, _)| *at < cut.floor)..];
    varint::put(kept.len() as u64, out);
    for (at, start) in kept {
        varint::put_signed(*at, out);
        varint::put_signed(*start, out);
    }
    let late = &side.late[side.late.partition_point(|(at, _)| *at < cut.late)..];
    let floats = late.iter().filter_map(|(at, entry)| match entry {
        Entry::Float(value) => Some((*at, *value)),
        Entry::Histogram(_) => None,
    });
    varint::put(floats.clone().count() as u64, out);
    for (at, value) in floats {
        varint::put_signed(at, out);
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
    let late: Vec<_> = late
        .iter()
        .filter_map(|(at, entry)| match entry {
            Entry::Histogram(value) => Some((*at, value.clone())),
            Entry::Float(_) => None,
        })
        .collect();
    varint::put(late.len() as u64, out);
    histograms::put(&late, out);
    varint::put(u64::from(side.metadata.is_some()), out);
    side.metadata.iter().for_each(|metadata| put_metadata(metadata, out));
}

/// What a snapshot holds.
pub(crate) struct Restored {
    pub(crate) head: Head,
    pub(crate) ring: Exemplars,
    /// Files of segments that could not be read.
    pub(crate) missing: Vec<(String, Error)>,
}

/// Reads a snapshot; what lies before `floor` is not in it. Memory beside the head: one block.
pub(crate) fn read(disk: &Disk, name: &str, options: Options, floor: i64) -> Result<Restored, Error> {
    let file = disk.open_file(name, Open::Read).map_err(Error::disk(format!("reading {name}")))?;
    let mut at = 0;
    let mut bytes = vec![0; MAGIC.len()];
    fill(&file, name, &mut at, &mut bytes)?;
    if bytes != MAGIC {
        return Err(Error::damaged(name, "no head snapshot of this version"));
    }
    let mut restored = Restored::empty(options, floor);
    let mut ended = false;
    while !ended {
        let mut frame = [0; 9];
        fill(&file, name, &mut at, &mut frame)?;
        let [a, b, c, d, e, f, g, h, kind] = frame;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > BLOCK_MAX {
            return Err(Error::damaged(name, "a block is too long"));
        }
        bytes.resize(length, 0);
        fill(&file, name, &mut at, &mut bytes)?;
        if u32::from_le_bytes([e, f, g, h]) != crc32c::crc32c_append(crc32c::crc32c(&[kind]), &bytes) {
            return Err(Error::damaged(name, "wrong checksum"));
        }
        ended = restored.block(disk, kind, &bytes).map_err(|Damaged| Error::damaged(name, "not what was written"))?;
    }
    restored.head.restored();
    Ok(restored)
}

fn fill(file: &File, name: &str, at: &mut u64, into: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(*at, &mut into[done..]).map_err(Error::disk(format!("reading {name}")))? {
            0 => return Err(Error::damaged(name, "too short")),
            n => {
                done += n;
                *at += n as u64;
            }
        }
    }
    Ok(())
}

impl Restored {
    /// What is there without a snapshot.
    pub(crate) fn empty(options: Options, floor: i64) -> Self {
        Self { head: Head::new(options, floor), ring: Exemplars::new(options.exemplars_max), missing: Vec::new() }
    }

    /// Takes a block in; true when it is the last.
    fn block(&mut self, disk: &Disk, kind: u8, mut block: &[u8]) -> Result<bool, Damaged> {
        let bytes = &mut block;
        let mut numbers = Vec::new();
        while !bytes.is_empty() {
            match kind {
                HEADER => self.header(disk, bytes)?,
                PAIRS => {
                    let (name, value) = (take_text(bytes)?, take_text(bytes)?);
                    self.head.names.restore_pair((!value.is_empty()).then_some((name, value)));
                }
                SERIES => self.series(bytes, &mut numbers)?,
                EXEMPLARS => {
                    let labels = take_labels(bytes)?;
                    let _ = self.ring.add(labels, take_exemplar(bytes)?);
                }
                END if varint::take(bytes)? == self.head.len() => {}
                _ => return Err(Damaged),
            }
        }
        Ok(kind == END)
    }

    fn header(&mut self, disk: &Disk, bytes: &mut &[u8]) -> Result<(), Damaged> {
        let wide = |bytes: &mut &[u8]| u32::try_from(varint::take(bytes)?).map_err(|_| Damaged);
        // The truncation that follows a snapshot of a flush may not have been noted anywhere.
        self.head.skip_generation(wide(bytes)?.saturating_add(1));
        self.head.samples = varint::take(bytes)?;
        self.head.reserve(varint::take_count(bytes, 1 << 28)?);
        let next = wide(bytes)?;
        for _ in 0..varint::take_length(bytes)? {
            let number = wide(bytes)?;
            let (min, max) = (varint::take_signed(bytes)?, varint::take_signed(bytes)?);
            let chunks = varint::take(bytes)?;
            match segments::map(disk, number, (min, max, chunks), varint::take(bytes)?) {
                Ok(segment) => self.head.restore_segment(segment),
                Err(error) => self.missing.push((segments::name(number), error)),
            }
        }
        self.head.segments.skip_to(next);
        Ok(())
    }

    fn series(&mut self, bytes: &mut &[u8], numbers: &mut Vec<u32>) -> Result<(), Damaged> {
        let wide = |bytes: &mut &[u8]| u32::try_from(varint::take(bytes)?).map_err(|_| Damaged);
        let id = varint::take(bytes)?;
        numbers.clear();
        for _ in 0..varint::take_length(bytes)? {
            numbers.push(wide(bytes)?);
        }
        let mut parts = [0; 9];
        for number in &mut parts {
            *number = varint::take_signed(bytes)?;
        }
        let state = State::of_parts(parts)?;
        let sealed = Position { segment: wide(bytes)?, offset: wide(bytes)? };
        let bits = wide(bytes)?;
        let open = varint::take_bytes(bytes, bits.div_ceil(8) as usize)?;
        if !open.is_empty() {
            // Readers trust open chunks, so that they are decoded once here.
            decode(open, state.count, state.repeats, &mut Vec::new(), &mut Vec::new())?;
        } else if state.count > 0 && !state.is_even() {
            return Err(Damaged);
        }
        let open = self.head.restore_open(open, bits);
        self.head.restore_numbers(id, numbers, Series::restored(state, sealed, open))?;
        match varint::take_bytes(bytes, 1)?[0] {
            0 => Ok(()),
            1 => self.side(id, bytes),
            _ => Err(Damaged),
        }
    }

    fn side(&mut self, id: u64, bytes: &mut &[u8]) -> Result<(), Damaged> {
        let mut side = Side::default();
        let count = varint::take_count(bytes, ITEMS_MAX)?;
        side.histograms = histograms::take(bytes, count)?;
        for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
            side.starts.push((varint::take_signed(bytes)?, varint::take_signed(bytes)?));
        }
        for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
            let at = varint::take_signed(bytes)?;
            let bits = varint::take_bytes(bytes, 8)?.try_into().map_err(|_| Damaged)?;
            side.late.push((at, Entry::Float(f64::from_bits(u64::from_le_bytes(bits)))));
        }
        let count = varint::take_count(bytes, ITEMS_MAX)?;
        side.late.extend(histograms::take(bytes, count)?.into_iter().map(|(at, value)| (at, Entry::Histogram(value))));
        side.late.sort_by_key(|(at, _)| *at);
        let metadata = if varint::take(bytes)? == 1 { Some(take_metadata(bytes)?) } else { None };
        self.head.restore_side(id as u32, side);
        if let Some(metadata) = metadata {
            self.head.set_metadata(id, &metadata);
        }
        Ok(())
    }
}
