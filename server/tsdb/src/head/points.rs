//! Samples on their way out of the head: copied as they lie under the lock, decoded without it.

use super::{
    Side,
    segments::{self, Position, Segment},
};
use crate::{disk_format::Unreadable, record::Entry};
use chunk::stream::{State, decode};
use model::{FloatHistogram, Labels};
use std::sync::Arc;

/// The sealed segments at one moment.
pub(crate) type Shared = Arc<Vec<Arc<Segment>>>;

/// The samples of one series as they lie, for decoding without a lock.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) labels: Labels,
    /// Where the sealed chunks that are not in `recent` begin.
    pub(super) at: Position,
    /// Chunks of the open segment, newest first, and its number.
    pub(super) recent: Vec<u8>,
    pub(super) segment: u32,
    pub(super) open: Vec<u8>,
    pub(super) state: State,
    pub(super) shared: Shared,
    pub(super) side: Option<Box<Side>>,
}

/// Decoded samples of one series, ascending by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Points {
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    pub(crate) histograms: Vec<(i64, Arc<FloatHistogram>)>,
    pub(crate) starts: Vec<(i64, i64)>,
}

impl Points {
    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Keeps what lies in the closed range.
    pub(crate) fn clip(&mut self, min: i64, max: i64) {
        let (from, to) = (self.times.partition_point(|at| *at < min), self.times.partition_point(|at| *at <= max));
        self.times.truncate(to);
        self.values.truncate(to);
        self.times.drain(..from.min(to));
        self.values.drain(..from.min(to));
        let kept = |at: &i64| (min..=max).contains(at);
        self.histograms.retain(|(at, _)| kept(at));
        self.starts.retain(|(at, _)| kept(at));
    }

    /// A copy of what lies in the closed range.
    pub(crate) fn within(&self, min: i64, max: i64) -> Self {
        let (from, to) = (self.times.partition_point(|at| *at < min), self.times.partition_point(|at| *at <= max));
        let range = from.min(to)..to;
        let kept = |at: &i64| (min..=max).contains(at);
        Self {
            times: self.times[range.clone()].to_vec(),
            values: self.values[range].to_vec(),
            histograms: self.histograms.iter().filter(|(at, _)| kept(at)).cloned().collect(),
            starts: self.starts.iter().filter(|(at, _)| kept(at)).copied().collect(),
        }
    }

    /// Gives up what lies in the closed range.
    pub(crate) fn cut(&mut self, min: i64, max: i64) {
        let (from, to) = (self.times.partition_point(|at| *at < min), self.times.partition_point(|at| *at <= max));
        self.times.drain(from..to.max(from));
        self.values.drain(from..to.max(from));
        let kept = |at: &i64| !(min..=max).contains(at);
        self.histograms.retain(|(at, _)| kept(at));
        self.starts.retain(|(at, _)| kept(at));
    }

    /// First and last time.
    pub(crate) fn range(&self) -> Option<(i64, i64)> {
        let first = self.times.first().copied().into_iter().chain(self.histograms.first().map(|(at, _)| *at)).min()?;
        let last = self.times.last().copied().into_iter().chain(self.histograms.last().map(|(at, _)| *at)).max()?;
        Some((first, last))
    }

    /// Adds other samples of the series, which mostly are later. Of two for one time those that were here first stay.
    pub(crate) fn append(&mut self, mut other: Self) {
        let after = match (self.range(), other.range()) {
            (Some((_, last)), Some((first, _))) => first > last,
            _ => true,
        };
        if after {
            self.times.append(&mut other.times);
            self.values.append(&mut other.values);
            self.histograms.append(&mut other.histograms);
            self.starts.append(&mut other.starts);
            return;
        }
        let mut floats: Vec<(i64, f64)> = self.times.drain(..).zip(self.values.drain(..)).collect();
        floats.extend(other.times.into_iter().zip(other.values));
        floats.sort_by_key(|(at, _)| *at);
        floats.dedup_by_key(|(at, _)| *at);
        self.histograms.append(&mut other.histograms);
        self.histograms.sort_by_key(|(at, _)| *at);
        self.histograms.dedup_by_key(|(at, _)| *at);
        // A time has one sample, of either kind.
        let histograms = &self.histograms;
        floats.retain(|(at, _)| histograms.binary_search_by_key(at, |(at, _)| *at).is_err());
        (self.times, self.values) = floats.into_iter().unzip();
        self.starts.append(&mut other.starts);
        self.starts.sort_unstable();
        self.starts.dedup_by_key(|(at, _)| *at);
    }
}

impl Raw {
    /// The samples in the closed range, of those in order from `floor` on. Chunks outside are not decoded.
    pub(crate) fn points(&self, min: i64, max: i64, floor: i64) -> Result<Points, Unreadable> {
        match self.readable(min.max(floor), max) {
            (_, Some(damage)) => Err(damage),
            (mut points, None) => {
                points.append(self.late(min, max));
                Ok(points)
            }
        }
    }

    /// The samples in order in the closed range as far as they can be read, and what cannot.
    pub(crate) fn readable(&self, min: i64, max: i64) -> (Points, Option<Unreadable>) {
        let (mut chunks, damage) = self.sealed(min);
        chunks.retain(|chunk| chunk.min <= max && chunk.max >= min);
        let mut points = Points::default();
        for chunk in chunks.iter().rev() {
            chunk
                .decode(&mut points.times, &mut points.values)
                .expect("a chunk whose checksum is right is one that was written");
        }
        decode(&self.open, self.state.count, self.state.repeats, &mut points.times, &mut points.values)
            .expect("an open chunk was written by this process or checked when it was read");
        if let Some(side) = &self.side {
            points.histograms.clone_from(&side.histograms);
            points.starts.clone_from(&side.starts);
        }
        points.clip(min, max);
        (points, damage)
    }

    /// The sealed chunks that reach to `min`, newest first.
    fn sealed(&self, min: i64) -> (Vec<segments::Sealed<'_>>, Option<Unreadable>) {
        let (mut chunks, mut rest) = (Vec::new(), 0);
        while rest < self.recent.len() {
            let at = Position { segment: self.segment, offset: rest as u32 };
            match segments::chunk(&self.recent, at) {
                Ok((chunk, length)) => {
                    rest += length;
                    chunks.push(chunk);
                }
                Err(damage) => return (chunks, Some(damage)),
            }
        }
        let mut at = self.at;
        // A segment that is not there any more ends the chain: what was in it is in parts.
        while let Ok(place) = self.shared.binary_search_by_key(&at.segment, |segment| segment.number) {
            match segments::chunk(&self.shared[place].bytes, at) {
                Ok((chunk, _)) => {
                    if chunk.max < min {
                        break;
                    }
                    at = chunk.before;
                    chunks.push(chunk);
                }
                Err(damage) => return (chunks, Some(damage)),
            }
        }
        (chunks, None)
    }

    /// The samples that came out of order, in the closed range.
    pub(crate) fn late(&self, min: i64, max: i64) -> Points {
        let mut points = Points::default();
        for (at, entry) in self.side.iter().flat_map(|side| &side.late).filter(|(at, _)| (min..=max).contains(at)) {
            match entry {
                Entry::Float(value) => {
                    points.times.push(*at);
                    points.values.push(*value);
                }
                Entry::Histogram(value) => points.histograms.push((*at, Arc::clone(value))),
            }
        }
        points
    }
}
