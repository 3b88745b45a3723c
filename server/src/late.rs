//! The store while it is being opened: empty until its log is read, then the store itself.
//!
//! The API is served meanwhile and says that it is not ready; nothing writes before it is.

use model::{Matcher, Timestamp};
use std::sync::{Arc, OnceLock};
use storage::{Admin, Appender, Cardinality, Memory, Querier, ReadError, SeriesExemplars, Stats, Storage};
use tsdb::{Progress, Tsdb};

/// A store that comes later.
pub(crate) struct Late {
    store: OnceLock<Arc<Tsdb>>,
    before: Memory,
    /// How far its log is read.
    pub(crate) progress: Progress,
}

impl Late {
    pub(crate) fn new() -> Self {
        Self {
            store: OnceLock::new(),
            before: Memory::new(storage::Limits { series_max: 0, ..storage::Limits::default() }),
            progress: Progress::default(),
        }
    }

    /// Puts the store in; once is enough.
    pub(crate) fn set(&self, store: Arc<Tsdb>) {
        // A second one would be a mistake of the wiring, and the first stays.
        let _ = self.store.set(store);
    }

    /// The store, once it is open.
    pub(crate) fn get(&self) -> Option<&Arc<Tsdb>> {
        self.store.get()
    }

    fn now(&self) -> &dyn Storage {
        match self.store.get() {
            Some(store) => &**store,
            None => &self.before,
        }
    }
}

impl Storage for Late {
    fn appender(&self) -> Box<dyn Appender + '_> {
        self.now().appender()
    }

    fn querier(&self, min: Timestamp, max: Timestamp) -> Box<dyn Querier + '_> {
        self.now().querier(min, max)
    }

    fn stats(&self) -> Stats {
        self.now().stats()
    }

    fn cardinality(&self, top: usize) -> Cardinality {
        self.now().cardinality(top)
    }

    fn exemplars(
        &self,
        min: Timestamp,
        max: Timestamp,
        selectors: &[Vec<Matcher>],
    ) -> Result<Vec<SeriesExemplars>, ReadError> {
        self.now().exemplars(min, max, selectors)
    }

    fn admin(&self) -> Option<&dyn Admin> {
        self.now().admin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;

    #[test]
    fn what_is_asked_before_the_store_is_there_is_empty_and_nothing_is_taken() {
        let late = Late::new();
        let labels = Labels::from_pairs([("__name__", "a")]);
        assert!(late.appender().series(&labels).is_err());
        assert_eq!(late.stats(), Stats::default());
        let disk = testkit::SimDisk::new(1).disk();
        late.set(Arc::new(Tsdb::open(disk, tsdb::Options::default()).expect("opens")));
        assert!(late.appender().series(&labels).is_ok());
        assert_eq!(late.stats().series, 1);
    }
}
