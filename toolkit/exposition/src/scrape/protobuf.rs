//! Delimited `MetricFamily` messages, presented as the text formats present their lines.
//!
//! Source of truth: upstream's `protobufparse.go`. A family without metrics says nothing; a summary or classic
//! histogram becomes `_count`, `_sum` and then its quantiles or buckets, with a bucket for +Inf made up where it is
//! missing and none read behind it; a native histogram is one entry, then the classic series if they are wanted.

use super::{Entry, Options, ParseError, Raw};
use crate::{
    float::write_openmetrics_float,
    proto::{self, FamilyHead, Fields, Metric, WireError},
};
use model::{Builder, Exemplar, METRIC_NAME, MetricType};
use std::{borrow::Cow, sync::Arc};

#[derive(Debug)]
pub(super) struct Protobuf<'a> {
    options: Options,
    length: usize,
    families: Fields<'a>,
    family: Option<FamilyHead<'a>>,
    /// The metric being shown; it was read before the family's first entry, which is only shown for its sake.
    metric: Metric<'a>,
    step: Step,
    /// Name suffix and bound label of the series just shown.
    suffix: &'static str,
    bound: Option<(&'static str, Vec<u8>)>,
    spare: Vec<u8>,
    key: Arc<Vec<u8>>,
}

/// What the next entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    NextFamily,
    Unit,
    Type,
    /// The first entry of the metric that was read.
    First,
    NextMetric,
    /// Classic parts of the metric that was read.
    Count,
    Sum,
    Part(usize),
}

impl<'a> Protobuf<'a> {
    pub(super) fn new(body: &'a [u8], options: Options) -> Self {
        Self {
            options,
            length: body.len(),
            families: Fields(body),
            family: None,
            metric: Metric::default(),
            step: Step::NextFamily,
            suffix: "",
            bound: None,
            spare: Vec::new(),
            key: Arc::default(),
        }
    }

    fn fail(&self, why: impl Into<String>) -> ParseError {
        ParseError { at: self.length - self.families.0.len(), why: why.into() }
    }

    fn wire(&self, error: WireError) -> ParseError {
        let name = self.family.map_or("", |family| family.name);
        match error {
            WireError::Utf8 => self.fail("invalid metric name or label names: a text is not UTF-8"),
            WireError::Type(number) => self.fail(format!("unknown metric type for metric {name:?}: {number}")),
            error => self.fail(error.to_string()),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            let Some(family) = self.family.filter(|_| self.step != Step::NextFamily) else {
                if !self.next_family()? {
                    return Ok(None);
                }
                if let Some(family) = self.family.filter(|_| self.step == Step::Unit) {
                    return Ok(Some(Entry::Help { name: family.name.into(), text: family.help.into() }));
                }
                continue;
            };
            match self.step {
                Step::NextFamily => {}
                Step::Unit => {
                    self.step = Step::Type;
                    if !family.unit.is_empty() {
                        return Ok(Some(Entry::Unit { name: family.name.into(), unit: family.unit.into() }));
                    }
                }
                Step::Type => {
                    self.step = Step::First;
                    return Ok(Some(Entry::Type { name: Cow::Borrowed(family.name), kind: family.kind }));
                }
                Step::NextMetric => self.step = if self.next_metric()? { Step::First } else { Step::NextFamily },
                Step::First => match family.kind {
                    MetricType::Histogram | MetricType::GaugeHistogram
                        if self.metric.native && self.options.native_histograms =>
                    {
                        return self.histogram(family).map(Some);
                    }
                    MetricType::Summary | MetricType::Histogram | MetricType::GaugeHistogram => {
                        self.step = Step::Count;
                    }
                    _ => {
                        self.step = Step::NextMetric;
                        return Ok(Some(self.series("", None, self.metric.value)));
                    }
                },
                Step::Count => {
                    self.step = Step::Sum;
                    return Ok(Some(self.series("_count", None, self.metric.count)));
                }
                Step::Sum => {
                    self.step = Step::Part(0);
                    return Ok(Some(self.series("_sum", None, self.metric.sum)));
                }
                Step::Part(i) => match self.part(family.kind, i) {
                    Some(entry) => return Ok(Some(entry)),
                    None => self.step = Step::NextMetric,
                },
            }
        }
    }

    /// Reads up to a family that has a metric; false at the end of the body.
    fn next_family(&mut self) -> Result<bool, ParseError> {
        self.family = None;
        while !self.families.0.is_empty() {
            let message = self.families.delimited().map_err(|error| self.wire(error))?;
            let family = FamilyHead::read(message).map_err(|error| self.wire(error))?;
            self.family = Some(family);
            if !self.next_metric()? {
                continue;
            }
            if family.name.is_empty() {
                return Err(self.fail("invalid metric name: "));
            }
            let base = match family.kind {
                MetricType::Counter => family.name.strip_suffix("_total").unwrap_or(family.name),
                _ => family.name,
            };
            if !family.unit.is_empty() && !base.strip_suffix(family.unit).is_some_and(|rest| rest.ends_with('_')) {
                let what = if base.len() < family.name.len() { "counter" } else { "metric" };
                return Err(self.fail(format!("unit {:?} not a suffix of {what} {:?}", family.unit, family.name)));
            }
            self.step = Step::Unit;
            return Ok(true);
        }
        self.family = None;
        Ok(false)
    }

    fn next_metric(&mut self) -> Result<bool, ParseError> {
        let Some(mut family) = self.family else { return Ok(false) };
        let next = family.next_metric();
        self.family = Some(family);
        let Some(message) = next.map_err(|error| self.wire(error))? else { return Ok(false) };
        self.metric.read(message, family.kind).map_err(|error| self.wire(error))?;
        self.check_labels()?;
        Ok(true)
    }

    /// Refuses what upstream refuses when it stores the series. O(labels) when they come in order.
    fn check_labels(&self) -> Result<(), ParseError> {
        let labels = &self.metric.labels;
        if labels.iter().any(|(name, _)| name.is_empty()) {
            return Err(self.fail("invalid metric name or label names: a label has no name"));
        }
        if labels.contains(&(METRIC_NAME, "")) {
            return Err(self.fail("missing metric name (__name__ label)"));
        }
        let present = || labels.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| *name);
        let mut twice = present().find(|name| *name == METRIC_NAME);
        if twice.is_none() && !labels.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            let mut sorted: Vec<&str> = present().collect();
            sorted.sort_unstable();
            twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[1]);
        }
        match twice {
            None => Ok(()),
            Some(name) => Err(self.fail(format!("label name \"{name}\" is not unique: invalid sample"))),
        }
    }

    fn at(&self) -> Option<i64> {
        Some(self.metric.at).filter(|at| *at != 0)
    }

    fn histogram(&mut self, family: FamilyHead<'a>) -> Result<Entry<'a>, ParseError> {
        let gauge = family.kind == MetricType::GaugeHistogram;
        let value = proto::native(self.metric.histogram, gauge, true).map_err(|error| self.wire(error))?;
        let classic = self.options.keep_classic && !self.metric.buckets.is_empty();
        self.step = if classic { Step::Count } else { Step::NextMetric };
        let Entry::Series { raw, at, .. } = self.series("", None, 0.0) else {
            return Err(self.fail("a series is no series"));
        };
        self.bound = None;
        Ok(Entry::Histogram { raw, value: Arc::new(value), at })
    }

    /// The quantile or bucket at `i`, or the bucket for +Inf behind the last.
    fn part(&mut self, kind: MetricType, i: usize) -> Option<Entry<'a>> {
        if kind == MetricType::Summary {
            let (quantile, value) = *self.metric.quantiles.get(i)?;
            self.step = Step::Part(i + 1);
            return Some(self.series("", Some(("quantile", quantile)), value));
        }
        let buckets = &self.metric.buckets;
        if i > 0 && buckets.get(i - 1).is_none_or(|bucket| bucket.bound == f64::INFINITY) {
            return None;
        }
        let (bound, count) =
            buckets.get(i).map_or((f64::INFINITY, self.metric.count), |bucket| (bucket.bound, bucket.count));
        self.step = Step::Part(i + 1);
        Some(self.series("_bucket", Some(("le", bound)), count))
    }

    /// A sample of the metric, with its key. The key's buffer is taken back if nobody holds it.
    fn series(&mut self, suffix: &'static str, bound: Option<(&'static str, f64)>, value: f64) -> Entry<'a> {
        let mut text = self.bound.take().map_or_else(|| std::mem::take(&mut self.spare), |(_, text)| text);
        text.clear();
        self.suffix = suffix;
        match bound {
            Some((label, bound)) => {
                write_openmetrics_float(bound, &mut text);
                self.bound = Some((label, text));
            }
            None => self.spare = text,
        }
        if Arc::get_mut(&mut self.key).is_none() {
            self.key = Arc::default();
        }
        if let Some(key) = Arc::get_mut(&mut self.key) {
            key.clear();
            key.extend_from_slice(self.family.map_or("", |family| family.name).as_bytes());
            key.extend_from_slice(suffix.as_bytes());
            let bound = self.bound.iter().map(|(label, text)| (label.as_bytes(), text.as_slice()));
            let labels = self.metric.labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            // 0xff is in no UTF-8 text, so no two series share a key.
            for (name, value) in labels.chain(bound) {
                key.push(0xff);
                key.extend_from_slice(name);
                key.push(0xff);
                key.extend_from_slice(value);
            }
        }
        Entry::Series { raw: Raw::Built(Arc::clone(&self.key)), value, at: self.at() }
    }

    pub(super) fn labels(&self, labels: &mut Builder) {
        let Some(family) = self.family else { return };
        if self.suffix.is_empty() {
            labels.push(METRIC_NAME, family.name);
        } else {
            labels.push(METRIC_NAME, &format!("{}{}", family.name, self.suffix));
        }
        for (name, value) in self.metric.labels.iter().filter(|(_, value)| !value.is_empty()) {
            labels.push(name, value);
        }
        if let Some((label, text)) = &self.bound {
            labels.push(label, std::str::from_utf8(text).unwrap_or_default());
        }
        for (name, _) in self.metric.labels.iter().filter(|(_, value)| value.is_empty()) {
            labels.del(name);
        }
    }

    pub(super) fn exemplars(&self, out: &mut Vec<Exemplar>) {
        // A broken exemplar costs itself, not the sample.
        let mut push = |message: Option<&[u8]>| out.extend(message.and_then(|m| proto::exemplar(m).ok()));
        match (self.step, self.suffix) {
            (Step::Part(i), "_bucket") => {
                push(self.metric.buckets.get(i - 1).and_then(|bucket| bucket.exemplar));
            }
            (_, "") if !self.metric.histogram.is_empty() => {
                let start = out.len();
                if proto::native_exemplars(self.metric.histogram, out).is_err() || out.len() == start {
                    out.truncate(start);
                    let messages = self.metric.buckets.iter().filter_map(|bucket| bucket.exemplar);
                    out.extend(messages.filter_map(|message| proto::exemplar(message).ok()));
                }
                let mut i = 0;
                out.retain(|exemplar| {
                    i += 1;
                    i <= start || exemplar.at.is_some()
                });
            }
            (_, "") => push(self.metric.exemplar),
            _ => {}
        }
    }

    pub(super) fn start(&self) -> Option<i64> {
        self.metric.start
    }
}
