//! One request and its answer: credentials, redirects, reuse of connections, deadline, limit.
//!
//! Behaviour is Go's `net/http` under `prometheus/common`, where a target or a user can tell: which requests a redirect
//! leads to, what goes to another host, which failed requests are tried again, and how errors read.

use crate::{
    BuildError, Cause, Encoding, FetchError, HttpConfig, ProxyEnvironment,
    body::Reader,
    dial::{self, Connector, Dialer, Link},
    gzip::Inflaters,
    oauth2::Tokens,
    prepare::{self, Prepared},
    proxy::{Kind, Rules},
    texts,
    tls::{self, Inputs, Tls},
    url::Address,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION,
        PROXY_AUTHORIZATION, REFERER, USER_AGENT, WWW_AUTHENTICATE,
    },
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use runtime::{Clock, Tasks};
use std::{error::Error, ops::ControlFlow, sync::Arc, time::Duration};

/// Requests made for one that is redirected, as Go.
const HOPS_MAX: usize = 10;

/// Bytes kept of the body of an answer that is no success.
const REFUSAL_MAX: usize = 64 << 10;

/// Bytes read of a redirect's body, so that its connection can be used again.
const REDIRECT_BODY_MAX: usize = 2 << 10;

/// Bytes of an answer's headers over HTTP/2.
const HEADERS_MAX: u32 = 1 << 20;

/// Silence on an HTTP/2 connection before it is asked whether it lives, as upstream.
const PING_AFTER: Duration = Duration::from_secs(60);

/// What a client needs from its process.
#[derive(Clone, Debug)]
pub struct Options {
    /// For deadlines and the validity of certificates and tokens.
    pub clock: Clock,
    /// Where files are read.
    pub tasks: Tasks,
    /// `User-Agent` of every request.
    pub user_agent: String,
    /// For `proxy_from_environment`.
    pub environment: ProxyEnvironment,
    /// Unused connections kept to each host.
    pub idle_per_host: usize,
    /// How long they are kept.
    pub idle_timeout: Duration,
}

impl Options {
    /// Upstream's five minutes for unused connections, of which each host keeps eight; no environment.
    pub fn new(clock: Clock, tasks: Tasks, user_agent: impl Into<String>) -> Self {
        Self {
            clock,
            tasks,
            user_agent: user_agent.into(),
            environment: ProxyEnvironment::default(),
            idle_per_host: 8,
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// An `http` or `https` address. A user in it becomes basic authentication when nothing else is configured.
    pub url: &'a str,
    /// Headers beside those that the client sets. `Authorization` here wins over the configured one.
    pub headers: HeaderMap,
    /// The body; empty is none.
    pub body: Bytes,
    /// Compressions that the answer may use; none asks for `identity`.
    pub accept: &'a [Encoding],
    /// Time from here to the end of the answer's body.
    pub deadline: Duration,
    /// Bytes of the answer's body, decompressed; one of this length or more fails.
    pub body_limit: u64,
}

impl<'a> Request<'a> {
    /// A `GET` without further headers that takes gzip.
    pub fn get(url: &'a str, deadline: Duration, body_limit: u64) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            accept: &[Encoding::Gzip],
            deadline,
            body_limit,
        }
    }
}

/// The head of an answer; its body is in the caller's memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// The status with the server's own words, as in `503 Service Unavailable`.
    pub status_line: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// The protocol spoken.
    pub version: Version,
    /// Where it came from, after redirects.
    pub url: String,
}

type Http = legacy::Client<Connector, Full<Bytes>>;

/// Calls HTTP as a section of the configuration says. Clones share connections; unused ones close with the last clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    section: Arc<HttpConfig>,
    options: Options,
    rules: Arc<Rules>,
    user_agent: HeaderValue,
    connect_headers: HeaderMap,
    /// When the section names no file.
    fixed: Option<Arc<Prepared>>,
    /// The connections, and the certificates they were made with.
    open: Mutex<Option<(Inputs, Http)>>,
    tokens: Option<Tokens>,
    inflaters: Inflaters,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.section).finish()
    }
}

impl Client {
    /// A client for a section. Files are not read yet: what is wrong with them fails the requests that need them.
    ///
    /// # Errors
    /// [`BuildError`] when what is written in the section itself cannot be used.
    pub fn new(section: HttpConfig, options: Options) -> Result<Self, BuildError> {
        section.validate()?;
        let proxy = section.proxy();
        let rules = Arc::new(Rules::new(&proxy, &options.environment)?);
        let connect_headers = dial::connect_headers(proxy.connect_header)
            .ok_or_else(|| BuildError::Header("proxy_connect_header".into()))?;
        let user_agent = HeaderValue::from_str(&options.user_agent);
        let user_agent = user_agent.map_err(|_| BuildError::Header("User-Agent".into()))?;
        let tls = section.tls_config.clone().unwrap_or_default();
        tls::versions(&tls)?;
        let fixed = if prepare::has_files(&section) {
            None
        } else {
            let prepared = prepare::prepare(&section).map_err(|cause| BuildError::Inline(cause.to_string()))?;
            if prepared.tls != Inputs::default() {
                tls::build(options.clock.clone(), &tls, &prepared.tls, false).map_err(BuildError::Inline)?;
            }
            Some(Arc::new(prepared))
        };
        let tokens = section.oauth2.as_ref().map(|oauth2| Tokens::new(oauth2, &options)).transpose()?;
        let (section, open) = (Arc::new(section), Mutex::new(None));
        let inflaters = Inflaters::default();
        let inner = Inner { section, options, rules, user_agent, connect_headers, fixed, open, tokens, inflaters };
        Ok(Self(Arc::new(inner)))
    }

    /// Asks, and reads the answer's body into `body`, whose memory is used again.
    ///
    /// Any status is an answer. Of one that is no success (2xx) at most the first 64 KiB are read, never more than the
    /// limit, and a longer one does not fail.
    ///
    /// # Errors
    /// [`FetchError`]; `body` then holds what came until then, or nothing.
    pub async fn fetch(&self, request: &Request<'_>, body: &mut Vec<u8>) -> Result<Response, FetchError> {
        let clock = &self.0.options.clock;
        let end = clock.now() + request.deadline;
        body.clear();
        let mut hop = Hop::first(request)?;
        let answer = clock.timeout(request.deadline, self.0.answer(&mut hop)).await;
        let answer = answer.unwrap_or(Err(Cause::Deadline)).map_err(|cause| hop.failed(cause))?;
        let received =
            clock.timeout(end - clock.now(), receive(answer, hop, request.body_limit, body, &self.0.inflaters)).await;
        received.unwrap_or(Err(FetchError::Body(Cause::Deadline)))
    }

    /// Asks, and hands on the body of a success (2xx) as it comes, until it ends or `take` has enough. The deadline of the
    /// request is that of its head; the body may last, but not be silent for longer than `patience`. Compression is not
    /// asked for and not undone, and the request's limit does not count: nothing is kept here.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn follow(
        &self,
        request: &Request<'_>,
        patience: Duration,
        take: &mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send),
    ) -> Result<Response, FetchError> {
        let clock = &self.0.options.clock;
        let mut hop = Hop::first(&Request { accept: &[], ..request.clone() })?;
        let answer = clock.timeout(request.deadline, self.0.answer(&mut hop)).await;
        let answer = answer.unwrap_or(Err(Cause::Deadline)).map_err(|cause| hop.failed(cause))?;
        let (head, mut incoming) = answer.into_parts();
        while head.status.is_success() {
            let frame = clock.timeout(patience, incoming.frame()).await;
            let Some(frame) = frame.map_err(|_| FetchError::Body(Cause::Deadline))? else { break };
            let link = head.extensions.get::<Link>();
            let broken = |error| FetchError::Body(Cause::Protocol(texts::exchange(&error, link)));
            let frame = frame.map_err(broken)?;
            if frame.data_ref().is_some_and(|bytes| take(bytes).is_break()) {
                break;
            }
        }
        Ok(response(head, hop))
    }
}

impl Inner {
    /// The first answer that is no redirect to follow.
    async fn answer(&self, hop: &mut Hop) -> Result<http::Response<Incoming>, Cause> {
        let prepared = self.prepared().await?;
        let http = self.open(&prepared.tls);
        let follow = self.section.follow_redirects != Some(false);
        for _ in 0..HOPS_MAX {
            let request = self.request(hop, &prepared).await?;
            let answer = send(&http, request).await?;
            if !follow || !hop.follow(&answer)? {
                return Ok(answer);
            }
            discard(answer.into_body()).await;
        }
        hop.address.shown = std::mem::take(&mut hop.location);
        Err(Cause::Redirects)
    }

    async fn prepared(&self) -> Result<Arc<Prepared>, Cause> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let section = self.section.clone();
        let read = self.options.tasks.blocking("client files", move || prepare::prepare(&section)).await;
        read.map_err(|panicked| Cause::Credentials(panicked.to_string()))?.map(Arc::new)
    }

    /// The connections made with these certificates; others are given up.
    fn open(&self, inputs: &Inputs) -> Http {
        let mut open = self.open.lock();
        if let Some((made_with, http)) = &*open
            && made_with == inputs
        {
            return http.clone();
        }
        let http = self.connections(inputs.clone());
        *open = Some((inputs.clone(), http.clone()));
        http
    }

    fn connections(&self, inputs: Inputs) -> Http {
        let (clock, tasks) = (self.options.clock.clone(), self.options.tasks.clone());
        let section = Arc::new(self.section.tls_config.clone().unwrap_or_default());
        let http2 = self.section.enable_http2 != Some(false);
        let dialer = Dialer {
            clock: clock.clone(),
            rules: self.rules.clone(),
            connect_headers: self.connect_headers.clone(),
            user_agent: self.options.user_agent.clone(),
            tls: Tls::new(clock, tasks, section, inputs, http2),
        };
        // Connections are driven by tasks of hyper's own, which end with the last clone of the pool; ours would have to
        // be waited for at the end of the process.
        legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.options.idle_timeout)
            .pool_max_idle_per_host(self.options.idle_per_host)
            .http1_title_case_headers(true)
            .http2_max_header_list_size(HEADERS_MAX)
            .http2_keep_alive_interval(PING_AFTER)
            .http2_keep_alive_while_idle(true)
            .build(Connector(Arc::new(dialer)))
    }

    /// A request with everything that the section adds.
    async fn request(&self, hop: &Hop, prepared: &Prepared) -> Result<http::Request<Full<Bytes>>, Cause> {
        let mut request = http::Request::new(Full::new(hop.body.clone()));
        *request.method_mut() = hop.method.clone();
        *request.uri_mut() = hop.address.uri.clone();
        let headers = request.headers_mut();
        if !hop.address.https() {
            // As written, with a port that could be left out; over TLS it is the protocol's to say.
            headers.insert(HOST, hop.address.host_header()?);
        }
        headers.extend(hop.headers.clone());
        headers.insert(USER_AGENT, self.user_agent.clone());
        if hop.trusted {
            for (name, value) in &prepared.headers {
                headers.append(name, value.clone());
            }
            if !headers.contains_key(AUTHORIZATION) {
                let token = match &self.tokens {
                    Some(tokens) => Some(tokens.header(&prepared.token_secret).await?),
                    None => prepared.authorization.clone(),
                };
                let in_url = || hop.address.user.as_ref().map(|user| header(&dial::basic(user))).transpose();
                if let Some(value) = token.map_or_else(in_url, |token| Ok(Some(token)))? {
                    headers.insert(AUTHORIZATION, value);
                }
            }
        }
        if !hop.address.https()
            && let Some(server) = self.rules.choose(&hop.address.uri).map_err(|why| Cause::Dial(why.into()))?
            && let (Kind::Http | Kind::Https, Some(user)) = (server.kind, &server.user)
        {
            headers.insert(PROXY_AUTHORIZATION, header(&dial::basic(user))?);
        }
        Ok(request)
    }
}

/// A header that holds a secret.
pub(crate) fn header(text: &str) -> Result<HeaderValue, Cause> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Cause::Credentials("net/http: invalid header field value for \"Authorization\"".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends a request; once more when it met a connection that the server had just given up.
async fn send(http: &Http, request: http::Request<Full<Bytes>>) -> Result<http::Response<Incoming>, Cause> {
    let repeatable = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let again = repeatable.then(|| request.clone());
    let answer = match (http.request(request).await, again) {
        (Err(error), Some(again)) if link(&error).is_some_and(|link| link.is_used()) => http.request(again).await,
        (answer, _) => answer,
    };
    let answer = answer.map_err(|error| cause(&error))?;
    if let Some(link) = answer.extensions().get::<Link>() {
        link.set_used();
    }
    Ok(answer)
}

/// The connection on which a request failed.
fn link(error: &legacy::Error) -> Option<Link> {
    let mut extensions = http::Extensions::new();
    error.connect_info()?.get_extras(&mut extensions);
    extensions.remove()
}

fn cause(error: &legacy::Error) -> Cause {
    let mut next = error.source();
    while let Some(one) = next {
        if let Some(cause) = one.downcast_ref::<Cause>() {
            return cause.clone();
        }
        next = one.source();
    }
    Cause::Protocol(texts::exchange(error, link(error).as_ref()))
}

/// Reads the little that a redirect says, so that its connection can be used again.
async fn discard(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > REDIRECT_BODY_MAX {
            return;
        }
    }
}

/// Reads an answer's body.
async fn receive(
    answer: http::Response<Incoming>,
    hop: Hop,
    limit: u64,
    body: &mut Vec<u8>,
    inflaters: &Inflaters,
) -> Result<Response, FetchError> {
    let (head, incoming) = answer.into_parts();
    let encoding = head.headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if hop.method == Method::HEAD {
        // What its headers tell of is not sent.
    } else if head.status.is_success() {
        let link = head.extensions.get::<Link>();
        read_all(incoming, Reader::whole(body, limit, encoding, inflaters)?, link).await?;
    } else {
        // What a refusal says is only ever shown: cut when it is long, left out when it cannot be decompressed.
        if let Ok(reader) = Reader::new(body, limit, encoding) {
            read_some(incoming, reader).await;
        }
        body.truncate(REFUSAL_MAX);
    }
    Ok(response(head, hop))
}

fn response(head: http::response::Parts, hop: Hop) -> Response {
    let reason = head.extensions.get::<hyper::ext::ReasonPhrase>();
    let status_line = match reason.map(|reason| String::from_utf8_lossy(reason.as_bytes())) {
        Some(reason) => format!("{} {reason}", head.status.as_u16()).trim_end().to_owned(),
        None => head.status.to_string(),
    };
    let url = hop.address.shown;
    Response { status: head.status, status_line, headers: head.headers, version: head.version, url }
}

async fn read_all(mut incoming: Incoming, mut reader: Reader<'_>, link: Option<&Link>) -> Result<(), FetchError> {
    while let Some(frame) = incoming.frame().await {
        let broken = |error| FetchError::Body(Cause::Protocol(texts::exchange(&error, link)));
        let frame = frame.map_err(broken)?;
        if let Some(bytes) = frame.data_ref() {
            reader.push(bytes)?;
        }
    }
    reader.finish()
}

async fn read_some(mut incoming: Incoming, mut reader: Reader<'_>) {
    while let Some(Ok(frame)) = incoming.frame().await {
        let pushed = frame.data_ref().map_or(Ok(()), |bytes| reader.push(bytes));
        if pushed.is_err() || reader.len() > REFUSAL_MAX {
            return;
        }
    }
}

/// One of the requests that redirects make of one.
struct Hop {
    method: Method,
    address: Address,
    first: Address,
    headers: HeaderMap,
    body: Bytes,
    /// Whether credentials may go there.
    trusted: bool,
    /// The last redirect as the server wrote it.
    location: String,
}

impl Hop {
    fn first(request: &Request<'_>) -> Result<Self, FetchError> {
        let address = Address::parse(request.url).map_err(|cause| FetchError::Request {
            op: op(&request.method),
            url: crate::url::hidden(request.url),
            cause,
        })?;
        let mut headers = request.headers.clone();
        let names: Vec<&str> = request.accept.iter().map(|encoding| encoding.name()).collect();
        let accept = if names.is_empty() { "identity".to_owned() } else { names.join(", ") };
        if let (false, Ok(accept)) = (headers.contains_key(ACCEPT_ENCODING), accept.try_into()) {
            headers.insert(ACCEPT_ENCODING, accept);
        }
        let (method, body) = (request.method.clone(), request.body.clone());
        let (first, location) = (address.clone(), String::new());
        Ok(Self { method, first, address, headers, body, trusted: true, location })
    }

    /// Becomes the request that an answer redirects to; false when it is none that can be followed.
    fn follow(&mut self, answer: &http::Response<Incoming>) -> Result<bool, Cause> {
        let with_body = match answer.status().as_u16() {
            301..=303 => false,
            307 | 308 => true,
            _ => return Ok(false),
        };
        let Some(location) = answer.headers().get(LOCATION) else { return Ok(false) };
        self.location = String::from_utf8_lossy(location.as_bytes()).into_owned();
        let next = self.address.join(&self.location).map_err(|why| match why {
            Cause::Address(_) => {
                self.address.shown = crate::url::hidden(&self.location);
                why
            }
            why => Cause::Protocol(format!("failed to parse Location header {:?}: {why}", self.location)),
        });
        let last = std::mem::replace(&mut self.address, next?);
        if !with_body {
            if !matches!(self.method, Method::GET | Method::HEAD) {
                self.method = Method::GET;
            }
            self.body = Bytes::new();
            for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LENGTH] {
                self.headers.remove(name);
            }
        }
        // Once away, a way back does not bring credentials back.
        self.trusted &= self.address.is_within(&self.first);
        if !self.trusted {
            for name in [AUTHORIZATION, WWW_AUTHENTICATE, COOKIE] {
                self.headers.remove(name);
            }
        }
        if let (false, Ok(referer)) = (last.https() && !self.address.https(), last.uri.to_string().try_into()) {
            self.headers.insert(REFERER, referer);
        }
        Ok(true)
    }

    fn failed(&self, cause: Cause) -> FetchError {
        FetchError::Request { op: op(&self.method), url: self.address.shown.clone(), cause }
    }
}

/// `GET` as `Get`.
fn op(method: &Method) -> String {
    let name = method.as_str();
    name.chars().take(1).chain(name.chars().skip(1).map(|letter| letter.to_ascii_lowercase())).collect()
}
