//! What a registry shows.

use super::*;
use exposition::{Escaping, Format, families, scrape};

fn shown(registry: &Registry, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    exposition::write(&registry.gather(), format, Escaping::AllowUtf8, &mut out);
    out
}

#[test]
fn families_come_sorted_and_whole() {
    let registry = Registry::new();
    let requests = registry.counter_vec("z_total", "Requests.", &["method", "code"]);
    requests.with(&["post", "200"]).inc();
    requests.with(&["get", "500"]).inc();
    requests.with(&["get", "200"]).add(2.5);
    requests.with(&["get", "200"]).add(-1.0);
    requests.with(&["get"]).add(3.0);
    registry.gauge("a", "A gauge.").set(-1.0);
    registry.counter_vec("empty_total", "Nothing.", &["x"]);
    let took = registry.histogram("took_seconds", "How long.", &[0.5, 1.0]);
    took.observe(0.75);
    let text = "# HELP a A gauge.\n# TYPE a gauge\na -1\n# HELP took_seconds How long.\n# TYPE took_seconds histogram\n\
                took_seconds_bucket{le=\"0.5\"} 0\ntook_seconds_bucket{le=\"1\"} 1\ntook_seconds_bucket{le=\"+Inf\"} 1\n\
                took_seconds_sum 0.75\ntook_seconds_count 1\n\
                # HELP z_total Requests.\n# TYPE z_total counter\nz_total{code=\"\",method=\"get\"} 3\n\
                z_total{code=\"200\",method=\"get\"} 2.5\nz_total{code=\"200\",method=\"post\"} 1\n\
                z_total{code=\"500\",method=\"get\"} 1\n";
    assert_eq!(String::from_utf8_lossy(&shown(&registry, Format::Text004)), text);
}

#[test]
fn every_format_can_be_read_back() {
    let (registry, clock) = (Registry::new(), Clock::system());
    process_collector(&registry, &clock);
    build_info(&registry, "narthex");
    handler_metrics(&registry).requests.with(&["200"]).inc();
    registry.summary("s_seconds", "Summary.", &[(0.5, 0.05)], &clock).observe(2.0);
    registry.histogram_vec("h_seconds", "", &["slice"], DEFAULT_BUCKETS).with(&["inner_eval"]).observe(0.3);
    let text = families::parse_text(&shown(&registry, Format::Text004)).expect("valid text");
    let openmetrics =
        families::parse_openmetrics(&shown(&registry, Format::OpenMetrics100)).expect("valid OpenMetrics");
    let protobuf = families::parse_protobuf(&shown(&registry, Format::Protobuf)).expect("valid protobuf");
    let names = |families: &[Family]| families.iter().map(|family| family.name.clone()).collect::<Vec<_>>();
    assert!(names(&text).len() >= 15, "{:?}", names(&text));
    assert_eq!((names(&openmetrics), names(&protobuf)), (names(&text), names(&text)));
    let body = shown(&registry, Format::Protobuf);
    let mut parser = scrape::Parser::new(&body, Format::Protobuf);
    while parser.next().expect("valid for a server").is_some() {}
}

#[test]
fn two_registries_share_nothing() {
    let (one, two) = (Registry::new(), Registry::new());
    one.counter("a_total", "").inc();
    assert!(two.gather().is_empty());
}

#[test]
fn a_source_may_register_another() {
    let registry = Registry::new();
    let inner = registry.clone();
    registry.collect(move |families| families.push(Family::gauge("seen", "", inner.0.sources.lock().len() as f64)));
    assert_eq!(registry.gather()[0].name, "seen");
}

#[test]
fn a_family_does_not_grow_without_bound() {
    let registry = Registry::new();
    let counters = registry.counter_vec("a_total", "", &["x"]);
    for i in 0..SERIES_MAX + 5 {
        counters.with(&[&i.to_string()]).inc();
    }
    assert_eq!(registry.gather()[0].metrics.len(), SERIES_MAX);
    assert!(counters.remove(&["7"]) && !counters.remove(&["7"]));
    counters.with(&["new"]).inc();
    assert_eq!(registry.gather()[0].metrics.len(), SERIES_MAX);
    counters.clear();
    assert!(registry.gather().is_empty());
}
