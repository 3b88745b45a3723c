//! The recent samples: every series with its open chunk and the way to its sealed ones, and the index over their labels.
//!
//! A series is 64 bytes in a slot, its labels the numbers of interned pairs, its open chunk a chain of small blocks, its
//! sealed chunks in segments that become mapped files; what few series have (histograms, late samples, metadata) is kept
//! beside. The id of a series is its slot and the generation in which it got that slot, so that a slot can be used again
//! and an id never is. What commits, logs and files do with it is in `transaction`, `snapshot` and `flush`.

pub(crate) mod blocks;
mod index;
pub(crate) mod names;
pub(crate) mod points;
pub(crate) mod replay;
pub(crate) mod segments;

use crate::{options::Options, record::Entry};
use blocks::{Blocks, Chain};
use chunk::stream::State;
use hashbrown::HashTable;
use model::{FloatHistogram, Metadata};
use names::{Names, Place};
pub(crate) use points::{Points, Raw};
use roaring::RoaringBitmap;
use segments::{Position, Sealed, Segments};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use storage::AppendError;

/// Slots of a page.
const PAGE: u32 = 1 << 10;
/// Bits after which a chunk is sealed whatever it holds.
const CHUNK_BITS_MAX: u32 = 1 << 16;
/// Slots of one run that seal their chunks at the same time; others seal earlier or later, so that not all chunks are
/// full at once.
const STAGGER: u32 = 1 << 8;
/// A slot beyond this one is damage of a log.
const SLOT_MAX: u32 = 1 << 28;

/// In use.
const LIVE: u8 = 1;
/// The log knows its labels under its id.
const LOGGED: u8 = 2;
/// There is something of it in `sides`.
const SIDE: u8 = 4;

/// One series.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) state: State,
    pub(crate) open: Chain,
    /// Its newest sealed chunk.
    pub(crate) sealed: Position,
    pub(crate) labels: Place,
    generation: u32,
    /// The truncation that last saw it written or registered, modulo 256.
    touched: u8,
    /// The part of the log that has its last value in full.
    pub(crate) epoch: u8,
    flags: u8,
}

impl Series {
    /// A series of a snapshot.
    pub(crate) fn restored(state: State, sealed: Position, open: Chain) -> Self {
        Self { state, sealed, open, ..Self::default() }
    }

    pub(crate) fn is_logged(&self) -> bool {
        self.flags & LOGGED != 0
    }

    pub(crate) fn id(&self, slot: u32) -> u64 {
        u64::from(self.generation) << 32 | u64::from(slot)
    }

    /// Time of the newest float.
    pub(crate) fn last(&self) -> Option<i64> {
        (self.state.count > 0 || self.sealed.segment != 0).then_some(self.state.time)
    }
}

/// What few series have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) histograms: Vec<(i64, Arc<FloatHistogram>)>,
    /// Time of a sample and time its counter started.
    pub(crate) starts: Vec<(i64, i64)>,
    /// Samples that came out of order, by time.
    pub(crate) late: Vec<(i64, Entry)>,
    pub(crate) metadata: Option<Arc<Metadata>>,
}

impl Side {
    fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.starts.is_empty() && self.late.is_empty() && self.metadata.is_none()
    }
}

/// What a sample is to its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It follows the newest.
    Next,
    /// It comes out of order and within the window for that.
    Late,
    /// It is there already.
    Known,
}

/// Numbers for self-metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) appended: u64,
    pub(crate) late: u64,
    pub(crate) created: u64,
    pub(crate) removed: u64,
    pub(crate) sealed: u64,
    pub(crate) truncations: u64,
    /// New series refused.
    pub(crate) refused: u64,
}

/// All series.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) options: Options,
    pages: Vec<Box<[Series]>>,
    /// Slots below were handed out; those of them not in use are in `free`.
    top: u32,
    free: RoaringBitmap,
    generation: u32,
    table: HashTable<u32>,
    pub(crate) names: Names,
    blocks: Blocks,
    pub(crate) segments: Segments,
    pub(crate) sides: HashMap<u32, Box<Side>>,
    /// Ids of series that were moved lately, to their new ones.
    moved: HashMap<u64, u64>,
    /// Changes whenever an id that was valid may not be any more.
    pub(crate) stamp: u64,
    /// Samples from the floor on.
    pub(crate) samples: u64,
    pub(crate) counts: Counts,
    pub(crate) min_time: Option<i64>,
    /// No sample in order that is not in parts lies before.
    pub(crate) flush_from: i64,
    pub(crate) max_time: Option<i64>,
    /// First and last time of the samples that came out of order.
    pub(crate) late_range: Option<(i64, i64)>,
    /// What lies before is in parts, and what the head still holds of it in order is not read.
    pub(crate) floor: i64,
    /// What lies before is not taken any more but out of order.
    pub(crate) admit_from: i64,
    /// The part of the log being written; never 0.
    pub(crate) epoch: u8,
    /// What families say of themselves, each text once.
    texts: HashSet<Arc<Metadata>>,
    scratch: Vec<u8>,
}

impl Head {
    pub(crate) fn new(options: Options, floor: i64) -> Self {
        Self {
            options,
            pages: Vec::new(),
            top: 0,
            free: RoaringBitmap::new(),
            generation: 1,
            table: HashTable::new(),
            names: Names::default(),
            blocks: Blocks::default(),
            segments: Segments::new(options.segment_bytes, options.part_ms),
            sides: HashMap::new(),
            moved: HashMap::new(),
            stamp: 0,
            samples: 0,
            counts: Counts::default(),
            min_time: None,
            flush_from: i64::MIN,
            max_time: None,
            late_range: None,
            floor,
            admit_from: floor,
            epoch: 1,
            texts: HashSet::new(),
            scratch: Vec::new(),
        }
    }

    /// Series in use.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.top) - self.free.len()
    }

    fn slot(&self, slot: u32) -> &Series {
        &self.pages[(slot / PAGE) as usize][(slot % PAGE) as usize]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Series {
        &mut self.pages[(slot / PAGE) as usize][(slot % PAGE) as usize]
    }

    /// The series with an id.
    pub(crate) fn get(&self, id: u64) -> Option<&Series> {
        let slot = id as u32;
        let series = self.pages.get((slot / PAGE) as usize)?.get((slot % PAGE) as usize)?;
        (series.flags & LIVE != 0 && series.generation == (id >> 32) as u32).then_some(series)
    }

    pub(crate) fn side(&self, id: u64) -> Option<&Side> {
        self.get(id).filter(|series| series.flags & SIDE != 0)?;
        self.sides.get(&(id as u32)).map(|side| &**side)
    }

    fn side_mut(&mut self, slot: u32) -> &mut Side {
        self.slot_mut(slot).flags |= SIDE;
        self.sides.entry(slot).or_default()
    }

    /// Slots in use, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u32, &Series)> {
        let all = self.pages.iter().flat_map(|page| page.iter()).take(self.top as usize);
        (0..).zip(all).filter(|(_, series)| series.flags & LIVE != 0)
    }

    pub(crate) fn known(&self, id: u64) -> Result<(), AppendError> {
        self.get(id).map(drop).ok_or(AppendError::UnknownSeries)
    }

    /// The id that a series has now, which may have been moved since it was `id`.
    pub(crate) fn current(&self, id: u64) -> Option<u64> {
        let id = self.moved.get(&id).copied().unwrap_or(id);
        self.get(id).map(|_| id)
    }

    pub(crate) fn set_logged(&mut self, id: u64) {
        if self.get(id).is_some() {
            self.slot_mut(id as u32).flags |= LOGGED;
        }
    }

    /// Time and value of the newest sample in order.
    pub(crate) fn newest(&self, id: u64, series: &Series) -> Option<(i64, Entry)> {
        let float = series.last().map(|at| (at, Entry::Float(f64::from_bits(series.state.value))));
        let histogram = self
            .side(id)
            .and_then(|side| side.histograms.last())
            .map(|(at, value)| (*at, Entry::Histogram(Arc::clone(value))));
        match (float, histogram) {
            (Some(float), Some(histogram)) if histogram.0 > float.0 => Some(histogram),
            (None, histogram) => histogram,
            (float, _) => float,
        }
    }

    /// Time of the newest sample in order.
    pub(crate) fn newest_time(&self, id: u64, series: &Series) -> Option<i64> {
        let float = series.last();
        if series.flags & SIDE == 0 {
            return float;
        }
        let histogram = self.side(id).and_then(|side| side.histograms.last()).map(|(at, _)| *at);
        float.into_iter().chain(histogram).max()
    }

    /// What a float is to its series, and whether the log knows that; the hot path. O(1).
    pub(crate) fn admit_float(&self, id: u64, at: i64, value: f64) -> Result<(Admission, bool), AppendError> {
        let series = self.get(id).ok_or(AppendError::UnknownSeries)?;
        let logged = series.is_logged();
        if series.flags & SIDE == 0 && at >= self.admit_from && series.last().is_none_or(|last| at > last) {
            return Ok((Admission::Next, logged));
        }
        Ok((self.admit(id, at, &Entry::Float(value))?, logged))
    }

    /// What a sample is to its series.
    pub(crate) fn admit(&self, id: u64, at: i64, entry: &Entry) -> Result<Admission, AppendError> {
        let series = self.get(id).ok_or(AppendError::UnknownSeries)?;
        let newest = self.newest(id, series);
        self.judge(newest.as_ref().map(|(last, have)| (*last, have)), at, entry)
    }

    /// What a sample is to the newest one, by upstream's order of reasons.
    pub(crate) fn judge(
        &self,
        newest: Option<(i64, &Entry)>,
        at: i64,
        entry: &Entry,
    ) -> Result<Admission, AppendError> {
        if at >= self.admit_from {
            match newest {
                None => return Ok(Admission::Next),
                Some((last, _)) if at > last => return Ok(Admission::Next),
                Some((last, have)) if at == last => {
                    return if have.same(entry) { Ok(Admission::Known) } else { Err(AppendError::DuplicateTimestamp) };
                }
                Some(_) => {}
            }
        }
        let window = self.options.out_of_order_ms;
        if window > 0 {
            let oldest = self.max_time.map_or(i64::MIN, |max| max.saturating_sub(window));
            return if at >= oldest { Ok(Admission::Late) } else { Err(AppendError::TooOld) };
        }
        Err(if at < self.admit_from { AppendError::OutOfBounds } else { AppendError::OutOfOrder })
    }

    /// Takes a float in. One that is not newer than the newest is dropped: another transaction has overtaken it. O(1).
    pub(crate) fn push_float(&mut self, id: u64, at: i64, value: f64) {
        let slot = id as u32;
        let full = self.options.chunk_samples;
        let Self { pages, blocks, segments, scratch, counts, sides, .. } = self;
        let page = pages.get_mut((slot / PAGE) as usize);
        let Some(series) = page.and_then(|page| page.get_mut((slot % PAGE) as usize)) else { return };
        if series.flags & LIVE == 0 || series.generation != (id >> 32) as u32 || at < self.floor {
            return;
        }
        let mut known = series.last();
        if series.flags & SIDE != 0 {
            let histogram = sides.get(&slot).and_then(|side| side.histograms.last()).map(|(at, _)| *at);
            known = known.max(histogram);
        }
        if known.is_some_and(|last| at <= last) {
            return;
        }
        if !series.state.push(&mut blocks.sink(&mut series.open), at, value) {
            seal(series, blocks, segments, scratch);
            counts.sealed += 1;
            series.state.push(&mut blocks.sink(&mut series.open), at, value);
        }
        (series.touched, series.epoch) = (counts.truncations as u8, self.epoch);
        let limit = if series.sealed.segment != 0 { full } else { first_limit(slot, full) };
        if series.state.count >= limit || series.open.bits() > CHUNK_BITS_MAX {
            seal(series, blocks, segments, scratch);
            counts.sealed += 1;
        }
        self.took(at);
    }

    fn took(&mut self, at: i64) {
        self.samples += 1;
        self.counts.appended += 1;
        self.min_time = Some(self.min_time.map_or(at, |min| min.min(at)));
        self.flush_from = self.flush_from.min(at);
        self.max_time = Some(self.max_time.map_or(at, |max| max.max(at)));
    }

    /// Takes any sample in that comes in order; one that does not is dropped.
    pub(crate) fn push(&mut self, id: u64, at: i64, start: Option<i64>, entry: Entry) {
        let Some(series) = self.get(id) else { return };
        if at < self.floor || self.newest_time(id, series).is_some_and(|last| at <= last) {
            return;
        }
        let (slot, float) = (id as u32, series.last());
        if let Some(start) = start {
            self.side_mut(slot).starts.push((at, start));
        }
        match entry {
            // A side was made above, but what is there is not newer.
            Entry::Float(value) => self.push_float(id, at, value),
            Entry::Histogram(value) => {
                self.slot_mut(slot).touched = self.counts.truncations as u8;
                let side = self.side_mut(slot);
                // A float in between breaks the run, so that nothing is known of a reset.
                let before = side.histograms.last().filter(|(last, _)| float.is_none_or(|float| float < *last));
                let value = storage::hinted(before.map(|(_, value)| &**value), value);
                side.histograms.push((at, value));
                self.took(at);
            }
        }
    }

    /// Takes a sample in that came out of order; one whose time is there already is dropped.
    pub(crate) fn push_late(&mut self, id: u64, at: i64, entry: Entry) {
        if self.get(id).is_none() {
            return;
        }
        let touched = self.counts.truncations as u8;
        self.slot_mut(id as u32).touched = touched;
        let late = &mut self.side_mut(id as u32).late;
        let Err(place) = late.binary_search_by_key(&at, |(at, _)| *at) else { return };
        late.insert(place, (at, entry));
        self.samples += 1;
        self.counts.appended += 1;
        self.counts.late += 1;
        let (min, max) = self.late_range.unwrap_or((at, at));
        self.late_range = Some((min.min(at), max.max(at)));
    }

    /// Samples of one series as they lie.
    pub(crate) fn raw(&self, slot: u32, shared: &points::Shared, builder: &mut model::Builder) -> Raw {
        let series = self.slot(slot);
        let (mut recent, mut open) = (Vec::new(), Vec::new());
        let at = self.segments.open_chunks(series.sealed, &mut recent);
        let mut state = series.state;
        self.blocks.read(&series.open, &mut open);
        if state.count > 0 && open.is_empty() {
            let mut header = chunk::stream::Writer::default();
            state.begin(&mut header);
            open = header.bytes().to_vec();
        }
        Raw {
            labels: self.names.labels(series.labels, builder),
            at,
            recent,
            segment: self.segments.next(),
            open,
            state,
            shared: shared.clone(),
            side: if series.flags & SIDE == 0 { None } else { self.sides.get(&slot).cloned() },
        }
    }

    /// The segments as they are now.
    pub(crate) fn shared(&self) -> points::Shared {
        Arc::clone(self.segments.sealed())
    }

    /// Keeps what the family of a series says of itself.
    pub(crate) fn set_metadata(&mut self, id: u64, metadata: &Metadata) {
        if self.get(id).is_none() {
            return;
        }
        let shared = match self.texts.get(metadata) {
            Some(shared) => shared.clone(),
            None => {
                let shared = Arc::new(metadata.clone());
                self.texts.insert(shared.clone());
                shared
            }
        };
        self.side_mut(id as u32).metadata = Some(shared);
    }

    /// Gives up what lies before `cutoff`, `moved` samples, and series that have had none for two truncations; answers
    /// the numbers of the segments in files that are not needed any more. O(series).
    pub(crate) fn truncate(&mut self, cutoff: i64, moved: u64) -> Vec<u32> {
        self.samples = self.samples.saturating_sub(moved);
        self.floor = self.floor.max(cutoff);
        self.admit_from = self.admit_from.max(cutoff);
        self.counts.truncations += 1;
        self.generation += 1;
        self.stamp += 1;
        let dropped = self.segments.drop_before(cutoff);
        self.sides.retain(|_, side| {
            side.histograms.retain(|(at, _)| *at >= cutoff);
            side.starts.retain(|(at, _)| *at >= cutoff);
            !side.is_empty()
        });
        let (mut gone, mut oldest) = (Vec::new(), None::<i64>);
        let truncation = self.counts.truncations as u8;
        let Self { pages, blocks, sides, top, .. } = self;
        let all = pages.iter_mut().flat_map(|page| page.iter_mut()).take(*top as usize);
        for (slot, series) in (0..).zip(all).filter(|(_, series)| series.flags & LIVE != 0) {
            if series.state.count > 0 && series.state.time < cutoff {
                series.state = series.state.next_chunk();
                blocks.clear(&mut series.open);
            }
            let side = sides.get(&slot);
            if side.is_none() {
                series.flags &= !SIDE;
            }
            let open = (series.state.count > 0).then(|| series.state.first_time(blocks.beginning(&series.open)));
            let histogram = side.and_then(|side| side.histograms.first()).map(|(at, _)| *at);
            let late = side.is_some_and(|side| !side.late.is_empty());
            oldest = oldest.into_iter().chain(open.flatten()).chain(histogram).min();
            let recent = series.last().is_some_and(|at| at >= cutoff) || histogram.is_some() || late;
            if !recent && truncation.wrapping_sub(series.touched) >= 2 {
                gone.push(slot);
            }
        }
        let sealed = self.segments.ranges().map(|(min, _)| min).min();
        self.min_time = oldest.into_iter().chain(sealed).min().map(|oldest| oldest.max(self.floor));
        self.forget(&gone);
        dropped
    }

    fn forget(&mut self, gone: &[u32]) {
        self.release(gone);
        if !gone.is_empty() {
            self.stamp += 1;
            self.names.sweep();
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.pack();
        }
    }

    /// Gives slots up; what their labels leave behind stays until the next sweep.
    fn release(&mut self, gone: &[u32]) {
        for slot in gone {
            let series = std::mem::take(self.slot_mut(*slot));
            let hash = self.names.hash(self.names.key(series.labels));
            if let Ok(entry) = self.table.find_entry(hash, |have| have == slot) {
                entry.remove();
            }
            self.names.remove(series.labels, *slot);
            let mut open = series.open;
            self.blocks.clear(&mut open);
            self.sides.remove(slot);
            self.free.insert(*slot);
        }
        self.counts.removed += gone.len() as u64;
    }

    /// Packs what has become sparse.
    fn pack(&mut self) {
        let Self { pages, blocks, names, top, .. } = self;
        let live = |series: &&mut Series| series.flags & LIVE != 0;
        let mut all = pages.iter_mut().flat_map(|page| page.iter_mut()).take(*top as usize);
        if blocks.is_sparse() {
            blocks.pack(all.by_ref().filter(live).map(|series| &mut series.open));
        }
        if names.is_sparse() {
            let all = pages.iter_mut().flat_map(|page| page.iter_mut()).take(*top as usize);
            names.repack(all.filter(live).map(|series| &mut series.labels));
            self.rebuild_table();
        }
        if self.sides.len() < self.sides.capacity() / 4 {
            self.sides.shrink_to_fit();
        }
    }

    /// Finds the series by their keys again, which have changed.
    fn rebuild_table(&mut self) {
        let mut table = HashTable::with_capacity(self.len() as usize);
        let hash = |slot: &u32| self.names.hash(self.names.key(self.slot(*slot).labels));
        for (slot, _) in self.slots() {
            table.insert_unique(hash(&slot), slot, hash);
        }
        self.table = table;
    }

    /// Moves at most `most` series from the last slots to free ones when many are free, and gives pages back. A moved
    /// series has a new id; whoever holds the old one finds it unknown, or, in a transaction, by [`Head::current`].
    pub(crate) fn compact(&mut self, most: usize) {
        self.moved = HashMap::new();
        if u64::from(self.top) <= self.len() + self.len() / 8 + u64::from(PAGE) {
            return;
        }
        self.generation += 1;
        self.stamp += 1;
        for _ in 0..most {
            self.lower_top();
            let (Some(to), Some(from)) = (self.free.min(), self.top.checked_sub(1)) else { break };
            self.relocate(from, to);
        }
        self.lower_top();
        self.pages.truncate(self.top.div_ceil(PAGE) as usize);
    }

    fn lower_top(&mut self) {
        while self.top > 0 && self.free.contains(self.top - 1) {
            self.top -= 1;
            self.free.remove(self.top);
        }
    }

    /// Moves a series to a free slot under a new id.
    fn relocate(&mut self, from: u32, to: u32) {
        let mut series = std::mem::take(self.slot_mut(from));
        let old = series.id(from);
        series.generation = self.generation;
        series.flags &= !LOGGED;
        self.moved.insert(old, series.id(to));
        let hash = self.names.hash(self.names.key(series.labels));
        if let Some(slot) = self.table.find_mut(hash, |have| *have == from) {
            *slot = to;
        }
        self.names.move_slot(series.labels, from, to);
        if let Some(side) = self.sides.remove(&from) {
            self.sides.insert(to, side);
        }
        *self.slot_mut(to) = series;
        self.free.remove(to);
        self.free.insert(from);
    }

    /// Takes the samples that came out of order and lie before `end` away, as they are in parts now; `written` of them.
    pub(crate) fn drop_late(&mut self, end: i64, written: u64) {
        self.samples = self.samples.saturating_sub(written);
        let mut range: Option<(i64, i64)> = None;
        for side in self.sides.values_mut() {
            side.late.retain(|(at, _)| *at >= end);
            for (at, _) in side.late.first().into_iter().chain(side.late.last()) {
                range = Some(range.map_or((*at, *at), |(min, max)| (min.min(*at), max.max(*at))));
            }
        }
        self.late_range = range;
    }

    /// Bytes of memory held, but for the segments.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.pages.len() * PAGE as usize * size_of::<Series>();
        slots + self.table.allocation_size() + self.names.bytes() + self.blocks.bytes() + self.free.serialized_size()
    }

    /// The next part of the log begins: values are written in full there.
    pub(crate) fn next_epoch(&mut self) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }
}

/// Samples after which the first chunk of a slot is sealed: fewer than later ones, by its place.
fn first_limit(slot: u32, full: u16) -> u16 {
    full - (slot / STAGGER * 37 % (u32::from(full) * 3 / 4).max(1)) as u16
}

/// Ends the open chunk of a series.
fn seal(series: &mut Series, blocks: &mut Blocks, segments: &mut Segments, scratch: &mut Vec<u8>) {
    series.state.begin(&mut blocks.sink(&mut series.open));
    scratch.clear();
    blocks.read(&series.open, scratch);
    let State { time, count, repeats, .. } = series.state;
    let min = series.state.first_time(scratch).unwrap_or(time);
    let chunk = Sealed { before: series.sealed, min, max: time, count, repeats, bytes: scratch };
    series.sealed = segments.push(&chunk);
    blocks.clear(&mut series.open);
    series.state = series.state.next_chunk();
}
