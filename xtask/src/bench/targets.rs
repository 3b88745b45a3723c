//! Targets for benchmarks: a tiny HTTP server whose bodies change as those of real exporters do.
//!
//! Of the series 62 % stay, 22 % are counters of whole numbers, 14 % decimals, 2 % full doubles: what two days of a host
//! exporter showed. Bodies are made before the first scrape and sent as they are, uncompressed, so that what is measured
//! is the scraper. A body repeats itself after [`VARIANTS`] scrapes, which resets the counters as a restart does.

use anyhow::Result;
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Bodies that follow each other before the first comes again.
const VARIANTS: usize = 48;
/// Who may scrape: the first letter of the path says which counter is raised.
const SCRAPERS: usize = 4;

/// How many targets of how many series, scraped how often for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) targets: usize,
    pub(super) series: usize,
    pub(super) interval: Duration,
    pub(super) length: Duration,
}

impl Size {
    /// `TARGETSxSERIES[@INTERVAL[/SECONDS]]` among the arguments of the program, times in seconds; else the default.
    pub(super) fn of_arguments(default: Self) -> Self {
        std::env::args().find_map(|text| Self::parse(&text, default)).unwrap_or(default)
    }

    fn parse(text: &str, default: Self) -> Option<Self> {
        let (counts, times) = text.split_once('@').unwrap_or((text, ""));
        let (targets, series) = counts.split_once('x')?;
        let (interval, length) = times.split_once('/').unwrap_or((times, ""));
        let seconds = |text: &str, default| text.parse().map_or(default, Duration::from_secs_f64);
        Some(Self {
            targets: targets.parse().ok()?,
            series: series.parse().ok()?,
            interval: seconds(interval, default.interval),
            length: seconds(length, default.length),
        })
    }

    pub(super) fn active(&self) -> f64 {
        (self.targets * self.series) as f64
    }
}

/// A running set of targets.
pub(super) struct Targets {
    port: u16,
    size: Size,
    counts: Arc<[AtomicU64; SCRAPERS]>,
}

struct Bodies {
    variants: Vec<Vec<u8>>,
    began: Instant,
    interval: Duration,
}

impl Targets {
    /// Starts the server; it ends with the process.
    pub(super) fn start(size: Size) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let counts: Arc<[AtomicU64; SCRAPERS]> = Arc::default();
        #[allow(clippy::disallowed_methods, reason = "a benchmark runs in real time")]
        let began = Instant::now();
        let bodies = Arc::new(Bodies { variants: bodies(size.series), began, interval: size.interval });
        let shared = counts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (bodies, counts) = (bodies.clone(), shared.clone());
                // A connection that cannot be served shows as a missed scrape.
                let _ =
                    std::thread::Builder::new().stack_size(128 << 10).spawn(move || serve(stream, &bodies, &counts));
            }
        });
        Ok(Self { port, size, counts })
    }

    /// Scrapes that one scraper has begun.
    pub(super) fn scrapes(&self, scraper: char) -> u64 {
        self.counts[place(scraper)].load(Ordering::Relaxed)
    }

    /// A configuration that scrapes all of them under the letter of a scraper.
    pub(super) fn config(&self, scraper: char) -> String {
        let (seconds, port) = (self.size.interval.as_secs_f64(), self.port);
        let mut text = format!("global:\n  scrape_interval: {}ms\n", (seconds * 1000.0) as u64);
        let _ = writeln!(text, "  scrape_timeout: {}ms", (seconds * 1000.0) as u64);
        text.push_str("scrape_configs:\n- job_name: load\n  static_configs:\n");
        for target in 0..self.size.targets {
            let _ = writeln!(
                text,
                "  - targets: ['127.0.0.1:{port}']\n    labels: {{__metrics_path__: '/{scraper}/{target}', instance: \
                 'node-{target:04}.example:9100'}}"
            );
        }
        text
    }
}

fn place(scraper: char) -> usize {
    (scraper as usize).wrapping_sub('a' as usize) % SCRAPERS
}

fn serve(stream: TcpStream, bodies: &Bodies, counts: &[AtomicU64; SCRAPERS]) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        // GET /a/17 HTTP/1.1
        let path = line.split(' ').nth(1)?.to_owned();
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).ok()?;
        }
        let (scraper, target) = path.strip_prefix('/')?.split_once('/')?;
        let target: usize = target.parse().ok()?;
        counts[place(scraper.chars().next()?)].fetch_add(1, Ordering::Relaxed);
        let step = bodies.began.elapsed().as_nanos() / bodies.interval.as_nanos().max(1);
        let body = &bodies.variants[(step as usize + target * 13) % VARIANTS];
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let stream = reader.get_mut();
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
    }
}

/// What each series does from one variant to the next.
fn bodies(series: usize) -> Vec<Vec<u8>> {
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut counters: Vec<u64> = (0..series).map(|_| next() % 10_000_000).collect();
    (0..VARIANTS)
        .map(|variant| {
            let mut body = String::with_capacity(series * 90);
            for (number, counter) in counters.iter_mut().enumerate() {
                let (family, modes) = (number / 10, ["idle", "user", "system", "iowait", "irq"]);
                if number % 10 == 0 {
                    let _ = writeln!(body, "# HELP app_metric_{family:03}_seconds_total What it counts.");
                    let _ = writeln!(body, "# TYPE app_metric_{family:03}_seconds_total counter");
                }
                let (mode, cpu) = (modes[number % 5], number / 5 % 2);
                let _ = write!(body, "app_metric_{family:03}_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}} ");
                let kind = number * 37 % 100;
                // Of what moves a third stays for one scrape.
                let moves = kind >= 62 && !next().is_multiple_of(3) && variant > 0;
                *counter += if moves { next() % 512 } else { 0 };
                let _ = match kind {
                    0..84 => writeln!(body, "{counter}"),
                    84..98 => writeln!(body, "{}.{:02}", *counter / 100, *counter % 100),
                    _ => writeln!(body, "{:e}", *counter as f64 * std::f64::consts::PI),
                };
            }
            body.into_bytes()
        })
        .collect()
}
