//! Warm scrapes ask the allocator for nothing: counted for the collectors that do most of the work, on this machine's
//! own files.

use cli::Outcome;
use exporter::{Collection, Families};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// The hottest collectors, by processor time on an ordinary host.
const HOTTEST: [&str; 12] = [
    "netstat",
    "netclass",
    "netdev",
    "filesystem",
    "vmstat",
    "cpu",
    "meminfo",
    "diskstats",
    "stat",
    "sockstat",
    "softnet",
    "loadavg",
];
/// Runs until buffers have grown and orders are known.
const WARM: usize = 4;
const COUNTED: usize = 50;

/// Allocations of [`COUNTED`] warm runs of the named collectors and of writing down the answer.
fn allocations(names: &[&str]) -> u64 {
    let mut args = vec!["--collector.disable-defaults".to_owned()];
    args.extend(names.iter().map(|name| format!("--collector.{name}")));
    // A mount behind another program is asked by a thread that is handed its questions.
    args.push("--collector.filesystem.fs-types-include=^(btrfs|ext4|tmpfs|xfs)$".to_owned());
    let Outcome::Run(parsed) = exporter::command().parse(args) else { panic!("the flags are known") };
    let collection = Collection::start(&parsed, runtime::Clock::system()).expect("start");
    let chosen = collection.select(&[], &[]).expect("all");
    let (mut families, mut text) = (Families::new(), Vec::with_capacity(1 << 20));
    let mut run = || {
        families.reset();
        text.clear();
        collection.gather(&chosen, &mut families);
        assert_eq!(families.render(&mut text), 0, "no sample is refused");
        assert!(!text.is_empty());
    };
    (0..WARM).for_each(|_| run());
    let before = dhat::HeapStats::get().total_blocks;
    (0..COUNTED).for_each(|_| run());
    dhat::HeapStats::get().total_blocks - before
}

#[test]
fn a_warm_scrape_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let each: Vec<(&str, u64)> = HOTTEST.iter().map(|name| (*name, allocations(&[name]))).collect();
    // A buffer may still grow once when a number gets one digit more.
    let bad: Vec<_> = each.iter().filter(|(_, count)| *count > 1).collect();
    assert!(bad.is_empty(), "allocations of {COUNTED} runs: {bad:?}");
    let all = allocations(&HOTTEST);
    assert!(all <= 1, "{all} allocations of {COUNTED} runs of all");
}
