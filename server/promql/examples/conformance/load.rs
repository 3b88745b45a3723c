//! `load`: series of a script into the store.

use crate::series::{Item, items, labels};
use anyhow::{Context, Result, ensure};
use model::{Builder, FloatHistogram, Labels, METRIC_NAME, Sample, Span, Timestamp, Value};
use std::{collections::BTreeMap, sync::Arc};
use storage::{Memory, Storage};

/// Loads the lines of a block; `nhcb` also makes native histograms of classic ones.
pub(crate) fn load(memory: &Memory, step: i64, lines: &[&str], nhcb: bool) -> Result<()> {
    let mut starts: Option<(Labels, Vec<Item>)> = None;
    let mut all: Vec<(Labels, Vec<Sample>)> = Vec::new();
    for line in lines {
        let (labels, is_start, rest) = labels(line).with_context(|| format!("{line:?}"))?;
        let values = items(rest).with_context(|| format!("{line:?}"))?;
        if is_start {
            starts = Some((labels, values));
            continue;
        }
        let known = starts.take();
        if let Some((of, items)) = &known {
            ensure!(*of == labels && items.len() == values.len(), "start timestamps do not fit {line:?}");
        }
        let start = |place: usize, at: i64| match known.as_ref().and_then(|(_, items)| items[place].value()) {
            Some(Value::Float(seconds)) => Some(Timestamp(at + (seconds * 1000.0).round() as i64)),
            _ => None,
        };
        let samples = values.iter().enumerate().filter_map(|(place, item)| {
            let at = place as i64 * step;
            Some(Sample { at: Timestamp(at), start: start(place, at), value: item.value()? })
        });
        let samples = samples.collect();
        all.retain(|(have, _)| *have != labels);
        all.push((labels, samples));
    }
    if nhcb {
        all.extend(native(&all));
    }
    let mut appender = memory.appender();
    for (labels, samples) in all {
        let id = appender.series(&labels)?;
        for sample in samples {
            appender.sample(id, sample).with_context(|| labels.to_string())?;
        }
    }
    appender.commit()?;
    Ok(())
}

/// A classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// Native histograms with custom bounds made of the classic ones of a block.
fn native(all: &[(Labels, Vec<Sample>)]) -> Vec<(Labels, Vec<Sample>)> {
    let mut found: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for (labels, samples) in all {
        let name = labels.metric_name();
        let Some((base, part)) =
            ["_bucket", "_count", "_sum"].iter().find_map(|part| Some((name.strip_suffix(part)?, *part)))
        else {
            continue;
        };
        let bound: Option<f64> = labels.get("le").and_then(|text| text.trim_start_matches('+').parse().ok());
        if part == "_bucket" && bound.is_none() {
            continue;
        }
        let mut builder = Builder::from(labels);
        let key = builder.del("le").set(METRIC_NAME, base).build();
        for sample in samples {
            let Value::Float(value) = sample.value else { continue };
            let classic = found.entry(key.clone()).or_default().entry(sample.at.0).or_default();
            match (part, bound) {
                ("_bucket", Some(bound)) => classic.buckets.push((bound, value)),
                ("_count", _) => classic.count = Some(value),
                _ => classic.sum = value,
            }
        }
    }
    let made = found.into_iter().map(|(labels, times)| {
        let samples = times.into_iter().filter(|(_, classic)| !classic.buckets.is_empty() || classic.count.is_some());
        let samples = samples.map(|(at, classic)| Sample { at: Timestamp(at), start: None, value: converted(classic) });
        (labels, samples.collect())
    });
    made.filter(|(_, samples): &(Labels, Vec<Sample>)| !samples.is_empty()).collect()
}

fn converted(mut classic: Classic) -> Value {
    classic.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let highest = classic.buckets.last().map_or(0.0, |(_, count)| *count);
    let count = classic.count.unwrap_or(highest);
    if classic.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        classic.buckets.push((f64::INFINITY, count));
    }
    let mut before = 0.0;
    let positive: Vec<f64> =
        classic.buckets.iter().map(|(_, count)| count - std::mem::replace(&mut before, *count)).collect();
    let bounds = classic.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
    Value::Histogram(Arc::new(FloatHistogram {
        schema: promql::histogram::CUSTOM,
        count,
        sum: classic.sum,
        positive_spans: vec![Span { offset: 0, length: positive.len() as u32 }],
        positive,
        custom_bounds: bounds.collect(),
        ..FloatHistogram::default()
    }))
}
