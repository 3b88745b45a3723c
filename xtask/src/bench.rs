//! Ours against upstream's programs: both run at once, are asked in turn, and the result is a ratio.
//!
//! A machine's speed is not part of the answer; what else runs on it hits both sides alike.

mod disk;
mod exporter;
mod growth;
mod ingest;
mod push;
mod query;
mod replay;
mod targets;

use crate::processes::{self, Running};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

type Bench = fn(&Path, &Path) -> Result<()>;

/// One file and one line a benchmark.
const BENCHES: &[(&str, Bench)] = &[
    ("exporter", exporter::run),
    ("growth", growth::run),
    ("ingest", ingest::run),
    ("push", push::run),
    ("query", query::run),
    ("replay", replay::run),
    ("disk", disk::run),
];

/// Benchmarks of a program that they build themselves.
const ALONE: &[&str] = &["exporter", "growth", "push"];

/// Runs the named benchmarks, or all. An argument that begins with a digit is a size, which a benchmark that has one
/// looks up for itself.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (bin, mut names) = processes::peers(args)?;
    names.retain(|name| !name.starts_with(|first: char| first.is_ascii_digit()));
    if let Some(unknown) = names.iter().find(|name| BENCHES.iter().all(|(have, _)| have != name)) {
        bail!("no benchmark {unknown}; there are {}", BENCHES.map_names());
    }
    let chosen: Vec<_> =
        BENCHES.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|have| have == name)).collect();
    let whole = chosen.iter().any(|(name, _)| !ALONE.contains(name));
    let ours = if whole { processes::ours()? } else { std::path::PathBuf::new() };
    for (name, bench) in chosen {
        println!("== {name}");
        bench(&ours, &bin)?;
    }
    Ok(())
}

trait Names {
    fn map_names(&self) -> String;
}

impl Names for [(&str, Bench)] {
    fn map_names(&self) -> String {
        self.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// A kept connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One request; returns the bytes of the answer's body.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<usize> {
        let length = body.len();
        write!(
            self.0.get_mut(),
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )?;
        let (mut length, mut chunked, mut line) = (0, false, String::new());
        self.0.read_line(&mut line)?;
        if line.split(' ').nth(1).is_none_or(|status| !status.starts_with('2')) {
            bail!("{method} {path}: {}", line.trim());
        }
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let lower = line.trim().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            chunked |= lower == "transfer-encoding: chunked";
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        if !chunked {
            return self.skip(length);
        }
        let mut total = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).context("a chunk size")?;
            self.skip(size + 2)?;
            if size == 0 {
                return Ok(total);
            }
            total += size;
        }
    }

    fn skip(&mut self, length: usize) -> Result<usize> {
        let copied = std::io::copy(&mut self.0.by_ref().take(length as u64), &mut std::io::sink())?;
        if copied != length as u64 { bail!("the answer ends early") } else { Ok(length) }
    }
}

/// Seconds that `work` took.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    #[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn megabytes(running: &Running) -> Result<f64> {
    Ok(running.resident_bytes()? as f64 / f64::from(1 << 20))
}
