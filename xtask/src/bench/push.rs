//! Pushes, scrapes and memory of the gateway beside upstream's.
//!
//! Both programs run from the start to the end and are asked in turn. Upstream gathers its whole store for every push, so
//! that its last groups are loaded with its check switched off: started anew with its own persistence file, filled, and
//! started again as it is measured. Ours is loaded by ordinary pushes.

use super::{Connection, median, megabytes, timed};
use crate::processes::{self, Running, free_port, http, start, wait};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Groups that are held when pushes are timed.
const STEPS: [usize; 4] = [1, 100, 1000, 10_000];
/// Clients at once in the second round.
const CLIENTS: usize = 8;

/// One gateway.
struct Side {
    program: PathBuf,
    port: u16,
    running: Option<Running>,
    /// Where it keeps its groups between two starts; none keeps them in memory.
    file: Option<PathBuf>,
}

impl Side {
    fn start(program: PathBuf, file: Option<PathBuf>) -> Result<Self> {
        let mut side = Self { program, port: free_port()?, running: None, file };
        side.restart(&[])?;
        Ok(side)
    }

    /// Ends it in order, and starts it with these flags too.
    fn restart(&mut self, flags: &[&str]) -> Result<()> {
        if let Some(running) = self.running.take() {
            running.stop()?;
        }
        let (listen, file) = (format!("--web.listen-address=127.0.0.1:{}", self.port), self.file.clone());
        let file = format!("--persistence.file={}", file.unwrap_or_default().display());
        let flags: Vec<&str> = [listen.as_str(), file.as_str()].into_iter().chain(flags.iter().copied()).collect();
        self.running = Some(start(&self.program, &flags)?);
        wait(|| http(self.port, "GET", "/-/ready", "").is_ok())
    }

    fn memory(&self) -> Result<f64> {
        megabytes(self.running.as_ref().context("it runs")?)
    }

    fn cpu(&self) -> Result<f64> {
        self.running.as_ref().context("it runs")?.cpu_seconds()
    }

    fn push(&self, connection: &mut Connection, group: usize, value: usize) -> Result<()> {
        connection.ask("PUT", &format!("/metrics/job/batch/instance/{group}"), "", &body(value)).map(drop)
    }

    fn fill(&self, groups: std::ops::Range<usize>) -> Result<()> {
        let mut connection = Connection::open(self.port)?;
        groups.into_iter().try_for_each(|group| self.push(&mut connection, group, 0))
    }

    /// Seconds of wall and processor time of one push, one client at a time; the wall time is a median.
    fn sequential(&self, groups: usize, pushes: usize) -> Result<(f64, f64)> {
        let (mut connection, cpu, mut times) = (Connection::open(self.port)?, self.cpu()?, Vec::new());
        for push in 0..pushes {
            times.push(timed(|| self.push(&mut connection, push * 7 % groups, push))?);
        }
        Ok((median(times), (self.cpu()? - cpu) / pushes as f64))
    }

    /// Pushes a second of several clients.
    fn parallel(&self, groups: usize, pushes: usize) -> Result<f64> {
        let each = pushes.div_ceil(CLIENTS);
        let seconds = timed(|| {
            std::thread::scope(|scope| {
                let clients: Vec<_> = (0..CLIENTS)
                    .map(|client| {
                        scope.spawn(move || -> Result<()> {
                            let mut connection = Connection::open(self.port)?;
                            (0..each).try_for_each(|push| {
                                self.push(&mut connection, (push * CLIENTS + client) % groups, push)
                            })
                        })
                    })
                    .collect();
                clients.into_iter().try_for_each(|client| match client.join() {
                    Ok(done) => done,
                    Err(_) => bail!("a client panicked"),
                })
            })
        })?;
        Ok((each * CLIENTS) as f64 / seconds)
    }

    fn scrape(&self, headers: &str) -> Result<(f64, usize)> {
        let mut connection = Connection::open(self.port)?;
        let mut bytes = 0;
        let seconds = timed(|| {
            bytes = connection.ask("GET", "/metrics", headers, "")?;
            Ok(())
        })?;
        Ok((seconds, bytes))
    }
}

/// Pushes into gateways that hold more and more groups, then scrapes, then memory.
pub(super) fn run(_: &Path, bin: &Path) -> Result<()> {
    let work = crate::root().join("target/bench-push");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    let ours = Side::start(processes::pushgateway()?, None)?;
    let mut theirs = Side::start(bin.join("prometheus-pushgateway"), Some(work.join("upstream")))?;
    println!("idle memory: ours {:.1} MiB, upstream {:.1} MiB", ours.memory()?, theirs.memory()?);
    let mut held = 0;
    for groups in STEPS {
        ours.fill(held..groups)?;
        if groups - held > 500 {
            theirs.restart(&["--push.disable-consistency-check"])?;
            theirs.fill(held..groups)?;
            // Unchecked pushes are answered before they are made.
            wait(|| http(theirs.port, "GET", "/metrics", "").is_ok_and(|text| text.contains(&instance(groups - 1))))?;
            theirs.restart(&[])?;
        } else {
            theirs.fill(held..groups)?;
        }
        held = groups;
        pushes(&ours, &theirs, groups)?;
    }
    memory(&ours, &theirs, "before scrapes")?;
    scrapes(&ours, &theirs, held)?;
    memory(&ours, &theirs, "after scrapes")
}

fn instance(group: usize) -> String {
    format!("instance=\"{group}\"")
}

fn pushes(ours: &Side, theirs: &Side, groups: usize) -> Result<()> {
    // Upstream's pushes take longer the more there is; the whole is to stay within minutes.
    let (rounds, few) = if groups > 1000 { (1, 5) } else { (3, 20) };
    let (mut a, mut b, mut cpu, mut rates) =
        (Vec::new(), Vec::new(), [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        let (mine, used) = ours.sequential(groups, 500)?;
        a.push(mine);
        cpu[0].push(used);
        let (other, used) = theirs.sequential(groups, few)?;
        b.push(other);
        cpu[1].push(used);
        rates[0].push(ours.parallel(groups, 4000)?);
        rates[1].push(theirs.parallel(groups, few * 4)?);
    }
    let (a, b, [x, y], [p, q]) = (median(a), median(b), cpu.map(median), rates.map(median));
    println!(
        "{groups} groups, one client: ours {:.3} ms ({:.0} us of processor), upstream {:.3} ms ({:.0} us), ratio {:.1}",
        a * 1e3,
        x * 1e6,
        b * 1e3,
        y * 1e6,
        b / a
    );
    println!("{groups} groups, {CLIENTS} clients: ours {p:.0} pushes/s, upstream {q:.0} pushes/s, ratio {:.1}", p / q);
    Ok(())
}

fn scrapes(ours: &Side, theirs: &Side, groups: usize) -> Result<()> {
    for (what, headers) in [("plain", "Accept: text/plain\r\n"), ("gzip", "Accept-Encoding: gzip\r\n")] {
        let (mut a, mut b, mut sizes) = (Vec::new(), Vec::new(), [0, 0]);
        for round in 0..5 {
            // Something has changed since the scrape before, as between any two.
            for side in [ours, theirs] {
                side.push(&mut Connection::open(side.port)?, round, round + 1)?;
            }
            let (seconds, bytes) = ours.scrape(headers)?;
            a.push(seconds);
            sizes[0] = bytes;
            let (seconds, bytes) = theirs.scrape(headers)?;
            b.push(seconds);
            sizes[1] = bytes;
        }
        let (a, b) = (median(a), median(b));
        println!(
            "a {what} scrape of {groups} groups: ours {:.1} ms ({} bytes), upstream {:.1} ms ({} bytes), ratio {:.1}",
            a * 1e3,
            sizes[0],
            b * 1e3,
            sizes[1],
            b / a
        );
    }
    Ok(())
}

fn memory(ours: &Side, theirs: &Side, when: &str) -> Result<()> {
    let (a, b) = (ours.memory()?, theirs.memory()?);
    println!("memory {when}: ours {a:.1} MiB, upstream {b:.1} MiB, ratio {:.1}", b / a);
    Ok(())
}

/// What a batch job pushes: ten series.
fn body(value: usize) -> String {
    let mut body = format!(
        "# TYPE job_duration_seconds gauge\njob_duration_seconds {value}.5\n# TYPE job_last_success_unixtime gauge\n\
         job_last_success_unixtime 1.7e+09\n# TYPE job_records_total counter\n"
    );
    for kind in ["read", "written", "skipped", "failed"] {
        body.push_str(&format!("job_records_total{{kind=\"{kind}\"}} {value}00\n"));
    }
    body.push_str("# TYPE job_bytes gauge\n");
    for direction in ["in", "out", "cached", "lost"] {
        body.push_str(&format!("job_bytes{{direction=\"{direction}\"}} {value}\n"));
    }
    body
}
