//! Messages of remote write for tests: the wire format the other way round.

use model::{FloatHistogram, Span};

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

impl Message {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn tag(&mut self, number: u64, kind: u64) {
        varint(number << 3 | kind, &mut self.0);
    }

    pub(crate) fn varint(mut self, number: u64, value: i64) -> Self {
        self.tag(number, 0);
        varint(value as u64, &mut self.0);
        self
    }

    pub(crate) fn zigzag(self, number: u64, value: i64) -> Self {
        self.varint(number, zigzag(value) as i64)
    }

    pub(crate) fn double(mut self, number: u64, value: f64) -> Self {
        self.tag(number, 1);
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, number: u64, bytes: &[u8]) -> Self {
        self.tag(number, 2);
        varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn packed(self, number: u64, values: &[u64]) -> Self {
        let mut inner = Vec::new();
        values.iter().for_each(|value| varint(*value, &mut inner));
        self.bytes(number, &inner)
    }

    pub(crate) fn packed_zigzag(self, number: u64, values: &[i64]) -> Self {
        self.packed(number, &values.iter().map(|value| zigzag(*value)).collect::<Vec<_>>())
    }

    pub(crate) fn packed_double(self, number: u64, values: &[f64]) -> Self {
        self.bytes(number, &values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect::<Vec<_>>())
    }

    /// This message as a field of another.
    pub(crate) fn inside(self, number: u64) -> Self {
        Self::new().bytes(number, &self.0)
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.append(other);
        self
    }

    pub(crate) fn snappy(&self) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(&self.0).expect("snappy")
    }
}

/// A float histogram of one bucket.
pub(crate) fn histogram(at: i64, count: f64, sum: f64) -> Message {
    let span = Message::new().zigzag(1, 0).varint(2, 1).inside(11);
    Message::new().double(2, count).double(3, sum).and(span).packed_double(13, &[count]).varint(15, at)
}

/// What [`histogram`] means.
pub(crate) fn histogram_value(count: f64, sum: f64) -> FloatHistogram {
    FloatHistogram {
        count,
        sum,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive: vec![count],
        ..FloatHistogram::default()
    }
}

pub(crate) fn sample(at: i64, value: f64) -> Message {
    Message::new().double(1, value).varint(2, at)
}

/// A series of version 1.
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Message {
    let mut out = Message::new();
    for (name, value) in labels {
        out.append(Message::new().bytes(1, name.as_bytes()).bytes(2, value.as_bytes()).inside(1));
    }
    samples.iter().for_each(|(at, value)| out.append(sample(*at, *value).inside(2)));
    out
}

/// A series of version 2.
pub(crate) fn series2(refs: &[u64], samples: &[(i64, f64)]) -> Message {
    let mut out = Message::new().packed(1, refs);
    samples.iter().for_each(|(at, value)| out.append(sample(*at, *value).inside(2)));
    out
}

/// A request of version 2.
pub(crate) fn request2(symbols: &[&str], series: &[Message]) -> Message {
    let mut out = Message::new();
    symbols.iter().for_each(|symbol| out.append(Message::new().bytes(4, symbol.as_bytes())));
    series.iter().for_each(|one| out.append(one.clone().inside(5)));
    out
}
