//! When a target is scraped: a stable place within its interval, and times that fall on it. Pure.

use model::Labels;
use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

/// How far a scrape may be from its ideal time and still be stamped with it.
const ALIGN_MS_MAX: i64 = 2;

/// Spreads targets over their interval. The seed differs between servers, so that a pair does not ask in step.
pub(crate) fn place(labels: &Labels, url: &str, seed: u64) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((labels.hash64(), url)) ^ seed
}

/// The time from `unix_ms` to the next scrape.
pub(crate) fn offset(interval: Duration, place: u64, unix_ms: i64) -> Duration {
    let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let now = unix_ms.rem_euclid(i64::try_from(interval).unwrap_or(i64::MAX)).unsigned_abs();
    Duration::from_millis((interval - now + place % interval) % interval)
}

/// The time on samples: the ideal tick when the real one is at most 2 ms or 1 % of the interval off, which makes times
/// regular and so cheap to store; else the real one.
pub(crate) fn aligned(ideal_ms: i64, real_ms: i64, interval: Duration) -> i64 {
    let tolerance = ALIGN_MS_MAX.min(i64::try_from(interval.as_millis() / 100).unwrap_or(i64::MAX));
    if ideal_ms.abs_diff(real_ms) <= tolerance.unsigned_abs() { ideal_ms } else { real_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_put_the_next_scrape_on_its_place() {
        let interval = Duration::from_secs(15);
        for now in [0, 1, 14_999, 15_000, 1_700_000_000_123] {
            for place in [0, 1, 14_999, u64::MAX] {
                let wait = offset(interval, place, now);
                assert!(wait < interval);
                let at = now.unsigned_abs() + u64::try_from(wait.as_millis()).expect("small");
                assert_eq!(at % 15_000, place % 15_000, "now {now}, place {place}");
            }
        }
    }

    #[test]
    fn targets_spread_and_seeds_differ() {
        let places: Vec<u64> = (0..1000)
            .map(|i| place(&Labels::from_pairs([("instance", i.to_string())]), "http://x/metrics", 7) % 10)
            .collect();
        for tenth in 0..10 {
            let share = places.iter().filter(|place| **place == tenth).count();
            assert!((60..140).contains(&share), "{share} of 1000 in tenth {tenth}");
        }
        let labels = Labels::empty();
        assert_ne!(place(&labels, "u", 1), place(&labels, "u", 2));
    }

    #[test]
    fn times_are_aligned_within_the_tolerance_only() {
        let (second, tenth) = (Duration::from_secs(1), Duration::from_millis(100));
        for (interval, real, want) in
            [(second, 1002, 1000), (second, 998, 1000), (second, 1003, 1003), (tenth, 1001, 1000), (tenth, 1002, 1002)]
        {
            assert_eq!(aligned(1000, real, interval), want, "{real}");
        }
    }
}
