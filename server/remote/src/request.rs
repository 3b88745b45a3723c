//! The two requests, read in place: a series is a slice of the body, and where its labels come from.

use crate::pieces::{Pairs, label};
use exposition::wire::{Field, Fields, WireError};
use model::{Labels, Metadata, MetricType};

/// Which message a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Message {
    /// The name in `proto=`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }

    /// The number of the field that holds the series.
    pub(crate) fn series_field(self) -> u64 {
        match self {
            Self::V1 => 1,
            Self::V2 => 5,
        }
    }

    /// The numbers of samples, histograms and exemplars in a series.
    pub(crate) fn fields(self) -> (u64, u64, u64) {
        match self {
            Self::V1 => (2, 4, 3),
            Self::V2 => (2, 3, 4),
        }
    }
}

/// Why a series cannot be read while the rest of its request can.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The whole request is broken.
    Wire(WireError),
    /// Only its labels are; in upstream's words.
    Labels(String),
}

impl From<WireError> for Unreadable {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// What the texts of a request are found by; empty in version 1, where they stand for themselves.
#[derive(Debug, Default)]
pub(crate) struct Symbols<'a>(Vec<&'a [u8]>);

impl<'a> Symbols<'a> {
    /// Gathers the table; `None` when it has more than `max` entries. O(fields of the request).
    pub(crate) fn read(body: &'a [u8], max: usize) -> Result<Option<Self>, WireError> {
        let mut all = Vec::new();
        let mut fields = Fields(body);
        while let Some((number, field)) = fields.next()? {
            if number == 4 {
                if all.len() >= max {
                    return Ok(None);
                }
                all.push(field.bytes().unwrap_or_default());
            }
        }
        Ok(Some(Self(all)))
    }

    fn text(&self, place: u64) -> &'a [u8] {
        usize::try_from(place).ok().and_then(|place| self.0.get(place)).copied().unwrap_or_default()
    }

    /// Appends the pairs that `refs` name.
    fn pairs(&self, refs: &[u64], out: &mut Pairs<'a>) -> Result<(), String> {
        if !refs.len().is_multiple_of(2) {
            return Err(format!("invalid labelRefs length {}", refs.len()));
        }
        for two in refs.chunks_exact(2) {
            let known = |place: u64| (place as usize) < self.0.len();
            if !known(two[0]) || !known(two[1]) {
                let (size, [name, value]) = (self.0.len(), [two[0], two[1]]);
                return Err(format!(
                    "labelRefs {name} (name) = {value} (value) outside of symbols table (size {size})"
                ));
            }
            out.0.push((self.text(two[0]), self.text(two[1])));
        }
        Ok(())
    }
}

/// What a series says before its samples; the space is kept between series.
#[derive(Debug, Default)]
pub(crate) struct Head<'a> {
    pub(crate) pairs: Pairs<'a>,
    refs: Vec<u64>,
    /// Whether there is a sample or a histogram.
    pub(crate) filled: bool,
    /// The start of all samples that have none of their own; early versions of 2.0.
    pub(crate) start: Option<i64>,
    metadata: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads labels of a series. `labels_max` bounds their number.
    pub(crate) fn read(
        &mut self,
        message: Message,
        series: &'a [u8],
        symbols: &Symbols<'a>,
        labels_max: usize,
    ) -> Result<(), Unreadable> {
        self.pairs.0.clear();
        self.refs.clear();
        (self.filled, self.start, self.metadata) = (false, None, b"");
        let many = || Unreadable::Labels(format!("more than {labels_max} labels"));
        let mut fields = Fields(series);
        while let Some((number, field)) = fields.next()? {
            match (message, number) {
                (Message::V1, 1) => self.pairs.0.push(label(field.bytes().unwrap_or_default())?),
                (Message::V1, 2 | 4) | (Message::V2, 2 | 3) => self.filled = true,
                (Message::V2, 1) if !refs(field, 2 * labels_max, &mut self.refs)? => return Err(many()),
                (Message::V2, 5) => self.metadata = field.bytes().unwrap_or_default(),
                (Message::V2, 6) => self.start = Some(field.varint() as i64).filter(|start| *start != 0),
                _ => {}
            }
            if self.pairs.0.len() > labels_max {
                return Err(many());
            }
        }
        let named = symbols.pairs(&self.refs, &mut self.pairs);
        named.map_err(|why| {
            let refs: Vec<String> = self.refs.iter().map(u64::to_string).collect();
            Unreadable::Labels(format!("parsing labels for series [{}]: {why}", refs.join(" ")))
        })
    }

    /// What the series' family says of itself, when it says something.
    pub(crate) fn metadata(&self, symbols: &Symbols<'a>) -> Result<Option<Metadata>, WireError> {
        let (mut kind, mut help, mut unit) = (0, 0, 0);
        let mut fields = Fields(self.metadata);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => kind = field.varint(),
                3 => help = field.varint(),
                4 => unit = field.varint(),
                _ => {}
            }
        }
        let text = |place| String::from_utf8_lossy(symbols.text(place)).into_owned();
        let metadata = Metadata { kind: kind_of(kind), help: text(help), unit: text(unit) };
        Ok((metadata != Metadata::default()).then_some(metadata))
    }
}

fn kind_of(number: u64) -> MetricType {
    match number {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

/// Appends a repeated uint32, packed or not; false when there are more than `max`.
fn refs(field: Field<'_>, max: usize, out: &mut Vec<u64>) -> Result<bool, WireError> {
    let Some(packed) = field.bytes() else {
        out.push(field.varint());
        return Ok(out.len() <= max);
    };
    let mut packed = Fields(packed);
    while !packed.0.is_empty() {
        out.push(packed.varint()?);
        if out.len() > max {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The labels of an exemplar, of which none need be there.
pub(crate) fn exemplar_labels(
    message: Message,
    exemplar: &[u8],
    symbols: &Symbols<'_>,
    labels_max: usize,
) -> Result<Labels, Unreadable> {
    let many = || Unreadable::Labels(format!("more than {labels_max} labels"));
    let (mut pairs, mut places, mut fields) = (Pairs::default(), Vec::new(), Fields(exemplar));
    while let Some((number, field)) = fields.next()? {
        match (message, number) {
            (Message::V1, 1) => pairs.0.push(label(field.bytes().unwrap_or_default())?),
            (Message::V2, 1) if !refs(field, 2 * labels_max, &mut places)? => return Err(many()),
            _ => {}
        }
        if pairs.0.len() > labels_max {
            return Err(many());
        }
    }
    symbols.pairs(&places, &mut pairs).map_err(Unreadable::Labels)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Labels::from_pairs(pairs.0.iter().map(|(name, value)| (text(name), text(value)))))
}
