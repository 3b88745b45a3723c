//! Mounted file systems: `/proc/1/mountinfo` and `statfs(2)`.
//!
//! A call on a dead network mount can hang for ever. The calls run on a helper thread; when one does not answer in time
//! the helper is left behind with that mount, a new one takes the rest, and the mount is reported as
//! `mountpoint timeout` without being asked again until the old call returns. So a dead mount costs one thread.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(super) const COLLECTOR: Collector = Collector {
    name: "filesystem",
    enabled: true,
    flags,
    deprecated: &[
        ("collector.filesystem.ignored-mount-points", MOUNTS_EXCLUDE),
        ("collector.filesystem.ignored-fs-types", TYPES_EXCLUDE),
    ],
    build,
};

const MOUNTS_EXCLUDE: &str = "collector.filesystem.mount-points-exclude";
const MOUNTS_INCLUDE: &str = "collector.filesystem.mount-points-include";
const TYPES_EXCLUDE: &str = "collector.filesystem.fs-types-exclude";
const TYPES_INCLUDE: &str = "collector.filesystem.fs-types-include";
const TIMEOUT: &str = "collector.filesystem.mount-timeout";
const MOUNTS_EXCLUDED: &str =
    "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
const TYPES_EXCLUDED: &str = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs\
|iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$";
const MOUNTS_MAX: usize = 65_536;

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(MOUNTS_EXCLUDE, MOUNTS_EXCLUDED, "Pattern of the mount points to leave out"),
        Flag::string(MOUNTS_INCLUDE, "", "Pattern of the mount points to show, instead of leaving some out"),
        Flag::string(TYPES_EXCLUDE, TYPES_EXCLUDED, "Pattern of the file system types to leave out"),
        Flag::string(TYPES_INCLUDE, "", "Pattern of the file system types to show, instead of leaving some out"),
        Flag::duration_go(TIMEOUT, "5s", "How long a mount may take to answer").hidden(),
        Flag::int("collector.filesystem.stat-workers", 4, "Accepted for compatibility").hidden(),
    ]
}

struct Filesystem {
    mounts: Filter,
    types: Filter,
    timeout: Duration,
    stuck: Stuck,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Filesystem {
        mounts: settings.filter(MOUNTS_INCLUDE, MOUNTS_EXCLUDE)?,
        types: settings.filter(TYPES_INCLUDE, TYPES_EXCLUDE)?,
        timeout: settings.parsed.duration(TIMEOUT),
        stuck: Arc::new(Mutex::new(HashSet::new())),
    }))
}

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Mount {
    device: String,
    point: String,
    kind: String,
    major: String,
    minor: String,
    read_only: bool,
}

/// What `statfs` said: size, free, avail, files, files free.
type Figures = Result<[f64; 5], String>;

type Stat = fn(&std::path::Path) -> Figures;

impl Gather for Filesystem {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let text = match host.read_proc("1/mountinfo") {
            Err(failure) if failure.is_absent() => host.read_proc("self/mountinfo")?,
            other => other?,
        };
        let mut seen = HashSet::new();
        let mut mounts: Vec<Mount> = Vec::new();
        for line in text.lines().take(MOUNTS_MAX) {
            let mount = parse(host, line).ok_or_else(|| Failure::form("mountinfo", format!("line {line:?}")))?;
            if self.mounts.ignores(&mount.point) || self.types.ignores(&mount.kind) {
                continue;
            }
            if seen.insert((mount.device.clone(), mount.point.clone(), mount.kind.clone())) {
                mounts.push(mount);
            }
        }
        let work: Vec<(String, PathBuf)> =
            mounts.iter().map(|mount| (mount.point.clone(), host.root(&mount.point))).collect();
        let figures = ask(&work, statfs, self.timeout, &self.stuck);
        for (mount, figures) in mounts.iter().zip(figures) {
            show(mount, &figures, out);
        }
        Ok(())
    }
}

/// A helper thread's answers and how many are still to come.
struct Helper {
    receiver: Receiver<Figures>,
    left: usize,
}

type Stuck = Arc<Mutex<HashSet<String>>>;

fn locked(stuck: &Stuck) -> MutexGuard<'_, HashSet<String>> {
    stuck.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks every mount point, in order, waiting at most `timeout` for each.
fn ask(work: &[(String, PathBuf)], stat: Stat, timeout: Duration, stuck: &Stuck) -> Vec<Figures> {
    let late = || Err("mountpoint timeout".to_owned());
    let mut answers: Vec<Figures> = Vec::with_capacity(work.len());
    let mut helper: Option<Helper> = None;
    for (position, (point, _)) in work.iter().enumerate() {
        let mut current = match helper.take().filter(|helper| helper.left > 0) {
            Some(helper) => helper,
            None if locked(stuck).contains(point) => {
                answers.push(late());
                continue;
            }
            None => {
                let known = locked(stuck).clone();
                let rest = work[position..].iter().take_while(|(point, _)| !known.contains(point)).cloned().collect();
                match start(rest, stat, stuck) {
                    Some(helper) => helper,
                    None => {
                        answers.push(Err("no thread for the call".to_owned()));
                        continue;
                    }
                }
            }
        };
        current.left = current.left.saturating_sub(1);
        if let Ok(figures) = current.receiver.recv_timeout(timeout) {
            answers.push(figures);
            helper = Some(current);
            continue;
        }
        // Under the lock, so that an answer that comes right now is either taken here or clears the mark itself.
        let mut marks = locked(stuck);
        match current.receiver.try_recv() {
            Ok(figures) => {
                answers.push(figures);
                helper = Some(current);
            }
            Err(_) => {
                marks.insert(point.clone());
                drop(current);
                answers.push(late());
            }
        }
    }
    answers
}

fn start(work: Vec<(String, PathBuf)>, stat: Stat, stuck: &Stuck) -> Option<Helper> {
    let (sender, receiver) = channel();
    let stuck = stuck.clone();
    let left = work.len();
    let run = move || {
        for (point, path) in work {
            let figures = stat(&path);
            let mut marks = locked(&stuck);
            if sender.send(figures).is_err() {
                // Nobody waits any more: this mount was given up, and now it answers again.
                marks.remove(&point);
                return;
            }
        }
    };
    std::thread::Builder::new().name("statfs".to_owned()).spawn(run).ok().map(|_| Helper { receiver, left })
}

fn statfs(path: &std::path::Path) -> Figures {
    let answer = nix::sys::statfs::statfs(path).map_err(|errno| errno.desc().to_lowercase())?;
    let block = answer.block_size() as f64;
    Ok([
        answer.blocks() as f64 * block,
        answer.blocks_free() as f64 * block,
        answer.blocks_available() as f64 * block,
        answer.files() as f64,
        answer.files_free() as f64,
    ])
}

const FIGURES: [(&str, &str); 5] = [
    ("node_filesystem_size_bytes", "Size of a file system."),
    ("node_filesystem_free_bytes", "Free space of a file system."),
    ("node_filesystem_avail_bytes", "Space that ordinary users can still fill."),
    ("node_filesystem_files", "File nodes of a file system."),
    ("node_filesystem_files_free", "Free file nodes of a file system."),
];

fn show(mount: &Mount, figures: &Figures, out: &mut Families) {
    let error = figures.as_ref().err().map_or("", String::as_str);
    let labels = [
        ("device", mount.device.as_str()),
        ("mountpoint", mount.point.as_str()),
        ("fstype", mount.kind.as_str()),
        ("device_error", error),
    ];
    let mut set = |name: &str, help: &str, value: f64| out.sample(Kind::Gauge, name, help, &labels, value);
    let failed = f64::from(u8::from(figures.is_err()));
    set("node_filesystem_device_error", "1 when a file system could not be asked.", failed);
    set("node_filesystem_readonly", "1 when a file system is read-only.", f64::from(u8::from(mount.read_only)));
    let Ok(values) = figures else { return };
    for ((name, help), value) in FIGURES.iter().zip(values) {
        set(name, help, *value);
    }
    set("node_filesystem_purgeable_bytes", "Space the system could free; always 0 on Linux.", 0.0);
    let labels = [
        ("device", mount.device.as_str()),
        ("major", mount.major.as_str()),
        ("minor", mount.minor.as_str()),
        ("mountpoint", mount.point.as_str()),
    ];
    out.sample(Kind::Gauge, "node_filesystem_mount_info", "Device numbers of a mount.", &labels, 1.0);
}

fn parse(host: &Host, line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let mut back = back.split(' ');
    let (kind, device) = (back.next()?, back.next()?);
    let super_options = back.next().unwrap_or("");
    let (major, minor) = front.get(2)?.split_once(':')?;
    let point = front.get(4)?.replace("\\040", " ").replace("\\011", "\t");
    let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
    let read_only = has(front.get(5)?, "ro") || has(super_options, "ro") || has(super_options, "emergency_ro");
    Some(Mount {
        device: device.to_owned(),
        point: host.strip_root(&point).to_owned(),
        kind: kind.to_owned(),
        major: major.to_owned(),
        minor: minor.to_owned(),
        read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    const LINE: &str = "29 1 259:3 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p3 rw\n\
                        30 29 0:5 / /dev rw - devtmpfs udev rw\n\
                        31 29 8:1 / /my\\040disk ro,noatime - xfs /dev/sda1 rw\n\
                        32 29 8:2 / /gone rw - xfs /dev/sda2 rw,emergency_ro\n";

    fn tree() -> Tree {
        Tree::new().file("proc/1/mountinfo", LINE).file("root/my disk/x", "")
    }

    #[test]
    fn sizes_and_errors() {
        let samples = tree().samples("filesystem", &[]);
        let at = "device=\"/dev/nvme0n1p3\",device_error=\"\",fstype=\"ext4\",mountpoint=\"/\"";
        assert!(samples.contains(&format!("node_filesystem_device_error{{{at}}} 0\n")), "{samples}");
        assert!(samples.contains(&format!("node_filesystem_size_bytes{{{at}}} ")), "{samples}");
        let gone =
            "device=\"/dev/sda2\",device_error=\"no such file or directory\",fstype=\"xfs\",mountpoint=\"/gone\"";
        assert!(samples.contains(&format!("node_filesystem_device_error{{{gone}}} 1\n")), "{samples}");
        assert!(samples.contains(&format!("node_filesystem_readonly{{{gone}}} 1\n")), "{samples}");
        assert!(samples.contains("mountpoint=\"/my disk\"} 1\n"), "{samples}");
        assert!(!samples.contains("devtmpfs"), "{samples}");
    }

    #[test]
    fn without_process_one_the_own_list_is_read() {
        let tree = Tree::new().file("proc/self/mountinfo", LINE);
        assert!(tree.samples("filesystem", &[]).contains("nvme0n1p3"));
    }

    #[test]
    fn old_flag_names_filter() {
        let samples = tree().samples("filesystem", &["--collector.filesystem.ignored-fs-types=^(ext4|devtmpfs)$"]);
        assert!(!samples.contains("ext4") && samples.contains("xfs"), "{samples}");
        let samples = tree().samples("filesystem", &["--collector.filesystem.mount-points-include=^/dev$"]);
        assert_eq!(samples, "", "types still filter");
        let both = ["--collector.filesystem.ignored-fs-types=a", "--collector.filesystem.fs-types-exclude=b"];
        assert!(tree().refusal(&both).contains("mutually exclusive"));
        let both = ["--collector.filesystem.fs-types-include=a", "--collector.filesystem.fs-types-exclude=b"];
        assert!(tree().refusal(&both).contains("mutually exclusive"));
    }

    #[test]
    fn a_dead_mount_costs_only_itself() {
        fn hangs(path: &std::path::Path) -> Figures {
            if path.ends_with("dead") {
                std::thread::park();
            }
            Ok([1.0; 5])
        }
        let stuck = Arc::new(Mutex::new(HashSet::new()));
        let work: Vec<(String, PathBuf)> =
            ["/a", "/dead", "/b"].iter().map(|point| ((*point).to_owned(), PathBuf::from(point))).collect();
        for round in 0..2 {
            let timeout = if round == 0 { Duration::from_millis(200) } else { Duration::from_secs(20) };
            let answers = ask(&work, hangs, timeout, &stuck);
            let good: Vec<bool> = answers.iter().map(Result::is_ok).collect();
            assert_eq!(good, [true, false, true]);
            assert!(stuck.lock().expect("set").contains("/dead"));
        }
    }
}
