//! What snapshot and log have, taken in at the start.

use super::{Head, Series, Side, blocks::Chain, segments::Segment};
use crate::record::{Float, Receiver, Sample};
use chunk::Damaged;
use model::{Exemplar, Labels, Metadata};

/// A head that takes records, and the exemplars in them.
pub(crate) struct Replay<'a> {
    pub(crate) head: &'a mut Head,
    pub(crate) exemplars: &'a mut storage::Exemplars,
}

impl Receiver for Replay<'_> {
    fn series(&mut self, id: u64, labels: Labels) -> Result<(), Damaged> {
        self.head.restore(id, &labels).map(drop)
    }

    fn base(&self, id: u64) -> Option<u64> {
        self.head.get(id).map(|series| series.state.value)
    }

    fn float(&mut self, float: Float) {
        self.head.push_float(float.series, float.at, float.value);
    }

    fn sample(&mut self, sample: Sample) {
        self.head.push(sample.series, sample.at, sample.start, sample.entry);
    }

    fn late(&mut self, sample: Sample) {
        self.head.push_late(sample.series, sample.at, sample.entry);
    }

    fn exemplar(&mut self, series: u64, exemplar: Exemplar) {
        if let Some(labels) =
            self.head.get(series).map(|_| self.head.labels(series as u32, &mut model::Builder::default()))
        {
            // What was admitted once is admitted again, unless it is there already.
            let _ = self.exemplars.add(labels, exemplar);
        }
    }

    fn metadata(&mut self, series: u64, metadata: Metadata) {
        self.head.set_metadata(series, &metadata);
    }
}

impl Head {
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Ids given from now on are of this generation or a later one.
    pub(crate) fn skip_generation(&mut self, generation: u32) {
        self.generation = self.generation.max(generation);
    }

    /// Appends the bytes of an open chunk.
    pub(crate) fn open_bytes(&self, series: &Series, out: &mut Vec<u8>) {
        self.blocks.read(&series.open, out);
    }

    pub(crate) fn restore_open(&mut self, bytes: &[u8], bits: u32) -> Chain {
        self.blocks.restore(bytes, bits)
    }

    pub(crate) fn restore_segment(&mut self, segment: Segment) {
        self.max_time = self.max_time.max(Some(segment.max));
        self.segments.restore(segment);
    }

    pub(crate) fn restore_side(&mut self, slot: u32, side: Side) {
        for (at, _) in side.late.first().into_iter().chain(side.late.last()) {
            let (min, max) = self.late_range.unwrap_or((*at, *at));
            self.late_range = Some((min.min(*at), max.max(*at)));
        }
        *self.side_mut(slot) = side;
    }

    /// Finds first and last time once a snapshot is in. O(series).
    pub(crate) fn restored(&mut self) {
        let segments = self.segments.ranges();
        let (mut min, mut max) = segments.fold((None::<i64>, None::<i64>), |(min, max), (first, last)| {
            (min.into_iter().chain([first]).min(), max.max(Some(last)))
        });
        for (slot, series) in self.slots() {
            let last = self.newest_time(series.id(slot), series);
            let open = self.blocks.beginning(&series.open);
            let first = if series.state.count > 0 { series.state.first_time(open) } else { None };
            let histogram = self.side(series.id(slot)).and_then(|side| side.histograms.first()).map(|(at, _)| *at);
            min = min.into_iter().chain(first).chain(histogram).min();
            max = max.max(last.filter(|_| first.is_some() || histogram.is_some()));
        }
        self.min_time = min.map(|min| min.max(self.floor));
        self.max_time = max;
        self.names.sweep();
    }
}
