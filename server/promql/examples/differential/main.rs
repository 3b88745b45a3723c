//! Asks this engine and a Prometheus 3.5 generated queries over the same generated data and compares the answers:
//! values, labels, order where there is one, errors and annotations.
//!
//! Arguments: the folder with `prometheus` and `promtool`, how many queries, the seed; or `compliance` and the suite's
//! list instead of the last two. Prints what differs and is not explained by [`explained`], and exits with 1 when there
//! is such a thing.

mod compliance;
mod data;
mod peer;
mod queries;
mod random;

use anyhow::{Context, Result, bail};
use model::Timestamp;
use promql::{Answer, Engine, EngineOptions, MatrixRow, QueryError, QueryValue};
use random::Random;
use runtime::Clock;
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut args = std::env::args().skip(1);
    let bin = PathBuf::from(args.next().context("usage: differential BIN_FOLDER [QUERIES] [SEED]")?);
    let first = args.next();
    let mut random = Random::new(1);
    if first.as_deref() == Some("compliance") {
        let list = args.next().context("usage: differential BIN_FOLDER compliance LIST")?;
        let queries = compliance::queries(&std::fs::read_to_string(&list).with_context(|| list.clone())?)?;
        let mut sides = Sides::start(&bin, data::demo(&mut random)?)?;
        // As the suite: ten minutes, every ten seconds, and the last moment alone.
        let (start, end) = (data::START + 3_000_000, data::START + 3_600_000);
        for query in queries {
            sides.ask(&query, start, end, 10_000)?;
            sides.ask(&query, end, end, 0)?;
        }
        return Ok(sides.report());
    }
    let count: usize = first.map_or(Ok(20_000), |text| text.parse())?;
    let seed: u64 = args.next().map_or(Ok(1), |text| text.parse())?;
    random = Random::new(seed);
    let mut sides = Sides::start(&bin, data::build(&mut random)?)?;
    for _ in 0..count {
        let query = queries::Generator(&mut random).query();
        let start = data::START + (random.below(3_700) as i64 - 60) * 1000;
        let step = if random.chance(50) { 0 } else { [15_000, 30_000, 60_000, 7_000, 300_000][random.below(5)] };
        let end = start + step * random.below(21) as i64;
        sides.ask(&query, start, end, step)?;
    }
    Ok(sides.report())
}

/// Both engines over the same data, and what came of asking them.
struct Sides {
    peer: peer::Peer,
    engine: Engine,
    memory: storage::Memory,
    same: usize,
    unexplained: usize,
    known: BTreeMap<&'static str, usize>,
}

impl Sides {
    fn start(bin: &std::path::Path, (text, memory): (String, storage::Memory)) -> Result<Self> {
        let engine = Engine::new(EngineOptions::default(), Clock::system());
        let (same, unexplained, known) = (0, 0, BTreeMap::new());
        Ok(Self { peer: peer::Peer::start(bin, &text)?, engine, memory, same, unexplained, known })
    }

    /// Asks both; a step of 0 is an instant query.
    fn ask(&mut self, query: &str, start: i64, end: i64, step: i64) -> Result<()> {
        let theirs = self.peer.ask(query, start, end, step)?;
        let ours = if step == 0 {
            self.engine.instant(&self.memory, query, Timestamp(start))
        } else {
            self.engine.range(&self.memory, query, Timestamp(start), Timestamp(end), step.unsigned_abs())
        };
        let Err(difference) = compare(&theirs, ours, digits(query)) else {
            self.same += 1;
            return Ok(());
        };
        match explained(query, step, &difference) {
            Some(why) => *self.known.entry(why).or_default() += 1,
            None => {
                self.unexplained += 1;
                println!("{query}\n    at {start}..{end} step {step}: {difference:#}");
            }
        }
        Ok(())
    }

    /// Says how many agreed; whether nothing is unexplained.
    fn report(&self) -> bool {
        let count = self.same + self.unexplained + self.known.values().sum::<usize>();
        println!("{count} queries: {} same, {} unexplained", self.same, self.unexplained);
        self.known.iter().for_each(|(why, count)| println!("    {count}: {why}"));
        self.unexplained == 0
    }
}

/// Why answers may differ without one of them being wrong.
fn explained(query: &str, step: i64, difference: &anyhow::Error) -> Option<&'static str> {
    let text = format!("{difference:#}");
    let has = |part: &str| query.contains(part);
    let compares = ["==", "!=", " > ", " < ", ">=", "<="].iter().any(|op| has(op));
    // Several steps are evaluated, if only inside of a subquery.
    let many = step > 0 || query.split('[').skip(1).any(|part| part.split(']').next().unwrap_or(part).contains(':'));
    let ours_refuses = text.starts_with("we fail: multiple matches for labels");
    Some(match () {
        () if text.matches("found duplicate series for the match group").count() == 2 => {
            "which of several duplicates is named follows a hash map there"
        }
        () if many && (has("topk") || has("bottomk")) => "which of equals is kept follows a hash map there",
        () if many && (has("stddev ") || has("stdvar ")) && text.contains(" there, ") => {
            "deviations are accumulated in the order of a hash map there"
        }
        () if has("count_values") && queries::TRANSCENDENTAL.iter().any(|name| has(name)) => {
            "labels made of last digits of a library function"
        }
        () if ours_refuses && compares => "since 3.14 ambiguous matches fail before a comparison filters them",
        () => return None,
    })
}

/// The relative difference that values may have.
fn digits(query: &str) -> f64 {
    let library = queries::TRANSCENDENTAL.iter().any(|name| query.contains(name));
    if library { 1e-6 } else { 1e-12 }
}

fn compare(theirs: &Value, ours: Result<Answer, QueryError>, digits: f64) -> Result<()> {
    let failed = theirs["status"] == "error";
    let error = theirs["error"].as_str().unwrap_or_default();
    let error = error.strip_prefix("invalid parameter \"query\": ").unwrap_or(error);
    let ours = match (failed, ours) {
        (true, Err(why)) if why.to_string() == error => return Ok(()),
        (true, Err(why)) => bail!("they fail: {error}\n    we fail: {why}"),
        (true, Ok(_)) => bail!("they fail: {error}"),
        (false, Err(why)) => bail!("we fail: {why}"),
        (false, Ok(ours)) => ours,
    };
    values(&theirs["data"], &ours.value, digits)?;
    for (member, ours) in [("warnings", &ours.warnings), ("infos", &ours.infos)] {
        let theirs: Vec<&str> = theirs[member].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (theirs, ours) = (notes(theirs), notes(ours.iter().map(String::as_str).collect()));
        // Theirs end with the tenth.
        if theirs != ours && ours.len() <= 10 {
            bail!("{member}: theirs {theirs:?}, ours {ours:?}");
        }
    }
    Ok(())
}

/// Annotations without what 3.5 and 3.14 say differently.
fn notes(texts: Vec<&str>) -> Vec<String> {
    let old = |text: &str| {
        let text = text.replace(" for metric name \"\"", "");
        match text.split_once(", from buckets ") {
            Some((text, rest)) => format!("{text}{}", rest.rfind(" (").map_or("", |place| &rest[place..])),
            None => text,
        }
    };
    // 3.5 keeps what the last step said of a quantile; 3.14 says that ranges are not sorted.
    const OWN: [&str; 3] = ["quantile value", "sort is ineffective", "more warning annotations omitted"];
    let kept = texts.into_iter().filter(|text| !OWN.iter().any(|own| text.contains(own)));
    let mut kept: Vec<String> = kept.map(old).collect();
    kept.sort();
    kept
}

fn values(theirs: &Value, ours: &QueryValue, digits: f64) -> Result<()> {
    let rows = theirs["result"].as_array().cloned().unwrap_or_default();
    match (theirs["resultType"].as_str().unwrap_or_default(), ours) {
        ("scalar", QueryValue::Scalar(_, value)) => near(float(&rows[1])?, *value, digits),
        ("string", QueryValue::String(_, text)) if rows[1] == *text => Ok(()),
        ("vector", QueryValue::Vector(ours)) => {
            let theirs = rows.iter().map(|row| Ok((labels(row), float(&row["value"][1])?)));
            let theirs: BTreeMap<String, f64> = theirs.collect::<Result<_>>()?;
            let ours: BTreeMap<String, f64> =
                ours.iter().map(|row| (row.labels.to_string(), plain(&row.value))).collect();
            if !theirs.keys().eq(ours.keys()) {
                bail!("labels: theirs {:?}, ours {:?}", theirs.keys(), ours.keys());
            }
            theirs
                .iter()
                .zip(ours.values())
                .try_for_each(|((labels, theirs), ours)| near(*theirs, *ours, digits).with_context(|| labels.clone()))
        }
        ("matrix", QueryValue::Matrix(ours)) => matrix(&rows, ours, digits),
        (kind, ours) => bail!("a {kind} there, here {ours:?}"),
    }
}

fn matrix(theirs: &[Value], ours: &[MatrixRow], digits: f64) -> Result<()> {
    let (their_labels, our_labels): (Vec<String>, Vec<String>) =
        (theirs.iter().map(labels).collect(), ours.iter().map(|row| row.labels.to_string()).collect());
    if their_labels != our_labels {
        bail!("labels: theirs {their_labels:?}, ours {our_labels:?}");
    }
    for (theirs, ours) in theirs.iter().zip(ours) {
        let points = theirs["values"].as_array().cloned().unwrap_or_default();
        if points.len() != ours.floats.len() {
            bail!("{}: {} points there, {} here", ours.labels, points.len(), ours.floats.len());
        }
        for (theirs, (at, value)) in points.iter().zip(&ours.floats) {
            if (theirs[0].as_f64().unwrap_or_default() * 1000.0).round() as i64 != *at {
                bail!("{}: another time than {at}: {}", ours.labels, theirs[0]);
            }
            near(float(&theirs[1])?, *value, digits).with_context(|| format!("{} at {at}", ours.labels))?;
        }
    }
    Ok(())
}

/// The labels of a result as our labels print.
fn labels(row: &Value) -> String {
    let pairs = row["metric"].as_object().into_iter().flatten();
    model::Labels::from_pairs(pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())))
        .to_string()
}

fn plain(value: &model::Value) -> f64 {
    match value {
        model::Value::Float(value) => *value,
        model::Value::Histogram(_) => f64::NAN,
    }
}

fn float(text: &Value) -> Result<f64> {
    Ok(text.as_str().unwrap_or_default().replace("Inf", "inf").parse()?)
}

fn near(theirs: f64, ours: f64, digits: f64) -> Result<()> {
    let equal = theirs == ours || theirs.is_nan() && ours.is_nan();
    if equal || (theirs - ours).abs() <= digits * theirs.abs().max(ours.abs()) {
        return Ok(());
    }
    bail!("{theirs:?} there, {ours:?} here")
}
