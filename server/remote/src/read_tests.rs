//! Reads of both kinds against the in-memory store.

use super::*;
use crate::{encode::Message as Bytes, xor};
use model::{Sample, Value};
use std::sync::Arc;
use storage::Memory;

fn store() -> Memory {
    let store = Memory::new(storage::Limits { retention: None, ..storage::Limits::default() });
    let mut appender = store.appender();
    for name in ["a", "b"] {
        let id = appender.series(&Labels::from_pairs([("__name__", "m"), ("x", name)])).expect("a series");
        (0..300).for_each(|i| appender.float(id, Timestamp(i * 1000), i as f64).expect("in order"));
    }
    appender.commit().expect("stored");
    store
}

fn request(matchers: &[(i64, &str, &str)], kinds: &[u64]) -> Vec<u8> {
    let mut query = Bytes::new().varint(1, 0).varint(2, 250_500);
    for (op, name, value) in matchers {
        query.append(Bytes::new().varint(1, *op).bytes(2, name.as_bytes()).bytes(3, value.as_bytes()).inside(3));
    }
    query.inside(1).packed(2, kinds).snappy()
}

fn answer(store: &Memory, body: &[u8], external: &Labels) -> Result<Vec<Vec<u8>>, ReadFailure> {
    let mut pieces = Vec::new();
    Read::parse(body)?.answer(store, external, &mut |piece| {
        pieces.push(piece);
        true
    })?;
    Ok(pieces)
}

/// Fields of a message, for looking into.
fn fields(message: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    let (mut fields, mut out) = (Fields(message), Vec::new());
    while let Some((number, field)) = fields.next().expect("a message") {
        out.push((number, field.bytes().unwrap_or_default().to_vec(), field.varint()));
    }
    out
}

#[test]
fn the_first_known_kind_is_taken() {
    let kind = |kinds: &[u64]| Read::parse(&request(&[], kinds)).map(|read| read.kind);
    assert_eq!(kind(&[]), Ok(Kind::Samples));
    assert_eq!(kind(&[7, 1, 0]), Ok(Kind::Chunks));
    assert_eq!(kind(&[0, 1]), Ok(Kind::Samples));
    assert!(kind(&[7]).is_err());
    assert_eq!(Read::parse(b"\xff").map(|_| ()), Err(ReadFailure::Refused("snappy: corrupt input".to_owned())));
}

#[test]
fn samples_come_in_one_message_with_external_labels() {
    let external = Labels::from_pairs([("region", "eu.1")]);
    let body = request(&[(0, "__name__", "m"), (2, "x", "a|c"), (0, "region", "eu.1")], &[]);
    let pieces = answer(&store(), &body, &external).expect("an answer");
    assert_eq!(pieces.len(), 1);
    let plain = snap::raw::Decoder::new().decompress_vec(&pieces[0]).expect("snappy");
    let result = &fields(&plain)[0].1;
    let series: Vec<_> = fields(result);
    assert_eq!(series.len(), 1);
    let inner = fields(&series[0].1);
    let labels = inner.iter().filter(|(number, ..)| *number == 1).map(|(_, label, _)| {
        let pair = fields(label);
        format!("{}={}", String::from_utf8_lossy(&pair[0].1), String::from_utf8_lossy(&pair[1].1))
    });
    assert_eq!(labels.collect::<Vec<_>>(), ["__name__=m", "region=eu.1", "x=a"]);
    assert_eq!(inner.iter().filter(|(number, ..)| *number == 2).count(), 251);
}

#[test]
fn chunks_come_as_checked_frames() {
    let pieces = answer(&store(), &request(&[(0, "__name__", "m")], &[1]), &Labels::empty()).expect("an answer");
    assert_eq!(pieces.len(), 2, "a frame a series");
    for piece in &pieces {
        let mut wire = Fields(piece);
        let length = wire.varint().expect("a length") as usize;
        let (sum, body) = wire.0.split_at(4);
        assert_eq!((body.len(), sum), (length, &crc32c::crc32c(body).to_be_bytes()[..]));
        let series = &fields(body)[0].1;
        let chunks: Vec<_> = fields(series).into_iter().filter(|(number, ..)| *number == 2).collect();
        assert_eq!(chunks.len(), 3);
        let mut samples = Vec::new();
        for (_, chunk, _) in chunks {
            let parts = fields(&chunk);
            let part = |number| parts.iter().find(|(have, ..)| *have == number).expect("a field");
            assert_eq!(part(3).2, 1);
            samples.extend(xor::tests::decode(&part(4).1));
        }
        let want: Vec<(i64, f64)> = (0..251).map(|i| (i * 1000, i as f64)).collect();
        assert_eq!(samples, want);
    }
}

#[test]
fn histograms_come_as_samples_alone() {
    let store = store();
    let mut appender = store.appender();
    let id = appender.series(&Labels::from_pairs([("__name__", "h")])).expect("a series");
    let value = Value::Histogram(Arc::new(crate::encode::histogram_value(3.0, 6.0)));
    appender.sample(id, Sample { at: Timestamp(1000), start: None, value }).expect("in order");
    appender.commit().expect("stored");
    let selector = [(0, "__name__", "h")];
    assert!(answer(&store, &request(&selector, &[1]), &Labels::empty()).is_err());
    let pieces = answer(&store, &request(&selector, &[]), &Labels::empty()).expect("an answer");
    let plain = snap::raw::Decoder::new().decompress_vec(&pieces[0]).expect("snappy");
    let series = &fields(&fields(&plain)[0].1)[0].1;
    let message = &fields(series).into_iter().find(|(number, ..)| *number == 4).expect("a histogram").1;
    let read = crate::histogram::read(message).expect("a histogram");
    assert_eq!((read.at, read.value), (1000, crate::encode::histogram_value(3.0, 6.0)));
}
