//! Finding targets: the contract and its mechanisms.
//!
//! A mechanism turns its part of the configuration into groups of targets. Adding one is a file in `mechanisms/` and a
//! line in the list there: the file says its key, how its part is read and checked, what the reference shows of it, and
//! how it finds targets ([`Mechanism`]). [`Configs`] reads the keys of all mechanisms where they stand among those of a
//! job, and [`Manager`] runs what they ask for. What this crate leaves out: relabelling and scraping, which belong to
//! whoever asked.

mod configs;
mod context;
mod counters;
mod groups;
mod manager;
mod mechanism;
mod mechanisms;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod testing;
mod values;

pub use configs::{Configs, Refused};
pub(crate) use context::Context;
pub use groups::Group;
pub use manager::{Deliver, Environment, Manager};
pub use mechanism::{Description, Key, MetaLabel};
pub use mechanisms::BUILT;
pub use values::{Span, Unbuilt};

/// Every key of upstream's 3.x configuration under which targets are discovered.
pub const UPSTREAM_KEYS: &[&str] = &[
    "static_configs",
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "elasticache_sd_configs",
    "eureka_sd_configs",
    "file_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "http_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "msk_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "rds_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// Whether upstream knows `key` and this build does not.
pub fn is_unbuilt(key: &str) -> bool {
    UPSTREAM_KEYS.contains(&key) && !BUILT.iter().any(|mechanism| mechanism.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unbuilt_is_what_upstream_knows_and_we_lack() {
        assert!(is_unbuilt("consul_sd_configs"));
        assert!(!is_unbuilt("static_configs"));
        assert!(!is_unbuilt("statik_configs"));
    }

    #[test]
    fn every_built_mechanism_has_an_upstream_key() {
        assert!(BUILT.iter().all(|mechanism| UPSTREAM_KEYS.contains(&mechanism.key)));
    }
}
