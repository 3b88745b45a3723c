//! Mounted file systems: `/proc/1/mountinfo` and `statfs(2)`.
//!
//! A call on a dead network mount can hang for ever. Mounts that answer at once are asked directly, see
//! [`Mount::prompt`]; the calls for others run on a helper thread, and when nothing moves another helper goes on with
//! the next mount. A mount that does not answer in time is left behind with its helper and reported as
//! `mountpoint timeout` without being asked again until the old call returns. So a dead mount costs one thread, and a
//! scrape waits for all dead mounts together, not for one after the other.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, Stuck};
use crate::mounts::{Mount, Mounts};
use cli::Flag;
use nix::sys::statvfs::FsFlags;
use runtime::{Clock, Monotonic};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(MOUNTS_EXCLUDE, MOUNTS_EXCLUDED, "Pattern of the mount points to leave out"),
        Flag::string(MOUNTS_INCLUDE, "", "Pattern of the mount points to show, instead of leaving some out")
            .without_default(),
        Flag::string(TYPES_EXCLUDE, TYPES_EXCLUDED, "Pattern of the file system types to leave out"),
        Flag::string(TYPES_INCLUDE, "", "Pattern of the file system types to show, instead of leaving some out")
            .without_default(),
        Flag::duration_go(TIMEOUT, "5s", "How long a mount may take to answer").hidden(),
        Flag::int("collector.filesystem.stat-workers", 4, "Accepted; threads are added as needed").hidden(),
    ]
}

struct Filesystem {
    mounts: Filter,
    types: Filter,
    timeout: Duration,
    table: Mutex<Mounts>,
    dead: Dead,
    waiting: Waiting,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Filesystem {
        mounts: settings.filter(MOUNTS_INCLUDE, MOUNTS_EXCLUDE)?,
        types: settings.filter(TYPES_INCLUDE, TYPES_EXCLUDE)?,
        timeout: settings.parsed.duration(TIMEOUT),
        table: Mutex::default(),
        dead: Dead::default(),
        waiting: Waiting::default(),
    }))
}

/// What `statfs` said.
#[derive(Debug, Clone, Copy)]
struct Said {
    /// Size, free, avail, files, files free.
    values: [f64; 5],
    read_only: bool,
}

type Figures = Result<Said, String>;

type Stat = fn(&std::path::Path) -> Figures;

impl Gather for Filesystem {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let mut table = locked(&self.table);
        table.refresh(host, |mount| self.mounts.ignores(&mount.point) || self.types.ignores(&mount.kind))?;
        let mounts = table.mounts();
        let question =
            |mount: &Mount| Question { point: mount.point.clone(), kind: mount.kind.clone(), path: mount.path.clone() };
        let work: Vec<Question> = mounts.iter().filter(|mount| !mount.prompt).map(question).collect();
        let mut asked = Vec::new();
        if !work.is_empty() {
            let round = Round {
                work,
                stat: statfs,
                state: Mutex::default(),
                changed: Condvar::new(),
                dead: self.dead.clone(),
                waiting: self.waiting.clone(),
                stuck: host.stuck().clone(),
            };
            asked = ask(round, host.clock(), self.timeout);
        }
        let mut asked = asked.into_iter();
        for mount in mounts {
            let figures = if mount.prompt { Some(statfs(&mount.path)) } else { asked.next() };
            show(mount, &figures.unwrap_or_else(late), table.is_kept(), out);
        }
        Ok(())
    }
}

/// Mount points that were given up, with their file system types; a call for each is still out.
type Dead = Arc<Mutex<BTreeMap<String, String>>>;

/// The helper that has nothing to do.
type Waiting = Arc<Mutex<Option<SyncSender<Arc<Round>>>>>;

/// How long nothing may move before another thread helps.
const STALL: Duration = Duration::from_millis(100);
/// Calls that may be out for dead mounts. Beyond it, other mounts of their types are not tried.
const DEAD_MAX: usize = 16;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn late() -> Figures {
    Err("mountpoint timeout".to_owned())
}

/// What is to be asked, and the answers so far.
struct Round {
    work: Vec<Question>,
    stat: Stat,
    state: Mutex<State>,
    changed: Condvar,
    dead: Dead,
    waiting: Waiting,
    stuck: Arc<Stuck>,
}

#[derive(Debug, Clone)]
struct Question {
    point: String,
    kind: String,
    path: PathBuf,
}

#[derive(Default)]
struct State {
    next: usize,
    begun: Vec<Option<Monotonic>>,
    answers: Vec<Option<Figures>>,
    open: usize,
    threads: usize,
}

/// Asks every mount point in order. Threads are added while nothing moves; a mount that does not answer within
/// `timeout` is given up together with its thread.
fn ask(round: Round, clock: &Clock, timeout: Duration) -> Vec<Figures> {
    let round = Arc::new(round);
    let mut state = locked(&round.state);
    state.prepare(&round);
    let (mut seen, mut moved) = (state.open, clock.now());
    while state.open > 0 {
        let now = clock.now();
        state.give_up(&round, now, timeout);
        if state.open != seen {
            (seen, moved) = (state.open, now);
        }
        let stalled = now - moved >= STALL && state.threads < DEAD_MAX;
        if state.next < round.work.len() && (state.threads == 0 || stalled) {
            moved = now;
            if !start(&round, clock) && state.threads == 0 {
                break;
            }
            state.threads += 1;
        }
        if state.open == 0 {
            break;
        }
        state = round.changed.wait_timeout(state, STALL).unwrap_or_else(PoisonError::into_inner).0;
    }
    let none = || Err("no thread for the call".to_owned());
    state.answers.iter().map(|answer| answer.clone().unwrap_or_else(none)).collect()
}

impl State {
    /// Answers for the mounts that are known to be dead, so that they are not asked again.
    fn prepare(&mut self, round: &Round) {
        let dead = locked(&round.dead);
        let full = dead.len() >= DEAD_MAX;
        let hopeless = |question: &Question| {
            dead.contains_key(&question.point) || (full && dead.values().any(|kind| *kind == question.kind))
        };
        self.answers = round.work.iter().map(|question| hopeless(question).then(late)).collect();
        self.begun = vec![None; round.work.len()];
        self.open = self.answers.iter().filter(|answer| answer.is_none()).count();
    }

    /// Gives up the calls that have been out for too long, together with their threads.
    fn give_up(&mut self, round: &Round, now: Monotonic, timeout: Duration) {
        for (index, question) in round.work.iter().enumerate() {
            let old = self.begun[index].is_some_and(|begun| now - begun >= timeout);
            if !old || self.answers[index].is_some() {
                continue;
            }
            locked(&round.dead).insert(question.point.clone(), question.kind.clone());
            round.stuck.add();
            self.answers[index] = Some(late());
            self.open -= 1;
            self.threads = self.threads.saturating_sub(1);
        }
    }

    /// The next question nobody has taken.
    fn take(&mut self) -> Option<usize> {
        while self.next < self.answers.len() {
            let index = self.next;
            self.next += 1;
            if self.answers[index].is_none() {
                return Some(index);
            }
        }
        None
    }
}

/// Gives the round to the helper that waits for one, or to a new one.
fn start(round: &Arc<Round>, clock: &Clock) -> bool {
    let waiting = locked(&round.waiting).take();
    if waiting.is_some_and(|helper| helper.send(round.clone()).is_ok()) {
        return true;
    }
    let (round, clock) = (round.clone(), clock.clone());
    std::thread::Builder::new().name("statfs".to_owned()).spawn(move || serve(round, &clock)).is_ok()
}

/// A helper's life: one round after the other, until it is given up or another helper waits already.
fn serve(mut round: Arc<Round>, clock: &Clock) {
    while help(&round, clock) {
        let (sender, receiver) = sync_channel(1);
        {
            let mut waiting = locked(&round.waiting);
            if waiting.is_some() {
                return;
            }
            *waiting = Some(sender);
        }
        // Without the round, so that the end of the collector ends the wait.
        drop(round);
        match receiver.recv() {
            Ok(next) => round = next,
            Err(_) => return,
        }
    }
}

/// Takes questions until there are none; false when this helper was given up meanwhile.
fn help(round: &Round, clock: &Clock) -> bool {
    loop {
        let mut state = locked(&round.state);
        let Some(index) = state.take() else {
            state.threads = state.threads.saturating_sub(1);
            return true;
        };
        state.begun[index] = Some(clock.now());
        drop(state);
        let question = &round.work[index];
        let figures = (round.stat)(&question.path);
        let mut state = locked(&round.state);
        if state.answers[index].is_some() {
            // This mount was given up, and now it answers again.
            locked(&round.dead).remove(&question.point);
            round.stuck.remove();
            return false;
        }
        state.answers[index] = Some(figures);
        state.open -= 1;
        if state.open == 0 {
            round.changed.notify_one();
        }
    }
}

fn statfs(path: &std::path::Path) -> Figures {
    let answer = nix::sys::statfs::statfs(path).map_err(|errno| errno.desc().to_lowercase())?;
    let block = answer.block_size() as f64;
    let values = [
        answer.blocks() as f64 * block,
        answer.blocks_free() as f64 * block,
        answer.blocks_available() as f64 * block,
        answer.files() as f64,
        answer.files_free() as f64,
    ];
    Ok(Said { values, read_only: answer.flags().contains(FsFlags::ST_RDONLY) })
}

const FIGURES: [(&str, &str); 5] = [
    ("node_filesystem_size_bytes", "Size of a file system."),
    ("node_filesystem_free_bytes", "Free space of a file system."),
    ("node_filesystem_avail_bytes", "Space that ordinary users can still fill."),
    ("node_filesystem_files", "File nodes of a file system."),
    ("node_filesystem_files_free", "Free file nodes of a file system."),
];

/// `kept` says that the list of mounts may be some time old: a file system that turns itself read-only raises no event.
fn show(mount: &Mount, figures: &Figures, kept: bool, out: &mut Families) {
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
    let read_only = mount.read_only || (kept && figures.as_ref().is_ok_and(|said| said.read_only));
    set("node_filesystem_readonly", "1 when a file system is read-only.", f64::from(u8::from(read_only)));
    let Ok(said) = figures else { return };
    for ((name, help), value) in FIGURES.iter().zip(said.values) {
        set(name, help, value);
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

    fn hangs(path: &std::path::Path) -> Figures {
        if path.to_string_lossy().contains("dead") {
            loop {
                std::thread::park();
            }
        }
        Ok(Said { values: [1.0; 5], read_only: false })
    }

    fn round(points: &[&str], dead: &Dead, stuck: &Arc<Stuck>) -> Round {
        let question =
            |point: &&str| Question { point: (*point).to_owned(), kind: "nfs".to_owned(), path: PathBuf::from(point) };
        Round {
            work: points.iter().map(question).collect(),
            stat: hangs,
            state: Mutex::default(),
            changed: Condvar::new(),
            dead: dead.clone(),
            waiting: Waiting::default(),
            stuck: stuck.clone(),
        }
    }

    #[test]
    fn dead_mounts_cost_only_themselves() {
        let (dead, stuck, clock) = (Dead::default(), Arc::<Stuck>::default(), Clock::system());
        let points = ["/a", "/dead1", "/b", "/dead2", "/c"];
        // Later rounds ask nothing that is known to hang, so that their patience does not matter.
        for timeout in [Duration::from_millis(400), Duration::from_secs(3600)] {
            let answers = ask(round(&points, &dead, &stuck), &clock, timeout);
            let good: Vec<bool> = answers.iter().map(Result::is_ok).collect();
            assert_eq!(good, [true, false, true, false, true]);
            assert_eq!((locked(&dead).len(), stuck.count()), (2, 2));
        }
    }

    #[test]
    fn a_type_with_too_many_dead_mounts_is_not_tried() {
        let (dead, stuck) = (Dead::default(), Arc::<Stuck>::default());
        for index in 0..DEAD_MAX {
            locked(&dead).insert(format!("/gone{index}"), "nfs".to_owned());
        }
        let answers = ask(round(&["/a", "/dead"], &dead, &stuck), &Clock::system(), Duration::from_secs(3600));
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert_eq!(stuck.count(), 0);
    }
}
