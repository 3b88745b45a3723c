//! Records come back as they were, refuse damage, and never build on values that are not there.

use super::*;
use std::collections::BTreeMap;
use testkit::Rng;

/// Keeps what it is given, and the last value of each series.
#[derive(Default)]
struct Found {
    series: Vec<(u64, Labels)>,
    values: BTreeMap<u64, u64>,
    batch: Batch,
}

impl Receiver for Found {
    fn series(&mut self, id: u64, labels: Labels) -> Result<(), Damaged> {
        self.series.push((id, labels));
        Ok(())
    }
    fn base(&self, id: u64) -> Option<u64> {
        self.values.get(&id).copied()
    }
    fn float(&mut self, float: Float) {
        self.values.insert(float.series, float.value.to_bits());
        self.batch.floats.push(float);
    }
    fn sample(&mut self, sample: Sample) {
        self.batch.others.push(sample);
    }
    fn late(&mut self, sample: Sample) {
        self.batch.late.push(sample);
    }
    fn exemplar(&mut self, series: u64, exemplar: Exemplar) {
        self.batch.exemplars.push((series, exemplar));
    }
    fn metadata(&mut self, series: u64, metadata: Metadata) {
        self.batch.metadata.push((series, metadata));
    }
}

fn shown(batch: &Batch) -> String {
    let floats: Vec<_> = batch.floats.iter().map(|float| (float.series, float.at, float.value.to_bits())).collect();
    let samples = [&batch.others, &batch.late]
        .map(|samples| samples.iter().map(|sample| format!("{sample:?}")).collect::<Vec<_>>());
    format!("{floats:?} {samples:?} {:?} {:?}", batch.exemplars, batch.metadata)
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "é"), ("i", &i.to_string())])
}

fn random(rng: &mut Rng) -> Batch {
    let mut batch = Batch::default();
    let mut id = rng.next_u64() >> rng.below(64);
    for _ in 0..rng.below(100) {
        id = if rng.chance(80) { id.wrapping_add(1) } else { id.wrapping_add(rng.below(50) as u64) };
        for _ in 0..1 + rng.below(2) {
            let at = if rng.chance(90) { 7 } else { rng.next_u64() as i64 };
            let value = match rng.below(3) {
                0 => 5.0,
                1 => rng.below(1000) as f64,
                _ => f64::from_bits(rng.next_u64()),
            };
            batch.floats.push(Float { series: id, at, value });
        }
    }
    let sample = |rng: &mut Rng| Sample {
        series: rng.next_u64() >> rng.below(60),
        at: rng.next_u64() as i64 >> 20,
        start: rng.chance(10).then_some(5),
        entry: match rng.below(3) {
            0 => Entry::Float(rng.below(1000) as f64),
            1 => Entry::Float(f64::from_bits(rng.next_u64() & !(0x7ff << 52))),
            _ => Entry::Histogram(Arc::default()),
        },
    };
    batch.others = (0..rng.below(20)).map(|_| sample(rng)).collect();
    batch.late = (0..rng.below(20)).map(|_| sample(rng)).collect();
    if rng.chance(50) {
        let at = Some(Timestamp(rng.next_u64() as i64 >> 8));
        batch.exemplars.push((3, Exemplar { labels: labels(9), value: 0.5, at }));
        let metadata = Metadata { kind: MetricType::Counter, help: "what".into(), unit: "s".into() };
        batch.metadata.push((4, metadata));
    }
    batch
}

#[test]
fn records_come_back_and_damaged_ones_are_refused() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut writer: BTreeMap<u64, u64> = BTreeMap::new();
        let mut found = Found::default();
        for round in 0..4 {
            let series: Vec<(u64, Labels)> = (0..rng.below(20)).map(|i| (rng.next_u64(), labels(i))).collect();
            let batch = random(&mut rng);
            let known = batch.floats.iter().all(|float| writer.contains_key(&float.series));
            let base = |float: &Float| writer.get(&float.series).copied().unwrap_or_default();
            let bases: Vec<u64> = batch.floats.iter().map(base).collect();
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            put(&series, &batch, (known && round > 0).then_some(&bases[..]), &mut plain, &mut out);
            writer.extend(batch.floats.iter().map(|float| (float.series, float.value.to_bits())));
            found.batch.clear();
            found.series.clear();
            take(&out, &mut found, &mut Vec::new()).expect("reads");
            assert_eq!((shown(&found.batch), &found.series), (shown(&batch), &series));
            let place = rng.below(out.len());
            let values = found.values.clone();
            let broken = &mut out.clone();
            broken[place] ^= 1 << rng.below(8);
            for bytes in [&broken[..], &out[..place]] {
                let mut other = Found { values: values.clone(), ..Found::default() };
                let _ = take(bytes, &mut other, &mut Vec::new());
            }
        }
    }
}

#[test]
fn a_row_that_builds_on_other_values_is_refused_and_a_full_one_is_not() {
    let row = |value: f64| Batch {
        floats: (1..100).map(|series| Float { series, at: 5, value: value + series as f64 }).collect(),
        ..Batch::default()
    };
    let record = |batch: &Batch, bases: Option<&[u64]>| {
        let mut out = Vec::new();
        put(&[], batch, bases, &mut Vec::new(), &mut out);
        out
    };
    let bases: Vec<u64> = row(1.0).floats.iter().map(|float| float.value.to_bits()).collect();
    let (first, second, third) =
        (record(&row(1.0), None), record(&row(2.0), Some(&bases[..])), record(&row(9.0), None));
    assert!(second.len() < 99 + 99 / 8 + 30, "{} bytes for 99 floats", second.len());
    let mut found = Found::default();
    let scratch = &mut Vec::new();
    assert_eq!(take(&second, &mut found, scratch), Err(Damaged), "nothing is known yet");
    assert_eq!(take(&first, &mut found, scratch), Ok(()));
    assert_eq!(take(&second, &mut found, scratch), Ok(()));
    assert_eq!(take(&second, &mut found, scratch), Err(Damaged), "it builds on the first");
    assert_eq!(take(&third, &mut found, scratch), Ok(()));
    assert_eq!(found.batch.floats.len(), 3 * 99);
}
