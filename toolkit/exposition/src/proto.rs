//! The protobuf wire format, and the messages of `io.prometheus.client` borrowed from it.
//!
//! Source of truth: client_model's metrics.proto. Nothing is copied but numbers; repeated fields go into space that the
//! caller keeps. Unknown fields are skipped, groups are refused, a length never exceeds what is there.

use model::{Exemplar, FloatHistogram, Labels, MetricType, Span, Timestamp};

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the numbers in the texts")]
pub enum WireError {
    /// A length that exceeds what is there.
    #[error("unexpected EOF: a message or field is longer than the body")]
    Short,
    /// A number of more than 64 bits.
    #[error("a varint is longer than ten bytes")]
    Varint,
    /// A group, or a kind of field that there is none of.
    #[error("illegal wire type {0}")]
    WireType(u8),
    /// Zero, or beyond the range of field numbers.
    #[error("illegal field number")]
    Number,
    /// A text of other bytes.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Spans and buckets of a native histogram that do not fit together.
    #[error(
        "{what}: spans need {spans} buckets, have {buckets} buckets: histogram spans specify different number of buckets than provided"
    )]
    Spans { what: &'static str, spans: u64, buckets: usize },
    /// Fewer than no observations in a bucket.
    #[error("{0}: histogram has a bucket whose observation count is negative")]
    NegativeBucket(&'static str),
    /// A type of metric that there is none of.
    #[error("unknown metric type {0}")]
    Type(u64),
}

type Wire<T> = Result<T, WireError>;

/// One field's payload.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1, little endian.
    Fixed64(u64),
    /// Wire type 5, which nothing here uses.
    Fixed32,
    /// Wire type 2: a message, a text, or packed numbers.
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    /// The payload of a message or text; other wire types count as absent, as unknown fields do.
    pub fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// A text; "" when absent.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(self) -> Wire<&'a str> {
        std::str::from_utf8(self.bytes().unwrap_or_default()).map_err(|_| WireError::Utf8)
    }

    /// An integer; 0 when absent.
    pub fn varint(self) -> u64 {
        if let Self::Varint(value) = self { value } else { 0 }
    }

    /// A double; 0 when absent.
    pub fn double(self) -> f64 {
        if let Self::Fixed64(bits) = self { f64::from_bits(bits) } else { 0.0 }
    }

    /// An integer of the kinds sint32 and sint64; 0 when absent.
    pub fn zigzag(self) -> i64 {
        zigzag(self.varint())
    }
}

/// The signed number behind one of the kinds sint32 and sint64.
pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Fields in the order of the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a>(
    /// What is left of the message.
    pub &'a [u8],
);

impl<'a> Fields<'a> {
    /// The next field, or `None` at the end. O(1).
    ///
    /// # Errors
    /// [`WireError`]; the rest is not worth reading then.
    #[allow(clippy::should_implement_trait, reason = "a fallible step")]
    pub fn next(&mut self) -> Wire<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number >= 1 << 29 {
            return Err(WireError::Number);
        }
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.fixed64()?),
            2 => Field::Bytes(self.delimited()?),
            5 => {
                self.0 = self.0.get(4..).ok_or(WireError::Short)?;
                Field::Fixed32
            }
            other => return Err(WireError::WireType(other as u8)),
        };
        Ok(Some((number, field)))
    }

    /// A bare number, as packed fields and length prefixes are.
    ///
    /// # Errors
    /// When the bytes end within it or it is too long.
    pub fn varint(&mut self) -> Wire<u64> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i).min(63);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return if i == 9 && *byte > 1 { Err(WireError::Varint) } else { Ok(value) };
            }
        }
        Err(if self.0.len() < 10 { WireError::Short } else { WireError::Varint })
    }

    /// A bare number of eight bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn fixed64(&mut self) -> Wire<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// A length and as many bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn delimited(&mut self) -> Wire<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Short)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// A family without its metrics, which are read one by one from `metrics`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FamilyHead<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) kind: MetricType,
    pub(crate) metrics: Fields<'a>,
}

impl<'a> FamilyHead<'a> {
    /// O(fields of the family).
    pub(crate) fn read(message: &'a [u8]) -> Wire<Self> {
        let metrics = Fields(message);
        let mut head = Self { name: "", help: "", unit: "", kind: MetricType::Counter, metrics };
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => head.name = field.text()?,
                2 => head.help = field.text()?,
                3 => head.kind = kind_of(field.varint())?,
                5 => head.unit = field.text()?,
                _ => {}
            }
        }
        Ok(head)
    }

    /// The next metric's message.
    pub(crate) fn next_metric(&mut self) -> Wire<Option<&'a [u8]>> {
        while let Some((number, field)) = self.metrics.next()? {
            if number == 4
                && let Some(message) = field.bytes()
            {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

fn kind_of(number: u64) -> Wire<MetricType> {
    Ok(match number {
        0 => MetricType::Counter,
        1 => MetricType::Gauge,
        2 => MetricType::Summary,
        3 => MetricType::Unknown,
        4 => MetricType::Histogram,
        5 => MetricType::GaugeHistogram,
        other => return Err(WireError::Type(other)),
    })
}

/// One bucket of a classic histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket<'a> {
    pub(crate) bound: f64,
    /// Cumulative.
    pub(crate) count: f64,
    pub(crate) exemplar: Option<&'a [u8]>,
}

/// One metric; the space is kept between metrics. What a kind does not have is empty or zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metric<'a> {
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    /// Milliseconds; 0 counts as absent, as upstream takes it.
    pub(crate) at: i64,
    /// Value of a counter, gauge or untyped.
    pub(crate) value: f64,
    /// Exemplar of a counter.
    pub(crate) exemplar: Option<&'a [u8]>,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) quantiles: Vec<(f64, f64)>,
    pub(crate) buckets: Vec<Bucket<'a>>,
    /// Milliseconds.
    pub(crate) start: Option<i64>,
    /// Whether it is a native histogram.
    pub(crate) native: bool,
    /// The whole histogram message, for [`native`].
    pub(crate) histogram: &'a [u8],
}

impl<'a> Metric<'a> {
    /// Replaces what was there. O(fields).
    pub(crate) fn read(&mut self, message: &'a [u8], kind: MetricType) -> Wire<()> {
        self.labels.clear();
        self.quantiles.clear();
        self.buckets.clear();
        (self.at, self.value, self.count, self.sum) = (0, 0.0, 0.0, 0.0);
        (self.exemplar, self.start, self.native, self.histogram) = (None, None, false, b"");
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match (number, kind) {
                (1, _) => self.labels.push(pair(field.bytes().unwrap_or_default())?),
                (6, _) => self.at = field.varint() as i64,
                (2, MetricType::Gauge) | (5, MetricType::Unknown) | (3, MetricType::Counter) => {
                    self.read_value(field.bytes().unwrap_or_default())?;
                }
                (4, MetricType::Summary) => self.read_summary(field.bytes().unwrap_or_default())?,
                (7, MetricType::Histogram | MetricType::GaugeHistogram) => {
                    self.histogram = field.bytes().unwrap_or_default();
                    self.read_histogram()?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_value(&mut self, message: &'a [u8]) -> Wire<()> {
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.value = field.double(),
                2 => self.exemplar = field.bytes(),
                3 => self.start = Some(timestamp(field.bytes().unwrap_or_default())?),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_summary(&mut self, message: &'a [u8]) -> Wire<()> {
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.count = field.varint() as f64,
                2 => self.sum = field.double(),
                3 => {
                    let (mut quantile, mut value) = (0.0, 0.0);
                    let mut inner = Fields(field.bytes().unwrap_or_default());
                    while let Some((number, field)) = inner.next()? {
                        match number {
                            1 => quantile = field.double(),
                            2 => value = field.double(),
                            _ => {}
                        }
                    }
                    self.quantiles.push((quantile, value));
                }
                4 => self.start = Some(timestamp(field.bytes().unwrap_or_default())?),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_histogram(&mut self) -> Wire<()> {
        let mut count_float = 0.0;
        let mut fields = Fields(self.histogram);
        self.buckets.clear();
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.count = field.varint() as f64,
                2 => self.sum = field.double(),
                3 => self.buckets.push(bucket(field.bytes().unwrap_or_default())?),
                4 => count_float = field.double(),
                6 => self.native |= field.double() > 0.0,
                7 => self.native |= field.varint() > 0,
                8 => self.native |= field.double() > 0.0,
                9 | 12 => self.native = true,
                15 => self.start = Some(timestamp(field.bytes().unwrap_or_default())?),
                _ => {}
            }
        }
        if count_float != 0.0 {
            self.count = count_float;
        }
        Ok(())
    }
}

fn pair(message: &[u8]) -> Wire<(&str, &str)> {
    let mut pair = ("", "");
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => pair.0 = field.text()?,
            2 => pair.1 = field.text()?,
            _ => {}
        }
    }
    Ok(pair)
}

fn bucket(message: &[u8]) -> Wire<Bucket<'_>> {
    let mut bucket = Bucket { bound: 0.0, count: 0.0, exemplar: None };
    let mut count_float = 0.0;
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => bucket.count = field.varint() as f64,
            2 => bucket.bound = field.double(),
            3 => bucket.exemplar = field.bytes(),
            4 => count_float = field.double(),
            _ => {}
        }
    }
    if count_float != 0.0 {
        bucket.count = count_float;
    }
    Ok(bucket)
}

/// A `google.protobuf.Timestamp` in milliseconds.
fn timestamp(message: &[u8]) -> Wire<i64> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => seconds = field.varint() as i64,
            2 => nanos = field.varint() as i32,
            _ => {}
        }
    }
    let exact = i128::from(seconds) * 1000 + i128::from(nanos / 1_000_000);
    Ok(exact.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

/// An exemplar message.
pub(crate) fn exemplar(message: &[u8]) -> Wire<Exemplar> {
    let (mut pairs, mut value, mut at) = (Vec::new(), 0.0, None);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => pairs.push(pair(field.bytes().unwrap_or_default())?),
            2 => value = field.double(),
            3 => at = Some(Timestamp(timestamp(field.bytes().unwrap_or_default())?)),
            _ => {}
        }
    }
    Ok(Exemplar { labels: Labels::from_pairs(pairs), value, at })
}

/// Appends the exemplars of a native histogram: its own list, or those of its classic buckets.
pub(crate) fn native_exemplars(message: &[u8], out: &mut Vec<Exemplar>) -> Wire<()> {
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        if number == 16 {
            out.push(exemplar(field.bytes().unwrap_or_default())?);
        }
    }
    Ok(())
}

/// One side of a native histogram under construction.
#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    fn span(&mut self, message: &[u8]) -> Wire<()> {
        let mut span = Span { offset: 0, length: 0 };
        let mut fields = Fields(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => span.offset = field.zigzag() as i32,
                2 => span.length = field.varint() as u32,
                _ => {}
            }
        }
        self.spans.push(span);
        Ok(())
    }

    /// A repeated number, packed or not.
    fn delta(&mut self, field: Field<'_>) -> Wire<()> {
        let Some(packed) = field.bytes() else {
            self.deltas.push(field.zigzag());
            return Ok(());
        };
        let mut packed = Fields(packed);
        while !packed.0.is_empty() {
            self.deltas.push(zigzag(packed.varint()?));
        }
        Ok(())
    }

    fn count(&mut self, field: Field<'_>) -> Wire<()> {
        let Some(packed) = field.bytes() else {
            self.counts.push(field.double());
            return Ok(());
        };
        let mut packed = Fields(packed);
        while !packed.0.is_empty() {
            self.counts.push(f64::from_bits(packed.fixed64()?));
        }
        Ok(())
    }

    /// Spans and absolute counts; with `compact` without empty buckets. O(buckets), of which there are as many as the
    /// message holds, whatever the spans say.
    fn finish(self, float: bool, compact: bool, what: &'static str) -> Wire<(Vec<Span>, Vec<f64>)> {
        let mut sum = 0i64;
        let counts: Vec<f64> = if float {
            self.counts
        } else {
            let add = |delta: &i64| {
                sum = sum.wrapping_add(*delta);
                sum as f64
            };
            self.deltas.iter().map(add).collect()
        };
        let spans = self.spans.iter().map(|span| u64::from(span.length)).sum();
        if spans != counts.len() as u64 {
            return Err(WireError::Spans { what, spans, buckets: counts.len() });
        }
        if counts.iter().any(|count| *count < 0.0) {
            return Err(WireError::NegativeBucket(what));
        }
        Ok(if compact { compacted(&self.spans, &counts) } else { (self.spans, counts) })
    }
}

/// The same buckets without the empty ones. Indexes wrap where a hostile message lets them.
fn compacted(spans: &[Span], counts: &[f64]) -> (Vec<Span>, Vec<f64>) {
    let (mut out, mut kept) = (Vec::<Span>::new(), Vec::with_capacity(counts.len()));
    let (mut index, mut next, mut counts) = (0i32, 0i32, counts.iter());
    for span in spans {
        index = index.wrapping_add(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            if *count != 0.0 {
                match out.last_mut().filter(|_| index == next) {
                    Some(last) => last.length += 1,
                    None => out.push(Span { offset: index.wrapping_sub(next), length: 1 }),
                }
                kept.push(*count);
                next = index.wrapping_add(1);
            }
            index = index.wrapping_add(1);
        }
    }
    (out, kept)
}

/// The native side of a histogram message, without empty buckets if `compact`.
pub(crate) fn native(message: &[u8], gauge: bool, compact: bool) -> Wire<FloatHistogram> {
    let mut h = FloatHistogram { gauge, ..FloatHistogram::default() };
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let (mut count, mut count_float, mut zero, mut zero_float) = (0u64, 0.0, 0u64, 0.0);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => count = field.varint(),
            2 => h.sum = field.double(),
            4 => count_float = field.double(),
            5 => h.schema = field.zigzag() as i32,
            6 => h.zero_threshold = field.double(),
            7 => zero = field.varint(),
            8 => zero_float = field.double(),
            9 => negative.span(field.bytes().unwrap_or_default())?,
            10 => negative.delta(field)?,
            11 => negative.count(field)?,
            12 => positive.span(field.bytes().unwrap_or_default())?,
            13 => positive.delta(field)?,
            14 => positive.count(field)?,
            _ => {}
        }
    }
    let float = count_float > 0.0 || zero_float > 0.0;
    h.integer = !float;
    (h.count, h.zero_count) = if float { (count_float, zero_float) } else { (count as f64, zero as f64) };
    (h.negative_spans, h.negative) = negative.finish(float, compact, "negative side")?;
    (h.positive_spans, h.positive) = positive.finish(float, compact, "positive side")?;
    Ok(h)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_bounded() {
        assert_eq!(Fields(&[0xff; 10]).varint(), Err(WireError::Varint));
        assert_eq!(Fields(&[0xff, 0xff]).varint(), Err(WireError::Short));
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Fields(&most).varint(), Ok(u64::MAX));
        assert_eq!(Fields(&[0xff, 0xff, 0xff, 0xff, 0x7f, 1]).delimited(), Err(WireError::Short));
        assert_eq!((zigzag(0), zigzag(1), zigzag(2), zigzag(u64::MAX)), (0, -1, 1, i64::MIN));
    }

    #[test]
    fn empty_buckets_go() {
        let spans = [Span { offset: 2, length: 3 }, Span { offset: 1, length: 0 }, Span { offset: 1, length: 2 }];
        let (spans, counts) = compacted(&spans, &[0.0, 5.0, 6.0, 0.0, 7.0]);
        assert_eq!(spans, [Span { offset: 3, length: 2 }, Span { offset: 3, length: 1 }]);
        assert_eq!(counts, [5.0, 6.0, 7.0]);
        assert_eq!(compacted(&[Span { offset: 0, length: 0 }], &[]), (vec![], vec![]));
    }

    #[test]
    fn spans_may_not_promise_more_buckets_than_there_are() {
        // positive_span { length: 4294967295 } and one delta.
        let message = [0x62, 6, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x68, 2];
        let error = native(&message, false, true).expect_err("must be refused");
        assert_eq!(error, WireError::Spans { what: "positive side", spans: 4_294_967_295, buckets: 1 });
    }
}
