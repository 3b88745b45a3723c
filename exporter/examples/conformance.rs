//! Compares the built collectors with upstream's golden answer: `conformance DATA_DIR/exporter`.
//!
//! The data folder holds `fixtures.tar.gz`, `flags.txt`, `families.tsv`, `skip-samples.regex` and `e2e-output.txt`. The
//! fixtures are unpacked with `tar` into a temporary folder, which becomes the working directory because some labels
//! hold relative paths. Help texts are not compared. Prints a line a collector and at last `N passed, M failed`.

use anyhow::{Context, bail};
use cli::Outcome;
use exporter::{Collection, Families};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

type Samples = BTreeMap<String, BTreeSet<String>>;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("usage: conformance DATA_DIR/exporter")?;
    let folder = std::fs::canonicalize(folder)?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| format!("reading {name}"));
    let place = tempfile::tempdir()?;
    let archive = folder.join("fixtures.tar.gz");
    let status = Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(place.path()).status()?;
    if !status.success() {
        bail!("tar could not unpack {}", archive.display());
    }
    std::env::set_current_dir(place.path())?;
    let text = collect(&read("flags.txt")?)?;
    let ours = samples(&text);
    let golden = samples(&read("e2e-output.txt")?);
    let (passed, failed) = report(&read("families.tsv")?, &read("skip-samples.regex")?, &ours, &golden)?;
    std::env::set_current_dir(place.path().join("collector"))?;
    let (good, bad) = textfile_cases()?;
    println!("textfile cases: {good} passed, {bad} failed");
    println!("{} passed, {} failed", passed + good, failed + bad);
    Ok(())
}

/// Runs the collectors of this build with those lines of the flag file that this build knows.
fn collect(flags: &str) -> anyhow::Result<String> {
    let known: BTreeSet<String> = match exporter::command().parse(["--collector.stat".to_owned()]) {
        Outcome::Run(parsed) => parsed.all().map(|(name, _)| name.to_owned()).collect(),
        Outcome::Print(text) | Outcome::Refuse { message: text, .. } => bail!("{text}"),
    };
    let concerns = |line: &&str| {
        let name = line.trim_start_matches("--").split('=').next().unwrap_or("");
        known.contains(name) || name.strip_prefix("no-").is_some_and(|name| known.contains(name))
    };
    let args: Vec<String> = flags.lines().filter(concerns).map(str::to_owned).collect();
    run(&args)
}

fn run(args: &[String]) -> anyhow::Result<String> {
    let parsed = match exporter::command().parse(args.iter().cloned()) {
        Outcome::Run(parsed) => parsed,
        Outcome::Print(text) | Outcome::Refuse { message: text, .. } => bail!("{text}"),
    };
    let collection = Collection::start(&parsed, runtime::Clock::system())?;
    let mut out = Families::new();
    collection.gather(&collection.select(&[], &[])?, &mut out);
    Ok(String::from_utf8(out.finish().0)?)
}

/// Sample lines by family, and the type as one more line.
fn samples(text: &str) -> Samples {
    let mut found = Samples::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap_or("").to_owned();
            found.entry(family.clone()).or_default().insert(rest.to_owned());
        } else if !line.starts_with('#') {
            found.entry(family.clone()).or_default().insert(line.to_owned());
        }
    }
    found
}

fn report(table: &str, skip: &str, ours: &Samples, golden: &Samples) -> anyhow::Result<(usize, usize)> {
    let skip = re2::Regex::new(skip.trim())?;
    let built: BTreeSet<&str> = exporter::collector_names().collect();
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in table.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        let (Some(family), Some(collector)) = (fields.first(), fields.get(2)) else { continue };
        if !built.contains(collector) || skip.is_match(family) {
            continue;
        }
        let empty = BTreeSet::new();
        let (mine, theirs) = (ours.get(*family).unwrap_or(&empty), golden.get(*family).unwrap_or(&empty));
        let count = counts.entry(collector).or_default();
        count.0 += theirs.intersection(mine).count();
        for line in theirs.difference(mine) {
            count.1 += 1;
            println!("{collector}: missing {line}");
        }
        for line in mine.difference(theirs) {
            count.1 += 1;
            println!("{collector}: unexpected {line}");
        }
    }
    let (mut passed, mut failed) = (0, 0);
    for (collector, (good, bad)) in counts {
        println!("{collector}: {good} passed, {bad} failed");
        passed += good;
        failed += bad;
    }
    Ok((passed, failed))
}

/// The small answers of the textfile collector alone; the time of change counts as 1 in them.
fn textfile_cases() -> anyhow::Result<(usize, usize)> {
    let (mut passed, mut failed) = (0, 0);
    for entry in std::fs::read_dir("fixtures/textfile")? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        if path.extension().is_none_or(|extension| extension != "out") {
            continue;
        }
        let pattern = if name.starts_with("glob_") { name.replacen("glob", "*", 1) } else { name.to_owned() };
        let args = [
            "--collector.disable-defaults".to_owned(),
            "--collector.textfile".to_owned(),
            format!("--collector.textfile.directory=fixtures/textfile/{pattern}"),
        ];
        let ours = samples(&run(&args)?);
        let normal = |samples: Samples| -> BTreeSet<String> {
            samples
                .into_iter()
                .filter(|(family, _)| !family.starts_with("node_scrape_"))
                .flat_map(|(_, lines)| lines)
                .map(|line| match line.rsplit_once(' ') {
                    Some((series, _)) if line.starts_with("node_textfile_mtime_seconds{") => format!("{series} 1"),
                    _ => line,
                })
                .collect()
        };
        let (ours, theirs) = (normal(ours), normal(samples(&std::fs::read_to_string(&path)?)));
        if ours == theirs {
            passed += 1;
        } else {
            failed += 1;
            println!("textfile case {name}: got {ours:?}, expected {theirs:?}");
        }
    }
    Ok((passed, failed))
}
