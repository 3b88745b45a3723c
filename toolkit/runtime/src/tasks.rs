//! Supervised tasks: every task has a name, its panic is seen and counted, and the end of the process waits for it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(300);

/// What to do after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// Start again from fresh state, after a second at first and up to five minutes when panics follow each other.
    Restart,
    /// Leave it ended.
    Stop,
}

/// The work given to [`Tasks::blocking`] panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} panicked: {message}; this is a bug, please report it")]
pub struct Panicked {
    /// Name of the work.
    pub name: String,
    /// What the panic said.
    pub message: String,
}

/// All tasks of a process or of a part of it; clones share them.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    panics: AtomicU64,
    restarts: AtomicU64,
    next: AtomicU64,
    draining: AtomicBool,
    running: Mutex<BTreeMap<u64, Cow<'static, str>>>,
    changed: Notify,
}

/// A spawned task. Dropping the handle leaves the task running.
#[derive(Clone, Debug)]
pub struct Task(tokio::task::AbortHandle);

impl Task {
    /// Drops the task's future at its next await.
    pub fn stop(&self) {
        self.0.abort();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// An entry among the running; its drop also runs when the task is stopped from outside.
struct Entry {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.running.lock().remove(&self.id);
        self.inner.changed.notify_waiters();
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new(clock: Clock) -> Tasks {
        Tasks(Arc::new(Inner {
            clock,
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            next: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            running: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    fn enter(&self, name: Cow<'static, str>) -> Entry {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.running.lock().insert(id, name);
        Entry { inner: self.0.clone(), id }
    }

    /// Runs the futures that `make` makes: one, and another after each panic when `on_panic` says so.
    pub fn spawn<F>(
        &self,
        name: impl Into<Cow<'static, str>>,
        on_panic: OnPanic,
        make: impl Fn() -> F + Send + 'static,
    ) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let (entry, tasks) = (self.enter(name.clone()), self.clone());
        start(async move {
            let _entry = entry;
            tasks.supervise(&name, on_panic, make).await;
        })
    }

    /// Runs one future; a panic ends it.
    pub fn spawn_once(
        &self,
        name: impl Into<Cow<'static, str>>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        let name = name.into();
        let (entry, tasks) = (self.enter(name.clone()), self.clone());
        start(async move {
            let _entry = entry;
            tasks.count(&name, caught(work).await);
        })
    }

    /// Runs a future that lasts as long as the process, so that nobody waits for its end.
    pub(crate) fn spawn_watch(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Task {
        let tasks = self.clone();
        start(async move {
            tasks.count(name, caught(work).await);
        })
    }

    /// Runs work that blocks (files, long computations) on a thread made for that.
    #[allow(clippy::disallowed_methods, reason = "panics are caught and counted here")]
    pub async fn blocking<T: Send + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let name = name.into();
        let (entry, tasks, label) = (self.enter(name.clone()), self.clone(), name.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _entry = entry;
            catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
                let message = text(payload.as_ref());
                tasks.note(&label, &message);
                message
            })
        });
        match done.await {
            Ok(done) => done.map_err(|message| Panicked { name: name.into_owned(), message }),
            Err(error) => Err(Panicked { name: name.into_owned(), message: error.to_string() }),
        }
    }

    async fn supervise<F>(&self, name: &str, on_panic: OnPanic, make: impl Fn() -> F + Send)
    where
        F: Future<Output = ()> + Send,
    {
        let mut delay = FIRST_DELAY;
        loop {
            let began = self.0.clock.now();
            let done = match catch_unwind(AssertUnwindSafe(&make)) {
                Ok(work) => caught(work).await,
                Err(payload) => Err(text(payload.as_ref())),
            };
            let panicked = done.is_err();
            self.count(name, done);
            if !panicked || on_panic == OnPanic::Stop {
                return;
            }
            // One that held for long had recovered: its next panic is a first one.
            if self.0.clock.now() - began >= LAST_DELAY {
                delay = FIRST_DELAY;
            }
            if !self.pause(delay).await {
                return;
            }
            delay = (delay * 2).min(LAST_DELAY);
            self.0.restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits before a restart; false when the process ends meanwhile.
    async fn pause(&self, delay: Duration) -> bool {
        let end = self.0.clock.now() + delay;
        loop {
            let changed = self.0.changed.notified();
            if self.0.draining.load(Ordering::Acquire) {
                return false;
            }
            tokio::select! {
                biased;
                () = self.0.clock.sleep_until(end) => return true,
                () = changed => {}
            }
        }
    }

    fn count(&self, name: &str, done: Result<(), String>) {
        if let Err(message) = done {
            self.note(name, &message);
        }
    }

    fn note(&self, name: &str, message: &str) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(task = name, panic = message, "A task panicked; this is a bug, please report it");
    }

    /// Panics so far.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Restarts after panics so far.
    pub fn restarts(&self) -> u64 {
        self.0.restarts.load(Ordering::Relaxed)
    }

    /// Names of those running, sorted.
    pub fn running(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.running.lock().values().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    /// Restarts nothing from now on and waits until all tasks ended or `limit` is over; answers who still runs.
    pub async fn drain(&self, limit: Duration) -> Vec<String> {
        self.0.draining.store(true, Ordering::Release);
        self.0.changed.notify_waiters();
        let all = async {
            loop {
                let changed = self.0.changed.notified();
                if self.0.running.lock().is_empty() {
                    return;
                }
                changed.await;
            }
        };
        // Who overran is what the answer says.
        let _ = self.0.clock.timeout(limit, all).await;
        self.running()
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that spawns; its callers catch and count panics")]
fn start(work: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(tokio::spawn(work).abort_handle())
}

/// Runs `work`, turning a panic into its text.
async fn caught(work: impl Future<Output = ()> + Send) -> Result<(), String> {
    let mut work = Box::pin(work);
    let done = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
        Err(payload) => Poll::Ready(Err(text(payload.as_ref()))),
    })
    .await;
    // The drop of what a panic left half done may panic again.
    match catch_unwind(AssertUnwindSafe(|| drop(work))) {
        Ok(()) => done,
        Err(payload) => done.and(Err(text(payload.as_ref()))),
    }
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn restarts_come_after_1_2_4_seconds_up_to_5_minutes() {
        let clock = Clock::simulated(0);
        let tasks = Tasks::new(clock.clone());
        let starts = Arc::new(Mutex::new(Vec::new()));
        let (seen, time) = (starts.clone(), clock.clone());
        let task = tasks.spawn("loop", OnPanic::Restart, move || {
            seen.lock().push(time.unix_ms() / 1000);
            async { panic!("bad") }
        });
        clock.sleep(Duration::from_secs(1500)).await;
        assert_eq!(*starts.lock(), [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1111, 1411]);
        assert_eq!((tasks.panics(), tasks.restarts()), (13, 12));
        assert_eq!(tasks.running(), ["loop"]);
        assert!(tasks.drain(Duration::from_secs(1)).await.is_empty(), "drain ends the wait for a restart");
        assert!(task.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_held_for_long_restarts_soon_again() {
        let clock = Clock::simulated(0);
        let tasks = Tasks::new(clock.clone());
        let time = clock.clone();
        tasks.spawn("loop", OnPanic::Restart, move || {
            let time = time.clone();
            async move {
                time.sleep(Duration::from_secs(400)).await;
                panic!("{}", "late");
            }
        });
        clock.sleep(Duration::from_secs(401 * 5 + 1)).await;
        assert_eq!(tasks.restarts(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_names_those_who_overran() {
        let clock = Clock::simulated(0);
        let tasks = Tasks::new(clock.clone());
        tasks.spawn("stuck", OnPanic::Stop, std::future::pending);
        tasks.spawn_once(String::from("quick"), async {});
        tasks.spawn("broken", OnPanic::Stop, || async { panic!("no") });
        let began = clock.now();
        assert_eq!(tasks.drain(Duration::from_secs(5)).await, ["stuck"]);
        assert_eq!(clock.now() - began, Duration::from_secs(5));
        assert_eq!((tasks.panics(), tasks.restarts()), (1, 0));
    }

    #[tokio::test]
    async fn a_stopped_task_is_no_longer_running() {
        let tasks = Tasks::new(Clock::system());
        let task = tasks.spawn_once("stuck", std::future::pending());
        task.stop();
        assert!(tasks.drain(Duration::from_secs(30)).await.is_empty());
    }

    #[tokio::test]
    async fn blocking_work_answers_or_tells_its_panic() {
        let tasks = Tasks::new(Clock::system());
        assert_eq!(tasks.blocking("sum", || 1 + 1).await, Ok(2));
        let failed = tasks.blocking("sum", || -> u8 { panic!("over") }).await.unwrap_err();
        assert_eq!(failed.message, "over");
        assert_eq!(tasks.panics(), 1);
    }
}
