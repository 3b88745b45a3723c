//! Who writes the journal: one task that takes what is queued, makes it durable, answers, and folds the log into a
//! snapshot when it has grown.

use crate::{
    Environment,
    gateway::Gateway,
    journal::{Batch, Journal, JournalError},
    log::{Log, Place},
    record::Groups,
};
use anyhow::Context;
use cli::Parsed;
use parking_lot::Mutex;
use runtime::{Clock, Disk, LockGuard, Monotonic, OnPanic, Tasks};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// When the log is folded into a snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folding {
    /// Least time between two snapshots.
    pub(crate) interval: Duration,
    /// A log below this many bytes is not worth a snapshot.
    pub(crate) min: u64,
    /// A log of this many bytes is folded whatever the interval says.
    pub(crate) max: u64,
}

/// Writes what changes queue. Clones share the work.
#[derive(Clone, Debug)]
pub(crate) struct Committer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: Arc<Gateway>,
    place: Place,
    log: Mutex<Log>,
    /// Held while a batch is written, so that batches keep their order.
    writing: tokio::sync::Mutex<()>,
    folded: Mutex<Folded>,
    folding: AtomicBool,
    folding_rule: Folding,
    clock: Clock,
    tasks: Tasks,
    errors: metrics::Counter,
    bytes: metrics::Gauge,
    failing: AtomicBool,
    /// Keeps a second gateway away from the file.
    _lock: LockGuard,
}

#[derive(Debug)]
struct Folded {
    at: Monotonic,
    bytes: u64,
}

/// Reads the persistence file into the store; `None` when there is to be no file.
///
/// # Errors
/// When the folder cannot be used, or another gateway uses the file.
pub(crate) async fn open(
    gateway: &Arc<Gateway>,
    parsed: &Parsed,
    env: &Environment,
) -> anyhow::Result<Option<Committer>> {
    let file = parsed.str("persistence.file");
    if file.is_empty() {
        return Ok(None);
    }
    let path = Path::new(file);
    let base = path.file_name().and_then(|name| name.to_str());
    let base = base.with_context(|| format!("--persistence.file {file:?} does not name a file"))?.to_owned();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let disk = Disk::open_private(folder).with_context(|| format!("--persistence.file {file}"))?;
    let interval = parsed.duration("persistence.interval");
    let folding = Folding { interval, min: 1 << 20, max: 64 << 20 };
    let committer = open_on(Place { disk, base }, gateway, folding, env).await;
    committer.map(Some).with_context(|| format!("--persistence.file {file}"))
}

/// As [`open`], on any disk.
pub(crate) async fn open_on(
    place: Place,
    gateway: &Arc<Gateway>,
    folding_rule: Folding,
    env: &Environment,
) -> anyhow::Result<Committer> {
    let lock = place.disk.lock(&format!("{}.lock", place.base))?;
    let reader = place.clone();
    let found = env.tasks.blocking("reading the persistence file", move || reader.recover()).await??;
    for warning in &found.warnings {
        tracing::warn!(file = place.base, "{warning}");
    }
    let log = Log::new(place.clone(), &found);
    {
        let mut state = gateway.state.lock();
        state.journal = Some(Journal::new(found.last + 1));
        found.groups.restore(&mut state.store);
        if let Some(conflict) = state.store.conflict() {
            tracing::error!(error = %conflict, "The persistence file has groups that contradict each other");
        }
    }
    let registry = &gateway.registry;
    let inner = Inner {
        gateway: gateway.clone(),
        place,
        log: Mutex::new(log),
        writing: tokio::sync::Mutex::new(()),
        folded: Mutex::new(Folded { at: env.clock.now(), bytes: 0 }),
        folding: AtomicBool::new(false),
        folding_rule,
        clock: env.clock.clone(),
        tasks: env.tasks.clone(),
        errors: registry.counter(
            "narthex_pushgateway_journal_errors_total",
            "Writes of the journal that failed, whose changes were taken back.",
        ),
        bytes: registry.gauge("narthex_pushgateway_journal_bytes", "Bytes of the journal since the last snapshot."),
        failing: AtomicBool::new(false),
        _lock: lock,
    };
    Ok(Committer(Arc::new(inner)))
}

impl Committer {
    /// Writes from now on.
    pub(crate) fn spawn(&self) {
        let inner = self.0.clone();
        self.0.tasks.spawn("journal", OnPanic::Restart, move || {
            let inner = inner.clone();
            async move {
                loop {
                    tokio::select! {
                        biased;
                        () = inner.gateway.wake.notified() => inner.write_all().await,
                        () = inner.gateway.stopped.wait() => return,
                    }
                }
            }
        });
    }

    /// Writes what is left and folds the log, when nobody changes anything any more.
    pub(crate) async fn finish(self) {
        self.0.write_all().await;
        let capture = self.0.capture();
        if self.0.log.lock().bytes > 0 && !self.0.folding.swap(true, Ordering::AcqRel) {
            self.0.clone().fold(capture).await;
        }
        self.0.gateway.stopped.begin();
    }
}

impl Inner {
    /// Writes batch after batch until nothing is queued.
    async fn write_all(self: &Arc<Self>) {
        let _one = self.writing.lock().await;
        while let Some((batch, capture)) = self.next() {
            self.write(batch, capture).await;
        }
    }

    /// What is queued, and the groups as they are after it when the log is to be folded.
    fn next(&self) -> Option<(Batch, Option<Capture>)> {
        let due = self.due();
        let mut state = self.gateway.state.lock();
        let batch = state.journal.as_mut()?.take()?;
        let last = state.journal.as_ref()?.last();
        let capture = (due && !batch.bytes.is_empty()).then(|| Capture { last, groups: Groups::of(&state.store) });
        Some((batch, capture))
    }

    fn capture(&self) -> Capture {
        let state = self.gateway.state.lock();
        let last = state.journal.as_ref().map_or(0, Journal::last);
        Capture { last, groups: Groups::of(&state.store) }
    }

    fn due(&self) -> bool {
        let (bytes, folded) = (self.log.lock().bytes, self.folded.lock());
        let Folding { interval, min, max } = self.folding_rule;
        let grown = bytes >= min.max(folded.bytes) && self.clock.now() - folded.at >= interval;
        (grown || bytes >= max.max(folded.bytes)) && !self.folding.load(Ordering::Acquire)
    }

    async fn write(self: &Arc<Self>, mut batch: Batch, capture: Option<Capture>) {
        let frames = std::mem::take(&mut batch.bytes);
        if frames.is_empty() {
            // Somebody waits for what was written before.
            return batch.answer(&Ok(()));
        }
        let inner = self.clone();
        let written = self.tasks.blocking("journal write", move || inner.log.lock().append(&frames)).await;
        let written = match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(JournalError(error.to_string().into())),
            Err(panicked) => Err(JournalError(panicked.to_string().into())),
        };
        let failed = written.is_err();
        if failed != self.failing.swap(failed, Ordering::AcqRel) {
            match &written {
                Err(error) => tracing::error!(%error, "Pushes are refused until the journal can be written"),
                Ok(()) => tracing::info!("The journal can be written again"),
            }
        }
        self.bytes.set(self.log.lock().bytes as f64);
        if failed {
            self.errors.inc();
            return self.take_back(batch, &written);
        }
        batch.answer(&written);
        if let Some(capture) = capture
            && !self.folding.swap(true, Ordering::AcqRel)
        {
            let inner = self.clone();
            // Rotated before the next batch is written, so that the snapshot covers whole segments.
            let names = self.log.lock().rotate();
            self.tasks.spawn_once("journal fold", async move { inner.fold_rotated(capture, names).await });
        }
    }

    /// Undoes the changes of a batch and all later ones, last first.
    fn take_back(&self, mut batch: Batch, written: &Result<(), JournalError>) {
        let later = {
            let mut state = self.gateway.state.lock();
            let state = &mut *state;
            let Some(journal) = &mut state.journal else { return };
            let mut later = journal.take();
            journal.rewind(&batch);
            let undo = std::mem::take(&mut batch.undo).into_iter();
            let undo = undo.chain(later.iter_mut().flat_map(|later| std::mem::take(&mut later.undo)));
            let undo: Vec<_> = undo.collect();
            undo.into_iter().rev().for_each(|undo| state.store.undo(undo));
            later
        };
        batch.answer(written);
        if let Some(later) = later {
            later.answer(written);
        }
    }

    async fn fold(self: Arc<Self>, capture: Capture) {
        let names = self.log.lock().rotate();
        self.fold_rotated(capture, names).await;
    }

    /// Writes a snapshot and removes the segments it covers. Segments stay when that fails, for the next time.
    async fn fold_rotated(self: Arc<Self>, capture: Capture, names: Vec<String>) {
        let place = self.place.clone();
        let segments = names.clone();
        let work = move || {
            let bytes = place.write_snapshot(capture.last, &capture.groups)?;
            place.remove(&segments).map(|()| bytes)
        };
        match self.tasks.blocking("snapshot", work).await {
            Ok(Ok(bytes)) => {
                self.log.lock().removed(&names);
                *self.folded.lock() = Folded { at: self.clock.now(), bytes };
                tracing::debug!(file = self.place.base, bytes, "Snapshot written");
            }
            Ok(Err(error)) => tracing::error!(%error, file = self.place.base, "The snapshot could not be written"),
            Err(panicked) => tracing::error!(error = %panicked, "The snapshot could not be written"),
        }
        self.folding.store(false, Ordering::Release);
    }
}

/// The groups after a record.
#[derive(Debug)]
struct Capture {
    last: u64,
    groups: Groups,
}

#[cfg(test)]
#[path = "persist_tests.rs"]
mod tests;
