//! Targets written into the configuration itself.

use crate::{Fixed, Group, Mechanism};
use model::Labels;
use serde::Deserialize;
use std::collections::BTreeMap;

pub(crate) const MECHANISM: Mechanism =
    Mechanism { key: "static_configs", summary: "Targets listed in the configuration." };

/// One entry of `static_configs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticConfig {
    /// Addresses, `host:port`.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: BTreeMap<String, String>,
}

impl Fixed for StaticConfig {
    fn groups(&self, place: usize) -> Group {
        Group {
            source: place.to_string(),
            targets: self.targets.iter().map(|address| Labels::from_pairs([("__address__", address)])).collect(),
            labels: Labels::from_pairs(&self.labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_becomes_a_target_and_labels_stay_with_the_group() {
        let config = StaticConfig {
            targets: vec!["a:1".into(), "b:2".into()],
            labels: BTreeMap::from([("env".to_owned(), "test".to_owned())]),
        };
        let group = config.groups(3);
        assert_eq!(group.source, "3");
        assert_eq!(group.targets[1], Labels::from_pairs([("__address__", "b:2")]));
        assert_eq!(group.labels.get("env"), Some("test"));
    }
}
