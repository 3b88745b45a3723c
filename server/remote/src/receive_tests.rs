//! Requests of both versions against the in-memory store; texts as a running 3.5 and the source of 3.14 have them.

use super::*;
use crate::encode::{self, Message as Bytes, histogram, request2, series, series2};
use model::{Exemplar, FloatHistogram};
use storage::Memory;
use testkit::Rng;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn store() -> Memory {
    Memory::new(storage::Limits { retention: None, ..storage::Limits::default() })
}

fn send(store: &Memory, message: Message, body: &Bytes) -> (u16, String, [u64; 3]) {
    let outcome = receive(store, NOW, message, &body.snappy(), &Limits::default());
    let Written { samples, histograms, exemplars } = outcome.written;
    (outcome.status, outcome.text, [samples, histograms, exemplars])
}

/// `labels time=value …` of everything stored; histograms as `h`count.
fn stored(store: &Memory) -> Vec<String> {
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut set = querier.select(&[]).expect("readable");
    let mut batch = Vec::new();
    set.next_batch(1000, &mut batch).expect("readable");
    let one = |columns: &storage::Columns| {
        let mut text = columns.labels.to_string();
        columns.times.iter().zip(columns.values.iter()).for_each(|(at, value)| text += &format!(" {at}={value}"));
        columns.histograms.iter().for_each(|(at, h)| text += &format!(" {at}=h{}", h.count));
        columns.starts.iter().for_each(|(at, start)| text += &format!(" {at}<{start}"));
        text
    };
    batch.iter().map(one).collect()
}

#[test]
fn headers_say_which_message_it_is() {
    for (kind, encoding, want) in [
        (None, None, Ok(Message::V1)),
        (Some(""), Some(""), Ok(Message::V1)),
        (Some("application/x-protobuf"), Some("SNAPPY"), Ok(Message::V1)),
        (Some("application/x-protobuf;proto=prometheus.WriteRequest"), Some("snappy"), Ok(Message::V1)),
        (Some("application/x-protobuf; charset=x;proto=io.prometheus.write.v2.Request"), None, Ok(Message::V2)),
        (
            Some("text/plain"),
            None,
            Err("expected application/x-protobuf as the first (media) part, got text/plain content-type"),
        ),
        (
            Some("Application/X-Protobuf"),
            None,
            Err("expected application/x-protobuf as the first (media) part, got Application/X-Protobuf content-type"),
        ),
        (
            Some("application/x-protobuf;proto=foo"),
            None,
            Err(
                "got application/x-protobuf;proto=foo content type; unknown remote write protobuf message foo, supported: \
                 prometheus.WriteRequest, io.prometheus.write.v2.Request",
            ),
        ),
        (
            Some("application/x-protobuf;x"),
            None,
            Err(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got x in \
                 application/x-protobuf;x content-type",
            ),
        ),
        (
            None,
            Some("gzip"),
            Err("gzip encoding (compression) is not accepted by this server; only snappy is acceptable"),
        ),
    ] {
        assert_eq!(accept(kind, encoding), want.map_err(str::to_owned), "{kind:?} {encoding:?}");
    }
}

#[test]
fn version_one_is_all_or_nothing() {
    let store = store();
    let mut body = series(&[("b", "2"), ("__name__", "m"), ("a", "1")], &[(1000, 1.0), (2000, 2.0)]).inside(1);
    body.append(series(&[("__name__", "h")], &[]).and(histogram(1000, 3.0, 6.0).inside(4)).inside(1));
    assert_eq!(send(&store, Message::V1, &body), (204, String::new(), [2, 1, 0]));
    let all = ["h 1000=h3", "m{a=\"1\", b=\"2\"} 1000=1 2000=2"];
    assert_eq!(stored(&store), all);
    let m = |samples: &[(i64, f64)]| series(&[("__name__", "m"), ("a", "1"), ("b", "2")], samples).inside(1);
    assert_eq!(send(&store, Message::V1, &m(&[(2000, 2.0)])).0, 204, "the newest once more is harmless");
    let fresh = || series(&[("__name__", "fresh")], &[(3000, 1.0)]).inside(1);
    for (bad, text) in [
        (m(&[(1500, 1.0)]), "out of order sample"),
        (m(&[(2000, 5.0)]), "duplicate sample for timestamp"),
        (m(&[(NOW.0 + 600_001, 5.0)]), "out of bounds: timestamp is too far in the future"),
        (
            series(&[("__name__", "h")], &[]).and(Bytes::new().varint(1, 3).varint(15, 9).inside(4)).inside(1),
            "0 observations found in buckets, but the Count field is 3: histogram's observation count should equal the \
             number of observations found in the buckets (in absence of NaN)",
        ),
    ] {
        let body = fresh().and(bad);
        assert_eq!(send(&store, Message::V1, &body), (400, text.to_owned(), [0, 0, 0]));
        assert_eq!(stored(&store), all, "{text}");
    }
}

#[test]
fn version_one_passes_over_labels_that_name_no_series() {
    let store = store();
    for labels in [&[("a", "b")][..], &[("__name__", "q"), ("a", "b"), ("a", "c")], &[("__name__", "q"), ("", "c")]] {
        let body = series(labels, &[(1000, 1.0)]).inside(1).and(series(&[("__name__", "m")], &[(1000, 1.0)]).inside(1));
        let outcome = receive(&store, NOW, Message::V1, &body.snappy(), &Limits::default());
        assert_eq!((outcome.status, outcome.invalid_series), (204, 1), "{labels:?}");
    }
    assert_eq!(stored(&store), ["m 1000=1"]);
}

#[test]
fn version_two_stores_what_it_can() {
    let symbols = ["", "__name__", "v", "a", "1", "w", "help me"];
    let good = || series2(&[1, 2, 3, 4], &[(1000, 1.0)]);
    let h = || histogram(2000, 3.0, 6.0).inside(3);
    for (bad, text) in [
        (series2(&[1, 2, 3, 4], &[(500, 1.0)]), "out of order sample for series {__name__=\"v\", a=\"1\"}"),
        (series2(&[1, 2, 3, 4], &[(1000, 2.0)]), "duplicate sample for timestamp for series {__name__=\"v\", a=\"1\"}"),
        (series2(&[1, 5], &[]), "TimeSeries must contain at least one sample or histogram for series {__name__=\"w\"}"),
        (series2(&[3, 4], &[(1, 1.0)]), "invalid metric name or labels, got {a=\"1\"}"),
        (
            series2(&[1, 2, 3, 4, 3, 4], &[(1, 1.0)]),
            "invalid labels for series, labels {__name__=\"v\", a=\"1\", a=\"1\"}, duplicated label a",
        ),
        (series2(&[1, 2, 3], &[(1, 1.0)]), "parsing labels for series [1 2 3]: invalid labelRefs length 3"),
        (
            series2(&[1, 999], &[(1, 1.0)]),
            "parsing labels for series [1 999]: labelRefs 1 (name) = 999 (value) outside of symbols table (size 7)",
        ),
        (
            series2(&[1, 5], &[(NOW.0 + 600_001, 1.0)]),
            "out of bounds: timestamp is too far in the future for series {__name__=\"w\"}",
        ),
    ] {
        let store = store();
        let body = request2(&symbols, &[good(), bad, series2(&[1, 2, 3, 4], &[]).and(h())]);
        assert_eq!(send(&store, Message::V2, &body), (400, text.to_owned(), [1, 1, 0]));
        assert_eq!(stored(&store), ["v{a=\"1\"} 1000=1 2000=h3"], "{text}");
    }
}

#[test]
fn starts_exemplars_and_metadata_come_along() {
    let store = store();
    let symbols = ["", "__name__", "v", "trace", "x", "help me", "s"];
    let sample = encode::sample(1000, 1.0).varint(3, 400).inside(2);
    let exemplar = |refs: &[u64]| Bytes::new().packed(1, refs).double(2, 5.0).varint(3, 900).inside(4);
    let metadata = Bytes::new().varint(1, 1).varint(3, 5).varint(4, 6).inside(5);
    let one = series2(&[1, 2], &[]).and(sample).and(exemplar(&[3, 4])).and(metadata).and(exemplar(&[3, 99]));
    let text = "parsing exemplar for series {__name__=\"v\"}: labelRefs 3 (name) = 99 (value) outside of symbols table \
                (size 7)";
    let body = request2(&symbols, std::slice::from_ref(&one));
    assert_eq!(send(&store, Message::V2, &body), (400, text.to_owned(), [1, 0, 1]));
    assert_eq!(stored(&store), ["v 1000=1 1000<400"]);
    let table = Symbols::read(&body.0, 100).expect("readable").expect("few");
    let mut head = Head::default();
    assert!(head.read(Message::V2, &one.0, &table, 10).is_ok());
    let said = head.metadata(&table).expect("readable").expect("something");
    assert_eq!((said.kind.as_str(), said.help.as_str(), said.unit.as_str()), ("counter", "help me", "s"));
    let message = Bytes::new().packed(1, &[3, 4]).double(2, 5.0).varint(3, 900);
    let labels = exemplar_labels(Message::V2, &message.0, &table, 10).expect("labels");
    let want = Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 5.0, at: Some(Timestamp(900)) };
    assert_eq!(pieces::exemplar(&message.0, labels), Ok(want));
}

#[test]
fn histograms_are_stored_bit_for_bit() {
    let store = store();
    let body = series(&[("__name__", "h")], &[]).and(histogram(1000, 3.0, 6.0).inside(4)).inside(1);
    assert_eq!(send(&store, Message::V1, &body).0, 204);
    let querier = store.querier(Timestamp(0), Timestamp(2000));
    let mut batch = Vec::new();
    querier.select(&[]).expect("readable").next_batch(1, &mut batch).expect("readable");
    let want: FloatHistogram = encode::histogram_value(3.0, 6.0);
    assert_eq!(*batch[0].histograms[0].1, want);
}

#[test]
fn bytes_that_are_no_request_are_refused_within_bounds() {
    let store = store();
    let tell = |body: &[u8], limits: &Limits| {
        let outcome = receive(&store, NOW, Message::V2, body, limits);
        assert_eq!(outcome.status, 400);
        outcome.text
    };
    let limits = Limits::default();
    for corrupt in [&b""[..], b"\xff\xff\xff", b"\xff\xff\xff\xff\x0f\0\0", b"\x05\x10abc"] {
        assert_eq!(tell(corrupt, &limits), "snappy: corrupt input");
    }
    let short = Bytes(vec![0x2a, 0x7f, 1]).snappy();
    assert_eq!(tell(&short, &limits), "unexpected EOF: a message or field is longer than the body");
    let request = request2(&["", "__name__", "v"], &[series2(&[1, 2], &[(1, 1.0), (2, 1.0), (3, 1.0)])]).snappy();
    let few = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    for (limits, text) in [
        (few(|limits| limits.message_bytes = 10), "a message of"),
        (few(|limits| limits.samples = 2), "more than 2 samples, split the request"),
        (few(|limits| limits.symbols = 2), "more than 2 symbols, split the request"),
        (few(|limits| limits.labels = 0), "more than 0 labels"),
        (few(|limits| limits.label_bytes = 5), "labels of 9 bytes are over the limit of 5"),
    ] {
        assert!(tell(&request, &limits).starts_with(text), "{text}: {}", tell(&request, &limits));
    }
    assert!(stored(&store).is_empty());
}

/// Whatever arrives is answered, and what is stored is a series.
#[test]
fn broken_requests_are_answered() {
    let (store, mut rng) = (store(), Rng::new(7));
    let one = series(&[("__name__", "m"), ("a", "1")], &[(1000, 1.0)]).and(histogram(2000, 3.0, 6.0).inside(4));
    let v1 = one.inside(1).0;
    let symbols = ["", "__name__", "v", "a", "1"];
    let v2 = request2(&symbols, &[series2(&[1, 2, 3, 4], &[(5, 1.0)]).and(histogram(9, 3.0, 6.0).inside(3))]).0;
    for round in 0..20_000 {
        let (message, good) = if round % 2 == 0 { (Message::V1, &v1) } else { (Message::V2, &v2) };
        let mut bytes = good.clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len());
            match rng.below(3) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, rng.next_u64() as u8),
            }
        }
        let packed = Bytes(bytes).snappy();
        let body = if rng.chance(10) { packed[..rng.below(packed.len())].to_vec() } else { packed };
        let outcome = receive(&store, NOW, message, &body, &Limits { symbols: 100, ..Limits::default() });
        assert!(matches!(outcome.status, 204 | 400), "{outcome:?}");
        assert_eq!(outcome.status == 204, outcome.text.is_empty());
    }
    let nameless = [model::Matcher::new(model::MatchOp::Equal, "__name__", "").expect("a matcher")];
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    assert_eq!(querier.label_names(&nameless), Ok(Vec::new()), "every series has a name");
}
