//! Collectors written for prometheus-client, scraped with the rest.
//!
//! They are encoded as OpenMetrics, the one format of theirs that can be asked for without code generation, and read
//! back strictly. What gets lost: nothing of float metrics; native histograms, which that text cannot carry.

use crate::Registry;
use exposition::{Family, families::parse_openmetrics};
pub use prometheus_client;
use prometheus_client::{collector::Collector, encoding::text, registry};
use std::sync::Arc;

/// Counts scrapes in which a hosted registry had nothing to say because what it said was no OpenMetrics.
const FAILURES: &str = "narthex_hosted_registry_failures_total";

impl Registry {
    /// Adds all metrics of a prometheus-client registry, read at each scrape. If what it encodes is not valid
    /// OpenMetrics, its families are left out of that scrape and `narthex_hosted_registry_failures_total` goes up.
    pub fn host(&self, hosted: Arc<registry::Registry>) {
        let help = "Scrapes in which a hosted registry could not be encoded or read.";
        let failures = self.0.hosted_failures.get_or_init(|| self.counter(FAILURES, help)).clone();
        self.collect(move |out| match read(&hosted) {
            Some(families) => out.extend(families),
            None => failures.inc(),
        });
    }

    /// Adds the metrics of one prometheus-client collector; see [`Self::host`].
    pub fn host_collector(&self, collector: Box<dyn Collector>) {
        let mut hosted = registry::Registry::default();
        hosted.register_collector(collector);
        self.host(Arc::new(hosted));
    }
}

fn read(hosted: &registry::Registry) -> Option<Vec<Family>> {
    let mut text = String::new();
    text::encode(&mut text, hosted).ok()?;
    let mut families = parse_openmetrics(text.as_bytes()).ok()?;
    for family in &mut families {
        // The library puts a full stop behind every HELP.
        if let Some(help) = family.help.strip_suffix('.') {
            family.help.truncate(help.len());
        }
    }
    Some(families)
}

#[cfg(test)]
mod tests {
    use super::*;
    use exposition::{Escaping, Format};
    use prometheus_client::{
        encoding::{DescriptorEncoder, EncodeMetric},
        metrics::{counter, counter::ConstCounter, family, gauge, histogram, info},
    };

    fn shown(registry: &Registry) -> String {
        let mut out = Vec::new();
        exposition::write(&registry.gather(), Format::Text004, Escaping::AllowUtf8, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_kind_of_theirs_is_shown_as_upstream_shows_it() {
        let mut theirs = registry::Registry::default();
        let requests = family::Family::<Vec<(String, String)>, counter::Counter>::default();
        theirs.register("requests", "Requests", requests.clone());
        for (code, count) in [("500", 1), ("200", 1_000_000)] {
            requests.get_or_create(&vec![("code".into(), code.into())]).inc_by(count);
        }
        let depth = gauge::Gauge::<i64>::default();
        depth.set(-3);
        theirs.register("depth", "Depth. ", depth);
        let took = histogram::Histogram::new([0.5, 1.0]);
        took.observe(0.75);
        theirs.register("took", "Took", took);
        theirs.register("build", "Build", info::Info::new(vec![("v", "1\"2")]));
        let ours = Registry::new();
        ours.host(Arc::new(theirs));
        let text = "# HELP build_info Build\n# TYPE build_info gauge\nbuild_info{v=\"1\\\"2\"} 1\n\
                    # HELP depth Depth. \n# TYPE depth gauge\ndepth -3\n\
                    # HELP narthex_hosted_registry_failures_total Scrapes in which a hosted registry could not be encoded or read.\n\
                    # TYPE narthex_hosted_registry_failures_total counter\nnarthex_hosted_registry_failures_total 0\n\
                    # HELP requests_total Requests\n# TYPE requests_total counter\nrequests_total{code=\"200\"} 1e+06\n\
                    requests_total{code=\"500\"} 1\n\
                    # HELP took Took\n# TYPE took histogram\ntook_bucket{le=\"0.5\"} 0\ntook_bucket{le=\"1\"} 1\n\
                    took_bucket{le=\"+Inf\"} 1\ntook_sum 0.75\ntook_count 1\n";
        assert_eq!(shown(&ours), text);
    }

    #[derive(Debug)]
    struct Named(&'static str);

    impl Collector for Named {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            let counter = ConstCounter::new(7u64);
            let metric =
                encoder.encode_descriptor(self.0, "Help", None, prometheus_client::metrics::MetricType::Counter)?;
            counter.encode(metric)
        }
    }

    #[test]
    fn a_collector_that_breaks_the_format_costs_itself() {
        let ours = Registry::new();
        ours.host_collector(Box::new(Named("fine")));
        assert!(shown(&ours).contains("fine_total 7\n"));
        ours.host_collector(Box::new(Named("not a name")));
        // The failure is counted while the scrape is under way, so the next one shows it.
        shown(&ours);
        let text = shown(&ours);
        assert!(text.contains("fine_total 7\n") && text.contains(&format!("\n{FAILURES} 1\n")), "{text}");
        assert_eq!(text.matches(&format!("\n{FAILURES} ")).count(), 1, "{text}");
    }
}
