//! The process: what the flags make, from listening to the end.

use crate::{
    flags,
    gateway::Gateway,
    http::{Service, handle},
    intake::Intake,
    persist,
    replicate::{Replicas, Senders},
    route::Routes,
    tokens::Tokens,
};
use anyhow::Context;
use cli::Parsed;
use runtime::{Clock, Shutdown, Tasks};
use std::{net::SocketAddr, process::ExitCode, sync::Arc};
use web::Router;

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

/// A gateway that has its sockets and its groups, and waits to serve.
#[derive(Debug)]
pub struct Bound {
    listeners: web::Listeners,
    service: Arc<Service>,
    senders: Option<Senders>,
    committer: Option<persist::Committer>,
    env: Environment,
    body_max: usize,
}

/// Takes the sockets and reads the persistence file.
///
/// # Errors
/// When an address cannot be had, a flag makes no sense, or the persistence folder cannot be used.
pub async fn bind(parsed: Parsed, env: Environment) -> anyhow::Result<Bound> {
    let registry = metrics::Registry::new();
    metrics::process_collector(&registry, &env.clock);
    metrics::build_info(&registry, "pushgateway");
    let policy = flags::policy(&parsed)?;
    let external = flags::external_path(parsed.str("web.external-url"))?;
    let prefix = flags::prefix(parsed.str("web.route-prefix"), &external);
    let telemetry = parsed.str("web.telemetry-path");
    // Behind a proxy that takes a prefix away, links need the one of outside.
    let link_prefix = if parsed.str("web.external-url").is_empty() { prefix.clone() } else { external };
    let routes = Routes {
        telemetry: format!("{prefix}/{}", telemetry.trim_start_matches('/')),
        prefix,
        admin: parsed.bool("web.enable-admin-api"),
        batch: parsed.bool("push.enable-batch"),
        replicate: replicates(&parsed),
    };
    let file = parsed.str("web.config.file");
    let listeners = web::Listeners::bind(&web::ListenConfig {
        addresses: parsed.list("web.listen-address").to_vec(),
        systemd_socket: parsed.bool("web.systemd-socket"),
        config_file: (!file.is_empty()).then(|| file.into()),
    })
    .context("cannot listen")?;
    let body_max = usize::try_from(policy.body_max).unwrap_or(usize::MAX);
    let tokens = match parsed.str("push.tokens-file") {
        "" => None,
        file => Some(Tokens::open(file.as_ref(), &env.clock, &registry).context("--push.tokens-file")?),
    };
    let replicas = replicas(&parsed, &registry)?;
    if replicas.is_some() && policy.sums {
        tracing::warn!("Sums of pushes that come to several gateways at once are not joined: let one take them all");
    }
    let gateway = Arc::new(Gateway::new(env.clock.clone(), registry, policy, replicas));
    let senders = senders(&parsed, &gateway, &env)?;
    let committer = persist::open(&gateway, &parsed, &env).await?;
    let flags = parsed.all().map(|(name, value)| (name.to_owned(), value)).collect();
    let service = Arc::new(Service {
        gateway,
        routes,
        tasks: env.tasks.clone(),
        intake: Intake::new(body_max),
        large: Arc::default(),
        shutdown: env.shutdown.clone(),
        lifecycle: parsed.bool("web.enable-lifecycle"),
        flags,
        started: env.clock.unix_ms(),
        tokens,
        link_prefix,
    });
    Ok(Bound { listeners, service, senders, committer, env, body_max })
}

fn replicates(parsed: &Parsed) -> bool {
    parsed.bool("replication.accept") || !parsed.list("replication.peer").is_empty()
}

fn replicas(parsed: &Parsed, registry: &metrics::Registry) -> anyhow::Result<Option<Replicas>> {
    let keys_max = parsed.int("replication.queue-groups");
    anyhow::ensure!(keys_max > 0, "--replication.queue-groups {keys_max} must be above 0");
    let peers = parsed.list("replication.peer");
    for url in peers {
        let form = url.starts_with("http://") || url.starts_with("https://");
        anyhow::ensure!(form, "--replication.peer {url:?} is not of the form http://host:port/prefix");
    }
    let keys_max = usize::try_from(keys_max).unwrap_or(usize::MAX);
    Ok(replicates(parsed).then(|| Replicas::new(peers, keys_max, registry)))
}

fn senders(parsed: &Parsed, gateway: &Arc<Gateway>, env: &Environment) -> anyhow::Result<Option<Senders>> {
    if parsed.list("replication.peer").is_empty() {
        return Ok(None);
    }
    let agent = format!("narthex-pushgateway/{}", cli::BuildInfo::current().version);
    let options = client::Options::new(env.clock.clone(), env.tasks.clone(), agent);
    let config = crate::push::config(parsed.str("replication.http.config.file"));
    let client = client::Client::new(config.context("--replication.http.config.file")?, options)?;
    let token = match parsed.str("replication.token-file") {
        "" => None,
        file => {
            let text = std::fs::read_to_string(file).with_context(|| format!("--replication.token-file {file}"))?;
            let token = web::http::HeaderValue::from_str(text.trim());
            let mut token =
                token.with_context(|| format!("--replication.token-file {file} has no token of plain characters"))?;
            token.set_sensitive(true);
            Some(token)
        }
    };
    Ok(Some(Senders { gateway: gateway.clone(), client, token }))
}

impl Bound {
    /// Where clients find it.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.local_addrs()
    }

    /// Serves until shutdown; then all that was answered is in the persistence file.
    ///
    /// # Errors
    /// When a socket cannot be used.
    pub async fn serve(self) -> anyhow::Result<()> {
        let Self { listeners, service, senders, committer, env, body_max } = self;
        let router = Router::new().fallback(handle).with_state(service.clone());
        let options = web::Options {
            limits: web::Limits { body_bytes: body_max, ..web::Limits::default() },
            clock: env.clock.clone(),
            shutdown: env.shutdown.clone(),
            tasks: env.tasks.clone(),
            registry: &service.gateway.registry,
        };
        if let Some(committer) = &committer {
            committer.spawn();
        }
        if let Some(senders) = &senders {
            senders.spawn(&env.tasks, &env.shutdown);
        }
        let expiring = service.gateway.clone();
        env.tasks.spawn_once("expiry of groups", expire(expiring, env.shutdown.clone()));
        let served = listeners.serve(router, options).await.context("serving ended");
        if let Some(senders) = senders {
            senders.finish().await;
        }
        if let Some(committer) = committer {
            committer.finish().await;
        }
        served
    }
}

/// How often groups are looked at whose time may be over.
const EXPIRY_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

async fn expire(gateway: Arc<Gateway>, shutdown: Shutdown) {
    if gateway.policy.ttl == 0 && !gateway.policy.ttl_by_push {
        return;
    }
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = gateway.clock.sleep(EXPIRY_EVERY) => {}
        }
        gateway.expire();
    }
}

/// Serves until shutdown.
///
/// # Errors
/// As [`bind`] and [`Bound::serve`].
pub async fn run(parsed: Parsed, env: Environment) -> anyhow::Result<()> {
    bind(parsed, env).await?.serve().await
}

/// The whole of a `pushgateway` process. Unlike upstream's, it ends with 1 when it cannot listen.
pub fn main(args: Vec<String>) -> ExitCode {
    let parsed = match flags::command().parse(args).run_or_say() {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    if let Err(error) = cli::log::init(parsed.str("log.level"), parsed.str("log.format"), cli::log::Style::GoKit) {
        eprintln!("pushgateway: error: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime");
    let result = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let clock = Clock::system();
            let (shutdown, tasks) = (Shutdown::new(), Tasks::new(clock.clone()));
            runtime::signals(&clock, &shutdown, &tasks)?;
            let build = cli::BuildInfo::current();
            tracing::info!(version = build.version, revision = build.revision, "starting pushgateway");
            run(parsed, Environment { clock, shutdown, tasks }).await
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
