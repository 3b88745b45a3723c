//! A warm scrape allocates nothing per line.

use exposition::Format;
use model::{Labels, Timestamp};
use scrape::{Loop, ScrapeConfig};
use std::{fmt::Write as _, sync::Arc};

#[path = "../examples/sink/mod.rs"]
mod sink;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn body(lines: usize, value: usize) -> String {
    let mut body = String::from("# HELP some_total Help.\n# TYPE some_total counter\n");
    for i in 0..lines {
        let _ = writeln!(body, "some_total{{device=\"eth{i}\",mode=\"a\"}} {}", value + i);
    }
    body
}

/// Allocations of one warm scrape.
fn warm(lines: usize, format: Format, end: &str) -> u64 {
    let store = sink::Sink::new();
    let mut target = Loop::new(Arc::new(ScrapeConfig::default()), Labels::from_pairs([("job", "j")]));
    let bodies = [1, 2].map(|value| body(lines, value) + end);
    let mut scrape = |round: i64, body: &str| {
        let outcome = target.ingest(Timestamp(1000 * round), 0.1, Ok((body.as_bytes(), format)), &store);
        assert_eq!((outcome.scraped, outcome.error), (lines as u64, None));
    };
    (1..12).for_each(|round| scrape(round, &bodies[0]));
    let before = dhat::HeapStats::get().total_blocks;
    scrape(12, &bodies[1]);
    let blocks = dhat::HeapStats::get().total_blocks - before;
    assert_eq!(store.samples(), 12 * (lines as u64 + 5), "the lines and five reports, every time");
    blocks
}

#[test]
fn a_warm_scrape_allocates_nothing_per_line() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for (format, end) in [(Format::Text004, ""), (Format::OpenMetrics100, "# EOF\n")] {
        let (few, many) = (warm(10, format, end), warm(1000, format, end));
        assert!(many <= few && few < 20, "{few} allocations for 10 lines, {many} for 1000");
    }
}
