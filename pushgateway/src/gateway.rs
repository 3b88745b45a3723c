//! The state of one gateway: the store behind its lock, and what a change of it goes through.
//!
//! A change is checked and applied under the lock, and its record queued in the same order; its caller is answered once
//! the record is durable. When it cannot be made durable the change is taken back, so that what was answered with an
//! error is not there.

use crate::{
    Key, Store,
    journal::{Journal, JournalError, Wait},
    own::{Instruments, Own},
    record::Record,
    store::{Push, Refusal},
};
use parking_lot::Mutex;
use runtime::{Clock, Shutdown};

/// What a gateway may hold; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Caps {
    pub(crate) groups: usize,
    pub(crate) bytes: usize,
    pub(crate) samples: usize,
}

/// How pushes are taken.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) checked: bool,
    pub(crate) utf8: bool,
    pub(crate) body_max: u64,
    /// Life of a group after its last push in milliseconds; 0 for no end.
    pub(crate) ttl: i64,
    /// Whether a push may say its own.
    pub(crate) ttl_by_push: bool,
    pub(crate) caps: Caps,
}

/// Why a push changed nothing but, at most, the failure time of its group.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PushError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the gateway holds {have} groups already, and --push.max-groups is {max}; delete some or raise it")]
    Groups { have: usize, max: usize },
    #[error("the gateway would hold {would} bytes, and --push.max-bytes is {max}; delete groups or raise it")]
    Bytes { would: usize, max: usize },
    #[error("the push has {have} series, and --push.max-series-per-push is {max}; push less or raise it")]
    Samples { have: usize, max: usize },
}

/// Everything behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) journal: Option<Journal>,
}

/// The service's heart; handlers share it.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) state: Mutex<State>,
    /// Wakes whoever writes the journal.
    pub(crate) wake: tokio::sync::Notify,
    /// Raised when nobody writes the journal any more.
    pub(crate) stopped: Shutdown,
    pub(crate) clock: Clock,
    pub(crate) registry: metrics::Registry,
    pub(crate) instruments: Instruments,
    pub(crate) policy: Policy,
}

impl Gateway {
    pub(crate) fn new(clock: Clock, registry: metrics::Registry, policy: Policy) -> Self {
        let instruments = Instruments::new(&registry, &clock);
        let store = Store::new(Own::of(&registry));
        let state = Mutex::new(State { store, journal: None });
        Self { state, wake: tokio::sync::Notify::new(), stopped: Shutdown::new(), clock, registry, instruments, policy }
    }

    /// Takes a push. The answer is durable when there is a journal.
    ///
    /// # Errors
    /// [`PushError`].
    pub(crate) async fn push(&self, push: &Push, replace: bool, ttl: Option<i64>) -> Result<(), PushError> {
        let (verdict, wait) = self.push_now(push, replace, ttl)?;
        // The mark of a refused push is not worth waiting for.
        verdict?;
        Ok(Wait::durable(wait).await?)
    }

    /// Takes a push; answers the store's verdict, and what to wait for.
    fn push_now(
        &self,
        push: &Push,
        replace: bool,
        ttl: Option<i64>,
    ) -> Result<(Result<(), Refusal>, Option<Wait>), PushError> {
        let ttl = ttl.or((self.policy.ttl > 0).then_some(self.policy.ttl));
        let mut state = self.state.lock();
        self.within(&state.store, push)?;
        let at = self.clock.unix_ms();
        let (verdict, undo) = state.store.push(push, replace, self.policy.checked, ttl, at);
        let record = match &verdict {
            Ok(()) => {
                Record::Push { key: push.key.clone(), at, ttl: ttl.unwrap_or(0), replace, families: push.packed(at) }
            }
            Err(_) => Record::Failed { key: push.key.clone(), at },
        };
        let wait = undo.and_then(|undo| self.queue(&mut state, &record, vec![undo]));
        Ok((verdict, wait))
    }

    fn within(&self, store: &Store, push: &Push) -> Result<(), PushError> {
        let caps = self.policy.caps;
        let over = |limit: &str, error| {
            self.instruments.over_limit.with(&[limit]).inc();
            Err(error)
        };
        let have = push.samples();
        if caps.samples > 0 && have > caps.samples {
            return over("series per push", PushError::Samples { have, max: caps.samples });
        }
        let have = store.groups().len();
        if caps.groups > 0 && have >= caps.groups && !store.groups().contains_key(&push.key) {
            return over("groups", PushError::Groups { have, max: caps.groups });
        }
        if caps.bytes > 0 {
            let would = store.bytes() + push.packed(0).len();
            if would > caps.bytes {
                return over("bytes", PushError::Bytes { would, max: caps.bytes });
            }
        }
        Ok(())
    }

    /// Forgets a group.
    ///
    /// # Errors
    /// When that cannot be made durable; the group is there still.
    pub(crate) async fn delete(&self, key: &Key) -> Result<(), JournalError> {
        let wait = {
            let mut state = self.state.lock();
            let undo = state.store.delete(key);
            // Recorded even when there is no such group: that may be so only until an earlier change is taken back.
            self.queue(&mut state, &Record::Delete { key: key.clone() }, undo.into_iter().collect())
        };
        Wait::durable(wait).await
    }

    /// Forgets all groups.
    ///
    /// # Errors
    /// When that cannot be made durable; the groups are there still.
    pub(crate) async fn wipe(&self) -> Result<(), JournalError> {
        let wait = {
            let mut state = self.state.lock();
            let keys: Vec<Key> = state.store.groups().keys().cloned().collect();
            let undo = keys.iter().filter_map(|key| state.store.delete(key)).collect();
            self.queue(&mut state, &Record::Wipe, undo)
        };
        Wait::durable(wait).await
    }

    /// Forgets the groups whose time is over; answers when the next one is due, in milliseconds since 1970.
    pub(crate) fn expire(&self) -> Option<i64> {
        let mut state = self.state.lock();
        let now = self.clock.unix_ms();
        let due: Vec<Key> = state
            .store
            .groups()
            .iter()
            .filter(|(_, group)| group.expires().is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if let Some(undo) = state.store.delete(&key) {
                tracing::info!(group = %key, "A group was forgotten because its time to live is over");
                self.instruments.expired.inc();
                self.queue(&mut state, &Record::Delete { key }, vec![undo]);
            }
        }
        state.store.groups().values().filter_map(crate::Group::expires).min()
    }

    fn queue(&self, state: &mut State, record: &Record, undo: Vec<crate::store::Undo>) -> Option<Wait> {
        let wait = state.journal.as_mut()?.queue(record, undo);
        self.wake.notify_one();
        Some(wait)
    }
}
