//! Groups of pushed families, and the check that a push contradicts nothing.

use exposition::{Family, Metric, MetricValue};
use model::{Builder, Labels, MetricType};
use std::collections::{BTreeMap, HashSet};

/// Pushed families of one grouping key.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// By name; every metric carries the grouping labels.
    pub families: BTreeMap<String, Family>,
    /// Unix seconds of the last push that was taken, 0 for never.
    pub pushed: f64,
    /// Unix seconds of the last push that was refused, 0 for never.
    pub failed: f64,
}

/// Why a push was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pushed metrics are invalid or inconsistent with existing metrics: {0}")]
pub struct Refusal(String);

/// All groups by grouping key.
#[derive(Debug, Default)]
pub struct Store {
    groups: BTreeMap<Labels, Group>,
    /// How many groups have a family of this name, and its type: what a push can contradict.
    kinds: BTreeMap<String, (MetricType, usize)>,
}

impl Store {
    /// Replaces the families of a group: all of them (PUT) or those of the same name (POST). A refused push changes
    /// only the group's failure time. O(size of the push and of its group).
    ///
    /// # Errors
    /// [`Refusal`] when the push contradicts itself or another group.
    pub fn push(&mut self, key: &Labels, families: Vec<Family>, replace_all: bool, now: f64) -> Result<(), Refusal> {
        let old = self.groups.get(key).cloned().unwrap_or_default();
        let mut next = if replace_all { BTreeMap::new() } else { old.families.clone() };
        let checked = families.into_iter().try_for_each(|family| {
            let family = self.checked(key, family, &old)?;
            next.insert(family.name.clone(), family);
            Ok(())
        });
        if let Err(refusal) = checked {
            self.groups.entry(key.clone()).or_default().failed = now;
            return Err(refusal);
        }
        self.forget_kinds(&old);
        for family in next.values() {
            self.kinds.entry(family.name.clone()).or_insert((family.kind, 0)).1 += 1;
        }
        self.groups.insert(key.clone(), Group { families: next, pushed: now, failed: old.failed });
        Ok(())
    }

    /// Removes a group.
    pub fn delete(&mut self, key: &Labels) {
        if let Some(group) = self.groups.remove(key) {
            self.forget_kinds(&group);
        }
    }

    /// The groups by key.
    pub fn groups(&self) -> &BTreeMap<Labels, Group> {
        &self.groups
    }

    /// All families with the push times, by name.
    pub fn gather(&self) -> Vec<Family> {
        let mut all: BTreeMap<&str, Family> = BTreeMap::new();
        let times: [(&str, &str, fn(&Group) -> f64); 2] = [
            ("push_time_seconds", "Last Unix time when changing this group in the Pushgateway succeeded.", |g| {
                g.pushed
            }),
            ("push_failure_time_seconds", "Last Unix time when changing this group in the Pushgateway failed.", |g| {
                g.failed
            }),
        ];
        for (key, group) in &self.groups {
            for family in group.families.values() {
                let into = all.entry(&family.name).or_insert_with(|| Family { metrics: Vec::new(), ..family.clone() });
                into.metrics.extend(family.metrics.iter().cloned());
            }
            for (name, help, value) in times {
                let into = all.entry(name).or_insert_with(|| Family::new(name, help, MetricType::Gauge));
                into.metrics.push(Metric {
                    labels: with_key(&Labels::empty(), key),
                    value: MetricValue::Gauge(value(group)),
                    at: None,
                });
            }
        }
        let mut families: Vec<Family> = all.into_values().collect();
        for family in &mut families {
            family.metrics.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        families
    }

    fn forget_kinds(&mut self, group: &Group) {
        for name in group.families.keys() {
            if let Some(kind) = self.kinds.get_mut(name) {
                kind.1 -= 1;
                if kind.1 == 0 {
                    self.kinds.remove(name);
                }
            }
        }
    }

    fn checked(&self, key: &Labels, mut family: Family, old: &Group) -> Result<Family, Refusal> {
        let mine = usize::from(old.families.contains_key(&family.name));
        match self.kinds.get(&family.name) {
            Some((kind, groups)) if *groups > mine && *kind != family.kind => {
                let (name, have, got) = (&family.name, kind.as_str(), family.kind.as_str());
                return Err(Refusal(format!("metric family {name:?} is {got} here and {have} in another group")));
            }
            _ => {}
        }
        let mut seen = HashSet::new();
        for metric in &mut family.metrics {
            if metric.at.is_some() {
                return Err(Refusal("pushed metrics must not have timestamps".into()));
            }
            metric.labels = with_key(&metric.labels, key);
            if metric.labels.iter().any(|(name, _)| name.starts_with("__")) {
                return Err(Refusal(format!("{} has a reserved label name", family.name)));
            }
            if !seen.insert(metric.labels.clone()) {
                return Err(Refusal(format!(
                    "{}{} was collected before with the same name and label values",
                    family.name, metric.labels
                )));
            }
        }
        Ok(family)
    }
}

/// Grouping labels win; `instance` is always there.
fn with_key(labels: &Labels, key: &Labels) -> Labels {
    let mut builder = Builder::from(labels);
    for (name, value) in key.iter() {
        builder.set(name, value);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families(text: &str) -> Vec<Family> {
        exposition::families::parse_text(text.as_bytes()).expect("valid")
    }

    fn shown(store: &Store) -> String {
        let mut out = Vec::new();
        exposition::write(&store.gather(), exposition::Format::Text004, exposition::Escaping::AllowUtf8, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn put_replaces_the_group_and_post_the_families() {
        let (mut store, key) = (Store::default(), Labels::from_pairs([("job", "j")]));
        store.push(&key, families("a{job=\"other\"} 1\nb 2\n"), true, 5.0).expect("taken");
        assert!(
            shown(&store).contains("a{job=\"j\"} 1\n") && shown(&store).contains("push_time_seconds{job=\"j\"} 5\n")
        );
        store.push(&key, families("a 3\n"), false, 6.0).expect("taken");
        assert!(shown(&store).contains("a{job=\"j\"} 3\n") && shown(&store).contains("b{job=\"j\"} 2\n"));
        store.push(&key, families("a 4\n"), true, 7.0).expect("taken");
        assert!(!shown(&store).contains("b{"));
        store.delete(&key);
        assert_eq!(shown(&store), "");
    }

    #[test]
    fn a_contradiction_is_refused_and_only_marked() {
        let key = |job: &str| Labels::from_pairs([("job", job)]);
        let mut store = Store::default();
        store.push(&key("a"), families("# TYPE x counter\nx 1\n"), true, 1.0).expect("taken");
        store.push(&key("b"), families("# TYPE x gauge\nx 1\n"), true, 2.0).expect_err("another type");
        store.push(&key("a"), families("x 1 1000\n"), true, 3.0).expect_err("a time");
        store.push(&key("a"), families("y 1\ny 2\n"), true, 4.0).expect_err("twice");
        assert!(
            shown(&store).contains("x{job=\"a\"} 1\n")
                && shown(&store).contains("push_failure_time_seconds{job=\"a\"} 4\n")
        );
        store.push(&key("a"), families("# TYPE x gauge\nx 1\n"), true, 5.0).expect("its own type may change");
        store.push(&key("b"), families("# TYPE x gauge\nx 1\n"), true, 6.0).expect("now it fits");
    }
}
