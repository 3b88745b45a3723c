//! Answers of slow collectors that are used again for a while: `--collector.cache`.
//!
//! What is kept is the whole of what a run brought, its duration and its failure too, so that a sensor that takes
//! seconds to fail is not asked at every scrape either. A collector that was late has brought nothing that could be kept.

use crate::collectors::{ALL, StartError};
use crate::crew::{Answer, Outcome};
use crate::families::{Families, Kind};
use crate::flags::CACHE;
use runtime::{Clock, Monotonic};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is kept of the collectors by their places.
pub(crate) struct Cache {
    clock: Clock,
    places: Vec<Option<Place>>,
}

struct Place {
    keep: Duration,
    last: Mutex<Option<(Monotonic, Arc<Outcome>)>>,
}

impl Place {
    fn last(&self) -> MutexGuard<'_, Option<(Monotonic, Arc<Outcome>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// Understands `NAME=DURATION,...` for the collectors that are on, whose names are in the order of their places.
    /// Those that are off may be named.
    pub(crate) fn new(flags: &[String], names: &[&str], clock: &Clock) -> Result<Cache, StartError> {
        let refuse = |reason| StartError::Setting { flag: CACHE, reason };
        let mut places: Vec<Option<Place>> = names.iter().map(|_| None).collect();
        for part in flags.iter().flat_map(|flag| flag.split(',')).map(str::trim).filter(|part| !part.is_empty()) {
            let (name, span) = part
                .split_once('=')
                .ok_or_else(|| refuse(format!("{part:?} is not a collector, = and a duration, such as hwmon=30s")))?;
            let keep = cli::parse_go(span).map_err(|error| refuse(format!("{name}: {error}")))?;
            if !ALL.iter().any(|collector| collector.name == name) {
                return Err(refuse(format!("there is no collector {name:?}")));
            }
            if let Some(place) = names.iter().position(|known| *known == name) {
                places[place] = (!keep.is_zero()).then(|| Place { keep, last: Mutex::new(None) });
            }
        }
        Ok(Cache { clock: clock.clone(), places })
    }

    fn place(&self, index: usize) -> Option<&Place> {
        self.places.get(index)?.as_ref()
    }

    /// What a collector brought, while that may be used again.
    pub(crate) fn get(&self, index: usize) -> Option<Arc<Outcome>> {
        let place = self.place(index)?;
        let last = place.last();
        let (at, outcome) = last.as_ref()?;
        (self.clock.now() - *at < place.keep).then(|| outcome.clone())
    }

    /// Keeps what a run brought, and hands it back.
    pub(crate) fn put(&self, index: usize, answer: Answer) -> Answer {
        if let (Some(place), Answer::Done(outcome)) = (self.place(index), &answer) {
            *place.last() = Some((self.clock.now(), outcome.clone()));
        }
        answer
    }

    /// How old an answer is, of a collector whose answers are kept at all.
    pub(crate) fn show(&self, index: usize, name: &str, out: &mut Families) {
        let Some(place) = self.place(index) else { return };
        let Some(age) = place.last().as_ref().map(|(at, _)| self.clock.now() - *at) else { return };
        let help = "How old the answer of a collector is that --collector.cache names.";
        let family = "narthex_exporter_collector_age_seconds";
        out.sample(Kind::Gauge, family, help, &[("collector", name)], age.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::Collection;
    use crate::testing::Tree;

    async fn text(collection: &Collection) -> String {
        let chosen = collection.select(&["loadavg".to_owned()], &[]).expect("collector");
        let mut out = Families::new();
        collection.pass(&chosen, None, &mut out).await;
        String::from_utf8(out.finish().0).expect("utf-8")
    }

    #[tokio::test]
    async fn an_answer_is_used_again_until_it_is_too_old() {
        let tree = Tree::new();
        let start =
            |flag: &str| tree.start(&["--collector.disable-defaults", "--collector.loadavg", flag]).expect("start");
        tree.put("proc/loadavg", "0.1 0.2 0.3 1/2 3\n");
        let (kept, read) = (start("--collector.cache=loadavg=1h"), start("--collector.cache=loadavg=0s"));
        let short = start("--collector.cache=hwmon=1h,loadavg=1ns");
        for collection in [&kept, &read, &short] {
            assert!(text(collection).await.contains("node_load1 0.1\n"));
        }
        tree.put("proc/loadavg", "0.7 0.2 0.3 1/2 3\n");
        let again = text(&kept).await;
        assert!(again.contains("node_load1 0.1\n"), "{again}");
        assert!(again.contains("narthex_exporter_collector_age_seconds{collector=\"loadavg\"} 0"), "{again}");
        assert!(again.contains("node_scrape_collector_success{collector=\"loadavg\"} 1\n"), "{again}");
        for collection in [&read, &short] {
            assert!(text(collection).await.contains("node_load1 0.7\n"));
        }
        assert!(!text(&read).await.contains("age_seconds"));
    }

    #[tokio::test]
    async fn failures_are_kept_no_longer() {
        let tree = Tree::new();
        let flags = ["--collector.disable-defaults", "--collector.loadavg"];
        let start = |flag: &'static str| tree.start(&[&flags[..], &[flag]].concat()).expect("start");
        let (kept, short) = (start("--collector.cache=loadavg=1h"), start("--collector.cache=loadavg=1ns"));
        for collection in [&kept, &short] {
            assert!(text(collection).await.contains("success{collector=\"loadavg\"} 0\n"));
        }
        tree.put("proc/loadavg", "0.7 0.2 0.3 1/2 3\n");
        assert!(text(&kept).await.contains("success{collector=\"loadavg\"} 0\n"));
        assert!(text(&short).await.contains("node_load1 0.7\n"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (flag, part) in [
            ("--collector.cache=hwmon", "\"hwmon\" is not a collector, ="),
            ("--collector.cache=hwmon=1x", "hwmon: time: unknown unit"),
            ("--collector.cache=hwmon=-1s", "is negative"),
            ("--collector.cache=hwmon=1s,nope=1s", "no collector \"nope\""),
        ] {
            let error = Tree::new().refusal(&[flag]);
            assert!(error.contains(part), "{flag}: {error}");
        }
        assert!(Tree::new().start(&["--collector.cache=hwmon=1s", "--collector.cache=nvme=1m, ntp=1h"]).is_ok());
    }
}
