//! The operator's work on what is stored: `--web.enable-admin-api`.

use crate::{
    Backend, Failure, json,
    params::{Params, bool_of},
    reply::{Data, Shared, blocking, envelope_or_nothing, params},
};
use model::Timestamp;
use storage::{Admin, AdminError};
use web::{
    body::Bytes,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};

/// Whether an operator may do anything here.
pub(crate) fn enabled(backend: &Backend) -> Result<(), Failure> {
    if backend.admin { Ok(()) } else { Err(Failure::unavailable("admin APIs disabled")) }
}

fn failed(error: AdminError) -> Failure {
    Failure::internal(error.to_string())
}

/// Runs work on the store's files.
async fn run(
    State(backend): Shared,
    raw: Option<String>,
    headers: HeaderMap,
    body: Bytes,
    work: impl FnOnce(&dyn Admin, &Params) -> Result<Option<Data>, Failure> + Send + 'static,
) -> Response {
    if let Err(failure) = enabled(&backend) {
        return envelope_or_nothing(Err(failure), &headers);
    }
    let params = params(raw, &headers, &body);
    let result = blocking(backend, move |backend| {
        let admin = backend.storage.admin();
        work(admin.ok_or_else(|| Failure::unavailable("this store keeps no files"))?, &params)
    });
    result.await.map_or_else(|refused| refused, |result| envelope_or_nothing(result, &headers))
}

/// `/admin/tsdb/delete_series`.
pub(crate) async fn delete_series(state: Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    run(state, raw, headers, body, |admin, params| {
        if params.all("match[]").next().is_none() {
            return Err(Failure::bad("no match[] parameter provided"));
        }
        let (min, max) = (params.time("start", Timestamp(i64::MIN))?, params.time("end", Timestamp(i64::MAX))?);
        let mut selectors =
            params.selectors().map_err(|why| Failure::bad(format!("invalid parameter \"match[]\": {why}")))?;
        // As upstream: a selector without a matcher selects nothing.
        selectors.retain(|set| !set.is_empty());
        if !selectors.is_empty() && min <= max {
            admin.delete_series(min, max, &selectors).map_err(failed)?;
        }
        Ok(None)
    })
    .await
}

/// `/admin/tsdb/clean_tombstones`.
pub(crate) async fn clean_tombstones(
    state: Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    run(state, raw, headers, body, |admin, _| admin.clean_tombstones().map_err(failed).map(|()| None)).await
}

/// `/admin/tsdb/snapshot`.
pub(crate) async fn snapshot(state: Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    run(state, raw, headers, body, |admin, params| {
        let skip_head = params.get("skip_head").map_or(Ok(false), |text| {
            bool_of(text)
                .map_err(|why| Failure::bad(format!("invalid parameter \"skip_head\": unable to parse boolean: {why}")))
        })?;
        let mut data = String::from("{\"name\":");
        json::escaped(&admin.snapshot(skip_head).map_err(failed)?, &mut data);
        data.push('}');
        Ok(Some(Data::from(data)))
    })
    .await
}
