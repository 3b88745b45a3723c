//! Dashboard queries over the same series in our server, upstream's and VictoriaMetrics: latency, processor time, memory.
//!
//! The series come from the example `queries` of the server: ours are written into its data folder, the others get them
//! by remote write. A size is `INSTANCESxHOURS`, 209 series an instance, every 15 s; with `cpu` behind it the 64 series of
//! processor modes alone. The three are asked in turn, without compression and without caches of results.

use super::{Connection, median, megabytes};
use crate::processes::{Running, free_port, http, start, wait};
use anyhow::{Context, Result, ensure};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// One a line.
const QUERIES: &str = include_str!("queries.promql");
/// First moment of the series, in seconds.
const START: i64 = 1_700_006_400;
/// Between the points of a query, in seconds.
const STEP: i64 = 60;
/// Times each query is asked when everything is warm.
const ROUNDS: usize = 5;
/// Clients at once, and how often each asks.
const CLIENTS: (usize, usize) = (50, 6);
/// Below so many milliseconds of Prometheus a query says more of HTTP than of the engine.
const COUNTS_FROM: f64 = 5.0;

struct Size {
    instances: usize,
    hours: i64,
    cpu: bool,
}

impl Size {
    /// 20 k series for 6 hours unless an argument says otherwise.
    fn of_arguments() -> Result<Self> {
        let given = std::env::args().find(|arg| arg.starts_with(|first: char| first.is_ascii_digit()));
        let text = given.as_deref().unwrap_or("96x6");
        let (text, cpu) = text.strip_suffix("cpu").map_or((text, false), |rest| (rest, true));
        let (instances, hours) = text.split_once('x').context("a size is INSTANCESxHOURS")?;
        Ok(Self { instances: instances.parse()?, hours: hours.parse()?, cpu })
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![self.instances.to_string(), self.hours.to_string()];
        arguments.extend(self.cpu.then(|| "cpu".to_owned()));
        arguments
    }

    /// The queries that have something to answer.
    fn queries(&self) -> Vec<&'static str> {
        let queries = QUERIES.lines().filter(|line| !line.trim().is_empty());
        queries
            .filter(|query| !self.cpu || query.contains("node_cpu_seconds_total") && !query.contains("node_load"))
            .collect()
    }
}

/// One of the three.
struct Side {
    name: &'static str,
    process: Running,
    port: u16,
    connection: Connection,
    /// Resident megabytes before the first query.
    idle: f64,
}

/// What one query took on one side.
#[derive(Clone, Copy)]
struct Took {
    cold_ms: f64,
    warm_ms: f64,
    cpu_ms: f64,
    peak_mb: f64,
}

pub(super) fn run(ours: &Path, bin: &Path) -> Result<()> {
    let size = Size::of_arguments()?;
    crate::cargo(&["build", "--release", "--quiet", "--package", "server", "--example", "queries"])?;
    let folder = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| crate::root().join("target"), PathBuf::from);
    let tool = folder.join("release/examples/queries");
    let work = crate::root().join("target/bench-query");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let mut sides = sides(&size, ours, bin, &tool, &work)?;
    let end = START + size.hours * 3600;
    println!("{:>28} {:>28} {:>28}", "narthex", "prometheus", "victoria-metrics");
    println!("{}", "   cold    warm     cpu   peak".repeat(3));
    let mut all = Vec::new();
    for query in size.queries() {
        let took = ask(&mut sides, &path(query, START, end))?;
        let line: Vec<String> = took
            .iter()
            .map(|took| format!("{:7.1} {:7.1} {:7.1} {:6.0}", took.cold_ms, took.warm_ms, took.cpu_ms, took.peak_mb))
            .collect();
        println!("{}  {query}", line.join(""));
        all.push(took);
    }
    summary(&all);
    for side in &sides {
        crowd(side, &size, end)?;
    }
    Ok(())
}

fn sides(size: &Size, ours: &Path, bin: &Path, tool: &Path, work: &Path) -> Result<Vec<Side>> {
    let tool = |words: &[&str]| -> Result<()> {
        let done = Command::new(tool).args(words).args(size.arguments()).status()?;
        ensure!(done.success(), "the series could not be made: {words:?}");
        Ok(())
    };
    let config = work.join("prometheus.yml");
    std::fs::File::create(&config)?.write_all(b"global: {}\n")?;
    let config = format!("--config.file={}", config.display());
    let data = |name: &str| work.join(name).display().to_string();
    tool(&["fill", &data("ours")])?;
    let mut sides = Vec::new();
    for name in ["narthex", "prometheus", "victoria-metrics"] {
        let port = free_port()?;
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let tsdb = |name: &str| format!("--storage.tsdb.path={}", data(name));
        let process = match name {
            "narthex" => {
                let keep = "--storage.tsdb.retention.time=100y";
                start(ours, &["server", &config, &listen, &tsdb("ours"), keep])?
            }
            "prometheus" => start(
                &bin.join("prometheus"),
                &[
                    &config,
                    &listen,
                    &tsdb("theirs"),
                    "--storage.tsdb.retention.time=100y",
                    "--web.enable-remote-write-receiver",
                ],
            )?,
            _ => start(
                &bin.join("victoria-metrics"),
                &[
                    &format!("-httpListenAddr=127.0.0.1:{port}"),
                    &format!("-storageDataPath={}", data("victoria")),
                    "-retentionPeriod=100y",
                    "-search.disableCache",
                    "-loggerLevel=ERROR",
                ],
            )?,
        };
        let probe = if name == "victoria-metrics" { "/health" } else { "/-/ready" };
        wait(|| http(port, "GET", probe, "").is_ok())?;
        if name != "narthex" {
            tool(&["send", &format!("127.0.0.1:{port}")])?;
        }
        if name == "victoria-metrics" {
            http(port, "GET", "/internal/force_flush", "")?;
        }
        let connection = Connection::open(port)?;
        let idle = megabytes(&process)?;
        println!("{name}: idle with the series {idle:.0} MB");
        sides.push(Side { name, process, port, connection, idle });
    }
    Ok(sides)
}

fn path(query: &str, start: i64, end: i64) -> String {
    let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={STEP}&nocache=1")
}

/// Asks all sides in turn.
fn ask(sides: &mut [Side], path: &str) -> Result<Vec<Took>> {
    let mut times = vec![Vec::new(); sides.len()];
    let mut took = vec![Took { cold_ms: 0.0, warm_ms: 0.0, cpu_ms: 0.0, peak_mb: 0.0 }; sides.len()];
    for round in 0..=ROUNDS {
        for ((side, times), took) in sides.iter_mut().zip(&mut times).zip(&mut took) {
            side.process.forget_peak()?;
            let cpu = side.process.cpu_seconds()?;
            let seconds = super::timed(|| side.connection.ask("GET", path, "", "").map(drop))?;
            let peak = side.process.peak_bytes()? as f64 / f64::from(1 << 20) - side.idle;
            took.peak_mb = took.peak_mb.max(peak);
            if round == 0 {
                took.cold_ms = seconds * 1e3;
            } else {
                times.push(seconds * 1e3);
                took.cpu_ms += (side.process.cpu_seconds()? - cpu) * 1e3 / ROUNDS as f64;
            }
        }
    }
    took.iter_mut().zip(times).for_each(|(took, times)| took.warm_ms = median(times));
    Ok(took)
}

/// Geometric means of ratios to ours.
fn summary(all: &[Vec<Took>]) {
    let mean = |other: usize, slow: bool, of: &dyn Fn(&Took) -> f64| {
        let chosen = all.iter().filter(|took| !slow || took[1].warm_ms > COUNTS_FROM);
        let logs: Vec<f64> = chosen.map(|took| (of(&took[other]).max(0.01) / of(&took[0]).max(0.01)).ln()).collect();
        (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp()
    };
    for (name, other) in [("prometheus", 1), ("victoria-metrics", 2)] {
        for (what, slow) in [("all queries", false), ("where prometheus needs more than 5 ms", true)] {
            println!(
                "{name} over narthex, {what}: warm x{:.1}, cold x{:.1}, processor x{:.1}",
                mean(other, slow, &|took| took.warm_ms),
                mean(other, slow, &|took| took.cold_ms),
                mean(other, slow, &|took| took.cpu_ms)
            );
        }
        let slower = all.iter().filter(|took| took[0].warm_ms > took[other].warm_ms).count();
        let heavier = all.iter().filter(|took| took[0].peak_mb * 5.0 > took[other].peak_mb.max(1.0)).count();
        println!("{name}: {slower} queries faster than ours, {heavier} where our peak is above a fifth of its");
    }
}

/// Many clients at once, each with its own query, over the last hour.
fn crowd(side: &Side, size: &Size, end: i64) -> Result<()> {
    let queries = size.queries();
    let mut clients = Vec::new();
    for number in 0..CLIENTS.0 {
        let path = path(queries[number % queries.len()], end - 3600, end);
        let port = side.port;
        clients.push(std::thread::spawn(move || -> Result<Vec<f64>> {
            let mut connection = Connection::open(port)?;
            (0..CLIENTS.1)
                .map(|_| {
                    #[allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
                    let began = Instant::now();
                    connection.ask("GET", &path, "", "")?;
                    Ok(began.elapsed().as_secs_f64() * 1e3)
                })
                .collect()
        }));
    }
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.join().ok().context("a client panicked")??);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{}: {} clients at once: p50 {:.0} ms, p99 {:.0} ms, slowest {:.0} ms",
        side.name,
        CLIENTS.0,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}
