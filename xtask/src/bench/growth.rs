//! How the cost of a scrape grows with the machine: generated trees with many processors, mounts, network devices, disks
//! and processes, ours and upstream's below the same prefixes.
//!
//! What is said is microseconds of processor time an object: the difference of a large and a small tree, divided by the
//! objects between them. The trees are ordinary files. So what the kernel takes to make them is missing on both sides,
//! and what ours keeps open where files are the kernel's is missing too: ours opens each file at each scrape here.

use super::exporter::{Side, pair};
use crate::processes;
use anyhow::Result;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// One kind of object: how many in the small and the large tree, collectors, further flags, how a tree is made.
struct Kind {
    name: &'static str,
    counts: [usize; 3],
    flags: &'static [&'static str],
    make: fn(&Tree, usize) -> Result<()>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "processor",
        counts: [2, 64, 256],
        flags: &["--collector.cpu", "--collector.cpufreq", "--collector.softnet", "--collector.stat"],
        make: processors,
    },
    Kind { name: "mount", counts: [20, 200, 2000], flags: &["--collector.filesystem"], make: mounts },
    Kind {
        name: "network device",
        counts: [5, 50, 500],
        flags: &["--collector.netclass", "--collector.netdev", "--no-collector.netdev.netlink"],
        make: devices,
    },
    Kind { name: "disk", counts: [2, 20, 200], flags: &["--collector.diskstats"], make: disks },
    Kind { name: "process", counts: [50, 500, 5000], flags: &["--collector.processes"], make: processes_of },
];
/// Scrapes of one tree take about so many seconds on the slower side.
const SECONDS: f64 = 4.0;
const SCRAPES_MIN: usize = 8;
const SCRAPES_MAX: usize = 200;

/// A machine made of files.
struct Tree(tempfolder::Folder);

impl Tree {
    fn file(&self, path: &str, text: &str) -> Result<()> {
        let path = self.0.path().join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::File::create(path)?.write_all(text.as_bytes())?;
        Ok(())
    }

    fn folder(&self, path: &str) -> Result<()> {
        Ok(std::fs::create_dir_all(self.0.path().join(path))?)
    }
}

/// A folder below `target` that goes with its value.
mod tempfolder {
    use anyhow::Result;
    use std::path::{Path, PathBuf};

    pub(super) struct Folder(PathBuf);

    impl Folder {
        pub(super) fn new(name: &str) -> Result<Folder> {
            let path = crate::root().join("target/bench-growth").join(name);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path)?;
            Ok(Folder(path))
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // What is left is removed by the next run.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Measures every kind.
pub(super) fn run(_: &Path, bin: &Path) -> Result<()> {
    let programs = [processes::exporter()?, bin.join("prometheus-node-exporter")];
    for kind in KINDS {
        let mut costs = Vec::new();
        for count in kind.counts {
            let tree = Tree(tempfolder::Folder::new(&kind.name.replace(' ', "-"))?);
            for folder in ["proc", "sys", "root"] {
                tree.folder(folder)?;
            }
            (kind.make)(&tree, count)?;
            let [ours, theirs] = measure(&tree, kind, &programs)?;
            println!("{count} of kind {}: {} a scrape", kind.name, pair(ours * 1e3, theirs * 1e3, "ms"));
            costs.push((count as f64, ours, theirs));
        }
        if let [(few, a, b), .., (many, c, d)] = costs[..] {
            let each = |small: f64, large: f64| (large - small) / (many - few) * 1e6;
            println!("a {}: {}", kind.name, pair(each(a, c), each(b, d), "us"));
        }
    }
    Ok(())
}

/// Seconds of processor time a scrape.
fn measure(tree: &Tree, kind: &Kind, programs: &[std::path::PathBuf; 2]) -> Result<[f64; 2]> {
    let mut flags = vec!["--collector.disable-defaults".to_owned(), "--web.disable-exporter-metrics".to_owned()];
    for (flag, folder) in [("procfs", "proc"), ("sysfs", "sys"), ("rootfs", "root")] {
        flags.push(format!("--path.{flag}={}", tree.0.path().join(folder).display()));
    }
    flags.extend(kind.flags.iter().map(|flag| (*flag).to_owned()));
    let mut sides = [Side::start(&programs[0], &flags)?, Side::start(&programs[1], &flags)?];
    let slow = sides[1].scrape("")?.0 + sides[0].scrape("")?.0;
    let rounds = ((SECONDS / slow) as usize).clamp(SCRAPES_MIN, SCRAPES_MAX);
    let before = [sides[0].running.cpu_seconds()?, sides[1].running.cpu_seconds()?];
    for _ in 0..rounds {
        for side in &mut sides {
            side.scrape("")?;
        }
    }
    let cost =
        |side: &Side, before: f64| Ok::<_, anyhow::Error>((side.running.cpu_seconds()? - before) / rounds as f64);
    Ok([cost(&sides[0], before[0])?, cost(&sides[1], before[1])?])
}

fn processors(tree: &Tree, count: usize) -> Result<()> {
    let mut stat = String::from("cpu  1 2 3 4 5 6 7 8 9 10\n");
    let mut softnet = String::new();
    for cpu in 0..count {
        writeln!(stat, "cpu{cpu} {} 20 3000 400000 50 0 70 8 0 0", 1000 + cpu)?;
        writeln!(softnet, "0000{cpu:04x} 00000000 00000000 0 0 0 0 0 0 00000001 00000000 00000000 {cpu:08x}")?;
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        tree.file(&format!("{folder}/topology/physical_package_id"), "0\n")?;
        tree.file(&format!("{folder}/topology/core_id"), &format!("{cpu}\n"))?;
        tree.file(&format!("{folder}/topology/core_siblings_list"), "0\n")?;
        tree.file(&format!("{folder}/thermal_throttle/core_throttle_count"), "3\n")?;
        tree.file(&format!("{folder}/thermal_throttle/package_throttle_count"), "4\n")?;
        tree.file(&format!("{folder}/online"), "1\n")?;
        for file in ["cpuinfo_max_freq", "cpuinfo_min_freq", "scaling_cur_freq", "scaling_max_freq", "scaling_min_freq"]
        {
            tree.file(&format!("{folder}/cpufreq/{file}"), "2400000\n")?;
        }
        for (file, text) in [
            ("cpuinfo_cur_freq", "2000000\n"),
            ("scaling_governor", "powersave\n"),
            ("scaling_available_governors", "performance powersave\n"),
            ("scaling_driver", "intel_pstate\n"),
            ("related_cpus", "0\n"),
            ("affected_cpus", "0\n"),
            ("scaling_setspeed", "<unsupported>\n"),
            ("cpuinfo_transition_latency", "0\n"),
        ] {
            tree.file(&format!("{folder}/cpufreq/{file}"), text)?;
        }
    }
    tree.file("sys/devices/system/cpu/offline", "\n")?;
    tree.file("sys/devices/system/cpu/isolated", "\n")?;
    stat.push_str(
        "intr 5 1 2\nctxt 7\nbtime 1700000000\nprocesses 9\nprocs_running 1\nprocs_blocked 0\nsoftirq 5 1 1\n",
    );
    tree.file("proc/stat", &stat)?;
    tree.file("proc/net/softnet_stat", &softnet)
}

fn mounts(tree: &Tree, count: usize) -> Result<()> {
    let mut list = String::new();
    for mount in 0..count {
        tree.folder(&format!("root/data/{mount}"))?;
        writeln!(
            list,
            "{} 1 8:{} / /data/{mount} rw,relatime shared:1 - ext4 /dev/disk{mount} rw",
            mount + 30,
            mount % 250
        )?;
    }
    tree.file("proc/1/mountinfo", &list)?;
    tree.file("proc/self/mountinfo", &list)
}

fn devices(tree: &Tree, count: usize) -> Result<()> {
    let mut list =
        String::from("Inter-|   Receive                |  Transmit\n face |bytes    packets|bytes    packets\n");
    for device in 0..count {
        writeln!(list, "veth{device}: 1{device} 2 0 0 0 0 0 0 3{device} 4 0 0 0 0 0 0")?;
        for (file, text) in [
            ("addr_assign_type", "3"),
            ("address", "02:00:00:00:00:01"),
            ("addr_len", "6"),
            ("broadcast", "ff:ff:ff:ff:ff:ff"),
            ("carrier", "1"),
            ("carrier_changes", "2"),
            ("carrier_down_count", "1"),
            ("carrier_up_count", "1"),
            ("dev_id", "0x0"),
            ("dormant", "0"),
            ("duplex", "full"),
            ("flags", "0x1003"),
            ("ifalias", ""),
            ("ifindex", "7"),
            ("iflink", "8"),
            ("link_mode", "0"),
            ("mtu", "1500"),
            ("name_assign_type", "4"),
            ("netdev_group", "0"),
            ("operstate", "up"),
            ("phys_port_id", ""),
            ("phys_port_name", ""),
            ("phys_switch_id", ""),
            ("speed", "10000"),
            ("tx_queue_len", "1000"),
            ("type", "1"),
        ] {
            tree.file(&format!("sys/class/net/veth{device}/{file}"), &format!("{text}\n"))?;
        }
    }
    tree.file("proc/net/dev", &list)
}

/// The files of a disk's queue that upstream reads to show one of them.
const QUEUE: &[&str] = &[
    "add_random",
    "dax",
    "discard_granularity",
    "discard_max_bytes",
    "discard_max_hw_bytes",
    "hw_sector_size",
    "io_poll",
    "io_poll_delay",
    "io_timeout",
    "iostats",
    "logical_block_size",
    "max_discard_segments",
    "max_hw_sectors_kb",
    "max_integrity_segments",
    "max_sectors_kb",
    "max_segment_size",
    "max_segments",
    "minimum_io_size",
    "nomerges",
    "nr_requests",
    "nr_zones",
    "optimal_io_size",
    "physical_block_size",
    "read_ahead_kb",
    "rotational",
    "rq_affinity",
    "wbt_lat_usec",
    "write_same_max_bytes",
    "write_zeroes_max_bytes",
    "chunk_sectors",
];

fn disks(tree: &Tree, count: usize) -> Result<()> {
    let mut list = String::new();
    for disk in 0..count {
        writeln!(list, " {:4} {:7} disk{disk} 1 2 3 4 5 6 7 8 0 10 11 12 13 14 15 16 17", 259, disk)?;
        for file in QUEUE {
            tree.file(&format!("sys/block/disk{disk}/queue/{file}"), "1\n")?;
        }
        for (file, text) in
            [("scheduler", "[none] mq-deadline\n"), ("write_cache", "write back\n"), ("zoned", "none\n")]
        {
            tree.file(&format!("sys/block/disk{disk}/queue/{file}"), text)?;
        }
    }
    tree.file("proc/diskstats", &list)
}

fn processes_of(tree: &Tree, count: usize) -> Result<()> {
    for process in 1..=count {
        let stat = format!(
            "{process} (worker) S 1 1 1 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 1 0 100 1000000 200 18446744073709551615 1 1 0 \
             0 0 0 0 4096 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        tree.file(&format!("proc/{process}/stat"), &stat)?;
        tree.file(&format!("proc/{process}/task/{process}/stat"), &stat)?;
    }
    tree.file("proc/sys/kernel/threads-max", "100000\n")?;
    tree.file("proc/sys/kernel/pid_max", "4194304\n")
}
