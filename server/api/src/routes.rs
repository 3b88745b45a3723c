//! Every path with its methods, in one table; what is not in it is redirected or not found.

use crate::{
    Backend, about, admin, exchange, federate, metadata, pages, query, reply::refusal, rules, running, search, series,
    status, targets,
};
use std::sync::Arc;
use web::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any},
};

type Route = (&'static str, &'static str, MethodRouter<Arc<Backend>>);

/// Below `/api/v1`.
fn api() -> Vec<Route> {
    vec![
        ("/query", "GET, POST", any(query::instant)),
        ("/query_range", "GET, POST", any(query::range)),
        ("/explain", "GET, POST", any(query::explain)),
        ("/query_exemplars", "GET, POST", any(query::exemplars)),
        ("/format_query", "GET, POST", any(query::format_query)),
        ("/parse_query", "GET, POST", any(query::parse_query)),
        ("/labels", "GET, POST", any(series::names)),
        ("/label/{name}/values", "GET", any(series::values)),
        ("/series", "DELETE, GET, POST", any(series::series).delete(series::delete)),
        ("/metadata", "GET", any(metadata::families)),
        ("/targets", "GET", any(targets::list)),
        ("/targets/metadata", "GET", any(metadata::by_target)),
        ("/scrape_pools", "GET", any(targets::pools)),
        ("/scrape_pools/config", "GET", any(targets::pool_config)),
        ("/otlp/v1/metrics", "POST", any(exchange::otlp)),
        ("/search/metric_names", "GET, POST", any(search::metric_names)),
        ("/search/label_names", "GET, POST", any(search::label_names)),
        ("/search/label_values", "GET, POST", any(search::label_values)),
        ("/features", "GET", any(about::features)),
        ("/openapi.yaml", "GET", any(about::openapi)),
        ("/alertmanagers", "GET", any(rules::alertmanagers)),
        ("/alerts", "GET", any(rules::alerts)),
        ("/rules", "GET", any(rules::rules)),
        ("/status/config", "GET", any(status::config)),
        ("/status/runtimeinfo", "GET", any(status::runtime_info)),
        ("/status/buildinfo", "GET", any(status::build_info)),
        ("/status/flags", "GET", any(status::flags)),
        ("/status/tsdb", "GET", any(status::tsdb_status)),
        ("/status/walreplay", "GET", any(status::replay)),
        ("/status/queries", "GET", any(running::list)),
        ("/status/self_metrics", "GET", any(about::self_metrics)),
        ("/status/tsdb/blocks", "GET", any(status::blocks)),
        ("/notifications", "GET", any(about::notifications)),
        ("/notifications/live", "GET", any(about::live)),
        ("/read", "POST", any(exchange::read)),
        ("/write", "POST", any(exchange::write)),
        ("/import", "POST", any(exchange::import)),
        ("/admin/tsdb/delete_series", "POST, PUT", any(admin::delete_series)),
        ("/admin/tsdb/clean_tombstones", "POST, PUT", any(admin::clean_tombstones)),
        ("/admin/tsdb/snapshot", "POST, PUT", any(admin::snapshot)),
        ("/admin/queries/cancel", "POST, PUT", any(running::cancel)),
    ]
}

/// Outside it.
fn rest() -> Vec<Route> {
    vec![
        ("/", "GET", any(|request: Request| async move { redirect(&request, StatusCode::FOUND, "/query") })),
        ("/graph", "GET", any(graph)),
        ("/query", "GET", any(pages::query)),
        ("/targets", "GET", any(targets::page)),
        ("/assets/query.js", "GET", any(pages::script)),
        ("/assets/query.css", "GET", any(pages::style)),
        ("/metrics", "GET", any(status::own_metrics)),
        ("/federate", "GET", any(federate::federate)),
        ("/version", "GET", any(status::version)),
        ("/-/healthy", "GET, HEAD", any(pages::healthy)),
        ("/-/ready", "GET, HEAD", any(pages::ready)),
        ("/-/reload", "GET, POST, PUT", any(pages::reload).get(pages::only_writes)),
        ("/-/quit", "GET, POST, PUT", any(pages::quit).get(pages::only_writes)),
    ]
}

const PREFIX: &str = "/api/v1";

/// Every path of the server.
pub(crate) fn all() -> Vec<String> {
    let api = api().into_iter().map(|(path, ..)| format!("{PREFIX}{path}"));
    api.chain(rest().into_iter().map(|(path, ..)| path.to_owned())).collect()
}

/// The paths below `/api/v1` with their methods.
pub(crate) fn api_methods() -> Vec<(&'static str, &'static str)> {
    api().into_iter().map(|(path, methods, _)| (path, methods)).collect()
}

/// All routes of the server: API, lifecycle, own metrics and the expression page.
pub fn router(backend: Arc<Backend>) -> Router {
    let (mut inner, mut outer) = (Router::new(), Router::new());
    for (path, methods, handler) in api() {
        inner = inner.route(&format!("{PREFIX}{path}"), limited(methods, handler));
    }
    for (path, methods, handler) in rest() {
        outer = outer.route(path, limited(methods, handler));
    }
    let known: Arc<[String]> = all().into();
    outer
        .merge(inner.layer(from_fn(cors)))
        .fallback(move |request: Request| missing(request, known.clone()))
        .with_state(backend)
}

/// A handler that is asked by its methods alone.
fn limited(methods: &'static str, handler: MethodRouter<Arc<Backend>>) -> MethodRouter<Arc<Backend>> {
    handler.layer(from_fn(move |request: Request, next: Next| async move {
        let method = request.method();
        if methods.split(", ").any(|one| one == method.as_str()) {
            return next.run(request).await;
        }
        // In the order of their names, as upstream's router lists them.
        let mut all: Vec<&str> = methods.split(", ").chain(["OPTIONS"]).collect();
        all.sort_unstable();
        let mut response = if method == Method::OPTIONS {
            StatusCode::OK.into_response()
        } else {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
        };
        if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
            response.headers_mut().insert(header::ALLOW, value);
        }
        response
    }))
}

/// Sends the client elsewhere, with the body that Go's servers send.
pub(crate) fn redirect(request: &Request, status: StatusCode, to: &str) -> Response {
    let location = [(header::LOCATION, to.to_owned())];
    if request.method() != Method::GET {
        return (status, location).into_response();
    }
    let reason = status.canonical_reason().unwrap_or_default();
    let body = format!("<a href=\"{}\">{reason}</a>.\n\n", web::page::escape(to));
    (status, location, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
}

async fn graph(request: Request) -> Response {
    let to = format!("/query?{}", request.uri().query().unwrap_or_default());
    redirect(&request, StatusCode::FOUND, &to)
}

/// A path that is written unusually is sent to its usual form; any other is not found.
async fn missing(request: Request, known: Arc<[String]>) -> Response {
    let path = request.uri().path();
    let asked = Asked::of(&request);
    let inside = path.starts_with("/api/v1/");
    if inside && asked.preflight {
        return asked.answered(StatusCode::NO_CONTENT.into_response());
    }
    let Some(to) = usual(path, &known) else {
        let response = refusal(StatusCode::NOT_FOUND, "404 page not found\n");
        return if inside { asked.answered(response) } else { response };
    };
    let to = request.uri().query().map_or(to.clone(), |query| format!("{to}?{query}"));
    let status =
        if request.method() == Method::GET { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
    redirect(&request, status, &to)
}

/// The usual form of a path that has repeated slashes or dots, or one slash too many at the end of a known one.
fn usual(path: &str, known: &[String]) -> Option<String> {
    let mut clean = String::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
        if segment == ".." {
            clean.truncate(clean.rfind('/').unwrap_or(0));
        } else {
            clean.push('/');
            clean.push_str(segment);
        }
    }
    let bare = path.strip_suffix('/').unwrap_or(path);
    if clean == bare {
        return (bare.len() < path.len() && known.contains(&clean)).then_some(clean);
    }
    Some(if clean.is_empty() { "/".to_owned() } else { clean })
}

/// What a request says of where it comes from.
struct Asked {
    origin: bool,
    preflight: bool,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let origin = request.headers().contains_key(header::ORIGIN);
        Self { origin, preflight: request.method() == Method::OPTIONS }
    }

    /// Lets pages of any origin ask, as upstream's default does.
    fn answered(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if self.origin {
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
}

/// A preflight on any path of the API is answered here.
async fn cors(request: Request, next: Next) -> Response {
    let asked = Asked::of(&request);
    let response = if asked.preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    asked.answered(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusual_paths_have_a_usual_form() {
        let known = ["/metrics".to_owned(), "/api/v1/query".to_owned()];
        for (path, want) in [
            ("/", None),
            ("/metrics", None),
            ("/metrics/", Some("/metrics")),
            ("/nothing/", None),
            ("//api/v1/query", Some("/api/v1/query")),
            ("/api/v1/query/", Some("/api/v1/query")),
            ("/a/../b/./c", Some("/b/c")),
            ("/..", Some("/")),
            ("//", Some("/")),
        ] {
            assert_eq!(usual(path, &known).as_deref(), want, "{path}");
        }
    }
}
