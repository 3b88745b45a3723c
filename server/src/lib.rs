//! Configuration, wiring and reload of the pull server; nothing else.
//!
//! The pieces know nothing of each other: storage, scraping, PromQL and the API are put together here. A clean stop
//! writes the stored series to the data folder; the next start reads them back.

mod config;

pub use config::{Config, ConfigError};

use anyhow::Context;
use api::{Backend, Lifecycle, Readiness};
use cli::{Command, Flag, Outcome, Parsed};
use promql::{Engine, EngineOptions};
use runtime::{Clock, Disk, Shutdown, Tasks};
use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use storage::{Limits, Memory};

/// What a main hands to every service.
#[derive(Clone)]
pub struct Environment {
    /// The clock of the process.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where long-lived work runs.
    pub tasks: Tasks,
}

/// The file in the data folder that a clean stop leaves behind.
const SNAPSHOT: &str = "memory.snapshot";

/// The command line: upstream's flags for what is built, and ours.
pub fn command() -> Command {
    Command::new("prometheus", "The Prometheus monitoring server")
        .web_flags("0.0.0.0:9090")
        .log_flags()
        .flag(Flag::string("config.file", "prometheus.yml", "Prometheus configuration file path."))
        .flag(Flag::string("storage.tsdb.path", "data/", "Base path for metrics storage."))
        .flag(Flag::string("storage.tsdb.retention.time", "15d", "How long to retain samples in storage."))
        .flag(Flag::int(
            "storage.memory.series-max",
            1_000_000,
            "Series held at most; a scrape that would add more fails.",
        ))
        .flag(Flag::int("storage.memory.samples-max", 200_000_000, "Samples held at most; the oldest make room."))
        .flag(Flag::duration_prom("query.lookback-delta", "5m", "How far an instant selector looks back."))
        .flag(Flag::duration_prom("query.timeout", "2m", "Maximum time a query may take before being aborted."))
        .flag(Flag::int("query.max-concurrency", 20, "Maximum number of queries executed concurrently."))
        .flag(Flag::int(
            "query.max-samples",
            50_000_000,
            "Maximum number of samples a single query can load into memory.",
        ))
        .flag(Flag::boolean("web.enable-lifecycle", false, "Enable shutdown and reload via HTTP request."))
        .flag(Flag::int("web.max-connections", 512, "Maximum number of simultaneous connections across all listeners."))
}

/// Runs the server until shutdown. `embedded` is the configuration text used instead of a file.
pub async fn run(parsed: Parsed, env: Environment, embedded: Option<&str>) -> anyhow::Result<()> {
    let path = parsed.str("config.file").to_owned();
    let load = {
        let (path, embedded) = (path.clone(), embedded.map(str::to_owned));
        move || match &embedded {
            Some(text) => Config::parse(text, Path::new("built-in configuration")),
            None => Config::read(Path::new(&path)),
        }
    };
    let config = load().with_context(|| format!("loading config file {path:?}"))?;
    let folder = parsed.str("storage.tsdb.path").to_owned();
    let disk = Disk::open(&folder)
        .with_context(|| format!("opening the data folder {folder:?}; choose another by --storage.tsdb.path"))?;
    let _lock =
        disk.lock("lock").with_context(|| format!("locking the data folder {folder:?}; another server uses it"))?;
    let registry = metrics::Registry::new();
    metrics::process_collector(&registry, &env.clock);
    metrics::build_info(&registry, "prometheus");
    let memory = Arc::new(open_storage(&parsed, &disk)?);
    memory_metrics(&registry, &memory);

    let listeners = web::Listeners::bind(&web_config(&parsed))?;
    let storage: Arc<dyn storage::Storage> = memory.clone();
    let counters = scrape::Counters::new(&registry);
    let seed = seed(&config);
    let scraper = scrape::Scraper::new(storage, env.clock.clone(), &env.tasks, &env.shutdown, &counters, seed);
    scraper.apply(config.scrape);
    let running = Arc::new(Running { scraper, text: Mutex::new(config.text) });
    let reload: Reload = {
        let running = running.clone();
        let gauges = ReloadGauges::new(&registry, &env.clock);
        Arc::new(move || reload(&load, &running, &gauges))
    };
    let backend = backend(&parsed, &env, &registry, memory.clone(), running.clone(), reload.clone());
    watch_hangups(&env, reload)?;
    let ready = backend.ready.clone();
    ready.set(true);
    tracing::info!("Server is ready to receive web requests.");
    let options = web::Options {
        limits: web::Limits { connections: count(parsed.int("web.max-connections")), ..web::Limits::default() },
        clock: env.clock.clone(),
        shutdown: env.shutdown.clone(),
        tasks: env.tasks.clone(),
        registry: &registry,
    };
    let served = listeners.serve(api::router(Arc::new(backend)), options).await;
    ready.set(false);
    env.shutdown.begin();
    running.scraper.stop();
    env.tasks.drain(Duration::from_secs(5)).await;
    memory.save(&disk, SNAPSHOT).with_context(|| format!("writing {folder}/{SNAPSHOT}"))?;
    tracing::info!("See you next time!");
    Ok(served?)
}

/// What a reload changes.
struct Running {
    scraper: scrape::Scraper,
    text: Mutex<String>,
}

/// Differs between servers that scrape the same targets, by host and external labels, so that they do it at different
/// times.
fn seed(config: &Config) -> u64 {
    let host = runtime::host_name();
    let mut labels = model::Builder::from(&config.external_labels);
    labels.set("", &host).build().hash64()
}

/// The whole of a `prometheus` process: command line, logs, signals, exit code.
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
    if let Err(error) = cli::log::init(parsed.str("log.level"), parsed.str("log.format"), cli::log::Style::Slog) {
        eprintln!("prometheus: error: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "starting the runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let env = Environment::system()?;
        run(parsed, env, None).await
    });
    exit_code(result)
}

/// Logs what ended the server; a refused configuration exits with 2, as upstream.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let config = error.chain().any(|cause| cause.is::<ConfigError>());
            ExitCode::from(if config { 2 } else { 1 })
        }
    }
}

impl Environment {
    /// The real clock, and signals that begin the shutdown.
    ///
    /// # Errors
    /// When the signal handlers cannot be set.
    pub fn system() -> std::io::Result<Self> {
        let clock = Clock::system();
        let (shutdown, tasks) = (Shutdown::new(), Tasks::new(clock.clone()));
        runtime::signals(&clock, &shutdown, &tasks)?;
        Ok(Self { clock, shutdown, tasks })
    }
}

fn open_storage(parsed: &Parsed, disk: &Disk) -> anyhow::Result<Memory> {
    let retention = parsed.str("storage.tsdb.retention.time");
    let retention =
        model::Duration::parse(retention).with_context(|| format!("--storage.tsdb.retention.time={retention}"))?;
    let limits = Limits {
        series_max: parsed.int("storage.memory.series-max").unsigned_abs(),
        samples_max: parsed.int("storage.memory.samples-max").unsigned_abs(),
        retention: (retention.as_millis() > 0).then_some(retention),
    };
    Memory::load(disk, SNAPSHOT, limits).with_context(|| format!("reading {SNAPSHOT} of the data folder"))
}

fn memory_metrics(registry: &metrics::Registry, memory: &Arc<Memory>) {
    let memory = memory.clone();
    registry.collect(move |families| {
        let stats = storage::Storage::stats(&*memory);
        for (name, help, value) in [
            ("prometheus_tsdb_head_series", "Total number of series in the head block.", stats.series as f64),
            (
                "prometheus_tsdb_head_max_time",
                "Maximum timestamp of the head block.",
                stats.max_time.map_or(0.0, |t| t.0 as f64),
            ),
            (
                "prometheus_tsdb_head_min_time",
                "Minimum time bound of the head block.",
                stats.min_time.map_or(0.0, |t| t.0 as f64),
            ),
        ] {
            families.push(exposition::Family::gauge(name, help, value));
        }
        let appended = exposition::Family::counter(
            "prometheus_tsdb_head_samples_appended_total",
            "Total number of appended samples.",
            stats.appended as f64,
        );
        families.push(appended);
    });
}

fn web_config(parsed: &Parsed) -> web::ListenConfig {
    let file = parsed.str("web.config.file");
    web::ListenConfig {
        addresses: parsed.list("web.listen-address").to_vec(),
        systemd_socket: parsed.bool("web.systemd-socket"),
        config_file: (!file.is_empty()).then(|| file.into()),
    }
}

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// What tells dashboards whether the last reload worked.
struct ReloadGauges {
    successful: metrics::Gauge,
    at: metrics::Gauge,
    clock: Clock,
}

impl ReloadGauges {
    fn new(registry: &metrics::Registry, clock: &Clock) -> Self {
        let gauges = Self {
            successful: registry.gauge(
                "prometheus_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
            ),
            at: registry.gauge(
                "prometheus_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
            ),
            clock: clock.clone(),
        };
        gauges.set(true);
        gauges
    }

    fn set(&self, worked: bool) {
        self.successful.set(f64::from(u8::from(worked)));
        if worked {
            self.at.set(self.clock.unix_ms() as f64 / 1000.0);
        }
    }
}

/// Reads the configuration again; a broken one changes nothing.
fn reload(
    load: &dyn Fn() -> Result<Config, ConfigError>,
    running: &Running,
    gauges: &ReloadGauges,
) -> Result<(), String> {
    let loaded = load();
    gauges.set(loaded.is_ok());
    let config = loaded.map_err(|error| {
        tracing::error!(%error, "Error reloading config");
        error.to_string()
    })?;
    running.scraper.apply(config.scrape);
    *running.text.lock().unwrap_or_else(PoisonError::into_inner) = config.text;
    tracing::info!("Completed loading of configuration file");
    Ok(())
}

type Reload = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

fn watch_hangups(env: &Environment, reload: Reload) -> anyhow::Result<()> {
    let mut hangups = runtime::hangups().context("watching SIGHUP")?;
    let shutdown = env.shutdown.clone();
    env.tasks.spawn_once("reload on SIGHUP", async move {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = hangups.next() => drop(reload()),
            }
        }
    });
    Ok(())
}

fn backend(
    parsed: &Parsed,
    env: &Environment,
    registry: &metrics::Registry,
    memory: Arc<Memory>,
    running: Arc<Running>,
    reload: Reload,
) -> Backend {
    let options = EngineOptions {
        lookback: parsed.duration("query.lookback-delta"),
        max_samples: count(parsed.int("query.max-samples")),
        timeout: parsed.duration("query.timeout"),
    };
    let shutdown = env.shutdown.clone();
    let lifecycle = parsed
        .bool("web.enable-lifecycle")
        .then(|| Lifecycle { reload: Box::new(move || reload()), quit: Box::new(move || shutdown.begin()) });
    let shown = running.clone();
    Backend {
        storage: memory,
        engine: Engine::new(options, env.clock.clone()),
        targets: Box::new(move || running.scraper.targets()),
        config: Box::new(move || shown.text.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        flags: parsed.all().map(|(name, value)| (name.to_owned(), value)).collect(),
        registry: registry.clone(),
        clock: env.clock.clone(),
        ready: Readiness::default(),
        queries: Arc::new(tokio::sync::Semaphore::new(count(parsed.int("query.max-concurrency")).max(1))),
        lifecycle,
    }
}
