//! Scraping many targets: processor time per sample and memory per series beside upstream's server and VictoriaMetrics.

use super::targets::{Size, Targets};
use crate::processes::{Running, free_port, http, start, wait};
use anyhow::{Context, Result};
use std::{fs::File, io::Write, path::Path, time::Duration};

/// What is measured when no size is given: a hundred thousand series for two minutes.
const DEFAULT: Size =
    Size { targets: 100, series: 1000, interval: Duration::from_secs(1), length: Duration::from_secs(125) };
/// Everything is registered before measuring begins, after this many scrapes of each target.
const WARM_SCRAPES: u32 = 3;

struct Side {
    name: &'static str,
    letter: char,
    process: Running,
    began: (f64, u64),
}

/// All three scrape the same targets at once for the same time.
pub(super) fn run(ours: &Path, bin: &Path) -> Result<()> {
    let size = Size::of_arguments(DEFAULT);
    let targets = Targets::start(size)?;
    let work = crate::root().join("target/bench-ingest");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let mut sides = Vec::new();
    for (name, letter) in [("narthex", 'a'), ("prometheus", 'b'), ("victoria-metrics", 'c')] {
        let process = side(name, letter, &targets, ours, bin, &work).with_context(|| format!("starting {name}"))?;
        sides.push(Side { name, letter, process, began: (0.0, 0) });
    }
    println!(
        "{} targets x {} series every {:?} for {:?}, bodies not compressed",
        size.targets, size.series, size.interval, size.length
    );
    std::thread::sleep(size.interval * WARM_SCRAPES);
    for side in &mut sides {
        side.began = (side.process.cpu_seconds()?, targets.scrapes(side.letter));
    }
    std::thread::sleep(size.length);
    let mut first = None;
    for side in &sides {
        let cpu = side.process.cpu_seconds()? - side.began.0;
        let scrapes = targets.scrapes(side.letter) - side.began.1;
        let due = (size.length.as_secs_f64() / size.interval.as_secs_f64()).floor() as u64 * size.targets as u64;
        let samples = scrapes as f64 * size.series as f64;
        let memory = side.process.resident_bytes()? as f64;
        let each = (cpu / samples * 1e6, memory / size.active());
        let (cpu_base, memory_base) = *first.get_or_insert(each);
        println!(
            "{:17} {:7.3} s per million samples (x{:.1}), {:6.0} bytes per series (x{:.1}), {} scrapes, {} missed",
            side.name,
            each.0,
            each.0 / cpu_base,
            each.1,
            each.1 / memory_base,
            scrapes,
            due.saturating_sub(scrapes)
        );
    }
    Ok(())
}

/// Starts one scraper and waits until it answers.
fn side(name: &str, letter: char, targets: &Targets, ours: &Path, bin: &Path, work: &Path) -> Result<Running> {
    let config = work.join(format!("{name}.yml"));
    File::create(&config)?.write_all(targets.config(letter).as_bytes())?;
    let (port, data) = (free_port()?, work.join(name));
    let (config, data) = (config.display().to_string(), data.display().to_string());
    let prometheus = [
        format!("--config.file={config}"),
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--storage.tsdb.path={data}"),
    ];
    let victoria = [
        format!("-promscrape.config={config}"),
        format!("-httpListenAddr=127.0.0.1:{port}"),
        format!("-storageDataPath={data}"),
    ];
    let (program, args, ready) = match name {
        "narthex" => (ours.to_owned(), [&["server".to_owned()][..], &prometheus[..]].concat(), "/-/ready"),
        "prometheus" => (bin.join(name), prometheus.to_vec(), "/-/ready"),
        _ => (bin.join(name), victoria.to_vec(), "/health"),
    };
    let process = start(&program, &args.iter().map(String::as_str).collect::<Vec<_>>())?;
    wait(|| http(port, "GET", ready, "").is_ok())?;
    Ok(process)
}
