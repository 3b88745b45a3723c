//! What the server says of its abilities and of itself to programs: features, its API's description, notifications, its
//! own metrics as JSON.

use crate::{
    Backend, Failure, json,
    reply::{Data, Shared, answer, constant, envelope, params},
};
use exposition::{Family, Metric, MetricValue};
use model::{MatchOp, Matcher, MetricType, Timestamp};
use std::{convert::Infallible, sync::Arc, time::Duration};
use web::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

/// How often a listener to notifications is told of changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks without a change after which a listener gets a comment, so that a dead connection is noticed.
const SILENT_MAX: u32 = 15;

/// `/features`: by category, what is on and what is off.
pub(crate) async fn features(State(backend): Shared, headers: HeaderMap) -> Response {
    let features = backend.engine.options().features;
    let functions: Vec<(&str, bool)> = promql::functions::all()
        .map(|function| (function.name, !function.experimental || features.experimental_functions))
        .collect();
    let mut data = String::from("{");
    for (i, (category, list)) in [
        (
            "api",
            vec![
                ("admin", backend.admin),
                ("exclude_alerts", true),
                ("label_values_match", true),
                ("lifecycle", backend.lifecycle.is_some()),
                ("query_stats", true),
                ("query_warnings", true),
                ("remote_write_receiver", backend.receives),
                ("search", true),
                ("time_range_labels", true),
                ("time_range_series", true),
            ],
        ),
        (
            "promql",
            vec![
                ("anchored_and_smoothed", features.extended_ranges),
                ("at_modifier", true),
                ("delayed_name_removal", features.delayed_name_removal),
                ("duration_expr", features.duration_expressions),
                ("fill_modifiers", features.fill),
                ("negative_offset", true),
                ("type_and_unit_labels", features.type_and_unit_labels),
                ("use_start_timestamps", features.start_timestamps),
            ],
        ),
        ("promql_functions", functions),
    ]
    .into_iter()
    .enumerate()
    {
        let mut list = list;
        list.sort_unstable();
        data.push_str(&format!("{}\"{category}\":{{", if i > 0 { "," } else { "" }));
        for (j, (name, on)) in list.iter().enumerate() {
            data.push_str(&format!("{}\"{name}\":{on}", if j > 0 { "," } else { "" }));
        }
        data.push('}');
    }
    data.push('}');
    constant(&data, &headers)
}

/// `/openapi.yaml`: the paths of the API with their methods.
pub(crate) async fn openapi(RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let version = match params.get("openapi_version") {
        None | Some("3.1") => "3.1.0",
        Some("3.2") => "3.2.0",
        Some(other) => {
            let text = format!("invalid parameter \"openapi_version\": {other:?} is neither 3.1 nor 3.2");
            return envelope(Err(Failure::bad(text)), &headers);
        }
    };
    let mut text = format!(
        "openapi: {version}\ninfo:\n  title: Prometheus API\n  version: {}\nservers:\n- url: /api/v1\npaths:\n",
        cli::BuildInfo::current().version
    );
    for (path, methods) in crate::routes::api_methods() {
        text.push_str(&format!("  {path}:\n"));
        if path.contains('{') {
            text.push_str("    parameters:\n    - {name: name, in: path, required: true, schema: {type: string}}\n");
        }
        for method in methods.split(", ") {
            let method = method.to_ascii_lowercase();
            text.push_str(&format!("    {method}:\n      responses:\n        default: {{description: An answer.}}\n"));
        }
    }
    web::respond_body(text.into_bytes(), "application/yaml; charset=utf-8", &headers)
}

/// What an operator should know now.
fn active(backend: &Backend) -> Vec<(&'static str, Timestamp)> {
    let reloaded = (backend.reloaded)();
    let failed = (!reloaded.worked).then_some(("Configuration reload has failed.", Timestamp(reloaded.tried_ms)));
    failed.into_iter().collect()
}

fn notification((text, at): &(&'static str, Timestamp), active: bool, out: &mut String) {
    out.push_str("{\"text\":");
    json::escaped(text, out);
    out.push_str(",\"date\":");
    json::escaped(&at.to_rfc3339(), out);
    out.push_str(&format!(",\"active\":{active}}}"));
}

/// `/notifications`.
pub(crate) async fn notifications(State(backend): Shared, headers: HeaderMap) -> Response {
    let mut data = String::new();
    json::list(&active(&backend), &mut data, |one, out| notification(one, true, out));
    envelope(Ok(Data::from(data)), &headers)
}

/// `/notifications/live`: an event for each that begins or ends.
pub(crate) async fn live(State(backend): Shared) -> Response {
    let Ok(place) = backend.listeners.clone().try_acquire_owned() else {
        return StatusCode::NO_CONTENT.into_response();
    };
    let listener = Listener { backend, known: Vec::new(), first: true, _place: place };
    let events = futures_util::stream::unfold(listener, |mut listener| async move {
        let events = listener.next().await;
        Some((Ok::<_, Infallible>(Bytes::from(events)), listener))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(events)).into_response()
}

struct Listener {
    backend: Arc<Backend>,
    known: Vec<(&'static str, Timestamp)>,
    first: bool,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Listener {
    /// Waits for changes.
    async fn next(&mut self) -> String {
        for _ in 0..SILENT_MAX {
            if !std::mem::take(&mut self.first) {
                self.backend.clock.sleep(LOOK_EVERY).await;
            }
            let now = active(&self.backend);
            let mut out = String::new();
            for (list, other, begun) in [(&now, &self.known, true), (&self.known, &now, false)] {
                for one in list.iter().filter(|one| !other.iter().any(|(text, _)| *text == one.0)) {
                    out.push_str("data: ");
                    notification(one, begun, &mut out);
                    out.push_str("\n\n");
                }
            }
            self.known = now;
            if !out.is_empty() {
                return out;
            }
        }
        ": still here\n\n".to_owned()
    }
}

/// `/status/self_metrics`: the server's own metrics in the JSON form of their protobuf messages.
pub(crate) async fn self_metrics(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    answer(backend, headers, move |backend| {
        let pattern = params.get("metric_name_pattern").map(|pattern| Matcher::new(MatchOp::Regex, "", pattern));
        let pattern = pattern
            .transpose()
            .map_err(|error| Failure::bad(format!("invalid parameter \"metric_name_pattern\": {error}")))?;
        let mut families = backend.registry.gather();
        families.retain(|family| pattern.as_ref().is_none_or(|pattern| pattern.matches(&family.name)));
        let mut data = String::new();
        json::list(&families, &mut data, family);
        Ok(Data::from(data))
    })
    .await
}

fn family(family: &Family, out: &mut String) {
    let kind = match family.kind {
        MetricType::Counter => "COUNTER",
        MetricType::Summary => "SUMMARY",
        MetricType::Histogram => "HISTOGRAM",
        MetricType::GaugeHistogram => "GAUGE_HISTOGRAM",
        MetricType::Unknown => "UNTYPED",
        _ => "GAUGE",
    };
    json::text_map([("name", family.name.as_str()), ("help", &family.help), ("type", kind)], out);
    out.pop();
    out.push_str(",\"metric\":");
    json::list(&family.metrics, out, metric);
    out.push('}');
}

fn metric(metric: &Metric, out: &mut String) {
    out.push('{');
    if !metric.labels.is_empty() {
        out.push_str("\"label\":");
        json::list(metric.labels.iter(), out, |(name, value), out| {
            json::text_map([("name", name), ("value", value)], out);
        });
        out.push(',');
    }
    match &metric.value {
        MetricValue::Counter { value, .. } => out.push_str(&format!("\"counter\":{{\"value\":{}}}", number(*value))),
        MetricValue::Gauge(value) => out.push_str(&format!("\"gauge\":{{\"value\":{}}}", number(*value))),
        MetricValue::Untyped(value) => out.push_str(&format!("\"untyped\":{{\"value\":{}}}", number(*value))),
        MetricValue::Summary { count, sum, quantiles, .. } => {
            out.push_str(&format!(
                "\"summary\":{{\"sampleCount\":\"{count}\",\"sampleSum\":{},\"quantile\":",
                number(*sum)
            ));
            json::list(quantiles, out, |(quantile, value), out| {
                out.push_str(&format!("{{\"quantile\":{},\"value\":{}}}", number(*quantile), number(*value)));
            });
            out.push('}');
        }
        MetricValue::Histogram(histogram) => {
            let (count, sum) = (histogram.count, number(histogram.sum));
            out.push_str(&format!("\"histogram\":{{\"sampleCount\":\"{count}\",\"sampleSum\":{sum},\"bucket\":"));
            json::list(&histogram.buckets, out, |(bound, count), out| {
                out.push_str(&format!("{{\"cumulativeCount\":\"{count}\",\"upperBound\":{}}}", number(*bound)));
            });
            out.push('}');
        }
    }
    out.push('}');
}

/// A double of protobuf's JSON: what JSON has no number for is a string.
fn number(value: f64) -> String {
    if value.is_nan() {
        "\"NaN\"".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }.to_owned()
    } else {
        json::float(value)
    }
}
