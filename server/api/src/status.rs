//! What the server says of itself: build, configuration, flags, runtime, storage.

use crate::{
    Failure, json,
    reply::{Data, Shared, answer, constant, envelope, params},
};
use model::Timestamp;
use web::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};

fn build(out: &mut String) {
    let build = cli::BuildInfo::current();
    json::text_map(
        [
            ("version", build.version),
            ("revision", build.revision),
            ("branch", build.branch),
            ("buildUser", build.build_user),
            ("buildDate", build.build_date),
            ("goVersion", build.compiler),
        ],
        out,
    );
}

pub(crate) async fn build_info(headers: HeaderMap) -> Response {
    let mut data = String::new();
    build(&mut data);
    envelope(Ok(data.into()), &headers)
}

/// Build information as plain text, for people.
pub(crate) async fn version() -> Response {
    let mut text = String::new();
    build(&mut text);
    text.push('\n');
    text.into_response()
}

/// The server's own metrics.
pub(crate) async fn own_metrics(State(backend): Shared, headers: HeaderMap) -> Response {
    web::metrics_response(backend.registry.gather(), &headers, false)
}

/// How far reading the log is: what is read in pieces of unequal size has one piece.
pub(crate) async fn replay(State(backend): Shared, headers: HeaderMap) -> Response {
    let (min, max, current) = (backend.replay)();
    envelope(Ok(Data::from(format!("{{\"min\":{min},\"max\":{max},\"current\":{current}}}"))), &headers)
}

/// Blocks of the store: it has parts, which are none.
pub(crate) async fn blocks(headers: HeaderMap) -> Response {
    constant("{\"blocks\":[]}", &headers)
}

pub(crate) async fn runtime_info(State(backend): Shared, headers: HeaderMap) -> Response {
    let reload = (backend.reloaded)();
    let folder = std::env::current_dir().map_or(String::new(), |folder| folder.display().to_string());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let text = |text: &str| json::quoted(text);
    let mut data = String::from("{");
    for (i, (name, value)) in [
        ("startTime", text(&Timestamp(backend.started_ms).to_rfc3339())),
        ("CWD", text(&folder)),
        ("hostname", text(&runtime::host_name())),
        ("serverTime", text(&backend.now().to_rfc3339())),
        ("reloadConfigSuccess", reload.worked.to_string()),
        ("lastConfigTime", text(&Timestamp(reload.at_ms).to_rfc3339())),
        ("corruptionCount", (backend.corruptions)().to_string()),
        ("goroutineCount", "0".to_owned()),
        ("GOMAXPROCS", threads.to_string()),
        ("GOMEMLIMIT", i64::MAX.to_string()),
        ("GOGC", text("")),
        ("GODEBUG", text("")),
        ("storageRetention", text(&backend.retention)),
    ]
    .into_iter()
    .enumerate()
    {
        data.push_str(&format!("{}\"{name}\":{value}", if i > 0 { "," } else { "" }));
    }
    data.push('}');
    envelope(Ok(data.into()), &headers)
}

pub(crate) async fn config(State(backend): Shared, headers: HeaderMap) -> Response {
    let mut data = String::from("{\"yaml\":");
    json::escaped(&(backend.config)(), &mut data);
    data.push('}');
    envelope(Ok(data.into()), &headers)
}

pub(crate) async fn flags(State(backend): Shared, headers: HeaderMap) -> Response {
    let mut data = String::new();
    let mut flags: Vec<(&str, &str)> =
        backend.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    flags.sort_unstable();
    json::text_map(flags, &mut data);
    envelope(Ok(data.into()), &headers)
}

/// Sizes of the head, and the names, values and pairs with the most series.
pub(crate) async fn tsdb_status(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    answer(backend, headers, move |backend| {
        let limit = match params.get("limit").map(str::parse::<usize>) {
            None => 10,
            Some(Ok(limit @ 1..=10_000)) => limit,
            Some(Ok(10_001..)) => return Err(Failure::bad("limit must not exceed 10000")),
            Some(_) => return Err(Failure::bad("limit must be a positive number")),
        };
        let found = backend.storage.cardinality(limit);
        let (min, max) = found.range.map_or((i64::MAX, i64::MIN), |(min, max)| (min.0, max.0));
        let mut data = format!(
            "{{\"headStats\":{{\"numSeries\":{},\"numLabelPairs\":{},\"chunkCount\":{},\"minTime\":{min},\"maxTime\":{max}}}",
            found.series, found.label_pairs, found.chunks
        );
        for (name, top) in [
            ("seriesCountByMetricName", &found.series_by_metric),
            ("labelValueCountByLabelName", &found.values_by_label),
            ("memoryInBytesByLabelName", &found.bytes_by_label),
            ("seriesCountByLabelValuePair", &found.series_by_pair),
        ] {
            data.push_str(&format!(",\"{name}\":"));
            json::list(top, &mut data, |(name, value), out| {
                out.push_str("{\"name\":");
                json::escaped(name, out);
                out.push_str(&format!(",\"value\":{value}}}"));
            });
        }
        data.push('}');
        Ok(Data::from(data))
    })
    .await
}
