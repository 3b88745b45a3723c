//! Reading upstream's persistence file, once, when a gateway takes over from upstream's.
//!
//! The file is a Go gob: a map of grouping key to `{Labels, Metrics}`, where `Metrics` maps names to `{Timestamp,
//! GobbableMetricFamily}` and the last is a protobuf message. Truth: the encoding's own description in Go's
//! `encoding/gob`, and files that an upstream gateway wrote. Types are read from the file, so other fields may come.
//! What this module leaves out: writing gobs.

use crate::{
    Group, Key,
    packed::{put_bytes, put_stored, take_family},
    record::Groups,
    store::TIMES,
};
use exposition::MetricValue;
use std::collections::BTreeMap;

/// Bytes that are no gob of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a persistence file of an upstream gateway: {0}")]
pub(crate) struct GobError(&'static str);

type Take<T> = Result<T, GobError>;

const SHORT: GobError = GobError("it ends too early");
const SHAPE: GobError = GobError("it holds something else than groups");
/// Types defined in one file at most; upstream's file has six.
const TYPES_MAX: usize = 100;
/// How deep values may nest.
const DEPTH_MAX: usize = 8;
/// Seconds from the year 1 to 1970.
const YEAR_ONE: i64 = 62_135_596_800;

#[derive(Clone, Debug)]
enum Type {
    Map(i64, i64),
    Slice(i64),
    Struct(Vec<(String, i64)>),
    /// What its own code encoded.
    Opaque,
}

#[derive(Clone, Debug)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Map(Vec<(Value<'a>, Value<'a>)>),
    Struct(Vec<(String, Value<'a>)>),
    /// A number or truth value, none of which is of interest.
    Other,
}

impl<'a> Value<'a> {
    fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.iter().find(|(have, _)| have == name).map(|(_, value)| value),
            _ => None,
        }
    }

    fn bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    fn text(&self) -> Take<String> {
        String::from_utf8(self.bytes().ok_or(SHAPE)?.to_vec()).map_err(|_| GobError("a text is not UTF-8"))
    }

    fn pairs(&self) -> &[(Self, Self)] {
        if let Self::Map(pairs) = self { pairs } else { &[] }
    }
}

/// The groups of a file. O(file).
///
/// # Errors
/// [`GobError`].
pub(crate) fn read(file: &[u8]) -> Take<Groups> {
    let (mut rest, mut types) = (Reader(file), BTreeMap::new());
    while !rest.0.is_empty() {
        let length = rest.length()?;
        let mut message = Reader(rest.take(length)?);
        let id = message.signed()?;
        if id < 0 {
            if types.len() == TYPES_MAX {
                return Err(GobError("it defines too many types"));
            }
            types.insert(-id, definition(&mut message)?);
            continue;
        }
        if !matches!(types.get(&id), Some(Type::Map(..))) {
            return Err(SHAPE);
        }
        // A value that is no struct has one byte before it.
        message.unsigned()?;
        return groups(&message.value(id, &types, 0)?);
    }
    Err(SHORT)
}

/// Calls `each` for the fields of a struct by their numbers, from 0.
fn fields<'a>(from: &mut Reader<'a>, mut each: impl FnMut(usize, &mut Reader<'a>) -> Take<()>) -> Take<()> {
    let mut number = 0usize;
    loop {
        let step = from.length_unbounded()?;
        if step == 0 {
            return Ok(());
        }
        number = number.checked_add(step).ok_or(SHAPE)?;
        each(number - 1, from)?;
    }
}

/// The name and number every kind of type has, which nobody needs.
fn common(from: &mut Reader<'_>) -> Take<()> {
    fields(from, |number, from| match number {
        0 => from.bytes().map(drop),
        _ => from.signed().map(drop),
    })
}

fn definition(from: &mut Reader<'_>) -> Take<Type> {
    let mut found = Err(SHAPE);
    fields(from, |kind, from| {
        let (mut key, mut elem, mut members) = (0, 0, Vec::new());
        fields(from, |number, from| {
            match (kind, number) {
                (_, 0) => common(from)?,
                (3, 1) => key = from.signed()?,
                (0 | 1, 1) | (3, 2) => elem = from.signed()?,
                (0, 2) => drop(from.signed()?),
                (2, 1) => {
                    for _ in 0..from.length()? {
                        let (mut name, mut id) = (String::new(), 0);
                        fields(from, |number, from| {
                            match number {
                                0 => name = String::from_utf8_lossy(from.bytes()?).into_owned(),
                                _ => id = from.signed()?,
                            }
                            Ok(())
                        })?;
                        members.push((name, id));
                    }
                }
                _ => return Err(SHAPE),
            }
            Ok(())
        })?;
        found = Ok(match kind {
            0 | 1 => Type::Slice(elem),
            2 => Type::Struct(members),
            3 => Type::Map(key, elem),
            _ => Type::Opaque,
        });
        Ok(())
    })?;
    found
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Take<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Small numbers are a byte; others tell by a negative one how many bytes follow, the first most significant.
    fn unsigned(&mut self) -> Take<u64> {
        let first = self.take(1)?[0];
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let count = usize::from(first.wrapping_neg());
        if count > 8 {
            return Err(GobError("a number is too long"));
        }
        Ok(self.take(count)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn signed(&mut self) -> Take<i64> {
        let value = self.unsigned()?;
        Ok(if value & 1 == 1 { !((value >> 1) as i64) } else { (value >> 1) as i64 })
    }

    fn length_unbounded(&mut self) -> Take<usize> {
        usize::try_from(self.unsigned()?).map_err(|_| SHORT)
    }

    /// A count of things of which each takes a byte at least.
    fn length(&mut self) -> Take<usize> {
        self.length_unbounded().and_then(|length| if length > self.0.len() { Err(SHORT) } else { Ok(length) })
    }

    fn bytes(&mut self) -> Take<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn value(&mut self, id: i64, types: &BTreeMap<i64, Type>, depth: usize) -> Take<Value<'a>> {
        if depth > DEPTH_MAX {
            return Err(SHAPE);
        }
        match types.get(&id) {
            // Numbers of the built-in types: bool, int, uint, float, bytes, string, complex.
            None => match id {
                1..=4 => self.unsigned().map(|_| Value::Other),
                5 | 6 => self.bytes().map(Value::Bytes),
                _ => Err(SHAPE),
            },
            Some(Type::Opaque) => self.bytes().map(Value::Bytes),
            Some(Type::Slice(elem)) => {
                for _ in 0..self.length()? {
                    self.value(*elem, types, depth + 1)?;
                }
                Ok(Value::Other)
            }
            Some(Type::Map(key, elem)) => {
                let mut pairs = Vec::new();
                for _ in 0..self.length()? {
                    let key = self.value(*key, types, depth + 1)?;
                    pairs.push((key, self.value(*elem, types, depth + 1)?));
                }
                Ok(Value::Map(pairs))
            }
            Some(Type::Struct(members)) => {
                let mut out = Vec::new();
                fields(self, |number, from| {
                    let (name, id) = members.get(number).ok_or(SHAPE)?;
                    out.push((name.clone(), from.value(*id, types, depth + 1)?));
                    Ok(())
                })?;
                Ok(Value::Struct(out))
            }
        }
    }
}

fn groups(value: &Value<'_>) -> Take<Groups> {
    let mut groups = Groups::default();
    for (_, group) in value.pairs() {
        let mut labels = BTreeMap::new();
        for (name, value) in group.field("Labels").ok_or(SHAPE)?.pairs() {
            labels.insert(name.text()?, value.text()?);
        }
        let metrics = group.field("Metrics").map(Value::pairs).unwrap_or_default();
        groups.0.insert(Key::new(&labels), one_group(metrics)?);
    }
    Ok(groups)
}

fn one_group(metrics: &[(Value<'_>, Value<'_>)]) -> Take<Group> {
    let (mut group, mut all) = (Group::new(0), BTreeMap::new());
    for (_, metric) in metrics {
        let at = metric.field("Timestamp").and_then(Value::bytes).map_or(Ok(0), time)?;
        let message = metric.field("GobbableMetricFamily").and_then(Value::bytes).ok_or(SHAPE)?;
        let mut packed = Vec::with_capacity(message.len() + 3);
        put_bytes(&mut packed, message);
        let family = take_family(&packed).map_err(|_| GobError("a metric family is damaged"))?;
        let value = family.metrics.first().map(|metric| &metric.value);
        match (TIMES.iter().position(|(name, _)| *name == family.name), value) {
            (Some(which), Some(MetricValue::Gauge(seconds))) => {
                let ms = (seconds * 1000.0).round() as i64;
                *[&mut group.failed, &mut group.pushed][which] = ms;
                group.created = if group.created == 0 { at } else { group.created.min(at) };
            }
            (Some(_), _) => {}
            (None, _) => {
                // Written anew, since the order of fields in the message is somebody else's.
                let mut own = Vec::new();
                crate::packed::put_family(&mut own, &family);
                all.insert(family.name, (at, own));
            }
        }
    }
    group.last_failed = group.failed > group.pushed;
    let mut out = Vec::new();
    for (at, family) in all.values() {
        put_stored(&mut out, *at, family);
    }
    group.families = out.into();
    Ok(group)
}

/// Go's binary form of a time: a version, seconds since the year 1, nanoseconds, a zone. In milliseconds since 1970.
fn time(bytes: &[u8]) -> Take<i64> {
    let bad = GobError("a time is damaged");
    let (seconds, rest) = bytes.get(1..).and_then(<[u8]>::split_first_chunk::<8>).ok_or(bad)?;
    let nanos = rest.first_chunk::<4>().ok_or(bad)?;
    let seconds = i64::from_be_bytes(*seconds).saturating_sub(YEAR_ONE);
    Ok(seconds.saturating_mul(1000).saturating_add(i64::from(u32::from_be_bytes(*nanos) / 1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../testdata/upstream-1.11.2.gob");

    #[test]
    fn a_file_of_upstream_is_read_whole() {
        let groups = read(FILE).expect("a file that an upstream gateway wrote");
        let mut store = crate::Store::default();
        groups.restore(&mut store);
        assert!(store.conflict().is_none());
        let mut text = String::new();
        for indexed in store.index().values() {
            for chunk in indexed.lines.chunks() {
                text.push_str(&String::from_utf8_lossy((**chunk).as_ref()));
            }
        }
        // The scrape of that gateway, its own series left out; push times there have more digits than ours.
        let want = include_str!("../testdata/upstream-1.11.2.txt");
        let millis = |line: &str| -> String {
            let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
            let value: f64 = value.parse().unwrap_or(f64::NAN);
            if series.starts_with("push_") { format!("{series} {:.3}", value) } else { line.to_owned() }
        };
        let lines = |text: &str| text.lines().map(millis).collect::<Vec<_>>();
        assert_eq!(lines(&text), lines(want));
    }

    #[test]
    fn damaged_files_are_refused_without_harm() {
        for cut in (0..FILE.len()).step_by(7) {
            assert!(read(&FILE[..cut]).is_err(), "cut at {cut}");
            let mut broken = FILE.to_vec();
            for bit in [0x01, 0x80, 0xff] {
                broken[cut] ^= bit;
                let _ = read(&broken);
            }
        }
    }
}
