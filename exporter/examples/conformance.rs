//! Compares the built collectors with upstream's golden answers: `conformance DATA_DIR/exporter`.
//!
//! The data folder holds `fixtures.tar.gz`, `flags.txt`, `families.tsv`, `skip-samples.regex` and the answers. The
//! fixtures are unpacked with `tar` into a temporary folder, which becomes the working directory because some labels
//! hold relative paths. Help texts are not compared. At last files are spoiled at random, see `conformance/faults.rs`. What belongs to a collector that this build does not have is
//! counted as absent and named, not passed over. Prints a line a collector and at last `N passed, M failed`; leaves with
//! 1 when something failed or nothing was compared.

use anyhow::{Context, bail};
use cli::Outcome;
use exporter::{Collection, Families};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitCode};

#[path = "conformance/faults.rs"]
mod faults;
#[path = "conformance/reference.rs"]
mod reference;

type Samples = BTreeMap<String, BTreeSet<String>>;

/// Equal lines, and lines that are missing or too many.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Compares two sets of lines and prints the first differences.
    fn of(name: &str, ours: &BTreeSet<String>, theirs: &BTreeSet<String>) -> Count {
        let missing = theirs.difference(ours).map(|line| (line, "missing"));
        let unexpected = ours.difference(theirs).map(|line| (line, "unexpected"));
        let mut count = Count { passed: theirs.intersection(ours).count(), failed: 0 };
        for (line, what) in missing.chain(unexpected) {
            count.failed += 1;
            if count.failed <= 20 {
                println!("{name}: {what} {line}");
            }
        }
        count
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let folder = std::env::args().nth(1).context("usage: conformance DATA_DIR/exporter")?;
    let folder = std::fs::canonicalize(&folder).with_context(|| format!("no folder {folder}"))?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).with_context(|| format!("reading {name}"));
    let place = tempfile::tempdir()?;
    let archive = folder.join("fixtures.tar.gz");
    let status = Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(place.path()).status()?;
    if !status.success() {
        bail!("tar could not unpack {}", archive.display());
    }
    std::env::set_current_dir(place.path())?;
    let (flags, table, skip) = (read("flags.txt")?, read("families.tsv")?, read("skip-samples.regex")?);
    let mut total = Count::default();
    for (golden, flags) in [("e2e-output.txt", flags.clone()), ("e2e-64k-page-output.txt", without_cpu_info(&flags))] {
        let ours = samples(&run(&known(&flags)?)?);
        let count = report(&table, &skip, &ours, &samples(&read(golden)?))?;
        println!("{golden}: {} passed, {} failed", count.passed, count.failed);
        total.add(count);
    }
    total.add(pci_names()?);
    total.add(reference::check(&known(&flags)?)?);
    total.add(faults::rounds(Path::new("collector/fixtures"), &known(&flags)?)?);
    std::env::set_current_dir(place.path().join("collector"))?;
    total.add(textfile_cases()?);
    total.add(ipvs_labels()?);
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The flags of a machine whose processors are not described as those of x86 are.
fn without_cpu_info(flags: &str) -> String {
    let lines = flags.lines().map(|line| match line.split('=').next() {
        Some("--collector.cpu.info") => "--no-collector.cpu.info",
        Some("--collector.cpu.info.bugs-include") => "--collector.cpu.info.bugs-include=",
        Some("--collector.cpu.info.flags-include") => "--collector.cpu.info.flags-include=",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Those lines of the flag file that this build knows; the others are named.
fn known(flags: &str) -> anyhow::Result<Vec<String>> {
    let known: BTreeSet<String> = match exporter::command().parse(["--collector.stat".to_owned()]) {
        Outcome::Run(parsed) => parsed.all().map(|(name, _)| name.to_owned()).collect(),
        Outcome::Print(text) | Outcome::Refuse { message: text, .. } => bail!("{text}"),
    };
    let concerns = |line: &str| {
        let name = line.trim_start_matches("--").split('=').next().unwrap_or("");
        known.contains(name) || name.strip_prefix("no-").is_some_and(|name| known.contains(name))
    };
    let (good, bad): (Vec<&str>, Vec<&str>) = flags.lines().partition(|line| concerns(line));
    if !bad.is_empty() {
        println!("flags that this build does not have: {}", bad.join(" "));
    }
    Ok(good.into_iter().map(str::to_owned).collect())
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

/// The samples of one collector with its own flags, without the two figures that every collector has.
fn alone(collector: &str, flags: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    let mut args = vec!["--collector.disable-defaults".to_owned(), format!("--collector.{collector}")];
    args.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Ok(lines(samples(&run(&args)?)))
}

fn lines(samples: Samples) -> BTreeSet<String> {
    let own = |family: &str| !family.starts_with("node_scrape_");
    samples.into_iter().filter(|(family, _)| own(family)).flat_map(|(_, lines)| lines).collect()
}

fn golden(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(lines(samples(&text)))
}

/// Sample lines by family, and the type as one more line.
fn samples(text: &str) -> Samples {
    let mut found = Samples::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap_or("").to_owned();
            found.entry(family.clone()).or_default().insert(rest.to_owned());
        } else if !line.starts_with('#') && !line.is_empty() {
            found.entry(family.clone()).or_default().insert(line.to_owned());
        }
    }
    found
}

fn report(table: &str, skip: &str, ours: &Samples, golden: &Samples) -> anyhow::Result<Count> {
    const SUCCESS: &str = "node_scrape_collector_success";
    let skip = re2::Regex::new(skip.trim())?;
    let built: BTreeSet<&str> = exporter::collector_names().collect();
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let mut absent: BTreeMap<&str, usize> = BTreeMap::new();
    let empty = BTreeSet::new();
    for row in table.lines().skip(1) {
        let fields: Vec<&str> = row.split('\t').collect();
        let (Some(family), Some(collector)) = (fields.first(), fields.get(2)) else { continue };
        let (mine, theirs) = (ours.get(*family).unwrap_or(&empty), golden.get(*family).unwrap_or(&empty));
        if skip.is_match(family) || *collector == "(exporter)" {
            continue;
        }
        if !built.contains(collector) {
            *absent.entry(collector).or_default() += theirs.len();
            continue;
        }
        counts.entry(collector).or_default().add(Count::of(collector, mine, theirs));
    }
    // Which collectors succeeded, as far as this build has them.
    let mine = ours.get(SUCCESS).unwrap_or(&empty);
    let ran = |line: &&String| built.iter().any(|name| line.contains(&format!("{{collector=\"{name}\"}}")));
    let theirs = golden.get(SUCCESS).unwrap_or(&empty).iter().filter(ran).cloned().collect();
    let mine = mine.iter().filter(|line| line.contains('{')).cloned().collect();
    counts.entry("(success)").or_default().add(Count::of("(success)", &mine, &theirs));
    let mut total = Count::default();
    for (collector, count) in counts {
        println!("{collector}: {} passed, {} failed", count.passed, count.failed);
        total.add(count);
    }
    for (collector, lines) in absent {
        println!("{collector}: not in this build, {lines} lines not compared");
    }
    Ok(total)
}

/// Names of PCI devices out of a small file.
fn pci_names() -> anyhow::Result<Count> {
    let flags = [
        "--path.sysfs=collector/fixtures/sys",
        "--collector.pcidevice.names",
        "--collector.pcidevice.idsfile=collector/fixtures/pci.ids",
    ];
    let theirs = golden(Path::new("collector/fixtures/pcidevice-names-output.txt"))?;
    let count = Count::of("pcidevice names", &alone("pcidevice", &flags)?, &theirs);
    println!("pcidevice names: {} passed, {} failed", count.passed, count.failed);
    Ok(count)
}

/// Backends added up over the labels that are not asked for.
fn ipvs_labels() -> anyhow::Result<Count> {
    let mut total = Count::default();
    for (labels, file) in [
        (None, "ip_vs_result.txt"),
        (Some("local_address,local_port"), "ip_vs_result_lbs_local_address_local_port.txt"),
        (Some("local_port"), "ip_vs_result_lbs_local_port.txt"),
        (Some(""), "ip_vs_result_lbs_none.txt"),
    ] {
        let flag = labels.map(|labels| format!("--collector.ipvs.backend-labels={labels}"));
        let flags: Vec<&str> = ["--path.procfs=fixtures/proc"].into_iter().chain(flag.as_deref()).collect();
        let theirs = golden(&Path::new("fixtures").join(file))?;
        total.add(Count::of(file, &alone("ipvs", &flags)?, &theirs));
    }
    println!("ipvs labels: {} passed, {} failed", total.passed, total.failed);
    Ok(total)
}

/// The small answers of the textfile collector alone; the time of change counts as 1 in them.
fn textfile_cases() -> anyhow::Result<Count> {
    let mut total = Count::default();
    for entry in std::fs::read_dir("fixtures/textfile")? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        if path.extension().is_none_or(|extension| extension != "out") {
            continue;
        }
        let pattern = if name.starts_with("glob_") { name.replacen("glob", "*", 1) } else { name.to_owned() };
        let flag = format!("--collector.textfile.directory=fixtures/textfile/{pattern}");
        let normal = |lines: BTreeSet<String>| -> BTreeSet<String> {
            let normal = |line: String| match line.rsplit_once(' ') {
                Some((series, _)) if line.starts_with("node_textfile_mtime_seconds{") => format!("{series} 1"),
                _ => line,
            };
            lines.into_iter().map(normal).collect()
        };
        let (ours, theirs) = (normal(alone("textfile", &[&flag])?), normal(golden(&path)?));
        let count = Count::of(name, &ours, &theirs);
        total.passed += usize::from(count.failed == 0);
        total.failed += usize::from(count.failed > 0);
    }
    println!("textfile cases: {} passed, {} failed", total.passed, total.failed);
    Ok(total)
}
