//! Requests and answers: the routes of one gateway, bodies of pushes, redirects, refusals.

use crate::{
    Key,
    aggregate::Gauges,
    gateway::{Begun, Gateway, How, Policy, PushError},
    intake::{Intake, Taken},
    journal::JournalError,
    key::PathError,
    replicate::{self, NAME_HEADER},
    route::{self, Resolved, Route, Routes},
    tokens::{Denied, Tokens},
};
use runtime::Shutdown;
use std::{borrow::Cow, sync::Arc};
use web::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

/// What handlers share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) routes: Routes,
    pub(crate) tasks: runtime::Tasks,
    pub(crate) intake: Intake,
    /// Whose turn it is to read a large body.
    pub(crate) large: Arc<tokio::sync::Mutex<()>>,
    /// Raised by `/-/quit`.
    pub(crate) shutdown: Shutdown,
    pub(crate) lifecycle: bool,
    /// Flags by name, for the status page.
    pub(crate) flags: Vec<(String, String)>,
    /// Wall clock at the start, in milliseconds since 1970.
    pub(crate) started: i64,
    /// Who may push to which job; `None` is everybody.
    pub(crate) tokens: Option<Tokens>,
    /// Path of the external URL, for links on pages; empty or with a leading slash.
    pub(crate) link_prefix: String,
}

/// Bytes of a body nobody wants that are read away.
const UNREAD_MAX: usize = 256 << 10;

/// Answers a request whose route is to be found yet.
pub(crate) async fn handle(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(path) = route::decode(parts.uri.path()) else {
        return plain(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let method = parts.method.as_str();
    let resolved = service.routes.resolve(method, &path);
    // Only these look at their body.
    let wanted = matches!(&resolved, Resolved::Serve(Route::Group { .. } | Route::Batch | Route::Replicate) if method != "DELETE");
    let (unread, body) = if wanted { (Body::empty(), body) } else { (body, Body::empty()) };
    // Closing a connection with bytes unread resets it, and the client may never see the answer. Who sends more than
    // this is reset all the same.
    let _ = web::body::to_bytes(unread, UNREAD_MAX).await;
    match resolved {
        Resolved::Serve(route) => service.serve(route, &parts.method, &parts.uri, &parts.headers, body).await,
        Resolved::NotFound => error(StatusCode::NOT_FOUND, "404 page not found"),
        Resolved::Redirect(code, to) => redirect(&parts.method, code, &to, parts.uri.query()),
        Resolved::Options(allowed) => with_allow(StatusCode::OK.into_response(), &allowed),
        Resolved::NotAllowed(allowed) => {
            with_allow(error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"), &allowed)
        }
    }
}

/// What a push says in its query or else in a header.
fn asked<'a>(uri: &'a Uri, headers: &'a HeaderMap, query: &str, header: &str) -> Result<Option<Cow<'a, str>>, String> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    if let Some((_, value)) = pairs.filter(|(name, _)| name == query).last() {
        return Ok(Some(value));
    }
    let value = headers.get(header).map(HeaderValue::to_str).transpose();
    Ok(value.map_err(|_| format!("{header} is not text"))?.map(Cow::Borrowed))
}

/// Refuses who has not the right token, once a body of usual size is read away.
async fn turned_away(denied: Denied, body: Body) -> Response {
    let _ = web::body::to_bytes(body, UNREAD_MAX).await;
    Refused::from(denied).into_response()
}

/// A short text without a line end.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.to_owned()).into_response()
}

/// An error as upstream writes it: a line, and no guessing of its type.
pub(crate) fn error(status: StatusCode, text: &str) -> Response {
    let mut response = plain(status, &format!("{text}\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn with_allow(mut response: Response, allowed: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

fn redirect(method: &Method, code: u16, to: &[u8], query: Option<&str>) -> Response {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let to = format!("{}{query}", route::encode(to));
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    let mut response = if method == Method::GET {
        let words = status.canonical_reason().unwrap_or_default();
        let body = format!("<a href=\"{}\">{words}</a>.\n\n", web::page::escape(&to));
        (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
    } else {
        status.into_response()
    };
    if let Ok(value) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

impl Service {
    async fn serve(&self, route: Route, method: &Method, uri: &Uri, headers: &HeaderMap, body: Body) -> Response {
        let (name, response) = match route {
            Route::Expose => return crate::expose::answer(self, headers).await,
            Route::QuitRefused => {
                return plain(StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed.");
            }
            Route::Quit => return self.quit(),
            Route::Profile => {
                let text = "There are no Go profiles here: this gateway has no Go runtime. Use perf on its process.\n";
                return plain(StatusCode::OK, text);
            }
            Route::Group { job, base64, labels } => {
                let key = Key::from_path(&job, base64, &labels, self.gateway.policy.utf8);
                let name = if *method == Method::DELETE { "delete" } else { "push" };
                let allowed = key.as_ref().map_or(Ok(()), |key| self.allow(headers, key.get("job")));
                match (allowed, name) {
                    (Err(denied), _) => (name, turned_away(denied, body).await),
                    (_, "delete") => (name, self.delete(key).await),
                    _ => (name, self.push(key, method, uri, headers, body).await),
                }
            }
            Route::Batch => ("batch", crate::batch::answer(self, headers, body).await),
            Route::Replicate => ("replicate", self.replicate(headers, body).await),
            Route::Healthy => ("healthy", plain(StatusCode::OK, "OK")),
            Route::Ready => ("ready", plain(StatusCode::OK, "OK")),
            Route::Static => ("static", error(StatusCode::NOT_FOUND, "404 page not found")),
            Route::Page => ("status", crate::page::answer(self, uri.query().unwrap_or_default(), headers)),
            Route::Status => ("status", crate::page::status(self, headers)),
            Route::ApiStatus => ("api/v1/status", crate::api::status(self, headers)),
            Route::ApiMetrics => ("api/v1/metrics", crate::api::metrics(self, headers).await),
            Route::ApiOptions => ("api/v1/options", crate::api::options()),
            Route::Wipe => match self.allow(headers, None) {
                Ok(()) => ("wipe", self.wipe().await),
                Err(denied) => ("wipe", Refused::from(denied).into_response()),
            },
        };
        let method = method.as_str().to_ascii_lowercase();
        self.gateway.instruments.requests.with(&[response.status().as_str(), name, &method]).inc();
        response
    }

    /// Whether the token of a request is good for a job, or for all.
    pub(crate) fn allow(&self, headers: &HeaderMap, job: Option<&str>) -> Result<(), Denied> {
        self.tokens.as_ref().map_or(Ok(()), |tokens| tokens.allow(headers, job))
    }

    /// Takes a message of a peer.
    async fn replicate(&self, headers: &HeaderMap, body: Body) -> Response {
        if let Err(denied) = self.allow(headers, None) {
            return turned_away(denied, body).await;
        }
        let Some(replicas) = &self.gateway.replicas else { return error(StatusCode::NOT_FOUND, "404 page not found") };
        let name = headers.get(NAME_HEADER).and_then(|name| name.to_str().ok()).unwrap_or_default();
        if name == replicas.name {
            return error(StatusCode::BAD_REQUEST, "this is the same gateway; name others only in --replication.peer");
        }
        let body = match self.read(headers, body).await {
            Ok(body) => body,
            Err(refused) => return refused.into_response(),
        };
        let records = match replicate::read(&body.bytes) {
            Ok(records) => records,
            Err(why) => return error(StatusCode::BAD_REQUEST, &why),
        };
        match self.gateway.receive(records).await {
            Err(why) => unavailable(&why),
            Ok(received) => {
                replicas.heard(name);
                let counted = [("taken", received.taken), ("stale", received.stale), ("refused", received.refused)];
                for (result, count) in counted {
                    self.gateway.instruments.received.with(&[result]).add(count as f64);
                }
                let mut response = StatusCode::OK.into_response();
                if let Ok(name) = HeaderValue::from_str(&replicas.name) {
                    response.headers_mut().insert(NAME_HEADER, name);
                }
                response
            }
        }
    }

    fn quit(&self) -> Response {
        if !self.lifecycle {
            return plain(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.");
        }
        tracing::info!("Received a request to terminate");
        self.shutdown.begin();
        plain(StatusCode::OK, "Requesting termination... Goodbye!")
    }

    async fn wipe(&self) -> Response {
        match self.gateway.wipe().await {
            Ok(()) => StatusCode::ACCEPTED.into_response(),
            Err(why) => unavailable(&why),
        }
    }

    async fn delete(&self, key: Result<Key, PathError>) -> Response {
        match key {
            Err(why) => error(StatusCode::BAD_REQUEST, &why.to_string()),
            Ok(key) => match self.gateway.delete(&key).await {
                Ok(()) => StatusCode::ACCEPTED.into_response(),
                Err(why) => unavailable(&why),
            },
        }
    }

    async fn push(
        &self,
        key: Result<Key, PathError>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Body,
    ) -> Response {
        let began = self.gateway.clock.now();
        let label = if method == Method::PUT { "put" } else { "post" };
        let (taken, size) = match self.intake.receive(headers, body).await {
            Err(stop) => (Err(self.intake.refusal(&stop, &self.gateway.instruments)), 0),
            Ok(body) => {
                let size = body.size;
                (self.take(key, method, uri, headers, body).await, size)
            }
        };
        let response = match taken {
            Ok(()) if self.gateway.policy.checked => StatusCode::OK.into_response(),
            Ok(()) => StatusCode::ACCEPTED.into_response(),
            Err(refused) => refused.into_response(),
        };
        let head: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let line = uri.to_string().len() + method.as_str().len() + "HTTP/1.1".len();
        self.gateway.instruments.push_bytes.with(&[label]).observe((size + head + line) as f64);
        let took = self.gateway.clock.now() - began;
        self.gateway.instruments.push_seconds.with(&[label]).observe(took.as_secs_f64());
        response
    }

    async fn take(
        &self,
        key: Result<Key, PathError>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Taken,
    ) -> Result<(), Refused> {
        let bad = |why: &dyn std::fmt::Display| Refused::new(StatusCode::BAD_REQUEST, why);
        let large = body.is_large();
        let (gateway, intake, headers) = (self.gateway.clone(), self.intake.clone(), headers.clone());
        let (method, uri) = (method.clone(), uri.clone());
        let work = move || -> Result<(Key, Result<Begun, PushError>), Refused> {
            let body = body.inflated().map_err(|stop| intake.refusal(&stop, &gateway.instruments))?;
            let key = key.map_err(|why| bad(&why))?;
            let read = crate::body::Body::read(&headers, &body.bytes, gateway.policy.utf8);
            let read = read.map_err(|why| bad(&why))?;
            drop(body);
            let how = how(&gateway.policy, &method, &uri, &headers).map_err(|why| bad(&why))?;
            Ok((key.clone(), gateway.begin_push(key, read, how)))
        };
        let (key, begun) = if large {
            // What is made of a body is many times its size, so that there is one at a time.
            let turn = self.large.clone().lock_owned().await;
            let work = move || {
                // Also when the client has gone away meanwhile.
                let _turn = turn;
                work()
            };
            let done = self.tasks.blocking("large push", work).await;
            done.map_err(|why| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, &why))??
        } else {
            work()?
        };
        match Gateway::finish_push(begun).await {
            Ok(()) => Ok(()),
            // Nobody is told of a refusal when nothing is checked: the failure time shows it.
            Err(PushError::Refused(_)) if !self.gateway.policy.checked => Ok(()),
            Err(PushError::Refused(why)) => {
                tracing::debug!(group = %key, error = %why, "Push refused");
                Err(bad(&why))
            }
            Err(PushError::Journal(why)) => Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, &why)),
            Err(why @ PushError::Samples { .. }) => Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, &why)),
            Err(why) => Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, &why)),
        }
    }
}

/// What a push asks for, where pushes may.
fn how(policy: &Policy, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<How, String> {
    let mut how = How { replace: method == Method::PUT, ..How::default() };
    if policy.ttl_by_push
        && let Some(asked) = asked(uri, headers, "ttl", "x-narthex-ttl")?
    {
        let span = model::Duration::parse(&asked).map_err(|why| format!("invalid ttl {asked:?}: {why}"))?;
        how.ttl = Some(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    }
    if policy.sums
        && let Some(word) = asked(uri, headers, "aggregate", "x-narthex-aggregate")?
    {
        if word != "sum" {
            return Err(format!("aggregate is {word:?}; there is only sum"));
        }
        if how.replace {
            return Err("a PUT replaces its group, so nothing can be added; use POST".to_owned());
        }
        let rule = asked(uri, headers, "gauges", "x-narthex-gauges")?.unwrap_or(Cow::Borrowed("last"));
        let gauges = Gauges::parse(&rule);
        how.sum = Some(gauges.ok_or_else(|| format!("gauges is {rule:?}; there are last, sum, min, max"))?);
    }
    Ok(how)
}

impl Service {
    /// The body of a request as it was meant.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Taken, Refused> {
        let taken = self.intake.receive(headers, body).await.and_then(Taken::inflated);
        taken.map_err(|stop| self.intake.refusal(&stop, &self.gateway.instruments))
    }
}

/// An answer that refuses.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, why: &dyn std::fmt::Display) -> Self {
        Self { status, text: why.to_string() }
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let status = if denied == Denied::Missing { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        Self::new(status, &denied)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = error(self.status, &self.text);
        if self.status == StatusCode::UNAUTHORIZED {
            // Browsers ask for a password then, which may be the token.
            for scheme in ["Basic realm=\"push token\"", "Bearer"] {
                response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

/// The answer when a change could not be made durable.
pub(crate) fn unavailable(why: &JournalError) -> Response {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}
