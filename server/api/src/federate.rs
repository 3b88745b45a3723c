//! `/federate`: the latest sample of every series that a selector names, for another server to scrape.

use crate::{
    Backend,
    handlers::{Shared, params},
};
use exposition::{Family, Metric, MetricValue};
use model::{Builder, Labels, Matcher, MetricType, Timestamp, is_stale};
use std::collections::BTreeMap;
use storage::{Columns, ReadError};
use web::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

/// A family of every metric name, each series with the time of its sample.
pub(crate) async fn federate(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let sets: Result<Vec<Vec<Matcher>>, _> = params.all("match[]").map(promql::parse_selector).collect();
    let sets = match sets {
        Ok(sets) => sets,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    if !backend.ready.get() {
        return (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response();
    }
    let found = tokio::task::spawn_blocking(move || collect(&backend, &sets)).await;
    match found {
        Ok(Ok(families)) => web::metrics_response(families, &headers, false),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the request failed inside, see the log\n").into_response(),
    }
}

fn collect(backend: &Backend, sets: &[Vec<Matcher>]) -> Result<Vec<Family>, ReadError> {
    let now = backend.now();
    let lookback = i64::try_from(backend.engine.options().lookback.as_millis()).unwrap_or(i64::MAX);
    let querier = backend.storage.querier(Timestamp(now.0.saturating_sub(lookback)), now);
    // A series that several selectors name comes once.
    let mut latest: BTreeMap<Labels, (i64, f64)> = BTreeMap::new();
    let mut batch: Vec<Columns> = Vec::new();
    for set in sets {
        let mut series = querier.select(set)?;
        loop {
            series.next_batch(256, &mut batch)?;
            if batch.is_empty() {
                break;
            }
            for columns in batch.drain(..) {
                if let (Some(at), Some(value)) = (columns.times.last(), columns.values.last())
                    && !is_stale(*value)
                {
                    latest.insert(columns.labels, (*at, *value));
                }
            }
        }
    }
    Ok(families(latest, &(backend.external_labels)()))
}

fn families(latest: BTreeMap<Labels, (i64, f64)>, external: &Labels) -> Vec<Family> {
    let mut families: BTreeMap<String, Vec<Metric>> = BTreeMap::new();
    for (labels, (at, value)) in latest {
        let name = labels.metric_name().to_owned();
        if name.is_empty() {
            continue;
        }
        let mut builder = Builder::from(&labels.without_name());
        for (name, value) in external.iter() {
            if builder.get(name).is_empty() {
                builder.set(name, value);
            }
        }
        let metric = Metric { labels: builder.build(), value: MetricValue::Untyped(value), at: Some(at) };
        families.entry(name).or_default().push(metric);
    }
    let family =
        |(name, metrics)| Family { name, help: String::new(), kind: MetricType::Unknown, unit: String::new(), metrics };
    families.into_iter().map(family).collect()
}
