//! From objects to groups of targets, label by label as upstream makes them. No I/O.

use super::{
    objects::{
        Endpoint, EndpointAddress, EndpointPort, EndpointSlice, Endpoints, Ingress, Meta, Node, Pod, Reference, Service,
    },
    store::Store,
};
use crate::Group;
use model::{Builder, Labels};
use std::collections::BTreeMap;

const PREFIX: &str = "__meta_kubernetes_";

/// Labels being put together.
#[derive(Clone, Default)]
struct Set(Builder);

impl Set {
    fn put(&mut self, name: &str, value: impl AsRef<str>) -> &mut Self {
        self.0.set(&format!("{PREFIX}{name}"), value.as_ref());
        self
    }

    fn address(&mut self, address: &str) -> &mut Self {
        self.0.set("__address__", address);
        self
    }

    /// Name, labels and annotations of an object under the name of its role.
    fn meta(&mut self, role: &str, meta: &Meta) -> &mut Self {
        self.put(&format!("{role}_name"), &meta.name);
        self.attached(role, meta)
    }

    /// Labels and annotations alone.
    fn attached(&mut self, role: &str, meta: &Meta) -> &mut Self {
        for (kind, pairs) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
            for (name, value) in pairs.iter().flatten() {
                let name = sanitized(name);
                self.put(&format!("{role}_{kind}_{name}"), value);
                self.put(&format!("{role}_{kind}present_{name}"), "true");
            }
        }
        self
    }

    fn build(&mut self) -> Labels {
        self.0.build()
    }
}

/// Every character that no label name may have becomes `_`.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Which other objects' labels targets get as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attach {
    pub(super) node: bool,
    pub(super) namespace: bool,
    pub(super) deployment: bool,
    pub(super) job: bool,
    pub(super) cronjob: bool,
}

/// The order in which addresses of a node are preferred.
const NODE_ADDRESSES: [&str; 6] =
    ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

pub(super) fn node(node: &Node) -> Group {
    let source = format!("node/{}", node.metadata.name);
    let addresses: Vec<_> = node.status.addresses.iter().flatten().collect();
    let best = NODE_ADDRESSES.iter().find_map(|kind| addresses.iter().find(|one| one.kind == *kind));
    let Some(best) = best else { return Group { source, ..Group::default() } };
    let mut labels = Set::default();
    labels.meta("node", &node.metadata).put("node_provider_id", &node.spec.provider_id);
    for condition in node.status.conditions.iter().flatten() {
        let name = format!("node_condition_{}", sanitized(&condition.kind.to_lowercase()));
        labels.put(&name, condition.status.to_lowercase());
    }
    let mut target = Set::default();
    target.address(&host_port(&best.address, node.status.daemon_endpoints.kubelet_endpoint.port));
    target.0.set("instance", &node.metadata.name);
    // Of several addresses of a kind the first one counts.
    for one in addresses.iter().rev() {
        target.put(&format!("node_address_{}", sanitized(&one.kind)), &one.address);
    }
    Group { source, targets: vec![target.build()], labels: labels.build() }
}

/// Labels of a machine on a target that runs there.
fn node_labels(set: &mut Set, name: &str, store: &Store) {
    if let Some(node) = store.node(name) {
        set.meta("node", &node.metadata);
    }
}

pub(super) fn service(service: &Service) -> Group {
    let (meta, spec) = (&service.metadata, &service.spec);
    let mut labels = Set::default();
    labels.put("namespace", &meta.namespace).meta("service", meta);
    let target = |port: &super::objects::ServicePort| {
        let mut target = Set::default();
        target.address(&host_port(&format!("{}.{}.svc", meta.name, meta.namespace), port.port));
        target.put("service_port_name", &port.name).put("service_port_number", port.port.to_string());
        target.put("service_port_protocol", &port.protocol).put("service_type", &spec.kind);
        if spec.kind == "ExternalName" {
            target.put("service_external_name", &spec.external_name);
        } else {
            target.put("service_cluster_ip", &spec.cluster_ip);
        }
        if spec.kind == "LoadBalancer" {
            let given: Vec<&str> =
                service.status.load_balancer.ingress.iter().flatten().map(|one| one.ip.as_str()).collect();
            let address = if given.is_empty() { spec.load_balancer_ip.clone() } else { given.join(",") };
            target.put("service_loadbalancer_ip", address);
        }
        target.build()
    };
    let targets = spec.ports.iter().flatten().map(target).collect();
    Group { source: format!("svc/{}", meta.key()), targets, labels: labels.build() }
}

fn pod_labels(set: &mut Set, pod: &Pod, store: &Store, attach: Attach) {
    let status = &pod.status;
    let ready = status.conditions.iter().flatten().find(|condition| condition.kind == "Ready");
    set.meta("pod", &pod.metadata);
    set.put("pod_ip", &status.pod_ip).put("pod_host_ip", &status.host_ip).put("pod_phase", &status.phase);
    set.put("pod_ready", ready.map_or_else(|| "unknown".to_owned(), |condition| condition.status.to_lowercase()));
    set.put("pod_node_name", &pod.spec.node_name).put("pod_uid", &pod.metadata.uid);
    let Some(owner) = pod.metadata.controller() else { return };
    set.put("pod_controller_kind", &owner.kind).put("pod_controller_name", &owner.name);
    let key = format!("{}/{}", pod.metadata.namespace, owner.name);
    if attach.deployment
        && owner.kind == "ReplicaSet"
        && let Some(above) = store.replica_set(&key).and_then(|set| set.metadata.controller())
    {
        set.put("pod_deployment_name", &above.name);
    }
    if owner.kind == "Job" {
        if attach.job {
            set.put("pod_job_name", &owner.name);
        }
        if attach.cronjob
            && let Some(above) = store.job(&key).and_then(|job| job.metadata.controller())
        {
            set.put("pod_cronjob_name", &above.name);
        }
    }
}

/// A container of a pod with its id, and whether it only runs before the others.
fn containers(pod: &Pod) -> impl Iterator<Item = (&super::objects::Container, &str, bool)> {
    let id = |name: &str, init: bool| {
        let statuses = if init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
        let status = statuses.iter().flatten().find(|status| status.name == name);
        status.map_or("", |status| status.container_id.as_str())
    };
    let main = pod.spec.containers.iter().flatten().map(|one| (one, false));
    let init = pod.spec.init_containers.iter().flatten().map(|one| (one, true));
    main.chain(init).map(move |(one, init)| (one, id(&one.name, init), init))
}

fn container_labels(set: &mut Set, container: &super::objects::Container, init: bool) {
    set.put("pod_container_name", &container.name);
    set.put("pod_container_image", &container.image).put("pod_container_init", init.to_string());
}

fn port_labels(set: &mut Set, port: &super::objects::ContainerPort) {
    set.put("pod_container_port_name", &port.name).put("pod_container_port_protocol", &port.protocol);
    set.put("pod_container_port_number", port.container_port.to_string());
}

/// Labels of the namespace that groups of its objects get.
fn namespace_labels(set: &mut Set, namespace: &str, store: &Store, attach: Attach) {
    set.put("namespace", namespace);
    if attach.namespace
        && let Some(found) = store.namespace(namespace)
    {
        set.attached("namespace", &found.metadata);
    }
}

pub(super) fn pod(pod: &Pod, store: &Store, attach: Attach) -> Group {
    let source = format!("pod/{}", pod.metadata.key());
    // One that is starting or was evicted.
    if pod.status.pod_ip.is_empty() {
        return Group { source, ..Group::default() };
    }
    let mut labels = Set::default();
    namespace_labels(&mut labels, &pod.metadata.namespace, store, attach);
    pod_labels(&mut labels, pod, store, attach);
    if attach.node {
        node_labels(&mut labels, &pod.spec.node_name, store);
    }
    let mut targets = Vec::new();
    for (container, id, init) in containers(pod) {
        let mut target = Set::default();
        container_labels(&mut target, container, init);
        target.put("pod_container_id", id);
        let ports = container.ports.as_deref().unwrap_or_default();
        if ports.is_empty() {
            targets.push(target.clone().address(&pod.status.pod_ip).build());
        }
        for port in ports {
            let mut target = target.clone();
            port_labels(&mut target, port);
            targets.push(target.address(&host_port(&pod.status.pod_ip, port.container_port)).build());
        }
    }
    Group { source, targets, labels: labels.build() }
}

/// Pods behind the endpoints of one group, and the ports that the endpoints cover.
type Covered<'s> = BTreeMap<String, (&'s Pod, Vec<u16>)>;

/// Adds the labels of what is behind an address, and notes its pod.
fn behind<'s>(
    target: &mut Set,
    port: Option<u16>,
    (reference, node): (Option<&Reference>, Option<&str>),
    (store, attach): (&'s Store, Attach),
    covered: &mut Covered<'s>,
) {
    if attach.node {
        let node = node.or_else(|| reference.filter(|one| one.kind == "Node").map(|one| one.name.as_str()));
        node_labels(target, node.unwrap_or_default(), store);
    }
    let key = reference.filter(|one| one.kind == "Pod").map(|one| format!("{}/{}", one.namespace, one.name));
    let Some((key, pod)) = key.and_then(|key| store.pod(&key).map(|pod| (key, pod))) else { return };
    pod_labels(target, pod, store, attach);
    let Some(port) = port else { return };
    covered.entry(key).or_insert((pod, Vec::new())).1.push(port);
    for (container, _, init) in containers(pod) {
        if let Some(found) = container.ports.iter().flatten().find(|one| one.container_port == port) {
            container_labels(target, container, init);
            port_labels(target, found);
            return;
        }
    }
}

/// Ports of the pods that no endpoint covers are targets too. Upstream attaches no node to these.
fn uncovered(covered: &Covered<'_>, store: &Store, attach: Attach, targets: &mut Vec<Labels>) {
    for (pod, ports) in covered.values().filter(|(pod, _)| !pod.status.pod_ip.is_empty()) {
        for (container, _, init) in containers(pod) {
            for port in container.ports.iter().flatten().filter(|port| !ports.contains(&port.container_port)) {
                let mut target = Set::default();
                target.address(&host_port(&pod.status.pod_ip, port.container_port));
                container_labels(&mut target, container, init);
                port_labels(&mut target, port);
                pod_labels(&mut target, pod, store, attach);
                targets.push(target.build());
            }
        }
    }
}

fn service_labels(set: &mut Set, key: &str, store: &Store) {
    if let Some(service) = store.service(key) {
        set.meta("service", &service.metadata);
    }
}

pub(super) fn endpoints(endpoints: &Endpoints, store: &Store, attach: Attach) -> Group {
    let meta = &endpoints.metadata;
    let mut labels = Set::default();
    namespace_labels(&mut labels, &meta.namespace, store, attach);
    labels.meta("endpoints", meta);
    service_labels(&mut labels, &meta.key(), store);
    let (mut targets, mut covered) = (Vec::new(), Covered::new());
    for subset in endpoints.subsets.iter().flatten() {
        for port in subset.ports.iter().flatten() {
            for (addresses, ready) in [(&subset.addresses, "true"), (&subset.not_ready_addresses, "false")] {
                for address in addresses.iter().flatten() {
                    let mut target = endpoint(address, port, ready);
                    let about = (address.target_ref.as_ref(), address.node_name.as_deref());
                    behind(&mut target, port.port, about, (store, attach), &mut covered);
                    targets.push(target.build());
                }
            }
        }
    }
    uncovered(&covered, store, attach, &mut targets);
    Group { source: format!("endpoints/{}", meta.key()), targets, labels: labels.build() }
}

fn endpoint(address: &EndpointAddress, port: &EndpointPort, ready: &str) -> Set {
    let mut target = Set::default();
    target.address(&host_port(&address.ip, port.port.unwrap_or(0)));
    target.put("endpoint_port_name", port.name.as_deref().unwrap_or_default());
    target.put("endpoint_port_protocol", port.protocol.as_deref().unwrap_or_default());
    target.put("endpoint_ready", ready);
    if let Some(reference) = &address.target_ref {
        target.put("endpoint_address_target_kind", &reference.kind);
        target.put("endpoint_address_target_name", &reference.name);
    }
    target.put("endpoint_node_name", address.node_name.as_deref().unwrap_or_default());
    target.put("endpoint_hostname", &address.hostname);
    target
}

/// The label that says which service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The service of a slice.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(format!("{}/{name}", slice.metadata.namespace))
}

pub(super) fn endpoint_slice(slice: &EndpointSlice, store: &Store, attach: Attach) -> Group {
    let meta = &slice.metadata;
    let mut labels = Set::default();
    namespace_labels(&mut labels, &meta.namespace, store, attach);
    labels.meta("endpointslice", meta).put("endpointslice_address_type", &slice.address_type);
    service_labels(&mut labels, &service_of(slice).unwrap_or_default(), store);
    let (mut targets, mut covered) = (Vec::new(), Covered::new());
    for one in slice.endpoints.iter().flatten() {
        for port in slice.ports.iter().flatten() {
            for address in one.addresses.iter().flatten() {
                let mut target = slice_endpoint(one, address, port);
                let about = (one.target_ref.as_ref(), one.node_name.as_deref());
                behind(&mut target, port.port, about, (store, attach), &mut covered);
                targets.push(target.build());
            }
        }
    }
    uncovered(&covered, store, attach, &mut targets);
    Group { source: format!("endpointslice/{}", meta.key()), targets, labels: labels.build() }
}

fn slice_endpoint(endpoint: &Endpoint, address: &str, port: &EndpointPort) -> Set {
    let mut target = Set::default();
    target.address(&port.port.map_or_else(|| address.to_owned(), |port| host_port(address, port)));
    target.put("endpointslice_port", port.port.map(|port| port.to_string()).unwrap_or_default());
    for (name, value) in [("name", &port.name), ("protocol", &port.protocol), ("app_protocol", &port.app_protocol)] {
        target.put(&format!("endpointslice_port_{name}"), value.as_deref().unwrap_or_default());
    }
    let conditions = &endpoint.conditions;
    for (name, value) in
        [("ready", conditions.ready), ("serving", conditions.serving), ("terminating", conditions.terminating)]
    {
        target.put(
            &format!("endpointslice_endpoint_conditions_{name}"),
            value.map(|v| v.to_string()).unwrap_or_default(),
        );
    }
    if let Some(reference) = &endpoint.target_ref {
        target.put("endpointslice_address_target_kind", &reference.kind);
        target.put("endpointslice_address_target_name", &reference.name);
    }
    for (name, value) in
        [("hostname", &endpoint.hostname), ("node_name", &endpoint.node_name), ("zone", &endpoint.zone)]
    {
        target.put(&format!("endpointslice_endpoint_{name}"), value.as_deref().unwrap_or_default());
    }
    for (name, value) in endpoint.deprecated_topology.iter().flatten() {
        let name = sanitized(name);
        target.put(&format!("endpointslice_endpoint_topology_{name}"), value);
        target.put(&format!("endpointslice_endpoint_topology_present_{name}"), "true");
    }
    target
}

pub(super) fn ingress(ingress: &Ingress, store: &Store, attach: Attach) -> Group {
    let (meta, spec) = (&ingress.metadata, &ingress.spec);
    let mut labels = Set::default();
    namespace_labels(&mut labels, &meta.namespace, store, attach);
    labels.meta("ingress", meta).put("ingress_class_name", spec.ingress_class_name.as_deref().unwrap_or_default());
    let secure: Vec<&str> =
        spec.tls.iter().flatten().flat_map(|tls| tls.hosts.iter().flatten()).map(String::as_str).collect();
    let mut targets = Vec::new();
    for rule in spec.rules.iter().flatten() {
        let scheme = if secure.iter().any(|host| covers(host, &rule.host)) { "https" } else { "http" };
        let listed = rule.http.iter().flat_map(|http| http.paths.iter().flatten());
        let mut paths: Vec<&str> =
            listed.map(|one| one.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/")).collect();
        if rule.http.is_none() {
            paths.push("/");
        }
        for path in paths {
            let mut target = Set::default();
            target.address(&rule.host).put("ingress_scheme", scheme).put("ingress_host", &rule.host);
            targets.push(target.put("ingress_path", path).build());
        }
    }
    Group { source: format!("ingress/{}", meta.key()), targets, labels: labels.build() }
}

/// Whether a host of a certificate, whose first part may be `*`, is that of a rule.
fn covers(pattern: &str, host: &str) -> bool {
    let rest = |text: &str| text.split_once('.').map(|(_, rest)| rest.to_owned());
    pattern == host || pattern.starts_with("*.") && rest(pattern) == rest(host)
}
