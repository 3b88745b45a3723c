//! Scrapes of the host exporter beside upstream's, in turn: processor time, waiting time, memory, calls of the system,
//! size of the program, and how soon after its start it listens.
//!
//! Truth of the targets: what the project promises of the exporter. Both sides show the same collectors. Processor time
//! is what the kernel accounts to the whole process; calls of the system are counted by strace on scrapes that are not
//! timed.

use super::{Connection, median, megabytes, timed};
use crate::processes::{self, Running, free_port, http, start, wait};
use anyhow::{Context, Result, bail};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Collectors that both sides have and whose files every machine has.
const COLLECTORS: &[&str] = &[
    "cpu",
    "diskstats",
    "filefd",
    "filesystem",
    "loadavg",
    "meminfo",
    "netdev",
    "netstat",
    "sockstat",
    "softnet",
    "stat",
    "time",
    "uname",
    "vmstat",
];
const ROUNDS: usize = 500;
const WARM: usize = 10;
const STARTS: usize = 15;
const TRACED: usize = 20;
/// Peers that run longer than this to listen are broken.
const STARTING_MAX: usize = 20_000;

/// One exporter being measured.
pub(super) struct Side {
    pub(super) running: Running,
    pub(super) connection: Connection,
    port: u16,
}

impl Side {
    /// Starts a program and waits until it answers.
    pub(super) fn start(program: &Path, flags: &[String]) -> Result<Side> {
        let port = free_port()?;
        let listen = format!("--web.listen-address=127.0.0.1:{port}");
        let args: Vec<&str> = flags.iter().map(String::as_str).chain([listen.as_str()]).collect();
        let running = start(program, &args)?;
        wait(|| http(port, "GET", "/metrics", "").is_ok())?;
        Ok(Side { running, connection: Connection::open(port)?, port })
    }

    /// One scrape; seconds and bytes.
    pub(super) fn scrape(&mut self, headers: &str) -> Result<(f64, usize)> {
        let mut bytes = 0;
        let seconds = timed(|| {
            bytes = self.connection.ask("GET", "/metrics", headers, "")?;
            Ok(())
        })?;
        Ok((seconds, bytes))
    }
}

/// What a series of scrapes cost.
struct Cost {
    cpu: f64,
    times: Vec<f64>,
    bytes: usize,
}

impl Cost {
    fn percentile(&self, part: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        let last = times.len().saturating_sub(1);
        times.get((last as f64 * part) as usize).copied().unwrap_or_default()
    }
}

/// Scrapes both in turn.
fn scrapes(sides: &mut [Side; 2], headers: &str, rounds: usize) -> Result<[Cost; 2]> {
    let cpu =
        |sides: &[Side; 2]| Ok::<_, anyhow::Error>([sides[0].running.cpu_seconds()?, sides[1].running.cpu_seconds()?]);
    let before = cpu(sides)?;
    let mut costs = [(); 2].map(|()| Cost { cpu: 0.0, times: Vec::with_capacity(rounds), bytes: 0 });
    for _ in 0..rounds {
        for (side, cost) in sides.iter_mut().zip(&mut costs) {
            let (seconds, bytes) = side.scrape(headers)?;
            cost.times.push(seconds);
            cost.bytes = bytes;
        }
    }
    for ((cost, before), after) in costs.iter_mut().zip(before).zip(cpu(sides)?) {
        cost.cpu = (after - before) / rounds as f64;
    }
    Ok(costs)
}

/// The whole comparison. The program is the exporter alone, built as it is shipped.
pub(super) fn run(_: &Path, bin: &Path) -> Result<()> {
    let programs = [processes::exporter()?, bin.join("prometheus-node-exporter")];
    for (what, path) in ["ours", "upstream"].iter().zip(&programs) {
        println!("program of {what}: {:.2} MB", std::fs::metadata(path)?.len() as f64 / 1e6);
    }
    listening(&programs)?;
    let fourteen: Vec<String> = ["--collector.disable-defaults".to_owned()]
        .into_iter()
        .chain(COLLECTORS.iter().map(|name| format!("--collector.{name}")))
        .collect();
    // A distribution's build of upstream has this one on.
    let usual = vec!["--no-collector.systemd".to_owned()];
    for (what, flags) in [("default collectors", usual), ("fourteen collectors", fourteen)] {
        println!("-- {what}");
        let mut sides = [Side::start(&programs[0], &flags)?, Side::start(&programs[1], &flags)?];
        println!("idle memory: {}", pair(megabytes(&sides[0].running)?, megabytes(&sides[1].running)?, "MB"));
        scrapes(&mut sides, "", WARM)?;
        for (what, headers) in [("plain", ""), ("gzip", "Accept-Encoding: gzip\r\n")] {
            let [a, b] = scrapes(&mut sides, headers, ROUNDS)?;
            println!("{what}, {} and {} bytes, {ROUNDS} scrapes each", a.bytes, b.bytes);
            println!("  processor time of one: {}", pair(a.cpu * 1e3, b.cpu * 1e3, "ms"));
            for (name, part) in [("median", 0.5), ("99th percentile", 0.99)] {
                println!("  {name}: {}", pair(a.percentile(part) * 1e3, b.percentile(part) * 1e3, "ms"));
            }
        }
        println!("memory after: {}", pair(megabytes(&sides[0].running)?, megabytes(&sides[1].running)?, "MB"));
        match (calls(&mut sides[0])?, calls(&mut sides[1])?) {
            (Some(a), Some(b)) => println!("calls of the system a scrape: {}", pair(a, b, "")),
            _ => println!("calls of the system are not counted: there is no strace"),
        }
    }
    Ok(())
}

/// Both figures and how many times the other is larger.
pub(super) fn pair(ours: f64, theirs: f64, unit: &str) -> String {
    format!("ours {ours:.3} {unit}, upstream {theirs:.3} {unit}, ratio {:.1}", theirs / ours)
}

/// From the start of the program to the first connection that is accepted.
fn listening(programs: &[PathBuf; 2]) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..STARTS {
        for (program, times) in programs.iter().zip(&mut times) {
            let port = free_port()?;
            let listen = format!("--web.listen-address=127.0.0.1:{port}");
            let mut running = None;
            times.push(timed(|| {
                running = Some(start(program, &[&listen])?);
                for _ in 0..STARTING_MAX {
                    if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
                bail!("{} does not listen", program.display())
            })?);
        }
    }
    let [a, b] = times.map(|times| median(times) * 1e3);
    println!("listening after: {}", pair(a, b, "ms"));
    Ok(())
}

/// Calls of the system a scrape, counted by strace; none where there is no strace.
fn calls(side: &mut Side) -> Result<Option<f64>> {
    let report = crate::root().join("target/bench-strace.txt");
    let pid = side.running.id().to_string();
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-q", "-p", &pid, "-o"]).arg(&report).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut strace) = command.spawn() else { return Ok(None) };
    let traced = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    };
    wait(traced)?;
    for _ in 0..TRACED {
        side.scrape("")?;
    }
    // strace writes its report when it is asked to end, and lets go of the program.
    Command::new("kill").args(["-INT", &strace.id().to_string()]).status()?;
    strace.wait()?;
    let text = std::fs::read_to_string(&report)?;
    let total = text.lines().find(|line| line.trim_end().ends_with(" total")).context("no total in strace's report")?;
    let calls: f64 = total.split_whitespace().nth(3).context("no calls in strace's report")?.parse()?;
    anyhow::ensure!(http(side.port, "GET", "/metrics", "").is_ok(), "the program did not survive strace");
    Ok(Some(calls / TRACED as f64))
}
