//! Groups of targets: what mechanisms yield, how they are written in files and answers, and what is known so far.

use model::Labels;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

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

/// A group as a person or a service writes it: addresses, and labels of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    pub(crate) targets: Option<Vec<String>>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

impl Written {
    /// The group, with labels that the mechanism adds.
    pub(crate) fn group(&self, source: String, added: &[(&str, &str)]) -> Group {
        let targets = self.targets.iter().flatten();
        let own = self.labels.iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()));
        Group {
            source,
            targets: targets.map(|address| Labels::from_pairs([("__address__", address)])).collect(),
            labels: Labels::from_pairs(own.chain(added.iter().copied())),
        }
    }
}

/// Groups of a list of written ones; `whence` names the list, `added` are labels of each.
///
/// # Errors
/// An item that is null, in upstream's words.
pub(crate) fn listed(items: &[Option<Written>], whence: &str, added: &[(&str, &str)]) -> Result<Vec<Group>, String> {
    let group = |(i, item): (usize, &Option<Written>)| match item {
        Some(written) => Ok(written.group(format!("{whence}:{i}"), added)),
        None => Err(format!("nil target group item found (index {i})")),
    };
    items.iter().enumerate().map(group).collect()
}

/// The groups of one running mechanism, by source.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<String, Arc<Group>>);

impl Table {
    /// Each group replaces the one of its source, an empty one removes it; true when something changed. O(groups log n).
    pub(crate) fn merge(&mut self, groups: Vec<Group>) -> bool {
        let mut changed = false;
        for group in groups {
            if group.targets.is_empty() {
                changed |= self.0.remove(&group.source).is_some();
            } else if self.0.get(&group.source).is_none_or(|have| **have != group) {
                self.0.insert(group.source.clone(), Arc::new(group));
                changed = true;
            }
        }
        changed
    }

    /// As [`Table::merge`], and sources that are not named are removed.
    pub(crate) fn replace(&mut self, groups: Vec<Group>) -> bool {
        let named: HashSet<&str> = groups.iter().map(|group| group.source.as_str()).collect();
        let before = self.0.len();
        self.0.retain(|source, _| named.contains(source.as_str()));
        let fewer = self.0.len() < before;
        drop(named);
        self.merge(groups) || fewer
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(source: &str, addresses: &[&str]) -> Group {
        let written = Written { targets: Some(addresses.iter().map(|one| (*one).to_owned()).collect()), labels: None };
        written.group(source.into(), &[("l", source)])
    }

    fn sources(table: &Table) -> String {
        table.groups().map(|group| format!("{}{}", group.source, group.targets.len())).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn groups_replace_and_remove_those_of_their_source() {
        let mut table = Table::default();
        assert!(table.merge(vec![group("a", &["1", "2"]), group("b", &["3"]), group("c", &[])]));
        assert_eq!(sources(&table), "a2 b1");
        assert!(!table.merge(vec![group("a", &["1", "2"]), group("c", &[])]));
        assert!(table.merge(vec![group("b", &[])]));
        assert_eq!(sources(&table), "a2");
        assert!(table.replace(vec![group("b", &["3"]), group("c", &["4"])]));
        assert_eq!(sources(&table), "b1 c1");
        assert!(!table.replace(vec![group("b", &["3"]), group("c", &["4"])]));
        assert!(table.replace(vec![group("b", &["3"])]));
        assert_eq!(sources(&table), "b1");
    }

    #[test]
    fn a_null_item_is_refused_and_own_labels_lose_to_the_mechanisms() {
        let labels = BTreeMap::from([("__meta_url".to_owned(), "x".to_owned()), ("env".to_owned(), "p".to_owned())]);
        let written = Written { targets: Some(vec!["h:1".into()]), labels: Some(labels) };
        let groups = listed(&[Some(written)], "f", &[("__meta_url", "u")]).expect("no null");
        assert_eq!(
            (groups[0].source.as_str(), groups[0].labels.to_string()),
            ("f:0", "{__meta_url=\"u\", env=\"p\"}".to_owned())
        );
        let refused = listed(&[Some(Written::default()), None], "f", &[]);
        assert_eq!(refused, Err("nil target group item found (index 1)".into()));
    }
}
