//! What was acknowledged is there after every end: a crash at any operation, any single fault, a full disk, bit rot.

use super::*;
use crate::{
    Key,
    body::Body,
    gateway::{Caps, How, Policy, PushError},
    key::key,
    record::Record,
    replicate::Replicas,
    store::Push,
};
use runtime::Shutdown;
use testkit::{Fault, Rng, SimDisk};

const FOLDING: Folding = Folding { interval: Duration::ZERO, min: 300, max: 300 };

fn policy() -> Policy {
    Policy {
        checked: true,
        utf8: false,
        body_max: 1 << 20,
        ttl: 0,
        ttl_by_push: false,
        sums: false,
        caps: Caps::default(),
    }
}

fn place(sim: &SimDisk) -> Place {
    Place { disk: sim.disk(), base: "data".into() }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

/// A gateway on a simulated disk; `None` when it could not start.
async fn start(sim: &SimDisk) -> Option<(Arc<Gateway>, Committer)> {
    start_with(sim, false).await
}

/// As [`start`]; one with peers remembers deletions.
async fn start_with(sim: &SimDisk, peers: bool) -> Option<(Arc<Gateway>, Committer)> {
    let clock = Clock::simulated(1_000_000);
    let env = Environment { clock: clock.clone(), shutdown: Shutdown::new(), tasks: Tasks::new(clock.clone()) };
    let registry = metrics::Registry::new();
    let replicas = peers.then(|| Replicas::new(&[], 1, &registry));
    let gateway = Arc::new(Gateway::new(clock, registry, policy(), replicas));
    let committer = open_on(place(sim), &gateway, FOLDING, &env).await.ok()?;
    committer.spawn();
    Some((gateway, committer))
}

#[derive(Clone, Debug)]
enum Op {
    Push { key: Key, text: String, replace: bool },
    Delete(Key),
    Wipe,
}

impl Op {
    fn random(rng: &mut Rng) -> Self {
        let key = key(&[("job", ["a", "b", "c"][rng.below(3)])]);
        match rng.below(12) {
            0 => Self::Delete(key),
            1 => Self::Wipe,
            n => {
                let text = format!("m{} {}\n", rng.below(3), rng.next_u64() % 1000);
                Self::Push { key, text, replace: n % 2 == 0 }
            }
        }
    }

    fn push(&self) -> Option<(Key, Body, How)> {
        let Self::Push { key, text, replace } = self else { return None };
        let families = exposition::families::parse_text(text.as_bytes()).expect("valid");
        let how = How { replace: *replace, ..How::default() };
        Some((key.clone(), Body { families, mismatch: None }, how))
    }

    async fn perform(&self, gateway: &Gateway) -> bool {
        match self {
            Self::Delete(key) => gateway.delete(key).await.is_ok(),
            Self::Wipe => gateway.wipe().await.is_ok(),
            Self::Push { .. } => {
                let (key, body, how) = self.push().expect("a push");
                match gateway.push(key, body, how).await {
                    Ok(()) => true,
                    Err(PushError::Journal(_)) => false,
                    Err(why) => panic!("{why}"),
                }
            }
        }
    }

    fn apply(&self, groups: &mut Groups) {
        groups.apply(match self {
            Self::Delete(key) => Record::Delete { key: key.clone(), at: 0 },
            Self::Wipe => Record::Wipe { at: 0 },
            Self::Push { .. } => {
                let (key, body, How { replace, .. }) = self.push().expect("a push");
                let families = Push::new(key.clone(), body).packed(1_000_000);
                Record::Push { key, at: 1_000_000, ttl: 0, replace, families }
            }
        });
    }
}

/// What may be found after the end of a life: what was acknowledged, with some of one burst that failed after it.
struct Promise {
    acknowledged: Groups,
    failed: Vec<Vec<Op>>,
}

impl Promise {
    fn allows(&self, found: &Groups) -> bool {
        *found == self.acknowledged
            || self.failed.iter().any(|burst| {
                let mut groups = self.acknowledged.clone();
                burst.iter().any(|op| {
                    op.apply(&mut groups);
                    *found == groups
                })
            })
    }
}

/// Lives once: operations in bursts, until one fails when `until_failure`, else to the end.
async fn live(sim: &SimDisk, rng: &mut Rng, promise: &mut Promise, until_failure: bool) {
    let Some((gateway, committer)) = start(sim).await else { return };
    for _ in 0..8 {
        let burst: Vec<Op> = (0..1 + rng.below(3)).map(|_| Op::random(rng)).collect();
        let done = futures_util::future::join_all(burst.iter().map(|op| op.perform(&gateway))).await;
        let taken = done.iter().take_while(|done| **done).count();
        assert!(!done[taken..].contains(&true), "a later change is acknowledged and an earlier one is not");
        burst[..taken].iter().for_each(|op| op.apply(&mut promise.acknowledged));
        if taken > 0 {
            promise.failed.clear();
        }
        promise.failed.push(burst[taken..].to_vec());
        // Memory never shows what was answered with an error.
        let shown = Groups::of(&gateway.state.lock().store);
        assert_eq!(shown, promise.acknowledged);
        if until_failure && taken < burst.len() {
            return;
        }
    }
    committer.finish().await;
}

fn found(sim: &SimDisk) -> Groups {
    place(sim).recover().expect("a calm start succeeds").groups
}

/// Ends a life in several ways and looks at what is there, also after a recovery that was cut off itself.
fn judge(sim: &SimDisk, promise: &Promise, what: &str) {
    for end in 0..4u64 {
        let after = sim.fork();
        match end {
            0 => after.kill(),
            seed => after.power_cut(seed),
        }
        let first = after.operations();
        let again = after.fork();
        again.kill();
        again.inject(Fault::Crash(first + end * 3));
        let _ = place(&again).recover();
        again.power_cut(end);
        for sim in [&after, &again] {
            let groups = found(sim);
            assert!(
                promise.allows(&groups),
                "{what}, end {end}: found {groups:?}, promised {:?}",
                promise.acknowledged
            );
            assert_eq!(found(sim), groups, "{what}, end {end}: a second start finds the same");
        }
    }
}

fn fresh() -> Promise {
    Promise { acknowledged: Groups::default(), failed: Vec::new() }
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    for seed in 0..12 {
        for at in 0..200 {
            let (sim, mut promise) = (SimDisk::new(seed), fresh());
            sim.inject(Fault::Crash(at));
            block_on(live(&sim, &mut Rng::new(seed), &mut promise, true));
            let crashed = sim.is_crashed();
            judge(&sim, &promise, &format!("seed {seed}, crash at {at}"));
            if !crashed {
                assert!(at > 20, "the life has operations");
                break;
            }
        }
    }
}

#[test]
fn a_single_fault_loses_nothing_and_the_gateway_goes_on() {
    let kinds = [Fault::Io as fn(u64) -> Fault, Fault::Torn, Fault::Sync, Fault::Short];
    for (seed, kind) in kinds.into_iter().enumerate() {
        for at in 4..70 {
            let (sim, mut promise) = (SimDisk::new(seed as u64), fresh());
            sim.inject(kind(at));
            block_on(live(&sim, &mut Rng::new(seed as u64), &mut promise, false));
            judge(&sim, &promise, &format!("{:?}", kind(at)));
        }
    }
}

#[test]
fn many_lives_with_faults_lose_nothing() {
    for seed in 0..120u64 {
        let (sim, mut rng, mut promise) = (SimDisk::new(seed), Rng::new(seed), fresh());
        for life in 0..4 {
            for _ in 0..rng.below(5) {
                let at = sim.operations() + rng.below(60) as u64;
                // Faults in a row are what turns a second try into a failure.
                for step in 0..=rng.below(3) as u64 {
                    let kind = [Fault::Io as fn(u64) -> Fault, Fault::Torn, Fault::Sync, Fault::Crash][rng.below(4)];
                    sim.inject(kind(at + step));
                }
            }
            block_on(live(&sim, &mut rng, &mut promise, false));
            if rng.chance(50) {
                sim.kill();
            } else {
                sim.power_cut(rng.next_u64());
            }
            let groups = found(&sim);
            assert!(
                promise.allows(&groups),
                "seed {seed}, life {life}: found {groups:?}, promised {:?}, failed {:?}",
                promise.acknowledged,
                promise.failed
            );
            promise = Promise { acknowledged: groups, failed: Vec::new() };
        }
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    block_on(async {
        let (sim, mut rng) = (SimDisk::new(1), Rng::new(1));
        let (gateway, _committer) = start(&sim).await.expect("starts");
        let op = |text: &str| Op::Push { key: key(&[("job", "a")]), text: text.into(), replace: true };
        assert!(op("m 1\n").perform(&gateway).await);
        let before = Groups::of(&gateway.state.lock().store);
        for room in [0, 1, 30, 60] {
            sim.inject(Fault::Full(room));
            assert!(!op("m 2\n").perform(&gateway).await, "room {room}");
            assert_eq!(Groups::of(&gateway.state.lock().store), before, "the old state stays");
            sim.heal();
        }
        assert!(op("m 3\n").perform(&gateway).await);
        let now = Groups::of(&gateway.state.lock().store);
        sim.power_cut(rng.next_u64());
        assert_eq!(found(&sim), now);
    });
}

#[test]
fn deletions_that_peers_must_learn_of_are_kept_and_taken_back() {
    for seed in 0..20 {
        block_on(async {
            let (sim, mut rng) = (SimDisk::new(seed), Rng::new(seed));
            let (gateway, committer) = start_with(&sim, true).await.expect("starts");
            for _ in 0..30 {
                let before = Groups::of(&gateway.state.lock().store);
                if rng.chance(30) {
                    sim.inject(Fault::Full(rng.below(20) as u64));
                }
                let done = Op::random(&mut rng).perform(&gateway).await;
                assert!(done || Groups::of(&gateway.state.lock().store) == before, "seed {seed}: taken back");
                sim.heal();
            }
            let now = Groups::of(&gateway.state.lock().store);
            if rng.chance(50) {
                committer.finish().await;
            }
            sim.power_cut(rng.next_u64());
            assert_eq!(found(&sim), now, "seed {seed}");
            let (again, _committer) = start_with(&sim, true).await.expect("starts again");
            assert_eq!(Groups::of(&again.state.lock().store), now, "seed {seed}");
        });
    }
}

#[test]
fn what_is_damaged_is_set_aside_and_never_overwritten() {
    for (name, bit) in [("data", 200), ("data", 3), ("data.log.00000001", 300), ("data.log.00000001", 2)] {
        block_on(async {
            let sim = SimDisk::new(5);
            let (gateway, committer) = start(&sim).await.expect("starts");
            let op = |job: &str| Op::Push { key: key(&[("job", job)]), text: "m 1\n".into(), replace: true };
            assert!(op("one").perform(&gateway).await && op("two").perform(&gateway).await);
            if name == "data" {
                committer.finish().await;
            }
            sim.kill();
            assert!(sim.flip_bit(name, bit), "{name}");
            let damaged = sim.disk().read(name).expect("there");
            let found = place(&sim).recover().expect("starts all the same");
            assert!(found.warnings.iter().any(|warning| warning.contains("damaged")), "{name}: {:?}", found.warnings);
            assert_eq!(sim.disk().read("data.damaged.1").expect("kept"), damaged);
            let jobs: Vec<&str> = found.groups.0.keys().filter_map(|key| key.get("job")).collect();
            // Of the journal all but the damaged record is saved.
            assert_eq!(
                jobs,
                if name == "data" {
                    vec![]
                } else if bit == 300 {
                    vec!["two"]
                } else {
                    vec!["one", "two"]
                }
            );
            let again = place(&sim).recover().expect("starts");
            assert_eq!((again.warnings.len(), again.groups), (0, found.groups), "{name}");
        });
    }
}

#[test]
fn upstreams_file_is_taken_over_once_and_kept() {
    let (sim, gob) = (SimDisk::new(1), include_bytes!("../testdata/upstream-1.11.2.gob"));
    sim.disk().publish("data", gob).expect("written");
    for at in 0..12 {
        let sim = sim.fork();
        sim.kill();
        sim.inject(Fault::Crash(sim.operations() + at));
        let _ = place(&sim).recover();
        sim.power_cut(at);
        let found = place(&sim).recover().expect("starts");
        assert_eq!(found.groups.0.len(), 5, "crash at {at}");
        assert_eq!(sim.disk().read("data.upstream").expect("kept"), gob);
        let again = place(&sim).recover().expect("starts");
        assert!(!again.imported && again.warnings.is_empty() && again.groups == found.groups);
    }
}

#[test]
fn a_second_gateway_is_refused() {
    block_on(async {
        let sim = SimDisk::new(1);
        let _first = start(&sim).await.expect("starts");
        assert!(start(&sim).await.is_none());
    });
}
