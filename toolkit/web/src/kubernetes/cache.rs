//! Answers remembered for a while, by a keyed hash of what was asked.

use parking_lot::Mutex;
use ring::{hmac, rand::SystemRandom};
use runtime::Monotonic;
use std::{collections::HashMap, time::Duration};

/// Answers remembered of each kind; when they are that many, the expired ones go, and else a tenth of them at random.
const REMEMBERED_MAX: usize = 1024;

/// A hash of what was asked, with a secret of this process: no token stays in memory.
pub(super) type Key = [u8; 32];

/// Makes keys.
pub(super) struct Keys(hmac::Key);

impl Keys {
    /// None when the system has no random numbers to give.
    pub(super) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// The key of some parts, each with its length, so that they cannot run into each other.
    pub(super) fn of(&self, parts: &[&[u8]]) -> Key {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut key = Key::default();
        key.copy_from_slice(context.sign().as_ref());
        key
    }
}

/// Answers of one kind, so that those of another kind cannot push them out.
pub(super) struct Cache<V>(Mutex<HashMap<Key, (Monotonic, V)>>);

impl<V: Clone> Cache<V> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(super) fn get(&self, key: &Key, now: Monotonic) -> Option<V> {
        let room = self.0.lock();
        room.get(key).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    pub(super) fn put(&self, key: Key, value: V, now: Monotonic, keep: Duration) {
        if keep.is_zero() {
            return;
        }
        let mut room = self.0.lock();
        if room.len() >= REMEMBERED_MAX {
            room.retain(|_, (until, _)| now < *until);
        }
        if room.len() >= REMEMBERED_MAX {
            // The order of the keys is random, as they are hashes with a secret.
            let out: Vec<Key> = room.keys().take(REMEMBERED_MAX / 10).copied().collect();
            for key in out {
                room.remove(&key);
            }
        }
        room.insert(key, (now + keep, value));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Clock;

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let keys = Keys::new().expect("random numbers");
        let all = [keys.of(&[b"ab", b"c"]), keys.of(&[b"a", b"bc"]), keys.of(&[b"abc"]), keys.of(&[b"abc", b""])];
        for (index, key) in all.iter().enumerate() {
            assert!(!all[..index].contains(key));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_expire_and_their_number_is_bounded() {
        let (clock, cache) = (Clock::simulated(0), Cache::new());
        let key = |number: usize| {
            let mut key = Key::default();
            key[..8].copy_from_slice(&number.to_le_bytes());
            key
        };
        cache.put(key(0), 7, clock.now(), Duration::from_secs(10));
        assert_eq!(cache.get(&key(0), clock.now()), Some(7));
        clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(cache.get(&key(0), clock.now()), None);
        cache.put(key(1), 7, clock.now(), Duration::ZERO);
        assert_eq!(cache.get(&key(1), clock.now()), None);
        for number in 0..3 * REMEMBERED_MAX {
            cache.put(key(number), 7, clock.now(), Duration::from_secs(10));
            assert!(cache.len() <= REMEMBERED_MAX);
        }
        assert_eq!(cache.get(&key(3 * REMEMBERED_MAX - 1), clock.now()), Some(7));
    }
}
