//! The queries of the compliance suite (`conformance/compliance/promql/promql-test-queries.yml`), each with all its
//! variants, over series of the names that its demo service has.

use anyhow::{Context, Result, ensure};

/// What stands for a placeholder, as the suite's program has it.
const VARIANTS: &[(&str, &[&str])] = &[
    ("range", &["1s", "15s", "1m", "5m", "15m", "1h"]),
    ("offset", &["1m", "5m", "10m"]),
    ("simpleAggrOp", &["sum", "avg", "max", "min", "count", "stddev", "stdvar"]),
    ("simpleTimeAggrOp", &["sum", "avg", "max", "min", "count", "stddev", "stdvar", "absent", "last"]),
    ("topBottomOp", &["topk", "bottomk"]),
    ("quantile", &["-0.5", "0.1", "0.5", "0.75", "0.95", "0.90", "0.99", "1", "1.5"]),
    ("arithBinOp", &["+", "-", "*", "/", "%", "^"]),
    ("compBinOp", &["==", "!=", "<", ">", "<=", ">="]),
    ("binOp", &["+", "-", "*", "/", "%", "^", "==", "!=", "<", ">", "<=", ">="]),
    ("simpleMathFunc", &["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "round"]),
    ("extrapolatedRateFunc", &["delta", "rate", "increase"]),
    ("clampFunc", &["clamp_min", "clamp_max"]),
    ("instantRateFunc", &["idelta", "irate"]),
    ("dateFunc", &["day_of_month", "day_of_week", "days_in_month", "hour", "minute", "month", "year"]),
    ("smoothingFactor", &["0.1", "0.5", "0.8"]),
    ("trendFactor", &["0.1", "0.5", "0.8"]),
];

/// All queries of the list with everything put in for their placeholders.
pub(crate) fn queries(list: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let texts = list.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("query: "));
    for text in texts {
        let text = text.trim();
        let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'));
        let text = quote.and_then(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text);
        all.extend(expanded(text)?);
    }
    ensure!(!all.is_empty(), "the list holds no query");
    Ok(all)
}

fn expanded(text: &str) -> Result<Vec<String>> {
    let Some((before, rest)) = text.split_once("{{.") else { return Ok(vec![text.to_owned()]) };
    let (name, _) = rest.split_once("}}").context("a placeholder without an end")?;
    let known = VARIANTS.iter().find(|(have, _)| *have == name);
    let (_, values) = known.with_context(|| format!("{before}: nothing is known to stand for {name}"))?;
    let mut all = Vec::new();
    for value in *values {
        all.extend(expanded(&text.replace(&format!("{{{{.{name}}}}}"), value))?);
    }
    Ok(all)
}
