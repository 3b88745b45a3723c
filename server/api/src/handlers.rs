//! The routes, each a function from parameters to the `data` member.

use crate::{Backend, Failure, exchange, federate, format, json, metadata, params::Params, status, targets};
use model::{Labels, Matcher, Timestamp};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use storage::Columns;
use web::{
    Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};

pub(crate) type Shared = State<Arc<Backend>>;

/// A finished `data` member, and what goes behind it.
pub(crate) struct Data {
    pub(crate) data: String,
    pub(crate) tail: String,
}

impl From<String> for Data {
    fn from(data: String) -> Self {
        Self { data, tail: String::new() }
    }
}

/// All routes of the server: API, lifecycle, own metrics and the expression page.
pub fn router(backend: Arc<Backend>) -> Router {
    let api = Router::new()
        .route("/query", get(query).post(query))
        .route("/query_range", get(query_range).post(query_range))
        .route("/labels", get(label_names).post(label_names))
        .route("/label/{name}/values", get(label_values))
        .route("/series", get(series).post(series))
        .route("/format_query", get(format_query).post(format_query))
        .route("/parse_query", get(parse_query).post(parse_query))
        .route("/query_exemplars", get(query_exemplars).post(query_exemplars))
        .route("/metadata", get(metadata::families))
        .route("/targets", get(targets::list))
        .route("/targets/metadata", get(metadata::by_target))
        .route("/rules", get(rules))
        .route("/admin/tsdb/delete_series", post(no_admin).put(no_admin))
        .route("/admin/tsdb/clean_tombstones", post(no_admin).put(no_admin))
        .route("/admin/tsdb/snapshot", post(no_admin).put(no_admin))
        .route("/write", post(exchange::write))
        .route("/import", post(exchange::import))
        .route("/alerts", get(|headers: HeaderMap| async move { nothing("{\"alerts\":[]}", &headers) }))
        .route(
            "/alertmanagers",
            get(|headers: HeaderMap| async move {
                nothing("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}", &headers)
            }),
        )
        .route("/scrape_pools", get(targets::pools))
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/config", get(status::config))
        .route("/status/flags", get(status::flags))
        .route("/status/runtimeinfo", get(status::runtime_info))
        .route("/status/tsdb", get(status::tsdb_status))
        .fallback(not_found)
        .layer(web::middleware::from_fn(cors));
    Router::new()
        .nest("/api/v1", api)
        .route("/", get(|| async { redirect("/query") }))
        .route(
            "/graph",
            get(|RawQuery(query): RawQuery| async move { redirect(&format!("/query?{}", query.unwrap_or_default())) }),
        )
        .route("/query", get(query_page))
        .route("/targets", get(targets::page))
        .route("/assets/query.js", get(|| async { asset("text/javascript", include_str!("../assets/query.js")) }))
        .route("/assets/query.css", get(|| async { asset("text/css", include_str!("../assets/query.css")) }))
        .route("/metrics", get(own_metrics))
        .route("/federate", get(federate::federate))
        .route("/version", get(status::version))
        .route("/-/healthy", get(|| async { "Prometheus Server is Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload).put(reload).get(only_writes))
        .route("/-/quit", post(quit).put(quit).get(only_writes))
        .fallback(not_found)
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n") })
        .with_state(backend)
}

fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response()
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// Answers with upstream's envelope, compressed as the client asks.
pub(crate) fn envelope(result: Result<Data, Failure>, headers: &HeaderMap) -> Response {
    let (status, body) = match result {
        Ok(Data { data, tail }) => (200, format!("{{\"status\":\"success\",\"data\":{data}{tail}}}")),
        Err(failure) => {
            let mut body = format!("{{\"status\":\"error\",\"errorType\":\"{}\",\"error\":", failure.kind);
            let mut text = String::new();
            json::string(&failure.text, &mut text);
            body.push_str(&text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
            body.push('}');
            (failure.status, body)
        }
    };
    let mut response = web::respond_body(body.into_bytes(), "application/json", headers);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Runs a handler on the blocking pool once storage is ready; a panic there costs one answer.
pub(crate) async fn answer(
    backend: Arc<Backend>,
    headers: HeaderMap,
    work: impl FnOnce(&Backend) -> Result<Data, Failure> + Send + 'static,
) -> Response {
    if !backend.ready.get() {
        return unready();
    }
    let result = tokio::task::spawn_blocking(move || work(&backend)).await;
    envelope(result.unwrap_or_else(|_| Err(Failure::internal("the request failed inside, see the log"))), &headers)
}

/// A refusal in plain text, as Go's servers send it.
pub(crate) fn refusal(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], text.into()).into_response()
}

pub(crate) fn unready() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable").into_response()
}

/// Only a form body carries parameters.
pub(crate) fn params(query: Option<String>, headers: &HeaderMap, body: &[u8]) -> Params {
    let form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    Params::new(&query.unwrap_or_default(), if form { body } else { b"" })
}

fn failure(error: promql::QueryError) -> Failure {
    match &error {
        promql::QueryError::Parse(parse) if parse.message.starts_with("invalid expression type") => {
            Failure::bad(format!("invalid parameter \"query\": {}", parse.message))
        }
        promql::QueryError::Parse(_) => Failure::bad(format!("invalid parameter \"query\": {error}")),
        promql::QueryError::Timeout => Failure::timeout(error.to_string()),
        _ => Failure::execution(error.to_string()),
    }
}

/// Waits for a free place among the running queries, at most as long as a query may take.
async fn admitted(
    backend: Arc<Backend>,
    headers: HeaderMap,
    work: impl FnOnce(&Backend) -> Result<Data, Failure> + Send + 'static,
) -> Response {
    let wait = backend.clock.timeout(backend.engine.options().timeout, backend.queries.clone().acquire_owned()).await;
    let Ok(Ok(place)) = wait else {
        return envelope(Err(Failure::timeout("query timed out in query queue")), &headers);
    };
    answer(backend, headers, move |backend| {
        let result = work(backend);
        drop(place);
        result
    })
    .await
}

/// The engine with what a request may change: a shorter timeout, another look back.
fn engine(backend: &Backend, params: &Params) -> Result<promql::Engine, Failure> {
    let mut options = backend.engine.options().clone();
    let span = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    if let Some(ms) = params.duration("timeout")? {
        options.timeout = options.timeout.min(span(ms));
    }
    if let Some(ms) = params.duration("lookback_delta")?.filter(|ms| *ms > 0) {
        options.lookback = span(ms);
    }
    Ok(promql::Engine::new(options, backend.clock.clone()))
}

/// The answer as JSON, cut to `limit` series when that is not 0.
fn answered(mut answer: promql::Answer, limit: usize) -> Data {
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
    json::result(&answer.value, &mut done.data);
    json::notes(&answer, &mut done.tail);
    done
}

async fn query(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    admitted(backend, headers, move |backend| {
        let at = params.time("time", backend.now())?;
        let limit = params.limit()?;
        let text = params.get("query").unwrap_or_default();
        let result = engine(backend, &params)?.instant(&*backend.storage, text, at).map_err(failure)?;
        Ok(answered(result, limit))
    })
    .await
}

async fn query_range(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    admitted(backend, headers, move |backend| {
        let limit = params.limit()?;
        let (text, start, end, step) = range(&params)?;
        let engine = engine(backend, &params)?;
        let result = engine.range(&*backend.storage, text, start, end, step).map_err(failure)?;
        Ok(answered(result, limit))
    })
    .await
}

fn range(params: &Params) -> Result<(&str, Timestamp, Timestamp, u64), Failure> {
    let (start, end) = (params.moment("start")?, params.moment("end")?);
    if end < start {
        return Err(Failure::bad("invalid parameter \"end\": end timestamp must not be before start time"));
    }
    params.need("step")?;
    let step = params.duration("step")?.unwrap_or_default();
    if step <= 0 {
        return Err(Failure::bad(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive \
             integer",
        ));
    }
    if i128::from(end.0) - i128::from(start.0) > 11_000 * i128::from(step) {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    Ok((params.get("query").unwrap_or_default(), start, end, step.unsigned_abs()))
}

async fn format_query(State(_): Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    envelope(parsed(&params).map(|expr| text_data(&promql::pretty(&expr))), &headers)
}

async fn parse_query(State(_): Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    let tree = |expr: promql::expr::Expr| {
        let mut data = String::new();
        format::tree(&expr, &mut data);
        Data::from(data)
    };
    envelope(parsed(&params).map(tree), &headers)
}

fn parsed(params: &Params) -> Result<promql::expr::Expr, Failure> {
    let fail = |error| Failure::bad(format!("invalid parameter \"query\": {error}"));
    promql::parse(params.get("query").unwrap_or_default()).map_err(fail)
}

fn text_data(text: &str) -> Data {
    let mut data = String::new();
    json::string(text, &mut data);
    data.into()
}

/// No exemplars are kept yet: the query is checked, and there are none.
async fn query_exemplars(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    let checked = params
        .time("start", Timestamp(i64::MIN))
        .and_then(|_| params.time("end", backend.now()))
        .and_then(|_| parsed(&params));
    envelope(checked.map(|_| Data::from("[]".to_owned())), &headers)
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

async fn only_writes() -> (StatusCode, &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
}

async fn no_admin(headers: HeaderMap) -> Response {
    envelope(Err(Failure::unavailable("admin APIs disabled")), &headers)
}

/// No rules are evaluated yet; the parameters are checked.
async fn rules(RawQuery(raw): RawQuery, headers: HeaderMap) -> Response {
    let params = params(raw, &headers, b"");
    match params.get("type").map(str::to_lowercase) {
        Some(kind) if kind != "alert" && kind != "record" => {
            let text = format!("invalid parameter \"type\": not supported value {kind:?}");
            envelope(Err(Failure::bad(text)), &headers)
        }
        _ => nothing("{\"groups\":[]}", &headers),
    }
}

/// Lets pages of any origin ask, as upstream's default does; a preflight on any path is answered here.
async fn cors(request: web::extract::Request, next: web::middleware::Next) -> Response {
    let origin = request.headers().contains_key(header::ORIGIN);
    let mut response = if request.method() == web::http::Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if origin {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// An answer about what this server does not do.
fn nothing(data: &str, headers: &HeaderMap) -> Response {
    envelope(Ok(Data::from(data.to_owned())), headers)
}

/// Runs `read` for every matcher set, or once without any, over the asked time range.
fn over_sets<T>(
    backend: &Backend,
    params: &Params,
    mut read: impl FnMut(&dyn storage::Querier, &[Matcher]) -> Result<T, storage::ReadError>,
) -> Result<Vec<T>, Failure> {
    let (min, max) = (params.time("start", Timestamp(i64::MIN))?, params.time("end", Timestamp(i64::MAX))?);
    let mut sets = params.matchers()?;
    if sets.is_empty() {
        sets.push(Vec::new());
    }
    let querier = backend.storage.querier(min, max);
    Ok(sets.iter().map(|set| read(&*querier, set)).collect::<Result<Vec<_>, _>>()?)
}

fn limited(items: BTreeSet<String>, limit: usize) -> Data {
    let cut = limit > 0 && items.len() > limit;
    let mut done = Data::from(String::new());
    json::strings(items.iter().take(if cut { limit } else { usize::MAX }), &mut done.data);
    if cut {
        done.tail.push_str(TRUNCATED);
    }
    done
}

const TRUNCATED: &str = ",\"warnings\":[\"results truncated due to limit\"]";

async fn label_names(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    answer(backend, headers, move |backend| {
        let names = over_sets(backend, &params, |querier, set| querier.label_names(set))?;
        Ok(limited(names.into_iter().flatten().collect(), params.limit()?))
    })
    .await
}

async fn label_values(
    State(backend): Shared,
    Path(name): Path<String>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Response {
    let params = params(raw, &headers, b"");
    answer(backend, headers, move |backend| {
        if name.is_empty() {
            return Err(Failure::bad("invalid label name: \"\""));
        }
        let values = over_sets(backend, &params, |querier, set| querier.label_values(&name, set))?;
        Ok(limited(values.into_iter().flatten().collect(), params.limit()?))
    })
    .await
}

async fn series(State(backend): Shared, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Response {
    let params = params(raw, &headers, &body);
    answer(backend, headers, move |backend| {
        if params.all("match[]").next().is_none() {
            return Err(Failure::bad("no match[] parameter provided"));
        }
        let found = over_sets(backend, &params, read_labels)?.into_iter().flatten().collect::<BTreeSet<Labels>>();
        let limit = params.limit()?;
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

async fn own_metrics(State(backend): Shared, headers: HeaderMap) -> Response {
    web::metrics_response(backend.registry.gather(), &headers, false)
}

async fn ready(State(backend): Shared) -> Response {
    if backend.ready.get() { "Prometheus Server is Ready.\n".into_response() } else { unready() }
}

const NO_LIFECYCLE: &str = "Lifecycle API is not enabled.";

async fn reload(State(backend): Shared) -> Response {
    let Some(acts) = &backend.lifecycle else { return (StatusCode::FORBIDDEN, NO_LIFECYCLE).into_response() };
    match (acts.reload)() {
        Ok(()) => Body::empty().into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")).into_response()
        }
    }
}

async fn quit(State(backend): Shared) -> Response {
    let Some(acts) = &backend.lifecycle else { return (StatusCode::FORBIDDEN, NO_LIFECYCLE).into_response() };
    (acts.quit)();
    "Requesting termination... Goodbye!".into_response()
}

pub(crate) const NAVIGATION: &[(&str, &str)] = &[("Query", "/query"), ("Targets", "/targets"), ("Metrics", "/metrics")];

async fn query_page() -> Response {
    let body = concat!(
        "<link rel=\"stylesheet\" href=\"/assets/query.css\">",
        include_str!("../assets/query.html"),
        "<script src=\"/assets/query.js\" defer></script>"
    );
    html(web::page::shell("Narthex — Query", NAVIGATION, body))
}

pub(crate) fn html(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

#[cfg(test)]
#[path = "handlers_tests.rs"]
mod tests;
