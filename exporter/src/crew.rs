//! Who runs the collectors: one thread as a rule, more when one is held up, and never more than [`THREADS_MAX`].
//!
//! Every collector has one place on a board. A pass puts the places it wants into a queue, a thread takes one after the
//! other, and the pass waits until its places are done or its patience is over. What follows from that:
//!
//! - Passes at the same time share runs: a place that is queued or running already is joined, not run twice.
//! - A collector that does not return keeps one thread and its own place. It is not started again until it returns, so
//!   its threads do not add up, and later passes do not wait for it once it is older than their patience.
//! - When nothing moves for [`STALL`], another thread goes on with the queue. Collectors that were slow the last
//!   [`SLOW_RUNS`] times have a thread of their own from the start; once may be the work of a busy machine.
//!
//! The buffers of a place are used again, so that a warm pass does not allocate for samples.

use crate::families::Families;
use runtime::{Clock, Monotonic};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Threads at once, those included that a collector does not give back.
pub(crate) const THREADS_MAX: usize = 16;
/// How long the queue may stand still before another thread takes over.
pub(crate) const STALL: Duration = Duration::from_millis(100);
/// A collector that took longer so many times in a row gets a thread of its own the next time.
const SLOW_SECONDS: f64 = 0.01;
const SLOW_RUNS: u8 = 2;

/// What one run of a collector brought.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What it wrote, also when it failed.
    pub(crate) families: Families,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

/// What a pass gets for one place.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// It ran.
    Done(Arc<Outcome>),
    /// It has been running, or waiting for a thread, for so long.
    Late(Duration),
}

/// The work of the places.
pub(crate) trait Work: Send + Sync + 'static {
    /// Runs the collector of a place; must not panic.
    fn run(&self, place: usize, outcome: &mut Outcome);
    /// The name of a place, for the log.
    fn name(&self, place: usize) -> &'static str;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Queued,
    Running,
}

#[derive(Debug)]
struct Place {
    state: State,
    /// When it was queued.
    since: Option<Monotonic>,
    begun: u64,
    done: u64,
    /// A pass gave up on the present run.
    late: bool,
    /// Slow runs in a row.
    slow: u8,
    outcome: Option<Arc<Outcome>>,
    spare: Option<Arc<Outcome>>,
}

#[derive(Debug)]
struct Board {
    places: Vec<Place>,
    queue: VecDeque<usize>,
    threads: usize,
    idle: usize,
    finished: u64,
    closed: bool,
}

impl Board {
    /// Threads that a collector has kept past somebody's patience.
    fn stuck(&self) -> usize {
        self.places.iter().filter(|place| place.late && place.state == State::Running).count()
    }
}

struct Shared {
    work: Box<dyn Work>,
    board: Mutex<Board>,
    /// Wakes threads.
    queued: Condvar,
    /// Wakes passes.
    changed: Notify,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads and the board; dropping it lets the threads end as soon as their collectors return.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    clock: Clock,
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.board().closed = true;
        self.shared.queued.notify_all();
    }
}

impl Crew {
    /// A board with `places` places; threads start with the first pass.
    pub(crate) fn new(work: Box<dyn Work>, places: usize, clock: Clock) -> Crew {
        let place = || Place {
            state: State::Idle,
            since: None,
            begun: 0,
            done: 0,
            late: false,
            slow: 0,
            outcome: None,
            spare: None,
        };
        let places = std::iter::repeat_with(place).take(places).collect();
        let board = Board { places, queue: VecDeque::new(), threads: 0, idle: 0, finished: 0, closed: false };
        let shared = Shared { work, board: Mutex::new(board), queued: Condvar::new(), changed: Notify::new() };
        Crew { shared: Arc::new(shared), clock }
    }

    /// Threads that a collector has kept past somebody's patience.
    pub(crate) fn stuck(&self) -> usize {
        self.shared.board().stuck()
    }

    /// How a place stands: what its last run brought, or for how long it has been late. None before the first run.
    pub(crate) fn latest(&self, place: usize) -> Option<Answer> {
        let now = self.clock.now();
        let board = self.shared.board();
        let place = board.places.get(place)?;
        match (place.late, &place.outcome) {
            (true, _) => Some(Answer::Late(now - place.since?)),
            (false, outcome) => outcome.clone().map(Answer::Done),
        }
    }

    /// Runs that ended, ever.
    #[cfg(test)]
    pub(crate) fn finished(&self) -> u64 {
        self.shared.board().finished
    }

    /// Threads there are now.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.shared.board().threads
    }

    /// Runs the chosen places, or joins their runs, and waits for each until its run is `patience` old. The answers are
    /// in the order of `chosen`.
    pub(crate) async fn pass(&self, chosen: &[usize], patience: Duration) -> Vec<Answer> {
        let wanted = self.enqueue(chosen);
        let (mut seen, mut moved) = (0, self.clock.now());
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = self.clock.now();
            let (left, finished, waiting) = self.look(chosen, &wanted, patience, now);
            let Some(left) = left else { break };
            if finished != seen {
                (seen, moved) = (finished, now);
            } else if waiting && now - moved >= STALL {
                moved = now;
                self.start_thread(&mut self.shared.board());
            }
            let _ = self.clock.timeout(left.min(STALL), changed).await;
        }
        self.take(chosen, &wanted, patience)
    }

    /// Queues what is idle; the answer is the number of the run to wait for, by place.
    fn enqueue(&self, chosen: &[usize]) -> Vec<u64> {
        let now = self.clock.now();
        let mut guard = self.shared.board();
        let board = &mut *guard;
        let mut slow = 0;
        let mut wanted = Vec::with_capacity(chosen.len());
        for index in chosen {
            let Some(place) = board.places.get_mut(*index) else {
                wanted.push(0);
                continue;
            };
            if place.state == State::Idle {
                place.state = State::Queued;
                place.since = Some(now);
                place.begun += 1;
                if place.slow >= SLOW_RUNS {
                    slow += 1;
                    board.queue.push_front(*index);
                } else {
                    board.queue.push_back(*index);
                }
            }
            wanted.push(place.begun);
        }
        if !board.queue.is_empty() {
            let free = board.threads.saturating_sub(board.stuck());
            for _ in free..=slow {
                self.start_thread(board);
            }
            self.shared.queued.notify_all();
        }
        wanted
    }

    /// How long the most patient of the open places may still take, or none when nothing is open; the number of runs
    /// that ended; and whether the queue has somebody waiting.
    fn look(
        &self,
        chosen: &[usize],
        wanted: &[u64],
        patience: Duration,
        now: Monotonic,
    ) -> (Option<Duration>, u64, bool) {
        let board = self.shared.board();
        let left = chosen.iter().zip(wanted).filter_map(|(index, wanted)| {
            let place = board.places.get(*index).filter(|place| place.done < *wanted)?;
            patience.checked_sub(now - place.since?).filter(|left| !left.is_zero())
        });
        (left.max(), board.finished, !board.queue.is_empty())
    }

    fn take(&self, chosen: &[usize], wanted: &[u64], patience: Duration) -> Vec<Answer> {
        let now = self.clock.now();
        let mut board = self.shared.board();
        let mut answers = Vec::with_capacity(chosen.len());
        for (index, wanted) in chosen.iter().zip(wanted) {
            let Some(place) = board.places.get_mut(*index) else { continue };
            let done = place.outcome.clone().filter(|_| place.done >= *wanted);
            answers.push(match done {
                Some(outcome) => Answer::Done(outcome),
                None => {
                    let (name, seconds) = (self.shared.work.name(*index), patience.as_secs_f64());
                    if place.state != State::Running {
                        tracing::error!(name, seconds, "no thread was free for the collector");
                    } else if !place.late {
                        tracing::error!(name, seconds, "collector missed its deadline, its metrics are left out");
                        place.late = true;
                    }
                    Answer::Late(place.since.map_or(Duration::ZERO, |since| now - since))
                }
            });
        }
        answers
    }

    fn start_thread(&self, board: &mut Board) {
        if board.threads >= THREADS_MAX {
            return;
        }
        let shared = self.shared.clone();
        let clock = self.clock.clone();
        let started = std::thread::Builder::new().name("collect".to_owned()).spawn(move || walk(&shared, &clock));
        match started {
            Ok(_) => board.threads += 1,
            Err(error) => tracing::error!(%error, "cannot start a thread for the collectors"),
        }
    }
}

/// What a thread does: the queue, one after the other. Only one thread stays when the queue is empty.
fn walk(shared: &Shared, clock: &Clock) {
    let mut board = shared.board();
    loop {
        if board.closed {
            break;
        }
        let Some(index) = board.queue.pop_front() else {
            if board.idle > 0 {
                break;
            }
            board.idle += 1;
            board = shared.queued.wait(board).unwrap_or_else(PoisonError::into_inner);
            board.idle -= 1;
            continue;
        };
        let mut spare = None;
        if let Some(place) = board.places.get_mut(index) {
            place.state = State::Running;
            spare = place.spare.take();
        }
        drop(board);
        let mut outcome = spare.unwrap_or_default();
        // A pass may still be reading it; then the run gets new buffers.
        if Arc::get_mut(&mut outcome).is_none() {
            outcome = Arc::default();
        }
        if let Some(outcome) = Arc::get_mut(&mut outcome) {
            outcome.families.reset();
            outcome.error = None;
            let start = clock.now();
            shared.work.run(index, outcome);
            outcome.seconds = (clock.now() - start).as_secs_f64();
        }
        board = shared.board();
        settle(shared, &mut board, index, outcome);
    }
    board.threads -= 1;
}

/// Puts down what a run brought.
fn settle(shared: &Shared, board: &mut Board, index: usize, outcome: Arc<Outcome>) {
    board.finished += 1;
    let empty = board.queue.is_empty();
    let Some(place) = board.places.get_mut(index) else { return };
    if place.late {
        tracing::info!(name = shared.work.name(index), seconds = outcome.seconds, "late collector returned");
    }
    place.state = State::Idle;
    place.late = false;
    place.done = place.begun;
    place.slow = if outcome.seconds > SLOW_SECONDS { place.slow.saturating_add(1) } else { 0 };
    place.spare = place.outcome.replace(outcome);
    if empty {
        shared.changed.notify_waiters();
    }
}

#[cfg(test)]
#[path = "crew_tests.rs"]
mod tests;
