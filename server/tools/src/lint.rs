//! What is wrong with the names and types of metrics, as the naming page of the Prometheus documentation wants them.

use exposition::{Family, MetricType};

/// Base units, and the others with the base unit that they ought to be.
const BASE: &[&str] =
    &["amperes", "bytes", "celsius", "grams", "joules", "kelvin", "kelvins", "meters", "metres", "seconds", "volts"];
const UNITS: &[(&str, &str)] = &[
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];
const PREFIXES: &[&str] = &[
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi", "mebi", "giga",
    "gibi", "tera", "tebi", "peta", "pebi",
];
const ABBREVIATED: &[&str] = &["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];

/// Lines of name and problem, in order. O(metrics).
pub(crate) fn problems(families: &[Family]) -> Vec<String> {
    let mut all = Vec::new();
    for family in families {
        let mut found = Vec::new();
        if family.help.is_empty() {
            found.push("no help text".to_owned());
        }
        suffixes(family, &mut found);
        labels(family, &mut found);
        name(family, &mut found);
        all.extend(found.into_iter().map(|problem| format!("{} {problem}", family.name)));
    }
    all.sort();
    all.dedup();
    all
}

fn suffixes(family: &Family, found: &mut Vec<String>) {
    let (name, kind) = (&family.name, family.kind);
    let total = name.ends_with("_total");
    match kind {
        MetricType::Counter if !total => found.push("counter metrics should have \"_total\" suffix".to_owned()),
        MetricType::Counter | MetricType::Unknown => {}
        _ if total => found.push("non-counter metrics should not have \"_total\" suffix".to_owned()),
        _ => {}
    }
    if kind == MetricType::Unknown {
        return;
    }
    let histogram = matches!(kind, MetricType::Histogram | MetricType::GaugeHistogram);
    if !histogram && name.ends_with("_bucket") {
        found.push("non-histogram metrics should not have \"_bucket\" suffix".to_owned());
    }
    for suffix in ["_count", "_sum"] {
        if !histogram && kind != MetricType::Summary && name.ends_with(suffix) {
            found.push(format!("non-histogram and non-summary metrics should not have \"{suffix}\" suffix"));
        }
    }
    let word = kind.as_str();
    if name.ends_with(&format!("_{word}")) || name.contains(&format!("_{word}_")) {
        found.push(format!("metric name should not include type '{word}'"));
    }
}

fn labels(family: &Family, found: &mut Vec<String>) {
    let names = || family.metrics.iter().flat_map(|metric| metric.labels.iter().map(|(name, _)| name));
    if names().any(camel) {
        found.push("label names should be written in 'snake_case' not 'camelCase'".to_owned());
    }
    if family.kind == MetricType::Unknown {
        return;
    }
    for (kind, label, word) in
        [(MetricType::Histogram, "le", "non-histogram"), (MetricType::Summary, "quantile", "non-summary")]
    {
        if family.kind != kind && names().any(|name| name == label) {
            found.push(format!("{word} metrics should not have \"{label}\" label"));
        }
    }
}

fn name(family: &Family, found: &mut Vec<String>) {
    let name = &family.name;
    if name.contains(':') {
        found.push("metric names should not contain ':'".to_owned());
    }
    if camel(name) {
        found.push("metric names should be written in 'snake_case' not 'camelCase'".to_owned());
    }
    let lower = name.to_lowercase();
    for part in lower.split('_') {
        if let Some((unit, base)) = unit(part)
            && part != base
        {
            found.push(format!("use base unit \"{base}\" instead of \"{unit}\""));
        }
    }
    // What a name begins with is no unit.
    if lower.split('_').skip(1).any(|part| ABBREVIATED.contains(&part)) {
        found.push("metric names should not contain abbreviated units".to_owned());
    }
}

/// A lower case letter in front of an upper case one.
fn camel(name: &str) -> bool {
    name.as_bytes().windows(2).any(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase())
}

/// A unit, with its prefix, and the base unit for it.
fn unit(part: &str) -> Option<(&str, &'static str)> {
    let base = |unit: &str| {
        let own = BASE.iter().copied().find(|base| *base == unit);
        own.or_else(|| UNITS.iter().find(|(other, _)| *other == unit).map(|(_, base)| *base))
    };
    if let Some(base) = base(part) {
        return Some((part, base));
    }
    let bare = PREFIXES.iter().find_map(|prefix| part.strip_prefix(prefix).and_then(base));
    bare.map(|base| (part, base))
}
