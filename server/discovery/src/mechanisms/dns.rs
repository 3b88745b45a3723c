//! Targets that the domain name system knows, asked again and again.
//!
//! Source of truth: `dns_sd_configs` on upstream's configuration page. Who is asked, and which domains are tried, says
//! `/etc/resolv.conf`; it is read before every round. Addresses of `/etc/hosts` are no answers.

use crate::{
    Context, Group, Span,
    context::Found,
    mechanism::{Key, Mechanism, MetaLabel, key, label},
};
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ResolveHosts, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{Name, RData, RecordType},
    system_conf::read_system_conf,
};
use metrics::{Counter, Registry};
use model::Labels;
use runtime::Clock;
use serde::{Deserialize, Deserializer, de};
use std::path::Path;

/// Names asked at a time.
const AT_ONCE: usize = 16;

/// One entry of `dns_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    names: Option<Vec<String>>,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    port: Option<u16>,
    refresh_interval: Option<Span>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    A,
    Aaaa,
    Mx,
    Ns,
    #[default]
    Srv,
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.to_ascii_uppercase().as_str() {
            "A" => Ok(Self::A),
            "AAAA" => Ok(Self::Aaaa),
            "MX" => Ok(Self::Mx),
            "NS" => Ok(Self::Ns),
            "SRV" => Ok(Self::Srv),
            _ => Err(de::Error::custom(format!("invalid DNS-SD records type {word}"))),
        }
    }
}

impl Kind {
    fn record(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Mx => RecordType::MX,
            Self::Ns => RecordType::NS,
            Self::Srv => RecordType::SRV,
        }
    }
}

impl Mechanism for Config {
    const KEY: &'static str = "dns_sd_configs";
    const SUMMARY: &'static str = "Targets that the domain name system knows. A name that does not exist has none; one \
                                   that cannot be asked for keeps the last ones.";
    const KEYS: &'static [Key] = &[
        key("names", "required", "The names that are asked for."),
        key("type", "SRV", "What is asked for: `A`, `AAAA`, `MX`, `NS` or `SRV`."),
        key("port", "required unless SRV", "The port of the targets."),
        key("refresh_interval", "30s", "How often."),
    ];
    const LABELS: &'static [MetaLabel] = &[
        label("__meta_dns_name", "The name that was asked for."),
        label("__meta_dns_srv_record_target", "The target of the SRV record."),
        label("__meta_dns_srv_record_port", "The port of the SRV record."),
        label("__meta_dns_mx_record_target", "The target of the MX record."),
        label("__meta_dns_ns_record_target", "The target of the NS record."),
    ];
    const CLIENT: bool = false;
    type Metrics = Metrics;

    fn metrics(registry: &Registry, _: &Clock) -> Metrics {
        Metrics {
            lookups: registry.counter("prometheus_sd_dns_lookups_total", "The number of DNS-SD lookups."),
            failures: registry
                .counter("prometheus_sd_dns_lookup_failures_total", "The number of DNS-SD lookup failures."),
        }
    }

    fn check(&mut self, _: &Path) -> Result<(), String> {
        if self.names.as_ref().is_none_or(Vec::is_empty) {
            return Err("DNS-SD config must contain at least one SRV record name".into());
        }
        if self.port.unwrap_or(0) == 0 && self.kind.unwrap_or_default() != Kind::Srv {
            return Err("a port is required in DNS-SD configs for all record types except SRV".into());
        }
        Ok(())
    }

    async fn run(self, context: Context, metrics: Metrics) {
        let tasks = context.tasks().clone();
        let system = || async {
            let read =
                tasks.blocking("resolv.conf", read_system_conf).await.map_err(|panicked| panicked.to_string())?;
            read.map_err(|error| format!("/etc/resolv.conf: {error}"))
        };
        self.resolve(&context, &metrics, system).await;
    }
}

/// Instruments, under upstream's names.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    lookups: Counter,
    failures: Counter,
}

impl Config {
    /// Asks for ever; `system` says whom.
    async fn resolve<F>(&self, context: &Context, metrics: &Metrics, system: impl Fn() -> F + Send + Sync)
    where
        F: Future<Output = Result<(ResolverConfig, ResolverOpts), String>> + Send,
    {
        let every = self.refresh_interval.unwrap_or(Span::seconds(30)).0.as_std();
        let round = || async {
            let (servers, options) = system().await?;
            let asker = Asker::new(servers, options)?;
            Ok(Found::Some(self.round(&asker, metrics).await))
        };
        context.refresh(every, round).await;
    }

    /// The groups of all names that could be asked for.
    async fn round(&self, asker: &Asker, metrics: &Metrics) -> Vec<Group> {
        let mut groups = Vec::new();
        let names: Vec<&str> = self.names.iter().flatten().map(String::as_str).collect();
        for some in names.chunks(AT_ONCE) {
            let asked = futures_util::future::join_all(some.iter().map(|name| self.ask(asker, name))).await;
            for (name, answer) in some.iter().zip(asked) {
                metrics.lookups.inc();
                match answer {
                    Ok(group) => groups.push(group),
                    Err(error) => {
                        metrics.failures.inc();
                        tracing::error!(name, error, "Error refreshing DNS targets");
                    }
                }
            }
        }
        groups
    }

    async fn ask(&self, asker: &Asker, name: &str) -> Result<Group, String> {
        let records = asker.records(name, self.kind.unwrap_or_default().record()).await?;
        let targets = records.iter().filter_map(|record| self.target(name, record)).collect();
        Ok(Group { source: name.to_owned(), targets, labels: Labels::empty() })
    }

    /// The target of a record; those of another kind, such as aliases on the way to it, have none.
    fn target(&self, name: &str, record: &RData) -> Option<Labels> {
        let port = self.port.unwrap_or(0);
        let (host, port, about) = match (record, self.kind.unwrap_or_default()) {
            (RData::A(address), Kind::A) => (address.to_string(), port, None),
            (RData::AAAA(address), Kind::Aaaa) => (format!("[{address}]"), port, None),
            (RData::MX(mx), Kind::Mx) => (mx.exchange.to_string(), port, Some("__meta_dns_mx_record_target")),
            (RData::NS(ns), Kind::Ns) => (ns.0.to_string(), port, Some("__meta_dns_ns_record_target")),
            (RData::SRV(srv), Kind::Srv) => (srv.target.to_string(), srv.port, Some("__meta_dns_srv_record_target")),
            _ => return None,
        };
        let address = format!("{}:{port}", host.trim_end_matches('.'));
        let service = if matches!(record, RData::SRV(_)) { port.to_string() } else { String::new() };
        let mut pairs = vec![("__address__", address.as_str()), ("__meta_dns_name", name)];
        pairs.push(("__meta_dns_srv_record_port", &service));
        if let Some(about) = about {
            pairs.push((about, &host));
        }
        Some(Labels::from_pairs(pairs))
    }
}

/// Asks servers, and remembers nothing from one round to the next.
struct Asker {
    resolver: TokioResolver,
    /// Domains tried for a name that is not complete.
    search: Vec<Name>,
    /// Dots that make a name be tried as it is first.
    dots: usize,
}

impl Asker {
    fn new(servers: ResolverConfig, mut options: ResolverOpts) -> Result<Self, String> {
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let dots = options.ndots;
        // The search list is ours: the library forgets an error when a later domain says that there is no such name,
        // and targets would vanish with the first server that fails.
        let (domain, mut search, servers) = servers.into_parts();
        search.extend(domain.filter(|_| search.is_empty()));
        let servers = ResolverConfig::from_parts(None, Vec::new(), servers);
        let builder = Resolver::builder_with_config(servers, TokioRuntimeProvider::default()).with_options(options);
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver, search, dots })
    }

    /// The complete names to try.
    fn names(&self, name: &str) -> Result<Vec<Name>, String> {
        let mut own = Name::from_utf8(name).map_err(|error| format!("{name:?}: {error}"))?;
        if own.is_fqdn() {
            return Ok(vec![own]);
        }
        let mut names: Vec<Name> =
            self.search.iter().filter_map(|domain| own.clone().append_domain(domain).ok()).collect();
        let first = name.matches('.').count() >= self.dots;
        own.set_fqdn(true);
        names.insert(if first { 0 } else { names.len() }, own);
        Ok(names)
    }

    /// The records of the first name that exists; none when there is no such name. Any failure before that is one.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, String> {
        let mut failed = None;
        for full in self.names(name)? {
            match self.resolver.lookup(full, kind).await {
                Ok(lookup) => return Ok(lookup.answers().iter().map(|record| record.data.clone()).collect()),
                Err(error) if error.is_nx_domain() => {}
                Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
                Err(error) => failed = Some(format!("could not resolve {name:?}: {error}")),
            }
        }
        failed.map_or(Ok(Vec::new()), Err)
    }
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
