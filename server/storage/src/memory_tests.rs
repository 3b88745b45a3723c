//! Limits and expiry of the in-memory store; what every store does is in the contract suite.

use super::*;
use model::MatchOp;

fn series(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

fn put(memory: &Memory, name: &str, at: i64) -> Result<(), AppendError> {
    let mut appender = memory.appender();
    let id = appender.series(&series(name))?;
    appender.float(id, Timestamp(at), 1.0)?;
    appender.commit()
}

fn times(memory: &Memory, name: &str) -> Vec<i64> {
    let querier = memory.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut set = querier.select(&[Matcher::new(MatchOp::Equal, "__name__", name).expect("valid")]).expect("readable");
    let mut batch = Vec::new();
    set.next_batch(1, &mut batch).expect("readable");
    batch.first().map_or(Vec::new(), |columns| columns.times.to_vec())
}

#[test]
fn the_contract_holds() {
    crate::contract::check(&|| Box::new(Memory::new(Limits::default())));
}

#[test]
fn a_new_series_over_the_limit_is_refused_by_flag_name() {
    let memory = Memory::new(Limits { series_max: 1, ..Limits::default() });
    put(&memory, "a", 1).expect("the first");
    let error = put(&memory, "b", 1).expect_err("the second");
    assert_eq!(error.to_string(), "series limit of 1 reached, raise --storage.memory.series-max");
    put(&memory, "a", 2).expect("a known series goes on");
}

#[test]
fn over_the_sample_limit_the_oldest_go() {
    let memory = Memory::new(Limits { samples_max: 100, retention: None, ..Limits::default() });
    for i in 0..1000 {
        put(&memory, "a", i).expect("stored");
    }
    let times = times(&memory, "a");
    assert!(times.len() <= 100 && times.len() > 80, "{} held", times.len());
    assert_eq!(times.last(), Some(&999));
}

#[test]
fn retention_drops_samples_refuses_old_ones_and_forgets_empty_series() {
    let hour = 3_600_000;
    let limits = Limits { retention: Some(Duration::from_millis(hour)), ..Limits::default() };
    let memory = Memory::new(limits);
    put(&memory, "gone", 0).expect("stored");
    // Registered by a transaction that was given up.
    memory.appender().series(&series("never")).expect("a series");
    for minute in 0..70 {
        put(&memory, "a", minute * 60_000).expect("stored");
    }
    assert_eq!(times(&memory, "a").first(), Some(&(9 * 60_000)));
    assert_eq!(put(&memory, "late", 0), Err(AppendError::OutOfBounds));
    assert_eq!(memory.stats().series, 2, "what holds nothing is forgotten, but for what just came");
}
