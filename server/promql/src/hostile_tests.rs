//! Queries that mean harm: an error or an answer, in bounded time and memory.

use crate::{Engine, EngineOptions, QueryError, QueryValue, Request};
use model::{Labels, Timestamp};
use runtime::Clock;
use storage::{Limits, Memory, Storage};

fn engine() -> Engine {
    Engine::new(EngineOptions::default(), Clock::simulated(0))
}

fn store(series: usize) -> Memory {
    let memory = Memory::new(Limits::default());
    let mut appender = memory.appender();
    for number in 0..series {
        let labels = Labels::from_pairs([("__name__", "x"), ("number", number.to_string().as_str())]);
        let id = appender.series(&labels).expect("a series");
        for (at, value) in [(0, f64::NAN), (1_000, f64::INFINITY), (2_000, number as f64)] {
            appender.float(id, Timestamp(at), value).expect("in order");
        }
    }
    appender.commit().expect("committed");
    memory
}

#[test]
fn texts_too_deep_or_too_large_are_refused_or_answered() {
    let (memory, deep) = (store(1), 100_000);
    let nested = [
        format!("{}x{}", "(".repeat(deep), ")".repeat(deep)),
        "(".repeat(deep),
        format!("{}1", "-".repeat(deep)),
        format!("{}x{}", "abs(".repeat(deep), ")".repeat(deep)),
        format!("{}x{}", "sum(".repeat(deep), ")".repeat(deep)),
        format!("x{}", "[1m:1m]".repeat(deep)),
        format!("x[{}1{}]", "(".repeat(deep), ")".repeat(deep)),
        format!("1{}", " ^ 1".repeat(deep)),
        // Not deep, only long.
        format!("1{}", " + 1".repeat(deep)),
    ];
    for text in nested {
        let error = engine().instant(&memory, &text, Timestamp(0)).expect_err("too deep").to_string();
        assert!(error.len() < 1_000, "{}", &error[..200]);
    }
    for pattern in
        ["a".repeat(1 << 20), "(a|b)*".repeat(1 << 12), "(a{1000}){1000}".to_owned(), "[^x]{9}".repeat(1 << 10)]
    {
        let text = format!("x{{number=~\"{pattern}\"}}");
        match engine().instant(&memory, &text, Timestamp(0)) {
            Ok(answer) => assert_eq!(answer.value, QueryValue::Vector(Vec::new())),
            Err(QueryError::Parse(error)) => assert!(error.message.len() < 3 << 20),
            Err(other) => panic!("{other}"),
        }
    }
    for text in
        ["x{number=\"\\xff\"}", "label_replace(x, \"\\xff\", \"\", \"\", \"\")", "\"\\xff\"", "x{\"\\xff\"=\"\"}"]
    {
        let _ = engine().instant(&memory, text, Timestamp(0));
    }
}

#[test]
fn times_at_the_ends_of_time_overflow_nothing() {
    let memory = store(2);
    let ends = [i64::MIN, i64::MIN + 1, -1, 0, 2_000, i64::MAX - 1, i64::MAX];
    for text in [
        "x",
        "rate(x[292y])",
        "sum_over_time(x[1ms])",
        "x offset 292y",
        "x offset -292y",
        "max_over_time(x[292y:146y])",
        "timestamp(x)",
        "year(vector(time()))",
        "predict_linear(x[1m], 1e300)",
        "x @ 9223372036854775.807",
        "absent_over_time(x[292y])",
        "day_of_year() + hour()",
        "topk(NaN, x)",
        "quantile(NaN, x)",
        "histogram_quantile(NaN, x)",
        "x * 1e308 * 1e308 - x * 1e308 * 1e308",
        "x % 0 / 0 ^ NaN",
    ] {
        for (at, start) in ends.iter().enumerate() {
            let _ = engine().instant(&memory, text, Timestamp(*start));
            for end in &ends[at..] {
                let step = (i128::from(*end) - i128::from(*start)) / 7 + 1;
                let step = u64::try_from(step).unwrap_or(u64::MAX).min(i64::MAX as u64);
                let _ = engine().range(&memory, text, Timestamp(*start), Timestamp(*end), step);
            }
        }
        for step in [0, u64::MAX] {
            let _ = engine().range(&memory, text, Timestamp(i64::MIN), Timestamp(i64::MAX), step);
        }
        let many = engine().range(&memory, text, Timestamp(i64::MIN), Timestamp(i64::MAX), 1);
        assert!(matches!(many, Err(QueryError::TooManySamples | QueryError::Parse(_))), "{text}");
    }
}

#[test]
fn a_query_holds_no_more_than_it_may() {
    let memory = store(2_000);
    let (start, end) = (Timestamp(0), Timestamp(1_000_000));
    let limited = |options: EngineOptions, text| {
        Engine::new(options, Clock::simulated(0)).ask(&memory, &Request::range(text, start, end, 1_000)).map(|_| ())
    };
    let small = EngineOptions { max_memory: 1 << 20, ..EngineOptions::default() };
    // 2,000 series of 1,001 steps fit only as long as they are folded.
    assert_eq!(limited(small.clone(), "sum(x)"), Ok(()));
    assert_eq!(limited(small.clone(), "count(rate(x[10m]) * 2 > 0)"), Ok(()));
    for text in ["x", "x + x", "sum by (number) (x)", "topk(1, x)", "count_values(\"v\", x)", "sort(x)"] {
        assert_eq!(limited(small.clone(), text), Err(QueryError::TooMuchMemory(1 << 20)), "{text}");
    }
    let few = EngineOptions { max_samples: 10_000, ..EngineOptions::default() };
    assert_eq!(limited(few, "sum(x)"), Err(QueryError::TooManySamples));
}
