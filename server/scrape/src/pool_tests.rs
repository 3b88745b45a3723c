//! Pools and loops with real sockets and simulated time.
//!
//! Simulated time moves on by itself when nothing runs, which a scrape that waits for its socket would look like. A task
//! that blocks keeps it still; the test moves it from tick to tick.

use super::*;
use crate::{Features, target::tests::config};
use metrics::Registry;
use model::{MatchOp, Matcher, Timestamp, is_stale};
use std::time::Duration;
use storage::Memory;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A target that answers what it is told, and counts.
#[derive(Clone)]
struct Target {
    address: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<String>>>,
}

fn good(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

impl Target {
    async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let target = Self { address, answer: Arc::new(Mutex::new(good("a 1\n"))), asked: Arc::default() };
        let serving = target.clone();
        tasks.spawn_once("target", async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else { break };
                    head.push(byte);
                }
                serving.asked.lock().push(String::from_utf8_lossy(&head).into_owned());
                let answer = serving.answer.lock().clone();
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        target
    }
}

struct Bench {
    store: Arc<Memory>,
    scraper: Scraper,
    registry: Registry,
    clock: Clock,
    tasks: Tasks,
    /// Keeps time still; dropping it ends the task that does.
    _still: std::sync::mpsc::Sender<()>,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::simulated(1_700_000_000_000);
        let (tasks, shutdown, registry) = (Tasks::new(clock.clone()), Shutdown::new(), Registry::new());
        let store = Arc::new(Memory::new(storage::Limits::default()));
        let counters = Counters::new(&registry, &clock);
        let scraper =
            Scraper::new(store.clone(), clock.clone(), &tasks, &shutdown, &counters, 1, ProxyEnvironment::default());
        let (still, wait) = std::sync::mpsc::channel::<()>();
        let blocked = tasks.clone();
        tasks.spawn_once("stillness", async move {
            let _ = blocked.blocking("stillness", move || _ = wait.recv()).await;
        });
        Self { store, scraper, registry, clock, tasks, _still: still }
    }

    /// Lets everything run that can without time passing, for as long as `done` says no.
    async fn settle(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..200_000 {
            if done() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{what}: never");
    }

    /// Moves time by an interval in steps, so that every tick in it is met by an answer.
    async fn pass(&self, span: Duration) {
        let step = Duration::from_millis(500);
        let end = self.clock.now() + span;
        while self.clock.now() < end {
            tokio::time::advance(step).await;
            // Whoever began a scrape may end it before time goes on; one that does not is only later.
            for _ in 0..60 {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                std::thread::yield_now();
            }
        }
    }

    fn values(&self, name: &str) -> Vec<String> {
        let querier = storage::Storage::querier(&*self.store, Timestamp(i64::MIN), Timestamp(i64::MAX));
        let matcher = Matcher::new(MatchOp::Equal, "__name__", name).expect("valid");
        let mut set = querier.select(&[matcher]).expect("readable");
        let mut batch = Vec::new();
        set.next_batch(1000, &mut batch).expect("readable");
        let word = |value: &f64| if is_stale(*value) { "end".to_owned() } else { value.to_string() };
        batch.iter().map(|columns| columns.values.iter().map(word).collect::<Vec<_>>().join(" ")).collect()
    }

    fn family(&self, name: &str) -> exposition::Family {
        let families = self.registry.gather();
        families.into_iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_is_scraped_at_its_ticks_and_ends_when_it_is_gone() {
    let bench = Bench::new();
    let target = Target::start(&bench.tasks).await;
    let one = config(&[&target.address]);
    bench.scraper.apply(vec![one.clone()]);
    bench.pass(Duration::from_secs(46)).await;
    let asked = target.asked.lock().len();
    assert!((3..=4).contains(&asked), "{asked} scrapes in three intervals");
    bench.settle("stored", || bench.values("a").iter().map(|one| one.split(' ').count()).sum::<usize>() == asked).await;
    let shown = &bench.scraper.targets().active[0];
    assert_eq!((shown.health.as_str(), shown.last_error.as_deref()), ("up", None));
    let exposition::MetricValue::Summary { count, sum, .. } =
        &bench.family("prometheus_target_interval_length_seconds").metrics[0].value
    else {
        panic!("a summary")
    };
    assert!((*sum / *count - 15.0).abs() < 0.6, "{sum} / {count}");
    bench.scraper.apply(Vec::new());
    bench.pass(Duration::from_secs(40)).await;
    bench.settle("ended", || bench.values("a")[0].ends_with("end") && bench.values("up")[0].ends_with("end")).await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_shown_written_down_and_counted() {
    let bench = Bench::new();
    let target = Target::start(&bench.tasks).await;
    *target.answer.lock() = "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("failed.log");
    bench.scraper.apply(vec![ScrapeConfig { failure_log: Some(log.clone()), ..config(&[&target.address]) }]);
    bench.pass(Duration::from_secs(16)).await;
    bench.settle("down", || bench.scraper.targets().active[0].health.as_str() == "down").await;
    let shown = bench.scraper.targets().active[0].last_error.clone();
    assert_eq!(shown.as_deref(), Some("server returned HTTP status 503 Busy"));
    bench.settle("written", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("503 Busy"))).await;
    let two = ScrapeConfig { target_limit: 1, ..config(&[&target.address, "127.0.0.1:1"]) };
    bench.scraper.apply(vec![two]);
    let asked = target.asked.lock().len();
    bench.pass(Duration::from_secs(16)).await;
    bench
        .settle("barred", || {
            let view = bench.scraper.targets();
            let barred = "target_limit exceeded (number of targets: 2, limit: 1)";
            view.active.iter().all(|one| one.last_error.as_deref() == Some(barred))
        })
        .await;
    assert_eq!(target.asked.lock().len(), asked, "nobody is asked over the limit");
}

#[tokio::test(start_paused = true)]
async fn unchanged_targets_go_on_across_reloads_and_updates() {
    let bench = Bench::new();
    let target = Target::start(&bench.tasks).await;
    let one = config(&[&target.address]);
    bench.scraper.apply(vec![one.clone()]);
    let runner = |bench: &Bench| {
        let pools = bench.scraper.pools.lock();
        pools["j"].targets.values().map(|one| Arc::as_ptr(&one.runner) as usize).collect::<Vec<_>>()
    };
    let before = runner(&bench);
    bench.scraper.apply(vec![one.clone()]);
    bench.scraper.apply(vec![ScrapeConfig { sample_limit: 5, ..one }]);
    assert_eq!(runner(&bench), before);
    let found = Group {
        source: "x".into(),
        targets: vec![Labels::from_pairs([("__address__", "127.0.0.1:1")])],
        labels: Labels::empty(),
    };
    bench.scraper.update("j", vec![Arc::new(found)]);
    assert_eq!((runner(&bench).len(), runner(&bench).contains(&before[0])), (2, true));
    bench.scraper.update("j", Vec::new());
    assert_eq!(runner(&bench), before);
    bench.scraper.update("no such job", Vec::new());
}

/// Ten thousand targets of one job: no moment has more than a few of them, and none is left out of the interval.
#[tokio::test(start_paused = true)]
async fn ten_thousand_targets_are_spread_over_the_interval() {
    let interval = model::Duration::from_millis(15_000);
    let clock = Clock::simulated(1_700_000_000_000);
    let mut in_slot = [0u32; 150];
    for i in 0..10_000 {
        let labels = Labels::from_pairs([("instance", format!("10.0.{}.{}:9100", i / 250, i % 250))]);
        let url = format!("http://10.0.{}.{}:9100/metrics", i / 250, i % 250);
        let place = crate::schedule::place(&labels, &url, 42);
        let wait = crate::schedule::offset(interval.as_std(), place, clock.unix_ms());
        in_slot[usize::try_from(wait.as_millis() / 100).expect("within the interval")] += 1;
    }
    let (least, most) = (in_slot.iter().min().expect("some"), in_slot.iter().max().expect("some"));
    assert!(*least > 30 && *most < 110, "between {least} and {most} of 10,000 in a tenth of a second, 67 on average");
}

#[tokio::test(start_paused = true)]
async fn names_are_negotiated_and_plain_bodies_asked_for_as_configured() {
    let bench = Bench::new();
    let target = Target::start(&bench.tasks).await;
    let one = ScrapeConfig {
        escaping: exposition::Escaping::Underscores,
        validation: crate::NameValidation::Legacy,
        features: Features { plain_on_loopback: true, ..Features::default() },
        ..config(&[&target.address])
    };
    *target.answer.lock() = good("{\"a.b\"} 1\n");
    bench.scraper.apply(vec![one]);
    bench.pass(Duration::from_secs(16)).await;
    bench.settle("down", || bench.scraper.targets().active[0].last_error.is_some()).await;
    let head = target.asked.lock()[0].clone();
    assert!(head.contains("escaping=underscores") && !head.contains("allow-utf-8"), "{head}");
    assert!(head.contains("Accept-Encoding: identity"), "{head}");
    let error = bench.scraper.targets().active[0].last_error.clone().unwrap_or_default();
    assert!(error.starts_with("invalid metric name or label names"), "{error}");
}
