//! The collectors: one file each, one line each in the list at the end.

use crate::families::Families;
use crate::host::{Failure, Host};
use cli::{Flag, Parsed};
use re2::Regex;

/// A setting that no collector can start with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A pattern that does not compile.
    #[error("--{flag}: {source}")]
    Pattern {
        /// The flag.
        flag: String,
        /// What is wrong with it.
        source: re2::Error,
    },
    /// Two flags that exclude each other.
    #[error("--{first} and --{second} are mutually exclusive, give only one of them")]
    Conflict {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A value that a collector cannot work with.
    #[error("--{flag}: {reason}")]
    Setting {
        /// The flag.
        flag: &'static str,
        /// What is wrong and what to use instead.
        reason: String,
    },
    /// A folder that must exist.
    #[error("--{flag}: {path} is not a directory, point it at a mounted file system")]
    Folder {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: String,
    },
}

/// What one collector is.
#[derive(Debug)]
pub(crate) struct Collector {
    /// As in `--collector.NAME` and in the `collector` label.
    pub(crate) name: &'static str,
    /// On when nothing is said.
    pub(crate) enabled: bool,
    /// Its own flags.
    pub(crate) flags: fn() -> Vec<Flag>,
    /// Old flag names and what replaced them; hidden, accepted with a warning.
    pub(crate) deprecated: &'static [(&'static str, &'static str)],
    /// Makes the instance that lives as long as the process.
    pub(crate) build: fn(&Settings<'_>) -> Result<Box<dyn Gather>, StartError>,
}

/// A running collector.
pub(crate) trait Gather: Send + Sync {
    /// Writes the present state; what was written before a failure stays.
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure>;
}

/// A collector without state or flags.
struct Plain(fn(&Host, &mut Families) -> Result<(), Failure>);

impl Gather for Plain {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        (self.0)(host, out)
    }
}

impl Collector {
    /// A collector that needs nothing but the host.
    fn plain(gather: fn(&Host, &mut Families) -> Result<(), Failure>) -> Result<Box<dyn Gather>, StartError> {
        Ok(Box::new(Plain(gather)))
    }
}

fn no_flags() -> Vec<Flag> {
    Vec::new()
}

/// The command line as a collector reads it.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// The flags.
    pub(crate) parsed: &'a Parsed,
    /// The machine, for what is read once at start.
    pub(crate) host: &'a Host,
}

impl Settings<'_> {
    /// Whether a collector is on: by its switch, or by default unless only named ones count.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        let flag = crate::flags::switch(name);
        self.parsed.bool(&flag) && (!self.parsed.bool("collector.disable-defaults") || self.parsed.given(&flag))
    }

    /// The value of a flag, or of its old name.
    pub(crate) fn text(&self, flag: &str) -> Result<(&str, bool), StartError> {
        let old = ALL
            .iter()
            .flat_map(|collector| collector.deprecated)
            .find(|(old, new)| *new == flag && !self.parsed.str(old).is_empty());
        match old {
            Some((old, _)) if self.parsed.given(flag) => {
                Err(StartError::Conflict { first: (*old).to_owned(), second: flag.to_owned() })
            }
            Some((old, new)) => {
                tracing::warn!(flag = old, replacement = new, "this flag is deprecated, use its replacement");
                Ok((self.parsed.str(old), true))
            }
            None => Ok((self.parsed.str(flag), self.parsed.given(flag))),
        }
    }

    /// A pattern; empty text is none.
    pub(crate) fn pattern(&self, flag: &str) -> Result<Option<Regex>, StartError> {
        compile(flag, self.text(flag)?.0)
    }

    /// An include and an exclude pattern that must not both be given; an include alone clears the default exclude.
    pub(crate) fn filter(&self, include_flag: &str, exclude_flag: &str) -> Result<Filter, StartError> {
        let (include, _) = self.text(include_flag)?;
        let (exclude, exclude_given) = self.text(exclude_flag)?;
        let exclude = if include.is_empty() || exclude_given { exclude } else { "" };
        if !include.is_empty() && !exclude.is_empty() {
            return Err(StartError::Conflict { first: exclude_flag.to_owned(), second: include_flag.to_owned() });
        }
        Ok(Filter { include: compile(include_flag, include)?, exclude: compile(exclude_flag, exclude)? })
    }
}

fn compile(flag: &str, pattern: &str) -> Result<Option<Regex>, StartError> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let error = |source| StartError::Pattern { flag: flag.to_owned(), source };
    Regex::new(pattern).map(Some).map_err(error)
}

/// Which devices are shown.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Filter {
    /// True when the name is not to be shown.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.exclude.as_ref().is_some_and(|exclude| exclude.is_match(name))
            || self.include.as_ref().is_some_and(|include| !include.is_match(name))
    }
}

#[cfg(not(target_os = "linux"))]
#[path = "elsewhere/collectors.rs"]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::ALL;

#[cfg(target_os = "linux")]
macro_rules! collectors {
    ($($(#[$cfg:meta])* $name:ident,)*) => {
        $($(#[$cfg])* mod $name;)*
        /// Every collector of this build, in the order in which they are asked.
        pub(crate) const ALL: &[&Collector] = &[$($(#[$cfg])* &$name::COLLECTOR,)*];
    };
}

// Textfiles come last, so that a built-in family wins against a file that repeats it.
#[cfg(target_os = "linux")]
collectors! {
    arp,
    bcache,
    bcachefs,
    bonding,
    btrfs,
    buddyinfo,
    cgroups,
    conntrack,
    cpu,
    cpu_vulnerabilities,
    cpufreq,
    diskstats,
    dmi,
    dmmultipath,
    drbd,
    drm,
    edac,
    entropy,
    ethtool,
    fibrechannel,
    filefd,
    filesystem,
    hwmon,
    infiniband,
    interrupts,
    ipvs,
    kernel_hung,
    ksmd,
    lnstat,
    loadavg,
    #[cfg(feature = "systemd")]
    logind,
    mdadm,
    meminfo,
    meminfo_numa,
    mountstats,
    netclass,
    netdev,
    netstat,
    network_route,
    nfs,
    nfsd,
    ntp,
    nvme,
    nvmesubsystem,
    os,
    pcidevice,
    perf,
    powersupplyclass,
    pressure,
    processes,
    qdisc,
    rapl,
    runit,
    schedstat,
    selinux,
    slabinfo,
    sockstat,
    softirqs,
    softnet,
    stat,
    supervisord,
    swap,
    sysctl,
    #[cfg(feature = "systemd")]
    systemd,
    tapestats,
    tcpstat,
    thermal_zone,
    time,
    timex,
    udp_queues,
    uname,
    vmstat,
    watchdog,
    wifi,
    xfrm,
    xfs,
    zfs,
    zoneinfo,
    textfile,
}

/// The names of all collectors of this build.
pub fn collector_names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|collector| collector.name)
}
