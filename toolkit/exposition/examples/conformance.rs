//! Runs the exposition samples and the OpenMetrics test suite. Argument: the folder `conformance`, or `exposition` in it.
//!
//! Two verdicts per OpenMetrics case: the server's reading must say what a running Prometheus said
//! (`server-verdicts.csv`), the strict reading what the suite's own `shouldParse` says.

use exposition::{
    Escaping, Format, families, format_of_content_type,
    scrape::{Entry, Parser},
};
use model::{Builder, Labels};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

const DETAILS_MAX: usize = 20;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: conformance FOLDER");
        return ExitCode::FAILURE;
    };
    let folder = if folder.ends_with("exposition") { folder.join("..") } else { folder };
    let mut suites = Vec::new();
    for suite in [samples, openmetrics] {
        match suite(&folder) {
            Ok(results) => suites.extend(results),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut failed = false;
    for (name, results) in suites {
        let failures: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        println!("{name}: {} passed, {} failed", results.len() - failures.len(), failures.len());
        for failure in failures.iter().take(DETAILS_MAX) {
            println!("  {failure}");
        }
        failed |= !failures.is_empty() || results.is_empty();
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

type Results = Vec<(String, Vec<Result<(), String>>)>;

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let list = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = list.filter_map(Result::ok).map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Every sample file, by the server's reading and by families, and from there through every format.
fn samples(folder: &Path) -> Result<Results, String> {
    let mut results = Results::new();
    for path in entries(&folder.join("exposition"))?.iter().filter(|path| path.extension().is_some_and(|e| e == "txt"))
    {
        let body = read(path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let format = if name.contains(".om.") { Format::OpenMetrics100 } else { Format::Text004 };
        let mut checks = vec![every_line(&body, format)];
        let read = if format.is_openmetrics() {
            families::parse_openmetrics(&body).map_err(|error| error.to_string())
        } else {
            families::parse_text(&body).map_err(|error| error.to_string())
        };
        match read {
            Ok(families) => {
                for into in [Format::Text004, Format::OpenMetrics100, Format::Protobuf] {
                    checks.push(same_series(&body, format, &families, into));
                }
            }
            // The samples are promised to be readable for a server, not to keep OpenMetrics' rules.
            Err(error) if format.is_openmetrics() => println!("{name}: not read strictly: {error}"),
            Err(error) => checks.push(Err(error)),
        }
        results.push((name, checks));
    }
    Ok(results)
}

type Series = BTreeMap<Labels, Vec<u64>>;

fn series(body: &[u8], format: Format) -> Result<Series, String> {
    let (mut parser, mut labels, mut all) = (Parser::new(body, format), Builder::default(), Series::new());
    while let Some(entry) = parser.next().map_err(|error| error.to_string())? {
        if let Entry::Series { value, .. } = entry {
            parser.labels(&mut labels);
            all.entry(labels.build()).or_default().push(value.to_bits());
        }
    }
    Ok(all)
}

/// Every line that is no comment is a sample.
fn every_line(body: &[u8], format: Format) -> Result<(), String> {
    let have: usize = series(body, format)?.values().map(Vec::len).sum();
    let lines = body.split(|byte| *byte == b'\n');
    let want = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).count();
    if have == want { Ok(()) } else { Err(format!("{have} samples from {want} lines")) }
}

/// What a family is made of is found again in any format. Spelled out: bounds have one form only where a TYPE says that
/// they are bounds, sums and counts that were missing are made up, and starts are left out.
fn same_series(body: &[u8], format: Format, families: &[exposition::Family], into: Format) -> Result<(), String> {
    let mut out = Vec::new();
    exposition::write(families, into, Escaping::AllowUtf8, &mut out);
    let content_type = exposition::content_type(into, Escaping::AllowUtf8);
    let read = format_of_content_type(&content_type).ok_or_else(|| format!("{content_type} is unknown"))?;
    let (before, after) = (series(body, format)?, series(&out, read)?);
    let shows = |labels: &Labels| !labels.metric_name().ends_with("_created") || !format.is_openmetrics();
    let lost = before.iter().filter(|(labels, values)| shows(labels) && after.get(*labels) != Some(values));
    let lost: Vec<String> = lost.map(|(labels, _)| labels.to_string()).take(3).collect();
    if lost.is_empty() { Ok(()) } else { Err(format!("lost or changed in {into:?}: {}", lost.join(", "))) }
}

/// The test suite of OpenMetrics.
fn openmetrics(folder: &Path) -> Result<Results, String> {
    let folder = folder.join("compliance/openmetrics");
    let verdicts = read(&folder.join("server-verdicts.csv"))?;
    let (mut server, mut strict) = (Vec::new(), Vec::new());
    for line in String::from_utf8_lossy(&verdicts).lines().skip(1) {
        let Some((case, (should, did))) =
            line.split_once(',').and_then(|(case, rest)| Some((case, rest.split_once(',')?)))
        else {
            return Err(format!("server-verdicts.csv: {line:?} has not three columns"));
        };
        let body = read(&folder.join("parsers").join(case).join("metrics"))?;
        let judge = |found: Option<String>, accept: bool| match (found, accept) {
            (None, true) | (Some(_), false) => Ok(()),
            (None, false) => Err(format!("{case}: accepted, must be refused")),
            (Some(error), true) => Err(format!("{case}: refused, must be accepted: {error}")),
        };
        server.push(judge(series(&body, Format::OpenMetrics100).err(), did == "accept"));
        strict.push(judge(families::parse_openmetrics(&body).err().map(|error| error.to_string()), should == "accept"));
    }
    Ok(vec![("openmetrics, as the server".into(), server), ("openmetrics, strict".into(), strict)])
}
