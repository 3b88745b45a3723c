//! Lines per second of each exposition reader and writer, measured here because this crate has a clock, on the sample with 237 families. Argument: that file, and how often.
//!
//! `cargo run --release -p metrics --example measure -- FILE 200`

use exposition::{
    Escaping, Format, families,
    scrape::{Entry, Parser},
};
use std::{hint::black_box, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, rounds @ ..] = args.as_slice() else {
        eprintln!("usage: measure FILE [ROUNDS]");
        return ExitCode::FAILURE;
    };
    let rounds: u32 = rounds.first().and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    let clock = runtime::Clock::system();
    let parsed = std::fs::read(file)
        .map_err(|error| error.to_string())
        .and_then(|body| families::parse_text(&body).map_err(|error| error.to_string()));
    let families = match parsed {
        Ok(families) => families,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    for format in [Format::Text004, Format::OpenMetrics100, Format::Protobuf] {
        let mut body = Vec::new();
        exposition::write(&families, format, Escaping::AllowUtf8, &mut body);
        let mut samples = 0u64;
        let reading = time(&clock, || {
            for _ in 0..rounds {
                samples += read(black_box(&body), format);
            }
        });
        let mut out = Vec::with_capacity(body.len());
        let writing = time(&clock, || {
            for _ in 0..rounds {
                out.clear();
                exposition::write(black_box(&families), format, Escaping::AllowUtf8, &mut out);
            }
        });
        let (million, megabytes) = (samples as f64 / 1e6, body.len() as f64 * f64::from(rounds) / 1e6);
        println!(
            "{format:?}: read {:.2} M samples/s, {:.0} MB/s; written {:.2} M samples/s, {:.0} MB/s",
            million / reading,
            megabytes / reading,
            million / writing,
            megabytes / writing
        );
    }
    ExitCode::SUCCESS
}

fn read(body: &[u8], format: Format) -> u64 {
    let mut parser = Parser::new(body, format);
    let mut samples = 0;
    // The body was written by us.
    while let Ok(Some(entry)) = parser.next() {
        if let Entry::Series { raw, value, at } = entry {
            samples += 1;
            black_box((&*raw, value, at));
        }
    }
    samples
}

fn time(clock: &runtime::Clock, work: impl FnOnce()) -> f64 {
    let start = clock.now();
    work();
    (clock.now() - start).as_secs_f64()
}
