//! Replication to peers: pairs behind one address that hold the same groups.
//!
//! What travels is the state of a group and not the push that made it, so that a message may be repeated, overtaken or
//! lost without harm: of two states the one that changed last stays, on both sides. What waits for a peer is therefore a
//! set of keys: it cannot outgrow the groups, it is bounded all the same, and when it overflows everything is sent once
//! more. Everything is also sent at the start, and when a peer turns up that was not there before. What came from a peer
//! is sent to nobody, so that nothing goes in circles; every gateway names all others. Sums of pushes that come to both
//! at once are not joined: the later sum stays. Format: `docs/format/pushgateway.md`.

use crate::{
    Key,
    gateway::Gateway,
    graves::Graves,
    packed::{put_bytes, take_bytes},
    record::Record,
};
use bytes::Bytes;
use client::{Client, Request};
use metrics::{Counter, Gauge, Registry};
use parking_lot::Mutex;
use runtime::{OnPanic, Shutdown, Tasks};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, Hasher, RandomState},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use web::http::{HeaderMap, HeaderValue, Method};

/// First bytes of a message; the last one is the version.
const MAGIC: &[u8; 8] = b"NXPGREP1";
/// Where a gateway takes messages, below its prefix.
pub(crate) const PATH: &str = "/api/v1/replicate";
/// Header with the name a gateway gave itself when it started, in requests and answers.
pub(crate) const NAME_HEADER: &str = "x-narthex-replica";
/// Bytes of a message after which no further group is added.
const MESSAGE_BYTES: usize = 2 << 20;
/// Groups and deletions in a message at most.
const MESSAGE_ITEMS: usize = 2000;
/// How long a peer may take for a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// A peer that has nothing to learn is greeted this often: its answer tells whether it has started anew.
const GREETING_EVERY: Duration = Duration::from_secs(10);
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(30);
/// Names of gateways that are remembered.
const NAMES_MAX: usize = 64;
/// Bytes of a refusal that are read.
const ANSWER_MAX: u64 = 4096;

/// All peers of a gateway.
#[derive(Debug)]
pub(crate) struct Replicas {
    /// Another one after every start.
    pub(crate) name: String,
    peers: Vec<Arc<Peer>>,
    seen: Mutex<VecDeque<String>>,
}

impl Replicas {
    /// Peers at these addresses; each is to be told everything first. `keys_max` bounds what waits for each.
    pub(crate) fn new(urls: &[String], keys_max: usize, registry: &Registry) -> Self {
        let meters = Meters::new(registry);
        let peer = |url: &String| Arc::new(Peer::new(url, keys_max, &meters));
        let name = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { name, peers: urls.iter().map(peer).collect(), seen: Mutex::default() }
    }

    /// Notes a change made here, which is to be called under the lock of the store.
    pub(crate) fn changed(&self, record: &Record, now: i64) {
        for peer in &self.peers {
            peer.changed(record, now);
        }
    }

    /// Hears the name of a gateway; one that was not heard before may know nothing.
    pub(crate) fn heard(&self, name: &str) {
        {
            let mut seen = self.seen.lock();
            if seen.iter().any(|have| have == name) {
                return;
            }
            if seen.len() >= NAMES_MAX {
                seen.pop_front();
            }
            seen.push_back(name.to_owned());
        }
        for peer in &self.peers {
            peer.queue.lock().start_full();
            peer.wake.notify_one();
        }
    }
}

/// How far the sending of everything has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Full {
    Graves(Option<Key>),
    Groups(Option<Key>),
}

/// What waits for a peer.
#[derive(Debug)]
struct Queue {
    /// Groups that changed, and since when the peer does not know.
    keys: BTreeMap<Key, i64>,
    keys_max: usize,
    wiped: Option<i64>,
    full: Option<Full>,
}

impl Queue {
    fn start_full(&mut self) {
        self.full = Some(Full::Graves(None));
    }

    /// Adds a key; answers how many were given up for the sending of everything.
    fn add(&mut self, key: &Key, since: i64) -> usize {
        if let Some(have) = self.keys.get_mut(key) {
            *have = since.min(*have);
            return 0;
        }
        if self.keys.len() < self.keys_max {
            self.keys.insert(key.clone(), since);
            return 0;
        }
        self.start_full();
        let lost = self.keys.len() + 1;
        self.keys.clear();
        lost
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.wiped.is_none() && self.full.is_none()
    }
}

/// One gateway that is kept alike.
#[derive(Debug)]
pub(crate) struct Peer {
    url: String,
    queue: Mutex<Queue>,
    wake: tokio::sync::Notify,
    /// Raised while a message is under way whose keys are off the queue.
    sending: AtomicBool,
    /// The name in its last answer.
    name: Mutex<Option<String>>,
    waiting: Gauge,
    lag: Gauge,
    sent: Counter,
    dropped: Counter,
    failures: Counter,
    full: Counter,
}

struct Meters {
    gauges: [metrics::GaugeVec; 2],
    counters: [metrics::CounterVec; 4],
}

impl Meters {
    fn new(registry: &Registry) -> Self {
        let name = |name: &str| format!("narthex_pushgateway_replication_{name}");
        let gauge = |what, help| registry.gauge_vec(&name(what), help, &["peer"]);
        let counter = |what, help| registry.counter_vec(&name(what), help, &["peer"]);
        Self {
            gauges: [
                gauge("waiting_groups", "Groups that changed and were not sent to the peer yet."),
                gauge("lag_seconds", "Age of the oldest change that the peer does not have, when it was tried last."),
            ],
            counters: [
                counter("sent_total", "Groups and deletions that the peer took."),
                counter("dropped_total", "Changes that found the queue full; all groups are sent in their place."),
                counter("failures_total", "Messages that the peer did not take; they are sent again."),
                counter("full_transfers_total", "Times all groups were sent."),
            ],
        }
    }
}

/// A message, and what it takes off the queue.
struct Message {
    body: Vec<u8>,
    items: usize,
    keys: Vec<(Key, i64)>,
    wiped: Option<i64>,
    full: Option<Full>,
    /// Where the sending of everything goes on; `None` ends it.
    next: Option<Full>,
}

impl Message {
    fn add(&mut self, record: &Record) {
        let mut bytes = Vec::new();
        record.put(&mut bytes);
        put_bytes(&mut self.body, &bytes);
        self.items += 1;
    }

    fn has_room(&self) -> bool {
        self.body.len() < MESSAGE_BYTES && self.items < MESSAGE_ITEMS
    }
}

impl Peer {
    fn new(url: &str, keys_max: usize, meters: &Meters) -> Self {
        let queue = Queue { keys: BTreeMap::new(), keys_max, wiped: None, full: Some(Full::Graves(None)) };
        let [waiting, lag] = meters.gauges.each_ref().map(|gauge| gauge.with(&[url]));
        let [sent, dropped, failures, full] = meters.counters.each_ref().map(|counter| counter.with(&[url]));
        Self {
            url: url.trim_end_matches('/').to_owned(),
            queue: Mutex::new(queue),
            wake: tokio::sync::Notify::new(),
            sending: AtomicBool::new(false),
            name: Mutex::default(),
            waiting,
            lag,
            sent,
            dropped,
            failures,
            full,
        }
    }

    fn changed(&self, record: &Record, now: i64) {
        let mut queue = self.queue.lock();
        match record {
            Record::Push { key, .. } | Record::Failed { key, .. } | Record::Delete { key, .. } => {
                let lost = queue.add(key, now);
                self.dropped.add(lost as f64);
            }
            Record::Wipe { at } => {
                queue.wiped = Some(queue.wiped.unwrap_or(0).max(*at));
                queue.keys.clear();
            }
            Record::State { .. } => return,
        }
        self.waiting.set(queue.keys.len() as f64);
        self.wake.notify_one();
    }

    /// Sends until shutdown.
    async fn run(self: Arc<Self>, senders: Senders, stop: Shutdown) {
        let (mut rest, mut greeting) = (REST_MIN, true);
        let clock = senders.gateway.clock.clone();
        loop {
            if !greeting && self.queue.lock().is_empty() {
                tokio::select! {
                    biased;
                    () = stop.wait() => return,
                    () = self.wake.notified() => {}
                    () = clock.sleep(GREETING_EVERY) => greeting = true,
                }
                continue;
            }
            let sent = tokio::select! {
                biased;
                () = stop.wait() => return,
                sent = self.send(&senders) => sent,
            };
            let Err(error) = sent else {
                if rest > REST_MIN {
                    tracing::info!(peer = self.url, "The peer can be reached again");
                }
                (rest, greeting) = (REST_MIN, false);
                continue;
            };
            self.failures.inc();
            if rest == REST_MIN {
                tracing::warn!(peer = self.url, %error, "The peer did not take what changed; it is tried again");
            }
            tokio::select! {
                biased;
                () = stop.wait() => return,
                () = clock.sleep(rest) => {}
            }
            rest = (rest * 2).min(REST_MAX);
        }
    }

    /// Sends what is left, for the end of the process.
    async fn flush(&self, senders: &Senders) {
        if self.sending.load(Ordering::Acquire) {
            // What was under way when the process was told to end is nowhere else.
            self.queue.lock().start_full();
        }
        while !self.queue.lock().is_empty() {
            if let Err(error) = self.send(senders).await {
                tracing::warn!(peer = self.url, %error, "The peer does not have the last changes");
                return;
            }
        }
    }

    /// Sends one message. What was not taken waits again.
    async fn send(&self, senders: &Senders) -> Result<(), String> {
        self.sending.store(true, Ordering::Release);
        let (mut message, barrier) = self.capture(&senders.gateway);
        // What is not durable here is not to be found there.
        let mut sent = match crate::journal::Wait::durable(barrier).await {
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if sent.is_ok() {
            let body = std::mem::take(&mut message.body);
            sent = self.post(senders, body).await;
        }
        self.sending.store(false, Ordering::Release);
        self.settle(message, sent.is_ok(), senders.gateway.clock.unix_ms());
        sent
    }

    /// Notes what became of a message.
    fn settle(&self, message: Message, taken: bool, now: i64) {
        let mut queue = self.queue.lock();
        if taken {
            self.sent.add(message.items as f64);
            // Unless it was started again meanwhile.
            if message.full.is_some() && queue.full == message.full {
                queue.full = message.next;
                self.full.add(f64::from(u8::from(queue.full.is_none())));
            }
        } else {
            queue.wiped = queue.wiped.max(message.wiped);
            for (key, since) in message.keys {
                let lost = queue.add(&key, since);
                self.dropped.add(lost as f64);
            }
        }
        let oldest = queue.keys.values().min().map_or(0, |since| now - since);
        self.lag.set(oldest.max(0) as f64 / 1000.0);
        self.waiting.set(queue.keys.len() as f64);
    }

    async fn post(&self, senders: &Senders, body: Vec<u8>) -> Result<(), String> {
        let Some(replicas) = &senders.gateway.replicas else { return Err("there are no peers".to_owned()) };
        let mut headers = HeaderMap::new();
        let name = HeaderValue::from_str(&replicas.name).map_err(|error| error.to_string())?;
        headers.insert(NAME_HEADER, name);
        if let Some(token) = &senders.token {
            headers.insert("x-narthex-token", token.clone());
        }
        let url = format!("{}{PATH}", self.url);
        let (body, deadline) = (Bytes::from(body), PATIENCE);
        let request =
            Request { method: Method::POST, url: &url, headers, body, accept: &[], deadline, body_limit: ANSWER_MAX };
        let mut answer = Vec::new();
        let response = senders.client.fetch(&request, &mut answer).await.map_err(|error| error.to_string())?;
        if !response.status.is_success() {
            let text = String::from_utf8_lossy(&answer);
            return Err(format!("{url} answered {}: {}", response.status_line, text.trim_end()));
        }
        let name = response.headers.get(NAME_HEADER).and_then(|name| name.to_str().ok()).map(str::to_owned);
        let before = std::mem::replace(&mut *self.name.lock(), name.clone());
        if before.is_some() && before != name {
            tracing::info!(peer = self.url, "The peer has started anew and is sent everything");
            self.queue.lock().start_full();
        }
        Ok(())
    }

    /// The next message, taken off the queue, and what must be durable before it is sent.
    fn capture(&self, gateway: &Gateway) -> (Message, Option<crate::journal::Wait>) {
        let mut state = gateway.state.lock();
        let mut queue = self.queue.lock();
        let (wiped, full) = (queue.wiped.take(), queue.full.clone());
        let mut message = Message { body: MAGIC.to_vec(), items: 0, keys: Vec::new(), wiped, next: full.clone(), full };
        let none = Graves::default();
        let graves = state.store.graves().unwrap_or(&none);
        if let Some(at) = message.wiped {
            message.add(&Record::Wipe { at });
        }
        while message.has_room() {
            let Some((key, since)) = queue.keys.pop_first() else { break };
            match state.store.groups().get(&key) {
                Some(group) => message.add(&Record::State { key: key.clone(), group: group.clone() }),
                None => message.add(&Record::Delete { key: key.clone(), at: graves.of(&key) }),
            }
            message.keys.push((key, since));
        }
        everything(&mut message, &state.store, graves);
        let barrier = state.journal.as_mut().map(crate::journal::Journal::barrier);
        if barrier.is_some() {
            gateway.wake.notify_one();
        }
        (message, barrier)
    }
}

/// Adds the next of all deletions and groups, where everything is being sent.
fn everything(message: &mut Message, store: &crate::Store, graves: &Graves) {
    let from = |after: &Option<Key>| after.clone().map_or(Bound::Unbounded, Bound::Excluded);
    while message.has_room() {
        let Some(place) = message.next.take() else { return };
        message.next = match place {
            Full::Graves(after) => {
                if after.is_none() && graves.wiped() > 0 {
                    message.add(&Record::Wipe { at: graves.wiped() });
                }
                match graves.by_key().range((from(&after), Bound::Unbounded)).next() {
                    Some((key, at)) => {
                        message.add(&Record::Delete { key: key.clone(), at: *at });
                        Some(Full::Graves(Some(key.clone())))
                    }
                    None => Some(Full::Groups(None)),
                }
            }
            Full::Groups(after) => {
                let Some((key, group)) = store.groups().range((from(&after), Bound::Unbounded)).next() else { return };
                message.add(&Record::State { key: key.clone(), group: group.clone() });
                Some(Full::Groups(Some(key.clone())))
            }
        };
    }
}

/// How long the end of the process waits for peers.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What sending takes.
#[derive(Clone, Debug)]
pub(crate) struct Senders {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) client: Client,
    /// Shown to peers that ask for one.
    pub(crate) token: Option<HeaderValue>,
}

impl Senders {
    fn peers(&self) -> &[Arc<Peer>] {
        self.gateway.replicas.as_ref().map_or(&[], |replicas| &replicas.peers)
    }

    /// Sends to every peer from now on, until shutdown.
    pub(crate) fn spawn(&self, tasks: &Tasks, stop: &Shutdown) {
        for peer in self.peers() {
            let (peer, senders, stop) = (peer.clone(), self.clone(), stop.clone());
            tasks.spawn("replication", OnPanic::Restart, move || peer.clone().run(senders.clone(), stop.clone()));
        }
    }

    /// Sends what is left, when nobody changes anything any more.
    pub(crate) async fn finish(self) {
        let all = futures_util::future::join_all(self.peers().iter().map(|peer| peer.flush(&self)));
        if self.gateway.clock.timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("Peers took too long and do not have the last changes");
        }
    }
}

/// Reads a message: what a group is like, or that it is gone.
///
/// # Errors
/// A text for the peer.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Record>, String> {
    let Some(mut rest) = body.strip_prefix(MAGIC) else {
        return Err("this is no message of a peer of the same version".to_owned());
    };
    let mut records = Vec::new();
    while !rest.is_empty() {
        let record = take_bytes(&mut rest).and_then(Record::take).map_err(|error| error.to_string())?;
        match record {
            Record::State { .. } | Record::Delete { .. } | Record::Wipe { .. } => records.push(record),
            _ => return Err("a message of a peer has states, deletions and wipes only".to_owned()),
        }
    }
    Ok(records)
}

#[cfg(test)]
#[path = "replicate_tests.rs"]
mod tests;
