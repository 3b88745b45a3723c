//! Series from and for other servers: remote write and the import of text, as HTTP.
//!
//! How they are encoded is not known here: that is whoever implements [`Remote`].

use crate::reply::{Shared, refusal, unready};
use model::{Labels, Timestamp};
use storage::Storage;
use web::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// What understands the protocols between servers.
pub trait Remote: Send + Sync {
    /// Stores the body of a remote write.
    fn write(&self, storage: &dyn Storage, now: Timestamp, request: Request<'_>) -> Reply;
    /// Stores text that comes piece by piece; a piece that is an error ends it.
    fn import(
        &self,
        storage: &dyn Storage,
        now: Timestamp,
        content_type: Option<&str>,
        pieces: &mut dyn FnMut() -> Option<Result<Bytes, String>>,
    ) -> Reply;
    /// Understands a remote read.
    ///
    /// # Errors
    /// The refusal.
    fn choose(&self, body: &[u8]) -> Result<Box<dyn Chosen>, Reply>;
}

/// A remote read that is understood.
pub trait Chosen: Send {
    /// Content-Type and Content-Encoding of the answer.
    fn headers(&self) -> (&'static str, Option<&'static str>);
    /// Hands out the answer piece by piece until `take` wants no more.
    ///
    /// # Errors
    /// Why it is not complete; before the first piece it becomes a refusal.
    fn answer(
        &mut self,
        storage: &dyn Storage,
        external: &Labels,
        take: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Reply>;
}

/// A request as its headers describe it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Content-Type.
    pub content_type: Option<&'a str>,
    /// Content-Encoding.
    pub encoding: Option<&'a str>,
    /// The body as sent.
    pub body: &'a [u8],
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Content-Type; none with an empty body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: String,
    /// Further headers by lower case name.
    pub headers: Vec<(&'static str, String)>,
}

const NO_WRITE: &str = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
/// Pieces of a body that wait for storage.
const PIECES_WAITING: usize = 4;

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn respond(reply: Reply) -> Response {
    let mut response = reply.body.into_response();
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    match reply.content_type {
        Some(kind) => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind))),
        None => drop(headers.remove(header::CONTENT_TYPE)),
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn failed_inside() -> Response {
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "the request failed inside, see the log\n")
}

/// `/write`: remote write of both versions.
pub(crate) async fn write(State(backend): Shared, headers: HeaderMap, body: Bytes) -> Response {
    if !backend.receives {
        return refusal(StatusCode::NOT_FOUND, NO_WRITE);
    }
    if !backend.ready.get() {
        return unready();
    }
    let work = tokio::task::spawn_blocking(move || {
        let request = Request {
            content_type: text(&headers, header::CONTENT_TYPE),
            encoding: text(&headers, header::CONTENT_ENCODING),
            body: &body,
        };
        backend.remote.write(&*backend.storage, backend.now(), request)
    });
    work.await.map_or_else(|_| failed_inside(), respond)
}

/// `/import`: text with times, stored while it arrives.
pub(crate) async fn import(State(backend): Shared, headers: HeaderMap, body: Body) -> Response {
    if !backend.receives {
        return refusal(StatusCode::NOT_FOUND, NO_WRITE);
    }
    if !backend.ready.get() {
        return unready();
    }
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Result<Bytes, String>>(PIECES_WAITING);
    let work = tokio::task::spawn_blocking(move || {
        let content_type = text(&headers, header::CONTENT_TYPE);
        backend.remote.import(&*backend.storage, backend.now(), content_type, &mut || receiver.blocking_recv())
    });
    let mut pieces = body.into_data_stream();
    while let Some(piece) = futures_util::StreamExt::next(&mut pieces).await {
        // Whoever stores ends early when something is wrong.
        if sender.send(piece.map_err(|error| error.to_string())).await.is_err() {
            break;
        }
    }
    drop(sender);
    work.await.map_or_else(|_| failed_inside(), respond)
}

/// `/otlp/v1/metrics`, which there is not yet: what a server says that was not told to take them.
pub(crate) async fn otlp() -> Response {
    refusal(StatusCode::NOT_FOUND, "otlp write receiver needs to be enabled with --web.enable-otlp-receiver\n")
}

/// `/read`: samples for another server, as they are read.
pub(crate) async fn read(State(backend): Shared, body: Bytes) -> Response {
    if !backend.ready.get() {
        return unready();
    }
    let mut chosen = match backend.remote.choose(&body) {
        Ok(chosen) => chosen,
        Err(reply) => return respond(reply),
    };
    let (content_type, encoding) = chosen.headers();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Result<Bytes, Reply>>(PIECES_WAITING);
    let work = tokio::task::spawn_blocking(move || {
        let external = (backend.external_labels)();
        let result = chosen.answer(&*backend.storage, &external, &mut |piece| {
            // Whoever has left wants no more.
            sender.blocking_send(Ok(Bytes::from(piece))).is_ok()
        });
        if let Err(reply) = result {
            let _ = sender.blocking_send(Err(reply));
        }
    });
    let first = match receiver.recv().await {
        Some(Err(reply)) => return respond(reply),
        Some(Ok(first)) => Some(first),
        None if work.await.is_err() => return failed_inside(),
        None => None,
    };
    let rest = futures_util::stream::unfold((first, receiver), |(first, mut receiver)| async move {
        let piece = match first {
            Some(piece) => Ok(piece),
            // The client sees its connection break: what it has is not all.
            None => receiver.recv().await?.map_err(|reply| std::io::Error::other(reply.body)),
        };
        Some((piece, (None, receiver)))
    });
    let mut response = Body::from_stream(rest).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}
