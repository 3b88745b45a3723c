//! Annotations: what a query says about its answer besides the answer.
//!
//! Texts and kinds are upstream's, since alerting on them and reading them in dashboards is part of being a drop-in.
//! One text is kept once, in the order it was first met, with the place it was last met at.

use model::{Timestamp, quote};
use std::collections::HashMap;

/// Which bucket operation had to settle something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// One annotation without its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Note<'a> {
    BadRatio(f64, f64),
    BadQuantile(f64),
    BadBucketLabel(&'a str, &'a str),
    Mixed(&'a str),
    MixedAggregation,
    ClassicAndNative(&'a str),
    NotCounter(&'a str),
    NotGauge(&'a str),
    MixedSchemas(&'a str),
    IncompatibleBuckets(&'a str),
    SortOfRange,
    ConflictingResets(Operation),
    StartOverlap(&'a str),
    MaybeNoCounter(&'a str),
    TypeNoCounter(&'a str, &'a str),
    Lifted { name: &'a str, at: i64, lowest: f64, highest: f64, difference: f64 },
    IncompatibleTypes(&'a str, &'a str, &'a str),
    IgnoredHistogram(&'a str),
    IgnoredHistogramsInRange(&'a str),
    NanResult(&'a str),
    NanSkew(&'a str),
    NanFraction(&'a str),
    Rebounded(Operation),
}

const MONOTONICITY_URL: &str = "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile";

impl Note<'_> {
    fn warns(&self) -> bool {
        !matches!(
            self,
            Self::MaybeNoCounter(_)
                | Self::TypeNoCounter(..)
                | Self::Lifted { .. }
                | Self::IncompatibleTypes(..)
                | Self::IgnoredHistogram(_)
                | Self::IgnoredHistogramsInRange(_)
                | Self::NanResult(_)
                | Self::NanSkew(_)
                | Self::NanFraction(_)
                | Self::Rebounded(_)
        )
    }

    fn text(&self) -> String {
        let of = |name: &str| if name.is_empty() { String::new() } else { format!(" for metric name {}", quote(name)) };
        match self {
            Self::BadRatio(got, to) => {
                format!("ratio value should be between -1 and 1, got {}, capping to {}", general(*got), general(*to))
            }
            Self::BadQuantile(got) => format!("quantile value should be between 0 and 1, got {}", general(*got)),
            Self::BadBucketLabel(name, value) => {
                format!("bucket label \"le\" is missing or has a malformed value of {}{}", quote(value), of(name))
            }
            Self::Mixed(name) => {
                format!("encountered a mix of histograms and floats for metric name {}", quote(name))
            }
            Self::MixedAggregation => "encountered a mix of histograms and floats for aggregation".to_owned(),
            Self::ClassicAndNative(name) => {
                format!("vector contains a mix of classic and native histograms{}", of(name))
            }
            Self::NotCounter(name) => format!("this native histogram metric is not a counter: {}", quote(name)),
            Self::NotGauge(name) => format!("this native histogram metric is not a gauge: {}", quote(name)),
            Self::MixedSchemas(name) => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quote(name)
            ),
            Self::IncompatibleBuckets(op) => {
                format!("incompatible bucket layout encountered for binary operator {op}")
            }
            Self::SortOfRange => {
                "sort is ineffective for range queries since results are always ordered by labels".to_owned()
            }
            Self::ConflictingResets(operation) => {
                format!("conflicting counter resets during histogram {}", operation.as_str())
            }
            Self::StartOverlap(name) => {
                format!("sample has start time that overlaps with previous sample timestamp for metric {}", quote(name))
            }
            Self::MaybeNoCounter(name) => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quote(name)
            ),
            Self::TypeNoCounter(name, kind) => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
                quote(kind),
                quote(name)
            ),
            Self::Lifted { name, .. } => {
                format!(
                    "input to histogram_quantile needed to be fixed for monotonicity (see {MONOTONICITY_URL}){}",
                    of(name)
                )
            }
            Self::IncompatibleTypes(left, op, right) => {
                format!("incompatible sample types encountered for binary operator {}: {left} {op} {right}", quote(op))
            }
            Self::IgnoredHistogram(aggregation) => format!("ignored histogram in {aggregation} aggregation"),
            Self::IgnoredHistogramsInRange(name) => format!(
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quote(name)
            ),
            Self::NanResult(name) => {
                format!("input to histogram_quantile has NaN observations, result is NaN{}", of(name))
            }
            Self::NanSkew(name) => {
                format!("input to histogram_quantile has NaN observations, result is skewed higher{}", of(name))
            }
            Self::NanFraction(name) => format!(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions{}",
                of(name)
            ),
            Self::Rebounded(operation) => {
                format!("mismatched custom buckets were reconciled during {}", operation.as_str())
            }
        }
    }
}

/// How far lifted buckets reach, over all places they were met.
#[derive(Clone, Debug)]
struct Spread {
    lowest: f64,
    highest: f64,
    difference: f64,
    from: i64,
    to: i64,
    samples: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    warns: bool,
    text: String,
    at: usize,
    spread: Option<Spread>,
}

/// The annotations of one query in the order they were met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    kept: Vec<Kept>,
    places: HashMap<String, usize>,
    /// How often something was to be said.
    said: u64,
}

/// Annotations kept at most; upstream shows ten of a kind.
const KEPT_MAX: usize = 1_000;

impl Notes {
    /// Remembers an annotation met at byte `at` of the query.
    pub(crate) fn add(&mut self, at: usize, note: &Note<'_>) {
        let spread = match note {
            Note::Lifted { at, lowest, highest, difference, .. } => Some(Spread {
                lowest: *lowest,
                highest: *highest,
                difference: *difference,
                from: *at,
                to: *at,
                samples: 1,
            }),
            _ => None,
        };
        self.keep(Kept { warns: note.warns(), text: note.text(), at, spread });
    }

    /// Takes what was met elsewhere, later.
    pub(crate) fn absorb(&mut self, later: Self) {
        later.kept.into_iter().for_each(|kept| self.keep(kept));
    }

    /// How often something was to be said, new or not.
    pub(crate) fn said(&self) -> u64 {
        self.said
    }

    fn keep(&mut self, new: Kept) {
        self.said += 1;
        let Some(place) = self.places.get(&new.text) else {
            if self.kept.len() < KEPT_MAX {
                self.places.insert(new.text.clone(), self.kept.len());
                self.kept.push(new);
            }
            return;
        };
        let kept = &mut self.kept[*place];
        kept.at = new.at;
        if let (Some(have), Some(more)) = (&mut kept.spread, new.spread) {
            have.lowest = have.lowest.min(more.lowest);
            have.highest = have.highest.max(more.highest);
            have.difference = have.difference.max(more.difference);
            have.from = have.from.min(more.from);
            have.to = have.to.max(more.to);
            have.samples += more.samples;
        }
    }

    /// The texts with kind and place: warnings, then infos.
    pub(crate) fn texts(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for kept in &self.kept {
            let (line, column) = crate::token::place(query, kept.at);
            let kind = if kept.warns { "warning" } else { "info" };
            let spread = kept.spread.as_ref().map_or(String::new(), |spread| {
                format!(
                    ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                    general(spread.lowest),
                    general(spread.highest),
                    two_digits(spread.difference),
                    spread.samples,
                    seconds(spread.from),
                    seconds(spread.to)
                )
            });
            let text = format!("PromQL {kind}: {}{spread} ({line}:{column})", kept.text);
            if kept.warns { &mut warnings } else { &mut infos }.push(text);
        }
        (warnings, infos)
    }
}

/// RFC 3339 without a fraction.
fn seconds(ms: i64) -> String {
    Timestamp(ms.div_euclid(1000) * 1000).to_rfc3339()
}

/// Shortest digits, with an exponent below 1e-4 and from 1e6 on: Go's `%g`.
pub(crate) fn general(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        return value.to_string();
    }
    exponential(&format!("{value:e}"))
}

/// `1e-7` as Go writes it: `1e-07`.
fn exponential(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// At most two significant digits, with an exponent where Go's `%.2g` has one.
fn two_digits(value: f64) -> String {
    let text = format!("{value:.1e}");
    let power: i32 = text.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or_default();
    let rounded: f64 = text.parse().unwrap_or(value);
    if (-4..2).contains(&power) { rounded.to_string() } else { exponential(&format!("{rounded:e}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_with_their_last_place() {
        let mut notes = Notes::default();
        notes.add(9, &Note::BadQuantile(f64::NAN));
        notes.add(3, &Note::BadQuantile(f64::NAN));
        notes.add(0, &Note::MaybeNoCounter("x"));
        let (warnings, infos) = notes.texts("a\nb c");
        assert_eq!(warnings, ["PromQL warning: quantile value should be between 0 and 1, got NaN (2:2)"]);
        let counter =
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:1)";
        assert_eq!(infos, [counter]);
    }

    #[test]
    fn lifted_buckets_are_reported_with_their_spread() {
        let mut notes = Notes::default();
        for at in [60_000, 0] {
            notes.add(0, &Note::Lifted { name: "h", at, lowest: 0.1, highest: 2.0, difference: 0.123 });
        }
        let text = notes.texts("h").1.remove(0);
        assert!(
            text.ends_with(
                "for metric name \"h\", from buckets 0.1 to 2, with a max diff of 0.12, over 2 samples from \
                 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:1)"
            ),
            "{text}"
        );
    }

    #[test]
    fn numbers_print_as_go_prints_them() {
        for (value, text) in [
            (1.1, "1.1"),
            (1e21, "1e+21"),
            (1e-5, "1e-05"),
            (-1.0, "-1"),
            (1e20, "1e+20"),
            (123_456.7, "123456.7"),
            (1_700_000.0, "1.7e+06"),
        ] {
            assert_eq!(general(value), text);
        }
        for (value, text) in [(0.123, "0.12"), (123.0, "1.2e+02"), (5.0, "5"), (0.00001, "1e-05")] {
            assert_eq!(two_digits(value), text);
        }
    }
}
