//! The store on a simulated disk: random lives, every crash point, every single fault, by seed.
//!
//! `cargo xtask simulate --seeds N`. What was committed survives a kill, what was synced a power cut, what was deleted
//! never comes back, nothing is found that was never written, and a calm start always succeeds and can write. The first
//! seed that breaks a promise is printed, and the exit code is 1. The ordinary tests have shorter lives of their own.

use model::{Labels, MatchOp, Matcher, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};
use storage::{Admin, Storage};
use testkit::{Fault, Rng, SimDisk};
use tsdb::{Options, Tsdb};

/// Minutes instead of hours, and kilobytes instead of megabytes.
fn options() -> Options {
    Options {
        part_ms: 60_000,
        merged_ms: &[240_000, 960_000],
        chunk_samples: 7,
        segment_bytes: 2000,
        snapshot_ms: 200_000,
        retention_ms: None,
        log: runtime::LogOptions { segment_bytes: 4000, record_bytes_max: 1 << 20, unsynced_bytes_max: 1 << 16 },
        ..Options::default()
    }
}

/// Series and time of a sample, and its bits.
type Points = BTreeMap<(u64, i64), u64>;

const SERIES: u64 = 12;

/// What the store has promised.
#[derive(Clone, Default)]
struct Oracle {
    tried: Points,
    committed: Points,
    durable: Points,
    /// Deleted, and perhaps deleted: a deletion that failed may have counted.
    gone: BTreeSet<(u64, i64)>,
    unsure: BTreeSet<(u64, i64)>,
    clock: i64,
}

fn labels(series: u64) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("i", series.to_string().as_str()), ("job", "j")])
}

fn scrape(store: &Tsdb, rng: &mut Rng, oracle: &mut Oracle) {
    oracle.clock += 20_000;
    let at = oracle.clock;
    let mut appender = store.appender();
    let mut mine = Vec::new();
    for series in 0..SERIES {
        if rng.chance(10) {
            continue;
        }
        let value = match series % 3 {
            0 => 1.0,
            1 => at as f64,
            _ => f64::from_bits(rng.next_u64()),
        };
        let Ok(id) = appender.series(&labels(series)) else { return };
        if appender.float(id, Timestamp(at), value).is_err() {
            return;
        }
        mine.push(((series, at), value.to_bits()));
    }
    oracle.tried.extend(mine.iter().copied());
    if appender.commit().is_ok() {
        oracle.committed.extend(mine);
    }
}

fn delete(store: &Tsdb, rng: &mut Rng, oracle: &mut Oracle) {
    let (series, from) = (rng.below(SERIES as usize) as u64, oracle.clock - rng.below(400_000) as i64);
    let to = from + rng.below(200_000) as i64;
    let matcher = Matcher::new(MatchOp::Equal, "i", &series.to_string()).expect("valid");
    let hit: Vec<(u64, i64)> = oracle.tried.range((series, from)..=(series, to)).map(|(key, _)| *key).collect();
    let done = store.delete_series(Timestamp(from), Timestamp(to), &[vec![matcher]]);
    if done.is_ok() { oracle.gone.extend(hit) } else { oracle.unsure.extend(hit) }
}

fn content(store: &Tsdb) -> Result<Points, String> {
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut set = querier.select(&[]).map_err(|error| error.to_string())?;
    let (mut all, mut batch) = (Points::new(), Vec::new());
    loop {
        set.next_batch(5, &mut batch).map_err(|error| error.to_string())?;
        if batch.is_empty() {
            return Ok(all);
        }
        for columns in &batch {
            let series: u64 = columns.labels.get("i").and_then(|i| i.parse().ok()).ok_or("a series of nobody")?;
            for (at, value) in columns.times.iter().zip(columns.values.iter()) {
                all.insert((series, *at), value.to_bits());
            }
        }
    }
}

/// One life: whatever fails, the next step is tried, as a server does.
fn live(sim: &SimDisk, rng: &mut Rng, steps: usize, oracle: &mut Oracle) {
    let Ok(store) = Tsdb::open(sim.disk(), options()) else { return };
    for _ in 0..steps {
        scrape(&store, rng, oracle);
        if rng.chance(30) && store.sync().is_ok() {
            oracle.durable = oracle.committed.clone();
        }
        if rng.chance(30) {
            let _ = store.maintain();
        }
        if rng.chance(8) {
            delete(&store, rng, oracle);
        }
        if rng.chance(5) {
            let _ = store.clean_tombstones();
        }
    }
}

/// A calm start keeps what was promised, and goes on; the oracle learns what is there.
fn restart(sim: &SimDisk, rng: &mut Rng, oracle: &mut Oracle, killed: bool) -> Result<(), String> {
    sim.heal();
    if killed {
        sim.kill()
    } else {
        sim.power_cut(rng.next_u64())
    }
    let store = Tsdb::open(sim.disk(), options()).map_err(|error| format!("the start: {error}"))?;
    if (store.damaged(), store.recovery().lost) != (0, 0) {
        return Err(format!("{} damaged, {} lost", store.damaged(), store.recovery().lost));
    }
    let found = content(&store)?;
    let promised = if killed { &oracle.committed } else { &oracle.durable };
    for (key, bits) in promised {
        let may_lack = oracle.gone.contains(key) || oracle.unsure.contains(key);
        match found.get(key) {
            Some(have) if have != bits => return Err(format!("{key:?} has another value")),
            None if !may_lack => return Err(format!("{key:?} is lost")),
            _ => {}
        }
    }
    for (key, bits) in &found {
        if oracle.tried.get(key) != Some(bits) {
            return Err(format!("{key:?} was never written"));
        }
        if oracle.gone.contains(key) {
            return Err(format!("{key:?} was deleted and is back"));
        }
    }
    (oracle.committed, oracle.durable) = (found.clone(), Points::new());
    for _ in 0..3 {
        scrape(&store, rng, oracle);
        store.maintain().map_err(|error| format!("after the start: {error}"))?;
    }
    store.sync().map_err(|error| format!("after the start: {error}"))?;
    oracle.durable = oracle.committed.clone();
    if content(&store)?.len() < found.len() + 3 { Err("nothing more is taken".into()) } else { Ok(()) }
}

/// Five lives with faults and ends by chance.
fn random(seed: u64) -> Result<(), String> {
    let (sim, mut rng) = (SimDisk::new(seed), Rng::new(seed));
    let mut oracle = Oracle { clock: 1_000_000, ..Oracle::default() };
    for life in 0..5 {
        let at = sim.operations() + rng.below(200) as u64;
        match rng.below(8) {
            0 => sim.inject(Fault::Io(at)),
            1 => sim.inject(Fault::Torn(at)),
            2 => sim.inject(Fault::Sync(at)),
            3 => sim.inject(Fault::Short(at)),
            4 => sim.inject(Fault::Full(rng.below(60_000) as u64)),
            5 | 6 => sim.inject(Fault::Crash(at)),
            _ => {}
        }
        let steps = 5 + rng.below(20);
        live(&sim, &mut rng, steps, &mut oracle);
        let killed = rng.chance(50);
        restart(&sim, &mut rng, &mut oracle, killed).map_err(|what| format!("life {life}: {what}"))?;
    }
    Ok(())
}

/// One workload, ended at one of its operations.
fn crash_point(seed: u64, at: u64, killed: bool) -> Result<bool, String> {
    let (sim, mut rng) = (SimDisk::new(seed), Rng::new(seed));
    let mut oracle = Oracle { clock: 1_000_000, ..Oracle::default() };
    sim.inject(Fault::Crash(at));
    live(&sim, &mut rng, 14, &mut oracle);
    let crashed = sim.is_crashed();
    restart(&sim, &mut rng, &mut oracle, killed)?;
    restart(&sim, &mut rng, &mut oracle, false)?;
    Ok(crashed)
}

/// One workload with one fault.
fn single_fault(seed: u64, fault: Fault, killed: bool) -> Result<(), String> {
    let (sim, mut rng) = (SimDisk::new(seed), Rng::new(seed));
    let mut oracle = Oracle { clock: 1_000_000, ..Oracle::default() };
    sim.inject(fault);
    live(&sim, &mut rng, 14, &mut oracle);
    restart(&sim, &mut rng, &mut oracle, killed)
}

/// A panic is a broken promise too.
fn calm<T>(what: String, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done.map_err(|error| format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: a panic")),
    }
}

fn all(seeds: u64, first: u64) -> Result<(), String> {
    for seed in first..first + seeds {
        calm(format!("random, seed {seed}"), || random(seed))?;
    }
    println!("{seeds} random seeds are clean");
    let (workloads, mut points, mut faults) = ((seeds / 400).max(1), 0, 0);
    for seed in first..first + workloads {
        for at in 0.. {
            let mut crashed = false;
            for killed in [true, false] {
                let what = format!("crash at operation {at}, killed {killed}, seed {seed}");
                crashed |= calm(what, || crash_point(seed, at, killed))?;
                points += 1;
            }
            if !crashed {
                break;
            }
            for fault in [Fault::Io as fn(u64) -> Fault, Fault::Torn, Fault::Sync, Fault::Short, Fault::Full] {
                let fault = fault(if matches!(fault(0), Fault::Full(_)) { at * 200 } else { at });
                let what = format!("{fault:?}, seed {seed}");
                calm(what, || single_fault(seed, fault, at % 2 == 0))?;
                faults += 1;
            }
        }
    }
    println!("{points} crash points and {faults} single faults of {workloads} workloads are clean");
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let place = args.iter().position(|arg| arg == name);
        place.and_then(|place| args.get(place + 1)?.parse().ok()).unwrap_or(default)
    };
    match all(number("--seeds", 1000), number("--first", 0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
