//! The JSON API: `/api/v1/status` and `/api/v1/metrics`. Truth: answers of an upstream gateway.

use crate::{
    Group,
    http::{Service, error},
    line,
    store::{TIMES, upper},
};
use exposition::{Family, Metric, MetricValue, write_float};
use model::{FloatHistogram, Span};
use serde_json::{Map, Value, json};
use web::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

fn with_cors(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut set = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin");
    set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS");
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date");
    set(header::CACHE_CONTROL, "no-cache, no-store, must-revalidate");
    response
}

/// OPTIONS on anything below `/api/v1/`.
pub(crate) fn options() -> Response {
    with_cors(StatusCode::OK.into_response())
}

fn success(data: &Value, headers: &HeaderMap) -> Response {
    let body = json!({ "status": "success", "data": data });
    let body = serde_json::to_vec(&body).unwrap_or_default();
    with_cors(web::respond_body(body, "application/json", headers))
}

/// Build, flags and start.
pub(crate) fn status(service: &Service, headers: &HeaderMap) -> Response {
    let build = cli::BuildInfo::current();
    let flags: Map<String, Value> =
        service.flags.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    let data = json!({
        "build_information": {
            "branch": build.branch,
            "buildDate": build.build_date,
            "buildUser": build.build_user,
            "goVersion": build.compiler,
            "revision": build.revision,
            "version": build.version,
        },
        "flags": flags,
        "start_time": cli::log::timestamp(service.started),
    });
    success(&data, headers)
}

/// Every group with its families. O(everything), apart from the event loop.
pub(crate) async fn metrics(service: &Service, headers: &HeaderMap) -> Response {
    let groups = service.gateway.state.lock().store.groups().clone();
    let work = move || Value::Array(groups.iter().map(|(key, group)| shown(key, group)).collect());
    match service.tasks.blocking("groups as JSON", work).await {
        Ok(data) => success(&data, headers),
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

fn text(value: f64) -> Value {
    let mut out = Vec::new();
    write_float(value, &mut out);
    Value::String(String::from_utf8_lossy(&out).into_owned())
}

fn shown(key: &crate::Key, group: &Group) -> Value {
    let mut out = Map::new();
    let labels = |pairs: &[(&str, &str)]| -> Value {
        Value::Object(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect())
    };
    let pairs: Vec<(&str, &str)> = key.iter().collect();
    out.insert("labels".to_owned(), labels(&pairs));
    out.insert("last_push_successful".to_owned(), Value::Bool(!group.last_failed && group.pushed > 0));
    let mut add = |at: i64, family: &Family| {
        let metrics = family.metrics.iter().map(|metric| {
            let pairs = line::exposed(metric.labels.iter(), key);
            metric_json(labels(&pairs), metric)
        });
        let mut fields = Map::new();
        fields.insert("time_stamp".to_owned(), cli::log::timestamp(at).into());
        fields.insert("type".to_owned(), upper(family.kind).into());
        if !family.help.is_empty() {
            fields.insert("help".to_owned(), family.help.as_str().into());
        }
        fields.insert("metrics".to_owned(), Value::Array(metrics.collect()));
        out.insert(family.name.clone(), Value::Object(fields));
    };
    for ((name, help), at) in TIMES.into_iter().zip([group.failed, group.pushed]) {
        let family = Family::gauge(name, help, at as f64 / 1000.0);
        add(if at > 0 { at } else { group.created }, &family);
    }
    group.families().for_each(|(at, family)| add(at, &family));
    Value::Object(out)
}

fn metric_json(labels: Value, metric: &Metric) -> Value {
    let pairs = |pairs: &[(f64, f64)]| -> Value {
        let key = |value: f64| text(value).as_str().unwrap_or_default().to_owned();
        Value::Object(pairs.iter().map(|(bound, value)| (key(*bound), text(*value))).collect())
    };
    match &metric.value {
        MetricValue::Counter { value, .. } | MetricValue::Gauge(value) | MetricValue::Untyped(value) => {
            json!({ "labels": labels, "value": text(*value) })
        }
        MetricValue::Summary { count, sum, quantiles, .. } => json!({
            "labels": labels, "quantiles": pairs(quantiles), "count": text(*count), "sum": text(*sum),
        }),
        MetricValue::Histogram(histogram) => {
            let buckets = match &histogram.native {
                Some(native) if histogram.buckets.is_empty() => native_buckets(native),
                _ => pairs(&histogram.buckets),
            };
            json!({
                "labels": labels, "buckets": buckets, "count": text(histogram.count), "sum": text(histogram.sum),
            })
        }
    }
}

/// Buckets as the query API lists them: which bounds count in, lower bound, upper bound, observations.
fn native_buckets(native: &FloatHistogram) -> Value {
    let mut all: Vec<Value> = Vec::new();
    for (low, high, count) in side(native, &native.negative_spans, &native.negative).into_iter().rev() {
        all.push(json!([1, text(-high), text(-low), text(count)]));
    }
    if native.zero_count != 0.0 {
        let width = native.zero_threshold;
        all.push(json!([3, text(-width), text(width), text(native.zero_count)]));
    }
    for (low, high, count) in side(native, &native.positive_spans, &native.positive) {
        all.push(json!([0, text(low), text(high), text(count)]));
    }
    Value::Array(all)
}

/// Bounds and counts of the filled buckets of one side, as if it were the positive one.
fn side(native: &FloatHistogram, spans: &[Span], counts: &[f64]) -> Vec<(f64, f64, f64)> {
    let bound = |index: i64| 2f64.powf(index as f64 * 2f64.powi(-native.schema));
    let (mut index, mut counts, mut out) = (0i64, counts.iter(), Vec::new());
    for span in spans {
        index = index.saturating_add(i64::from(span.offset));
        for count in counts.by_ref().take(span.length as usize) {
            if *count != 0.0 {
                out.push((bound(index - 1), bound(index), *count));
            }
            index = index.saturating_add(1);
        }
    }
    out
}
