//! Configuration, wiring and reload of the pull server; nothing else.
//!
//! The pieces know nothing of each other: storage, scraping, PromQL and the API are put together here. What is
//! scraped is in the data folder's log before it is visible, so that no end of the process loses it.

mod backend;
mod config;
mod exchange;
mod flags;
mod late;
mod numbers;
mod reload;
mod shown;
mod store;

pub use config::{Config, ConfigError};
pub use flags::command;

use anyhow::Context;
use cli::Parsed;
use flags::count;
use parking_lot::Mutex;
use reload::{Reload, ReloadGauges, Running};
use runtime::{Clock, Disk, Shutdown, Tasks};
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

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

/// Runs the server until shutdown. `embedded` is the configuration text used instead of a file.
pub async fn run(parsed: Parsed, env: Environment, embedded: Option<&str>) -> anyhow::Result<()> {
    let features = flags::features(&parsed);
    let path = parsed.str("config.file").to_owned();
    let load = {
        let (path, embedded) = (path.clone(), embedded.map(str::to_owned));
        let scraping = flags::scrape_features(&parsed);
        move || {
            let loaded = match &embedded {
                Some(text) => Config::parse(text, Path::new("built-in configuration")),
                None => Config::read(Path::new(&path)),
            };
            loaded.map(|mut config| {
                config.switch(scraping);
                config
            })
        }
    };
    let config = load().with_context(|| format!("loading config file {path:?}"))?;
    let folder = parsed.str("storage.tsdb.path").to_owned();
    let disk = Disk::open(&folder)
        .with_context(|| format!("opening the data folder {folder:?}; choose another by --storage.tsdb.path"))?;
    if blocks::is_upstream(&disk)? {
        anyhow::bail!(
            "the data folder {folder:?} is one of upstream's server and stays as it is; choose another by \
             --storage.tsdb.path, and take the data into it by `narthex tsdb import {folder} FOLDER`"
        );
    }
    let _lock =
        disk.lock("lock").with_context(|| format!("locking the data folder {folder:?}; another server uses it"))?;
    let registry = metrics::Registry::new();
    metrics::process_collector(&registry, &env.clock);
    metrics::build_info(&registry, "prometheus");
    let late = Arc::new(late::Late::new());
    let options = store::options(&parsed, &config)?;
    numbers::register(&registry, &late);

    let listeners = web::Listeners::bind(&web_config(&parsed))?;
    let storage: Arc<dyn storage::Storage> = late.clone();
    let counters = scrape::Counters::new(&registry, &env.clock);
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
    let scraper = Arc::new(scraper);
    let found = scraper.clone();
    let discovery = discovery::Manager::new(
        "scrape",
        discovery::Environment {
            clock: env.clock.clone(),
            tasks: env.tasks.clone(),
            shutdown: env.shutdown.clone(),
            proxies: env.proxies.clone(),
        },
        &registry,
        Box::new(move |job, groups| found.update(job, groups)),
    );
    let running = Arc::new(Running {
        scraper,
        discovery,
        text: Mutex::new(config.text),
        external_labels: Mutex::new(config.external_labels),
        last: Mutex::new(api::Reloaded { worked: true, tried_ms: env.clock.unix_ms(), at_ms: env.clock.unix_ms() }),
    });
    reload::register(&registry, &running);
    let reload: Reload = {
        let running = running.clone();
        let gauges = ReloadGauges::new(&registry, &env.clock);
        let (late, opened, exemplars) = (late.clone(), late.clone(), flags::scrape_features(&parsed).exemplars);
        let apply =
            move |config: &Config| late.get().into_iter().for_each(|store| store::apply(store, config, exemplars));
        Arc::new(move || match opened.get() {
            Some(_) => reload::reload(&load, &running, &gauges, &apply),
            None => Err("the log is still being read, reload when the server is ready".to_owned()),
        })
    };
    let backend = backend::backend(&parsed, features, &env, &registry, late.clone(), running.clone(), reload.clone())?;
    reload::watch_hangups(&env, reload)?;
    let ready = backend.ready.clone();
    let web_options = web::Options {
        limits: limits(&parsed),
        clock: env.clock.clone(),
        shutdown: env.shutdown.clone(),
        tasks: env.tasks.clone(),
        registry: &registry,
    };
    let opening = async {
        let late = late.clone();
        let store = env.tasks.blocking("storage start", move || store::open(disk, options, &late)).await;
        let store = store.map_err(|panic| anyhow::anyhow!("reading the store failed: {}", panic.message))??;
        store::keep(&env, &registry, &store);
        running.scraper.apply(config.scrape);
        running.discovery.apply(&config.discovery);
        ready.set(true);
        tracing::info!("Server is ready to receive web requests.");
        anyhow::Ok(())
    };
    // What waits for the store is told that it is not ready.
    let serving = listeners.serve(api::router(Arc::new(backend)), web_options);
    tokio::pin!(serving);
    let served = tokio::select! {
        biased;
        served = &mut serving => served,
        opened = opening => {
            opened?;
            serving.await
        }
    };
    ready.set(false);
    env.shutdown.begin();
    running.scraper.stop();
    env.tasks.drain(Duration::from_secs(5)).await;
    if let Some(store) = late.get() {
        store.sync().with_context(|| format!("syncing the log in {folder}"))?;
    }
    tracing::info!("See you next time!");
    Ok(served?)
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
    let parsed = match command().parse(args).run_or_say() {
        Ok(parsed) => parsed,
        Err(code) => return code,
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

fn limits(parsed: &Parsed) -> web::Limits {
    let patience = parsed.duration("web.read-timeout");
    web::Limits {
        connections: count(parsed.int("web.max-connections")),
        idle_timeout: patience,
        body_timeout: patience,
        ..web::Limits::default()
    }
}

fn web_config(parsed: &Parsed) -> web::ListenConfig {
    let file = parsed.str("web.config.file");
    web::ListenConfig {
        addresses: parsed.list("web.listen-address").to_vec(),
        systemd_socket: parsed.bool("web.systemd-socket"),
        config_file: (!file.is_empty()).then(|| file.into()),
    }
}
