//! The engine from text to answer.

use super::*;
use crate::PlanNode;
use model::{Labels, Sample};
use storage::{Limits, Memory};

/// Series of one sample every 15 s, value `base + i * slope`, and one native histogram.
fn store() -> Memory {
    let memory = Memory::new(Limits::default());
    let mut appender = memory.appender();
    type Row = (&'static str, &'static [(&'static str, &'static str)], f64, f64);
    let series: [Row; 5] = [
        ("x", &[("a", "1"), ("b", "p")], 0.0, 15.0),
        ("x", &[("a", "2"), ("b", "p")], 100.0, 0.0),
        ("y", &[("a", "1"), ("c", "q")], 10.0, 0.0),
        ("h_bucket", &[("le", "1")], 0.0, 1.0),
        ("h_bucket", &[("le", "+Inf")], 0.0, 2.0),
    ];
    for (name, labels, base, slope) in series {
        let labels = Labels::from_pairs(labels.iter().copied().chain([("__name__", name)]));
        let id = appender.series(&labels).expect("a series");
        for i in 0..41 {
            appender.float(id, Timestamp(i * 15_000), base + slope * i as f64).expect("in order");
        }
    }
    let id = appender.series(&Labels::from_pairs([("__name__", "n")])).expect("a series");
    let histogram = FloatHistogram { count: 4.0, sum: 9.0, ..FloatHistogram::default() };
    let value = Value::Histogram(Arc::new(histogram));
    appender.sample(id, Sample { at: Timestamp(600_000), start: None, value }).expect("in order");
    appender.commit().expect("committed");
    memory
}

fn engine(options: EngineOptions) -> Engine {
    Engine::new(options, Clock::simulated(0))
}

fn ask(text: &str) -> Result<String, String> {
    let answer = engine(EngineOptions::default()).instant(&store(), text, Timestamp(600_000));
    Ok(match answer.map_err(|error| error.to_string())?.value {
        QueryValue::Scalar(_, value) => value.to_string(),
        QueryValue::String(_, text) => text,
        QueryValue::Vector(rows) => {
            let line = |row: &VectorRow| match &row.value {
                Value::Float(value) => format!("{} {value}", row.labels),
                Value::Histogram(value) => format!("{} {{{} {}}}", row.labels, value.count, value.sum),
            };
            let mut lines: Vec<String> = rows.iter().map(line).collect();
            lines.sort();
            lines.join("; ")
        }
        QueryValue::Matrix(rows) => {
            let line = |row: &MatrixRow| format!("{} {}", row.labels, row.floats.len());
            rows.iter().map(line).collect::<Vec<_>>().join("; ")
        }
    })
}

#[test]
fn expressions_and_their_answers() {
    for (text, want) in [
        ("1 + 2 * 3 ^ 2", "19"),
        ("-2 ^ 2", "-4"),
        ("2 ^ 3 ^ 2", "512"),
        ("1 > bool 2", "0"),
        ("time()", "600"),
        ("\"a\"", "a"),
        ("x", "x{a=\"1\", b=\"p\"} 600; x{a=\"2\", b=\"p\"} 100"),
        ("x{a=\"1\"}[1m]", "x{a=\"1\", b=\"p\"} 4"),
        ("rate(x[1m])", "{a=\"1\", b=\"p\"} 0.9999999999999999; {a=\"2\", b=\"p\"} 0"),
        ("max_over_time(rate(x[1m])[5m:1m])", "{a=\"1\", b=\"p\"} 0.9999999999999999; {a=\"2\", b=\"p\"} 0"),
        ("sum(x)", "{} 700"),
        ("sum by (a) (x) - 1", "{a=\"1\"} 599; {a=\"2\"} 99"),
        ("avg without (a) (x)", "{b=\"p\"} 350"),
        ("count(x) + min(x) + max(x)", "{} 702"),
        ("x > 200", "x{a=\"1\", b=\"p\"} 600"),
        ("200 < x", "x{a=\"1\", b=\"p\"} 600"),
        ("x > bool 200", "{a=\"1\", b=\"p\"} 1; {a=\"2\", b=\"p\"} 0"),
        ("x / on (a) y", "{a=\"1\"} 60"),
        ("x * on (a) group_left (c) y", "{a=\"1\", b=\"p\", c=\"q\"} 6000"),
        ("x and on (a) y", "x{a=\"1\", b=\"p\"} 600"),
        ("x unless on (a) y", "x{a=\"2\", b=\"p\"} 100"),
        ("y or on (a) x", "x{a=\"2\", b=\"p\"} 100; y{a=\"1\", c=\"q\"} 10"),
        ("x offset 5m", "x{a=\"1\", b=\"p\"} 300; x{a=\"2\", b=\"p\"} 100"),
        ("x @ 0", "x{a=\"1\", b=\"p\"} 0; x{a=\"2\", b=\"p\"} 100"),
        ("topk(1, x)", "x{a=\"1\", b=\"p\"} 600"),
        ("absent(nothing{a=\"b\"})", "{a=\"b\"} 1"),
        ("absent(x)", ""),
        ("quantile(0.5, x)", "{} 350"),
        ("histogram_quantile(0.25, rate(h_bucket[1m]))", "{} 0.5"),
        ("scalar(y) + 1", "11"),
        ("n * 2", "{} {8 18}"),
        ("histogram_avg(n)", "{} 2.25"),
    ] {
        assert_eq!(ask(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn ambiguous_matches_and_clashes_are_errors() {
    for (text, want) in [
        ("y / on () x", "found duplicate series for the match group {} on the right hand-side"),
        ("x / on () y", "many-to-one matching must be explicit"),
        ("x / on (b) group_left (a) x{a=\"1\"}", "grouping labels must ensure unique matches"),
        ("rate({__name__=~\"x|y\", a=\"1\"}[1m]) / 0 + on () x", "found duplicate series"),
        ("abs(label_replace(x, \"a\", \"\", \"\", \"\"))", "vector cannot contain metrics with the same labelset"),
        ("label_replace(x, \"\", \"\", \"\", \"\")", "invalid destination label name"),
    ] {
        let error = ask(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn a_range_is_evaluated_at_every_step_and_within_its_budget() {
    let memory = store();
    let (start, end) = (Timestamp(540_000), Timestamp(600_000));
    let text = "rate(x{a=\"1\"}[1m])";
    let answer = engine(EngineOptions::default()).range(&memory, text, start, end, 30_000).expect("an answer");
    let floats = [540_000, 570_000, 600_000].map(|at| (at, 0.999_999_999_999_999_9)).to_vec();
    let labels = Labels::from_pairs([("a", "1"), ("b", "p")]);
    assert_eq!(answer.value, QueryValue::Matrix(vec![MatrixRow { labels, floats, histograms: Vec::new() }]));
    let note =
        "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:6)";
    assert_eq!(answer.infos, [note]);
    let few = engine(EngineOptions { max_samples: 10, ..EngineOptions::default() });
    assert_eq!(few.range(&memory, "x", start, end, 1000), Err(QueryError::TooManySamples));
    assert_eq!(few.instant(&memory, "x[10m]", end), Err(QueryError::TooManySamples));
    let small = engine(EngineOptions { max_memory: 1_000, ..EngineOptions::default() });
    assert_eq!(small.range(&memory, "x", start, end, 100), Err(QueryError::TooMuchMemory(1_000)));
}

#[test]
fn answers_do_not_depend_on_the_number_of_threads() {
    let memory = Memory::new(Limits::default());
    let mut appender = memory.appender();
    for series in 0..300 {
        let pairs = [("__name__", "x".to_owned()), ("a", (series % 7).to_string()), ("b", series.to_string())];
        let id = appender.series(&Labels::from_pairs(pairs)).expect("a series");
        for i in 0..40 {
            let value = f64::from((series * 31 + i * 17) % 101) / 7.0;
            appender.float(id, Timestamp(i64::from(i) * 30_000 + i64::from(series % 3)), value).expect("in order");
        }
    }
    appender.commit().expect("committed");
    let ask = |threads, text| {
        let engine = engine(EngineOptions { threads, ..EngineOptions::default() });
        engine.range(&memory, text, Timestamp(0), Timestamp(1_000_000), 1_000).expect("an answer")
    };
    for text in ["sum by (a) (rate(x[5m]))", "avg(x)", "stddev without (b) (max_over_time(x[2m]))", "x"] {
        assert_eq!(ask(1, text), ask(3, text), "{text}");
    }
}

#[test]
fn a_query_ends_when_it_is_cancelled() {
    let cancel = Some(Arc::new(AtomicBool::new(true)));
    let answer = engine(EngineOptions::default()).instant_until(&store(), "sum(x)", Timestamp(0), cancel);
    assert_eq!(answer, Err(QueryError::Canceled));
}

#[test]
fn long_chains_do_not_overflow_the_stack() {
    let text = vec!["x"; 900].join(" + ");
    assert!(ask(&text).is_ok());
    let text = format!("{}x{}", "abs(".repeat(100), ")".repeat(100));
    assert!(ask(&text).is_ok());
}

fn report(request: &Request<'_>) -> Report {
    engine(EngineOptions::default()).ask(&store(), request).expect("an answer")
}

#[test]
fn samples_are_counted_as_upstream_counts_them() {
    let (start, end) = (Timestamp(540_000), Timestamp(600_000));
    // Steps 540, 570, 600 s; a minute holds four samples, and there are two series of x.
    for (text, total, per_step, peak) in [
        ("x", 6, 2, 6),
        ("sum(x)", 6, 2, 6),
        ("rate(x[1m])", 24, 8, 10),
        ("sum(rate(x[1m]))", 24, 8, 10),
        ("x * 2", 6, 2, 6),
        ("x @ 600", 6, 2, 6),
        ("max_over_time(x[1m:30s])", 12, 4, 16),
        ("1", 0, 0, 0),
    ] {
        let stats = report(&Request { per_step: true, ..Request::range(text, start, end, 30_000) }).stats;
        let steps = [540_000, 570_000, 600_000].map(|at| (at, per_step));
        assert_eq!((stats.total_samples, stats.per_step.as_slice()), (total, &steps[..]), "{text}");
        assert_eq!(stats.peak_samples, peak, "{text}");
    }
    assert_eq!(report(&Request::instant("x[1m]", end)).stats.total_samples, 8);
    assert_eq!(report(&Request::instant("x[1m:30s]", end)).stats.total_samples, 4);
}

#[test]
fn a_query_tells_what_its_parts_took() {
    let (start, end) = (Timestamp(540_000), Timestamp(600_000));
    let text = "sum by (a) (rate(x[1m])) / on (a) (y)";
    let plan = report(&Request { explain: true, ..Request::range(text, start, end, 30_000) }).plan.expect("a plan");
    assert_eq!((plan.kind, plan.series, plan.operands.len()), ("operator", 1, 2));
    let sum = &plan.operands[0];
    assert_eq!(
        (sum.text.as_str(), sum.kind, sum.series, sum.samples),
        ("sum by (a) (rate(x[1m]))", "aggregation", 2, 6)
    );
    let rate = &sum.operands[0];
    assert_eq!((rate.kind, rate.streamed, rate.series, rate.samples), ("function", true, 2, 6));
    let x = &rate.operands[0];
    assert_eq!((x.kind, x.series, x.samples), ("selector", 2, 16));
    assert!(x.bytes > 0);
    assert_eq!((plan.operands[1].kind, plan.operands[1].series), ("selector", 1));
    assert_eq!(report(&Request::instant(text, end)).plan, None);
}

#[test]
fn names_taken_away_may_make_series_one() {
    let memory = Memory::new(Limits::default());
    let mut appender = memory.appender();
    for (name, from, to) in [("p_total", 0, 20), ("q_total", 20, 40), ("r_total", 0, 40)] {
        let id = appender.series(&Labels::from_pairs([("__name__", name), ("a", "1")])).expect("a series");
        for i in from..to {
            appender.float(id, Timestamp(i * 15_000), 1.0).expect("in order");
        }
    }
    appender.commit().expect("committed");
    let ask = |text: &str| {
        let engine = engine(EngineOptions { lookback: Duration::from_secs(10), ..EngineOptions::default() });
        engine.range(&memory, text, Timestamp(0), Timestamp(585_000), 15_000).map(|answer| answer.value)
    };
    let points = |text: &str| match ask(text) {
        Ok(QueryValue::Matrix(rows)) => rows.iter().map(|row| row.floats.len()).collect::<Vec<_>>(),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(points("{__name__=~\"p_total|q_total\"} + 1"), [40], "rows of equal labels take turns");
    assert_eq!(points("sum(-{__name__=~\"p_total|q_total\"})"), [40]);
    assert_eq!(points("sum(abs({__name__=~\"p_total|q_total\"}) > 0)"), [40]);
    for text in ["abs({__name__=~\"p_total|r_total\"})", "sum(rate({__name__=~\"p_total|q_total\"}[1m]))"] {
        let error = ask(text).expect_err(text).to_string();
        assert_eq!(error, "vector cannot contain metrics with the same labelset", "{text}");
    }
}

#[test]
fn an_aggregation_that_comes_again_is_evaluated_once() {
    let (start, end) = (Timestamp(540_000), Timestamp(600_000));
    let ask = |text| report(&Request { explain: true, per_step: true, ..Request::range(text, start, end, 30_000) });
    // The same, written so that nothing is equal.
    let (again, apart) = (ask("sum(x) / (sum(x) + sum(y))"), ask("sum(x) / (sum(x{a=~\".+\"}) + sum(y))"));
    assert_eq!(again.answer, apart.answer);
    assert_eq!(again.stats.per_step, apart.stats.per_step);
    let selectors = |plan: Option<PlanNode>| {
        let plan = plan.expect("a plan");
        let right = &plan.operands[1].operands[0];
        (plan.operands[0].operands[0].series, right.operands[0].series)
    };
    assert_eq!((selectors(again.plan), selectors(apart.plan)), ((2, 0), (2, 2)));
    // What is to be said is said where it stands last.
    let infos = ask("sum(rate(x[1m])) + sum(rate(x[1m]))").answer.infos;
    assert!(infos.len() == 1 && infos[0].ends_with("(1:29)"), "{infos:?}");
}
