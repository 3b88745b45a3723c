//! Results of the API as promtool prints them for people.

use serde_json::Value;
use std::fmt::Write;

/// `name{a="b", c="d"}`.
pub(crate) fn metric(labels: &Value) -> String {
    let labels = labels.as_object();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = labels.and_then(|labels| labels.get("__name__")).map(text).unwrap_or_default();
    let rest: Vec<String> = labels
        .into_iter()
        .flatten()
        .filter(|(label, _)| *label != "__name__")
        .map(|(label, value)| format!("{label}={}", model::quote(&text(value))))
        .collect();
    match (name.is_empty(), rest.is_empty()) {
        (false, true) => name,
        _ => format!("{name}{{{}}}", rest.join(", ")),
    }
}

/// All labels between braces, the name among them.
pub(crate) fn label_set(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(label, value)| format!("{label}={}", model::quote(value.as_str().unwrap_or_default()))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A value as Go prints it without an exponent.
fn number(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map_or_else(|| text.to_owned(), |n| n.to_string())
}

fn at(pair: &Value) -> String {
    format!("@[{}]", pair[0])
}

/// `Count: 1.000000, Sum: …`.
fn histogram(value: &Value) -> String {
    let fixed = |name: &str| value[name].as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    let buckets: Vec<String> = value["buckets"].as_array().into_iter().flatten().map(bucket).collect();
    format!("Count: {:.6}, Sum: {:.6}, Buckets: [{}]", fixed("count"), fixed("sum"), buckets.join(" "))
}

fn bucket(bucket: &Value) -> String {
    let (open, close) = match bucket[0].as_u64() {
        Some(0) => ('(', ']'),
        Some(1) => ('[', ')'),
        Some(3) => ('[', ']'),
        _ => ('(', ')'),
    };
    let [lower, upper, count] = [1, 2, 3].map(|place| number(&bucket[place]));
    format!("{open}{lower},{upper}{close}:{count}")
}

/// The result of a query; none when its type is unknown.
pub(crate) fn result(kind: &str, result: &Value) -> Option<String> {
    let mut out = String::new();
    let rows = result.as_array().map_or(&[][..], Vec::as_slice);
    // Writing to a String cannot fail.
    match kind {
        "scalar" => drop(writeln!(out, "scalar: {} {}", number(&result[1]), at(result))),
        "vector" => {
            for row in rows {
                let (pair, shown) = match row.get("histogram") {
                    Some(pair) => (pair, histogram(&pair[1])),
                    None => (&row["value"], number(&row["value"][1])),
                };
                let _ = writeln!(out, "{} => {shown} {}", metric(&row["metric"]), at(pair));
            }
        }
        "matrix" => {
            for row in rows {
                let _ = writeln!(out, "{} =>", metric(&row["metric"]));
                for pair in row["values"].as_array().into_iter().flatten() {
                    let _ = writeln!(out, "{} {}", number(&pair[1]), at(pair));
                }
                for pair in row["histograms"].as_array().into_iter().flatten() {
                    let _ = writeln!(out, "{} {}", histogram(&pair[1]), at(pair));
                }
            }
        }
        _ => return None,
    }
    Some(out)
}
