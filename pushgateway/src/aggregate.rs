//! Sums of pushes: `?aggregate=sum`, there only with `--push.enable-aggregation`.
//!
//! Counters, classic and native histograms and the sums and counts of summaries add up over the pushes into a group;
//! gauges and untyped metrics, of which no sum is right for all, go by a rule of the push: the last one, the sum, the
//! least or the largest. Quantiles cannot be added: those of the last push stay. What a push does not name stays. The
//! result is a push of its own that is checked, stored and journaled like any other, so that reading a journal again
//! never adds anything twice. What this leaves out: knowing a repeated push from a new one.

use crate::{Group, Key, line, store::Refusal};
use exposition::{Family, Histogram, Metric, MetricValue};
use model::{CUSTOM_SCHEMA, FloatHistogram, Span};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of gauges and untyped metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gauges {
    Last,
    Sum,
    Min,
    Max,
}

impl Gauges {
    /// Reads the word of a query or header.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "last" => Self::Last,
            "sum" => Self::Sum,
            "min" => Self::Min,
            "max" => Self::Max,
            _ => return None,
        })
    }

    fn of(self, old: f64, new: f64) -> f64 {
        match self {
            Self::Last => new,
            Self::Sum => old + new,
            Self::Min => old.min(new),
            Self::Max => old.max(new),
        }
    }
}

/// The families of a push added to what its group has. Families the push does not name are left out. O(push and the
/// families of its names).
///
/// # Errors
/// When a family has another type than before, or histograms do not fit together.
pub(crate) fn sum(
    key: &Key,
    group: Option<&Group>,
    families: Vec<Family>,
    gauges: Gauges,
) -> Result<Vec<Family>, Refusal> {
    let names: BTreeSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
    let mut old: BTreeMap<String, Family> = group
        .into_iter()
        .flat_map(|group| crate::packed::stored(&group.families))
        .filter(|stored| names.contains(stored.name))
        .filter_map(|stored| Some((stored.name.to_owned(), stored.family().ok()?)))
        .collect();
    let mut out = Vec::with_capacity(families.len());
    for family in families {
        out.push(match old.remove(&family.name) {
            None => family,
            Some(old) => summed(key, old, family, gauges)?,
        });
    }
    Ok(out)
}

fn summed(key: &Key, old: Family, new: Family, gauges: Gauges) -> Result<Family, Refusal> {
    if old.kind != new.kind {
        let (old, kind) = (crate::store::upper(old.kind), crate::store::upper(new.kind));
        let name = &new.name;
        return Err(Refusal(format!("{name:?} is a {kind} and the group has a {old} of that name; delete that first")));
    }
    let exposed = |metric: &Metric| -> Vec<(String, String)> {
        let pairs = line::exposed(metric.labels.iter(), key);
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let mut places: BTreeMap<Vec<(String, String)>, usize> = BTreeMap::new();
    let mut all = Family { metrics: old.metrics, ..new.clone() };
    for (place, metric) in all.metrics.iter().enumerate() {
        places.insert(exposed(metric), place);
    }
    for metric in new.metrics {
        // One place is taken once: a series that a push has twice is left for the check to refuse.
        let Some(place) = places.remove(&exposed(&metric)) else {
            all.metrics.push(metric);
            continue;
        };
        let have = &mut all.metrics[place];
        let value = add(&have.value, metric.value, gauges);
        let value =
            value.map_err(|why| Refusal(format!("{:?} cannot be added to what the group has: {why}", new.name)))?;
        *have = Metric { value, at: metric.at, labels: metric.labels };
    }
    Ok(all)
}

fn add(old: &MetricValue, new: MetricValue, gauges: Gauges) -> Result<MetricValue, String> {
    let first = |old: &Option<i64>, new: Option<i64>| old.or(new);
    Ok(match (old, new) {
        (MetricValue::Counter { value: a, start: from, .. }, MetricValue::Counter { value, exemplar, start }) => {
            MetricValue::Counter { value: a + value, exemplar, start: first(from, start) }
        }
        (MetricValue::Gauge(a), MetricValue::Gauge(b)) => MetricValue::Gauge(gauges.of(*a, b)),
        (MetricValue::Untyped(a), MetricValue::Untyped(b)) => MetricValue::Untyped(gauges.of(*a, b)),
        (
            MetricValue::Summary { count: a, sum: b, start: from, .. },
            MetricValue::Summary { count, sum, quantiles, start },
        ) => MetricValue::Summary { count: a + count, sum: b + sum, quantiles, start: first(from, start) },
        (MetricValue::Histogram(a), MetricValue::Histogram(b)) => MetricValue::Histogram(Box::new(histograms(a, *b)?)),
        _ => return Err("its value is of another type".to_owned()),
    })
}

fn histograms(old: &Histogram, new: Histogram) -> Result<Histogram, String> {
    let bounds = |histogram: &Histogram| -> Vec<u64> {
        // The last one goes without saying, and may be said.
        let finite = histogram.buckets.iter().map(|(bound, _)| *bound).filter(|bound| *bound != f64::INFINITY);
        finite.map(f64::to_bits).collect()
    };
    if bounds(old) != bounds(&new) {
        return Err("its buckets have other bounds".to_owned());
    }
    let native = match (&old.native, &new.native) {
        (Some(old), Some(new)) => Some(natives(old, new)?),
        (None, None) => None,
        _ => return Err("only one of them is a native histogram".to_owned()),
    };
    let mut buckets = if new.buckets.len() >= old.buckets.len() { new.buckets.clone() } else { old.buckets.clone() };
    for (bound, count) in &mut buckets {
        let of = |histogram: &Histogram| {
            let found = histogram.buckets.iter().find(|(have, _)| have == bound);
            found.map_or(histogram.count, |(_, count)| *count)
        };
        *count = of(old) + of(&new);
    }
    let (count, sum) = (old.count + new.count, old.sum + new.sum);
    Ok(Histogram { count, sum, buckets, native, start: old.start.or(new.start), ..new })
}

/// Buckets by index.
type Buckets = BTreeMap<i64, f64>;

fn natives(old: &FloatHistogram, new: &FloatHistogram) -> Result<FloatHistogram, String> {
    let custom = |histogram: &FloatHistogram| histogram.schema == CUSTOM_SCHEMA;
    if custom(old) != custom(new) || old.custom_bounds != new.custom_bounds {
        return Err("its buckets have other bounds".to_owned());
    }
    if old.zero_threshold != new.zero_threshold {
        return Err("its zero bucket has another width".to_owned());
    }
    let schema = old.schema.min(new.schema);
    let both = |side: fn(&FloatHistogram) -> (&[Span], &[f64])| {
        let mut all = Buckets::new();
        for histogram in [old, new] {
            let (spans, counts) = side(histogram);
            collect(&mut all, spans, counts, (histogram.schema - schema).unsigned_abs());
        }
        spans(&all)
    };
    let (positive_spans, positive) = both(|histogram| (&histogram.positive_spans, &histogram.positive));
    let (negative_spans, negative) = both(|histogram| (&histogram.negative_spans, &histogram.negative));
    Ok(FloatHistogram {
        schema,
        count: old.count + new.count,
        sum: old.sum + new.sum,
        zero_count: old.zero_count + new.zero_count,
        positive_spans,
        positive,
        negative_spans,
        negative,
        ..new.clone()
    })
}

/// Adds buckets, each of `2^coarser` neighbours into one.
fn collect(all: &mut Buckets, spans: &[Span], counts: &[f64], coarser: u32) {
    let (mut index, mut counts) = (0i64, counts.iter());
    for span in spans {
        index = index.saturating_add(i64::from(span.offset));
        for count in counts.by_ref().take(span.length as usize) {
            // The bucket with index i ends at its bound, so that the last of each row gives the index.
            let place = if coarser == 0 { index } else { ((index - 1) >> coarser.min(62)) + 1 };
            *all.entry(place).or_insert(0.0) += count;
            index = index.saturating_add(1);
        }
    }
}

fn spans(all: &Buckets) -> (Vec<Span>, Vec<f64>) {
    let (mut spans, mut counts): (Vec<Span>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0i64;
    for (index, count) in all {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: i32::try_from(index - next).unwrap_or(i32::MAX), length: 1 }),
        }
        next = index + 1;
        counts.push(*count);
    }
    (spans, counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::key;

    fn parsed(text: &str) -> Vec<Family> {
        exposition::families::parse_text(text.as_bytes()).expect("valid")
    }

    /// The text of a group after pushes of these texts, or why one was refused.
    fn check(pushes: &[&str], gauges: Gauges, want: Result<&str, &str>) {
        let (key, mut group) = (key(&[("job", "a")]), None);
        let mut last = Ok(Vec::new());
        for text in pushes {
            last = sum(&key, group.as_ref(), parsed(text), gauges);
            let Ok(families) = &last else { break };
            let mut packed = Vec::new();
            for family in families {
                let mut bytes = Vec::new();
                crate::packed::put_family(&mut bytes, family);
                crate::packed::put_stored(&mut packed, 1, &bytes);
            }
            group = Some(Group { families: packed.into(), ..Group::new(1) });
        }
        let mut out = Vec::new();
        let text = last.map(|families| {
            exposition::write(&families, exposition::Format::Text004, exposition::Escaping::AllowUtf8, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        });
        match (text, want) {
            (Ok(text), Ok(want)) => assert_eq!(text, want, "{pushes:?}"),
            (Err(why), Err(want)) => assert!(why.to_string().contains(want), "{why}"),
            (got, _) => panic!("{pushes:?}: {got:?}"),
        }
    }

    #[test]
    fn counters_and_histograms_add_up_and_gauges_go_by_their_rule() {
        let counter = "# TYPE c counter\nc{x=\"1\"} 2\n";
        let other = "# TYPE c counter\nc{x=\"2\"} 5\nc{x=\"1\"} 3\n";
        check(&[counter, other], Gauges::Last, Ok("# TYPE c counter\nc{x=\"1\"} 5\nc{x=\"2\"} 5\n"));
        check(&[counter, other, counter], Gauges::Last, Ok("# TYPE c counter\nc{x=\"1\"} 7\nc{x=\"2\"} 5\n"));
        // The label of the grouping key counts, and not what a body says there.
        let (one, two) = ("# TYPE c counter\nc{job=\"x\"} 1\n", "# TYPE c counter\nc{job=\"y\"} 2\n");
        check(&[one, two], Gauges::Last, Ok("# TYPE c counter\nc{job=\"y\"} 3\n"));
        let gauge = ["# TYPE g gauge\ng 4\n", "# TYPE g gauge\ng 1\n"];
        for (rule, want) in [(Gauges::Last, 1), (Gauges::Sum, 5), (Gauges::Min, 1), (Gauges::Max, 4)] {
            check(&gauge, rule, Ok(&format!("# TYPE g gauge\ng {want}\n")));
        }
        let summary = "# TYPE s summary\ns{quantile=\"0.5\"} 3\ns_sum 6\ns_count 2\n";
        check(&[summary, summary], Gauges::Last, Ok("# TYPE s summary\ns{quantile=\"0.5\"} 3\ns_sum 12\ns_count 4\n"));
        let whole = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 9\nh_count 3\n";
        let short = "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n";
        let want = "# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 5\nh_sum 10\nh_count 5\n";
        check(&[whole, short], Gauges::Last, Ok(want));
        check(&[short, whole], Gauges::Last, Ok(want));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check(
            &["# TYPE c counter\nc 2\n", "# TYPE c gauge\nc 2\n"],
            Gauges::Sum,
            Err("is a GAUGE and the group has a COUNTER"),
        );
        let other = "# TYPE h histogram\nh_bucket{le=\"2\"} 2\nh_sum 1\nh_count 2\n";
        let one = "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n";
        check(&[one, other], Gauges::Sum, Err("other bounds"));
    }

    #[test]
    fn native_histograms_add_up_at_the_coarser_schema() {
        let make = |schema: i32, spans: &[(i32, u32)], counts: &[f64]| FloatHistogram {
            schema,
            count: counts.iter().sum(),
            positive_spans: spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect(),
            positive: counts.to_vec(),
            ..FloatHistogram::default()
        };
        // At schema 1 the buckets 1 and 2 end at 2^(1/2) and 2: both are bucket 1 of schema 0.
        let sum = natives(&make(1, &[(1, 2), (1, 1)], &[1.0, 2.0, 4.0]), &make(0, &[(1, 1)], &[8.0])).expect("fits");
        assert_eq!(sum, make(0, &[(1, 2)], &[11.0, 4.0]));
        let wide = FloatHistogram { zero_threshold: 0.5, ..make(0, &[], &[]) };
        assert!(natives(&wide, &make(0, &[], &[])).is_err());
    }
}
