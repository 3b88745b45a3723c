//! Classic histograms as native ones with custom bounds, put together while their series go by.
//!
//! Source of truth: upstream's `nhcbparse.go`. Only series of the family the last TYPE line named are taken, if it said
//! `histogram`; a metric that is exponential already stays as it is. A histogram that does not add up is dropped with
//! its series.

use super::{Entry, Options, ParseError, Raw, Reader};
use crate::float::parse_float;
use model::{Builder, Exemplar, FloatHistogram, Labels, METRIC_NAME, MetricType, Span};
use std::{collections::VecDeque, sync::Arc};

/// The schema of histograms with custom bounds.
pub(crate) const CUSTOM_BOUNDS: i32 = -53;

#[derive(Debug)]
pub(super) struct Custom<'a> {
    keep_classic: bool,
    builder: Builder,
    /// The family of the last TYPE line, if it is one of histograms.
    family: Option<String>,
    open: Option<Open>,
    /// The exponential histogram seen last, whose classic series are not taken.
    exponential: Option<Labels>,
    /// The histogram that was just told of.
    shown: Option<Open>,
    /// What the reader said before that and is told next.
    held: VecDeque<Option<Entry<'a>>>,
}

/// A histogram being put together.
#[derive(Debug)]
struct Open {
    /// With the family's name, without bound.
    labels: Labels,
    at: Option<i64>,
    start: Option<i64>,
    exemplars: Vec<Exemplar>,
    /// Bounds and cumulative counts as they came.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    broken: bool,
}

/// Which part of a histogram a series is.
#[derive(Clone, Copy)]
enum Part {
    Bucket(f64),
    Count,
    Sum,
}

impl<'a> Custom<'a> {
    pub(super) fn new(options: Options) -> Option<Box<Self>> {
        options.custom_buckets.then(|| {
            Box::new(Self {
                keep_classic: options.keep_classic,
                builder: Builder::default(),
                family: None,
                open: None,
                exponential: None,
                shown: None,
                held: VecDeque::new(),
            })
        })
    }

    pub(super) fn next(&mut self, reader: &mut Reader<'a>) -> Result<Option<Entry<'a>>, ParseError> {
        self.shown = None;
        loop {
            let entry = match self.held.pop_front() {
                Some(held) => held,
                None => reader.next()?,
            };
            let part = self.part(reader, entry.as_ref());
            if part.is_none() || !self.continues() {
                // What is open ends here; if it becomes a histogram, that is told first.
                if let Some(done) = self.close() {
                    self.held.push_back(entry);
                    return Ok(Some(done));
                }
            }
            match (&entry, part) {
                (Some(Entry::Type { name, kind }), _) => {
                    self.family = (*kind == MetricType::Histogram).then(|| name.clone().into_owned());
                }
                (Some(Entry::Histogram { .. }), _) => {
                    reader.labels(self.builder.clear());
                    self.exponential = Some(self.builder.build());
                }
                (Some(Entry::Series { value, at, .. }), Some(part))
                    if self.take(reader, part, *value, *at) && !self.keep_classic =>
                {
                    continue;
                }
                _ => {}
            }
            return Ok(entry);
        }
    }

    /// Which part of the current family's histogram an entry is; its labels without bound are in the builder then.
    fn part(&mut self, reader: &Reader<'a>, entry: Option<&Entry<'a>>) -> Option<Part> {
        let family = self.family.as_deref()?;
        let Some(Entry::Series { .. }) = entry else { return None };
        reader.labels(self.builder.clear());
        let suffix = self.builder.get(METRIC_NAME).strip_prefix(family)?;
        let part = match suffix {
            "_bucket" => {
                let bound = parse_float(self.builder.get("le").as_bytes()).ok().filter(|bound| !bound.is_nan())?;
                self.builder.del("le");
                Part::Bucket(bound)
            }
            "_count" => Part::Count,
            "_sum" => Part::Sum,
            _ => return None,
        };
        self.builder.set(METRIC_NAME, family);
        Some(part)
    }

    /// Whether the series in the builder is of the histogram that is open.
    fn continues(&mut self) -> bool {
        self.open.as_ref().is_none_or(|open| open.labels == self.builder.build())
    }

    /// Puts a sample into the open histogram; false if its metric is exponential.
    fn take(&mut self, reader: &Reader<'a>, part: Part, value: f64, at: Option<i64>) -> bool {
        let labels = self.builder.build();
        if self.exponential.as_ref() == Some(&labels) {
            return false;
        }
        let open = self.open.get_or_insert_with(|| Open {
            labels,
            at,
            start: reader.start(),
            exemplars: Vec::new(),
            buckets: Vec::new(),
            count: None,
            sum: 0.0,
            broken: false,
        });
        reader.exemplars(&mut open.exemplars);
        match part {
            Part::Bucket(bound) => open.buckets.push((bound, value)),
            Part::Count => {
                open.broken |= value < 0.0;
                open.count = Some(value);
            }
            Part::Sum => open.sum = value,
        }
        true
    }

    /// Ends what is open; its entry if it is a histogram.
    fn close(&mut self) -> Option<Entry<'a>> {
        let open = self.open.take()?;
        let value = Arc::new(open.histogram()?);
        let mut key = open.labels.metric_name().as_bytes().to_vec();
        for (name, value) in open.labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            for piece in [name, value] {
                key.push(0xff);
                key.extend_from_slice(piece.as_bytes());
            }
        }
        let at = open.at;
        self.shown = Some(open);
        Some(Entry::Histogram { raw: Raw::Built(Arc::new(key)), value, at })
    }

    /// Labels of the histogram just told of; false if it is another entry.
    pub(super) fn labels(&self, labels: &mut Builder) -> bool {
        let Some(shown) = &self.shown else { return false };
        for (name, value) in shown.labels.iter() {
            labels.push(name, value);
        }
        true
    }

    /// Its exemplars that have a time; None if it is another entry.
    pub(super) fn exemplars(&self) -> Option<impl Iterator<Item = Exemplar> + '_> {
        let shown = self.shown.as_ref()?;
        Some(shown.exemplars.iter().filter(|exemplar| exemplar.at.is_some()).cloned())
    }

    /// Its start; None if it is another entry.
    pub(super) fn start(&self) -> Option<Option<i64>> {
        self.shown.as_ref().map(|shown| shown.start)
    }
}

impl Open {
    /// The histogram without empty buckets, if counts and bounds fit.
    fn histogram(&self) -> Option<FloatHistogram> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Of a repeated bound the first stays; 0 and -0 are one.
        buckets.dedup_by(|later, first| later.0 == first.0);
        let cumulative = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1);
        let count = self.count.or(buckets.last().map(|(_, count)| *count))?;
        if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        let fits = cumulative
            && buckets.first().is_some_and(|(_, least)| *least >= 0.0)
            && buckets.last().is_some_and(|(_, all)| *all == count);
        if self.broken || !fits || buckets.first().is_some_and(|(bound, _)| *bound == f64::NEG_INFINITY) {
            return None;
        }
        let whole = |count: f64| count.fract() == 0.0 && count.abs() < i64::MAX as f64;
        let mut histogram = FloatHistogram {
            integer: buckets.iter().all(|(_, count)| whole(*count)),
            schema: CUSTOM_BOUNDS,
            count,
            sum: self.sum,
            custom_bounds: buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect(),
            ..FloatHistogram::default()
        };
        let (mut below, mut next) = (0.0, 0);
        for (i, (_, count)) in buckets.iter().enumerate() {
            let own = count - below;
            below = *count;
            if own == 0.0 {
                continue;
            }
            match histogram.positive_spans.last_mut().filter(|_| i == next) {
                Some(span) => span.length += 1,
                None => histogram.positive_spans.push(Span { offset: i32::try_from(i - next).ok()?, length: 1 }),
            }
            histogram.positive.push(own);
            next = i + 1;
        }
        Some(histogram)
    }
}
