//! Targets that a Kubernetes cluster knows: nodes, pods, services, endpoints, endpoint slices, ingresses.
//!
//! Source of truth: `kubernetes_sd_configs` on upstream's configuration page. Each kind of object of each namespace is
//! listed once and then followed; nothing is told before all lists are there, so that no target lacks the labels of
//! what stands behind it. The client crates of Kubernetes are not used: they cost three times the build of all other
//! mechanisms together (117 s of processor time), and what is needed of them is two kinds of GET.

mod groups;
mod kubeconfig;
mod objects;
mod store;
mod watch;

use crate::{
    Context,
    mechanism::{Key, Mechanism, MetaLabel, key, label},
};
use client::{Client, HttpConfig, Inline};
use groups::Attach;
use kubeconfig::Access;
use metrics::{Counter, CounterVec, Registry};
use parking_lot::Mutex;
use runtime::Clock;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::{Change, Kind, Store};
use watch::{Event, Subject};

/// The pause before the server is looked for again when it is not known.
const RETRY: Duration = Duration::from_secs(30);

/// What the targets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    Node,
    #[default]
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
}

impl Role {
    const ALL: [Self; 6] = [Self::Node, Self::Pod, Self::Service, Self::Endpoints, Self::EndpointSlice, Self::Ingress];

    fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Ingress => "ingress",
        }
    }

    /// How sources of its groups begin.
    fn source(self) -> &'static str {
        if self == Self::Service { "svc" } else { self.word() }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Node => Kind::Node,
            Self::Pod => Kind::Pod,
            Self::Service => Kind::Service,
            Self::Endpoints => Kind::Endpoints,
            Self::EndpointSlice => Kind::EndpointSlice,
            Self::Ingress => Kind::Ingress,
        }
    }

    /// The roles whose objects may be selected.
    fn selectable(self) -> &'static [Role] {
        match self {
            Self::Node => &[Self::Node],
            Self::Pod => &[Self::Pod, Self::Node],
            Self::Service => &[Self::Service],
            Self::Endpoints => &[Self::Pod, Self::Service, Self::Endpoints],
            Self::EndpointSlice => &[Self::Pod, Self::Service, Self::EndpointSlice],
            Self::Ingress => &[Self::Ingress],
        }
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let found = Self::ALL.into_iter().find(|role| role.word() == word);
        found.ok_or_else(|| de::Error::custom(format!("unknown Kubernetes SD role {word:?}")))
    }
}

/// One entry of `kubernetes_sd_configs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Config(Inline<Own>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Own {
    role: Option<Role>,
    api_server: Option<String>,
    kubeconfig_file: Option<PathBuf>,
    namespaces: Option<Namespaces>,
    selectors: Option<Vec<Selector>>,
    attach_metadata: Option<AttachKeys>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Namespaces {
    own_namespace: Option<bool>,
    names: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Selector {
    role: Option<Role>,
    label: Option<String>,
    field: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AttachKeys {
    node: Option<bool>,
    namespace: Option<bool>,
    deployment: Option<bool>,
    job: Option<bool>,
    cronjob: Option<bool>,
}

impl Own {
    fn own_namespace(&self) -> bool {
        self.namespaces.as_ref().is_some_and(|one| one.own_namespace == Some(true))
    }

    fn api_server(&self) -> Option<&str> {
        self.api_server.as_deref().filter(|server| !server.is_empty())
    }

    fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig_file.as_deref().filter(|file| !file.as_os_str().is_empty())
    }

    fn check_selectors(&self, role: Role) -> Result<(), String> {
        let mut seen = Vec::new();
        for selector in self.selectors.iter().flatten() {
            let of = selector.role.ok_or(
                "role missing in a selector (one of: pod, service, endpoints, endpointslice, \
                                          node, ingress)",
            )?;
            if seen.contains(&of) {
                return Err(format!("duplicated selector role: {}", of.word()));
            }
            seen.push(of);
            if !role.selectable().contains(&of) {
                let allowed: Vec<&str> = role.selectable().iter().map(|role| role.word()).collect();
                return Err(format!("{} role supports only {} selectors", role.word(), allowed.join(", ")));
            }
            let field = selector.field.as_deref().unwrap_or_default();
            if let Some(wrong) = field.split(',').find(|part| !part.is_empty() && !part.contains('=')) {
                return Err(format!("invalid selector: '{wrong}'; can't understand '{wrong}'"));
            }
        }
        Ok(())
    }

    fn attach(&self) -> Attach {
        let AttachKeys { node, namespace, deployment, job, cronjob } = self.attach_metadata.unwrap_or_default();
        let [node, namespace, deployment, job, cronjob] =
            [node, namespace, deployment, job, cronjob].map(|wanted| wanted == Some(true));
        Attach { node, namespace, deployment, job, cronjob }
    }

    /// Kinds of objects to follow: those of the role, and those whose labels its targets show.
    fn kinds(&self, role: Role) -> BTreeSet<Kind> {
        let attach = self.attach();
        let of_pods = matches!(role, Role::Pod | Role::Endpoints | Role::EndpointSlice);
        let mut kinds = BTreeSet::from([role.kind()]);
        if matches!(role, Role::Endpoints | Role::EndpointSlice) {
            kinds.extend([Kind::Pod, Kind::Service]);
        }
        for (wanted, kind) in [
            (attach.node && of_pods, Kind::Node),
            (attach.namespace && role != Role::Node, Kind::Namespace),
            (attach.deployment && of_pods, Kind::ReplicaSet),
            (attach.cronjob && of_pods, Kind::Job),
        ] {
            if wanted {
                kinds.insert(kind);
            }
        }
        kinds
    }

    /// What is followed, one list and stream each.
    fn subjects(&self, role: Role, own: &str) -> Vec<Subject> {
        let mut namespaces: Vec<String> =
            self.namespaces.iter().flat_map(|one| one.names.iter().flatten()).cloned().collect();
        if self.own_namespace() {
            namespaces.push(own.to_owned());
        }
        if namespaces.is_empty() {
            namespaces.push(String::new());
        }
        let selector = |kind: Kind| {
            let fits = |one: &&Selector| one.role.is_some_and(|role| role.kind() == kind);
            let found = self.selectors.iter().flatten().find(fits).cloned().unwrap_or_default();
            (found.label.unwrap_or_default(), found.field.unwrap_or_default())
        };
        let mut subjects = Vec::new();
        for kind in self.kinds(role) {
            let (labels, fields) = selector(kind);
            let subject =
                |namespace: String| Subject { kind, namespace, labels: labels.clone(), fields: fields.clone() };
            if kind.is_global() {
                subjects.push(subject(String::new()));
            } else {
                subjects.extend(namespaces.iter().cloned().map(subject));
            }
        }
        subjects
    }
}

const KEYS: &[Key] = &[
    key("role", "required", "`node`, `pod`, `service`, `endpoints`, `endpointslice` or `ingress`."),
    key("api_server", "the cluster that the server runs in", "Address of the API server."),
    key("kubeconfig_file", "none", "A kubeconfig file that says which API server is called and how."),
    key("namespaces", "all", "`own_namespace: true`, or `names`, a list."),
    key(
        "selectors",
        "none",
        "A list of `role`, `label`, `field`: which objects are looked at, decided by the API server.",
    ),
    key(
        "attach_metadata",
        "none",
        "Whose labels targets get as well: `node`, `namespace`, `deployment`, `job`, `cronjob`, each `true` or `false`.",
    ),
];

const LABELS: &[MetaLabel] = &[
    label("__meta_kubernetes_namespace", "The namespace of the object."),
    label(
        "__meta_kubernetes_namespace_label_NAME",
        "A label of the namespace, with `_labelpresent_`, and annotations likewise.",
    ),
    label(
        "__meta_kubernetes_ROLE_name",
        "Name of the object; ROLE is `node`, `pod`, `service`, `endpoints`, `endpointslice`, `ingress`.",
    ),
    label("__meta_kubernetes_ROLE_label_NAME", "A label of the object."),
    label("__meta_kubernetes_ROLE_labelpresent_NAME", "`true` for every label of the object."),
    label("__meta_kubernetes_ROLE_annotation_NAME", "An annotation of the object."),
    label("__meta_kubernetes_ROLE_annotationpresent_NAME", "`true` for every annotation of the object."),
    label("__meta_kubernetes_node_provider_id", "The cloud's name of the node."),
    label("__meta_kubernetes_node_condition_NAME", "A condition of the node: `true`, `false` or `unknown`."),
    label("__meta_kubernetes_node_address_TYPE", "The first address of each type."),
    label("__meta_kubernetes_pod_ip, _host_ip, _uid, _node_name", "Of the pod."),
    label("__meta_kubernetes_pod_phase, _ready", "State of the pod."),
    label("__meta_kubernetes_pod_controller_kind, _name", "Who controls the pod."),
    label("__meta_kubernetes_pod_deployment_name, _job_name, _cronjob_name", "What stands above it, when attached."),
    label("__meta_kubernetes_pod_container_name, _id, _image, _init", "The container."),
    label("__meta_kubernetes_pod_container_port_name, _number, _protocol", "Its port."),
    label("__meta_kubernetes_service_type, _cluster_ip, _loadbalancer_ip, _external_name", "Of the service."),
    label("__meta_kubernetes_service_port_name, _number, _protocol", "The port of the service."),
    label("__meta_kubernetes_endpoint_hostname, _node_name, _ready, _port_name, _port_protocol", "Of an endpoint."),
    label("__meta_kubernetes_endpoint_address_target_kind, _name", "What stands behind its address."),
    label(
        "__meta_kubernetes_endpointslice_address_type, _port, _port_name, _port_protocol, _port_app_protocol",
        "Of a slice.",
    ),
    label("__meta_kubernetes_endpointslice_address_target_kind, _name", "What stands behind its address."),
    label(
        "__meta_kubernetes_endpointslice_endpoint_conditions_ready, _serving, _terminating",
        "State of its endpoint.",
    ),
    label("__meta_kubernetes_endpointslice_endpoint_hostname, _node_name, _zone", "Of its endpoint."),
    label("__meta_kubernetes_endpointslice_endpoint_topology_NAME, _topology_present_NAME", "Of its endpoint."),
    label("__meta_kubernetes_ingress_class_name, _scheme, _host, _path", "Of the ingress."),
];

impl Mechanism for Config {
    const KEY: &'static str = "kubernetes_sd_configs";
    const SUMMARY: &'static str = "Targets that a Kubernetes cluster knows, kept up to date by watching its objects.";
    const KEYS: &'static [Key] = KEYS;
    const LABELS: &'static [MetaLabel] = LABELS;
    const CLIENT: bool = true;
    type Metrics = Metrics;

    fn metrics(registry: &Registry, _: &Clock) -> Metrics {
        Metrics::new(registry)
    }

    fn check(&mut self, folder: &Path) -> Result<(), String> {
        let Inline { own, http } = &mut self.0;
        let role = own.role.ok_or("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)")?;
        http.validate().map_err(|error| error.to_string())?;
        let (server, file, custom) = (own.api_server(), own.kubeconfig(), *http != HttpConfig::default());
        for (wrong, text) in [
            (file.is_some() && server.is_some(), "cannot use 'kubeconfig_file' and 'api_server' simultaneously"),
            (file.is_some() && custom, "cannot use a custom HTTP client configuration together with 'kubeconfig_file'"),
            (
                file.is_none() && server.is_none() && custom,
                "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
            ),
            (
                server.is_some() && own.own_namespace(),
                "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously",
            ),
            (
                file.is_some() && own.own_namespace(),
                "cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously",
            ),
        ] {
            if wrong {
                return Err(text.into());
            }
        }
        own.check_selectors(role)?;
        http.set_directory(folder);
        if let Some(file) = own.kubeconfig_file.as_mut().filter(|file| file.is_relative() && *file != Path::new("")) {
            *file = folder.join(&*file);
        }
        Ok(())
    }

    async fn run(self, context: Context, metrics: Metrics) {
        let role = self.0.own.role.unwrap_or_default();
        loop {
            let (config, tasks) = (self.clone(), context.tasks().clone());
            let access = tasks.blocking("kubeconfig", move || config.access()).await;
            let access = access.map_err(|panicked| panicked.to_string()).and_then(|access| access);
            let reached = access.and_then(|access| {
                let client = context.client(&access.http).map_err(|error| error.to_string())?;
                Ok((access, client))
            });
            match reached {
                Ok((access, client)) => self.follow(role, access, client, &context, metrics.clone()).await,
                Err(error) => {
                    metrics.failures.inc();
                    tracing::error!(error, "Kubernetes cannot be reached");
                }
            }
            context.clock().sleep(RETRY).await;
        }
    }
}

impl Config {
    /// Reads files.
    fn access(&self) -> Result<Access, String> {
        let Inline { own, http } = &self.0;
        if let Some(file) = own.kubeconfig() {
            let shown = file.display();
            let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
            let folder = file.parent().unwrap_or(Path::new(""));
            return kubeconfig::parse(&text, folder).map_err(|error| format!("{shown}: {error}"));
        }
        match own.api_server() {
            Some(server) => {
                Ok(Access { server: server.to_owned(), http: http.clone(), namespace: kubeconfig::own_namespace() })
            }
            None => kubeconfig::in_cluster(|name| std::env::var(name).ok()),
        }
    }

    /// Follows all kinds of objects, side by side.
    async fn follow(&self, role: Role, access: Access, client: Client, context: &Context, metrics: Metrics) {
        let own = &self.0.own;
        let subjects = own.subjects(role, &access.namespace);
        let shared = Arc::new(Shared {
            client,
            server: access.server,
            clock: context.clock().clone(),
            metrics,
            context: context.clone(),
            known: Mutex::new(Known { store: Store::new(role, own.attach()), unlisted: subjects.len() }),
        });
        futures_util::future::join_all(subjects.into_iter().map(|subject| watch::follow(shared.clone(), subject)))
            .await;
    }
}

/// Instruments, under upstream's names.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    events: CounterVec,
    failures: Counter,
}

impl Metrics {
    fn new(registry: &Registry) -> Self {
        let events = registry.counter_vec(
            "prometheus_sd_kubernetes_events_total",
            "The number of Kubernetes events handled.",
            &["event", "role"],
        );
        for role in Role::ALL {
            for change in [Change::Add, Change::Update, Change::Delete] {
                events.with(&[change.word(), role.word()]);
            }
        }
        let failures =
            registry.counter("prometheus_sd_kubernetes_failures_total", "The number of failed WATCH/LIST requests.");
        Self { events, failures }
    }

    fn count(&self, kind: Kind, change: Option<Change>) {
        let role = Role::ALL.into_iter().find(|role| role.kind() == kind);
        if let (Some(role), Some(change)) = (role, change) {
            self.events.with(&[change.word(), role.word()]).inc();
        }
    }
}

/// What the streams of one mechanism share.
struct Shared {
    client: Client,
    server: String,
    clock: Clock,
    metrics: Metrics,
    context: Context,
    known: Mutex<Known>,
}

struct Known {
    store: Store,
    /// Subjects that have not been listed yet.
    unlisted: usize,
}

impl Shared {
    /// Takes the list of a subject: what is not in it is gone.
    fn listed(&self, subject: &Subject, items: Vec<Value>, first: bool) {
        let mut known = self.known.lock();
        let mut gone: BTreeSet<String> = known.store.keys(subject.kind, &subject.namespace).into_iter().collect();
        let mut touched = BTreeSet::new();
        for item in items {
            let key = key_of(&item);
            gone.remove(&key);
            self.set(&mut known.store, subject.kind, &key, Some(item), &mut touched);
        }
        for key in gone {
            self.set(&mut known.store, subject.kind, &key, None, &mut touched);
        }
        if first {
            known.unlisted = known.unlisted.saturating_sub(1);
            if known.unlisted == 0 {
                self.context.replace(known.store.groups());
                return;
            }
        }
        self.tell(&known, touched);
    }

    /// Takes what a stream told.
    fn changed(&self, subject: &Subject, events: Vec<Event>) {
        let mut known = self.known.lock();
        let mut touched = BTreeSet::new();
        for event in events {
            let (key, object) = match event {
                Event::Put(object) => (key_of(&object), Some(object)),
                Event::Gone(object) => (key_of(&object), None),
                Event::Expired | Event::Failed(_) => continue,
            };
            self.set(&mut known.store, subject.kind, &key, object, &mut touched);
        }
        self.tell(&known, touched);
    }

    fn set(&self, store: &mut Store, kind: Kind, key: &str, object: Option<Value>, touched: &mut BTreeSet<String>) {
        match store.set(kind, key, object) {
            Ok((change, more)) => {
                self.metrics.count(kind, change);
                touched.extend(more);
            }
            Err(error) => tracing::error!(object = key, %error, "An object of Kubernetes was not understood"),
        }
    }

    fn tell(&self, known: &Known, touched: BTreeSet<String>) {
        if known.unlisted == 0 && !touched.is_empty() {
            self.context.send(touched.iter().map(|key| known.store.group(key)).collect());
        }
    }
}

/// `namespace/name` of any object.
fn key_of(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    match (text("/metadata/namespace"), text("/metadata/name")) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests;
