//! Collectors that block on a channel, under a clock that only the test moves.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps tokio's paused time from running ahead while other threads work.
struct Hold(Option<Sender<()>>);

impl Hold {
    fn new() -> Hold {
        let (sender, receiver) = channel::<()>();
        // A parked blocking task is what stops the clock.
        tokio::task::spawn_blocking(move || receiver.recv());
        Hold(Some(sender))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Places below `gates.len()` wait for their gate; the others return at once.
struct Fake {
    gates: Vec<Mutex<Receiver<()>>>,
    started: UnboundedSender<usize>,
    runs: Arc<AtomicUsize>,
}

impl Work for Fake {
    fn run(&self, place: usize, outcome: &mut Outcome) {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let _ = self.started.send(place);
        if let Some(gate) = self.gates.get(place) {
            let _ = gate.lock().map(|gate| gate.recv());
        }
        outcome.families.gauge("a", "A.", place as f64);
    }

    fn name(&self, _: usize) -> &'static str {
        "fake"
    }
}

struct Bench {
    crew: Crew,
    gates: Vec<Sender<()>>,
    started: UnboundedReceiver<usize>,
    runs: Arc<AtomicUsize>,
    _hold: Hold,
}

/// A crew with `blocking` places that wait and `quick` ones that do not.
fn bench(blocking: usize, quick: usize) -> Bench {
    let (gates, waits): (Vec<_>, Vec<_>) = (0..blocking).map(|_| channel()).unzip();
    let (sender, started) = unbounded_channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let fake = Fake { gates: waits.into_iter().map(Mutex::new).collect(), started: sender, runs: runs.clone() };
    let crew = Crew::new(Box::new(fake), blocking + quick, Clock::simulated(0));
    Bench { crew, gates, started, runs, _hold: Hold::new() }
}

impl Bench {
    /// Lets the threads work until so many runs have ended.
    async fn until_finished(crew: &Crew, runs: u64) {
        while crew.finished() < runs {
            tokio::task::yield_now().await;
        }
    }
}

fn late(answers: &[Answer]) -> Vec<bool> {
    answers.iter().map(|answer| matches!(answer, Answer::Late(_))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_blocked_collector_costs_only_itself() {
    let mut bench = bench(1, 3);
    let crew = &bench.crew;
    let drive = async {
        assert_eq!(bench.started.recv().await, Some(0), "the first of the queue blocks");
        // One tick sees the stall, and another thread takes the rest.
        tokio::time::advance(STALL).await;
        Bench::until_finished(crew, 3).await;
        tokio::time::advance(PATIENCE).await;
    };
    let (answers, ()) = tokio::join!(crew.pass(&[0, 1, 2, 3], PATIENCE), drive);
    assert_eq!(late(&answers), [true, false, false, false]);
    assert!(matches!(answers[0], Answer::Late(age) if age >= PATIENCE));
    assert_eq!(crew.stuck(), 1);
    // The next pass does not wait for it, and does not start it again.
    let answers = crew.pass(&[0, 1], PATIENCE).await;
    assert_eq!(late(&answers), [true, false]);
    assert_eq!((crew.stuck(), bench.runs.load(Ordering::SeqCst)), (1, 5));
    // Once it returns it is as good as new.
    bench.gates[0].send(()).expect("open");
    Bench::until_finished(crew, 5).await;
    assert_eq!(crew.stuck(), 0);
    bench.gates[0].send(()).expect("open");
    assert_eq!(late(&crew.pass(&[0], PATIENCE).await), [false]);
}

#[tokio::test(start_paused = true)]
async fn passes_at_the_same_time_share_a_run() {
    let mut bench = bench(1, 0);
    let crew = &bench.crew;
    let drive = async {
        bench.started.recv().await;
        bench.gates[0].send(()).expect("open");
    };
    let pass = || crew.pass(&[0], PATIENCE);
    let (one, two, three, ()) = tokio::join!(pass(), pass(), pass(), drive);
    assert!([one, two, three].iter().all(|answers| late(answers) == [false]));
    assert_eq!((bench.runs.load(Ordering::SeqCst), crew.threads()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_more_patient_pass_waits_for_what_others_gave_up() {
    let mut bench = bench(1, 0);
    let crew = &bench.crew;
    let drive = async {
        bench.started.recv().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    };
    let (answers, ()) = tokio::join!(crew.pass(&[0], Duration::from_secs(1)), drive);
    assert_eq!(late(&answers), [true]);
    let (answers, sent) = tokio::join!(crew.pass(&[0], PATIENCE), async { bench.gates[0].send(()) });
    assert!(sent.is_ok());
    assert_eq!(late(&answers), [false]);
    assert_eq!(bench.runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn threads_are_bounded() {
    let mut bench = bench(THREADS_MAX + 2, 1);
    let crew = &bench.crew;
    let all: Vec<usize> = (0..THREADS_MAX + 3).collect();
    let drive = async {
        for _ in 0..THREADS_MAX {
            bench.started.recv().await;
            tokio::time::advance(STALL).await;
        }
        tokio::time::advance(PATIENCE).await;
    };
    let (answers, ()) = tokio::join!(crew.pass(&all, PATIENCE), drive);
    assert!(late(&answers).iter().all(|late| *late), "nobody is left to run the others");
    assert_eq!((crew.threads(), crew.stuck()), (THREADS_MAX, THREADS_MAX));
    assert_eq!(bench.runs.load(Ordering::SeqCst), THREADS_MAX);
    for gate in &bench.gates {
        gate.send(()).expect("open");
    }
    Bench::until_finished(crew, THREADS_MAX as u64 + 3).await;
    assert_eq!(crew.stuck(), 0);
}
