//! The objects known so far, and which groups change with one of them. No I/O.

use super::{
    Role,
    groups::{self, Attach},
    objects::{EndpointSlice, Endpoints, Ingress, Named, Node, Pod, Reference, Service},
};
use crate::Group;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Pod,
    Service,
    Endpoints,
    EndpointSlice,
    Ingress,
    Namespace,
    ReplicaSet,
    Job,
}

impl Kind {
    /// Where the API has them.
    pub(super) fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::Node => ("/api/v1", "nodes"),
            Self::Pod => ("/api/v1", "pods"),
            Self::Service => ("/api/v1", "services"),
            Self::Endpoints => ("/api/v1", "endpoints"),
            Self::EndpointSlice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Ingress => ("/apis/networking.k8s.io/v1", "ingresses"),
            Self::Namespace => ("/api/v1", "namespaces"),
            Self::ReplicaSet => ("/apis/apps/v1", "replicasets"),
            Self::Job => ("/apis/batch/v1", "jobs"),
        }
    }

    /// Whether they belong to the cluster and to no namespace.
    pub(super) fn is_global(self) -> bool {
        matches!(self, Self::Node | Self::Namespace)
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Update,
    Delete,
}

impl Change {
    /// Upstream's word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Objects by their keys.
#[derive(Debug, Default)]
pub(super) struct Store {
    role: Role,
    attach: Attach,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<String, Pod>,
    services: BTreeMap<String, Service>,
    endpoints: BTreeMap<String, Endpoints>,
    slices: BTreeMap<String, EndpointSlice>,
    ingresses: BTreeMap<String, Ingress>,
    namespaces: BTreeMap<String, Named>,
    replica_sets: BTreeMap<String, Named>,
    jobs: BTreeMap<String, Named>,
    /// Which endpoints or slices name a pod.
    users: BTreeMap<String, BTreeSet<String>>,
}

/// Puts an object into its table, or takes it out; the object as it is now and what happened.
fn put<T: DeserializeOwned>(
    table: &mut BTreeMap<String, T>,
    key: &str,
    object: Option<Value>,
) -> Result<Option<Change>, serde_json::Error> {
    let Some(object) = object else { return Ok(table.remove(key).map(|_| Change::Delete)) };
    let old = table.insert(key.to_owned(), serde_json::from_value(object)?);
    Ok(Some(if old.is_some() { Change::Update } else { Change::Add }))
}

impl Store {
    pub(super) fn new(role: Role, attach: Attach) -> Self {
        Self { role, attach, ..Self::default() }
    }

    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    pub(super) fn pod(&self, key: &str) -> Option<&Pod> {
        self.pods.get(key)
    }

    pub(super) fn service(&self, key: &str) -> Option<&Service> {
        self.services.get(key)
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&Named> {
        self.namespaces.get(name)
    }

    pub(super) fn replica_set(&self, key: &str) -> Option<&Named> {
        self.replica_sets.get(key)
    }

    pub(super) fn job(&self, key: &str) -> Option<&Named> {
        self.jobs.get(key)
    }

    /// Keys of the objects of a kind within a namespace; all if it is empty.
    pub(super) fn keys(&self, kind: Kind, namespace: &str) -> Vec<String> {
        fn of<T>(table: &BTreeMap<String, T>, namespace: &str) -> Vec<String> {
            let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
            table.keys().filter(|key| key.starts_with(&prefix)).cloned().collect()
        }
        match kind {
            Kind::Node => of(&self.nodes, ""),
            Kind::Pod => of(&self.pods, namespace),
            Kind::Service => of(&self.services, namespace),
            Kind::Endpoints => of(&self.endpoints, namespace),
            Kind::EndpointSlice => of(&self.slices, namespace),
            Kind::Ingress => of(&self.ingresses, namespace),
            Kind::Namespace => of(&self.namespaces, ""),
            Kind::ReplicaSet => of(&self.replica_sets, namespace),
            Kind::Job => of(&self.jobs, namespace),
        }
    }

    /// Takes an object as it is now, or that it is gone; what happened, and the sources of the groups that change.
    ///
    /// # Errors
    /// An object that is none of its kind.
    pub(super) fn set(
        &mut self,
        kind: Kind,
        key: &str,
        object: Option<Value>,
    ) -> Result<(Option<Change>, BTreeSet<String>), serde_json::Error> {
        let mut touched: BTreeSet<String> = BTreeSet::new();
        if kind == self.role.kind() {
            touched.insert(key.to_owned());
            self.forget_users(key);
        }
        let change = match kind {
            Kind::Node => put(&mut self.nodes, key, object),
            Kind::Pod => put(&mut self.pods, key, object),
            Kind::Service => put(&mut self.services, key, object),
            Kind::Endpoints => put(&mut self.endpoints, key, object),
            Kind::EndpointSlice => put(&mut self.slices, key, object),
            Kind::Ingress => put(&mut self.ingresses, key, object),
            Kind::Namespace => put(&mut self.namespaces, key, object),
            Kind::ReplicaSet => put(&mut self.replica_sets, key, object),
            Kind::Job => put(&mut self.jobs, key, object),
        }?;
        if kind == self.role.kind() {
            self.note_users(key);
        } else {
            touched.extend(self.dependents(kind, key));
        }
        Ok((change, touched))
    }

    /// Pods that endpoints or a slice name.
    fn named_pods(&self, key: &str) -> BTreeSet<String> {
        let pod = |one: &Reference| (one.kind == "Pod").then(|| format!("{}/{}", one.namespace, one.name));
        match self.role {
            Role::Endpoints => {
                let subsets = self.endpoints.get(key).into_iter().flat_map(|one| one.subsets.iter().flatten());
                let addresses = subsets.flat_map(|subset| {
                    subset.addresses.iter().flatten().chain(subset.not_ready_addresses.iter().flatten())
                });
                addresses.filter_map(|address| address.target_ref.as_ref().and_then(pod)).collect()
            }
            Role::EndpointSlice => {
                let all = self.slices.get(key).into_iter().flat_map(|one| one.endpoints.iter().flatten());
                all.filter_map(|endpoint| endpoint.target_ref.as_ref().and_then(pod)).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    fn forget_users(&mut self, key: &str) {
        for pod in self.named_pods(key) {
            if let Some(users) = self.users.get_mut(&pod) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(&pod);
                }
            }
        }
    }

    fn note_users(&mut self, key: &str) {
        for pod in self.named_pods(key) {
            self.users.entry(pod).or_default().insert(key.to_owned());
        }
    }

    /// Objects of the role whose groups show something of another object.
    fn dependents(&self, kind: Kind, key: &str) -> Vec<String> {
        let of_pod = |pod: &String| match self.role {
            Role::Pod => vec![pod.clone()],
            _ => self.users.get(pod).into_iter().flatten().cloned().collect(),
        };
        match kind {
            Kind::Pod => of_pod(&key.to_owned()),
            Kind::Service if self.role == Role::EndpointSlice => {
                let fits = |(_, slice): &(&String, &EndpointSlice)| groups::service_of(slice).as_deref() == Some(key);
                self.slices.iter().filter(fits).map(|(key, _)| key.clone()).collect()
            }
            Kind::Service => vec![key.to_owned()],
            Kind::Node if self.role == Role::Pod => {
                self.pods.iter().filter(|(_, pod)| pod.spec.node_name == key).map(|(key, _)| key.clone()).collect()
            }
            // An address may name a node without a pod: all groups are made anew, which changes few.
            Kind::Node => self.keys(self.role.kind(), ""),
            Kind::Namespace => self.keys(self.role.kind(), key),
            Kind::ReplicaSet | Kind::Job => {
                let owned = |pod: &Pod| {
                    let owner = pod.metadata.controller();
                    owner.is_some_and(|owner| format!("{}/{}", pod.metadata.namespace, owner.name) == key)
                };
                let pods = self.pods.iter().filter(|(_, pod)| owned(pod)).map(|(key, _)| key);
                pods.flat_map(of_pod).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The group of an object of the role; without targets when the object is gone.
    pub(super) fn group(&self, key: &str) -> Group {
        let found = match self.role {
            Role::Node => self.nodes.get(key).map(groups::node),
            Role::Pod => self.pods.get(key).map(|one| groups::pod(one, self, self.attach)),
            Role::Service => self.services.get(key).map(groups::service),
            Role::Endpoints => self.endpoints.get(key).map(|one| groups::endpoints(one, self, self.attach)),
            Role::EndpointSlice => self.slices.get(key).map(|one| groups::endpoint_slice(one, self, self.attach)),
            Role::Ingress => self.ingresses.get(key).map(|one| groups::ingress(one, self, self.attach)),
        };
        let gone = || Group { source: format!("{}/{key}", self.role.source()), ..Group::default() };
        found.unwrap_or_else(gone)
    }

    /// All groups.
    pub(super) fn groups(&self) -> Vec<Group> {
        self.keys(self.role.kind(), "").iter().map(|key| self.group(key)).collect()
    }
}
