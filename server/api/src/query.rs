//! Queries: instant, range and exemplars, and expressions as text and as trees.

use crate::{
    Backend, Failure, format, json,
    params::Params,
    reply::{Data, Shared, blocking, envelope, envelope_or_nothing, params},
    running::Ticket,
};
use model::Timestamp;
use promql::{Report, Request};
use std::{sync::Arc, time::Duration};
use web::{
    body::Bytes,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};

fn failure(error: promql::QueryError) -> Failure {
    match &error {
        promql::QueryError::Parse(parse) if parse.message.starts_with("invalid expression type") => {
            Failure::bad(format!("invalid parameter \"query\": {}", parse.message))
        }
        promql::QueryError::Parse(_) => Failure::bad(format!("invalid parameter \"query\": {error}")),
        promql::QueryError::Timeout => Failure::timeout(error.to_string()),
        promql::QueryError::Canceled => Failure::canceled(error.to_string()),
        _ => Failure::execution(error.to_string()),
    }
}

/// Waits for a free place among the running queries, at most as long as a query may take; the work is cancelled when
/// the client leaves, which drops this future.
async fn admitted(
    backend: Arc<Backend>,
    headers: HeaderMap,
    ticket: Ticket,
    work: impl FnOnce(&Backend, &Ticket, Duration) -> Result<Data, Failure> + Send + 'static,
) -> Response {
    let came = backend.clock.now();
    let wait = backend.clock.timeout(backend.engine.options().timeout, backend.queries.clone().acquire_owned()).await;
    let Ok(Ok(place)) = wait else {
        return envelope(Err(Failure::timeout("query timed out in query queue")), &headers);
    };
    let queued = backend.clock.now() - came;
    let _leaving = ticket.cancelled_on_drop();
    let result = blocking(backend, move |backend| {
        let result = backend.running.during(&ticket, &backend.clock, || work(backend, &ticket, queued));
        drop(place);
        result
    });
    result.await.map_or_else(|refused| refused, |result| envelope(result, &headers))
}

/// The engine with what a request may change: a shorter timeout, another look back.
fn engine(backend: &Backend, params: &Params) -> Result<promql::Engine, Failure> {
    let mut options = backend.engine.options().clone();
    let span = |ns: i64| Duration::from_nanos(ns.unsigned_abs());
    let timeout = params.duration("timeout")?;
    let lookback = params.duration_of("lookback_delta");
    let lookback = lookback.map_err(|why| Failure::bad(format!("error parsing lookback delta duration: {why}")))?;
    if let Some(ns) = timeout {
        if ns <= 0 {
            return Err(Failure::execution("context deadline exceeded"));
        }
        options.timeout = options.timeout.min(span(ns));
    }
    if let Some(ns) = lookback.filter(|ns| *ns > 0) {
        options.lookback = span(ns);
    }
    Ok(promql::Engine::new(options, backend.clock.clone()))
}

/// The answer as JSON, cut to `limit` series when that is not 0, with what it took when that is asked for.
fn answered(mut report: Report, params: &Params, limit: usize, queued: Duration) -> Data {
    let answer = &mut report.answer;
    let cut = match &mut answer.value {
        promql::QueryValue::Vector(rows) if limit > 0 && rows.len() > limit => {
            rows.truncate(limit);
            true
        }
        promql::QueryValue::Matrix(rows) if limit > 0 && rows.len() > limit => {
            rows.truncate(limit);
            true
        }
        _ => false,
    };
    if cut {
        answer.warnings.push("results truncated due to limit".into());
    }
    let mut done = Data::from(String::new());
    let stats = params.get("stats").map(|_| json::stats(&report.stats, queued));
    json::result(&report.answer.value, stats.as_deref(), &mut done.data);
    json::notes(&report.answer, &mut done.tail);
    done
}

/// Asks the engine what a ticket wants.
fn ask(backend: &Backend, params: &Params, ticket: &Ticket, request: Request<'_>) -> Result<Report, Failure> {
    let per_step = params.get("stats") == Some("all");
    let request = Request { cancel: Some(ticket.cancel()), per_step, ..request };
    engine(backend, params)?.ask(&*backend.storage, &request).map_err(failure)
}

/// `/query`.
pub(crate) async fn instant(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    let ticket = backend.running.ticket(&params, "/api/v1/query");
    admitted(backend, headers, ticket, move |backend, ticket, queued| {
        let limit = params.limit()?;
        let at = params.time("time", backend.now())?;
        let text = params.get("query").unwrap_or_default();
        let report = ask(backend, &params, ticket, Request::instant(text, at))?;
        Ok(answered(report, &params, limit, queued))
    })
    .await
}

/// `/query_range`.
pub(crate) async fn range(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    let ticket = backend.running.ticket(&params, "/api/v1/query_range");
    admitted(backend, headers, ticket, move |backend, ticket, queued| {
        let limit = params.limit()?;
        let (start, end, step) = steps(&params)?;
        let text = params.get("query").unwrap_or_default();
        let report = ask(backend, &params, ticket, Request::range(text, start, end, step))?;
        Ok(answered(report, &params, limit, queued))
    })
    .await
}

/// `/explain`: what every part of a query took; with `start` over a range, else at one moment.
pub(crate) async fn explain(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    let ticket = backend.running.ticket(&params, "/api/v1/explain");
    admitted(backend, headers, ticket, move |backend, ticket, queued| {
        let text = params.get("query").unwrap_or_default();
        let request = if params.get("start").is_some() {
            let (start, end, step) = steps(&params)?;
            Request::range(text, start, end, step)
        } else {
            Request::instant(text, params.time("time", backend.now())?)
        };
        let report = ask(backend, &params, ticket, Request { explain: true, ..request })?;
        let mut data = String::from("{\"plan\":");
        match &report.plan {
            Some(plan) => json::plan(plan, &mut data),
            None => data.push_str("null"),
        }
        data.push_str(&format!(",\"stats\":{}}}", json::stats(&report.stats, queued)));
        let mut done = Data::from(data);
        json::notes(&report.answer, &mut done.tail);
        Ok(done)
    })
    .await
}

/// Start, end and step in milliseconds.
fn steps(params: &Params) -> Result<(Timestamp, Timestamp, u64), Failure> {
    const MILLISECOND: i64 = 1_000_000;
    let (start, end) = (params.moment("start")?, params.moment("end")?);
    if end < start {
        return Err(Failure::bad("invalid parameter \"end\": end timestamp must not be before start time"));
    }
    let step = params.needed_duration("step")? / MILLISECOND;
    if step <= 0 {
        return Err(Failure::bad(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive \
             integer",
        ));
    }
    if (i128::from(end.0) - i128::from(start.0)) / i128::from(step) > 11_000 {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    Ok((start, end, step.unsigned_abs()))
}

/// `/format_query`: the expression as text again.
pub(crate) async fn format_query(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    let text = |expr: promql::expr::Expr| {
        let mut data = String::new();
        json::escaped(&promql::pretty(&expr), &mut data);
        Data::from(data)
    };
    envelope(parsed(&backend, &params).map(text), &headers)
}

/// `/parse_query`: the expression as a tree.
pub(crate) async fn parse_query(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    let tree = |expr: promql::expr::Expr| {
        let mut data = String::new();
        format::tree(&expr, &mut data);
        Data::from(data)
    };
    envelope(parsed(&backend, &params).map(tree), &headers)
}

fn parsed(backend: &Backend, params: &Params) -> Result<promql::expr::Expr, Failure> {
    let features = backend.engine.options().features;
    let fail = |error| Failure::bad(format!("invalid parameter \"query\": {error}"));
    promql::parse_with(params.get("query").unwrap_or_default(), &features).map_err(fail)
}

/// `/query_exemplars`: those of the series that an expression reads.
pub(crate) async fn exemplars(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    let result = blocking(backend, move |backend| {
        let (start, end) = (params.time("start", Timestamp(i64::MIN))?, params.time("end", Timestamp(i64::MAX))?);
        if end < start {
            return Err(Failure::bad("end timestamp must not be before start timestamp"));
        }
        let features = backend.engine.options().features;
        let expr = promql::parse_with(params.get("query").unwrap_or_default(), &features);
        let expr = expr.map_err(|error| Failure::bad(error.to_string()))?;
        let mut selectors = Vec::new();
        format::selectors(&expr, &mut selectors);
        if selectors.is_empty() {
            return Ok(None);
        }
        let found = backend.storage.exemplars(start, end, &selectors)?;
        let mut data = String::new();
        json::list(&found, &mut data, |series, out| {
            out.push_str("{\"seriesLabels\":");
            json::map(series.labels.iter(), out);
            out.push_str(",\"exemplars\":");
            json::list(&series.exemplars, out, json::exemplar);
            out.push('}');
        });
        Ok(Some(Data::from(data)))
    });
    result.await.map_or_else(|refused| refused, |result| envelope_or_nothing(result, &headers))
}
