//! What the in-memory store holds: series with their columns, the index from label to series, and the rules of both.

use crate::{
    AppendError, Cardinality, Columns, Limits, Stats, continuity,
    memory::{Entry, SERIES_FLAG},
};
use model::{FloatHistogram, Labels, MatchOp, Matcher, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A commit sweeps old samples once the newest sample has advanced this far since the last sweep.
const SWEEP_EVERY_MS: i64 = 60_000;
/// Empty series are forgotten after this many sweeps; until then an open transaction may still write to them.
const SWEEPS_EMPTY_MAX: u64 = 2;

/// Whether a sample at `at` may follow one at `last`: `Ok(false)` for a harmless repetition.
pub(crate) fn admissible(last: i64, at: i64, same: impl FnOnce() -> bool) -> Result<bool, AppendError> {
    match at.cmp(&last) {
        std::cmp::Ordering::Greater => Ok(true),
        std::cmp::Ordering::Less => Err(AppendError::OutOfOrder),
        std::cmp::Ordering::Equal if same() => Ok(false),
        std::cmp::Ordering::Equal => Err(AppendError::DuplicateTimestamp),
    }
}

/// One series.
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
    pub(crate) histograms: Vec<(i64, Arc<FloatHistogram>)>,
    /// Time of a sample and time its counter started, where known.
    pub(crate) starts: Vec<(i64, i64)>,
    /// The sweep that last saw it written or registered.
    touched: u64,
}

impl Series {
    pub(crate) fn newest(&self) -> Option<(i64, Entry)> {
        let float = self.times.last().zip(self.values.last()).map(|(at, value)| (*at, Entry::Float(*value)));
        let histogram = self.histograms.last().map(|(at, value)| (*at, Entry::Histogram(Arc::clone(value))));
        match (float, histogram) {
            (Some(float), Some(histogram)) if histogram.0 > float.0 => Some(histogram),
            (None, histogram) => histogram,
            (float, _) => float,
        }
    }

    fn oldest(&self) -> Option<i64> {
        let histogram = self.histograms.first().map(|(at, _)| *at);
        self.times.first().copied().into_iter().chain(histogram).min()
    }

    fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    fn range(&self, min: i64, max: i64) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let floats = self.times.partition_point(|at| *at < min)..self.times.partition_point(|at| *at <= max);
        let from = self.histograms.partition_point(|(at, _)| *at < min);
        let histograms = from..self.histograms.partition_point(|(at, _)| *at <= max);
        (floats, histograms)
    }

    pub(crate) fn has_any(&self, min: i64, max: i64) -> bool {
        let (floats, histograms) = self.range(min, max);
        floats.start < floats.end || histograms.start < histograms.end
    }

    /// The samples in the range; none when there are none.
    pub(crate) fn columns(&self, min: i64, max: i64) -> Option<Columns> {
        if !self.has_any(min, max) {
            return None;
        }
        let (floats, histograms) = self.range(min, max);
        Some(Columns {
            labels: self.labels.clone(),
            times: Arc::from(&self.times[floats.clone()]),
            values: Arc::from(&self.values[floats]),
            histograms: self.histograms[histograms].to_vec(),
            starts: self.starts.iter().filter(|(at, _)| (min..=max).contains(at)).copied().collect(),
        })
    }

    fn push(&mut self, at: i64, start: Option<i64>, entry: Entry) {
        self.starts.extend(start.map(|start| (at, start)));
        match entry {
            Entry::Float(value) => {
                self.times.push(at);
                self.values.push(value);
            }
            Entry::Histogram(value) => {
                // A float in between breaks the run, so that nothing is known of a reset.
                let before =
                    self.histograms.last().filter(|(last, _)| self.times.last().is_none_or(|float| float < last));
                let value = continuity::hinted(before.map(|(_, value)| &**value), value);
                self.histograms.push((at, value));
            }
        }
    }

    /// Drops samples before `cutoff`; answers how many.
    fn drop_before(&mut self, cutoff: i64) -> usize {
        let before = self.len();
        let floats = self.times.partition_point(|at| *at < cutoff);
        self.times.drain(..floats);
        self.values.drain(..floats);
        let histograms = self.histograms.partition_point(|(at, _)| *at < cutoff);
        self.histograms.drain(..histograms);
        self.starts.retain(|(at, _)| *at >= cutoff);
        before - self.len()
    }
}

/// All series and the index over them.
pub(crate) struct Head {
    pub(crate) limits: Limits,
    pub(crate) ids: HashMap<Labels, u64>,
    pub(crate) series: HashMap<u64, Series>,
    /// Label name, then value, then the ids in ascending order.
    postings: HashMap<String, BTreeMap<String, Vec<u64>>>,
    next: u64,
    samples: u64,
    appended: u64,
    min_time: Option<i64>,
    max_time: Option<i64>,
    sweeps: u64,
    swept_at: Option<i64>,
}

impl Head {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ids: HashMap::new(),
            series: HashMap::new(),
            postings: HashMap::new(),
            next: 1,
            samples: 0,
            appended: 0,
            min_time: None,
            max_time: None,
            sweeps: 0,
            swept_at: None,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            series: self.series.len() as u64,
            samples: self.samples,
            appended: self.appended,
            min_time: self.min_time.map(Timestamp),
            max_time: self.max_time.map(Timestamp),
        }
    }

    pub(crate) fn cardinality(&self, top: usize) -> Cardinality {
        fn count<'a>((value, ids): (&'a String, &Vec<u64>)) -> (&'a str, u64) {
            (value.as_str(), ids.len() as u64)
        }
        Cardinality {
            series: self.series.len() as u64,
            chunks: self.series.len() as u64,
            range: self.min_time.zip(self.max_time).map(|(min, max)| (Timestamp(min), Timestamp(max))),
            ..Cardinality::count(
                top,
                self.postings.iter().map(|(name, values)| (name.as_str(), values.iter().map(count))),
            )
        }
    }

    pub(crate) fn known(&self, id: u64) -> Result<(), AppendError> {
        if self.series.contains_key(&id) { Ok(()) } else { Err(AppendError::UnknownSeries) }
    }

    /// The oldest time that may be written, once something was.
    pub(crate) fn cutoff(&self) -> Option<i64> {
        let retention = i64::try_from(self.limits.retention?.as_millis()).unwrap_or(i64::MAX);
        Some(self.max_time?.saturating_sub(retention))
    }

    pub(crate) fn register(&mut self, labels: &Labels) -> Result<u64, AppendError> {
        if let Some(id) = self.ids.get(labels) {
            return Ok(*id);
        }
        let limit = self.limits.series_max;
        if self.series.len() as u64 >= limit {
            return Err(AppendError::Full { what: "series", limit, flag: SERIES_FLAG });
        }
        let id = self.next;
        self.next += 1;
        for (name, value) in labels.iter() {
            if !self.postings.contains_key(name) {
                self.postings.insert(name.to_owned(), BTreeMap::new());
            }
            if let Some(values) = self.postings.get_mut(name) {
                match values.get_mut(value) {
                    Some(list) => list.push(id),
                    None => drop(values.insert(value.to_owned(), vec![id])),
                }
            }
        }
        self.ids.insert(labels.clone(), id);
        let series = Series {
            labels: labels.clone(),
            times: Vec::new(),
            values: Vec::new(),
            histograms: Vec::new(),
            starts: Vec::new(),
            touched: self.sweeps,
        };
        self.series.insert(id, series);
        Ok(id)
    }

    /// Takes a transaction in. A sample that another transaction has overtaken meanwhile is dropped.
    pub(crate) fn accept(&mut self, pending: Vec<(u64, i64, Option<i64>, Entry)>) {
        for (id, at, start, entry) in pending {
            let Some(series) = self.series.get_mut(&id) else { continue };
            let last = series.newest().map(|(last, _)| last);
            if last.is_some_and(|last| at <= last) {
                continue;
            }
            series.push(at, start, entry);
            series.touched = self.sweeps;
            self.samples += 1;
            self.appended += 1;
            self.min_time = Some(self.min_time.map_or(at, |min| min.min(at)));
            self.max_time = Some(self.max_time.map_or(at, |max| max.max(at)));
        }
        self.expire();
    }

    /// Enforces the limits on samples. Regular sweeps are a minute apart, so that a commit does not walk all series.
    fn expire(&mut self) {
        let Some(max) = self.max_time else { return };
        let due = self.swept_at.is_none_or(|at| max.saturating_sub(at) >= SWEEP_EVERY_MS);
        if due {
            self.sweep(self.cutoff().unwrap_or(i64::MIN));
        }
        // Each round gives up the oldest eighth of the time held, rounded up, so that the loop ends.
        while self.samples > self.limits.samples_max {
            let (Some(min), Some(max)) = (self.min_time, self.max_time) else { return };
            if min >= max {
                return;
            }
            self.sweep(min.saturating_add(max.saturating_sub(min) / 8 + 1));
        }
    }

    fn sweep(&mut self, cutoff: i64) {
        self.sweeps += 1;
        self.swept_at = self.max_time;
        let mut oldest: Option<i64> = None;
        let mut gone = Vec::new();
        for (id, series) in &mut self.series {
            self.samples -= series.drop_before(cutoff) as u64;
            match series.oldest() {
                Some(at) => oldest = Some(oldest.map_or(at, |have| have.min(at))),
                None if self.sweeps - series.touched >= SWEEPS_EMPTY_MAX => gone.push(*id),
                None => {}
            }
        }
        self.min_time = oldest.or(self.max_time);
        self.forget(&gone);
    }

    fn forget(&mut self, gone: &[u64]) {
        let mut touched: HashMap<(String, String), ()> = HashMap::new();
        for id in gone {
            let Some(series) = self.series.remove(id) else { continue };
            self.ids.remove(&series.labels);
            for (name, value) in series.labels.iter() {
                touched.insert((name.to_owned(), value.to_owned()), ());
            }
        }
        for (name, value) in touched.into_keys() {
            let Some(values) = self.postings.get_mut(&name) else { continue };
            if let Some(list) = values.get_mut(&value) {
                list.retain(|id| self.series.contains_key(id));
                if list.is_empty() {
                    values.remove(&value);
                }
            }
            if values.is_empty() {
                self.postings.remove(&name);
            }
        }
    }

    /// The series that satisfy all matchers, found through the most selective index list there is.
    pub(crate) fn matching<'a>(&'a self, matchers: &'a [Matcher]) -> Box<dyn Iterator<Item = (u64, &'a Series)> + 'a> {
        let fits = move |series: &Series| Matcher::all(matchers, &series.labels);
        match self.candidates(matchers) {
            Some(ids) => Box::new(
                ids.into_iter()
                    .filter_map(|id| self.series.get(&id).map(|series| (id, series)))
                    .filter(move |(_, series)| fits(series)),
            ),
            None => {
                Box::new(self.series.iter().map(|(id, series)| (*id, series)).filter(move |(_, series)| fits(series)))
            }
        }
    }

    /// A superset of the matching ids; none when every matcher accepts an absent label.
    fn candidates(&self, matchers: &[Matcher]) -> Option<Vec<u64>> {
        let equal =
            matchers.iter().filter(|matcher| matches!(matcher.op(), MatchOp::Equal) && !matcher.matches_empty());
        let list = |matcher: &Matcher| {
            self.postings
                .get(matcher.name())
                .and_then(|values| values.get(matcher.value()))
                .map_or(&[][..], Vec::as_slice)
        };
        if let Some(shortest) = equal.map(list).min_by_key(|list| list.len()) {
            return Some(shortest.to_vec());
        }
        let matcher = matchers.iter().find(|matcher| !matcher.matches_empty())?;
        let values = self.postings.get(matcher.name());
        Some(
            values
                .into_iter()
                .flatten()
                .filter(|(value, _)| matcher.matches(value))
                .flat_map(|(_, ids)| ids.iter().copied())
                .collect(),
        )
    }
}
