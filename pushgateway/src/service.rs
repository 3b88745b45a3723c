//! The process: flags, routes, bodies.

use crate::Store;
use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cli::{Command, Flag, Outcome, Parsed};
use model::{Builder, Labels, is_legacy_label_name};
use parking_lot::Mutex;
use runtime::{Clock, Shutdown, Tasks};
use std::{io::Read, process::ExitCode, sync::Arc};
use web::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// What a main hands to the service.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The clock of the process.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where connections run.
    pub tasks: Tasks,
}

/// The command line.
pub fn command() -> Command {
    Command::new("pushgateway", "The Pushgateway")
        .web_flags(":9091")
        .log_flags()
        .flag(Flag::string("web.telemetry-path", "/metrics", "Path under which to expose metrics."))
        .flag(Flag::int(
            "push.max-body-bytes",
            64 << 20,
            "Bytes a pushed body may have once inflated; more is refused with 413.",
        ))
}

struct Gateway {
    store: Mutex<Store>,
    clock: Clock,
    registry: metrics::Registry,
    requests: metrics::CounterVec,
    refused: metrics::Counter,
    body_max: u64,
}

/// Serves until shutdown.
///
/// # Errors
/// When the address cannot be had.
pub async fn run(parsed: Parsed, env: Environment) -> anyhow::Result<()> {
    let registry = metrics::Registry::new();
    metrics::process_collector(&registry, &env.clock);
    metrics::build_info(&registry, "pushgateway");
    let file = parsed.str("web.config.file");
    let config = web::ListenConfig {
        addresses: parsed.list("web.listen-address").to_vec(),
        systemd_socket: parsed.bool("web.systemd-socket"),
        config_file: (!file.is_empty()).then(|| file.into()),
    };
    let telemetry = parsed.str("web.telemetry-path").to_owned();
    anyhow::ensure!(telemetry.starts_with('/'), "--web.telemetry-path {telemetry:?} must start with a slash");
    let gateway = Arc::new(Gateway {
        store: Mutex::default(),
        clock: env.clock.clone(),
        requests: registry.counter_vec(
            "pushgateway_http_requests_total",
            "Total HTTP requests processed by the Pushgateway, excluding scrapes.",
            &["handler", "method", "code"],
        ),
        refused: registry
            .counter("narthex_pushgateway_bodies_over_limit_total", "Pushes refused because their body was too large."),
        registry: registry.clone(),
        body_max: parsed.int("push.max-body-bytes").unsigned_abs(),
    });
    let listeners = web::Listeners::bind(&config).context("cannot listen")?;
    let body_bytes = usize::try_from(gateway.body_max).unwrap_or(usize::MAX);
    let options = web::Options {
        limits: web::Limits { body_bytes, ..web::Limits::default() },
        clock: env.clock.clone(),
        shutdown: env.shutdown.clone(),
        tasks: env.tasks.clone(),
        registry: &registry,
    };
    listeners.serve(router(gateway, &telemetry), options).await.context("serving ended")
}

fn router(gateway: Arc<Gateway>, telemetry: &str) -> Router {
    Router::new()
        .route(telemetry, get(expose))
        .route("/metrics/job/{*rest}", web::routing::put(change).post(change).delete(change))
        .route("/metrics/job@base64/{*rest}", web::routing::put(change64).post(change64).delete(change64))
        .route("/", get(landing))
        .route("/-/healthy", get(|| async { "OK" }))
        .route("/-/ready", get(|| async { "OK" }))
        .with_state(gateway)
}

async fn landing() -> Response {
    let links = [("Metrics", "/metrics")];
    let page = web::page::landing("Pushgateway", "Pushed by jobs", cli::BuildInfo::current().version, &links);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

async fn expose(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let mut families = gateway.registry.gather();
    families.extend(gateway.store.lock().gather());
    families.sort_by(|a, b| a.name.cmp(&b.name));
    web::metrics_response(families, &headers, false)
}

type Call = (State<Arc<Gateway>>, Path<String>, Method, HeaderMap, Bytes);

async fn change(
    gateway: State<Arc<Gateway>>,
    path: Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    handle((gateway, path, method, headers, body), "job")
}

async fn change64(
    gateway: State<Arc<Gateway>>,
    path: Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    handle((gateway, path, method, headers, body), "job@base64")
}

fn handle((State(gateway), Path(path), method, headers, body): Call, job: &str) -> Response {
    let answer = gateway.change(&format!("{job}/{path}"), &method, &headers, &body);
    let (status, text) = answer.map_or_else(|refused| refused, |status| (status, String::new()));
    let handler = if method == Method::DELETE { "delete" } else { "push" };
    gateway.requests.with(&[handler, &method.as_str().to_ascii_lowercase(), status.as_str()]).inc();
    (status, text).into_response()
}

type Refused = (StatusCode, String);

fn bad(text: impl ToString) -> Refused {
    (StatusCode::BAD_REQUEST, format!("{}\n", text.to_string()))
}

impl Gateway {
    fn change(&self, path: &str, method: &Method, headers: &HeaderMap, body: &[u8]) -> Result<StatusCode, Refused> {
        let key = grouping_key(path).map_err(bad)?;
        if method == Method::DELETE {
            self.store.lock().delete(&key);
            return Ok(StatusCode::ACCEPTED);
        }
        if headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/vnd.google.protobuf"))
        {
            return Err(bad("protobuf bodies are not built in narthex yet; push the text format"));
        }
        let encoding = headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or_default());
        let inflated = match encoding.to_ascii_lowercase().as_str() {
            "gzip" => Some(self.inflate(body)?),
            "snappy" => return Err(bad("snappy bodies are not built in narthex yet; push gzip or plain text")),
            _ => None,
        };
        let families = exposition::families::parse_text(inflated.as_deref().unwrap_or(body)).map_err(bad)?;
        let now = self.clock.unix_ms() as f64 / 1000.0;
        self.store.lock().push(&key, families, method == Method::PUT, now).map_err(bad)?;
        Ok(StatusCode::OK)
    }

    /// Stops at the limit, so that a small body cannot become a large one.
    fn inflate(&self, body: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut out = Vec::new();
        let limited = flate2::read::GzDecoder::new(body).take(self.body_max.saturating_add(1)).read_to_end(&mut out);
        limited.map_err(|error| bad(format!("gzip: {error}")))?;
        if out.len() as u64 > self.body_max {
            self.refused.inc();
            let text = format!("the inflated body is over {} bytes; raise --push.max-body-bytes\n", self.body_max);
            return Err((StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        Ok(out)
    }
}

/// `job/J/name/value…`, values in base64 where the name says so.
fn grouping_key(path: &str) -> Result<Labels, String> {
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    if !parts.len().is_multiple_of(2) {
        return Err(format!("odd number of components in label string {path:?}"));
    }
    let mut key = Builder::default();
    for pair in parts.chunks_exact(2) {
        let (name, value) = match pair[0].strip_suffix("@base64") {
            None => (pair[0], pair[1].to_owned()),
            Some(name) => {
                let decoded = URL_SAFE_NO_PAD
                    .decode(pair[1].trim_end_matches('='))
                    .map_err(|error| format!("invalid base64 encoding for label {name}={:?}: {error}", pair[1]))?;
                (name, String::from_utf8(decoded).map_err(|_| format!("label {name} is not UTF-8"))?)
            }
        };
        if !is_legacy_label_name(name) || name.starts_with("__") {
            return Err(format!("improper label name {name:?}"));
        }
        key.set(name, &value);
    }
    let key = key.build();
    if key.get("job").is_none() { Err("job name is required".into()) } else { Ok(key) }
}

/// The whole of a `pushgateway` process.
pub fn main(args: Vec<String>) -> ExitCode {
    let parsed = match command().parse(args) {
        Outcome::Run(parsed) => parsed,
        Outcome::Print(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Outcome::Refuse { message, code } => {
            eprintln!("{message}");
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
    };
    if let Err(error) = cli::log::init(parsed.str("log.level"), parsed.str("log.format"), cli::log::Style::GoKit) {
        eprintln!("pushgateway: error: {error}");
        return ExitCode::FAILURE;
    }
    let result =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime").and_then(
            |runtime| {
                runtime.block_on(async {
                    let clock = Clock::system();
                    let (shutdown, tasks) = (Shutdown::new(), Tasks::new(clock.clone()));
                    runtime::signals(&clock, &shutdown, &tasks)?;
                    run(parsed, Environment { clock, shutdown, tasks }).await
                })
            },
        );
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouping_keys() {
        let key = |path: &str| grouping_key(path).map(|key| key.to_string());
        assert_eq!(key("job/a/instance/b"), Ok("{instance=\"b\", job=\"a\"}".into()));
        assert_eq!(key("job@base64/YS9i/x@base64/="), Ok("{job=\"a/b\"}".into()));
        assert_eq!(key("job/a/instance/"), Err("odd number of components in label string \"job/a/instance/\"".into()));
        assert!(key("job/a/__x/b").is_err() && key("job@base64/=").is_err() && key("job@base64/!!").is_err());
    }
}
