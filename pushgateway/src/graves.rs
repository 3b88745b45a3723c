//! When groups were deleted: what a peer must learn that still has them. Kept only where there are peers.

use crate::Key;
use std::collections::BTreeMap;

/// Deletions remembered at most; the oldest are forgotten first, and then a peer that was away may bring a group back.
const GRAVES_MAX: usize = 100_000;

/// Times of deletions, in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Graves {
    by_key: BTreeMap<Key, i64>,
    /// Everything that changed last at or before this is gone.
    wiped: i64,
}

impl Graves {
    /// When a group of this key was deleted last; 0 for never.
    pub(crate) fn of(&self, key: &Key) -> i64 {
        self.by_key.get(key).copied().unwrap_or(0).max(self.wiped)
    }

    /// The last wipe; 0 for never.
    pub(crate) fn wiped(&self) -> i64 {
        self.wiped
    }

    /// The last deletion of all; 0 for none. O(deletions).
    pub(crate) fn latest(&self) -> i64 {
        self.by_key.values().copied().max().unwrap_or(0).max(self.wiped)
    }

    /// Deletions of single groups.
    pub(crate) fn by_key(&self) -> &BTreeMap<Key, i64> {
        &self.by_key
    }

    /// Sets or forgets one; answers what it was. O(log), and O(all) once in [`GRAVES_MAX`] / 10 times when it is full.
    pub(crate) fn set(&mut self, key: &Key, at: Option<i64>) -> Option<i64> {
        match at.filter(|at| *at > 0) {
            None => self.by_key.remove(key),
            Some(at) => {
                let before = self.by_key.insert(key.clone(), at);
                if self.by_key.len() > GRAVES_MAX {
                    self.shrink();
                }
                before
            }
        }
    }

    /// Notes a wipe, which says all that earlier deletions said.
    pub(crate) fn wipe(&mut self, at: i64) {
        self.wiped = self.wiped.max(at);
        let wiped = self.wiped;
        self.by_key.retain(|_, at| *at > wiped);
    }

    fn shrink(&mut self) {
        let mut times: Vec<i64> = self.by_key.values().copied().collect();
        let place = times.len() / 10;
        let (_, limit, _) = times.select_nth_unstable(place);
        let limit = *limit;
        let mut room = place + 1;
        self.by_key.retain(|_, at| {
            let goes = *at <= limit && room > 0;
            room -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::key;

    #[test]
    fn the_oldest_deletions_are_forgotten_first() {
        let mut graves = Graves::default();
        for n in 0..=GRAVES_MAX {
            graves.set(&key(&[("job", &n.to_string())]), Some(1 + n as i64));
        }
        assert!(graves.by_key().len() < GRAVES_MAX && graves.by_key().len() > GRAVES_MAX * 8 / 10);
        assert_eq!(graves.of(&key(&[("job", "0")])), 0);
        assert_eq!(graves.of(&key(&[("job", "99999")])), 100_000);
        graves.wipe(200_000);
        assert_eq!((graves.by_key().len(), graves.of(&key(&[("job", "0")]))), (0, 200_000));
    }
}
