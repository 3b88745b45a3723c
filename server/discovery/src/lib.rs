//! Finding targets: the contract and its mechanisms.
//!
//! A mechanism turns its part of the configuration into groups of targets. Adding one is a file in `mechanisms/` and a
//! line in the list there. What this crate leaves out: relabelling and scraping, which belong to whoever asked.

mod mechanisms;

pub use mechanisms::{BUILT, static_config::StaticConfig};

use model::Labels;

/// Targets that one source names together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Names the source within its mechanism; a new group of the same source replaces the old one.
    pub source: String,
    /// The labels of each target; `__address__` says where it is.
    pub targets: Vec<Labels>,
    /// Labels that every target has unless it sets them itself.
    pub labels: Labels,
}

/// A way to find targets whose answer does not change until the configuration does.
pub trait Fixed {
    /// The groups; `place` is the position in the list of the configuration.
    fn groups(&self, place: usize) -> Group;
}

/// A mechanism that this build has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanism {
    /// Its key in a scrape configuration.
    pub key: &'static str,
    /// One sentence for the reference.
    pub summary: &'static str,
}

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
        assert!(is_unbuilt("kubernetes_sd_configs"));
        assert!(!is_unbuilt("static_configs"));
        assert!(!is_unbuilt("statik_configs"));
    }

    #[test]
    fn every_built_mechanism_has_an_upstream_key() {
        assert!(BUILT.iter().all(|mechanism| UPSTREAM_KEYS.contains(&mechanism.key)));
    }
}
