//! What every request passes before its handler: limits, and what the web configuration asks.

use crate::{
    config::WebConfig,
    kubernetes::{Kubernetes, Refusal},
    listen::Limits,
    live::Live,
    meters::{Meters, Refused},
    pace::{Active, Activity, Answering, PacedBody},
    passwords::{Passwords, Verdict},
    rate::Bucket,
};
use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use futures_util::FutureExt;
use http_body_util::Limited;
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use runtime::Clock;
use std::{convert::Infallible, future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

/// The handlers and the door before them.
pub(crate) struct Site {
    router: TowerToHyperService<Router>,
    limits: Limits,
    clock: Clock,
    meters: Meters,
    gate: Option<Gate>,
}

/// What a web configuration puts before the handlers.
pub(crate) struct Gate {
    pub(crate) live: Arc<Live>,
    pub(crate) bucket: Option<Bucket>,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) kubernetes: Kubernetes,
}

impl Site {
    pub(crate) fn new(router: Router, gate: Option<Gate>, limits: Limits, clock: &Clock, meters: &Meters) -> Self {
        let router = TowerToHyperService::new(router);
        Self { router, limits, clock: clock.clone(), meters: meters.clone(), gate }
    }

    /// The service of one connection.
    pub(crate) fn service(self: Arc<Self>, activity: Arc<Activity>) -> Connected {
        Connected { site: self, activity }
    }

    async fn answer(&self, request: Request<Incoming>, active: Active) -> Response<Answering> {
        let response = match &self.gate {
            Some(gate) => self.pass(gate, request).await,
            None => self.admit(request).await,
        };
        response.map(|body| Answering::new(body, active))
    }

    /// The order is upstream's: file, rate, headers, password, handler.
    async fn pass(&self, gate: &Gate, request: Request<Incoming>) -> Response<Body> {
        let Ok(config) = gate.live.config().await else {
            return self.refuse(Refused::Config, StatusCode::INTERNAL_SERVER_ERROR);
        };
        if gate.bucket.as_ref().is_some_and(|bucket| !bucket.take()) {
            return self.refuse(Refused::RateLimit, StatusCode::TOO_MANY_REQUESTS);
        }
        let mut response = match self.refusal(gate, &config, &request).await {
            None => self.admit(request).await,
            Some(refusal) => refusal,
        };
        for (name, value) in &config.headers {
            // The handler knows better.
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        response
    }

    /// The answer to those who may not pass. Where there are users and a cluster, who comes with a password is a user.
    async fn refusal(&self, gate: &Gate, config: &WebConfig, request: &Request<Incoming>) -> Option<Response<Body>> {
        let with_users = !config.users.hashes.is_empty();
        match &config.kubernetes {
            Some(settings) if !with_users || !is_basic(request) => {
                let (method, path) = (request.method(), request.uri().path());
                let checked = gate.kubernetes.check(settings, method, path, request.headers()).await;
                checked.err().map(|refusal| self.kubernetes_refusal(refusal, with_users))
            }
            _ if with_users => self.password_refusal(gate.passwords.check(&config.users, request.headers()).await),
            _ => None,
        }
    }

    fn password_refusal(&self, verdict: Verdict) -> Option<Response<Body>> {
        match verdict {
            Verdict::Right => None,
            Verdict::Missing => Some(self.unauthorized(Refused::NoPassword, &["Basic"])),
            Verdict::Wrong => Some(self.unauthorized(Refused::WrongPassword, &["Basic"])),
            Verdict::Busy => Some(self.later(Refused::Busy)),
        }
    }

    fn kubernetes_refusal(&self, refusal: Refusal, with_users: bool) -> Response<Body> {
        let challenges: &[&'static str] = if with_users { &["Bearer", "Basic"] } else { &["Bearer"] };
        match refusal {
            Refusal::Unauthorized(reason) => self.unauthorized(reason, challenges),
            Refusal::Forbidden(text) => {
                let mut response = self.refuse(Refused::Forbidden, StatusCode::FORBIDDEN);
                *response.body_mut() = Body::from(format!("{text}\n"));
                response
            }
            Refusal::Hidden => self.refuse(Refused::Hidden, StatusCode::NOT_FOUND),
            Refusal::Unknown(reason) => self.later(reason),
        }
    }

    fn unauthorized(&self, reason: Refused, challenges: &[&'static str]) -> Response<Body> {
        let mut response = self.refuse(reason, StatusCode::UNAUTHORIZED);
        for challenge in challenges {
            response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }

    fn later(&self, reason: Refused) -> Response<Body> {
        let mut response = self.refuse(reason, StatusCode::SERVICE_UNAVAILABLE);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }

    fn refuse(&self, reason: Refused, status: StatusCode) -> Response<Body> {
        self.meters.refused.inc(reason);
        refusal(status)
    }

    /// Turns away what says that it is too large before any of it is read.
    async fn admit(&self, request: Request<Incoming>) -> Response<Body> {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
        if length > self.limits.body_bytes as u64 {
            return self.refuse(Refused::BodySize, StatusCode::PAYLOAD_TOO_LARGE);
        }
        self.handle(request).await
    }

    /// Asks the handler; a panic there costs one answer.
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let request = request.map(|body| {
            let body = Limited::new(body, self.limits.body_bytes);
            Body::new(PacedBody::new(body, &self.clock, self.limits.body_timeout, &self.meters))
        });
        let path = request.uri().path().to_owned();
        match AssertUnwindSafe(self.router.call(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(payload) => {
                self.meters.panics.inc();
                tracing::error!(
                    path,
                    panic = panic_text(&*payload),
                    "A handler panicked; this is a bug, please report it"
                );
                refusal(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// Whether a request comes with a password.
fn is_basic(request: &Request<Incoming>) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    given.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or(owned).unwrap_or("no message")
}

/// An answer of the status' own text, as Go's servers write it.
pub(crate) fn refusal(status: StatusCode) -> Response<Body> {
    let text = format!("{}\n", status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The site as one connection sees it.
#[derive(Clone)]
pub(crate) struct Connected {
    site: Arc<Site>,
    activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Connected {
    type Response = Response<Answering>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (site, active) = (self.site.clone(), self.activity.begin());
        Box::pin(async move { Ok(site.answer(request, active).await) })
    }
}
