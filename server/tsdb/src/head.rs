//! The recent samples: every series with its open and sealed chunks, and the index over their labels.

use crate::{
    index::{Ids, Postings, union},
    options::Options,
    record::{Entry, Receiver, Sample},
};
use chunk::stream::{State, Writer, decode};
use model::{FloatHistogram, Labels, Timestamp};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use storage::{AppendError, Cardinality};

/// A chunk that takes no more samples; readers share its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) count: u16,
    pub(crate) repeats: u16,
    pub(crate) bytes: Arc<[u8]>,
}

/// One series.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) state: State,
    pub(crate) first: i64,
    pub(crate) open: Writer,
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) histograms: Vec<(i64, Arc<FloatHistogram>)>,
    pub(crate) starts: Vec<(i64, i64)>,
    /// Whether the log knows its labels.
    pub(crate) logged: bool,
    /// The truncation that last saw it written or registered.
    touched: u64,
}

/// The samples of one series as they lie, for decoding without a lock.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) labels: Labels,
    sealed: Vec<Sealed>,
    open: Vec<u8>,
    state: State,
    histograms: Vec<(i64, Arc<FloatHistogram>)>,
    starts: Vec<(i64, i64)>,
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

    /// Puts later samples behind these.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.times.append(&mut later.times);
        self.values.append(&mut later.values);
        self.histograms.append(&mut later.histograms);
        self.starts.append(&mut later.starts);
    }
}

impl Series {
    fn new(labels: Labels, touched: u64) -> Self {
        Self {
            labels,
            state: State::default(),
            first: 0,
            open: Writer::default(),
            sealed: Vec::new(),
            histograms: Vec::new(),
            starts: Vec::new(),
            logged: false,
            touched,
        }
    }

    /// A series out of a snapshot.
    pub(crate) fn restored(labels: Labels) -> Self {
        Self { logged: true, ..Self::new(labels, 0) }
    }

    /// Time and value of the newest sample.
    pub(crate) fn newest(&self) -> Option<(i64, Entry)> {
        // The state outlives its chunk when that was sealed.
        let float = (self.state.count > 0 || !self.sealed.is_empty())
            .then(|| (self.state.time, Entry::Float(f64::from_bits(self.state.value))));
        let histogram = self.histograms.last().map(|(at, value)| (*at, Entry::Histogram(Arc::clone(value))));
        match (float, histogram) {
            (Some(float), Some(histogram)) if histogram.0 > float.0 => Some(histogram),
            (None, histogram) => histogram,
            (float, _) => float,
        }
    }

    fn push(&mut self, sample: Sample, chunk_samples: u16) {
        self.starts.extend(sample.start.map(|start| (sample.at, start)));
        match sample.entry {
            Entry::Float(value) => {
                if self.state.count == 0 {
                    self.first = sample.at;
                }
                self.state.push(&mut self.open, sample.at, value);
                if self.state.count >= chunk_samples {
                    self.seal();
                }
            }
            Entry::Histogram(value) => {
                // A float in between breaks the run, so that nothing is known of a reset.
                let float = (self.state.count > 0 || !self.sealed.is_empty()).then_some(self.state.time);
                let before = self.histograms.last().filter(|(last, _)| float.is_none_or(|float| float < *last));
                let value = storage::hinted(before.map(|(_, value)| &**value), value);
                self.histograms.push((sample.at, value));
            }
        }
    }

    fn seal(&mut self) {
        let State { time, count, repeats, .. } = self.state;
        let bytes = Arc::from(self.open.bytes());
        self.sealed.push(Sealed { min: self.first, max: time, count, repeats, bytes });
        self.open = Writer::default();
        self.state = self.state.next_chunk();
    }

    pub(crate) fn raw(&self) -> Raw {
        Raw {
            labels: self.labels.clone(),
            sealed: self.sealed.clone(),
            open: self.open.bytes().to_vec(),
            state: self.state,
            histograms: self.histograms.clone(),
            starts: self.starts.clone(),
        }
    }

    fn oldest(&self) -> Option<i64> {
        let open = (self.state.count > 0).then_some(self.first);
        let float = self.sealed.first().map(|sealed| sealed.min).or(open);
        float.into_iter().chain(self.histograms.first().map(|(at, _)| *at)).min()
    }

    /// Drops whole chunks before `cutoff`.
    fn drop_before(&mut self, cutoff: i64) {
        let old = self.sealed.partition_point(|sealed| sealed.max < cutoff);
        self.sealed.drain(..old);
        if self.state.count > 0 && self.state.time < cutoff {
            self.state = self.state.next_chunk();
            self.open = Writer::default();
        }
        let histograms = self.histograms.partition_point(|(at, _)| *at < cutoff);
        self.histograms.drain(..histograms);
        self.starts.retain(|(at, _)| *at >= cutoff);
    }
}

impl Raw {
    /// The samples in the closed range. Chunks outside are not decoded.
    pub(crate) fn points(&self, min: i64, max: i64) -> Points {
        let mut points = Points::default();
        for sealed in self.sealed.iter().filter(|sealed| sealed.max >= min && sealed.min <= max) {
            decode(&sealed.bytes, sealed.count, sealed.repeats, &mut points.times, &mut points.values)
                .expect("a chunk of the head was written by this process or checked when it was read");
        }
        decode(&self.open, self.state.count, self.state.repeats, &mut points.times, &mut points.values)
            .expect("a chunk of the head was written by this process or checked when it was read");
        points.histograms.clone_from(&self.histograms);
        points.starts.clone_from(&self.starts);
        points.clip(min, max);
        points
    }
}

/// All series.
#[derive(Debug)]
pub(crate) struct Head {
    options: Options,
    pub(crate) series: HashMap<u64, Series>,
    pub(crate) ids: HashMap<Labels, u64>,
    /// Label name, then value, then the ids in ascending order.
    postings: HashMap<String, BTreeMap<String, Vec<u64>>>,
    pub(crate) next: u64,
    /// Samples from the floor on.
    pub(crate) samples: u64,
    pub(crate) appended: u64,
    pub(crate) min_time: Option<i64>,
    pub(crate) max_time: Option<i64>,
    /// What lies before is in parts, and what the head still holds of it is not read.
    pub(crate) floor: i64,
    /// What lies before is not taken any more.
    pub(crate) admit_from: i64,
    truncations: u64,
}

impl Head {
    pub(crate) fn new(options: Options, floor: i64) -> Self {
        Self {
            options,
            series: HashMap::new(),
            ids: HashMap::new(),
            postings: HashMap::new(),
            next: 1,
            samples: 0,
            appended: 0,
            min_time: None,
            max_time: None,
            floor,
            admit_from: floor,
            truncations: 0,
        }
    }

    pub(crate) fn register(&mut self, labels: &Labels) -> Result<u64, AppendError> {
        if let Some(id) = self.ids.get(labels) {
            return Ok(*id);
        }
        let limit = self.options.series_max;
        if self.series.len() as u64 >= limit {
            return Err(AppendError::Full { what: "series", limit, flag: self.options.series_flag });
        }
        let id = self.next;
        self.insert(id, Series::new(labels.clone(), self.truncations));
        Ok(id)
    }

    /// Adds a series under an id that is not in use.
    pub(crate) fn insert(&mut self, id: u64, series: Series) {
        self.next = self.next.max(id.saturating_add(1));
        for (name, value) in series.labels.iter() {
            let values = match self.postings.get_mut(name) {
                Some(values) => values,
                None => self.postings.entry(name.to_owned()).or_default(),
            };
            match values.get_mut(value) {
                Some(list) => match list.binary_search(&id) {
                    Ok(_) => {}
                    Err(place) => list.insert(place, id),
                },
                None => drop(values.insert(value.to_owned(), vec![id])),
            }
        }
        self.ids.insert(series.labels.clone(), id);
        self.series.insert(id, series);
    }

    pub(crate) fn cardinality(&self, top: usize) -> Cardinality {
        fn count<'a>((value, ids): (&'a String, &Vec<u64>)) -> (&'a str, u64) {
            (value.as_str(), ids.len() as u64)
        }
        Cardinality {
            series: self.series.len() as u64,
            chunks: self.series.values().map(|one| one.sealed.len() as u64 + u64::from(one.state.count > 0)).sum(),
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

    pub(crate) fn label_names(&self) -> Vec<String> {
        self.postings.keys().cloned().collect()
    }

    pub(crate) fn label_values(&self, name: &str) -> Vec<String> {
        self.postings.get(name).into_iter().flatten().map(|(value, _)| value.clone()).collect()
    }

    /// Whether a sample may follow those of its series: `Ok(false)` for a harmless repetition.
    pub(crate) fn admit(&self, series: u64, at: i64, entry: &Entry) -> Result<bool, AppendError> {
        let series = self.series.get(&series).ok_or(AppendError::UnknownSeries)?;
        if at < self.admit_from {
            return Err(AppendError::OutOfBounds);
        }
        series.newest().map_or(Ok(true), |(last, have)| admissible(last, at, || have.same(entry)))
    }

    /// Takes samples in. One that another transaction has overtaken meanwhile is dropped.
    pub(crate) fn apply(&mut self, samples: Vec<Sample>) {
        for sample in samples {
            self.sample_in(sample);
        }
    }

    fn sample_in(&mut self, sample: Sample) {
        let at = sample.at;
        let Some(series) = self.series.get_mut(&sample.series) else { return };
        if at < self.floor || series.newest().is_some_and(|(last, _)| at <= last) {
            return;
        }
        series.push(sample, self.options.chunk_samples);
        series.touched = self.truncations;
        self.samples += 1;
        self.appended += 1;
        self.min_time = Some(self.min_time.map_or(at, |min| min.min(at)));
        self.max_time = Some(self.max_time.map_or(at, |max| max.max(at)));
    }

    /// Gives up what lies before `cutoff`, `moved` samples, and series that have had none for two truncations.
    pub(crate) fn truncate(&mut self, cutoff: i64, moved: u64) {
        self.samples = self.samples.saturating_sub(moved);
        self.floor = self.floor.max(cutoff);
        self.admit_from = self.admit_from.max(cutoff);
        self.truncations += 1;
        let (mut gone, mut oldest) = (Vec::new(), None::<i64>);
        for (id, series) in &mut self.series {
            series.drop_before(cutoff);
            match series.oldest() {
                Some(at) => oldest = Some(oldest.map_or(at, |have| have.min(at))),
                None if self.truncations - series.touched >= 2 => gone.push(*id),
                None => {}
            }
        }
        self.min_time = oldest.map(|oldest| oldest.max(self.floor));
        self.forget(&gone);
    }

    fn forget(&mut self, gone: &[u64]) {
        let mut touched = HashMap::new();
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
}

/// Replays what the log has.
impl Receiver for Head {
    fn series(&mut self, id: u64, labels: Labels) {
        // Numbers of the log are never used twice, but a series may have been given up and named again.
        if let Some(old) = self.ids.get(&labels).copied()
            && old != id
        {
            self.forget(&[old]);
        }
        if !self.series.contains_key(&id) {
            self.insert(id, Series { logged: true, ..Series::new(labels, self.truncations) });
        }
    }

    fn sample(&mut self, sample: Sample) {
        self.sample_in(sample);
    }
}

impl Postings for Head {
    type Id = u64;

    fn all(&self) -> Ids<u64> {
        union([self.series.keys().copied().collect()])
    }

    fn pair(&self, name: &str, value: &str) -> Ids<u64> {
        self.postings.get(name).and_then(|values| values.get(value)).cloned().unwrap_or_default()
    }

    fn values(&self, name: &str, keep: &dyn Fn(&str) -> bool) -> Ids<u64> {
        let values = self.postings.get(name).into_iter().flatten();
        union(values.filter(|(value, _)| keep(value)).map(|(_, ids)| ids.clone()))
    }
}

/// Whether a sample at `at` may follow one at `last`: `Ok(false)` for a harmless repetition.
pub(crate) fn admissible(last: i64, at: i64, same: impl FnOnce() -> bool) -> Result<bool, AppendError> {
    match at.cmp(&last) {
        std::cmp::Ordering::Greater => Ok(true),
        std::cmp::Ordering::Less => Err(AppendError::OutOfOrder),
        std::cmp::Ordering::Equal if same() => Ok(false),
        std::cmp::Ordering::Equal => Err(AppendError::DuplicateTimestamp),
    }
}
