//! Quantiles of what was observed in the last ten minutes.
//!
//! Source of truth: upstream's summaries, which use the targeted quantiles of Cormode, Korn, Muthukrishnan and
//! Srivastava ("Effective computation of biased quantiles over data streams"). Five streams see every observation; each
//! is emptied in turn every two minutes, and the oldest answers.

use crate::instruments::Instrument;
use exposition::MetricValue;
use parking_lot::Mutex;
use runtime::{Clock, Monotonic};
use std::{sync::Arc, time::Duration};

/// How long a stream lives, in turns.
const STREAMS: usize = 5;

/// A stream is emptied this often: ten minutes over all.
const TURN: Duration = Duration::from_secs(120);

/// Observations gathered before they are merged.
const BUFFER_MAX: usize = 500;

/// Counts and sums observations, and tells their quantiles. Memory grows with the logarithm of their number.
#[derive(Clone, Debug)]
pub struct Summary(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    quantiles: Vec<(f64, f64)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    count: u64,
    sum: f64,
    streams: [Stream; STREAMS],
    oldest: usize,
    turn_ends: Monotonic,
}

impl Summary {
    /// A summary of these quantiles, each with the error of its rank that is allowed, as `(0.5, 0.05)`. Quantiles
    /// outside 0 to 1 are left out.
    pub fn new(quantiles: &[(f64, f64)], clock: &Clock) -> Self {
        let fits = |(quantile, error): &&(f64, f64)| (0.0..=1.0).contains(quantile) && *error > 0.0;
        let mut quantiles: Vec<(f64, f64)> = quantiles.iter().filter(fits).copied().collect();
        quantiles.sort_by(|a, b| a.0.total_cmp(&b.0));
        let turn_ends = clock.now() + TURN;
        let state = State { count: 0, sum: 0.0, streams: Default::default(), oldest: 0, turn_ends };
        Self(Arc::new(Inner { clock: clock.clone(), quantiles, state: Mutex::new(state) }))
    }

    /// Counts an observation. Amortised O(log buffer).
    pub fn observe(&self, value: f64) {
        let mut state = self.0.state.lock();
        state.turn(self.0.clock.now());
        state.count += 1;
        state.sum += value;
        if !self.0.quantiles.is_empty() {
            state.streams.iter_mut().for_each(|stream| stream.insert(value, &self.0.quantiles));
        }
    }
}

impl Instrument for Summary {
    fn value(&self) -> MetricValue {
        let targets = &self.0.quantiles;
        let mut state = self.0.state.lock();
        state.turn(self.0.clock.now());
        let oldest = state.oldest;
        let stream = &mut state.streams[oldest];
        stream.flush(targets);
        let quantiles = targets.iter().map(|(quantile, _)| (*quantile, stream.query(*quantile, targets))).collect();
        MetricValue::Summary { count: state.count as f64, sum: state.sum, quantiles, start: None }
    }
}

impl State {
    /// Empties the streams whose time is over.
    fn turn(&mut self, now: Monotonic) {
        for _ in 0..STREAMS {
            if now < self.turn_ends {
                return;
            }
            self.streams[self.oldest] = Stream::default();
            self.oldest = (self.oldest + 1) % STREAMS;
            self.turn_ends = self.turn_ends + TURN;
        }
        // Everything is older than the window; begin anew from here.
        if now >= self.turn_ends {
            self.turn_ends = now + TURN;
        }
    }
}

/// Some observations as one: `width` of them, whose ranks are known up to `slack`.
#[derive(Clone, Copy, Debug)]
struct Run {
    value: f64,
    width: f64,
    slack: f64,
}

#[derive(Debug, Default)]
struct Stream {
    runs: Vec<Run>,
    buffer: Vec<f64>,
    /// Observations in `runs`.
    total: f64,
}

impl Stream {
    fn insert(&mut self, value: f64, targets: &[(f64, f64)]) {
        if value.is_nan() {
            return;
        }
        self.buffer.push(value);
        if self.buffer.len() >= BUFFER_MAX {
            self.flush(targets);
        }
    }

    /// How many ranks a run at `rank` may span.
    fn allowed(&self, rank: f64, targets: &[(f64, f64)]) -> f64 {
        let one = |(quantile, error): &(f64, f64)| {
            if quantile * self.total <= rank {
                2.0 * error * rank / quantile
            } else {
                2.0 * error * (self.total - rank) / (1.0 - quantile)
            }
        };
        targets.iter().map(one).fold(f64::MAX, f64::min)
    }

    /// Merges the buffer into the runs. O(runs + buffer).
    fn flush(&mut self, targets: &[(f64, f64)]) {
        if self.buffer.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.sort_by(f64::total_cmp);
        let old = std::mem::take(&mut self.runs);
        let mut merged = Vec::with_capacity(old.len() + buffer.len());
        let (mut rank, mut old) = (0.0, old.into_iter().peekable());
        for value in buffer.drain(..) {
            while let Some(run) = old.next_if(|run| run.value <= value) {
                rank += run.width;
                merged.push(run);
            }
            // The greatest and the smallest are known exactly.
            let inside = old.peek().is_some() && !merged.is_empty();
            let slack = if inside { (self.allowed(rank, targets).floor() - 1.0).max(0.0) } else { 0.0 };
            merged.push(Run { value, width: 1.0, slack });
            self.total += 1.0;
            rank += 1.0;
        }
        merged.extend(old);
        self.buffer = buffer;
        self.runs = merged;
        self.compress(targets);
    }

    /// Joins runs that together still span few enough ranks.
    fn compress(&mut self, targets: &[(f64, f64)]) {
        let runs = std::mem::take(&mut self.runs);
        let mut kept: Vec<Run> = Vec::with_capacity(runs.len());
        let mut rank = self.total;
        let last = runs.len().saturating_sub(1);
        for (i, run) in runs.into_iter().enumerate().rev() {
            rank -= run.width;
            match kept.last_mut() {
                Some(above)
                    if i > 0 && i < last && run.width + above.width + above.slack <= self.allowed(rank, targets) =>
                {
                    above.width += run.width;
                }
                _ => kept.push(run),
            }
        }
        kept.reverse();
        self.runs = kept;
    }

    /// The value at a quantile; NaN when nothing was observed.
    fn query(&self, quantile: f64, targets: &[(f64, f64)]) -> f64 {
        let wanted = (quantile * self.total).ceil();
        let wanted = wanted + (self.allowed(wanted, targets) / 2.0).floor();
        let (mut rank, mut found) = (0.0, f64::NAN);
        for run in &self.runs {
            if !found.is_nan() && rank + run.width + run.slack > wanted.max(1.0) {
                return found;
            }
            rank += run.width;
            found = run.value;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &[(f64, f64)] = &[(0.1, 0.01), (0.5, 0.05), (0.9, 0.01), (0.99, 0.001)];

    fn quantiles(summary: &Summary) -> Vec<f64> {
        let MetricValue::Summary { quantiles, .. } = summary.value() else { panic!("no summary") };
        quantiles.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn ranks_are_within_the_allowed_error() {
        let summary = Summary::new(TARGETS, &Clock::system());
        let mut random = 88_172_645_463_325_252_u64;
        let mut all = Vec::new();
        for _ in 0..40_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let value = ((random >> 11) as f64 / (1u64 << 53) as f64).powi(3) * 10.0;
            summary.observe(value);
            all.push(value);
        }
        all.sort_by(f64::total_cmp);
        for ((quantile, error), value) in TARGETS.iter().zip(quantiles(&summary)) {
            let rank = all.partition_point(|one| *one < value) as f64 / all.len() as f64;
            assert!((rank - quantile).abs() <= 2.0 * error, "{quantile}: rank {rank}");
        }
        let runs = summary.0.state.lock().streams[0].runs.len();
        assert!(runs < 1500, "{runs} runs");
    }

    #[test]
    fn few_observations_are_told_exactly() {
        let summary = Summary::new(TARGETS, &Clock::system());
        assert!(quantiles(&summary).iter().all(|value| value.is_nan()));
        summary.observe(1037.0);
        assert_eq!(quantiles(&summary), [1037.0; 4]);
        let summary = Summary::new(&[(0.5, 0.05), (0.9, 0.01)], &Clock::system());
        (1..=10).for_each(|value| summary.observe(f64::from(value)));
        assert_eq!(quantiles(&summary), [5.0, 9.0]);
        let MetricValue::Summary { count, sum, .. } = summary.value() else { panic!("no summary") };
        assert_eq!((count, sum), (10.0, 55.0));
    }

    #[tokio::test(start_paused = true)]
    async fn old_observations_are_forgotten_but_counted() {
        let clock = Clock::simulated(0);
        let summary = Summary::new(&[(0.5, 0.05)], &clock);
        summary.observe(1.0);
        tokio::time::advance(Duration::from_secs(300)).await;
        summary.observe(3.0);
        assert_eq!(quantiles(&summary), [1.0]);
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_eq!(quantiles(&summary), [3.0]);
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(quantiles(&summary)[0].is_nan());
        assert!(matches!(summary.value(), MetricValue::Summary { count: 2.0, sum: 4.0, .. }));
    }
}
