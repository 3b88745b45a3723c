//! Reading allocates nothing per line once the reader has seen its widest series.
//!
//! The counting allocator is of the whole process, so this file has one test.

use exposition::{
    Escaping, Family, Format, Metric, MetricType, MetricValue, families,
    scrape::{Entry, Parser},
};
use model::Labels;
use std::hint::black_box;

#[global_allocator]
static COUNTING: dhat::Alloc = dhat::Alloc;

/// Blocks allocated while the body is read, and the samples in it.
fn read(body: &[u8], format: Format) -> (u64, u64) {
    let before = dhat::HeapStats::get().total_blocks;
    let mut parser = Parser::new(body, format);
    let mut samples = 0;
    while let Some(entry) = parser.next().expect("valid") {
        if let Entry::Series { raw, value, at } = entry {
            samples += 1;
            black_box((&*raw, value, at));
        }
    }
    (dhat::HeapStats::get().total_blocks - before, samples)
}

fn family(count: u32) -> Vec<Family> {
    let mut gauge = Family::new("some_gauge", "A gauge with many series.", MetricType::Gauge);
    let mut histogram = Family::new("some_histogram", "A histogram with many series.", MetricType::Histogram);
    for i in 0..count {
        let labels = Labels::from_pairs([("code", "200".to_owned()), ("instance", format!("host-{i}:9100"))]);
        let value = MetricValue::Gauge(f64::from(i) / 7.0);
        gauge.metrics.push(Metric { labels: labels.clone(), value, at: None });
        let buckets = [0.1, 0.5, 1.0, 5.0].map(|bound| (bound, f64::from(i))).to_vec();
        let whole =
            exposition::Histogram { count: f64::from(i), sum: 1.5, buckets, ..exposition::Histogram::default() };
        histogram.metrics.push(Metric { labels, value: MetricValue::Histogram(Box::new(whole)), at: None });
    }
    vec![gauge, histogram]
}

#[test]
fn nothing_is_allocated_per_line() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for format in [Format::Text004, Format::OpenMetrics100, Format::Protobuf] {
        let body = |count| {
            let mut out = Vec::new();
            exposition::write(&family(count), format, Escaping::AllowUtf8, &mut out);
            out
        };
        let ((few, _), (many, samples)) = (read(&body(10), format), read(&body(1000), format));
        assert_eq!(samples, 8000, "{format:?}");
        assert!(few <= 12, "{few} blocks to warm up in {format:?}");
        assert_eq!(many, few, "{format:?}: blocks for {samples} samples, against those of a hundredth");
    }
    // Writing grows one buffer and nothing else.
    let families = families::parse_text(b"# TYPE a gauge\na{b=\"c\"} 1.25e300 5\n").expect("valid");
    for format in [Format::Text004, Format::OpenMetrics100, Format::Protobuf] {
        let mut out = Vec::with_capacity(4096);
        let before = dhat::HeapStats::get().total_blocks;
        exposition::write(&families, format, Escaping::AllowUtf8, &mut out);
        let blocks = dhat::HeapStats::get().total_blocks - before;
        assert!(blocks <= families.len() as u64, "{blocks} blocks to write in {format:?}");
    }
}
