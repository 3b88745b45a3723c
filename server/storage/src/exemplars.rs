//! Exemplars: the newest so many of all series, in one ring, with upstream's rules on what follows what.
//!
//! Source of the rules: `tsdb/exemplar.go` of upstream.

use crate::{AppendError, SeriesExemplars};
use model::{Exemplar, Labels, Matcher};
use std::collections::{HashMap, VecDeque};

/// Characters that the labels of an exemplar may have, names and values together: OpenMetrics' limit.
const LABEL_CHARS_MAX: usize = 128;

/// What is in the ring of one series.
#[derive(Debug)]
struct Known {
    count: usize,
    newest: Exemplar,
}

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExemplarCounts {
    /// Exemplars taken.
    pub appended: u64,
    /// Exemplars refused because they came out of order.
    pub out_of_order: u64,
}

/// All exemplars, oldest first.
#[derive(Debug)]
pub struct Exemplars {
    max: usize,
    entries: VecDeque<(Labels, Exemplar)>,
    series: HashMap<Labels, Known>,
    /// What was done since the start.
    pub counts: ExemplarCounts,
}

impl Exemplars {
    /// An empty ring for so many; 0 keeps none.
    pub fn new(max: usize) -> Self {
        Self { max, entries: VecDeque::new(), series: HashMap::new(), counts: ExemplarCounts::default() }
    }

    /// Whether none are kept.
    pub fn is_off(&self) -> bool {
        self.max == 0
    }

    /// How many are kept.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Exemplars, and series that have some.
    #[allow(clippy::len_without_is_empty, reason = "two numbers are no length")]
    pub fn len(&self) -> (usize, usize) {
        (self.entries.len(), self.series.len())
    }

    /// Time of the oldest that is kept, in milliseconds.
    pub fn oldest(&self) -> Option<i64> {
        self.entries.front().and_then(|(_, exemplar)| exemplar.at).map(|at| at.0)
    }

    /// Changes how many are kept; the oldest go.
    pub fn resize(&mut self, max: usize) {
        self.max = max;
        while self.entries.len() > max {
            self.evict();
        }
        self.entries.shrink_to(max);
    }

    fn evict(&mut self) {
        let Some((labels, _)) = self.entries.pop_front() else { return };
        if let Some(known) = self.series.get_mut(&labels) {
            known.count -= 1;
            if known.count == 0 {
                self.series.remove(&labels);
            }
        }
    }

    /// Whether an exemplar may follow those of its series: `Ok(false)` for a harmless repetition.
    ///
    /// # Errors
    /// `OutOfBounds` without a time, `ExemplarLabels`, `OutOfOrderExemplar`.
    pub fn admit(&mut self, labels: &Labels, exemplar: &Exemplar) -> Result<bool, AppendError> {
        let Some(at) = exemplar.at else { return Err(AppendError::OutOfBounds) };
        let chars = exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count());
        if chars.sum::<usize>() > LABEL_CHARS_MAX {
            return Err(AppendError::ExemplarLabels);
        }
        let Some(Known { newest, .. }) = self.series.get(labels) else { return Ok(true) };
        let same = newest.labels == exemplar.labels && newest.value.to_bits() == exemplar.value.to_bits();
        if same && newest.at == exemplar.at {
            return Ok(false);
        }
        // Buckets of a histogram have exemplars of one time: they come by value, then by the hash of their labels.
        let newest_at = newest.at.map_or(i64::MIN, |at| at.0);
        let before = at.0 < newest_at
            || at.0 == newest_at
                && (exemplar.value < newest.value
                    || exemplar.value == newest.value && exemplar.labels.hash64() < newest.labels.hash64());
        if before {
            self.counts.out_of_order += 1;
            return Err(AppendError::OutOfOrderExemplar);
        }
        Ok(true)
    }

    /// Adds an exemplar if it may follow; the oldest one makes room. O(1).
    ///
    /// # Errors
    /// As [`Exemplars::admit`].
    pub fn add(&mut self, labels: Labels, exemplar: Exemplar) -> Result<(), AppendError> {
        if self.max == 0 || !self.admit(&labels, &exemplar)? {
            return Ok(());
        }
        while self.entries.len() >= self.max {
            self.evict();
        }
        let known = self.series.entry(labels.clone());
        // Entries of a series share the text of its key.
        let labels = known.key().clone();
        known
            .and_modify(|known| {
                known.count += 1;
                known.newest = exemplar.clone();
            })
            .or_insert_with(|| Known { count: 1, newest: exemplar.clone() });
        self.entries.push_back((labels, exemplar));
        self.counts.appended += 1;
        Ok(())
    }

    /// Exemplars of a closed time range of the series that satisfy any of the selectors. O(exemplars).
    pub fn select(&self, min: i64, max: i64, selectors: &[Vec<Matcher>]) -> Vec<SeriesExemplars> {
        let mut found: HashMap<&Labels, Vec<Exemplar>> = HashMap::new();
        let wanted: Vec<&Labels> = self
            .series
            .keys()
            .filter(|labels| selectors.iter().any(|matchers| Matcher::all(matchers, labels)))
            .collect();
        wanted.into_iter().for_each(|labels| drop(found.insert(labels, Vec::new())));
        for (labels, exemplar) in &self.entries {
            if exemplar.at.is_some_and(|at| (min..=max).contains(&at.0))
                && let Some(list) = found.get_mut(labels)
            {
                list.push(exemplar.clone());
            }
        }
        let mut all: Vec<SeriesExemplars> = found
            .into_iter()
            .filter(|(_, exemplars)| !exemplars.is_empty())
            .map(|(labels, exemplars)| SeriesExemplars { labels: labels.clone(), exemplars })
            .collect();
        all.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        all
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Labels, Exemplar)> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    fn one(at: i64, value: f64, trace: &str) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", trace)]), value, at: Some(Timestamp(at)) }
    }

    fn series(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    #[test]
    fn order_and_repetition_are_upstreams() {
        let mut ring = Exemplars::new(10);
        for (exemplar, want) in [
            (one(10, 1.0, "a"), Ok(())),
            (one(10, 1.0, "a"), Ok(())),
            (one(9, 1.0, "b"), Err(AppendError::OutOfOrderExemplar)),
            (one(10, 2.0, "b"), Ok(())),
            (one(10, 1.5, "b"), Err(AppendError::OutOfOrderExemplar)),
            (one(11, 0.0, "b"), Ok(())),
            (Exemplar { at: None, ..one(0, 1.0, "x") }, Err(AppendError::OutOfBounds)),
            (one(12, 0.0, &"é".repeat(120)), Ok(())),
            (one(13, 0.0, &"é".repeat(121)), Err(AppendError::ExemplarLabels)),
        ] {
            assert_eq!(ring.add(series("m"), exemplar.clone()), want, "{exemplar:?}");
        }
        assert_eq!((ring.len(), ring.counts), ((4, 1), ExemplarCounts { appended: 4, out_of_order: 2 }));
    }

    #[test]
    fn the_ring_keeps_the_newest_and_finds_them_by_series_and_time() {
        let mut ring = Exemplars::new(3);
        for at in 0..5 {
            ring.add(series(if at % 2 == 0 { "even" } else { "odd" }), one(at, at as f64, "t")).expect("in order");
        }
        let ask = |ring: &Exemplars, min, max, name: &str| {
            let matcher = Matcher::new(model::MatchOp::Regex, "__name__", name).expect("valid");
            let found = ring.select(min, max, &[vec![matcher]]);
            let times = |one: &SeriesExemplars| one.exemplars.iter().filter_map(|e| e.at).map(|at| at.0).collect();
            found.iter().map(|one| (one.labels.metric_name().to_owned(), times(one))).collect::<Vec<(_, Vec<i64>)>>()
        };
        assert_eq!(ask(&ring, 0, 9, ".*"), [("even".into(), vec![2, 4]), ("odd".into(), vec![3])]);
        assert_eq!(ask(&ring, 3, 4, "even"), [("even".into(), vec![4])]);
        ring.resize(1);
        assert_eq!(ask(&ring, 0, 9, ".*"), [("even".into(), vec![4])]);
        assert_eq!(ring.len(), (1, 1));
        ring.resize(0);
        ring.add(series("even"), one(9, 1.0, "t")).expect("ignored");
        assert_eq!(ring.len(), (0, 0));
    }
}
