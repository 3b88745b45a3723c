//! Sharing, throttling and reload, by simulated time. The mechanism at work is that of files, read from real folders.

use super::*;
use crate::testing::{Bench, configs};
use std::{io::Write, path::Path};

fn write(folder: &Path, name: &str, targets: &str) {
    let mut file = std::fs::File::create(folder.join(name)).expect("made");
    write!(file, "[{{\"targets\": [{targets}]}}]").expect("written");
}

fn files(names: &str, folder: &Path) -> Configs {
    configs(&format!("static_configs: [{{targets: [s1, s2]}}]\nfile_sd_configs: [{{files: [{names}]}}]"), folder)
}

/// Waits for the first update, which depends on real files; simulated time stands still meanwhile but for a moment.
async fn settle(bench: &Bench) -> Vec<(u64, String, usize)> {
    bench.pass(1).await;
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
    let told = bench.told();
    told.into_iter().map(|(at, job, targets)| (at, job, targets.len())).collect()
}

#[tokio::test(start_paused = true)]
async fn jobs_share_equal_mechanisms_and_keep_them_across_reloads() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "a.json", "\"x\", \"y\"");
    let bench = Bench::new(Clock::simulated(0));
    let (a, b) = (files("a.json", folder.path()), files("b.json", folder.path()));
    bench.apply(&[("one", a.clone()), ("two", a.clone())]);
    assert_eq!(bench.manager.running(), 1);
    let told = settle(&bench).await;
    assert_eq!(told, [(0, "one".into(), 2), (0, "two".into(), 2)]);
    assert_eq!(bench.metric("prometheus_sd_discovered_targets", "{config=\"one\", name=\"scrape\"}"), 4.0);
    let first = *bench.manager.0.state.lock().providers.keys().next().expect("one runs");
    bench.apply(&[("one", a.clone()), ("three", a.clone()), ("four", b)]);
    assert_eq!(bench.manager.running(), 2);
    assert!(bench.manager.0.state.lock().providers.contains_key(&first), "the running one goes on");
    let told = settle(&bench).await;
    assert!(told.contains(&(1, "three".into(), 2)), "told what is known already: {told:?}");
    assert!(!told.iter().any(|(_, job, _)| job == "one"), "nothing changed for it: {told:?}");
    bench.apply(&[("one", Configs::default())]);
    assert_eq!(bench.manager.running(), 0);
    let told: Vec<_> = {
        bench.pass(6).await;
        bench.told()
    };
    assert_eq!(told.iter().map(|(_, job, targets)| (job.as_str(), targets.len())).collect::<Vec<_>>(), [("one", 0)]);
}

#[tokio::test(start_paused = true)]
async fn updates_of_a_job_are_five_seconds_apart() {
    let bench = Bench::new(Clock::simulated(0));
    let folder = tempfile::tempdir().expect("a folder");
    bench.apply(&[("j", files("none.json", folder.path()))]);
    settle(&bench).await;
    let provider = *bench.manager.0.state.lock().providers.keys().next().expect("one runs");
    let group = |address: &str| Group {
        source: "s".into(),
        targets: vec![model::Labels::from_pairs([("__address__", address)])],
        ..Group::default()
    };
    let delayed = || bench.metric("prometheus_sd_updates_delayed_total", "{name=\"scrape\"}");
    let delayed_before = delayed();
    for i in 0..20 {
        bench.pass(1).await;
        let groups = vec![group(&i.to_string())];
        bench.manager.0.take(provider, |table| table.merge(groups));
    }
    bench.pass(10).await;
    let told = bench.told();
    let times: Vec<u64> = told.iter().map(|(at, _, _)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 5), "{times:?}");
    assert!((4..=6).contains(&times.len()), "{times:?}");
    assert_eq!(told.last().map(|(_, _, targets)| targets.clone()), Some(vec!["{__address__=\"19\"}".to_owned()]));
    assert_eq!(delayed() - delayed_before, told.len() as f64, "every one had to wait");
    let before = bench.metric("prometheus_sd_received_updates_total", "{name=\"scrape\"}");
    bench.manager.0.take(provider, |table| table.merge(vec![group("19")]));
    bench.pass(10).await;
    assert!(bench.told().is_empty(), "nothing changed");
    assert!(bench.metric("prometheus_sd_received_updates_total", "{name=\"scrape\"}") > before);
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_that_does_not_answer_holds_up_the_others_for_five_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "a.json", "\"x\"");
    let bench = Bench::new(Clock::simulated(0));
    // Nobody listens there, and a proxy that is not there either: the client gives up at once or never.
    let yaml = "file_sd_configs: [{files: [a.json]}]\nhttp_sd_configs: [{url: 'http://127.0.0.1:1/'}]";
    bench.apply(&[("j", configs(yaml, folder.path()))]);
    assert!(settle(&bench).await.is_empty());
    bench.pass(6).await;
    let told = settle(&bench).await;
    assert_eq!(told.iter().map(|(at, _, count)| (*at, *count)).collect::<Vec<_>>(), [(5, 1)]);
}
