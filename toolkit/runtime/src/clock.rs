//! Time: a monotonic clock for schedules and a wall clock for samples.

use std::future::Future;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A moment on the monotonic clock: it never jumps and means nothing outside this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(tokio::time::Instant);

impl Sub for Monotonic {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero when `earlier` is the later one.
    fn sub(self, earlier: Monotonic) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Monotonic;

    /// A moment too far away to be represented becomes one a century away, which no process lives to see.
    fn add(self, span: Duration) -> Monotonic {
        Monotonic(self.0.checked_add(span).unwrap_or_else(|| self.0 + CENTURY))
    }
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What [`Clock::timeout`] answers when the time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// The one source of time; clones share the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Wall,
}

#[derive(Clone, Debug)]
enum Wall {
    System,
    Simulated { origin: Monotonic, start: Arc<AtomicI64> },
}

impl Clock {
    /// The clock of the machine.
    pub fn system() -> Clock {
        Clock { wall: Wall::System }
    }

    /// A clock whose wall time is `start_unix_ms` now and moves only as tokio's time moves. Make it inside a runtime
    /// whose time is paused (`#[tokio::test(start_paused = true)]`): then sleeping costs no time.
    pub fn simulated(start_unix_ms: i64) -> Clock {
        let origin = Monotonic(tokio::time::Instant::now());
        Clock { wall: Wall::Simulated { origin, start: Arc::new(AtomicI64::new(start_unix_ms)) } }
    }

    /// Now, for schedules and spans.
    pub fn now(&self) -> Monotonic {
        Monotonic(tokio::time::Instant::now())
    }

    /// Milliseconds since 1970 by the wall clock, which may jump either way.
    #[allow(clippy::disallowed_methods, reason = "this is the place that others are told to ask")]
    pub fn unix_ms(&self) -> i64 {
        match &self.wall {
            Wall::System => match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
                Ok(span) => millis(span),
                Err(before) => -millis(before.duration()),
            },
            Wall::Simulated { origin, start } => {
                start.load(Ordering::Relaxed).saturating_add(millis(self.now() - *origin))
            }
        }
    }

    /// Moves a simulated wall clock by `ms`, as an administrator or a time service would; a system clock ignores it.
    pub fn jump(&self, ms: i64) {
        if let Wall::Simulated { start, .. } = &self.wall {
            start.fetch_add(ms, Ordering::Relaxed);
        }
    }

    /// Waits until `moment`; returns at once when it is past.
    pub async fn sleep_until(&self, moment: Monotonic) {
        tokio::time::sleep_until(moment.0).await;
    }

    /// Waits for `span`.
    pub async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now() + span).await;
    }

    /// Runs `work`, dropping it when it takes longer than `limit`.
    pub async fn timeout<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        tokio::time::timeout_at((self.now() + limit).0, work).await.map_err(|_| Elapsed)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn simulated_wall_time_follows_sleeps_and_jumps() {
        let clock = Clock::simulated(1_000);
        let start = clock.now();
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.unix_ms(), 3_601_000);
        assert_eq!(clock.now() - start, Duration::from_secs(3600));
        clock.clone().jump(-601_000);
        assert_eq!(clock.unix_ms(), 3_000_000);
        assert_eq!(start - clock.now(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn timeout_drops_what_is_late_and_passes_on_what_is_not() {
        let clock = Clock::simulated(0);
        assert_eq!(clock.timeout(Duration::from_secs(1), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(clock.timeout(Duration::MAX, async { 7 }).await, Ok(7));
    }

    #[test]
    fn the_system_clock_is_later_than_the_day_this_was_written() {
        assert!(Clock::system().unix_ms() > 1_600_000_000_000);
    }
}
