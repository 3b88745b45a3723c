//! The queries that run now and the slowest that have: shown, and cancelled, by number.

use crate::{
    Failure, json,
    params::Params,
    reply::{Data, Shared, envelope, envelope_or_nothing, params},
};
use model::Timestamp;
use runtime::Clock;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use web::{
    body::Bytes,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::Response,
};

/// Slow queries that are remembered.
const SLOWEST: usize = 20;
/// Bytes of a query's text that are remembered.
const TEXT_MAX: usize = 4096;

/// A query as it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    id: u64,
    query: String,
    path: &'static str,
    /// Time, start, end and step, as given.
    given: Vec<(&'static str, String)>,
    cancel: Arc<AtomicBool>,
}

impl Ticket {
    /// The flag that ends the query.
    pub(crate) fn cancel(&self) -> Arc<AtomicBool> {
        self.cancel.clone()
    }

    /// Ends the query once the value is dropped; one that is done does not mind.
    pub(crate) fn cancelled_on_drop(&self) -> impl Drop + use<> {
        struct Leaving(Arc<AtomicBool>);
        impl Drop for Leaving {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        Leaving(self.cancel())
    }
}

/// One query in the lists.
#[derive(Clone, Debug)]
struct Entry {
    ticket: Ticket,
    started: Timestamp,
    /// How long it took; of a running one, when it began by the monotonic clock.
    took: Duration,
    failed: bool,
}

#[derive(Default)]
struct Lists {
    running: BTreeMap<u64, Entry>,
    /// Slowest first.
    slowest: Vec<Entry>,
}

/// All queries of a server.
#[derive(Default)]
pub struct Running {
    next: AtomicU64,
    lists: Mutex<Lists>,
}

impl Running {
    pub(crate) fn ticket(&self, params: &Params, path: &'static str) -> Ticket {
        let mut query = params.get("query").unwrap_or_default().to_owned();
        if query.len() > TEXT_MAX {
            query.truncate((0..=TEXT_MAX).rev().find(|at| query.is_char_boundary(*at)).unwrap_or(0));
            query.push('…');
        }
        let given = ["time", "start", "end", "step"].into_iter();
        let given = given.filter_map(|name| Some((name, params.get(name)?.chars().take(64).collect()))).collect();
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        Ticket { id, query, path, given, cancel: Arc::default() }
    }

    /// Runs a query that the lists show.
    pub(crate) fn during<T>(
        &self,
        ticket: &Ticket,
        clock: &Clock,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        /// Leaves the list also when the query panics.
        struct Listed<'a>(&'a Running, u64);
        impl Drop for Listed<'_> {
            fn drop(&mut self) {
                self.0.with(|lists| lists.running.remove(&self.1));
            }
        }
        let begun = clock.now();
        let started = Timestamp(clock.unix_ms());
        let mut entry = Entry { ticket: ticket.clone(), started, took: Duration::ZERO, failed: false };
        self.with(|lists| lists.running.insert(ticket.id, entry.clone()));
        let listed = Listed(self, ticket.id);
        let result = work();
        drop(listed);
        entry.took = clock.now() - begun;
        entry.failed = result.is_err();
        self.with(|lists| {
            let place = lists.slowest.partition_point(|other| other.took >= entry.took);
            if place < SLOWEST {
                lists.slowest.insert(place, entry);
                lists.slowest.truncate(SLOWEST);
            }
        });
        result
    }

    fn with<T>(&self, work: impl FnOnce(&mut Lists) -> T) -> T {
        // The lists are whole at any moment.
        work(&mut self.lists.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn one(entry: &Entry, seconds: f64, out: &mut String) {
    let Ticket { id, query, path, given, cancel } = &entry.ticket;
    out.push_str(&format!("{{\"id\":{id},\"query\":"));
    json::escaped(query, out);
    out.push_str(&format!(",\"path\":\"{path}\""));
    for (name, text) in given {
        out.push_str(&format!(",\"{name}\":"));
        json::escaped(text, out);
    }
    out.push_str(",\"started\":");
    json::string(&entry.started.to_rfc3339(), out);
    let cancelled = cancel.load(Ordering::Acquire);
    out.push_str(&format!(",\"seconds\":{seconds},\"cancelled\":{cancelled},\"failed\":{}}}", entry.failed));
}

/// `/status/queries`: running ones by age, then the slowest.
pub(crate) async fn list(State(backend): Shared, headers: HeaderMap) -> Response {
    let now = backend.now();
    let lists =
        backend.running.with(|lists| (lists.running.values().cloned().collect::<Vec<_>>(), lists.slowest.clone()));
    let mut data = String::from("{\"running\":");
    json::list(&lists.0, &mut data, |entry, out| {
        one(entry, now.0.saturating_sub(entry.started.0) as f64 / 1000.0, out);
    });
    data.push_str(",\"slowest\":");
    json::list(&lists.1, &mut data, |entry, out| one(entry, entry.took.as_secs_f64(), out));
    data.push('}');
    envelope(Ok(Data::from(data)), &headers)
}

/// `/admin/queries/cancel`: ends a running query.
pub(crate) async fn cancel(
    State(backend): Shared,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let params = params(raw, &headers, &body);
    let result = crate::admin::enabled(&backend).and_then(|()| {
        let id = params.get("id").and_then(|id| id.parse::<u64>().ok());
        let id = id.ok_or_else(|| Failure::bad("invalid parameter \"id\": the number of a running query is needed"))?;
        let found = backend.running.with(|lists| lists.running.get(&id).map(|entry| entry.ticket.cancel()));
        let flag = found.ok_or_else(|| Failure::missing(format!("no query {id} is running")))?;
        flag.store(true, Ordering::Release);
        Ok(None)
    });
    envelope_or_nothing(result, &headers)
}
