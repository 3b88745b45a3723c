//! Finding series by their labels, registering them, and the limits on how many there may be.

use super::{Head, LIVE, LOGGED, PAGE, SLOT_MAX, Series};
use chunk::Damaged;
use model::{Labels, METRIC_NAME, Matcher, Timestamp};
use roaring::RoaringBitmap;
use std::fmt::Write;
use storage::{AppendError, Cardinality};

/// Names shown of those that have the most series.
const OFFENDERS: usize = 3;

impl Head {
    /// The id of a series that is known; `key` is scratch.
    pub(crate) fn find(&self, labels: &Labels, key: &mut Vec<u8>) -> Option<u64> {
        if !self.names.find_key(labels, key) {
            return None;
        }
        let hash = self.names.hash(key);
        let slot = *self.table.find(hash, |slot| self.names.key(self.slot(*slot).labels) == &key[..])?;
        Some(self.slot(slot).id(slot))
    }

    /// The id of a series, registered if new.
    pub(crate) fn register(&mut self, labels: &Labels) -> Result<u64, AppendError> {
        let mut key = std::mem::take(&mut self.scratch);
        let found = self.find(labels, &mut key);
        self.scratch = key;
        if let Some(id) = found {
            return Ok(id);
        }
        self.room_for(labels)?;
        let slot = match self.free.min() {
            Some(slot) => {
                self.free.remove(slot);
                slot
            }
            None => {
                self.top += 1;
                self.top - 1
            }
        };
        self.counts.created += 1;
        self.place(slot, self.generation, labels, 0);
        Ok(self.slot(slot).id(slot))
    }

    /// Refuses a new series when there are too many; the message says who has the most.
    fn room_for(&mut self, labels: &Labels) -> Result<(), AppendError> {
        let (series, limit, flag) = (self.len(), self.options.series_max, self.options.series_flag);
        if series >= limit || self.names.is_full() {
            self.counts.refused += 1;
            return Err(AppendError::Crowded { limit, flag, most: self.offenders() });
        }
        let soft = self.options.job_series_max;
        let job = labels.get("job").unwrap_or_default();
        if soft == 0 || series < limit / 4 * 3 || self.names.series_with("job", job) < soft {
            return Ok(());
        }
        self.counts.refused += 1;
        let most =
            format!("{series} of {limit} series are in use and job {job:?} is over its share; {}", self.offenders());
        Err(AppendError::Crowded { limit: soft, flag: self.options.job_series_flag, most })
    }

    /// Who has the most series: metrics and jobs. O(pairs of both).
    pub(crate) fn offenders(&self) -> String {
        let mut text = String::new();
        for (what, label) in [("metrics", METRIC_NAME), ("jobs", "job")] {
            let mut all: Vec<(u64, &str)> = self
                .names
                .each()
                .filter(|(name, _)| *name == label)
                .flat_map(|(_, values)| values.map(|(value, series)| (series, value)))
                .collect();
            all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
            let _ = write!(text, "{}{what} with the most:", if text.is_empty() { "" } else { "; " });
            for (series, value) in all.iter().take(OFFENDERS) {
                let _ = write!(text, " {value} {series}");
            }
        }
        text
    }

    /// Puts a series into a slot that is not in use.
    fn place(&mut self, slot: u32, generation: u32, labels: &Labels, flags: u8) {
        while self.pages.len() <= (slot / PAGE) as usize {
            self.pages.push(vec![Series::default(); PAGE as usize].into_boxed_slice());
        }
        let touched = self.counts.truncations as u8;
        let labels = self.names.add(labels, slot);
        *self.slot_mut(slot) = Series { labels, generation, touched, flags: flags | LIVE, ..Series::default() };
        let (names, pages) = (&self.names, &self.pages);
        let hash = |slot: &u32| names.hash(names.key(pages[(slot / PAGE) as usize][(slot % PAGE) as usize].labels));
        self.table.insert_unique(hash(&slot), slot, hash);
    }

    /// A series that the log or a snapshot names: under an id of its own choice. One of the same labels goes on under the
    /// new id; another one at its slot was given up and is forgotten.
    pub(crate) fn restore(&mut self, id: u64, labels: &Labels) -> Result<u32, Damaged> {
        let (slot, generation) = (id as u32, (id >> 32) as u32);
        if slot >= SLOT_MAX || self.names.is_full() {
            return Err(Damaged);
        }
        self.generation = self.generation.max(generation);
        let mut key = std::mem::take(&mut self.scratch);
        let found = self.find(labels, &mut key);
        self.scratch = key;
        if found == Some(id) {
            return Ok(slot);
        }
        if slot < self.top && !self.free.contains(slot) && found.is_none_or(|old| old as u32 != slot) {
            self.release(&[slot]);
        }
        while self.top <= slot {
            self.free.insert(self.top);
            self.top += 1;
        }
        while self.pages.len() <= (slot / PAGE) as usize {
            self.pages.push(vec![Series::default(); PAGE as usize].into_boxed_slice());
        }
        match found {
            Some(old) if old as u32 != slot => self.relocate(old as u32, slot),
            Some(_) => {}
            None => {
                self.free.remove(slot);
                self.place(slot, generation, labels, LOGGED);
            }
        }
        let series = self.slot_mut(slot);
        series.generation = generation;
        series.flags |= LOGGED;
        Ok(slot)
    }

    /// Room for so many series at once.
    pub(crate) fn reserve(&mut self, series: usize) {
        let (names, pages) = (&self.names, &self.pages);
        let hash = |slot: &u32| names.hash(names.key(pages[(slot / PAGE) as usize][(slot % PAGE) as usize].labels));
        self.table.reserve(series, hash);
    }

    /// A series of a snapshot, whose labels are pairs that were restored before; ids come once.
    pub(crate) fn restore_numbers(&mut self, id: u64, numbers: &[u32], series: Series) -> Result<(), Damaged> {
        let slot = id as u32;
        if slot >= SLOT_MAX
            || self.names.is_full()
            || self.get(id).is_some()
            || slot < self.top && !self.free.contains(slot)
        {
            return Err(Damaged);
        }
        while self.top <= slot {
            self.free.insert(self.top);
            self.top += 1;
        }
        self.free.remove(slot);
        while self.pages.len() <= (slot / PAGE) as usize {
            self.pages.push(vec![Series::default(); PAGE as usize].into_boxed_slice());
        }
        let labels = self.names.add_numbers(numbers, slot).ok_or(Damaged)?;
        let (generation, flags) = ((id >> 32) as u32, LIVE | LOGGED);
        *self.slot_mut(slot) = Series { labels, generation, flags, ..series };
        let (names, pages) = (&self.names, &self.pages);
        let hash = |slot: &u32| names.hash(names.key(pages[(slot / PAGE) as usize][(slot % PAGE) as usize].labels));
        self.table.insert_unique(hash(&slot), slot, hash);
        Ok(())
    }

    /// The slots that satisfy all matchers, ascending.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        self.names.select(matchers, || {
            let mut all = RoaringBitmap::new();
            all.insert_range(0..self.top);
            all - &self.free
        })
    }

    /// Slots in the order of their labels. O(series log series), 8 bytes a series.
    pub(crate) fn sorted_slots(&self) -> Vec<u32> {
        let ranks = self.names.ranks();
        let key = |slot: u32| self.names.numbers(self.slot(slot).labels).map(|number| ranks[number as usize]);
        let mut slots: Vec<u32> = self.slots().map(|(slot, _)| slot).collect();
        slots.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
        slots
    }

    /// The labels of a slot in use.
    pub(crate) fn labels(&self, slot: u32, builder: &mut model::Builder) -> Labels {
        self.names.labels(self.slot(slot).labels, builder)
    }

    pub(crate) fn cardinality(&self, top: usize) -> Cardinality {
        Cardinality {
            series: self.len(),
            chunks: self.chunks(),
            range: self.min_time.zip(self.max_time).map(|(min, max)| (Timestamp(min), Timestamp(max))),
            ..Cardinality::count(top, self.names.each())
        }
    }

    /// Open and sealed chunks. O(series).
    pub(crate) fn chunks(&self) -> u64 {
        self.segments.chunks() + self.slots().filter(|(_, series)| series.state.count > 0).count() as u64
    }

    pub(crate) fn label_names(&self) -> Vec<String> {
        self.names.each().map(|(name, _)| name.to_owned()).collect()
    }

    pub(crate) fn label_values(&self, name: &str) -> Vec<String> {
        let values = self.names.each().filter(|(have, _)| *have == name);
        values.flat_map(|(_, values)| values.map(|(value, _)| value.to_owned())).collect()
    }
}
