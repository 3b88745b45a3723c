//! The state of one gateway: the store behind its lock, and what a change of it goes through.
//!
//! A change is checked and applied under the lock, and its record queued in the same order; its caller is answered once
//! the record is durable. When it cannot be made durable the change is taken back, so that what was answered with an
//! error is not there.

use crate::{
    Group, Key, Store,
    aggregate::{self, Gauges},
    body::Body,
    journal::{Journal, JournalError, Wait},
    own::{Instruments, Own},
    record::Record,
    replicate::Replicas,
    store::{Push, Refusal, Undo},
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
    /// Whether a push may ask to be added to what is there.
    pub(crate) sums: bool,
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

/// How one push is to be taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct How {
    /// Whether the whole group is replaced (PUT) and not the families of the same names (POST).
    pub(crate) replace: bool,
    /// Life of the group in milliseconds, if the push says it.
    pub(crate) ttl: Option<i64>,
    /// Whether it is added to what is there, and what becomes of gauges then.
    pub(crate) sum: Option<Gauges>,
}

/// The store's verdict, and what to wait for.
pub(crate) type Begun = (Result<(), Refusal>, Option<Wait>);

/// What became of a message of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) taken: u64,
    /// What is here was newer.
    pub(crate) stale: u64,
    /// What would have contradicted other groups, or gone over a limit.
    pub(crate) refused: u64,
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
    pub(crate) replicas: Option<Replicas>,
}

impl Gateway {
    /// An empty gateway; `replicas` where there are peers.
    pub(crate) fn new(clock: Clock, registry: metrics::Registry, policy: Policy, replicas: Option<Replicas>) -> Self {
        let instruments = Instruments::new(&registry, &clock);
        let mut store = Store::new(Own::of(&registry));
        if replicas.is_some() {
            store.keep_graves(crate::graves::Graves::default());
        }
        let state = Mutex::new(State { store, journal: None });
        let (wake, stopped) = (tokio::sync::Notify::new(), Shutdown::new());
        Self { state, wake, stopped, clock, registry, instruments, policy, replicas }
    }

    /// The time of a change to a group: now, but with peers always after what is known of it, so that of two states the
    /// later one is told by its time alone.
    fn time(&self, store: &Store, key: &Key) -> i64 {
        let now = self.clock.unix_ms();
        if self.replicas.is_some() { now.max(store.changed(key).saturating_add(1)) } else { now }
    }

    /// Takes a push. The answer is durable when there is a journal.
    ///
    /// # Errors
    /// [`PushError`].
    pub(crate) async fn push(&self, key: Key, body: Body, how: How) -> Result<(), PushError> {
        Self::finish_push(self.begin_push(key, body, how)).await
    }

    /// Takes a push; what it answers is to be given to [`Gateway::finish_push`]. O(body and group).
    pub(crate) fn begin_push(&self, key: Key, body: Body, how: How) -> Result<Begun, PushError> {
        match how.sum {
            None => {
                let push = Push::new(key, body);
                self.push_now(&mut self.state.lock(), &push, how)
            }
            Some(gauges) => self.sum_now(key, body, how, gauges),
        }
    }

    /// Waits until a push is durable.
    ///
    /// # Errors
    /// [`PushError`].
    pub(crate) async fn finish_push(begun: Result<Begun, PushError>) -> Result<(), PushError> {
        let (verdict, wait) = begun?;
        // The mark of a refused push is not worth waiting for.
        verdict?;
        Ok(Wait::durable(wait).await?)
    }

    /// Adds a push to what its group has, in one step.
    fn sum_now(&self, key: Key, body: Body, how: How, gauges: Gauges) -> Result<Begun, PushError> {
        let state = &mut *self.state.lock();
        let Body { families, mismatch } = body;
        match aggregate::sum(&key, state.store.groups().get(&key), families, gauges) {
            Ok(families) => self.push_now(state, &Push::new(key, Body { families, mismatch }), how),
            Err(refusal) => {
                let at = self.time(&state.store, &key);
                let undo = state.store.mark_failed(&key, at);
                let wait = undo.and_then(|undo| self.queue(state, &Record::Failed { key, at }, vec![undo]));
                Ok((Err(refusal), wait))
            }
        }
    }

    /// Takes a push; answers the store's verdict, and what to wait for.
    fn push_now(&self, state: &mut State, push: &Push, how: How) -> Result<Begun, PushError> {
        let ttl = how.ttl.or((self.policy.ttl > 0).then_some(self.policy.ttl));
        self.within(&state.store, push)?;
        let at = self.time(&state.store, &push.key);
        let (verdict, undo) = state.store.push(push, how.replace, self.policy.checked, ttl, at);
        let record = match &verdict {
            Ok(()) => Record::Push {
                key: push.key.clone(),
                at,
                ttl: ttl.unwrap_or(0),
                replace: how.replace,
                families: push.packed(at),
            },
            Err(_) => Record::Failed { key: push.key.clone(), at },
        };
        let wait = undo.and_then(|undo| self.queue(state, &record, vec![undo]));
        Ok((verdict, wait))
    }

    fn within(&self, store: &Store, push: &Push) -> Result<(), PushError> {
        let caps = self.policy.caps;
        let have = push.samples();
        if caps.samples > 0 && have > caps.samples {
            self.instruments.over_limit.with(&["series per push"]).inc();
            return Err(PushError::Samples { have, max: caps.samples });
        }
        self.within_store(store, &push.key, || push.packed(0).len())
    }

    fn within_store(&self, store: &Store, key: &Key, bytes: impl FnOnce() -> usize) -> Result<(), PushError> {
        let caps = self.policy.caps;
        let over = |limit: &str, error| {
            self.instruments.over_limit.with(&[limit]).inc();
            Err(error)
        };
        let have = store.groups().len();
        if caps.groups > 0 && have >= caps.groups && !store.groups().contains_key(key) {
            return over("groups", PushError::Groups { have, max: caps.groups });
        }
        if caps.bytes > 0 {
            let would = store.bytes() + bytes();
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
            let undo = self.bury(&mut state, key);
            // Recorded even when there is no such group: that may be so only until an earlier change is taken back.
            self.queue(&mut state, &undo.1, undo.0.into_iter().collect())
        };
        Wait::durable(wait).await
    }

    fn bury(&self, state: &mut State, key: &Key) -> (Option<Undo>, Record) {
        let at = if self.replicas.is_some() { self.time(&state.store, key) } else { 0 };
        (state.store.delete(key, at), Record::Delete { key: key.clone(), at })
    }

    /// Forgets all groups.
    ///
    /// # Errors
    /// When that cannot be made durable; the groups are there still.
    pub(crate) async fn wipe(&self) -> Result<(), JournalError> {
        let wait = {
            let mut state = self.state.lock();
            let (until, at) = match self.replicas {
                None => (i64::MAX, 0),
                Some(_) => {
                    let last = state.store.groups().values().map(Group::changed).max().unwrap_or(0);
                    // Not before any deletion, which a peer may not have heard of and never will now.
                    let deleted = state.store.graves().map_or(0, crate::graves::Graves::latest);
                    let at = last.max(deleted).max(self.clock.unix_ms());
                    (at, at)
                }
            };
            let undo = state.store.wipe(until);
            self.queue(&mut state, &Record::Wipe { at }, undo)
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
            if let (Some(undo), record) = self.bury(&mut state, &key) {
                tracing::info!(group = %key, "A group was forgotten because its time to live is over");
                self.instruments.expired.inc();
                self.queue(&mut state, &record, vec![undo]);
            }
        }
        state.store.groups().values().filter_map(crate::Group::expires).min()
    }

    /// Takes what a peer has, where that is newer. What came from a peer is sent to no other.
    ///
    /// # Errors
    /// When it cannot be made durable; the peer sends it again.
    pub(crate) async fn receive(&self, records: Vec<Record>) -> Result<Received, JournalError> {
        let mut received = Received::default();
        let wait = {
            let mut state = self.state.lock();
            let mut wait = None;
            for record in records {
                match self.apply(&mut state.store, &record) {
                    None => received.stale += 1,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "A group of a peer was not taken");
                        received.refused += 1;
                    }
                    Some(Ok(undo)) => {
                        received.taken += 1;
                        wait = state.journal.as_mut().map(|journal| journal.queue(&record, undo));
                    }
                }
            }
            self.wake.notify_one();
            wait
        };
        Wait::durable(wait).await.map(|()| received)
    }

    /// `None` when what is here is as new.
    fn apply(&self, store: &mut Store, record: &Record) -> Option<Result<Vec<Undo>, PushError>> {
        match record {
            Record::State { key, group } => {
                let (have, at) = (store.changed(key), group.changed());
                // At the same time the content decides, on both sides alike.
                let differs = |here: &Group| here.families < group.families;
                if at < have || (at == have && !store.groups().get(key).is_some_and(differs)) {
                    return None;
                }
                if let Err(error) = self.within_store(store, key, || group.families.len()) {
                    return Some(Err(error));
                }
                let put = store.put(key, group.clone(), self.policy.checked);
                Some(put.map(|undo| vec![undo]).map_err(PushError::Refused))
            }
            Record::Delete { key, at } => {
                let here = store.groups().get(key).map_or(0, Group::changed);
                let known = store.graves().map_or(0, |graves| graves.of(key));
                (*at >= here && *at > known).then(|| Ok(store.delete(key, *at).into_iter().collect()))
            }
            Record::Wipe { at } => {
                let known = store.graves().map_or(0, crate::graves::Graves::wiped);
                (*at > known).then(|| Ok(store.wipe(*at)))
            }
            Record::Push { .. } | Record::Failed { .. } => None,
        }
    }

    fn queue(&self, state: &mut State, record: &Record, undo: Vec<Undo>) -> Option<Wait> {
        if let Some(replicas) = &self.replicas {
            replicas.changed(record, self.clock.unix_ms());
        }
        let wait = state.journal.as_mut()?.queue(record, undo);
        self.wake.notify_one();
        Some(wait)
    }
}
