//! What the disk benchmark stores: bodies captured from programs of this machine, a second apart, given out as a fleet
//! that is scraped every fifteen.
//!
//! A captured target is stored as it came. Targets derived from it have the same bodies in blocks of 5 to 40 scrapes
//! that are put in another order: counters keep the increments of each block and gauges its values, so that two targets
//! are alike in kind and never equal in numbers. Numbers are added as decimals, as the programs that print them do.

use anyhow::{Context, Result, bail};
use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    path::Path,
};

/// Milliseconds between two scrapes as stored.
const INTERVAL_MS: i64 = 15_000;
/// Places behind the point that decimals are added with.
const PLACES: usize = 15;

/// A small generator of pseudo-random numbers, seeded, so that the same captures always give the same data.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }
}

/// One series of a target: its text and a value for each scrape that had one.
struct Series {
    text: String,
    counter: bool,
    values: Vec<Option<f64>>,
}

/// A target on its way out.
pub(super) struct Target {
    labels: String,
    times: Vec<i64>,
    series: Vec<Series>,
}

/// Reads captured bodies, each after a line `### TIME`; scrapes that failed have none.
fn read(path: &Path) -> Result<Vec<Series>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut all: Vec<Series> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut counters: HashMap<&str, bool> = HashMap::new();
    let mut scrapes = 0;
    for line in text.lines() {
        if line.starts_with("### ") {
            scrapes += 1;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
            counters.insert(name, matches!(kind, "counter" | "histogram" | "summary"));
        } else if !line.is_empty() && !line.starts_with('#') {
            let end = line.rfind('}').map_or_else(|| line.find(' ').unwrap_or(line.len()), |at| at + 1);
            let (series, value) = line.split_at(end);
            let value = value.split_whitespace().next().and_then(|value| value.parse().ok());
            let place = *places.entry(series).or_insert_with(|| {
                let name = series.split('{').next().unwrap_or(series);
                let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                let counts = |name: &str| counters.get(name).copied().unwrap_or(false);
                let counter = counts(name) && !series.contains("quantile=") || family.is_some_and(counts);
                all.push(Series { text: series.to_owned(), counter, values: Vec::new() });
                all.len() - 1
            });
            all[place].values.resize(scrapes - 1, None);
            all[place].values.push(value);
        }
    }
    all.iter_mut().for_each(|series| series.values.resize(scrapes, None));
    if scrapes < 100 { bail!("{}: only {scrapes} captures", path.display()) } else { Ok(all) }
}

/// A value as a decimal with [`PLACES`] places, if it is one of a size that can be added.
fn decimal(value: f64) -> Option<i128> {
    if !value.is_finite() || value.abs() > 1e18 {
        return None;
    }
    let text = format!("{value}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    if part.len() > PLACES {
        return None;
    }
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    let digits = format!("{}{part:0<PLACES$}", whole.trim_start_matches('-'));
    digits.parse::<i128>().ok().map(|number| number * sign)
}

fn of_decimal(number: i128) -> Option<f64> {
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = PLACES + 1);
    let (whole, part) = digits.split_at(digits.len() - PLACES);
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{whole}.{part}").parse().ok()
}

/// The values in another order of scrapes, a counter with the increments in that order.
fn reordered(series: &Series, order: &[usize]) -> Vec<Option<f64>> {
    let permuted = || order.iter().map(|from| series.values[*from]).collect();
    if !series.counter {
        return permuted();
    }
    let decimals: Option<Vec<i128>> = series.values.iter().map(|value| value.and_then(decimal)).collect();
    let Some(decimals) = decimals.filter(|all| all.windows(2).all(|pair| pair[0] <= pair[1])) else {
        return permuted();
    };
    let mut sum = decimals[0];
    let mut out = Vec::new();
    for from in order {
        sum += if *from == 0 { 0 } else { decimals[*from] - decimals[*from - 1] };
        out.push(of_decimal(sum));
    }
    out
}

/// Scrapes in blocks of 5 to 40, the blocks in any order.
fn order(scrapes: usize, random: &mut Random) -> Vec<usize> {
    let mut blocks = Vec::new();
    let mut from = 0;
    while from < scrapes {
        let to = scrapes.min(from + 5 + random.below(36) as usize);
        blocks.push(from..to);
        from = to;
    }
    for place in (1..blocks.len()).rev() {
        blocks.swap(place, random.below(place as u64 + 1) as usize);
    }
    blocks.into_iter().flatten().collect()
}

/// The fleet: every captured target, and `derived` more of the two kinds that fleets are made of.
pub(super) fn targets(captures: &Path, derived: u64, end_ms: i64) -> Result<Vec<Target>> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(captures).with_context(|| captures.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".txt").map(str::to_owned));
    }
    names.sort();
    let mut all = Vec::new();
    for name in &names {
        let series = read(&captures.join(format!("{name}.txt")))?;
        let scrapes = series.first().map_or(0, |series| series.values.len());
        let copies = if matches!(name.as_str(), "node" | "prometheus") { derived } else { 0 };
        for copy in 1..=copies {
            let mut random = Random(0x9e37_79b9 + copy * 77 + name.len() as u64);
            let order = order(scrapes, &mut random);
            let series = series.iter().map(|one| Series {
                text: one.text.clone(),
                counter: one.counter,
                values: reordered(one, &order),
            });
            all.push(target(name, copy, end_ms, scrapes, series.collect()));
        }
        all.push(target(name, 0, end_ms, scrapes, series));
    }
    Ok(all)
}

/// Names the target and gives it its times: every fifteen seconds, three in a hundred of them a little late.
fn target(name: &str, copy: u64, end_ms: i64, scrapes: usize, series: Vec<Series>) -> Target {
    let mut random = Random(0x1234_5678 + copy * 991 + name.bytes().map(u64::from).sum::<u64>());
    let offset = random.below(INTERVAL_MS as u64) as i64;
    let first = (end_ms / INTERVAL_MS - scrapes as i64) * INTERVAL_MS + offset;
    let mut late = || if random.below(100) < 3 { 1 + random.below(30) as i64 } else { 0 };
    let times = (0..scrapes as i64).map(|scrape| first + scrape * INTERVAL_MS + late()).collect();
    let kind = if name.contains("node") { "node" } else { name };
    Target { labels: format!("instance=\"10.20.{}.{copy}:9100\",job=\"{kind}\"", name.len()), times, series }
}

impl Series {
    /// The series with the labels of its target.
    fn with(&self, labels: &str) -> String {
        match self.text.strip_suffix('}') {
            Some(start) if start.ends_with('{') => format!("{start}{labels}}}"),
            Some(start) => format!("{},{labels}}}", start.trim_end_matches(',')),
            None => format!("{}{{{labels}}}", self.text),
        }
    }
}

/// Writes all samples in the order of time to two sinks: OpenMetrics text, and lines with milliseconds for an import.
/// Answers the counts of series and samples.
pub(super) fn write(targets: &[Target], open: &mut impl Write, lines: &mut impl Write) -> Result<(u64, u64)> {
    let mut moments: BTreeMap<i64, Vec<(usize, usize)>> = BTreeMap::new();
    for (place, target) in targets.iter().enumerate() {
        for (scrape, time) in target.times.iter().enumerate() {
            moments.entry(*time).or_default().push((place, scrape));
        }
    }
    let texts: Vec<Vec<String>> =
        targets.iter().map(|target| target.series.iter().map(|series| series.with(&target.labels)).collect()).collect();
    let mut samples = 0;
    for (time, scrapes) in moments {
        let seconds = format!("{}.{:03}", time / 1000, time % 1000);
        for (place, scrape) in scrapes {
            for (series, text) in targets[place].series.iter().zip(&texts[place]) {
                let Some(value) = series.values[scrape] else { continue };
                let number = number(value);
                writeln!(open, "{text} {number} {seconds}")?;
                writeln!(lines, "{text} {number} {time}")?;
                samples += 1;
            }
        }
    }
    writeln!(open, "# EOF")?;
    Ok((texts.iter().map(|texts| texts.len() as u64).sum(), samples))
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => format!("{value}"),
    }
}

/// Asks each of the programs for its metrics once a second and keeps the bodies.
pub(super) fn capture(folder: &Path, ports: &[(&str, u16)], scrapes: usize) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for (name, port) in ports {
        let file = std::fs::File::create(folder.join(format!("{name}.txt")))?;
        files.push((std::io::BufWriter::new(file), *port));
    }
    #[allow(clippy::disallowed_methods, reason = "a capture goes by real time")]
    let began = std::time::Instant::now();
    for scrape in 0..scrapes {
        for (file, port) in &mut files {
            let body = crate::processes::http(*port, "GET", "/metrics", "").unwrap_or_default();
            writeln!(file, "### {scrape}\n{body}")?;
        }
        let next = std::time::Duration::from_secs(scrape as u64 + 1);
        std::thread::sleep(next.saturating_sub(began.elapsed()));
    }
    Ok(())
}
