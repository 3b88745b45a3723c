//! The rate limit over all clients: a bucket that gains a token each interval and starts full.

use crate::config::RateLimit;
use parking_lot::Mutex;
use runtime::{Clock, Monotonic};

/// The bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    limit: RateLimit,
    clock: Clock,
    level: Mutex<(f64, Monotonic)>,
}

impl Bucket {
    /// None where nothing is limited.
    pub(crate) fn new(limit: RateLimit, clock: &Clock) -> Option<Self> {
        let level = Mutex::new((f64::from(limit.burst), clock.now()));
        (!limit.interval.is_zero()).then(|| Self { limit, clock: clock.clone(), level })
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self) -> bool {
        let now = self.clock.now();
        let mut level = self.level.lock();
        let (tokens, since) = *level;
        let gained = (now - since).as_secs_f64() / self.limit.interval.as_secs_f64();
        let tokens = (tokens + gained).min(f64::from(self.limit.burst));
        let taken = tokens >= 1.0;
        *level = (if taken { tokens - 1.0 } else { tokens }, now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn tokens_come_by_the_interval_and_are_saved_up_to_the_burst() {
        let clock = Clock::simulated(0);
        let limit = RateLimit { interval: Duration::from_secs(1), burst: 2 };
        let bucket = Bucket::new(limit, &clock).expect("a limit");
        let taken = |bucket: &Bucket| (0..5).filter(|_| bucket.take()).count();
        assert_eq!(taken(&bucket), 2);
        clock.sleep(Duration::from_millis(1001)).await;
        assert_eq!(taken(&bucket), 1);
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(taken(&bucket), 2);
    }

    /// Seen on pushgateway 1.11.2.
    #[tokio::test(start_paused = true)]
    async fn without_a_burst_nothing_passes_and_without_an_interval_everything_does() {
        let clock = Clock::simulated(0);
        let bucket = Bucket::new(RateLimit { interval: Duration::from_secs(1), burst: 0 }, &clock).expect("a limit");
        clock.sleep(Duration::from_secs(60)).await;
        assert!(!bucket.take());
        assert!(Bucket::new(RateLimit { interval: Duration::ZERO, burst: 0 }, &clock).is_none());
    }
}
