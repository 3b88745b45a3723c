//! What metric families say of themselves, gathered from the targets.

use crate::{
    Failure, json,
    reply::{Data, Shared, envelope, params},
};
use model::{Labels, Matcher, Metadata};
use std::collections::BTreeMap;
use web::{
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};

/// `/metadata`: by family, each statement once.
pub(crate) async fn families(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let number = |name: &str| {
        let number = params
            .get(name)
            .map(|text| text.parse::<i64>().map_err(|_| Failure::bad(format!("{name} must be a number"))));
        number.transpose()
    };
    let (limit, per_metric) = match (number("limit"), number("limit_per_metric")) {
        (Ok(limit), Ok(per_metric)) => (limit, per_metric),
        (Err(error), _) | (_, Err(error)) => return envelope(Err(error), &headers),
    };
    // No family at all is a limit like others; no statement of a family is none.
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let per_metric = per_metric.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let per_metric = per_metric.unwrap_or(usize::MAX);
    let mut all: BTreeMap<String, Vec<Metadata>> = BTreeMap::new();
    for target in (backend.families)() {
        for (name, metadata) in target.families {
            if params.get("metric").is_some_and(|wanted| wanted != name) {
                continue;
            }
            let known = all.entry(name).or_default();
            if !known.contains(&metadata) && known.len() < per_metric {
                known.push(metadata);
            }
        }
    }
    let mut data = String::from("{");
    for (i, (name, known)) in all.iter().take(limit).enumerate() {
        if i > 0 {
            data.push(',');
        }
        json::string(name, &mut data);
        data.push(':');
        json::list(known, &mut data, |metadata, out| {
            let Metadata { kind, unit, help } = metadata;
            json::text_map([("type", kind.as_str()), ("unit", unit), ("help", help)], out);
        });
    }
    data.push('}');
    envelope(Ok(Data::from(data)), &headers)
}

/// `/targets/metadata`: by target, those of one family or of all.
pub(crate) async fn by_target(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let limit = match params.get("limit").map(str::parse::<i64>) {
        None => usize::MAX,
        Some(Ok(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        Some(Err(_)) => return envelope(Err(Failure::bad("limit must be a number")), &headers),
    };
    let selector = params.get("match_target").map(promql::parse_selector).transpose();
    let matchers = match selector {
        Ok(matchers) => matchers.unwrap_or_default(),
        Err(error) => {
            let text = format!("invalid parameter \"match_target\": {error}");
            return envelope(Err(Failure::bad(text)), &headers);
        }
    };
    let mut rows: Vec<(Labels, String, Metadata)> = Vec::new();
    for target in (backend.families)() {
        if !Matcher::all(&matchers, &target.labels) {
            continue;
        }
        let wanted = |name: &str| params.get("metric").is_none_or(|metric| metric == name);
        rows.extend(
            target
                .families
                .into_iter()
                .filter(|(name, _)| wanted(name))
                .map(|(name, metadata)| (target.labels.clone(), name, metadata)),
        );
    }
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let named = params.get("metric").is_some();
    let mut data = String::new();
    json::list(rows.iter().take(limit), &mut data, |(labels, name, metadata), out| {
        out.push_str("{\"target\":");
        json::map(labels.iter(), out);
        if !named {
            out.push_str(",\"metric\":");
            json::string(name, out);
        }
        for (member, value) in [("type", metadata.kind.as_str()), ("help", &metadata.help), ("unit", &metadata.unit)] {
            out.push_str(&format!(",\"{member}\":"));
            json::escaped(value, out);
        }
        out.push('}');
    });
    envelope(Ok(Data::from(data)), &headers)
}
