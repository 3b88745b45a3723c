//! How fast bodies are taken in: `throughput [FILE [ROUNDS]]`.
//!
//! The file is a body in the text format, such as `curl node:9100/metrics` gives; without one a body of that shape is
//! made up. It is ingested again and again with every number changed, into a storage that only counts: what is measured
//! is parsing, the cache and the loop, not what is stored. Then the same body is inflated again and again.

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use runtime::Clock;
use scrape::{Failure, Loop, ScrapeConfig};
use std::{
    error::Error,
    fmt::Write as _,
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

mod sink;

/// A body of the size and shape of node_exporter's.
fn made_up() -> String {
    let mut body = String::new();
    for family in 0..120 {
        let _ = writeln!(body, "# HELP node_family_{family}_total Something that a machine counts.");
        let _ = writeln!(body, "# TYPE node_family_{family}_total counter");
        for device in 0..10 {
            let _ =
                writeln!(body, "node_family_{family}_total{{device=\"eth{device}\",mode=\"idle\"}} {}", 17 * device);
        }
    }
    body
}

/// The body with its numbers a little higher.
fn moved(body: &str, round: usize) -> String {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((series, value)) if !line.starts_with('#') => match value.parse::<f64>() {
            Ok(value) => format!("{series} {}\n", value + round as f64),
            Err(_) => format!("{line}\n"),
        },
        _ => format!("{line}\n"),
    };
    body.lines().map(line).collect()
}

/// Rounds a second, and how long all of them took.
fn rate(clock: &Clock, rounds: usize, mut work: impl FnMut(usize)) -> (f64, Duration) {
    let began = clock.now();
    (0..rounds).for_each(&mut work);
    let took = clock.now() - began;
    (rounds as f64 / took.as_secs_f64(), took)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let body = match args.next() {
        Some(file) => std::fs::read_to_string(file)?,
        None => made_up(),
    };
    let rounds: usize = args.next().map_or(Ok(2000), |rounds| rounds.parse())?;
    let bodies: Vec<String> = (0..4).map(|round| moved(&body, round)).collect();
    let (clock, store) = (Clock::system(), sink::Sink::new());
    let mut target = Loop::new(Arc::new(ScrapeConfig::default()), model::Labels::from_pairs([("job", "bench")]));
    let mut scrape = |round: usize| {
        let at = model::Timestamp(1_700_000_000_000 + 15_000 * i64::try_from(round).unwrap_or(0));
        let fetched: Result<_, Failure> = Ok((bodies[round % 4].as_bytes(), exposition::Format::Text004));
        target.ingest(at, 0.1, fetched, &store)
    };
    let first = scrape(0);
    if let Some(error) = first.error {
        return Err(error.into());
    }
    let samples = first.scraped as f64;
    (1..100).for_each(|round| _ = scrape(round));
    let (per_second, took) = rate(&clock, rounds, |round| _ = scrape(100 + round));
    let megabytes = bodies[0].len() as f64 / 1e6;
    println!("body: {:.1} kB, {samples} samples, {} stored", megabytes * 1e3, store.samples());
    println!("ingest: {:.0} MB/s, {:.2} M samples/s ({took:?})", per_second * megabytes, per_second * samples / 1e6);

    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bodies[0].as_bytes())?;
    let packed = packed.finish()?;
    let mut inflated = Vec::with_capacity(bodies[0].len() + 1);
    let (per_second, took) = rate(&clock, rounds.div_ceil(4), |_| {
        inflated.clear();
        let _ = GzDecoder::new(packed.as_slice()).read_to_end(&mut inflated);
    });
    println!("inflate: {:.0} MB/s, {:.0} ns/sample ({took:?})", per_second * megabytes, 1e9 / per_second / samples);
    Ok(())
}
