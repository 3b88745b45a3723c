//! What the messages of both versions have in common: label sets, samples and exemplars, borrowed from the request.

use exposition::wire::{Fields, WireError};
use model::{Exemplar, Labels, METRIC_NAME, Timestamp};
use std::fmt::Write;

/// A label set as it was sent, on its way to be checked. The space is kept between series.
#[derive(Debug, Default)]
pub(crate) struct Pairs<'a>(pub(crate) Vec<(&'a [u8], &'a [u8])>);

/// Why a label set names no series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw<'a> {
    /// No metric name, an empty label name, or bytes that are no UTF-8.
    Invalid,
    /// A name that comes twice.
    Repeated(&'a str),
}

impl<'a> Pairs<'a> {
    /// The set, in the order of names. O(n log n).
    pub(crate) fn check(&mut self) -> Result<Labels, Flaw<'a>> {
        self.0.sort_by_key(|(name, _)| *name);
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| Flaw::Invalid);
        for (name, value) in &self.0 {
            if name.is_empty() || text(name).and(text(value)).is_err() {
                return Err(Flaw::Invalid);
            }
        }
        if !self.0.iter().any(|(name, value)| *name == METRIC_NAME.as_bytes() && !value.is_empty()) {
            return Err(Flaw::Invalid);
        }
        if let Some(twice) = self.0.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(Flaw::Repeated(text(twice[0].0)?));
        }
        let pairs = self.0.iter().map(|(name, value)| (std::str::from_utf8(name), std::str::from_utf8(value)));
        Ok(Labels::from_pairs(pairs.filter_map(|(name, value)| Some((name.ok()?, value.ok()?)))))
    }

    /// `{a="b", c="d"}`, whatever the bytes are.
    pub(crate) fn shown(&self) -> String {
        let mut out = String::from("{");
        for (i, (name, value)) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            // Writing to a String cannot fail.
            let _ = write!(out, "{comma}{name}={}", model::quote(&value));
        }
        out.push('}');
        out
    }
}

/// `{__name__="a", b="c"}`, as upstream's messages name a series.
pub(crate) fn shown(labels: &Labels) -> String {
    Pairs(labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()).shown()
}

/// A `Label{name, value}` message.
pub(crate) fn label(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut pair: (&[u8], &[u8]) = (b"", b"");
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => pair.0 = field.bytes().unwrap_or_default(),
            2 => pair.1 = field.bytes().unwrap_or_default(),
            _ => {}
        }
    }
    Ok(pair)
}

/// A float sample: time, start if there is one, value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) at: i64,
    pub(crate) start: Option<i64>,
    pub(crate) value: f64,
}

/// A `Sample{value, timestamp, start_timestamp}` message; the last is of version 2 alone.
pub(crate) fn point(message: &[u8]) -> Result<Point, WireError> {
    let mut point = Point::default();
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => point.value = field.double(),
            2 => point.at = field.varint() as i64,
            3 => point.start = Some(field.varint() as i64).filter(|start| *start != 0),
            _ => {}
        }
    }
    Ok(point)
}

/// Value and time of an exemplar message; its labels are each version's own.
pub(crate) fn exemplar(message: &[u8], labels: Labels) -> Result<Exemplar, WireError> {
    let (mut value, mut at) = (0.0, 0);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            2 => value = field.double(),
            3 => at = field.varint() as i64,
            _ => {}
        }
    }
    Ok(Exemplar { labels, value, at: Some(Timestamp(at)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_sorted_and_checked() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let mut set = Pairs(pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect());
            set.check().map(|labels| labels.to_string())
        };
        assert_eq!(check(&[("b", "2"), ("__name__", "m"), ("a", "1")]).as_deref(), Ok("m{a=\"1\", b=\"2\"}"));
        assert_eq!(check(&[("__name__", "m"), ("a", "")]).as_deref(), Ok("m"));
        assert_eq!(check(&[("a", "1")]), Err(Flaw::Invalid));
        assert_eq!(check(&[("__name__", "")]), Err(Flaw::Invalid));
        assert_eq!(check(&[("__name__", "m"), ("", "1")]), Err(Flaw::Invalid));
        assert_eq!(check(&[("__name__", "m"), ("a", "1"), ("a", "1")]), Err(Flaw::Repeated("a")));
        let mut bytes = Pairs(vec![(b"__name__", b"m"), (b"a", b"\xff")]);
        assert_eq!(bytes.check(), Err(Flaw::Invalid));
        assert_eq!(bytes.shown(), "{__name__=\"m\", a=\"\u{fffd}\"}");
    }
}
