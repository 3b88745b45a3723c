//! A family as the messages of `io.prometheus.client`, whatever they are encoded as.
//!
//! Source of truth: client_model's metrics.proto. The binary form orders fields by number, the notation for people as
//! they are declared, which differs in a few places.

use super::{custom_buckets, plain_name};
use crate::{
    Escaping, Family, Histogram, Metric, MetricValue,
    escape::{label_name, metric_name},
    scrape::custom::CUSTOM_BOUNDS,
};
use model::{Exemplar, FloatHistogram, MetricType, Span};

/// Where fields go, by number and name.
pub(super) trait Sink: Sized {
    /// Whether fields come in the order of their declaration; else of their numbers.
    const DECLARED: bool;

    fn text(&mut self, number: u32, name: &str, value: &str);
    fn unsigned(&mut self, number: u32, name: &str, value: u64);
    /// int32 or int64.
    fn signed(&mut self, number: u32, name: &str, value: i64);
    /// sint32 or sint64.
    fn zigzag(&mut self, number: u32, name: &str, value: i64);
    fn double(&mut self, number: u32, name: &str, value: f64);
    /// A value of an enumeration, by number and name.
    fn word(&mut self, number: u32, name: &str, value: (u64, &str));
    fn message(&mut self, number: u32, name: &str, fields: impl FnOnce(&mut Self));
}

/// A count as an integer, if it is one. 2^64 and more are not.
pub(super) fn whole(count: f64) -> Option<u64> {
    (count >= 0.0 && count.fract() == 0.0 && count < 18_446_744_073_709_551_616.0).then_some(count as u64)
}

pub(super) fn family<S: Sink>(sink: &mut S, family: &Family, escaping: Escaping) {
    sink.text(1, "name", &metric_name(&plain_name(family), escaping));
    if !family.help.is_empty() {
        sink.text(2, "help", &family.help);
    }
    sink.word(
        3,
        "type",
        match family.kind {
            MetricType::Counter => (0, "COUNTER"),
            MetricType::Gauge | MetricType::Info | MetricType::StateSet => (1, "GAUGE"),
            MetricType::Summary => (2, "SUMMARY"),
            MetricType::Unknown => (3, "UNTYPED"),
            MetricType::Histogram => (4, "HISTOGRAM"),
            MetricType::GaugeHistogram => (5, "GAUGE_HISTOGRAM"),
        },
    );
    for one in &family.metrics {
        sink.message(4, "metric", |sink| metric(sink, one, escaping));
    }
    if !family.unit.is_empty() {
        sink.text(5, "unit", &family.unit);
    }
}

fn metric<S: Sink>(sink: &mut S, metric: &Metric, escaping: Escaping) {
    for (name, value) in metric.labels.iter() {
        label(sink, &label_name(name, escaping), value);
    }
    match &metric.value {
        MetricValue::Gauge(value) => sink.message(2, "gauge", |sink| sink.double(1, "value", *value)),
        MetricValue::Counter { value, exemplar: one, start } => sink.message(3, "counter", |sink| {
            sink.double(1, "value", *value);
            if let Some(one) = one {
                exemplar(sink, 2, "exemplar", one);
            }
            time(sink, 3, "created_timestamp", *start);
        }),
        MetricValue::Summary { count, sum, quantiles, start } => sink.message(4, "summary", |sink| {
            sink.unsigned(1, "sample_count", *count as u64);
            sink.double(2, "sample_sum", *sum);
            for (quantile, value) in quantiles {
                sink.message(3, "quantile", |sink| {
                    sink.double(1, "quantile", *quantile);
                    sink.double(2, "value", *value);
                });
            }
            time(sink, 4, "created_timestamp", *start);
        }),
        MetricValue::Untyped(value) => sink.message(5, "untyped", |sink| sink.double(1, "value", *value)),
        MetricValue::Histogram(_) => {}
    }
    for early in [!S::DECLARED, S::DECLARED] {
        match (&metric.value, metric.at) {
            (_, Some(at)) if early => sink.signed(6, "timestamp_ms", at),
            (MetricValue::Histogram(one), _) if !early => sink.message(7, "histogram", |sink| histogram(sink, one)),
            _ => {}
        }
    }
}

fn label<S: Sink>(sink: &mut S, name: &str, value: &str) {
    sink.message(1, "label", |sink| {
        sink.text(1, "name", name);
        sink.text(2, "value", value);
    });
}

fn exemplar<S: Sink>(sink: &mut S, number: u32, name: &str, exemplar: &Exemplar) {
    sink.message(number, name, |sink| {
        for (name, value) in exemplar.labels.iter() {
            label(sink, name, value);
        }
        sink.double(2, "value", exemplar.value);
        time(sink, 3, "timestamp", exemplar.at.map(|at| at.0));
    });
}

/// A `google.protobuf.Timestamp` of milliseconds.
fn time<S: Sink>(sink: &mut S, number: u32, name: &str, at: Option<i64>) {
    let Some(at) = at else { return };
    sink.message(number, name, |sink| {
        for (number, name, value) in
            [(1, "seconds", at.div_euclid(1000)), (2, "nanos", at.rem_euclid(1000) * 1_000_000)]
        {
            if value != 0 {
                sink.signed(number, name, value);
            }
        }
    });
}

fn histogram<S: Sink>(sink: &mut S, histogram: &Histogram) {
    let native = histogram.native.as_ref().filter(|native| native.schema != CUSTOM_BOUNDS);
    let float = native.map_or(whole(histogram.count).is_none(), |native| !native.integer);
    if !float {
        sink.unsigned(1, "sample_count", histogram.count as u64);
    }
    let count_float = |sink: &mut S, here: bool| {
        if float && here {
            sink.double(4, "sample_count_float", histogram.count);
        }
    };
    count_float(sink, S::DECLARED);
    sink.double(2, "sample_sum", histogram.sum);
    let custom = if histogram.buckets.is_empty() { custom_buckets(histogram) } else { Vec::new() };
    let mut exemplars = histogram.bucket_exemplars.iter().peekable();
    for (i, (bound, count)) in histogram.buckets.iter().chain(&custom).enumerate() {
        let exemplar = exemplars.next_if(|(place, _)| *place == i).map(|(_, exemplar)| exemplar);
        sink.message(3, "bucket", |sink| bucket(sink, *bound, *count, exemplar));
    }
    count_float(sink, !S::DECLARED);
    if S::DECLARED {
        time(sink, 15, "created_timestamp", histogram.start);
    }
    if let Some(native) = native {
        sides(sink, native);
    }
    if !S::DECLARED {
        time(sink, 15, "created_timestamp", histogram.start);
    }
    for one in &histogram.exemplars {
        exemplar(sink, 16, "exemplars", one);
    }
}

fn bucket<S: Sink>(sink: &mut S, bound: f64, count: f64, one: Option<&Exemplar>) {
    let whole = whole(count);
    if let Some(count) = whole {
        sink.unsigned(1, "cumulative_count", count);
    }
    let count_float = |sink: &mut S, here: bool| {
        if whole.is_none() && here {
            sink.double(4, "cumulative_count_float", count);
        }
    };
    count_float(sink, S::DECLARED);
    sink.double(2, "upper_bound", bound);
    if let Some(one) = one {
        exemplar(sink, 3, "exemplar", one);
    }
    count_float(sink, !S::DECLARED);
}

/// The native part; an empty one is marked by a span without buckets.
fn sides<S: Sink>(sink: &mut S, native: &FloatHistogram) {
    sink.zigzag(5, "schema", i64::from(native.schema));
    sink.double(6, "zero_threshold", native.zero_threshold);
    if native.integer {
        sink.unsigned(7, "zero_count", native.zero_count as u64);
    } else {
        sink.double(8, "zero_count_float", native.zero_count);
    }
    let spans = |sink: &mut S, number, name, spans: &[Span]| {
        for span in spans {
            sink.message(number, name, |sink| {
                sink.zigzag(1, "offset", i64::from(span.offset));
                sink.unsigned(2, "length", u64::from(span.length));
            });
        }
    };
    let counts = |sink: &mut S, delta: (u32, &str), count: (u32, &str), counts: &[f64]| {
        let mut last = 0i64;
        for one in counts {
            if native.integer {
                sink.zigzag(delta.0, delta.1, (*one as i64).wrapping_sub(last));
                last = *one as i64;
            } else {
                sink.double(count.0, count.1, *one);
            }
        }
    };
    spans(sink, 9, "negative_span", &native.negative_spans);
    counts(sink, (10, "negative_delta"), (11, "negative_count"), &native.negative);
    let marks = native.zero_threshold > 0.0 || native.zero_count > 0.0;
    if native.positive_spans.is_empty() && native.negative_spans.is_empty() && !marks {
        spans(sink, 12, "positive_span", &[Span { offset: 0, length: 0 }]);
    }
    spans(sink, 12, "positive_span", &native.positive_spans);
    counts(sink, (13, "positive_delta"), (14, "positive_count"), &native.positive);
}
