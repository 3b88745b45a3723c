//! What is for people and for whoever keeps the process running: pages, health, reload and quit.

use crate::reply::{Shared, refusal, unready};
use web::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};

pub(crate) const NAVIGATION: &[(&str, &str)] = &[("Query", "/query"), ("Targets", "/targets"), ("Metrics", "/metrics")];

const NO_LIFECYCLE: &str = "Lifecycle API is not enabled.";

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

pub(crate) async fn script() -> Response {
    asset("text/javascript", include_str!("../assets/query.js"))
}

pub(crate) async fn style() -> Response {
    asset("text/css", include_str!("../assets/query.css"))
}

/// The expression page.
pub(crate) async fn query() -> Response {
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

pub(crate) async fn healthy() -> &'static str {
    "Prometheus Server is Healthy.\n"
}

pub(crate) async fn ready(State(backend): Shared) -> Response {
    if backend.ready.get() { "Prometheus Server is Ready.\n".into_response() } else { unready() }
}

pub(crate) async fn reload(State(backend): Shared, _: HeaderMap) -> Response {
    let Some(acts) = &backend.lifecycle else { return (StatusCode::FORBIDDEN, NO_LIFECYCLE).into_response() };
    match (acts.reload)() {
        Ok(()) => Body::empty().into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")),
    }
}

pub(crate) async fn quit(State(backend): Shared) -> Response {
    let Some(acts) = &backend.lifecycle else { return (StatusCode::FORBIDDEN, NO_LIFECYCLE).into_response() };
    (acts.quit)();
    "Requesting termination... Goodbye!".into_response()
}

pub(crate) async fn only_writes() -> (StatusCode, &'static str) {
    (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed")
}
