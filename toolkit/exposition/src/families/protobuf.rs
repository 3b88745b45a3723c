//! Delimited `MetricFamily` messages into families.

use super::{Family, Histogram, Metric, MetricValue};
use crate::proto::{self, FamilyHead, Fields, WireError};
use model::{Builder, Labels, MetricType};

/// Why a protobuf body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("protobuf parsing error in metric family {family}{}: {why}", if .name.is_empty() { String::new() } else { format!(" {:?}", .name) })]
pub struct ProtobufError {
    /// Which family, from 1.
    pub family: usize,
    /// Its name, if it was read.
    pub name: String,
    /// What is wrong there.
    pub why: String,
}

/// Reads delimited messages into families in their order, those without metrics included. O(length); what is kept is
/// bounded by a small multiple of the body.
///
/// # Errors
/// [`ProtobufError`] with the family.
pub fn parse_protobuf(body: &[u8]) -> Result<Vec<Family>, ProtobufError> {
    let (mut families, mut rest) = (Vec::new(), Fields(body));
    while !rest.0.is_empty() {
        let number = families.len() + 1;
        let fail = |name: &str, error: WireError| ProtobufError {
            family: number,
            name: name.to_owned(),
            why: error.to_string(),
        };
        let message = rest.delimited().map_err(|error| fail("", error))?;
        let head = FamilyHead::read(message).map_err(|error| fail("", error))?;
        families.push(family(head).map_err(|error| fail(head.name, error))?);
    }
    Ok(families)
}

fn family(mut head: FamilyHead<'_>) -> Result<Family, WireError> {
    let mut family = Family::new(head.name, head.help, head.kind);
    head.unit.clone_into(&mut family.unit);
    let (mut metric, mut builder) = (proto::Metric::default(), Builder::default());
    while let Some(message) = head.next_metric()? {
        metric.read(message, head.kind)?;
        builder.clear();
        for (name, value) in &metric.labels {
            builder.push(name, value);
        }
        let labels: Labels = builder.build_with_empty();
        let at = Some(metric.at).filter(|at| *at != 0);
        family.metrics.push(Metric { labels, value: value(&metric, head.kind)?, at });
    }
    Ok(family)
}

fn value(metric: &proto::Metric<'_>, kind: MetricType) -> Result<MetricValue, WireError> {
    Ok(match kind {
        MetricType::Counter => MetricValue::Counter {
            value: metric.value,
            exemplar: metric.exemplar.map(proto::exemplar).transpose()?,
            start: metric.start,
        },
        MetricType::Gauge => MetricValue::Gauge(metric.value),
        MetricType::Summary => MetricValue::Summary {
            count: metric.count,
            sum: metric.sum,
            quantiles: metric.quantiles.clone(),
            start: metric.start,
        },
        MetricType::Histogram | MetricType::GaugeHistogram => {
            MetricValue::Histogram(Box::new(histogram(metric, kind == MetricType::GaugeHistogram)?))
        }
        _ => MetricValue::Untyped(metric.value),
    })
}

fn histogram(metric: &proto::Metric<'_>, gauge: bool) -> Result<Histogram, WireError> {
    let mut histogram = Histogram {
        count: metric.count,
        sum: metric.sum,
        buckets: metric.buckets.iter().map(|bucket| (bucket.bound, bucket.count)).collect(),
        start: metric.start,
        ..Histogram::default()
    };
    for (i, bucket) in metric.buckets.iter().enumerate() {
        if let Some(message) = bucket.exemplar {
            histogram.bucket_exemplars.push((i, proto::exemplar(message)?));
        }
    }
    proto::native_exemplars(metric.histogram, &mut histogram.exemplars)?;
    if metric.native {
        histogram.native = Some(proto::native(metric.histogram, gauge, false)?);
    }
    Ok(histogram)
}
