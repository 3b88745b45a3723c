//! Killed under load and started again: time until ready, and the most memory on the way, beside upstream's server.

use super::targets::{Size, Targets};
use crate::processes::{Running, free_port, http, start};
use anyhow::{Context, Result, bail};
use std::{fs::File, io::Write, path::Path, time::Duration};

const DEFAULT: Size =
    Size { targets: 100, series: 1000, interval: Duration::from_secs(1), length: Duration::from_secs(90) };
/// A start that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// One side after the other loads, is killed without a word, and starts on what it left.
pub(super) fn run(ours: &Path, bin: &Path) -> Result<()> {
    let size = Size::of_arguments(DEFAULT);
    let work = crate::root().join("target/bench-replay");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let targets = Targets::start(size)?;
    println!("{} targets x {} series every {:?} for {:?}", size.targets, size.series, size.interval, size.length);
    let mut loaded = Vec::new();
    for (name, letter) in [("narthex", 'a'), ("prometheus", 'b')] {
        let config = work.join(format!("{name}.yml"));
        File::create(&config)?.write_all(targets.config(letter).as_bytes())?;
        let program = if name == "narthex" { ours.to_owned() } else { bin.join(name) };
        let (process, _) = up(&program, name, &config, &work)?;
        loaded.push((name, program, config, process));
    }
    std::thread::sleep(size.length);
    let mut first = None;
    for (name, program, config, process) in loaded {
        let (before, peak_before) = (process.resident_bytes()? as f64, process.peak_bytes()? as f64);
        // Dropping it sends SIGKILL and waits for the end.
        drop(process);
        // Nothing is scraped any more, so that only the start is measured.
        File::create(&config)?.write_all(b"global: {}\n")?;
        let (process, seconds) = up(&program, name, &config, &work)?;
        let (peak, cpu) = (process.peak_bytes()? as f64, process.cpu_seconds()?);
        let base = *first.get_or_insert(seconds);
        println!(
            "{name:11} ready after {seconds:.2} s (x{:.1}), {cpu:.2} s of processor, peak {:.1} MB, {:.2} of the {:.1} MB \
             before the kill (most {:.1})",
            seconds / base,
            peak / 1e6,
            peak / before,
            before / 1e6,
            peak_before / 1e6
        );
    }
    Ok(())
}

/// Starts a server and tells how long it took until it was ready.
fn up(program: &Path, name: &str, config: &Path, work: &Path) -> Result<(Running, f64)> {
    let port = free_port()?;
    let args = [
        format!("--config.file={}", config.display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={}", work.join(name).display()),
    ];
    let mut all: Vec<&str> = if name == "narthex" { vec!["server"] } else { Vec::new() };
    all.extend(args.iter().map(String::as_str));
    let mut process = None;
    let seconds = super::timed(|| {
        process = Some(start(program, &all)?);
        for _ in 0..PATIENCE.as_millis() / 5 {
            if http(port, "GET", "/-/ready", "").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("not ready after {PATIENCE:?}")
    })?;
    Ok((process.context("a process")?, seconds))
}
