//! One target's samples on their way into storage: cache, limits, staleness, report series. No clock, no socket.

use crate::{
    ScrapeConfig,
    cache::{Cache, Place},
    failure::{Failure, Kind},
    labels,
    metadata::Families,
    resolution::Resolution,
};
use exposition::{
    Format,
    scrape::{Entry, Options, Parser},
};
use model::{Builder, Exemplar, FloatHistogram, Labels, METRIC_NAME, Sample, Timestamp, Value, stale_nan};
use std::sync::Arc;
use storage::{AppendError, Appender, SeriesId, Storage};

/// How far ahead of the scrape an exposed time may lie, in milliseconds. Upstream's bound.
const AHEAD_MS_MAX: i64 = 600_000;

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
    /// Exemplars of series whose exemplars are all older than what is stored.
    pub exemplars_out_of_order: u64,
    /// Bytes of the body, uncompressed; -1 when it was over its limit.
    pub body_bytes: i64,
    /// Why the scrape failed.
    pub error: Option<Failure>,
}

/// The memory of one target between scrapes.
#[derive(Debug)]
pub struct Loop {
    config: Arc<ScrapeConfig>,
    target: Labels,
    cache: Cache,
    families: Families,
    builder: Builder,
    /// Series of texts from before a change of the configuration, until the next good scrape shows which go on.
    orphans: Vec<SeriesId>,
    round: u32,
    /// The last scrape that was stored, and how many series it has that must be ended; 0 is "none".
    good: u32,
    resolution: Resolution,
    exemplars: Vec<Exemplar>,
    alive: usize,
    reports: Vec<(Labels, Option<SeriesId>)>,
}

const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
const EXTRA_REPORTS: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

/// What one pass over a body counts beside the outcome.
#[derive(Default)]
struct Pass {
    seen: usize,
    /// Series that go on from the last good scrape.
    continued: usize,
    tracked: usize,
    /// A histogram has too many buckets even at the coarsest resolution.
    over_buckets: bool,
}

impl Loop {
    /// A target not scraped yet.
    pub fn new(config: Arc<ScrapeConfig>, target: Labels) -> Self {
        let mut new = Self {
            config,
            target,
            cache: Cache::new(),
            families: Families::default(),
            builder: Builder::default(),
            orphans: Vec::new(),
            round: 0,
            good: 0,
            resolution: Resolution::default(),
            exemplars: Vec::new(),
            alive: 0,
            reports: Vec::new(),
        };
        new.configured();
        new
    }

    /// Takes a changed configuration. Series that it no longer yields end at the next scrape.
    pub fn reconfigure(&mut self, config: Arc<ScrapeConfig>) {
        let good = self.good;
        let live = |slot: &&mut crate::cache::Slot| slot.stored == good && good > 0;
        self.orphans.extend(self.cache.slots().filter(live).filter_map(|slot| slot.id()));
        self.cache = Cache::new();
        (self.good, self.alive) = (0, 0);
        self.config = config;
        self.configured();
    }

    fn configured(&mut self) {
        self.resolution = Resolution::new(self.config.bucket_limit, self.config.bucket_factor_min);
        let extra = if self.config.extra_metrics { &EXTRA_REPORTS[..] } else { &[] };
        let labels = |name: &&str| (Builder::from(&self.target).set(METRIC_NAME, name).build(), None);
        self.reports = REPORTS.iter().chain(extra).map(labels).collect();
    }

    /// What families of this target say of themselves.
    pub fn families(&self) -> &Families {
        &self.families
    }

    /// Stores the samples of a body and the report series, visible together. A failed scrape stores the end of all
    /// series of the last good one instead. O(samples); a series text that was there before costs a comparison, a
    /// number and an append.
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
            outcome.body_bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
            let mut appender = storage.appender();
            let pass = self.body(body, format, at, &mut *appender, &mut outcome)?;
            self.end_missing(at, pass.continued, &mut *appender);
            self.report(at, duration_seconds, &outcome, &mut *appender);
            appender.commit().map_err(|error| Failure::new(error.to_string()))?;
            Ok(pass)
        });
        match stored {
            Ok(pass) => self.accept(&pass),
            Err(error) => self.refuse(at, duration_seconds, error, &mut outcome, storage),
        }
        outcome
    }

    /// Ends all series of a target that is gone.
    pub fn end(&mut self, at: Timestamp, storage: &dyn Storage) {
        let mut appender = storage.appender();
        self.end_all(at, &mut *appender);
        for id in self.reports.iter().filter_map(|(_, id)| *id) {
            end_series(id, at, &mut *appender);
        }
        if let Err(error) = appender.commit() {
            tracing::warn!(%error, "the end of a target's series was not stored");
        }
    }

    /// Makes this scrape the last good one, and forgets the texts that neither it nor the one before it had.
    fn accept(&mut self, pass: &Pass) {
        let before = std::mem::replace(&mut self.good, self.round);
        self.alive = pass.tracked;
        if pass.seen < self.cache.len() {
            let round = self.round;
            self.cache.retain(|slot| slot.seen == round || slot.seen == before && before > 0);
        }
        self.families.forget(self.round);
    }

    fn refuse(&mut self, at: Timestamp, seconds: f64, error: Failure, outcome: &mut Outcome, storage: &dyn Storage) {
        outcome.added = 0;
        outcome.body_bytes = if error.kind == Kind::BodySize { -1 } else { 0 };
        outcome.error = Some(error);
        let mut appender = storage.appender();
        self.end_all(at, &mut *appender);
        self.report(at, seconds, outcome, &mut *appender);
        if let Err(error) = appender.commit() {
            tracing::warn!(%error, "the report of a failed scrape was not stored");
        }
        (self.good, self.alive) = (0, 0);
    }

    fn body(
        &mut self,
        body: &[u8],
        format: Format,
        at: Timestamp,
        appender: &mut dyn Appender,
        outcome: &mut Outcome,
    ) -> Result<Pass, Failure> {
        let options = Options {
            native_histograms: self.config.native_histograms,
            keep_classic: self.config.always_scrape_classic,
            custom_buckets: self.config.convert_classic_histograms,
            start_timestamps: self.config.features.start_zero_samples,
            type_and_unit_labels: self.config.features.type_and_unit_labels,
        };
        let mut parser = Parser::with_options(body, format, options);
        let mut pass = Pass::default();
        self.cache.rewind();
        while let Some(entry) = parser.next().map_err(|error| Failure::new(error.to_string()))? {
            let (raw, mut value, exposed) = match entry {
                Entry::Series { raw, value, at } => (raw, Value::Float(value), at),
                Entry::Histogram { raw, value, at } => (raw, Value::Histogram(value), at),
                entry => {
                    self.families.note(&entry, self.round);
                    continue;
                }
            };
            outcome.scraped += 1;
            let place = match self.cache.find(&raw) {
                Some(place) => place,
                None => self.admit(&raw, &parser, appender)?,
            };
            pass.over_buckets |= matches!(value, Value::Histogram(_)) && !self.resolution.fit(&mut value);
            let slot = self.cache.slot(place);
            let again = slot.seen == self.round;
            pass.seen += usize::from(!again);
            slot.seen = self.round;
            if slot.id().is_none() {
                continue;
            }
            outcome.kept += 1;
            // Parsing goes on over a limit, so that the report tells how far over it was.
            if pass.over_buckets || self.config.sample_limit > 0 && outcome.kept > self.config.sample_limit {
                continue;
            }
            let exposed = exposed.filter(|_| self.config.honor_timestamps);
            if again && exposed.is_none() {
                outcome.duplicates += 1;
                continue;
            }
            let time = exposed.map_or(at, Timestamp);
            if time.0 > at.0.saturating_add(AHEAD_MS_MAX) {
                outcome.out_of_bounds += 1;
                continue;
            }
            let tracked = exposed.is_none() || self.config.track_timestamps_staleness;
            if self.config.features.start_zero_samples
                && let Some(start) = parser.start()
            {
                self.start_at_zero(place, start, time, &value, appender);
            }
            let stored = self.store(place, time, value, &parser, appender)?;
            self.account(place, stored, tracked, outcome, &mut pass)?;
            if self.config.features.exemplars {
                outcome.exemplars_out_of_order += self.keep_exemplars(place, time, &parser, appender);
            }
        }
        if pass.over_buckets {
            return Err(Failure::bucket_limit());
        }
        if self.config.sample_limit > 0 && outcome.kept > self.config.sample_limit {
            return Err(Failure::sample_limit());
        }
        Ok(pass)
    }

    /// Registers the series of a text seen for the first time.
    fn admit(&mut self, raw: &[u8], parser: &Parser<'_>, appender: &mut dyn Appender) -> Result<Place, Failure> {
        let id = self.register(parser, appender)?;
        Ok(self.cache.insert(raw, id))
    }

    fn register(&mut self, parser: &Parser<'_>, appender: &mut dyn Appender) -> Result<Option<SeriesId>, Failure> {
        parser.labels(&mut self.builder);
        let labels = labels::stored(&self.config, &self.target, &mut self.builder)?;
        labels.map(|labels| appender.series(&labels).map_err(|error| Failure::new(error.to_string()))).transpose()
    }

    /// Appends a sample; a series that storage gave up since the last scrape is registered again.
    fn store(
        &mut self,
        place: Place,
        at: Timestamp,
        value: Value,
        parser: &Parser<'_>,
        appender: &mut dyn Appender,
    ) -> Result<Result<(), AppendError>, Failure> {
        let Some(id) = self.cache.slot(place).id() else { return Ok(Ok(())) };
        let result = append(id, at, &value, appender);
        if result != Err(AppendError::UnknownSeries) {
            return Ok(result);
        }
        // Once is enough: a series cannot vanish within a transaction.
        let fresh = self.register(parser, appender)?;
        self.cache.slot(place).set_id(fresh);
        Ok(fresh.map_or(Ok(()), |id| append(id, at, &value, appender)))
    }

    /// Stores the exemplars of the series just read; how many were too old, if all of them were.
    fn keep_exemplars(&mut self, place: Place, at: Timestamp, parser: &Parser<'_>, appender: &mut dyn Appender) -> u64 {
        self.exemplars.clear();
        parser.exemplars(&mut self.exemplars);
        let Some(id) = self.cache.slot(place).id() else { return 0 };
        // Those of a histogram come in the order of its buckets.
        self.exemplars.sort_by_key(|exemplar| exemplar.at);
        let (count, mut late) = (self.exemplars.len() as u64, 0);
        for mut exemplar in self.exemplars.drain(..) {
            exemplar.at = exemplar.at.or(Some(at));
            match appender.exemplar(id, exemplar) {
                Err(AppendError::OutOfOrder) => late += 1,
                // One that is there already is sent again with every scrape.
                Ok(()) | Err(AppendError::DuplicateTimestamp) => {}
                Err(error) => tracing::debug!(%error, "An exemplar was not stored"),
            }
        }
        if late == count { late } else { 0 }
    }

    /// A counter that says when it started was 0 then. A time that storage has already passed needs no such sample.
    fn start_at_zero(&mut self, place: Place, start: i64, at: Timestamp, value: &Value, appender: &mut dyn Appender) {
        let Some(id) = self.cache.slot(place).id().filter(|_| start > 0 && start < at.0) else { return };
        let start = Timestamp(start);
        let _ = match value {
            Value::Float(_) => appender.float(id, start, 0.0),
            Value::Histogram(histogram) => {
                let zero = FloatHistogram {
                    integer: histogram.integer,
                    schema: histogram.schema,
                    zero_threshold: histogram.zero_threshold,
                    custom_bounds: histogram.custom_bounds.clone(),
                    ..FloatHistogram::default()
                };
                appender.sample(id, Sample { at: start, start: None, value: Value::Histogram(Arc::new(zero)) })
            }
        };
    }

    /// Counts what became of a sample, and remembers that its series must be ended one day.
    fn account(
        &mut self,
        place: Place,
        stored: Result<(), AppendError>,
        tracked: bool,
        outcome: &mut Outcome,
        pass: &mut Pass,
    ) -> Result<(), Failure> {
        let accepted = stored.is_ok();
        match stored {
            Ok(()) => {}
            Err(AppendError::DuplicateTimestamp) => outcome.duplicates += 1,
            Err(AppendError::OutOfOrder) => outcome.out_of_order += 1,
            Err(AppendError::OutOfBounds) => outcome.out_of_bounds += 1,
            Err(error) => return Err(Failure::new(error.to_string())),
        }
        let (good, round) = (self.good, self.round);
        let slot = self.cache.slot(place);
        if accepted && !slot.known {
            slot.known = true;
            outcome.added += 1;
        }
        if slot.known && tracked && slot.stored != round {
            slot.before = good > 0 && slot.stored == good;
            pass.continued += usize::from(slot.before);
            pass.tracked += 1;
            slot.stored = round;
        }
        Ok(())
    }

    /// Marks the end of the series that the last good scrape had and this one has not. Free when none is missing.
    fn end_missing(&mut self, at: Timestamp, continued: usize, appender: &mut dyn Appender) {
        let good = self.good;
        if good > 0 && continued < self.alive {
            for slot in self.cache.slots().filter(|slot| slot.stored == good) {
                slot.stored = 0;
                if let Some(id) = slot.id() {
                    end_series(id, at, appender);
                }
            }
        }
        self.end_orphans(at, appender);
    }

    /// Marks the end of all series of the last good scrape, those included that the undone one had already seen.
    fn end_all(&mut self, at: Timestamp, appender: &mut dyn Appender) {
        let (good, round) = (self.good, self.round);
        for slot in self.cache.slots() {
            let live = good > 0 && (slot.stored == good || slot.stored == round && slot.before);
            slot.stored = 0;
            if let Some(id) = slot.id().filter(|_| live) {
                end_series(id, at, appender);
            }
        }
        self.end_orphans(at, appender);
    }

    /// A series that goes on has a sample for this time already, so that its end is refused as a duplicate.
    fn end_orphans(&mut self, at: Timestamp, appender: &mut dyn Appender) {
        for id in self.orphans.drain(..) {
            end_series(id, at, appender);
        }
    }

    fn report(&mut self, at: Timestamp, seconds: f64, outcome: &Outcome, appender: &mut dyn Appender) {
        let values = [
            f64::from(u8::from(outcome.error.is_none())),
            seconds,
            outcome.scraped as f64,
            outcome.kept as f64,
            outcome.added as f64,
            self.config.timeout.as_millis() as f64 / 1000.0,
            self.config.sample_limit as f64,
            outcome.body_bytes as f64,
        ];
        for ((labels, id), value) in self.reports.iter_mut().zip(values) {
            if id.is_some_and(|id| appender.float(id, at, value) != Err(AppendError::UnknownSeries)) {
                continue;
            }
            match appender.series(labels) {
                // An exposed series of the same name came first: its sample stays, as upstream.
                Ok(series) => drop((id.insert(series), appender.float(series, at, value))),
                Err(error) => tracing::warn!(series = %labels, %error, "a report series was not stored"),
            }
        }
    }
}

fn append(id: SeriesId, at: Timestamp, value: &Value, appender: &mut dyn Appender) -> Result<(), AppendError> {
    match value {
        Value::Float(value) => appender.float(id, at, *value),
        Value::Histogram(_) => appender.sample(id, Sample { at, start: None, value: value.clone() }),
    }
}

/// Marks the end of a series. One that storage gave up, or that has a sample for this time, needs no end.
fn end_series(id: SeriesId, at: Timestamp, appender: &mut dyn Appender) {
    let _ = appender.float(id, at, stale_nan());
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
