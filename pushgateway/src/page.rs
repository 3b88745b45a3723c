//! The page: groups with their labels, age and values.

use crate::http::Service;
use web::{http::HeaderMap, response::Response};

/// The whole page.
pub(crate) fn answer(_service: &Service, _query: &str, headers: &HeaderMap) -> Response {
    web::respond_body(web::page::shell("Pushgateway", &[], "").into_bytes(), "text/html; charset=utf-8", headers)
}

/// Its list of groups.
pub(crate) fn groups(service: &Service, query: &str, headers: &HeaderMap) -> Response {
    answer(service, query, headers)
}
