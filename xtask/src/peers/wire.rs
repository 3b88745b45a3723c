//! A remote write of version 1.0 by hand: the data that both servers of a comparison are given.

use crate::processes::post;
use anyhow::{Result, bail};

/// Samples of each series, 15 seconds apart; the last is at the time given.
const SAMPLES: u64 = 41;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(field: u64, value: u64, out: &mut Vec<u8>) {
    varint(field << 3, out);
    varint(value, out);
}

fn double(field: u64, value: f64, out: &mut Vec<u8>) {
    varint(field << 3 | 1, out);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn bytes(field: u64, value: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn label(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, name.as_bytes(), &mut out);
    bytes(2, value.as_bytes(), &mut out);
    out
}

/// Snappy's block format without any compression.
fn snappy(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(plain.len() as u64, &mut out);
    for piece in plain.chunks(60) {
        out.push(((piece.len() - 1) << 2) as u8);
        out.extend_from_slice(piece);
    }
    out
}

/// The times of the samples, in milliseconds.
fn times(now: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..SAMPLES).map(move |i| (i, (now - (SAMPLES - 1 - i) * 15) * 1000))
}

/// A series named by the first label, its samples by their place.
fn series(labels: &[(&str, &str)], now: u64, value: impl Fn(f64) -> f64, further: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    labels.iter().for_each(|(name, value)| bytes(1, &label(name, value), &mut out));
    for (i, at) in times(now) {
        let mut sample = Vec::new();
        double(1, value(i as f64), &mut sample);
        number(2, at, &mut sample);
        bytes(2, &sample, &mut out);
    }
    out.extend_from_slice(further);
    out
}

/// Three exemplars.
fn exemplars(now: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for i in 0..3 {
        let mut one = Vec::new();
        bytes(1, &label("trace_id", &format!("t{i}<&")), &mut one);
        double(2, i as f64 + 0.5, &mut one);
        number(3, (now - 30 + i) * 1000, &mut one);
        bytes(3, &one, &mut out);
    }
    out
}

/// A native histogram that grows.
fn native(now: u64) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, &label("__name__", "native"), &mut out);
    for (i, at) in times(now) {
        let (mut one, mut span) = (Vec::new(), Vec::new());
        number(1, 0, &mut span);
        number(2, 2, &mut span);
        number(1, 2 * (i + 1) + 1, &mut one);
        double(3, 6.0 * (i + 1) as f64, &mut one);
        number(4, 0, &mut one);
        double(5, 0.001, &mut one);
        number(6, 1, &mut one);
        bytes(11, &span, &mut one);
        let mut deltas = Vec::new();
        varint(2 * (i + 1), &mut deltas);
        varint(0, &mut deltas);
        bytes(12, &deltas, &mut one);
        number(15, at, &mut one);
        bytes(4, &one, &mut out);
    }
    out
}

/// Writes the data to a server.
pub(super) fn load(port: u16, now: u64) -> Result<()> {
    let mut all = Vec::new();
    let mut add = |labels: &[(&str, &str)], value: &dyn Fn(f64) -> f64, further: &[u8]| {
        bytes(1, &series(labels, now, value, further), &mut all);
    };
    let requests = [("api", "200", "a"), ("api", "500", "a"), ("api", "200", "b"), ("web", "200", "a")];
    for (i, (job, code, instance)) in requests.into_iter().enumerate() {
        let labels = [("__name__", "http_requests_total"), ("code", code), ("instance", instance), ("job", job)];
        let further = if i < 2 { exemplars(now) } else { Vec::new() };
        add(&labels, &|n| n * (i + 1) as f64 * 1.5, &further);
    }
    for (name, value) in [
        ("nan", f64::NAN),
        ("inf", f64::INFINITY),
        ("ninf", f64::NEG_INFINITY),
        ("small", 1e-7),
        ("big", 1e21),
        ("zero", -0.0),
    ] {
        add(&[("__name__", "special"), ("x", name)], &|_| value, &[]);
    }
    add(&[("__name__", "odd"), ("q", "\"\\\n\t"), ("u", "é☃\u{2028}"), ("x", "<b>&")], &|_| 1.0, &[]);
    add(&[("__name__", "dots"), ("dotted.label", "v")], &|_| 1.0, &[]);
    add(&[("__name__", "a.b")], &|_| 2.0, &[]);
    add(&[("__name__", "mem")], &|n| n, &[]);
    for (bound, slope) in [("0.1", 1.0), ("1", 2.0), ("+Inf", 3.0)] {
        add(&[("__name__", "lat_bucket"), ("le", bound)], &|n| n * slope, &[]);
    }
    bytes(1, &native(now), &mut all);
    let headers = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
    let answer = post(port, "/api/v1/write", &headers, &snappy(&all))?;
    if answer.status != 204 {
        bail!("the data were refused with {}: {}", answer.status, answer.body);
    }
    Ok(())
}
