//! The examples of `docs/format/head.md` are what is written, and are read.

use crate::{
    head::{
        Head,
        replay::Replay,
        segments::{self, Position, Sealed, Segments},
    },
    options::Options,
    record::{self, Batch, Float},
};
use chunk::stream::{State, Writer};
use model::Labels;
use storage::Exemplars;

/// The bytes of the examples of a kind.
fn examples(kind: &str) -> Vec<Vec<u8>> {
    let page = include_str!("../../../docs/format/head.md");
    let blocks = page.split("```hex ").skip(1).filter_map(|block| block.split("```").next());
    let bytes = |block: &str| {
        let words =
            block.lines().skip(1).flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
        words.map(|word| u8::from_str_radix(word, 16).expect("hex")).collect()
    };
    blocks.filter(|block| block.lines().next() == Some(kind)).map(bytes).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

#[test]
fn the_records_of_the_page() {
    let row = |at: i64, values: [f64; 3]| Batch {
        floats: (1..).zip(values).map(|(series, value)| Float { series, at, value }).collect(),
        ..Batch::default()
    };
    let (first, second) = (row(1000, [5.0, 0.5, 7.0]), row(2000, [5.0, 0.5, 9.0]));
    let names = [(1, Labels::from_pairs([("__name__", "a")]))];
    let written = |names: &[(u64, Labels)], batch: &Batch, bases: Option<&[u64]>| {
        let mut out = Vec::new();
        record::put(names, batch, bases, &mut Vec::new(), &mut out);
        out
    };
    let bases: Vec<u64> = first.floats.iter().map(|float| float.value.to_bits()).collect();
    let records = examples("record");
    assert_eq!(hex(&written(&names, &first, None)), hex(&records[0]));
    assert_eq!(hex(&written(&[], &second, Some(&bases[..]))), hex(&records[1]));
    let (mut head, mut exemplars) = (Head::new(Options::default(), i64::MIN), Exemplars::new(0));
    for number in 2..4 {
        let labels = Labels::from_pairs([("__name__", number.to_string())]);
        head.restore(number, &labels).expect("a slot");
    }
    for bytes in &records {
        let mut replay = Replay { head: &mut head, exemplars: &mut exemplars };
        record::take(bytes, &mut replay, &mut Vec::new()).expect("reads");
    }
    let raw = head.raw(3, &head.shared(), &mut model::Builder::default());
    let points = raw.points(0, 5000, 0).expect("readable");
    assert_eq!((points.times, points.values), (vec![1000, 2000], vec![7.0, 9.0]));
}

#[test]
fn the_segment_of_the_page() {
    let (mut state, mut writer) = (State::default(), Writer::default());
    for (at, value) in [(0, 1.0), (15_000, 2.0), (30_000, 3.0)] {
        assert!(state.push(&mut writer, at, value));
    }
    state.begin(&mut writer);
    let mut all = Segments::new(1000, 1000);
    let State { count, repeats, .. } = state;
    let sealed = Sealed { before: Position::default(), min: 0, max: 30_000, count, repeats, bytes: writer.bytes() };
    let at = all.push(&sealed);
    all.freeze();
    let example = &examples("segment")[0];
    assert_eq!(hex(&all.sealed()[0].bytes), hex(example));
    let (found, length) = segments::chunk(example, at).expect("reads");
    assert_eq!(length + at.offset as usize, example.len());
    let (mut times, mut values) = (Vec::new(), Vec::new());
    found.decode(&mut times, &mut values).expect("decodes");
    assert_eq!((times, values), (vec![0, 15_000, 30_000], vec![1.0, 2.0, 3.0]));
}
