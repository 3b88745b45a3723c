//! What the series of a store are made of: which names, values and pairs there are most of.

use model::{METRIC_NAME, Timestamp};
use std::{cmp::Reverse, collections::BinaryHeap};

/// The makeup of the series in memory, for `/api/v1/status/tsdb`. Lists are largest first, equals by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Chunks of samples.
    pub chunks: u64,
    /// Distinct pairs of label name and value.
    pub label_pairs: u64,
    /// Oldest and newest sample.
    pub range: Option<(Timestamp, Timestamp)>,
    /// Series of each metric.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values of each label.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of the values of each label, once for each series that has them.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series of each pair, `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}

impl Cardinality {
    /// Counts an index: for each label its values, each with its number of series. O(pairs log top).
    pub fn count<'a, V: Iterator<Item = (&'a str, u64)>>(
        top: usize,
        labels: impl Iterator<Item = (&'a str, V)>,
    ) -> Self {
        let mut counted = Self::default();
        let [mut metrics, mut values, mut bytes, mut pairs] = [(); 4].map(|()| Top::new(top));
        for (name, each) in labels {
            let (mut distinct, mut size) = (0, 0);
            for (value, series) in each {
                distinct += 1;
                size += value.len() as u64 * series;
                pairs.offer(series, || format!("{name}={value}"));
                if name == METRIC_NAME {
                    metrics.offer(series, || value.to_owned());
                }
            }
            counted.label_pairs += distinct;
            values.offer(distinct, || name.to_owned());
            bytes.offer(size, || name.to_owned());
        }
        counted.series_by_metric = metrics.sorted();
        counted.values_by_label = values.sorted();
        counted.bytes_by_label = bytes.sorted();
        counted.series_by_pair = pairs.sorted();
        counted
    }
}

/// The largest few of many.
struct Top {
    limit: usize,
    /// The smallest of those kept is on top.
    kept: BinaryHeap<Reverse<(u64, Reverse<String>)>>,
}

impl Top {
    fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::new() }
    }

    /// The name is made only for what may stay.
    fn offer(&mut self, count: u64, name: impl FnOnce() -> String) {
        let small = self.kept.len() >= self.limit && self.kept.peek().is_some_and(|Reverse((least, _))| count < *least);
        if small || self.limit == 0 {
            return;
        }
        self.kept.push(Reverse((count, Reverse(name()))));
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    fn sorted(self) -> Vec<(String, u64)> {
        let sorted = self.kept.into_sorted_vec();
        sorted.into_iter().map(|Reverse((count, Reverse(name)))| (name, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_equals_by_name() {
        let values = |list: &'static [(&'static str, u64)]| list.iter().copied();
        let labels = [("__name__", values(&[("b", 3), ("a", 3), ("c", 1)])), ("x", values(&[("long", 2), ("s", 5)]))];
        let counted = Cardinality::count(2, labels.into_iter());
        let names = |list: &[(String, u64)]| list.iter().map(|(n, c)| format!("{n}:{c}")).collect::<Vec<_>>().join(" ");
        assert_eq!(counted.label_pairs, 5);
        assert_eq!(names(&counted.series_by_metric), "a:3 b:3");
        assert_eq!(names(&counted.values_by_label), "__name__:3 x:2");
        assert_eq!(names(&counted.bytes_by_label), "x:13 __name__:7");
        assert_eq!(names(&counted.series_by_pair), "x=s:5 __name__=a:3");
    }
}
