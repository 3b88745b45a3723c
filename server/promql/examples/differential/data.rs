//! The series both engines are asked about: counters with restarts and gaps, gauges with odd values, a classic
//! histogram, labels without values.

use crate::random::Random;
use anyhow::Result;
use model::{Labels, Timestamp};
use std::{collections::BTreeMap, fmt::Write};
use storage::{Limits, Memory, Storage};

/// First sample, in milliseconds.
pub(crate) const START: i64 = 1_700_000_000_000;
/// Samples of a series without gaps, 15 s apart.
const SAMPLES: i64 = 241;

/// Name, labels and samples of a series.
type Series = (&'static str, Vec<(&'static str, String)>, Points);

type Points = Vec<(i64, f64)>;

/// A family: its name, its type, and series with the suffix of their name.
struct Family {
    name: &'static str,
    kind: &'static str,
    series: Vec<Series>,
}

/// Sample times with gaps, some a little off.
fn times(random: &mut Random, jitter: bool, gaps: usize) -> Vec<i64> {
    let (mut out, mut skip) = (Vec::new(), 0);
    for i in 0..SAMPLES {
        if skip > 0 {
            skip -= 1;
        } else if random.chance(gaps) {
            skip = [0, 1, 4, 29][random.below(4)];
        } else {
            out.push(START + i * 15_000 + if jitter { random.below(7) as i64 - 3 } else { 0 });
        }
    }
    out
}

fn families(random: &mut Random) -> Vec<Family> {
    let mut cpu = Vec::new();
    for job in ["api", "web"] {
        for instance in ["a:1", "b:1", "c:1"] {
            for mode in ["idle", "user", "sys"] {
                let mut value = random.float() * 100.0;
                let points = times(random, job == "web", 2).into_iter().map(|at| {
                    value += [0.0, 1.0, random.float() * 10.0, 15.0][random.below(4)];
                    if random.chance(1) {
                        value = random.float();
                    }
                    (at, value)
                });
                let points = points.collect();
                cpu.push((
                    "_total",
                    vec![("job", job.into()), ("instance", instance.into()), ("mode", mode.into())],
                    points,
                ));
            }
        }
    }
    let mut temp = Vec::new();
    for job in ["api", "web", "db"] {
        for instance in ["a:1", "b:1", "c:1", "d:1"] {
            let points = times(random, false, 3).into_iter().map(|at| {
                let value = match random.below(100) {
                    0 | 1 => f64::NAN,
                    2 => f64::INFINITY,
                    3 => f64::NEG_INFINITY,
                    4..30 => random.below(7) as f64 - 3.0,
                    _ => (random.float() - 0.5) * 40.0,
                };
                (at, value)
            });
            temp.push(("", vec![("job", job.into()), ("instance", instance.into())], points.collect()));
        }
    }
    let mut meta = Vec::new();
    for job in ["api", "web"] {
        for (instance, version) in [("a:1", "x"), ("b:1", "y")] {
            let points = (0..SAMPLES).map(|i| (START + i * 15_000, if random.chance(25) { 0.0 } else { 1.0 }));
            let labels = vec![("job", job.into()), ("instance", instance.into()), ("version", version.into())];
            meta.push(("", labels, points.collect()));
        }
    }
    vec![
        Family { name: "cpu", kind: "counter", series: cpu },
        Family { name: "temp", kind: "gauge", series: temp },
        Family { name: "up_meta", kind: "gauge", series: meta },
        Family { name: "lat", kind: "histogram", series: histograms(random) },
    ]
}

fn histograms(random: &mut Random) -> Vec<Series> {
    const BOUNDS: [(&str, f64); 5] = [("0.1", 0.1), ("0.5", 0.5), ("1.0", 1.0), ("5.0", 5.0), ("+Inf", f64::INFINITY)];
    let mut out = Vec::new();
    for job in ["api", "web"] {
        let mut columns: [Points; 7] = Default::default();
        let (mut counts, mut sum) = ([0.0; 5], 0.0);
        for i in 0..SAMPLES {
            for _ in 0..random.below(7) {
                let value = -(1.0 - random.float()).ln();
                sum += value;
                BOUNDS
                    .iter()
                    .zip(&mut counts)
                    .for_each(|((_, bound), count)| *count += f64::from(u8::from(value <= *bound)));
            }
            let all = counts.into_iter().chain([counts[4], sum]);
            columns.iter_mut().zip(all).for_each(|(column, value)| column.push((START + i * 15_000, value)));
        }
        for (place, points) in columns.into_iter().enumerate() {
            let mut labels = vec![("job", job.to_owned())];
            if let Some((bound, _)) = BOUNDS.get(place) {
                labels.push(("le", (*bound).to_owned()));
            }
            out.push((
                ["_bucket", "_bucket", "_bucket", "_bucket", "_bucket", "_count", "_sum"][place],
                labels,
                points,
            ));
        }
    }
    out
}

/// What the demo service of the compliance suite has: three instances of one job.
fn demo_families(random: &mut Random) -> Vec<Family> {
    let instances = ["demo.promlabs.com:10000", "demo.promlabs.com:10001", "demo.promlabs.com:10002"];
    let mut one =
        |name, kind, suffix: &'static str, extra: &[&[(&'static str, &str)]], next: &dyn Fn(f64, f64) -> f64| {
            let mut series = Vec::new();
            for instance in instances {
                for labels in extra {
                    let mut value = 0.0;
                    let gaps = if name == "demo_intermittent_metric" { 20 } else { 0 };
                    let points = times(random, false, gaps).into_iter();
                    let points: Points = points
                        .map(|at| {
                            value = next(value, random.float());
                            (at, value)
                        })
                        .collect();
                    let own = [("job", "demo".to_owned()), ("instance", instance.to_owned())];
                    let labels = own.into_iter().chain(labels.iter().map(|(name, value)| (*name, (*value).to_owned())));
                    series.push((suffix, labels.collect(), points));
                }
            }
            Family { name, kind, series }
        };
    let modes: [&[(&str, &str)]; 3] = [&[("mode", "idle")], &[("mode", "user")], &[("mode", "system")]];
    let types: [&[(&str, &str)]; 4] =
        [&[("type", "free")], &[("type", "used")], &[("type", "cached")], &[("type", "buffers")]];
    let paths: [&[(&str, &str)]; 2] = [
        &[("method", "GET"), ("path", "/api/foo"), ("status", "200")],
        &[("method", "POST"), ("path", "/api/bar"), ("status", "500")],
    ];
    let mut all = vec![
        one("demo_cpu_usage_seconds", "counter", "_total", &modes, &|value, random| {
            if random < 0.01 { 0.0 } else { value + random * 8.0 }
        }),
        one("demo_memory_usage_bytes", "gauge", "", &types, &|_, random| (random * 8e9).floor()),
        one("demo_num_cpus", "gauge", "", &[&[]], &|_, _| 4.0),
        one("demo_disk_usage_bytes", "gauge", "", &[&[]], &|value, random| value + (random * 1e6).floor()),
        one("demo_batch_last_success_timestamp_seconds", "gauge", "", &[&[]], &|value, random| {
            if value == 0.0 || random < 0.1 { START as f64 / 1000.0 + (random * 36_000.0).floor() } else { value }
        }),
        one("demo_intermittent_metric", "gauge", "", &[&[]], &|_, _| 1.0),
    ];
    let mut histograms = Vec::new();
    for labels in paths {
        for instance in instances {
            for (suffix, own, points) in self::histograms(random).into_iter().take(7) {
                let own = own.into_iter().filter(|(name, _)| *name == "le");
                let more = labels.iter().map(|(name, value)| (*name, (*value).to_owned()));
                let more = more.chain([("job", "demo".to_owned()), ("instance", instance.to_owned())]);
                histograms.push((suffix, own.chain(more).collect(), points));
            }
        }
    }
    all.push(Family { name: "demo_api_request_duration_seconds", kind: "histogram", series: histograms });
    all
}

/// The data of the compliance suite as OpenMetrics text, and in a store.
pub(crate) fn demo(random: &mut Random) -> Result<(String, Memory)> {
    written(demo_families(random))
}

/// The data as OpenMetrics text, and in a store.
pub(crate) fn build(random: &mut Random) -> Result<(String, Memory)> {
    written(families(random))
}

fn written(families: Vec<Family>) -> Result<(String, Memory)> {
    let memory = Memory::new(Limits { retention: None, ..Limits::default() });
    let mut text = String::new();
    let mut stored: BTreeMap<Labels, Points> = BTreeMap::new();
    for family in families {
        writeln!(text, "# TYPE {} {}", family.name, family.kind)?;
        for (suffix, labels, points) in family.series {
            let name = format!("{}{suffix}", family.name);
            let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            for (at, value) in &points {
                let (seconds, fraction) = (at / 1000, at % 1000);
                let value = match value {
                    value if value.is_infinite() => if *value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                    value => value.to_string(),
                };
                writeln!(text, "{name}{{{}}} {value} {seconds}.{fraction:03}", pairs.join(","))?;
            }
            let labels = Labels::from_pairs(labels.into_iter().chain([("__name__", name)]));
            stored.insert(labels, points);
        }
    }
    text.push_str("# EOF\n");
    let mut appender = memory.appender();
    for (labels, points) in stored {
        let id = appender.series(&labels)?;
        for (at, value) in points {
            appender.float(id, Timestamp(at), value)?;
        }
    }
    appender.commit()?;
    Ok((text, memory))
}
