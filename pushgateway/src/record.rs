//! One change of the store as the journal keeps it. Format: `docs/format/pushgateway.md`.

use crate::{
    Group, Key, Store,
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
    /// A group was removed.
    Delete { key: Key },
    /// All groups were removed.
    Wipe,
}

const PUT: u8 = 1;
const POST: u8 = 2;
const FAILED: u8 = 3;
const DELETE: u8 = 4;
const WIPE: u8 = 5;

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
            Self::Delete { key } => {
                out.push(DELETE);
                put_bytes(out, key.packed());
            }
            Self::Wipe => out.push(WIPE),
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
            DELETE => Self::Delete { key: key()? },
            WIPE => Self::Wipe,
            _ => return Err(Corrupt),
        };
        if from.is_empty() { Ok(record) } else { Err(Corrupt) }
    }
}

/// Groups without an index: what recovery builds before a store is made of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Groups(pub(crate) BTreeMap<Key, Group>);

impl Groups {
    /// Does again what a record says.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Push { key, at, ttl, replace, families } => {
                let group = self.0.entry(key).or_insert_with(|| Group::new(at));
                group.pushed = at;
                group.last_failed = false;
                group.ttl = ttl;
                group.families = if replace { families.into() } else { merged(&group.families, &families) };
            }
            Record::Failed { key, at } => {
                let group = self.0.entry(key).or_insert_with(|| Group::new(at));
                group.failed = at;
                group.last_failed = true;
            }
            Record::Delete { key } => drop(self.0.remove(&key)),
            Record::Wipe => self.0.clear(),
        }
    }

    /// Puts all groups into a store.
    pub(crate) fn restore(self, store: &mut Store) {
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
