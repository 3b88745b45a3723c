//! The HTTP side: `/metrics` with its filters and limits, and the landing page.

use crate::collection::{Collection, SelectError};
use crate::flags::{LIFECYCLE, SANDBOX};
use crate::page;
use crate::reload::{self, Reload};
use crate::sandbox::{Plan, SandboxError};
use anyhow::Context;
use arc_swap::ArcSwap;
use cli::{BuildInfo, Parsed};
use exposition::{Escaping, Family, Format, Metric, MetricValue};
use metrics::{Counter, CounterVec, Gauge, Registry};
use model::{Labels, MetricType};
use percent_encoding::percent_decode_str;
use runtime::{Clock, Shutdown, Tasks};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use web::Router;
use web::body::Body;
use web::extract::{RawQuery, State};
use web::http::header::{ACCEPT, CONTENT_TYPE};
use web::http::{HeaderMap, StatusCode, Uri};
use web::response::Response;

/// What a scraper says about how long it waits.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// Part of that time that is kept for sending the answer, and the least of it.
const MARGIN: f64 = 0.05;
const MARGIN_LEAST: Duration = Duration::from_millis(250);

/// What a program hands to the service.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Time.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where work runs.
    pub tasks: Tasks,
}

/// What the flags of this moment ask for; a reload puts another in its place.
pub(crate) struct Present {
    pub(crate) parsed: Parsed,
    pub(crate) collection: Arc<Collection>,
    /// Not with `--web.disable-exporter-metrics`.
    own: bool,
    places: Option<Semaphore>,
    places_max: i64,
}

impl Present {
    /// Starts the collectors.
    pub(crate) fn new(parsed: Parsed, clock: &Clock) -> Result<Present, crate::StartError> {
        let collection = Arc::new(Collection::start(&parsed, clock.clone())?);
        for name in collection.names() {
            tracing::info!(collector = name, "enabled collector");
        }
        let places_max = parsed.int("web.max-requests");
        let places = usize::try_from(places_max).ok().filter(|places| *places > 0);
        Ok(Present {
            collection,
            own: !parsed.bool("web.disable-exporter-metrics"),
            places: places.map(|places| Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            places_max,
            parsed,
        })
    }
}

/// Everything a request needs.
pub(crate) struct Service {
    pub(crate) present: Arc<ArcSwap<Present>>,
    /// The exporter's own figures.
    pub(crate) own: Registry,
    build: Registry,
    requests: CounterVec,
    errors: Counter,
    in_flight: Gauge,
}

impl Service {
    pub(crate) fn new(parsed: Parsed, environment: &Environment) -> Result<Service, crate::StartError> {
        let present = Arc::new(ArcSwap::from_pointee(Present::new(parsed, &environment.clock)?));
        let (own, build) = (Registry::new(), Registry::new());
        let known = present.clone();
        metrics::process_collector_told(&own, &environment.clock, move || known.load().collection.octets());
        metrics::build_info(&build, "node_exporter");
        let stuck = present.clone();
        own.collect(move |families| {
            let help = "Threads that wait for a collector past its deadline; it is not started again meanwhile.";
            let mut family = Family::new("narthex_exporter_stuck_threads", help, MetricType::Gauge);
            let value = MetricValue::Gauge(stuck.load().collection.stuck() as f64);
            family.metrics.push(Metric { labels: Labels::default(), value, at: None });
            families.push(family);
        });
        let requests =
            own.counter_vec("promhttp_metric_handler_requests_total", "Scrapes answered, by status code.", &["code"]);
        for code in ["200", "500", "503"] {
            let _ = requests.with(&[code]);
        }
        let errors = own.counter_vec("promhttp_metric_handler_errors_total", "Errors met while answering.", &["cause"]);
        let _ = errors.with(&["encoding"]);
        let in_flight = own.gauge("promhttp_metric_handler_requests_in_flight", "Scrapes being answered.");
        Ok(Service { present, own, build, requests, errors: errors.with(&["gathering"]), in_flight })
    }

    /// The text of one pass.
    async fn collect(&self, present: &Present, chosen: &[usize], patience: Option<Duration>) -> Vec<u8> {
        let mut out = present.collection.answer();
        present.collection.pass(chosen, patience, &mut out).await;
        let registries = present.own.then_some(&self.own).into_iter().chain([&self.build]);
        for family in registries.flat_map(Registry::gather) {
            out.add(&family);
        }
        let mut text = Vec::with_capacity(out.size_hint());
        let dropped = out.render(&mut text);
        present.collection.give_back(out);
        if dropped > 0 {
            self.errors.inc();
            tracing::error!(
                dropped,
                "samples were left out: the same series or another type came first, or the name is not allowed"
            );
        }
        text
    }
}

async fn metrics_page(State(service): State<Arc<Service>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    service.in_flight.inc();
    let response = scrape(&service, query.as_deref().unwrap_or(""), &headers).await;
    service.in_flight.dec();
    // Other codes are not counted, so that the label has the three values upstream has.
    let code = response.status();
    if matches!(code.as_u16(), 200 | 500 | 503) {
        service.requests.with(&[code.as_str()]).inc();
    }
    response
}

async fn scrape(service: &Arc<Service>, query: &str, headers: &HeaderMap) -> Response {
    let present = service.present.load_full();
    let place = match &present.places {
        None => None,
        Some(places) => match places.try_acquire() {
            Ok(place) => Some(place),
            Err(_) => {
                let limit = present.places_max;
                let text = format!("Limit of concurrent requests reached ({limit}), try again later.\n");
                return plain(StatusCode::SERVICE_UNAVAILABLE, text);
            }
        },
    };
    let chosen = match choose(&present.collection, query) {
        Ok(chosen) => chosen,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let text = service.collect(&present, &chosen, patience(headers)).await;
    drop(place);
    encode(text, headers)
}

/// How long this scraper can wait for the collectors; none when it does not say.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(SCRAPE_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    let whole = Duration::try_from_secs_f64(seconds).ok().filter(|whole| !whole.is_zero())?;
    Some(whole - MARGIN_LEAST.max(whole.mul_f64(MARGIN)).min(whole / 2))
}

fn choose(collection: &Collection, query: &str) -> Result<Vec<usize>, SelectError> {
    let (mut collect, mut exclude) = (Vec::new(), Vec::new());
    for (name, value) in query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
        match decode(name).as_str() {
            "collect[]" => collect.push(decode(value)),
            "exclude[]" => exclude.push(decode(value)),
            _ => {}
        }
    }
    collection.select(&collect, &exclude)
}

/// Undoes percent encoding; a broken escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(position + 1..position + 3))
            .flatten()
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(value) => {
                out.push(value);
                position += 3;
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                position += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Text goes out as it was written; other formats are made from it.
fn encode(text: Vec<u8>, headers: &HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let (format, escaping) = exposition::negotiate(accept, true);
    let as_written =
        matches!(format, Format::Text004) && matches!(escaping, Escaping::Underscores | Escaping::AllowUtf8);
    let text = if as_written {
        text
    } else {
        match exposition::families::parse_text(&text) {
            Ok(families) => {
                let mut converted = Vec::with_capacity(text.len());
                exposition::write(&families, format, escaping, &mut converted);
                converted
            }
            Err(error) => {
                return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot convert the answer: {error}\n"));
            }
        }
    };
    web::respond_body(text, &exposition::content_type(format, escaping), headers)
}

fn plain(code: StatusCode, text: String) -> Response {
    let builder = Response::builder().status(code).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    builder.body(Body::from(text)).unwrap_or_default()
}

/// The metrics are behind the fallback and not a route of their own, because any text may be their path.
pub(crate) fn router(service: Arc<Service>, path: &str, reload: Option<Reload>) -> Router {
    let path: Arc<str> = path.into();
    let mut router = Router::new();
    if let Some(reload) = reload.filter(|_| service.present.load().parsed.bool(LIFECYCLE)) {
        let handler = async move || match reload.now().await {
            Ok(()) => plain(StatusCode::OK, String::new()),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")),
        };
        router = router.route(reload::PATH, web::routing::post(handler.clone()).put(handler));
    }
    if &*path != "/" {
        let page = page::landing(&path, BuildInfo::current().version);
        router = router.route("/", web::routing::get(move || async move { web::response::Html(page) }));
        for (route, handler) in [
            (page::SCRIPT_PATH, web::routing::get(|| async { typed("text/javascript; charset=utf-8", page::SCRIPT) })),
            (page::COLLECTORS_PATH, web::routing::get(collectors_page)),
        ] {
            if route != &*path {
                router = router.route(route, handler);
            }
        }
    }
    let rest = async move |state, uri: Uri, query, headers| match percent_decode_str(uri.path()).decode_utf8_lossy() {
        asked if asked == *path => metrics_page(state, query, headers).await,
        _ => plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    router.fallback(rest).with_state(service)
}

/// The path of the metrics. One without a slash before it gets one, as the link on upstream's landing page does.
fn telemetry_path(given: &str) -> Result<String, crate::StartError> {
    match given {
        "" => Err(crate::StartError::Setting {
            flag: "web.telemetry-path",
            reason: "an empty path is not possible, leave the flag out for /metrics".to_owned(),
        }),
        given if given.starts_with('/') => Ok(given.to_owned()),
        given => {
            tracing::warn!(path = given, "--web.telemetry-path does not start with a slash, one is put before it");
            Ok(format!("/{given}"))
        }
    }
}

async fn collectors_page(State(service): State<Arc<Service>>) -> Response {
    typed("application/json", page::collectors(&service.present.load().collection.reports()))
}

fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    Response::builder().header(CONTENT_TYPE, kind).body(body.into()).unwrap_or_default()
}

/// Serves until the shutdown begins.
///
/// # Errors
/// A [`crate::StartError`] when a collector cannot start (a program leaves with code 2 then), or what kept the
/// listeners from opening.
pub async fn run(parsed: Parsed, environment: Environment) -> anyhow::Result<()> {
    Ready::new(parsed, environment)?.serve().await
}

/// A service that listens and has read everything that it needs for a start.
pub(crate) struct Ready {
    service: Arc<Service>,
    listeners: web::Listeners,
    path: String,
    environment: Environment,
}

impl Ready {
    /// Starts the collectors and listens.
    pub(crate) fn new(parsed: Parsed, environment: Environment) -> anyhow::Result<Ready> {
        let build = BuildInfo::current();
        tracing::info!(version = build.version, revision = build.revision, "starting node_exporter");
        if nix::unistd::geteuid().is_root() {
            tracing::warn!("the exporter runs as root, it does not need to");
        }
        let path = telemetry_path(parsed.str("web.telemetry-path"))?;
        let config = web::ListenConfig {
            addresses: parsed.list("web.listen-address").to_vec(),
            systemd_socket: parsed.bool("web.systemd-socket"),
            config_file: Some(parsed.str("web.config.file")).filter(|file| !file.is_empty()).map(Into::into),
        };
        let service = Arc::new(Service::new(parsed, &environment)?);
        let listeners = web::Listeners::bind(&config).context("cannot listen")?;
        Ok(Ready { service, listeners, path, environment })
    }

    /// Gives up what is not needed from here on, if `--security.sandbox` says so. For a program of its own alone: the
    /// rest of a process would be restricted too.
    pub(crate) fn restrict(&self) -> Result<(), SandboxError> {
        let present = self.service.present.load();
        let plan = Plan::new(&present.parsed, &self.listeners.files(), &self.listeners.socket_files());
        plan.apply(present.parsed.str(SANDBOX))
    }

    /// Serves until the shutdown begins.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        let Ready { service, listeners, path, environment } = self;
        let reload = Reload::follow(&service, &environment)?;
        let own = service.own.clone();
        let router = router(service, &path, reload);
        listeners.serve(router, options(&environment, &own)).await.context("serving ended")
    }
}

fn options<'a>(environment: &'a Environment, registry: &'a Registry) -> web::Options<'a> {
    web::Options {
        limits: web::Limits::default(),
        clock: environment.clock.clone(),
        shutdown: environment.shutdown.clone(),
        tasks: environment.tasks.clone(),
        registry,
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
