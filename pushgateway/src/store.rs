//! Groups of pushed families, and the check that a push contradicts nothing.
//!
//! The check asks an index by family name, so its cost is that of the push and of its group, whatever else is stored.
//! Verdicts are upstream's: one type a name, no series twice, no reserved label, no suffix of a histogram or summary.
//! What this module leaves out: locks, files and HTTP.

use crate::{
    Key,
    body::Body,
    change::{Change, Side, changes, merged, side, time_changes},
    graves::Graves,
    line,
    lines::Lines,
    own::Own,
    packed,
};
use exposition::{Family, MetricType};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

/// The name and help of the two gauges every group has.
pub(crate) const TIMES: [(&str, &str); 2] = [
    ("push_failure_time_seconds", "Last Unix time when changing this group in the Pushgateway failed."),
    ("push_time_seconds", "Last Unix time when changing this group in the Pushgateway succeeded."),
];

/// Pushed families of one grouping key.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// When the group came to be, in milliseconds since 1970.
    pub created: i64,
    /// The last push that was taken; 0 for never.
    pub pushed: i64,
    /// The last push that was refused; 0 for never.
    pub failed: i64,
    /// Whether the very last push was refused.
    pub last_failed: bool,
    /// Life after the last push in milliseconds; 0 for no end.
    pub ttl: i64,
    /// Packed families in order of their names.
    pub(crate) families: Arc<[u8]>,
}

impl Group {
    pub(crate) fn new(created: i64) -> Self {
        Self { created, pushed: 0, failed: 0, last_failed: false, ttl: 0, families: Arc::from([]) }
    }

    /// The families with the time of their push in milliseconds since 1970, in order of their names.
    pub fn families(&self) -> impl Iterator<Item = (i64, Family)> {
        packed::stored(&self.families).filter_map(|stored| Some((stored.at, stored.family().ok()?)))
    }

    /// When the group is to be forgotten, in milliseconds since 1970.
    pub fn expires(&self) -> Option<i64> {
        (self.ttl > 0).then(|| self.pushed.max(self.created).saturating_add(self.ttl))
    }

    /// When the group changed last, in milliseconds since 1970: which of two states of it is the newer one.
    pub(crate) fn changed(&self) -> i64 {
        self.created.max(self.pushed).max(self.failed)
    }

    fn bytes(&self) -> usize {
        self.families.len()
    }
}

/// Why a push was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pushed metrics are invalid or inconsistent with existing metrics: {0}")]
pub struct Refusal(pub(crate) String);

/// A family ready to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    name: Arc<str>,
    help: String,
    kind: MetricType,
    pub(crate) packed: Vec<u8>,
    entries: Vec<Vec<u8>>,
}

/// A push whose body was found good in itself.
#[derive(Clone, Debug)]
pub(crate) struct Push {
    pub(crate) key: Key,
    /// By name.
    pub(crate) families: BTreeMap<Arc<str>, Prepared>,
    /// What makes it contradict itself: the push only leaves a mark then.
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
enum Fault {
    /// Refused even when nothing is checked.
    Time,
    Inconsistent(Refusal),
}

impl Push {
    /// Renders and packs the families of a body. Of a name given twice the last family stays. O(body).
    pub(crate) fn new(key: Key, body: Body) -> Self {
        let fault = body.mismatch.map(|why| Fault::Inconsistent(Refusal(why)));
        let mut push = Self { key, families: BTreeMap::new(), fault };
        for family in body.families {
            if TIMES.iter().any(|(name, _)| *name == family.name) {
                continue;
            }
            let prepared = prepare(&push.key, &family);
            push.families.insert(prepared.name.clone(), prepared);
            let fault = inspect(&push.key, &family);
            match (&push.fault, fault) {
                (None, fault) | (Some(Fault::Inconsistent(_)), fault @ Some(Fault::Time)) => push.fault = fault,
                _ => {}
            }
        }
        push
    }

    /// Packed families, each with its time.
    pub(crate) fn packed(&self, at: i64) -> Vec<u8> {
        let mut out = Vec::new();
        for family in self.families.values() {
            packed::put_stored(&mut out, at, &family.packed);
        }
        out
    }

    pub(crate) fn samples(&self) -> usize {
        self.families.values().map(|family| family.entries.len()).sum()
    }
}

fn prepare(key: &Key, family: &Family) -> Prepared {
    let mut packed = Vec::new();
    packed::put_family(&mut packed, family);
    Prepared {
        name: family.name.as_str().into(),
        help: family.help.clone(),
        kind: family.kind,
        packed,
        entries: entries(key, family),
    }
}

/// The entries of a family in order.
pub(crate) fn entries(key: &Key, family: &Family) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = family
        .metrics
        .iter()
        .map(|metric| line::entry(family, metric, &line::exposed(metric.labels.iter(), key)))
        .collect();
    all.sort_by(|left, right| line::order(left, right));
    all
}

fn inspect(key: &Key, family: &Family) -> Option<Fault> {
    if family.metrics.iter().any(|metric| metric.at.is_some()) {
        return Some(Fault::Time);
    }
    let bad = |why: String| Some(Fault::Inconsistent(Refusal(why)));
    for metric in &family.metrics {
        for (name, _) in metric.labels.iter() {
            if name.starts_with("__") {
                let shown = shown(&line::exposed(metric.labels.iter(), key));
                let name_of = &family.name;
                return bad(format!("collected metric {name_of:?} {shown} has a label with an invalid name: {name}"));
            }
            if name == "quantile" && family.kind == MetricType::Summary {
                let shown = shown(&line::exposed(metric.labels.iter(), key));
                let name_of = &family.name;
                return bad(format!(
                    "collected metric {name_of:?} {shown} must not have an explicit \"quantile\" label"
                ));
            }
        }
    }
    None
}

/// Labels as upstream's messages print them.
fn shown(labels: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("label:{{name:{name:?} value:{value:?}}}")).collect();
    format!("{{ {} }}", pairs.join(" "))
}

fn twice(name: &str, entry: &[u8]) -> Refusal {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let labels: Vec<String> = line::Pairs::of(entry)
        .map(|(name, value)| format!("label:{{name:\"{}\" value:\"{}\"}}", text(name), text(value)))
        .collect();
    let labels = labels.join(" ");
    Refusal(format!(
        "collected metric {name:?} {{ {labels} }} was collected before with the same name and label values"
    ))
}

/// All entries of one family name.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub(crate) kind: MetricType,
    /// HELP texts of the groups and how many have each; the oldest is shown.
    helps: Vec<(Box<str>, u32)>,
    groups: u32,
    pub(crate) lines: Lines,
}

impl Indexed {
    pub(crate) fn help(&self) -> &str {
        self.helps.first().map_or("", |(help, _)| help)
    }

    fn add_help(&mut self, help: &str) {
        match self.helps.iter_mut().find(|(have, _)| **have == *help) {
            Some((_, count)) => *count += 1,
            None => self.helps.push((help.into(), 1)),
        }
    }

    fn drop_help(&mut self, help: &str) {
        if let Some(at) = self.helps.iter().position(|(have, _)| **have == *help) {
            self.helps[at].1 -= 1;
            if self.helps[at].1 == 0 {
                self.helps.remove(at);
            }
        }
    }
}

/// How to take a change back.
#[derive(Debug)]
pub(crate) enum Undo {
    /// Of one group, with the time of its deletion as it was remembered.
    Group { key: Key, before: Option<Group>, grave: Option<i64> },
    /// Of what is remembered of deletions.
    Graves(Graves),
}

/// All groups by grouping key.
#[derive(Debug, Default)]
pub struct Store {
    groups: BTreeMap<Key, Group>,
    index: BTreeMap<Arc<str>, Indexed>,
    /// Groups taken unchecked that contradict others: they are in no index, and a scrape fails while there is one.
    parked: BTreeMap<Key, Refusal>,
    own: Own,
    bytes: usize,
    /// What peers must learn of deletions; `None` where there are none.
    graves: Option<Graves>,
}

impl Store {
    /// No groups; `own` names what the gateway exposes of itself.
    pub(crate) fn new(own: Own) -> Self {
        Self { own, ..Self::default() }
    }

    /// The groups by key.
    pub fn groups(&self) -> &BTreeMap<Key, Group> {
        &self.groups
    }

    /// Bytes of the packed families of all groups.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Families by name, for a scrape.
    pub(crate) fn index(&self) -> &BTreeMap<Arc<str>, Indexed> {
        &self.index
    }

    /// Replaces the families of a group: all of them (PUT) or those of the same name (POST). A refused push changes only
    /// the group's failure time. O(push and its group, times log of what is stored).
    pub(crate) fn push(
        &mut self,
        push: &Push,
        replace: bool,
        checked: bool,
        ttl: Option<i64>,
        at: i64,
    ) -> (Result<(), Refusal>, Option<Undo>) {
        match &push.fault {
            Some(Fault::Time) => {
                let refusal = Refusal("pushed metrics must not have timestamps".into());
                return (Err(refusal), self.mark_failed(&push.key, at));
            }
            Some(Fault::Inconsistent(refusal)) if checked => {
                return (Err(refusal.clone()), self.mark_failed(&push.key, at));
            }
            _ => {}
        }
        let before = self.groups.get(&push.key).cloned();
        let mut next = before.clone().unwrap_or_else(|| Group::new(at));
        next.pushed = at;
        next.last_failed = false;
        next.ttl = ttl.unwrap_or(0);
        next.families = merged(push, &next.families, replace, at);
        let changes = self.push_changes(push, before.as_ref(), &next, replace);
        let verdict = match &push.fault {
            Some(Fault::Inconsistent(refusal)) => Err(refusal.clone()),
            _ => self.check(&changes),
        };
        match verdict {
            Err(refusal) if checked => return (Err(refusal), self.mark_failed(&push.key, at)),
            Err(refusal) => self.park(&push.key, next, refusal),
            Ok(()) if self.parked.contains_key(&push.key) => self.replace(&push.key, Some(next)),
            Ok(()) => {
                self.apply(changes);
                self.set_group(&push.key, Some(next));
            }
        }
        self.unpark();
        (Ok(()), Some(self.undo_of(&push.key, before)))
    }

    /// Remembers deletions from now on.
    pub(crate) fn keep_graves(&mut self, graves: Graves) {
        self.graves = Some(graves);
    }

    /// What is remembered of deletions.
    pub(crate) fn graves(&self) -> Option<&Graves> {
        self.graves.as_ref()
    }

    /// When a group changed last or was deleted, in milliseconds since 1970; 0 when nothing is known of it.
    pub(crate) fn changed(&self, key: &Key) -> i64 {
        let grave = self.graves.as_ref().map_or(0, |graves| graves.of(key));
        self.groups.get(key).map_or(grave, |group| group.changed().max(grave))
    }

    /// Makes a group be as a peer has it. Refused when that contradicts other groups.
    pub(crate) fn put(&mut self, key: &Key, group: Group, checked: bool) -> Result<Undo, Refusal> {
        let before = self.groups.get(key).cloned();
        let shown = before.as_ref().filter(|_| !self.parked.contains_key(key));
        match self.check(&changes(key, shown, Some(&group))) {
            Err(refusal) if checked => return Err(refusal),
            Err(refusal) => self.park(key, group, refusal),
            Ok(()) => self.replace(key, Some(group)),
        }
        self.unpark();
        Ok(self.undo_of(key, before))
    }

    /// A group is there again, so that its deletion need not be remembered.
    fn undo_of(&mut self, key: &Key, before: Option<Group>) -> Undo {
        let grave = self.graves.as_mut().and_then(|graves| graves.set(key, None));
        Undo::Group { key: key.clone(), before, grave }
    }

    /// Notes that a push of this group was refused.
    pub(crate) fn mark_failed(&mut self, key: &Key, at: i64) -> Option<Undo> {
        let before = self.groups.get(key).cloned();
        let mut next = before.clone().unwrap_or_else(|| Group::new(at));
        next.failed = at;
        next.last_failed = true;
        if before.is_none() {
            // Keys that differ but expose the same labels (an empty instance or none) cannot both be shown.
            let changes = changes(key, None, Some(&next));
            if self.check(&changes).is_err() {
                return None;
            }
        }
        self.replace(key, Some(next));
        Some(self.undo_of(key, before))
    }

    /// Removes a group; `at` is when, for peers.
    pub(crate) fn delete(&mut self, key: &Key, at: i64) -> Option<Undo> {
        let before = self.groups.get(key).cloned();
        let grave = self.graves.as_mut().map(|graves| graves.set(key, Some(at)));
        if before.is_none() && grave.is_none() {
            return None;
        }
        if before.is_some() {
            self.replace(key, None);
            self.unpark();
        }
        Some(Undo::Group { key: key.clone(), before, grave: grave.flatten() })
    }

    /// Removes all groups that did not change after `until`. O(groups).
    pub(crate) fn wipe(&mut self, until: i64) -> Vec<Undo> {
        let mut undo: Vec<Undo> = self.graves.iter().map(|graves| Undo::Graves(graves.clone())).collect();
        let keys = self.groups.iter().filter(|(_, group)| group.changed() <= until).map(|(key, _)| key.clone());
        let keys: Vec<Key> = keys.collect();
        for key in keys {
            let before = self.groups.get(&key).cloned();
            self.replace(&key, None);
            undo.push(Undo::Group { key, before, grave: None });
        }
        self.unpark();
        if let Some(graves) = &mut self.graves {
            graves.wipe(until);
        }
        undo
    }

    /// Takes a change back. Changes are undone last first.
    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Graves(graves) => self.graves = Some(graves),
            Undo::Group { key, before, grave } => {
                self.replace(&key, before);
                self.unpark();
                if let Some(graves) = &mut self.graves {
                    graves.set(&key, grave);
                }
            }
        }
    }

    /// Puts a group as it was kept in a file; one that contradicts others is parked.
    pub(crate) fn restore(&mut self, key: &Key, group: Group) {
        let changes = changes(key, None, Some(&group));
        match self.check(&changes) {
            Ok(()) => {
                self.apply(changes);
                self.set_group(key, Some(group));
            }
            Err(refusal) => self.park(key, group, refusal),
        }
    }

    /// What makes a scrape impossible: only pushes that were not checked can.
    pub(crate) fn conflict(&self) -> Option<&Refusal> {
        self.parked.values().next()
    }

    /// Makes a group be `next`, whatever it was. Whoever calls has checked it, or knows that it was there before.
    fn replace(&mut self, key: &Key, next: Option<Group>) {
        let was_parked = self.parked.remove(key).is_some();
        let old = if was_parked { None } else { self.groups.get(key) };
        if !was_parked && self.parked.is_empty() {
            let changes = changes(key, old, next.as_ref());
            self.apply(changes);
            return self.set_group(key, next);
        }
        // Among parked groups nothing is certain: out first, and in again like a new one.
        let changes = changes(key, old, None);
        self.apply(changes);
        self.set_group(key, None);
        if let Some(next) = next {
            self.restore(key, next);
        }
    }

    fn set_group(&mut self, key: &Key, next: Option<Group>) {
        let added = next.as_ref().map_or(0, Group::bytes);
        let old = match next {
            Some(group) => self.groups.insert(key.clone(), group),
            None => self.groups.remove(key),
        };
        self.bytes = self.bytes + added - old.as_ref().map_or(0, Group::bytes);
    }

    fn park(&mut self, key: &Key, group: Group, refusal: Refusal) {
        if self.parked.insert(key.clone(), refusal).is_none() {
            self.apply(changes(key, self.groups.get(key), None));
        }
        self.set_group(key, Some(group));
    }

    /// Lets parked groups in whose contradiction is gone. O(parked groups), of which checked pushes make none.
    fn unpark(&mut self) {
        let keys: Vec<Key> = self.parked.keys().cloned().collect();
        for key in keys {
            let group = self.groups.get(&key);
            let faulty =
                group.is_some_and(|group| group.families().any(|(_, family)| inspect(&key, &family).is_some()));
            let changes = changes(&key, None, group);
            if !faulty && self.check(&changes).is_ok() {
                self.parked.remove(&key);
                self.apply(changes);
            }
        }
    }

    fn push_changes(&self, push: &Push, before: Option<&Group>, next: &Group, replace: bool) -> Vec<Change> {
        let before = before.filter(|_| !self.parked.contains_key(&push.key));
        let mut changes = time_changes(&push.key, before, Some(next));
        let mut old: BTreeMap<&str, packed::Stored<'_>> = BTreeMap::new();
        if let Some(before) = before {
            old.extend(packed::stored(&before.families).map(|stored| (stored.name, stored)));
        }
        for (name, family) in &push.families {
            let old = old.remove(&**name);
            if old.is_some_and(|old| old.bytes == family.packed) {
                continue;
            }
            let new = Side { kind: family.kind, help: family.help.clone(), entries: family.entries.clone() };
            let old = old.and_then(|old| side(&push.key, &old));
            changes.push(Change { name: name.clone(), old, new: Some(new) });
        }
        if replace {
            let gone = old.values().map(|old| Change { name: old.name.into(), old: side(&push.key, old), new: None });
            changes.extend(gone);
        }
        changes
    }

    /// Whether what is new contradicts what stays.
    fn check(&self, changes: &[Change]) -> Result<(), Refusal> {
        let changed: BTreeMap<&str, &Change> = changes.iter().map(|change| (&*change.name, change)).collect();
        let after = |name: &str| -> Option<MetricType> {
            let change = changed.get(name);
            if let Some(new) = change.and_then(|change| change.new.as_ref()) {
                return Some(new.kind);
            }
            let mine = u32::from(change.is_some_and(|change| change.old.is_some()));
            let others = self.index.get(name).filter(|indexed| indexed.groups > mine);
            others.map(|indexed| indexed.kind).or_else(|| self.own.kind(name))
        };
        for change in changes {
            let Some(new) = &change.new else { continue };
            let name = &*change.name;
            let mine = u32::from(change.old.is_some());
            let indexed = self.index.get(name);
            let have = indexed.filter(|indexed| indexed.groups > mine).map(|indexed| indexed.kind);
            if let Some(kind) = have.or_else(|| self.own.kind(name)).filter(|kind| *kind != new.kind) {
                let labels = new.entries.first().map(|entry| line::Pairs::of(entry));
                let labels: Vec<String> = labels
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| {
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        format!("label:{{name:\"{}\" value:\"{}\"}}", text(name), text(value))
                    })
                    .collect();
                let labels = labels.join(" ");
                let kind = upper(kind);
                return Err(Refusal(format!("collected metric {name:?} {{ {labels} }} is not a {kind}")));
            }
            collisions(name, new.kind, &after)?;
            for pair in new.entries.windows(2) {
                if line::order(&pair[0], &pair[1]).is_eq() {
                    return Err(twice(name, &pair[1]));
                }
            }
            let old = change.old.as_ref().map_or(&[][..], |old| &old.entries);
            let is_old = |entry: &[u8]| old.binary_search_by(|have| line::order(have, entry)).is_ok();
            if let Some(entry) = new
                .entries
                .iter()
                .find(|entry| indexed.is_some_and(|indexed| indexed.lines.contains(entry)) && !is_old(entry))
            {
                return Err(twice(name, entry));
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for Change { name, old, new } in changes {
            let mut place = match self.index.entry(name) {
                Entry::Occupied(place) => place,
                Entry::Vacant(place) => {
                    let Some(new) = &new else { continue };
                    let lines = Lines::default();
                    place.insert_entry(Indexed { kind: new.kind, helps: Vec::new(), groups: 0, lines })
                }
            };
            let indexed = place.get_mut();
            if let Some(old) = &old {
                indexed.groups = indexed.groups.saturating_sub(1);
                let stays: &[Vec<u8>] = new.as_ref().map_or(&[], |new| &new.entries);
                for entry in &old.entries {
                    if stays.binary_search_by(|have| line::order(have, entry)).is_err() {
                        indexed.lines.remove(entry);
                    }
                }
            }
            if let Some(new) = &new {
                indexed.groups += 1;
                indexed.kind = new.kind;
                indexed.add_help(&new.help);
                for entry in &new.entries {
                    indexed.lines.set(entry);
                }
            }
            if let Some(old) = &old {
                indexed.drop_help(&old.help);
            }
            if indexed.groups == 0 {
                place.remove();
            }
        }
    }
}

/// Upstream's word for a type in messages and in its JSON.
pub(crate) fn upper(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "COUNTER",
        MetricType::Gauge => "GAUGE",
        MetricType::Summary => "SUMMARY",
        MetricType::Histogram => "HISTOGRAM",
        MetricType::GaugeHistogram => "GAUGE_HISTOGRAM",
        _ => "UNTYPED",
    }
}

/// Names that would be read as series of another family.
fn collisions(name: &str, kind: MetricType, after: &dyn Fn(&str) -> Option<MetricType>) -> Result<(), Refusal> {
    for suffix in ["_count", "_sum", "_bucket"] {
        let Some(base) = name.strip_suffix(suffix) else { continue };
        let what = match after(base) {
            Some(MetricType::Histogram) => "histogram",
            Some(MetricType::Summary) if suffix != "_bucket" => "summary",
            _ => continue,
        };
        let text = format!("collected metric named {name:?} collides with previously collected {what} named {base:?}");
        return Err(Refusal(text));
    }
    let suffixes: &[&str] = match kind {
        MetricType::Histogram => &["_count", "_sum", "_bucket"],
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    for suffix in suffixes {
        let other = format!("{name}{suffix}");
        if after(&other).is_some() {
            return Err(Refusal(format!(
                "collected histogram or summary named {name:?} collides with previously collected metric named {other:?}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
