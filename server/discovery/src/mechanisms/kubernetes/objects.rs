//! What is read of the objects of the Kubernetes API: the fields that labels are made of, and no other.
//!
//! Source of truth: the API reference of Kubernetes (core/v1, discovery/v1, networking/v1). Lists may be null.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Names of an object, and what is attached to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) owner_references: Option<Vec<Owner>>,
}

impl Meta {
    /// `namespace/name`, or the name of what has no namespace.
    pub(super) fn key(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) }
    }

    /// Who controls the object.
    pub(super) fn controller(&self) -> Option<&Owner> {
        self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
    }
}

macro_rules! objects {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub(super) struct $name {
                $($(#[$attribute])* pub(super) $field: $type,)*
            }
        )*
    };
}

objects! {
    /// An object that controls or owns another.
    Owner { kind: String, name: String, controller: Option<bool>, }
    /// A machine.
    Node { metadata: Meta, spec: NodeSpec, status: NodeStatus, }
    /// Of a machine.
    NodeSpec { #[serde(rename = "providerID")] provider_id: String, }
    /// Of a machine.
    NodeStatus {
        addresses: Option<Vec<NodeAddress>>,
        conditions: Option<Vec<Condition>>,
        daemon_endpoints: DaemonEndpoints,
    }
    /// One address of a machine.
    NodeAddress { #[serde(rename = "type")] kind: String, address: String, }
    /// Something that is so or not.
    Condition { #[serde(rename = "type")] kind: String, status: String, }
    /// Of a machine.
    DaemonEndpoints { kubelet_endpoint: DaemonEndpoint, }
    /// Of a machine.
    DaemonEndpoint { #[serde(rename = "Port")] port: u16, }
    /// A pod.
    Pod { metadata: Meta, spec: PodSpec, status: PodStatus, }
    /// Of a pod.
    PodSpec {
        node_name: String,
        containers: Option<Vec<Container>>,
        init_containers: Option<Vec<Container>>,
    }
    /// Of a pod.
    Container { name: String, image: String, ports: Option<Vec<ContainerPort>>, }
    /// Of a container.
    ContainerPort { name: String, container_port: u16, protocol: String, }
    /// Of a pod.
    PodStatus {
        phase: String,
        #[serde(rename = "podIP")] pod_ip: String,
        #[serde(rename = "hostIP")] host_ip: String,
        conditions: Option<Vec<Condition>>,
        container_statuses: Option<Vec<ContainerStatus>>,
        init_container_statuses: Option<Vec<ContainerStatus>>,
    }
    /// Of a container.
    ContainerStatus { name: String, #[serde(rename = "containerID")] container_id: String, }
    /// A service.
    Service { metadata: Meta, spec: ServiceSpec, status: ServiceStatus, }
    /// Of a service.
    ServiceSpec {
        #[serde(rename = "type")] kind: String,
        #[serde(rename = "clusterIP")] cluster_ip: String,
        external_name: String,
        #[serde(rename = "loadBalancerIP")] load_balancer_ip: String,
        ports: Option<Vec<ServicePort>>,
    }
    /// Of a service.
    ServicePort { name: String, port: u16, protocol: String, }
    /// Of a service.
    ServiceStatus { load_balancer: Balancer, }
    /// Of a service.
    Balancer { ingress: Option<Vec<BalancerIngress>>, }
    /// Of a service.
    BalancerIngress { ip: String, }
    /// Endpoints of a service.
    Endpoints { metadata: Meta, subsets: Option<Vec<Subset>>, }
    /// Addresses that share ports.
    Subset {
        addresses: Option<Vec<EndpointAddress>>,
        not_ready_addresses: Option<Vec<EndpointAddress>>,
        ports: Option<Vec<EndpointPort>>,
    }
    /// One address.
    EndpointAddress {
        ip: String,
        hostname: String,
        node_name: Option<String>,
        target_ref: Option<Reference>,
    }
    /// One port.
    EndpointPort {
        name: Option<String>,
        port: Option<u16>,
        protocol: Option<String>,
        app_protocol: Option<String>,
    }
    /// The object behind an address.
    Reference { kind: String, namespace: String, name: String, }
    /// A part of the endpoints of a service.
    EndpointSlice {
        metadata: Meta,
        address_type: String,
        endpoints: Option<Vec<Endpoint>>,
        ports: Option<Vec<EndpointPort>>,
    }
    /// Addresses of one thing.
    Endpoint {
        addresses: Option<Vec<String>>,
        conditions: EndpointConditions,
        hostname: Option<String>,
        target_ref: Option<Reference>,
        deprecated_topology: Option<BTreeMap<String, String>>,
        node_name: Option<String>,
        zone: Option<String>,
    }
    /// Of an endpoint.
    EndpointConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>, }
    /// An entrance.
    Ingress { metadata: Meta, spec: IngressSpec, }
    /// Of an entrance.
    IngressSpec {
        ingress_class_name: Option<String>,
        tls: Option<Vec<IngressTls>>,
        rules: Option<Vec<IngressRule>>,
    }
    /// Of an entrance.
    IngressTls { hosts: Option<Vec<String>>, }
    /// Of an entrance.
    IngressRule { host: String, http: Option<IngressPaths>, }
    /// Of an entrance.
    IngressPaths { paths: Option<Vec<IngressPath>>, }
    /// Of an entrance.
    IngressPath { path: Option<String>, }
    /// An object of which only its names matter.
    Named { metadata: Meta, }
}
