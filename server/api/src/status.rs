//! What the server says of itself: build, configuration, flags, runtime, storage.

use crate::{
    Failure,
    handlers::{Data, Shared, answer, envelope, params},
    json,
};
use model::Timestamp;
use web::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};

pub(crate) async fn build_info(headers: HeaderMap) -> Response {
    let build = cli::BuildInfo::current();
    let mut data = String::new();
    json::map(
        [
            ("version", build.version),
            ("revision", build.revision),
            ("branch", build.branch),
            ("buildUser", build.build_user),
            ("buildDate", build.build_date),
            ("goVersion", build.compiler),
        ],
        &mut data,
    );
    envelope(Ok(data.into()), &headers)
}

/// Build information as plain text, for people.
pub(crate) async fn version() -> Response {
    let build = cli::BuildInfo::current();
    let mut text = String::new();
    json::map([("version", build.version), ("revision", build.revision), ("branch", build.branch)], &mut text);
    text.into_response()
}

pub(crate) async fn runtime_info(State(backend): Shared, headers: HeaderMap) -> Response {
    let reload = (backend.reloaded)();
    let folder = std::env::current_dir().map_or(String::new(), |folder| folder.display().to_string());
    let mut data = String::from("{\"startTime\":");
    json::string(&Timestamp(backend.started_ms).to_rfc3339(), &mut data);
    for (name, value) in [
        ("CWD", folder),
        ("hostname", runtime::host_name()),
        ("serverTime", backend.now().to_rfc3339()),
        ("lastConfigTime", Timestamp(reload.at_ms).to_rfc3339()),
        ("GOGC", String::new()),
        ("GODEBUG", String::new()),
        ("storageRetention", backend.retention.clone()),
    ] {
        data.push_str(&format!(",\"{name}\":"));
        json::string(&value, &mut data);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    data.push_str(&format!(
        ",\"reloadConfigSuccess\":{},\"corruptionCount\":{},\"goroutineCount\":0,\"GOMAXPROCS\":{threads},\"GOMEMLIMIT\":{}}}",
        reload.worked,
        (backend.corruptions)(),
        i64::MAX
    ));
    envelope(Ok(data.into()), &headers)
}

pub(crate) async fn config(State(backend): Shared, headers: HeaderMap) -> Response {
    let mut data = String::from("{\"yaml\":");
    json::string(&(backend.config)(), &mut data);
    data.push('}');
    envelope(Ok(data.into()), &headers)
}

pub(crate) async fn flags(State(backend): Shared, headers: HeaderMap) -> Response {
    let mut data = String::new();
    json::map(backend.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())), &mut data);
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
                json::string(name, out);
                out.push_str(&format!(",\"value\":{value}}}"));
            });
        }
        data.push('}');
        Ok(Data::from(data))
    })
    .await
}
