//! One change of the store as the journal keeps it. Format: `docs/format/pushgateway.md`.

use crate::{
    Group, Key, Store,
    graves::Graves,
    packed::{self, Corrupt, put_bytes, put_i64, take_bytes, take_i64, take_u8},
};
use std::{collections::BTreeMap, sync::Arc};

/// A change that happened. Reading it back changes a store the same way without asking whether it may.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// A push that was taken.
    Push { key: Key, at: i64, ttl: i64, replace: bool, families: Vec<u8> },
    /// A push that was refused.
    Failed { key: Key, at: i64 },
    /// A group was removed; when, if peers must learn of it, and else 0.
    Delete { key: Key, at: i64 },
    /// All groups were removed that did not change after `at`; all, if that is 0.
    Wipe { at: i64 },
    /// A group is as a peer has it.
    State { key: Key, group: Group },
}

const PUT: u8 = 1;
const POST: u8 = 2;
const FAILED: u8 = 3;
const DELETE: u8 = 4;
const WIPE: u8 = 5;
const DELETE_AT: u8 = 6;
const WIPE_AT: u8 = 7;
const STATE: u8 = 8;

impl Record {
    /// Appends the record.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Push { key, at, ttl, replace, families } => {
                out.push(if *replace { PUT } else { POST });
                put_bytes(out, key.packed());
                put_i64(out, *at);
                put_i64(out, *ttl);
                put_bytes(out, families);
            }
            Self::Failed { key, at } => {
                out.push(FAILED);
                put_bytes(out, key.packed());
                put_i64(out, *at);
            }
            Self::Delete { key, at } => {
                out.push(if *at > 0 { DELETE_AT } else { DELETE });
                put_bytes(out, key.packed());
                if *at > 0 {
                    put_i64(out, *at);
                }
            }
            Self::Wipe { at: 0 } => out.push(WIPE),
            Self::Wipe { at } => {
                out.push(WIPE_AT);
                put_i64(out, *at);
            }
            Self::State { key, group } => {
                out.push(STATE);
                put_group(out, key, group);
            }
        }
    }

    /// Reads a whole record.
    ///
    /// # Errors
    /// [`Corrupt`].
    pub(crate) fn take(mut from: &[u8]) -> Result<Self, Corrupt> {
        let kind = take_u8(&mut from)?;
        let mut key = || Key::from_packed(take_bytes(&mut from)?);
        let record = match kind {
            PUT | POST => {
                let key = key()?;
                let (at, ttl) = (take_i64(&mut from)?, take_i64(&mut from)?);
                let families = take_bytes(&mut from)?;
                packed::check_stored(families)?;
                Self::Push { key, at, ttl, replace: kind == PUT, families: families.to_vec() }
            }
            FAILED => Self::Failed { key: key()?, at: take_i64(&mut from)? },
            DELETE => Self::Delete { key: key()?, at: 0 },
            DELETE_AT => Self::Delete { key: key()?, at: take_i64(&mut from)? },
            WIPE => Self::Wipe { at: 0 },
            WIPE_AT => Self::Wipe { at: take_i64(&mut from)? },
            STATE => {
                let (key, group) = take_group(&mut from)?;
                Self::State { key, group }
            }
            _ => return Err(Corrupt),
        };
        if from.is_empty() { Ok(record) } else { Err(Corrupt) }
    }
}

/// Groups without an index: what recovery builds before a store is made of it, and what is remembered of deletions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Groups(pub(crate) BTreeMap<Key, Group>, pub(crate) Graves);

impl Groups {
    /// Does again what a record says.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Push { key, at, ttl, replace, families } => {
                self.1.set(&key, None);
                let group = self.0.entry(key).or_insert_with(|| Group::new(at));
                group.pushed = at;
                group.last_failed = false;
                group.ttl = ttl;
                group.families = if replace { families.into() } else { merged(&group.families, &families) };
            }
            Record::Failed { key, at } => {
                self.1.set(&key, None);
                let group = self.0.entry(key).or_insert_with(|| Group::new(at));
                group.failed = at;
                group.last_failed = true;
            }
            Record::Delete { key, at } => {
                self.0.remove(&key);
                self.1.set(&key, Some(at));
            }
            Record::Wipe { at: 0 } => self.0.clear(),
            Record::Wipe { at } => {
                self.0.retain(|_, group| group.changed() > at);
                self.1.wipe(at);
            }
            Record::State { key, group } => {
                self.1.set(&key, None);
                self.0.insert(key, group);
            }
        }
    }

    /// What a store has now.
    pub(crate) fn of(store: &Store) -> Self {
        Self(store.groups().clone(), store.graves().cloned().unwrap_or_default())
    }

    /// Puts all groups into a store.
    pub(crate) fn restore(self, store: &mut Store) {
        if store.graves().is_some() {
            store.keep_graves(self.1);
        }
        for (key, group) in self.0 {
            store.restore(&key, group);
        }
    }
}

fn merged(old: &[u8], new: &[u8]) -> Arc<[u8]> {
    let mut all: BTreeMap<&str, packed::Stored<'_>> = BTreeMap::new();
    all.extend(packed::stored(old).chain(packed::stored(new)).map(|stored| (stored.name, stored)));
    let mut out = Vec::with_capacity(old.len() + new.len());
    for stored in all.values() {
        packed::put_stored(&mut out, stored.at, stored.bytes);
    }
    out.into()
}

/// Appends a group with its key, as a snapshot keeps it.
pub(crate) fn put_group(out: &mut Vec<u8>, key: &Key, group: &Group) {
    put_bytes(out, key.packed());
    for number in [group.created, group.pushed, group.failed, group.ttl] {
        put_i64(out, number);
    }
    out.push(u8::from(group.last_failed));
    put_bytes(out, &group.families);
}

/// The group at the start of `from`.
///
/// # Errors
/// [`Corrupt`].
pub(crate) fn take_group(from: &mut &[u8]) -> Result<(Key, Group), Corrupt> {
    let key = Key::from_packed(take_bytes(from)?)?;
    let mut group = Group::new(take_i64(from)?);
    group.pushed = take_i64(from)?;
    group.failed = take_i64(from)?;
    group.ttl = take_i64(from)?;
    group.last_failed = take_u8(from)? != 0;
    let families = take_bytes(from)?;
    packed::check_stored(families)?;
    group.families = families.into();
    Ok((key, group))
}
