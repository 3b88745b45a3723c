//! What every disk must do, asked of the machine's and of the simulated one; and what publishing survives.

use std::io::ErrorKind;

use runtime::{Disk, Open};

use crate::{Fault, Rng, SimDisk};

fn contract(disk: &Disk) {
    let kind = |done: std::io::Result<()>| done.map_err(|error| error.kind());
    assert_eq!(disk.read("none").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open_file("none", Open::Write).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(kind(disk.publish("no/folder", b"x")), Err(ErrorKind::NotFound));
    assert_eq!(kind(disk.remove("none")), Err(ErrorKind::NotFound));
    assert_eq!(kind(disk.rename("none", "other")), Err(ErrorKind::NotFound));
    assert_eq!(disk.open_file("../out", Open::Create).unwrap_err().kind(), ErrorKind::InvalidInput);

    disk.create_dir("a/b").unwrap();
    disk.create_dir("a/b").unwrap();
    disk.publish("a/b/one", b"1").unwrap();
    disk.publish("a/b/one", b"uno").unwrap();
    assert_eq!(disk.read("a/b/one").unwrap(), b"uno");
    assert_eq!(disk.list("a/b").unwrap(), ["one"], "no temporary file stays");
    assert_eq!(disk.list("").unwrap(), ["a"]);
    assert_eq!(kind(disk.remove("a")), Err(ErrorKind::DirectoryNotEmpty));
    assert_eq!(disk.open_file("a", Open::Read).unwrap_err().kind(), ErrorKind::IsADirectory);

    let file = disk.open_file("log", Open::Create).unwrap();
    file.write_at(0, b"hello").unwrap();
    file.write_at(1000, b"world").unwrap();
    assert_eq!(file.len().unwrap(), 1005);
    let mut gap = [9; 10];
    assert_eq!(file.read_at(995, &mut gap).unwrap(), 10);
    assert_eq!(&gap, b"\0\0\0\0\0world");
    assert_eq!(file.read_at(2000, &mut gap).unwrap(), 0);
    file.set_len(3).unwrap();
    file.set_len(5).unwrap();
    file.sync().unwrap();
    file.sync_and_forget().unwrap();
    assert_eq!(disk.read("log").unwrap(), b"hel\0\0");
    assert_eq!(disk.open_file("log", Open::Write).unwrap().len().unwrap(), 5);
    assert!(disk.open_file("log", Open::Read).unwrap().write_at(0, b"x").is_err());

    // A handle follows its file, not its name; so does a mapping.
    disk.rename("log", "a/log").unwrap();
    file.write_at(0, b"H").unwrap();
    let sealed = disk.open_file("a/log", Open::Read).unwrap();
    let mapped = sealed.map(5).unwrap();
    assert!(sealed.map(6).is_err());
    disk.publish("a/log", b"new").unwrap();
    assert_eq!((&*mapped, &*disk.read("a/log").unwrap()), (&b"Hel\0\0"[..], &b"new"[..]));

    disk.rename("a", "z").unwrap();
    assert_eq!(disk.read("z/b/one").unwrap(), b"uno");
    disk.remove("z/b/one").unwrap();
    disk.remove("z/b").unwrap();
    disk.sync_dir("z").unwrap();
    assert_eq!(disk.list("z").unwrap(), ["log"]);
    assert_eq!(disk.list("z/b").unwrap_err().kind(), ErrorKind::NotFound);

    let held = disk.lock("lock").unwrap();
    assert_eq!(disk.lock("lock").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
    drop(disk.lock("lock").unwrap());
    assert!(disk.space().unwrap().available > 0);
}

#[test]
fn the_disk_of_the_machine_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&Disk::open(dir.path()).unwrap());
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    contract(&SimDisk::new(1).disk());
}

/// Publishes over an old file with a crash at operation `at`; whether the crash came before the end.
fn crash_while_publishing(seed: u64, at: u64, old: &[u8], new: &[u8]) -> (SimDisk, bool) {
    let sim = SimDisk::new(seed);
    sim.disk().publish("state", old).unwrap();
    sim.inject(Fault::Crash(sim.operations() + at));
    let done = sim.disk().publish("state", new);
    assert_eq!(done.is_err(), sim.is_crashed());
    let crashed = sim.is_crashed();
    (sim, crashed)
}

#[test]
fn publish_leaves_old_or_new_after_a_crash_at_any_operation() {
    let (mut olds, mut news) = (0, 0);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let (old_len, new_len) = (rng.below(3000), rng.below(3000));
        let (old, new) = (rng.bytes(old_len), rng.bytes(new_len));
        for at in 0.. {
            let (sim, crashed) = crash_while_publishing(seed, at, &old, &new);
            let killed = sim.fork();
            killed.kill();
            for cut in [None, Some(seed), Some(seed + 1000), Some(seed + 2000)] {
                let end = if cut.is_some() { sim.fork() } else { killed.fork() };
                if let Some(seed) = cut {
                    end.power_cut(seed);
                }
                let found = end.disk().read("state").unwrap();
                assert!(found == old || found == new, "seed {seed}, operation {at}, cut {cut:?}");
                assert!(crashed || found == new, "published and lost: seed {seed}, cut {cut:?}");
                olds += u32::from(found == old);
                news += u32::from(found == new);
                end.disk().publish("state", b"next").unwrap();
                assert_eq!(end.disk().read("state").unwrap(), b"next");
            }
            if !crashed {
                break;
            }
        }
    }
    assert!(olds > 500 && news > 500, "both outcomes are met: {olds}, {news}");
}

#[test]
fn publish_leaves_the_old_content_after_any_single_fault() {
    for seed in 0..50 {
        for at in 0..8 {
            for fault in [Fault::Io as fn(u64) -> Fault, Fault::Torn, Fault::Sync, Fault::Short, Fault::Full] {
                let sim = SimDisk::new(seed);
                sim.disk().publish("state", b"old content").unwrap();
                let fault = match fault(at) {
                    Fault::Full(room) => Fault::Full(room),
                    _ => fault(sim.operations() + at),
                };
                sim.inject(fault);
                let done = sim.disk().publish("state", b"new content");
                sim.heal();
                sim.power_cut(seed);
                let found = sim.disk().read("state").unwrap();
                let new = found == b"new content";
                assert!(new || found == b"old content", "seed {seed}, {fault:?}");
                assert!(new || done.is_err(), "lied: seed {seed}, {fault:?}");
            }
        }
    }
}

/// The simulator is strict enough to catch what real file systems mostly forgive.
#[test]
fn careless_publishing_is_caught() {
    let careless = |skip_sync: bool, skip_dir: bool| {
        (0..100).any(|seed| {
            let sim = SimDisk::new(seed);
            let disk = sim.disk();
            disk.publish("state", &[1; 2000]).unwrap();
            let file = disk.open_file("t", Open::Create).unwrap();
            file.write_at(0, &[2; 2000]).unwrap();
            if !skip_sync {
                file.sync().unwrap();
            }
            disk.rename("t", "state").unwrap();
            if !skip_dir {
                disk.sync_dir("").unwrap();
            }
            sim.power_cut(seed);
            sim.disk().read("state").unwrap() != [2; 2000]
        })
    };
    assert!(careless(true, false), "no file sync");
    assert!(careless(false, true), "no folder sync");
    assert!(!careless(false, false), "with both nothing is lost");
}

#[test]
fn a_kill_keeps_what_was_seen_and_a_cut_what_was_synced() {
    for seed in 0..50 {
        let sim = SimDisk::new(seed);
        let disk = sim.disk();
        let file = disk.open_file("log", Open::Create).unwrap();
        disk.sync_dir("").unwrap();
        file.write_at(0, &[1; 700]).unwrap();
        file.sync().unwrap();
        file.write_at(700, &[2; 700]).unwrap();
        sim.kill();
        assert!(file.write_at(0, b"x").is_err(), "the handle died with its process");
        assert_eq!(sim.disk().read("log").unwrap().len(), 1400);
        sim.power_cut(seed);
        let found = sim.disk().read("log").unwrap();
        assert!(found.len() >= 700 && found[..700] == [1; 700], "seed {seed}");
    }
}

#[test]
fn after_a_failed_sync_reads_lie_and_the_file_is_dead() {
    let sim = SimDisk::new(7);
    let disk = sim.disk();
    let file = disk.open_file("log", Open::Create).unwrap();
    disk.sync_dir("").unwrap();
    file.write_at(0, b"data").unwrap();
    sim.inject(Fault::Sync(sim.operations()));
    assert!(file.sync().is_err());
    assert!(file.sync().is_err() && file.write_at(4, b"x").is_err(), "no second try");
    assert_eq!(disk.read("log").unwrap(), b"data", "the cache still shows it");
    let again = disk.open_file("log", Open::Write).unwrap();
    again.sync_and_forget().unwrap();
    assert_eq!(disk.read("log").unwrap(), b"", "the disk never had it");
}

#[test]
fn a_full_disk_says_so_and_recovers() {
    let sim = SimDisk::new(3);
    let disk = sim.disk();
    let file = disk.open_file("log", Open::Create).unwrap();
    sim.inject(Fault::Full(6));
    assert_eq!(disk.space().unwrap().available, 6);
    assert_eq!(file.write_at(0, b"12345678").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read("log").unwrap(), b"123456");
    sim.heal();
    file.write_at(0, b"12345678").unwrap();
    assert!(sim.flip_bit("log", 0) && !sim.flip_bit("log", 64) && !sim.flip_bit("none", 0));
    assert_eq!(disk.read("log").unwrap(), b"02345678");
}

#[test]
#[should_panic(expected = "a mapped file must never be cut")]
fn cutting_a_mapped_file_panics() {
    let disk = SimDisk::new(0).disk();
    disk.publish("part", b"sealed").unwrap();
    let file = disk.open_file("part", Open::Write).unwrap();
    let _mapped = file.map(6).unwrap();
    let _ = file.set_len(0);
}
