//! The `Histogram` message of remote write and read: from bytes to a native histogram, and back.
//!
//! Whether it is a well formed one is `model`'s to say. Nothing is allocated beyond what the message holds: a number
//! takes at least a byte there.

use exposition::wire::{Field, Fields, WireError, zigzag};
use model::{FloatHistogram, Span};

/// A histogram with the times that come with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stamped {
    pub(crate) at: i64,
    pub(crate) start: Option<i64>,
    pub(crate) value: FloatHistogram,
}

/// The buckets of one side: differences of an integer histogram, or counts.
#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    fn span(&mut self, field: Field<'_>) -> Result<(), WireError> {
        let mut span = Span { offset: 0, length: 0 };
        let mut fields = Fields(field.bytes().unwrap_or_default());
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

    /// The counts themselves. O(buckets).
    fn absolute(self, float: bool) -> (Vec<Span>, Vec<f64>) {
        if float {
            return (self.spans, self.counts);
        }
        let mut sum = 0i64;
        let add = |delta: i64| {
            sum = sum.wrapping_add(delta);
            sum as f64
        };
        (self.spans, self.deltas.into_iter().map(add).collect())
    }
}

/// Reads the message. O(its length).
pub(crate) fn read(message: &[u8]) -> Result<Stamped, WireError> {
    let (mut out, mut float) = (Stamped::default(), false);
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let h = &mut out.value;
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => (h.count, float) = (field.varint() as f64, false),
            2 => (h.count, float) = (field.double(), true),
            3 => h.sum = field.double(),
            4 => h.schema = field.zigzag() as i32,
            5 => h.zero_threshold = field.double(),
            6 => h.zero_count = field.varint() as f64,
            7 => h.zero_count = field.double(),
            8 => negative.span(field)?,
            9 => integers(field, &mut negative.deltas)?,
            10 => doubles(field, &mut negative.counts)?,
            11 => positive.span(field)?,
            12 => integers(field, &mut positive.deltas)?,
            13 => doubles(field, &mut positive.counts)?,
            14 => match field.varint() {
                1 => h.reset = Some(true),
                2 => h.reset = Some(false),
                3 => h.gauge = true,
                _ => {}
            },
            15 => out.at = field.varint() as i64,
            16 => doubles(field, &mut h.custom_bounds)?,
            17 => out.start = Some(field.varint() as i64).filter(|start| *start != 0),
            _ => {}
        }
    }
    h.integer = !float;
    (h.positive_spans, h.positive) = positive.absolute(float);
    (h.negative_spans, h.negative) = negative.absolute(float);
    Ok(out)
}

/// A repeated sint64, packed or not.
fn integers(field: Field<'_>, out: &mut Vec<i64>) -> Result<(), WireError> {
    let Some(packed) = field.bytes() else {
        out.push(field.zigzag());
        return Ok(());
    };
    let mut packed = Fields(packed);
    while !packed.0.is_empty() {
        out.push(zigzag(packed.varint()?));
    }
    Ok(())
}

/// A repeated double, packed or not.
fn doubles(field: Field<'_>, out: &mut Vec<f64>) -> Result<(), WireError> {
    let Some(packed) = field.bytes() else {
        out.push(field.double());
        return Ok(());
    };
    let mut packed = Fields(packed);
    while !packed.0.is_empty() {
        out.push(f64::from_bits(packed.fixed64()?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Message;

    #[test]
    fn integers_come_as_differences_and_floats_as_counts() {
        let spans = |number| Message::new().zigzag(1, -2).varint(2, 2).inside(number);
        let mut integer = Message::new().varint(1, 6).double(3, 1.5).zigzag(4, 3).double(5, 0.25).varint(6, 1);
        integer.append(spans(11));
        let integer = integer.packed_zigzag(12, &[2, 1]).varint(14, 3).varint(15, 77).varint(17, 5);
        let read_back = read(&integer.0).expect("a histogram");
        assert_eq!((read_back.at, read_back.start), (77, Some(5)));
        let h = read_back.value;
        assert_eq!((h.integer, h.gauge, h.count, h.sum, h.schema), (true, true, 6.0, 1.5, 3));
        assert_eq!((h.positive_spans, h.positive), (vec![Span { offset: -2, length: 2 }], vec![2.0, 3.0]));
        let mut float = Message::new().double(2, 2.5).zigzag(4, -53);
        float.append(spans(11));
        let float = float.packed_double(13, &[1.0, 1.5]).packed_double(16, &[0.5, 1.0]).varint(14, 2);
        let h = read(&float.0).expect("a histogram").value;
        assert_eq!((h.integer, h.count, h.reset), (false, 2.5, Some(false)));
        assert_eq!((h.positive, h.custom_bounds), (vec![1.0, 1.5], vec![0.5, 1.0]));
    }
}
