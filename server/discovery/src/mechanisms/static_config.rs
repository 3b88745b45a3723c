//! Targets written into the configuration itself.

use crate::{
    Context, Group,
    groups::Written,
    mechanism::{Key, Mechanism, MetaLabel, key},
};
use metrics::Registry;
use runtime::Clock;
use serde::Deserialize;
use std::path::Path;

/// One entry of `static_configs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Config(Written);

impl Mechanism for Config {
    const KEY: &'static str = "static_configs";
    const SUMMARY: &'static str = "Targets listed in the configuration.";
    const KEYS: &'static [Key] = &[
        key("targets", "none", "Addresses, `host:port`."),
        key("labels", "none", "Labels of all targets of the entry."),
    ];
    const LABELS: &'static [MetaLabel] = &[];
    const CLIENT: bool = false;
    type Metrics = ();

    fn metrics(_: &Registry, _: &Clock) {}

    fn check(&mut self, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn fixed(&self, place: usize) -> Option<Group> {
        Some(self.0.group(place.to_string(), &[]))
    }

    async fn run(self, _: Context, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    #[test]
    fn each_address_becomes_a_target_and_labels_stay_with_the_group() {
        let config: Config = serde_saphyr::from_str("{targets: ['a:1', 'b:2'], labels: {env: test}}").expect("valid");
        let group = config.fixed(3).expect("fixed");
        assert_eq!(group.source, "3");
        assert_eq!(group.targets[1], Labels::from_pairs([("__address__", "b:2")]));
        assert_eq!(group.labels.get("env"), Some("test"));
    }
}
