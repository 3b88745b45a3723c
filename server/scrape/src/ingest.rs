//! One target's samples on their way into storage: caches, limits, staleness. No clock, no socket.

use crate::ScrapeConfig;
use exposition::{
    Format,
    scrape::{Entry, Parser},
};
use model::{Builder, Labels, METRIC_NAME, Relabel, Timestamp, stale_nan};
use std::collections::HashMap;
use storage::{AppendError, Appender, SeriesId, Storage};

/// Why a scrape failed; its series end with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What a scrape brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Samples exposed.
    pub scraped: u64,
    /// Samples left after relabelling.
    pub kept: u64,
    /// Series not seen in the scrape before.
    pub added: u64,
    /// Samples refused because the series had one for that time.
    pub duplicates: u64,
    /// Samples older than the newest of their series.
    pub out_of_order: u64,
    /// Samples outside the time range that may be written.
    pub out_of_bounds: u64,
    /// Why the scrape failed.
    pub error: Option<Failure>,
}

/// A series text that was seen: what it became, and in which scrape.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// None is "dropped by relabelling".
    id: Option<SeriesId>,
    seen: u64,
    tracked: bool,
}

/// The memory of one target between scrapes.
#[derive(Debug)]
pub struct Loop {
    config: ScrapeConfig,
    labels: Labels,
    known: HashMap<Box<[u8]>, Known>,

    round: u64,
    reports: [Option<SeriesId>; 5],
}

const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

impl Loop {
    /// A target not scraped yet.
    pub fn new(config: ScrapeConfig, labels: Labels) -> Self {
        Self { config, labels, known: HashMap::new(), round: 0, reports: [None; 5] }
    }

    /// Stores the samples of a body, or the end of all series when the scrape failed, and the report series.
    /// O(samples); known series cost a look-up, a number and an append.
    pub fn ingest(
        &mut self,
        at: Timestamp,
        duration_seconds: f64,
        fetched: Result<(&[u8], Format), Failure>,
        storage: &dyn Storage,
    ) -> Outcome {
        self.round += 1;
        let mut outcome = Outcome::default();
        let stored = fetched.and_then(|(body, format)| {
            let mut appender = storage.appender();
            self.body(body, format, at, &mut *appender, &mut outcome)?;
            self.end_missing(at, &mut *appender);
            appender.commit().map_err(|error| Failure::new(error.to_string()))
        });
        let mut appender = storage.appender();
        if let Err(error) = stored {
            outcome.error = Some(error);
            outcome.added = 0;
            self.round += 1;
            self.end_missing(at, &mut *appender);
        }
        self.report(at, duration_seconds, &outcome, &mut *appender);
        if let Err(error) = appender.commit() {
            outcome.error.get_or_insert(Failure::new(error.to_string()));
        }
        self.forget();
        outcome
    }

    /// Ends all series of a target that is gone.
    pub fn end(&mut self, at: Timestamp, storage: &dyn Storage) {
        self.round += 1;
        let mut appender = storage.appender();
        self.end_missing(at, &mut *appender);
        for id in self.reports.iter().flatten() {
            // The series may be gone already.
            let _ = appender.float(*id, at, stale_nan());
        }
        let _ = appender.commit();
    }

    fn body(
        &mut self,
        body: &[u8],
        format: Format,
        at: Timestamp,
        appender: &mut dyn Appender,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let mut parser = Parser::new(body, format);
        let mut builder = Builder::default();
        let mut over = false;
        loop {
            let entry = parser.next().map_err(|error| Failure::new(error.to_string()))?;
            let Some(entry) = entry else { break };
            let Entry::Series { raw, value, at: exposed } = entry else { continue };
            outcome.scraped += 1;
            let exposed = exposed.filter(|_| self.config.honor_timestamps);
            let known = self.lookup(&raw, &parser, &mut builder, appender, outcome)?;
            let Some(id) = known else { continue };
            outcome.kept += 1;
            // Counting goes on, so that the report tells how far over the limit it was.
            over |= self.config.sample_limit > 0 && outcome.kept > self.config.sample_limit;
            if over {
                continue;
            }
            let time = exposed.map_or(at, Timestamp);
            match appender.float(id, time, value) {
                Ok(()) => {}
                Err(AppendError::DuplicateTimestamp) => outcome.duplicates += 1,
                Err(AppendError::OutOfOrder) => outcome.out_of_order += 1,
                Err(AppendError::OutOfBounds) => outcome.out_of_bounds += 1,
                Err(error) => return Err(Failure::new(error.to_string())),
            }
            if let Some(known) = self.known.get_mut(&*raw) {
                known.tracked = exposed.is_none();
            }
        }
        if over { Err(Failure::new("sample limit exceeded")) } else { Ok(()) }
    }

    /// The series of a text; a new one is parsed, relabelled and registered.
    fn lookup(
        &mut self,
        raw: &[u8],
        parser: &Parser<'_>,
        builder: &mut Builder,
        appender: &mut dyn Appender,
        outcome: &mut Outcome,
    ) -> Result<Option<SeriesId>, Failure> {
        if let Some(known) = self.known.get_mut(raw) {
            // The storage may have given the series up since.
            if known.id.is_none() || known.seen + 2 > self.round {
                known.seen = self.round;
                return Ok(known.id);
            }
        }
        parser.labels(builder);
        let id = match self.final_labels(builder)? {
            None => None,
            Some(labels) => {
                outcome.added += 1;
                Some(appender.series(&labels).map_err(|error| Failure::new(error.to_string()))?)
            }
        };
        self.known.insert(raw.into(), Known { id, seen: self.round, tracked: true });
        Ok(id)
    }

    /// Target labels, clashes, relabelling, limits. None is "dropped".
    fn final_labels(&self, builder: &mut Builder) -> Result<Option<Labels>, Failure> {
        let exposed = builder.build();
        for (name, value) in self.labels.iter() {
            let clash = exposed.get(name);
            if self.config.honor_labels && clash.is_some() {
                continue;
            }
            if let Some(old) = clash {
                let mut renamed = format!("exported_{name}");
                while !builder.get(&renamed).is_empty() || self.labels.get(&renamed).is_some() {
                    renamed.insert_str(0, "exported_");
                }
                builder.set(&renamed, old);
            }
            builder.set(name, value);
        }
        if !Relabel::apply(&self.config.metric_relabel, builder) {
            return Ok(None);
        }
        let labels = builder.build();
        if labels.metric_name().is_empty() {
            return Err(Failure::new("missing metric name (__name__ label)"));
        }
        self.check_limits(&labels)?;
        Ok(Some(labels))
    }

    fn check_limits(&self, labels: &Labels) -> Result<(), Failure> {
        let over = |limit: u64, have: usize| limit > 0 && have as u64 > limit;
        let name: String = labels.metric_name().chars().take(50).collect();
        let limit = self.config.label_limit;
        if over(limit, labels.len()) {
            let count = labels.len();
            return Err(Failure::new(format!(
                "label_limit exceeded (metric: {name}, number of labels: {count}, limit: {limit})"
            )));
        }
        for (label, value) in labels.iter() {
            let (limit, length) = (self.config.label_name_length_limit, label.len());
            if over(limit, length) {
                let text = format!(
                    "label_name_length_limit exceeded (metric: {name}, label name: {label:.50}, length: {length}, limit: {limit})"
                );
                return Err(Failure::new(text));
            }
            let (limit, length) = (self.config.label_value_length_limit, value.len());
            if over(limit, length) {
                let text = format!(
                    "label_value_length_limit exceeded (metric: {name}, label name: {label:.50}, value: {value:.50}, length: \
                     {length}, limit: {limit})"
                );
                return Err(Failure::new(text));
            }
        }
        Ok(())
    }

    /// Writes stale markers for series that the last scrape had and this one has not.
    fn end_missing(&mut self, at: Timestamp, appender: &mut dyn Appender) {
        for known in self.known.values_mut().filter(|known| known.seen < self.round && known.tracked) {
            if let Some(id) = known.id {
                // A series that storage gave up needs no end.
                let _ = appender.float(id, at, stale_nan());
            }
            known.tracked = false;
        }
    }

    /// Drops what has not been seen for two scrapes.
    fn forget(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| known.seen + 2 > round);
    }

    fn report(&mut self, at: Timestamp, duration: f64, outcome: &Outcome, appender: &mut dyn Appender) {
        let up = f64::from(u8::from(outcome.error.is_none()));
        let values = [up, duration, outcome.scraped as f64, outcome.kept as f64, outcome.added as f64];
        for ((name, value), id) in REPORTS.iter().zip(values).zip(&mut self.reports) {
            let mut builder = Builder::from(&self.labels);
            let labels = builder.set(METRIC_NAME, name).build();
            let mut write = |series: SeriesId| appender.float(series, at, value);
            if id.is_some_and(|series| write(series).is_ok()) {
                continue;
            }
            if let Ok(series) = appender.series(&labels) {
                *id = Some(series);
                // A report that cannot be stored has nowhere to be reported.
                let _ = appender.float(series, at, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::config;
    use model::{MatchOp, Matcher, is_stale};
    use storage::Memory;

    struct Bench {
        store: Memory,
        target: Loop,
        at: i64,
    }

    impl Bench {
        fn new(config: ScrapeConfig) -> Self {
            let labels = Labels::from_pairs([("job", "j"), ("instance", "h:1")]);
            Self { store: Memory::new(storage::Limits::default()), target: Loop::new(config, labels), at: 1_000_000 }
        }

        fn scrape(&mut self, body: Result<&str, &str>) -> Outcome {
            self.at += 15_000;
            let fetched = body.map(|text| (text.as_bytes(), Format::Text004)).map_err(Failure::new);
            self.target.ingest(Timestamp(self.at), 0.5, fetched, &self.store)
        }

        fn values(&self, name: &str) -> Vec<(String, Vec<f64>)> {
            let querier = self.store.querier(Timestamp(0), Timestamp(i64::MAX));
            let matcher = Matcher::new(MatchOp::Equal, METRIC_NAME, name).expect("valid");
            let mut set = querier.select(&[matcher]).expect("readable");
            let mut batch = Vec::new();
            set.next_batch(100, &mut batch).expect("readable");
            batch.iter().map(|columns| (columns.labels.to_string(), columns.values.to_vec())).collect()
        }
    }

    #[test]
    fn samples_and_reports_are_stored() {
        let mut bench = Bench::new(config(&[]));
        let outcome = bench.scrape(Ok("a{x=\"1\"} 1\na{x=\"2\"} 2\n"));
        assert_eq!((outcome.scraped, outcome.kept, outcome.added, outcome.error), (2, 2, 2, None));
        let again = bench.scrape(Ok("a{x=\"1\"} 3\na{x=\"2\"} 4\n"));
        assert_eq!((again.scraped, again.added), (2, 0));
        let series = bench.values("a");
        assert_eq!(series[0], ("a{instance=\"h:1\", job=\"j\", x=\"1\"}".into(), vec![1.0, 3.0]));
        assert_eq!(bench.values("up")[0].1, [1.0, 1.0]);
        assert_eq!(bench.values("scrape_series_added")[0].1, [2.0, 0.0]);
    }

    #[test]
    fn a_vanished_series_and_a_failed_scrape_end_with_a_marker() {
        let mut bench = Bench::new(config(&[]));
        bench.scrape(Ok("a 1\nb 1\n"));
        bench.scrape(Ok("a 2\n"));
        assert!(is_stale(bench.values("b")[0].1[1]));
        let failed = bench.scrape(Err("connection refused"));
        assert_eq!(failed.error, Some(Failure::new("connection refused")));
        assert!(is_stale(bench.values("a")[0].1[2]));
        assert_eq!(bench.values("up")[0].1, [1.0, 1.0, 0.0]);
        bench.scrape(Ok("a 5\n"));
        assert_eq!(bench.values("a")[0].1[3], 5.0);
    }

    #[test]
    fn a_broken_body_stores_nothing_of_it() {
        let mut bench = Bench::new(config(&[]));
        let outcome = bench.scrape(Ok("a 1\nb broken\n"));
        assert!(outcome.error.is_some());
        assert!(bench.values("a").iter().all(|(_, values)| values.iter().all(|value| is_stale(*value))));
        assert_eq!(bench.values("up")[0].1, [0.0]);
    }

    #[test]
    fn clashing_labels_are_renamed_or_honoured() {
        let mut bench = Bench::new(config(&[]));
        bench.scrape(Ok("a{job=\"own\",exported_job=\"x\"} 1\n"));
        let want = "a{exported_exported_job=\"own\", exported_job=\"x\", instance=\"h:1\", job=\"j\"}";
        assert_eq!(bench.values("a")[0].0, want);
        let mut bench = Bench::new(ScrapeConfig { honor_labels: true, ..config(&[]) });
        bench.scrape(Ok("a{job=\"own\"} 1\n"));
        assert_eq!(bench.values("a")[0].0, "a{instance=\"h:1\", job=\"own\"}");
    }

    #[test]
    fn limits_fail_the_whole_scrape_and_go_on_counting() {
        let mut bench = Bench::new(ScrapeConfig { sample_limit: 1, ..config(&[]) });
        let outcome = bench.scrape(Ok("a 1\nb 1\nc 1\n"));
        assert_eq!((outcome.kept, outcome.error), (3, Some(Failure::new("sample limit exceeded"))));
        let mut bench = Bench::new(ScrapeConfig { label_limit: 3, ..config(&[]) });
        let error = bench.scrape(Ok("a{x=\"1\"} 1\n")).error.expect("over the limit");
        assert_eq!(error.0, "label_limit exceeded (metric: a, number of labels: 4, limit: 3)");
    }

    #[test]
    fn a_series_twice_is_counted_and_the_scrape_stays_good() {
        let mut bench = Bench::new(config(&[]));
        let outcome = bench.scrape(Ok("a 1\na 2\n"));
        assert_eq!((outcome.duplicates, outcome.error), (1, None));
    }
}
