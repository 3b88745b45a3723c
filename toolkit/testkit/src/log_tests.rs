//! The log under crashes, power cuts and single faults: what was accepted is found, in order, without a gap.

use crate::{Fault, Rng, SimDisk};
use runtime::{Disk, Log, LogOptions, Recovery};
use std::collections::BTreeMap;

const SMALL: LogOptions = LogOptions { segment_bytes: 300, record_bytes_max: 1000, unsynced_bytes_max: 400 };

type Records = BTreeMap<u64, Vec<u8>>;

fn open(disk: &Disk) -> std::io::Result<(Log, Records, Recovery)> {
    let mut found = Records::new();
    let (log, recovery) = Log::open(disk, "wal", SMALL, |number, payload| {
        assert!(found.insert(number, payload.to_vec()).is_none(), "number {number} twice");
        Ok(())
    })?;
    Ok((log, found, recovery))
}

/// What a workload was told.
#[derive(Clone, Default)]
struct Promised {
    accepted: Records,
    durable: u64,
    forgotten: u64,
}

/// Appends, syncs, rotates and forgets by seed until `steps` are done or the disk has crashed.
fn work(disk: &Disk, seed: u64, steps: usize, promised: &mut Promised) {
    let mut rng = Rng::new(seed);
    let Ok((mut log, _, _)) = open(disk) else { return };
    log.skip_to(promised.forgotten);
    for _ in 0..steps {
        match rng.below(10) {
            0..=5 => {
                let length = rng.below(150);
                let payload = rng.bytes(length);
                if let Ok(number) = log.append(&payload) {
                    promised.accepted.insert(number, payload);
                }
            }
            6..=7 => {
                if let Ok(number) = log.sync() {
                    promised.durable = number;
                }
            }
            8 => drop(log.rotate()),
            _ => {
                // A store forgets what it has elsewhere, durably.
                let number = promised.durable.saturating_sub(rng.below(5) as u64);
                promised.forgotten = promised.forgotten.max(number);
                drop(log.forget(number));
            }
        }
        promised.durable = promised.durable.max(log.synced());
    }
}

/// What is found must be what was accepted, from what may be forgotten up to `to` at least, without a gap.
fn judge(found: &Records, promised: &Promised, to: u64, what: &str) {
    for (number, payload) in found {
        let accepted = promised.accepted.get(number);
        assert!(accepted.is_none_or(|accepted| accepted == payload), "{what}: record {number} has other bytes");
    }
    for number in promised.forgotten + 1..=to {
        assert!(found.contains_key(&number), "{what}: record {number} of {to} is lost");
    }
    let numbers: Vec<u64> = found.keys().copied().collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{what}: a gap in {numbers:?}");
}

fn last(promised: &Promised) -> u64 {
    promised.accepted.keys().next_back().copied().unwrap_or_default()
}

/// A calm start after a crash finds everything promised and can write; that too is promised then.
fn restart(sim: &SimDisk, promised: &mut Promised, to: u64, what: &str) {
    let (mut log, found, recovery) = open(&sim.disk()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(recovery.lost, 0, "{what}");
    judge(&found, promised, to, what);
    log.skip_to(promised.forgotten);
    let number = log.append(b"next").unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(number > to, "{what}: number {number} is used again");
    promised.durable = log.sync().unwrap_or_else(|error| panic!("{what}: {error}"));
    promised.accepted = found;
    promised.accepted.insert(number, b"next".to_vec());
}

/// A start after a kill, and one after a power cut that follows it: what the first start saw must be there.
fn restart_twice(sim: &SimDisk, mut promised: Promised, cut: u64, what: &str) {
    let accepted = last(&promised);
    restart(sim, &mut promised, accepted, what);
    let (_, _, again) = open(&sim.fork().disk()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(again.torn_bytes, 0, "{what}: a torn end is cut once");
    sim.power_cut(cut);
    let durable = promised.durable;
    restart(sim, &mut promised, durable, &format!("{what}, then power cut"));
}

#[test]
fn records_come_back_in_order_across_restarts() {
    let sim = SimDisk::new(1);
    let mut promised = Promised::default();
    for seed in 0..20 {
        work(&sim.disk(), seed, 50, &mut promised);
        let to = last(&promised);
        let (_, found, recovery) = open(&sim.disk()).expect("opens");
        assert_eq!((recovery.torn_bytes, recovery.lost), (0, 0));
        judge(&found, &promised, to, &format!("life {seed}"));
    }
    assert!(last(&promised) > 300);
}

#[test]
fn a_crash_at_any_operation_loses_nothing_promised() {
    for seed in 0..40 {
        for at in 0.. {
            let sim = SimDisk::new(seed);
            sim.inject(Fault::Crash(at));
            let mut promised = Promised::default();
            work(&sim.disk(), seed, 30, &mut promised);
            let crashed = sim.is_crashed();
            let what = format!("seed {seed}, crash at operation {at}");
            let killed = sim.fork();
            killed.kill();
            restart_twice(&killed, promised.clone(), seed, &format!("{what}, killed"));
            for cut in [seed, seed + 1000] {
                let dark = sim.fork();
                dark.power_cut(cut);
                let mut promised = promised.clone();
                let durable = promised.durable;
                restart(&dark, &mut promised, durable, &format!("{what}, power cut {cut}"));
                // A second cut at once must not undo what the first start found.
                dark.power_cut(cut + 1);
                let durable = promised.durable;
                restart(&dark, &mut promised, durable, &format!("{what}, second power cut"));
            }
            if !crashed {
                break;
            }
        }
    }
}

#[test]
fn a_single_fault_anywhere_loses_nothing_promised() {
    for seed in 0..25 {
        for at in 0..70 {
            for fault in [Fault::Io as fn(u64) -> Fault, Fault::Torn, Fault::Sync, Fault::Short, Fault::Full] {
                let sim = SimDisk::new(seed);
                let fault = fault(if matches!(fault(0), Fault::Full(_)) { at * 40 } else { at });
                sim.inject(fault);
                let mut promised = Promised::default();
                work(&sim.disk(), seed, 30, &mut promised);
                sim.heal();
                let what = format!("seed {seed}, {fault:?}");
                let killed = sim.fork();
                killed.kill();
                restart_twice(&killed, promised.clone(), seed, &format!("{what}, killed"));
                sim.power_cut(seed);
                let durable = promised.durable;
                restart(&sim, &mut promised, durable, &format!("{what}, power cut"));
            }
        }
    }
}

#[test]
fn damage_is_counted_set_aside_and_passed_over() {
    let sim = SimDisk::new(7);
    let disk = sim.disk();
    let (mut log, _, _) = open(&disk).expect("opens");
    for i in 0..20_u8 {
        log.append(&[i; 100]).expect("accepted");
    }
    log.sync().expect("durable");
    drop(log);
    // 8 bytes of magic, then frames of 116: the second record of the second segment.
    assert!(sim.flip_bit("wal/00000002.log", (8 + 116 + 50) * 8));
    let (_, found, recovery) = open(&disk).expect("opens");
    assert_eq!((recovery.records, recovery.lost), (18, 2));
    assert_eq!(recovery.torn_bytes, 232);
    assert!(!found.contains_key(&5) && found.contains_key(&4) && found.contains_key(&7), "{:?}", found.keys());
    assert_eq!(disk.list("wal/aside").expect("kept"), ["00000002.log-124"]);
}

#[test]
fn the_example_of_the_format_page_is_what_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::open(folder.path()).expect("a disk");
    let (mut log, _, _) = open(&disk).expect("opens");
    log.append(b"hello").expect("accepted");
    log.append(b"").expect("accepted");
    let bytes: Vec<String> = disk.read("wal/00000001.log").expect("read").iter().map(|b| format!("{b:02x}")).collect();
    let page = include_str!("../../../docs/format/log.md");
    let example = page.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example: Vec<&str> =
        example.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace()).collect();
    assert_eq!(bytes, example);
}
