//! Ours against upstream's programs: both run at once, are asked in turn, and the result is a ratio.
//!
//! A machine's speed is not part of the answer; what else runs on it hits both sides alike.

use crate::processes::{self, Running, free_port, http, start, wait};
use anyhow::{Context, Result, bail};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

type Bench = fn(&Path, &Path) -> Result<()>;

const BENCHES: &[(&str, Bench)] = &[("exporter", exporter), ("push", push)];

/// Runs the named benchmarks, or all.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (bin, names) = processes::peers(args)?;
    if let Some(unknown) = names.iter().find(|name| BENCHES.iter().all(|(have, _)| have != name)) {
        bail!("no benchmark {unknown}; there are {}", BENCHES.map_names());
    }
    let ours = processes::ours()?;
    for (name, bench) in BENCHES.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|have| have == name)) {
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
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One request; returns the bytes of the answer's body.
    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<usize> {
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

/// Scrapes of the same collectors, in turn: time and processor time of one, memory after all.
fn exporter(ours: &Path, bin: &Path) -> Result<()> {
    let (port, their_port) = (free_port()?, free_port()?);
    let collectors: Vec<String> = COLLECTORS.iter().map(|name| format!("--collector.{name}")).collect();
    let args = |port: u16| {
        let mut args = vec![format!("--web.listen-address=127.0.0.1:{port}"), "--collector.disable-defaults".into()];
        args.extend_from_slice(&collectors);
        args
    };
    let mut first = vec!["exporter".to_owned()];
    first.extend(args(port));
    let mine = start(ours, &first.iter().map(String::as_str).collect::<Vec<_>>())?;
    let theirs =
        start(&bin.join("prometheus-node-exporter"), &args(their_port).iter().map(String::as_str).collect::<Vec<_>>())?;
    for port in [port, their_port] {
        wait(|| http(port, "GET", "/metrics", "").is_ok())?;
    }
    println!("idle memory: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    let (mut a, mut b) = (Connection::open(port)?, Connection::open(their_port)?);
    let (cpu_a, cpu_b) = (mine.cpu_seconds()?, theirs.cpu_seconds()?);
    let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
    const ROUNDS: usize = 300;
    for _ in 0..ROUNDS {
        times_a.push(timed(|| a.ask("GET", "/metrics", "", "").map(drop))?);
        times_b.push(timed(|| b.ask("GET", "/metrics", "", "").map(drop))?);
    }
    let (used_a, used_b) = (mine.cpu_seconds()? - cpu_a, theirs.cpu_seconds()? - cpu_b);
    let (a, b) = (median(times_a), median(times_b));
    println!("a scrape: ours {:.2} ms, upstream {:.2} ms, ratio {:.2}", a * 1e3, b * 1e3, b / a);
    println!(
        "processor time of {ROUNDS} scrapes: ours {used_a:.2} s, upstream {used_b:.2} s, ratio {:.2}",
        used_b / used_a
    );
    println!("memory after: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    Ok(())
}

/// Pushes into a gateway that already holds groups, in turn; then scrapes of it.
fn push(ours: &Path, bin: &Path) -> Result<()> {
    let (port, their_port) = (free_port()?, free_port()?);
    let mine = start(ours, &["pushgateway", &format!("--web.listen-address=127.0.0.1:{port}")])?;
    let theirs =
        start(&bin.join("prometheus-pushgateway"), &[&format!("--web.listen-address=127.0.0.1:{their_port}")])?;
    for port in [port, their_port] {
        wait(|| http(port, "GET", "/-/ready", "").is_ok())?;
    }
    let (mut a, mut b) = (Connection::open(port)?, Connection::open(their_port)?);
    println!("idle memory: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    let mut held = 0;
    for groups in [1, 100, 1000] {
        while held < groups {
            let path = format!("/metrics/job/batch/instance/{held}");
            a.ask("PUT", &path, "", BODY)?;
            b.ask("PUT", &path, "", BODY)?;
            held += 1;
        }
        let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
        for i in 0..40 {
            let path = format!("/metrics/job/batch/instance/{}", i % groups);
            times_a.push(timed(|| a.ask("PUT", &path, "", BODY).map(drop))?);
            times_b.push(timed(|| b.ask("PUT", &path, "", BODY).map(drop))?);
        }
        let (x, y) = (median(times_a), median(times_b));
        println!("a push into {groups} groups: ours {:.3} ms, upstream {:.3} ms, ratio {:.1}", x * 1e3, y * 1e3, y / x);
    }
    let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        times_a.push(timed(|| a.ask("GET", "/metrics", "", "").map(drop))?);
        times_b.push(timed(|| b.ask("GET", "/metrics", "", "").map(drop))?);
    }
    let (x, y) = (median(times_a), median(times_b));
    println!("a scrape of 1000 groups: ours {:.2} ms, upstream {:.2} ms, ratio {:.1}", x * 1e3, y * 1e3, y / x);
    println!("memory after: ours {:.1} MB, upstream {:.1} MB", megabytes(&mine)?, megabytes(&theirs)?);
    Ok(())
}

/// What a batch job pushes.
const BODY: &str = "# TYPE job_duration_seconds gauge\njob_duration_seconds 12.5\n# TYPE job_records_total counter\n\
                    job_records_total{kind=\"read\"} 100\njob_records_total{kind=\"written\"} 90\n# TYPE \
                    job_last_success_unixtime gauge\njob_last_success_unixtime 1.7e9\n";
