//! Answers: the envelope, plain refusals, and how a handler's work is run.

use crate::{Backend, Failure, json, params::Params};
use std::sync::Arc;
use web::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
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

/// Answers with upstream's envelope, compressed as the client asks.
pub(crate) fn envelope(result: Result<Data, Failure>, headers: &HeaderMap) -> Response {
    let (status, body) = match result {
        Ok(Data { data, tail }) => (200, format!("{{\"status\":\"success\",\"data\":{data}{tail}}}")),
        Err(failure) => {
            let mut body = format!("{{\"status\":\"error\",\"errorType\":\"{}\",\"error\":", failure.kind);
            json::escaped(&failure.text, &mut body);
            body.push('}');
            (failure.status, body)
        }
    };
    let mut response = web::respond_body(body.into_bytes(), "application/json", headers);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// The envelope of something that may have nothing to say, which has no body.
pub(crate) fn envelope_or_nothing(result: Result<Option<Data>, Failure>, headers: &HeaderMap) -> Response {
    match result {
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Ok(Some(data)) => envelope(Ok(data), headers),
        Err(failure) => envelope(Err(failure), headers),
    }
}

/// An answer that is the same for everyone.
pub(crate) fn constant(data: &str, headers: &HeaderMap) -> Response {
    envelope(Ok(Data::from(data.to_owned())), headers)
}

/// Runs a handler on the blocking pool once storage is ready; a panic there costs one answer.
pub(crate) async fn blocking<T: Send + 'static>(
    backend: Arc<Backend>,
    work: impl FnOnce(&Backend) -> Result<T, Failure> + Send + 'static,
) -> Result<Result<T, Failure>, Response> {
    if !backend.ready.get() {
        return Err(unready());
    }
    let result = tokio::task::spawn_blocking(move || work(&backend)).await;
    Ok(result.unwrap_or_else(|_| Err(Failure::internal("the request failed inside, see the log"))))
}

/// Runs a handler that has something to say.
pub(crate) async fn answer(
    backend: Arc<Backend>,
    headers: HeaderMap,
    work: impl FnOnce(&Backend) -> Result<Data, Failure> + Send + 'static,
) -> Response {
    blocking(backend, work).await.map_or_else(|refused| refused, |result| envelope(result, &headers))
}

/// A refusal in plain text, as Go's servers send it.
pub(crate) fn refusal(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], text.into()).into_response()
}

pub(crate) fn unready() -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
}

/// Only a form body carries parameters.
pub(crate) fn params(query: Option<String>, headers: &HeaderMap, body: &[u8]) -> Params {
    let form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    Params::new(&query.unwrap_or_default(), if form { body } else { b"" })
}
