//! The body of a push as families. Truth: upstream takes protobuf when the content type says so letter for letter, and
//! everything else as text 0.0.4 whatever it says.

use crate::packed::{self, Corrupt};
use exposition::{
    Family, MetricType,
    families::{Names, ProtobufError, TextError, parse_protobuf, parse_text_with},
};
use web::http::{HeaderMap, header};

/// What a body says.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// Families as they came.
    pub(crate) families: Vec<Family>,
    /// A metric whose value is not of its family's type, which only protobuf can say.
    pub(crate) mismatch: Option<String>,
}

/// Why a body was not understood; the text is what the client gets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BodyError {
    #[error(transparent)]
    Text(#[from] TextError),
    #[error("unexpected EOF")]
    Short,
    #[error(transparent)]
    Protobuf(ProtobufError),
}

impl Body {
    /// Reads a body that was inflated. O(body).
    ///
    /// # Errors
    /// [`BodyError`].
    pub(crate) fn read(headers: &HeaderMap, body: &[u8], utf8: bool) -> Result<Self, BodyError> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !exposition::is_delimited_families(kind) {
            let names = if utf8 { Names::Utf8 } else { Names::Legacy };
            return Ok(Self { families: parse_text_with(body, names)?, mismatch: None });
        }
        let families = parse_protobuf(body).map_err(|error| match error.why.starts_with("unexpected EOF") {
            true => BodyError::Short,
            false => BodyError::Protobuf(error),
        })?;
        let mismatch = families.iter().zip(messages(body)).find_map(|(family, message)| mismatch(family, message));
        Ok(Self { families: families.into_iter().filter(|family| !family.metrics.is_empty()).collect(), mismatch })
    }
}

/// The messages of a body that was read without complaint.
fn messages(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || packed::take_bytes(&mut body).ok())
}

/// The metrics of a family message whose value is of another kind than the family.
fn mismatch(family: &Family, message: &[u8]) -> Option<String> {
    // Numbers of the fields in the message Metric.
    let (number, word) = match family.kind {
        MetricType::Gauge => (2, "GAUGE"),
        MetricType::Counter => (3, "COUNTER"),
        MetricType::Summary => (4, "SUMMARY"),
        MetricType::Histogram => (7, "HISTOGRAM"),
        MetricType::GaugeHistogram => (7, "GAUGE_HISTOGRAM"),
        _ => (5, "UNTYPED"),
    };
    let metrics = Fields(message).filter(|(field, _)| *field == 4);
    let wrong = metrics.map(|(_, metric)| metric).any(|metric| Fields(metric).all(|(field, _)| field != number));
    wrong.then(|| format!("collected metric {:?} is not a {word}", family.name))
}

/// The fields of a protobuf message that have a length; others are skipped.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn step(&mut self) -> Result<Option<(u64, &'a [u8])>, Corrupt> {
        let tag = packed::take_varint(&mut self.0)?;
        let skip = match tag & 7 {
            0 => {
                packed::take_varint(&mut self.0)?;
                0
            }
            1 => 8,
            2 => return Ok(Some((tag >> 3, packed::take_bytes(&mut self.0)?))),
            5 => 4,
            _ => return Err(Corrupt),
        };
        self.0 = self.0.get(skip..).ok_or(Corrupt)?;
        Ok(None)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.step() {
                Ok(Some(field)) => return Some(field),
                Ok(None) => {}
                Err(Corrupt) => return None,
            }
        }
        None
    }
}
