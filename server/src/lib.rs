//! Configuration, wiring and reload of the pull server; nothing else.
//!
//! The pieces know nothing of each other: storage, scraping, PromQL and the API are put together here. What is
//! scraped is in the data folder's log before it is visible, so that no end of the process loses it.

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
use tsdb::Tsdb;

/// What a main hands to every service.
#[derive(Clone)]
pub struct Environment {
    /// The clock of the process.
    pub clock: Clock,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where long-lived work runs.
    pub tasks: Tasks,
    /// The proxies that the environment names.
    pub proxies: client::ProxyEnvironment,
}

/// How often what was committed is made to survive a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often the store is put in order.
const MAINTAIN_EVERY: Duration = Duration::from_secs(30);
/// The flag that bounds the series in memory.
const SERIES_FLAG: &str = "storage.head.series-max";

/// The command line: upstream's flags for what is built, and ours.
pub fn command() -> Command {
    Command::new("prometheus", "The Prometheus monitoring server")
        .web_flags("0.0.0.0:9090")
        .log_flags()
        .flag(Flag::string("config.file", "prometheus.yml", "Prometheus configuration file path."))
        .flag(Flag::string("storage.tsdb.path", "data/", "Base path for metrics storage."))
        .flag(Flag::string("storage.tsdb.retention.time", "15d", "How long to retain samples in storage."))
        .flag(Flag::string(
            "storage.tsdb.retention.size",
            "",
            "Bytes of parts beyond which the oldest are removed, with a unit: B, KB, MB, GB, TB, PB or EB.",
        ))
        .flag(Flag::int(SERIES_FLAG, 10_000_000, "Series in memory at most; a scrape that would add more fails."))
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
    let store = Arc::new(open_storage(&parsed, disk)?);
    storage_metrics(&registry, &store);
    keep(&env, &registry, &store);

    let listeners = web::Listeners::bind(&web_config(&parsed))?;
    let storage: Arc<dyn storage::Storage> = store.clone();
    let counters = scrape::Counters::new(&registry);
    let seed = seed(&config);
    let scraper = scrape::Scraper::new(
        storage,
        env.clock.clone(),
        &env.tasks,
        &env.shutdown,
        &counters,
        seed,
        env.proxies.clone(),
    );
    scraper.apply(config.scrape);
    let running = Arc::new(Running { scraper, text: Mutex::new(config.text) });
    let reload: Reload = {
        let running = running.clone();
        let gauges = ReloadGauges::new(&registry, &env.clock);
        Arc::new(move || reload(&load, &running, &gauges))
    };
    let backend = backend(&parsed, &env, &registry, store.clone(), running.clone(), reload.clone());
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
    store.sync().with_context(|| format!("syncing the log in {folder}"))?;
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
    /// The real clock, signals that begin the shutdown, and the proxies of the environment.
    ///
    /// # Errors
    /// When the signal handlers cannot be set.
    pub fn system() -> std::io::Result<Self> {
        let clock = Clock::system();
        let (shutdown, tasks) = (Shutdown::new(), Tasks::new(clock.clone()));
        runtime::signals(&clock, &shutdown, &tasks)?;
        let proxies = client::ProxyEnvironment::from_variables(|name| std::env::var(name).ok());
        Ok(Self { clock, shutdown, tasks, proxies })
    }
}

fn open_storage(parsed: &Parsed, disk: Disk) -> anyhow::Result<Tsdb> {
    let retention = parsed.str("storage.tsdb.retention.time");
    let retention =
        model::Duration::parse(retention).with_context(|| format!("--storage.tsdb.retention.time={retention}"))?;
    let size = parsed.str("storage.tsdb.retention.size");
    let bytes = if size.is_empty() {
        0
    } else {
        config::parse_size(size).with_context(|| {
            format!(
                "--storage.tsdb.retention.size={size}: not a number with one of the units B, KB, MB, GB, TB, PB, EB"
            )
        })?
    };
    let options = tsdb::Options {
        series_max: parsed.int(SERIES_FLAG).unsigned_abs(),
        series_flag: "--storage.head.series-max",
        retention_ms: i64::try_from(retention.as_millis()).ok().filter(|age| *age > 0),
        retention_bytes: (bytes > 0).then_some(bytes),
        ..tsdb::Options::default()
    };
    let store = Tsdb::open(disk, options)?;
    let (records, torn) = (store.recovery().records, store.recovery().torn_bytes);
    tracing::info!(records, torn_bytes = torn, "The log was read");
    Ok(store)
}

/// Runs what the store needs done: a sync every second, and order every half minute.
fn keep(env: &Environment, registry: &metrics::Registry, store: &Arc<Tsdb>) {
    let failures = registry.counter(
        "prometheus_tsdb_compactions_failed_total",
        "Total number of compactions that failed for the partition.",
    );
    let syncs = registry.counter("narthex_storage_sync_failures_total", "Syncs of the log that failed.");
    every(env, "storage sync", SYNC_EVERY, store, move |store| {
        if let Err(error) = store.sync() {
            syncs.inc();
            tracing::error!(%error, "the log could not be synced");
        }
    });
    every(env, "storage maintenance", MAINTAIN_EVERY, store, move |store| {
        if let Err(error) = store.maintain() {
            failures.inc();
            tracing::error!(%error, "putting the store in order failed, it is tried again");
        }
    });
}

/// Calls `work` on a thread that may block, again and again until shutdown.
fn every(
    env: &Environment,
    name: &'static str,
    period: Duration,
    store: &Arc<Tsdb>,
    work: impl Fn(&Tsdb) + Clone + Send + Sync + 'static,
) {
    let (env, store) = (env.clone(), store.clone());
    env.tasks.clone().spawn(name, runtime::OnPanic::Restart, move || {
        let (env, store, work) = (env.clone(), store.clone(), work.clone());
        async move {
            loop {
                tokio::select! {
                    biased;
                    () = env.shutdown.wait() => return,
                    () = env.clock.sleep(period) => {}
                }
                let (store, work) = (store.clone(), work.clone());
                // A panic is counted and logged there.
                let _ = env.tasks.blocking(name, move || work(&store)).await;
            }
        }
    });
}

fn storage_metrics(registry: &metrics::Registry, store: &Arc<Tsdb>) {
    let store = store.clone();
    registry.collect(move |families| {
        let stats = storage::Storage::stats(&*store);
        let (parts, part_bytes) = store.part_sizes();
        let time = |time: Option<model::Timestamp>| time.map_or(0.0, |time| time.0 as f64);
        for (name, help, value) in [
            ("prometheus_tsdb_head_series", "Total number of series in the head block.", stats.series as f64),
            ("prometheus_tsdb_head_max_time", "Maximum timestamp of the head block.", time(stats.max_time)),
            (
                "prometheus_tsdb_lowest_timestamp",
                "Lowest timestamp value stored in the database.",
                time(stats.min_time),
            ),
            ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks.", parts as f64),
            (
                "prometheus_tsdb_storage_blocks_bytes",
                "The number of bytes that are currently used for local storage by all blocks.",
                part_bytes as f64,
            ),
            ("prometheus_tsdb_wal_storage_size_bytes", "Size of the write log directory.", store.log_bytes() as f64),
            (
                "narthex_storage_damaged_files",
                "Files and records that could not be read at the start.",
                store.damaged() as f64,
            ),
        ] {
            families.push(exposition::Family::gauge(name, help, value));
        }
        families.push(exposition::Family::counter(
            "prometheus_tsdb_head_samples_appended_total",
            "Total number of appended samples.",
            stats.appended as f64,
        ));
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
    store: Arc<Tsdb>,
    running: Arc<Running>,
    reload: Reload,
) -> Backend {
    let options = EngineOptions {
        lookback: parsed.duration("query.lookback-delta"),
        max_samples: count(parsed.int("query.max-samples")),
        timeout: parsed.duration("query.timeout"),
        ..EngineOptions::default()
    };
    let shutdown = env.shutdown.clone();
    let lifecycle = parsed
        .bool("web.enable-lifecycle")
        .then(|| Lifecycle { reload: Box::new(move || reload()), quit: Box::new(move || shutdown.begin()) });
    let shown = running.clone();
    Backend {
        storage: store,
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
