//! The engine alone on a data folder: wall and processor time of each query, and where memory peaked.

use crate::data::START;
use anyhow::{Context, Result};
use model::Timestamp;
use promql::{Engine, EngineOptions, QueryValue};
use runtime::{Clock, Disk};
use std::io::BufRead;
use tsdb::{Options, Tsdb};

pub(crate) fn engine(folder: &str, hours: i64, step: u64, rounds: usize) -> Result<()> {
    let store = Tsdb::open(Disk::open(folder)?, Options { retention_ms: None, ..Options::default() })?;
    let clock = Clock::system();
    let engine = Engine::new(EngineOptions::default(), clock.clone());
    let (start, end) = (Timestamp(START), Timestamp(START + hours * 3_600_000));
    println!("{:>9} {:>9} {:>8} {:>9}  query", "wall ms", "cpu ms", "series", "peak MB");
    for line in std::io::stdin().lock().lines() {
        let text = line?;
        if text.trim().is_empty() {
            continue;
        }
        let mut best = (f64::MAX, f64::MAX);
        let mut series = 0;
        reset_peak();
        let before = status("VmRSS:")?;
        for _ in 0..rounds {
            let (began, used) = (clock.now(), cpu_seconds()?);
            let answer = engine.range(&store, &text, start, end, step * 1000).with_context(|| text.clone())?;
            let (wall, cpu) = ((clock.now() - began).as_secs_f64(), cpu_seconds()? - used);
            best = (best.0.min(wall * 1e3), best.1.min(cpu * 1e3));
            series = if let QueryValue::Matrix(rows) = answer.value { rows.len() } else { 1 };
        }
        let peak = status("VmHWM:")?.saturating_sub(before) as f64 / 1024.0;
        println!("{:>9.1} {:>9.1} {series:>8} {peak:>9.1}  {text}", best.0, best.1);
    }
    Ok(())
}

/// Forgets how much memory was in use at most; a system that cannot, shows the peak since the start.
fn reset_peak() {
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open("/proc/self/clear_refs") {
        let _ = std::io::Write::write_all(&mut file, b"5");
    }
}

/// A line of the process' status, in KiB.
fn status(field: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("a field of the status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Processor time of all threads that ever were, in hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
