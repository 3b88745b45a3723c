//! `/federate`: the latest sample of every series that a selector names, for another server to scrape.
//!
//! Native histograms go out in protobuf alone, those with custom buckets as classic ones. Labels are in the order of
//! their names, where upstream puts the external ones last.

use crate::{
    Backend,
    reply::{Shared, params, refusal, unready},
};
use exposition::{Family, Histogram, Metric, MetricValue};
use model::{Builder, CUSTOM_SCHEMA, FloatHistogram, Labels, Matcher, MetricType, Timestamp, Value, is_stale};
use std::{collections::BTreeMap, sync::Arc};
use storage::{Columns, ReadError};
use web::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};

/// A family of every metric name, each series with the time of its sample.
pub(crate) async fn federate(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let mut sets = match params.selectors() {
        Ok(sets) => sets,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    // As upstream: a selector without a matcher selects nothing.
    sets.retain(|set| !set.is_empty());
    if !backend.ready.get() {
        return unready();
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let native = exposition::negotiate(accept, false).0.is_protobuf();
    let found = tokio::task::spawn_blocking(move || collect(&backend, &sets, native)).await;
    match found {
        Ok(Ok(families)) => web::metrics_response(families, &headers, false),
        Ok(Err(error)) => refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "the request failed inside, see the log\n"),
    }
}

/// The newest sample of a series, unless the series has ended.
fn newest(columns: &Columns) -> Option<(i64, Value)> {
    let float = columns.times.last().zip(columns.values.last()).map(|(at, value)| (*at, Value::Float(*value)));
    let histogram = columns.histograms.last().map(|(at, value)| (*at, Value::Histogram(value.clone())));
    let (at, value) = float.into_iter().chain(histogram).max_by_key(|(at, _)| *at)?;
    let ended = match &value {
        Value::Float(value) => is_stale(*value),
        Value::Histogram(value) => is_stale(value.sum),
    };
    (!ended).then_some((at, value))
}

fn collect(backend: &Backend, sets: &[Vec<Matcher>], native: bool) -> Result<Vec<Family>, ReadError> {
    let now = backend.now();
    let lookback = i64::try_from(backend.engine.options().lookback.as_millis()).unwrap_or(i64::MAX);
    let querier = backend.storage.querier(Timestamp(now.0.saturating_sub(lookback)), now);
    // A series that several selectors name comes once.
    let mut latest: BTreeMap<Labels, (i64, Value)> = BTreeMap::new();
    let mut batch: Vec<Columns> = Vec::new();
    for set in sets {
        let mut series = querier.select(set)?;
        loop {
            series.next_batch(256, &mut batch)?;
            if batch.is_empty() {
                break;
            }
            for columns in batch.drain(..) {
                if let Some(newest) = newest(&columns) {
                    latest.insert(columns.labels, newest);
                }
            }
        }
    }
    Ok(families(latest, &(backend.external_labels)(), native))
}

/// The labels of a series outside: the external ones where it has none of its own, and `instance` in any case, so that
/// whoever scrapes adds no other.
fn outside(labels: &Labels, external: &Labels) -> Labels {
    let mut builder = Builder::from(&labels.without_name());
    for (name, value) in external.iter().chain([("instance", "")]) {
        if labels.get(name).is_none() && !builder.pairs().any(|(have, _)| have == name) {
            builder.push(name, value);
        }
    }
    builder.build_with_empty()
}

/// What a family can hold of a histogram.
fn histogram(value: &Arc<FloatHistogram>) -> (MetricType, Histogram) {
    let kind = if value.gauge { MetricType::GaugeHistogram } else { MetricType::Histogram };
    let mut out = Histogram { count: value.count, sum: value.sum, ..Histogram::default() };
    if value.schema == CUSTOM_SCHEMA {
        out.buckets = classic(value);
    } else {
        out.native = Some(FloatHistogram::clone(value));
    }
    (kind, out)
}

/// Custom buckets as cumulative ones. Empty buckets between the spans count as well. O(bounds).
fn classic(value: &FloatHistogram) -> Vec<(f64, f64)> {
    let mut counts = vec![0.0; value.custom_bounds.len() + 1];
    let (mut place, mut buckets) = (0_i64, value.positive.iter());
    for span in &value.positive_spans {
        place += i64::from(span.offset);
        for count in buckets.by_ref().take(span.length as usize) {
            if let Some(slot) = usize::try_from(place).ok().and_then(|place| counts.get_mut(place)) {
                *slot = *count;
            }
            place += 1;
        }
    }
    let mut sum = 0.0;
    let bounds = value.custom_bounds.iter().copied().chain([f64::INFINITY]);
    let add = |(bound, count): (f64, f64)| {
        sum += count;
        (bound, sum)
    };
    bounds.zip(counts).map(add).collect()
}

fn families(latest: BTreeMap<Labels, (i64, Value)>, external: &Labels, native: bool) -> Vec<Family> {
    // A name that has both kinds of samples makes two families, as upstream begins a new one.
    let mut families: BTreeMap<(String, &'static str), (MetricType, Vec<Metric>)> = BTreeMap::new();
    for (labels, (at, value)) in latest {
        let name = labels.metric_name().to_owned();
        if name.is_empty() {
            continue;
        }
        let (kind, value) = match value {
            Value::Float(value) => (MetricType::Unknown, MetricValue::Untyped(value)),
            Value::Histogram(value) if native || value.schema == CUSTOM_SCHEMA => {
                let (kind, value) = histogram(&value);
                (kind, MetricValue::Histogram(Box::new(value)))
            }
            Value::Histogram(_) => continue,
        };
        let metric = Metric { labels: outside(&labels, external), value, at: Some(at) };
        families.entry((name, kind.as_str())).or_insert_with(|| (kind, Vec::new())).1.push(metric);
    }
    let family =
        |((name, _), (kind, metrics))| Family { name, help: String::new(), kind, unit: String::new(), metrics };
    families.into_iter().map(family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Span;

    #[test]
    fn external_labels_fill_gaps_and_instance_is_always_there() {
        let external = Labels::from_pairs([("region", "eu"), ("job", "x")]);
        let shown = |pairs: &[(&str, &str)]| {
            let labels = outside(&Labels::from_pairs(pairs.iter().copied()), &external);
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&[("__name__", "m"), ("job", "own")]), "instance= job=own region=eu");
        assert_eq!(shown(&[("__name__", "m"), ("instance", "i")]), "instance=i job=x region=eu");
    }

    #[test]
    fn histograms_go_out_where_they_can() {
        let custom = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count: 6.0,
            custom_bounds: vec![1.0, 2.0],
            positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }],
            positive: vec![2.0, 4.0],
            ..FloatHistogram::default()
        };
        assert_eq!(classic(&custom), [(1.0, 2.0), (2.0, 2.0), (f64::INFINITY, 6.0)]);
        let series = |name: &str, value: &FloatHistogram| {
            (Labels::from_pairs([("__name__", name)]), (1, Value::Histogram(Arc::new(value.clone()))))
        };
        let latest = BTreeMap::from([series("c", &custom), series("n", &FloatHistogram::default())]);
        let names = |native| {
            let families = families(latest.clone(), &Labels::empty(), native);
            families.into_iter().map(|family| family.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((names(false).as_str(), names(true).as_str()), ("c", "c n"));
    }
}
