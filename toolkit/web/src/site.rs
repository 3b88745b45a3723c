//! What every request passes before its handler: limits, and what the web configuration asks.

use crate::{
    listen::Limits,
    meters::{Meters, Refused},
    pace::{Active, Activity, Answering, PacedBody},
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
}

impl Site {
    pub(crate) fn new(router: Router, limits: Limits, clock: &Clock, meters: &Meters) -> Self {
        Self { router: TowerToHyperService::new(router), limits, clock: clock.clone(), meters: meters.clone() }
    }

    /// The service of one connection.
    pub(crate) fn service(self: Arc<Self>, activity: Arc<Activity>) -> Connected {
        Connected { site: self, activity }
    }

    async fn answer(&self, request: Request<Incoming>, active: Active) -> Response<Answering> {
        let response = match self.refusal(&request) {
            Some(refusal) => refusal,
            None => self.handle(request).await,
        };
        response.map(|body| Answering::new(body, active))
    }

    fn refusal(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let length = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok()?;
        if length <= self.limits.body_bytes as u64 {
            return None;
        }
        self.meters.refused.inc(Refused::BodySize);
        Some(refusal(StatusCode::PAYLOAD_TOO_LARGE))
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
