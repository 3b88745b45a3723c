//! Which series, label names and label values there are.

use crate::{
    Backend, Failure, json,
    params::Params,
    reply::{Data, Shared, answer, envelope, params},
};
use model::{Labels, Matcher, Timestamp};
use std::collections::BTreeSet;
use storage::Columns;
use web::{
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, Uri},
    response::Response,
};

/// Runs `read` for every matcher set, or once without any, over the asked time range.
fn over_sets<T>(
    backend: &Backend,
    (min, max): (Timestamp, Timestamp),
    mut sets: Vec<Vec<Matcher>>,
    mut read: impl FnMut(&dyn storage::Querier, &[Matcher]) -> Result<T, storage::ReadError>,
) -> Result<Vec<T>, Failure> {
    if sets.is_empty() {
        sets.push(Vec::new());
    }
    let querier = backend.storage.querier(min, max);
    Ok(sets.iter().map(|set| read(&*querier, set)).collect::<Result<Vec<_>, _>>()?)
}

fn times(params: &Params) -> Result<(Timestamp, Timestamp), Failure> {
    Ok((params.time("start", Timestamp(i64::MIN))?, params.time("end", Timestamp(i64::MAX))?))
}

fn limited(items: BTreeSet<String>, limit: usize) -> Data {
    let cut = limit > 0 && items.len() > limit;
    let mut done = Data::from(String::new());
    json::list(items.iter().take(if cut { limit } else { usize::MAX }), &mut done.data, |item, out| {
        json::escaped(item, out);
    });
    if cut {
        done.tail.push_str(TRUNCATED);
    }
    done
}

const TRUNCATED: &str = ",\"warnings\":[\"results truncated due to limit\"]";

/// `/labels`.
pub(crate) async fn names(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    answer(backend, headers, move |backend| {
        let limit = params.limit()?;
        let (times, sets) = (times(&params)?, params.matchers()?);
        let names = over_sets(backend, times, sets, |querier, set| querier.label_names(set))?;
        Ok(limited(names.into_iter().flatten().collect(), limit))
    })
    .await
}

/// `/label/NAME/values`; the name may come in the values escaping.
pub(crate) async fn values(State(backend): Shared, uri: Uri, RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    let name = label_name(uri.path());
    answer(backend, headers, move |backend| {
        let name = name.map_err(|shown| Failure::bad(format!("invalid label name: {shown}")))?;
        let limit = params.limit()?;
        let (times, sets) = (times(&params)?, params.matchers()?);
        let values = over_sets(backend, times, sets, |querier, set| querier.label_values(&name, set))?;
        Ok(limited(values.into_iter().flatten().collect(), limit))
    })
    .await
}

/// The name in `…/label/NAME/values`; if it is none, how Go would quote it.
fn label_name(path: &str) -> Result<String, String> {
    let segment = path.rsplit('/').nth(1).unwrap_or_default();
    let bytes: Vec<u8> = crate::params::unescaped(segment.as_bytes(), false).unwrap_or_default();
    let name = String::from_utf8(bytes).map_err(|error| {
        let mut shown = String::from("\"");
        for chunk in error.as_bytes().utf8_chunks() {
            shown.push_str(model::quote(chunk.valid()).trim_matches('"'));
            chunk.invalid().iter().for_each(|byte| shown.push_str(&format!("\\x{byte:02x}")));
        }
        shown + "\""
    })?;
    let name = exposition::unescape_name(&name).into_owned();
    if name.is_empty() { Err("\"\"".to_owned()) } else { Ok(name) }
}

/// `/series`.
pub(crate) async fn series(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    answer(backend, headers, move |backend| {
        if params.all("match[]").next().is_none() {
            return Err(Failure::bad("no match[] parameter provided"));
        }
        let limit = params.limit()?;
        let times = times(&params)?;
        let named = |failure: Failure| Failure::bad(format!("invalid parameter \"match[]\": {}", failure.text));
        let sets = params.matchers().map_err(named)?;
        let found: BTreeSet<Labels> = over_sets(backend, times, sets, read_labels)?.into_iter().flatten().collect();
        let cut = limit > 0 && found.len() > limit;
        let mut done = Data::from(String::new());
        json::list(found.iter().take(if cut { limit } else { usize::MAX }), &mut done.data, |labels, out| {
            json::map(labels.iter(), out);
        });
        if cut {
            done.tail.push_str(TRUNCATED);
        }
        Ok(done)
    })
    .await
}

/// `DELETE /series`, which upstream has kept without meaning.
pub(crate) async fn delete(headers: HeaderMap) -> Response {
    envelope(Err(Failure::internal("not implemented")), &headers)
}

fn read_labels(querier: &dyn storage::Querier, set: &[Matcher]) -> Result<Vec<Labels>, storage::ReadError> {
    let mut series = querier.select(set)?;
    let (mut batch, mut all) = (Vec::<Columns>::new(), Vec::new());
    loop {
        series.next_batch(256, &mut batch)?;
        if batch.is_empty() {
            return Ok(all);
        }
        all.extend(batch.drain(..).map(|columns| columns.labels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_names_are_unescaped() {
        for (path, want) in [
            ("/api/v1/label/job/values", Ok("job")),
            ("/api/v1/label/a.b/values", Ok("a.b")),
            ("/api/v1/label/a%20b/values", Ok("a b")),
            ("/api/v1/label/U__dotted_2e_label/values", Ok("dotted.label")),
            ("/api/v1/label/U__/values", Err("\"\"")),
            ("/api/v1/label/U___/values", Ok("U___")),
            ("/api/v1/label/x%FFy/values", Err("\"x\\xffy\"")),
        ] {
            assert_eq!(label_name(path).as_deref().map_err(String::as_str), want, "{path}");
        }
    }
}
