//! What a change of a group does to each family name: the step between groups as they are packed and the index.

use crate::{
    Group, Key, line, packed,
    store::{Push, TIMES, entries},
};
use exposition::MetricType;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// One family of one group going into or out of the index.
pub(crate) struct Side {
    pub(crate) kind: MetricType,
    pub(crate) help: String,
    pub(crate) entries: Vec<Vec<u8>>,
}

/// What happens to one family name when a group changes.
pub(crate) struct Change {
    pub(crate) name: Arc<str>,
    pub(crate) old: Option<Side>,
    pub(crate) new: Option<Side>,
}

pub(crate) fn side(key: &Key, stored: &packed::Stored<'_>) -> Option<Side> {
    let family = stored.family().ok()?;
    Some(Side { kind: family.kind, entries: entries(key, &family), help: family.help })
}

/// The packed families of a group after a push.
pub(crate) fn merged(push: &Push, old: &[u8], replace: bool, at: i64) -> Arc<[u8]> {
    let mut all: BTreeMap<&str, (i64, &[u8])> = BTreeMap::new();
    if !replace {
        all.extend(packed::stored(old).map(|stored| (stored.name, (stored.at, stored.bytes))));
    }
    all.extend(push.families.iter().map(|(name, family)| (&**name, (at, &family.packed[..]))));
    let mut out = Vec::new();
    for (at, bytes) in all.values() {
        packed::put_stored(&mut out, *at, bytes);
    }
    out.into()
}

/// What happens to the two times of a group.
pub(crate) fn time_changes(key: &Key, old: Option<&Group>, new: Option<&Group>) -> Vec<Change> {
    let labels = line::exposed(std::iter::empty(), key);
    let times = |group: &Group| [group.failed, group.pushed];
    let mut changes = Vec::with_capacity(8);
    for (i, (name, help)) in TIMES.into_iter().enumerate() {
        let side = |group: &Group| {
            let entry = line::gauge_entry(name, &labels, times(group)[i] as f64 / 1000.0);
            Side { kind: MetricType::Gauge, help: help.into(), entries: vec![entry] }
        };
        if old.map(|old| times(old)[i]) != new.map(|new| times(new)[i]) {
            changes.push(Change { name: name.into(), old: old.map(side), new: new.map(side) });
        }
    }
    changes
}

/// What it takes to make one state of a group from another.
pub(crate) fn changes(key: &Key, old: Option<&Group>, new: Option<&Group>) -> Vec<Change> {
    let mut changes = time_changes(key, old, new);
    let by_name = |group: Option<&Group>| -> BTreeMap<String, Vec<u8>> {
        let stored = group.into_iter().flat_map(|group| packed::stored(&group.families));
        stored.map(|stored| (stored.name.to_owned(), stored.bytes.to_vec())).collect()
    };
    if old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(&old.families, &new.families)) {
        return changes;
    }
    let (old, new) = (by_name(old), by_name(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (old, new) = (old.get(name), new.get(name));
        if old != new {
            let make = |bytes: Option<&Vec<u8>>| side(key, &packed::Stored { name, at: 0, bytes: bytes? });
            changes.push(Change { name: name.as_str().into(), old: make(old), new: make(new) });
        }
    }
    changes
}
