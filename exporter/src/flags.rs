//! The command line: general flags, one switch a collector, and the collectors' own flags.

use crate::collectors::ALL;
use cli::{Command, Flag};

/// How long a scrape waits for a collector. No healthy host needs so long; a scraper that says how long it waits itself
/// gets its answer in time for that.
pub(crate) const DEADLINE: &str = "collector.deadline";

/// Whose answers are used again, and for how long.
pub(crate) const CACHE: &str = "collector.cache";
/// Series of one collector.
pub(crate) const SERIES_MAX: &str = "collector.series-max";
/// Whether the process restricts itself.
pub(crate) const SANDBOX: &str = "security.sandbox";
/// The file of flags.
pub(crate) const CONFIG: &str = "config.file";
/// Whether a request may ask for a reload.
pub(crate) const LIFECYCLE: &str = "web.enable-lifecycle";
/// What a reload cannot change, because it is used up at the start.
pub(crate) const FIXED: [&str; 9] = [
    "web.listen-address",
    "web.systemd-socket",
    "web.config.file",
    "web.telemetry-path",
    LIFECYCLE,
    SANDBOX,
    "runtime.gomaxprocs",
    "log.level",
    "log.format",
];

/// The whole command line of the exporter.
pub fn command() -> Command {
    let mut command = Command::new("node_exporter", "Shows what this machine's kernel says, as metrics.")
        .flag(Flag::string("web.telemetry-path", "/metrics", "Path of the metrics"))
        .flag(Flag::boolean("web.disable-exporter-metrics", false, "Leave out metrics about the exporter itself"))
        .flag(Flag::int("web.max-requests", 40, "Most scrapes at the same time, 0 for no limit"))
        .flag(Flag::boolean("collector.disable-defaults", false, "Turn off every collector that is not named"))
        .flag(Flag::duration_go(
            DEADLINE,
            "30s",
            "How long a collector may take, 0 for no limit; a late one counts as failed",
        ))
        .flag(Flag::list(CACHE, &[], "Use the answers of slow collectors again for a while, such as hwmon=30s,nvme=5m"))
        .flag(Flag::int(SERIES_MAX, 0, "Leave out a collector that writes more series, 0 for no limit"))
        .flag(Flag::int("runtime.gomaxprocs", 1, "Worker threads").env("GOMAXPROCS"))
        .web_flags(":9100")
        .flag(Flag::boolean(LIFECYCLE, false, "Read --config.file again on POST /-/reload"))
        .config_flag(CONFIG)
        .flag(Flag::choice(
            SANDBOX,
            "off",
            &["off", "on", "strict"],
            "Give up writing, programs, and files that no collector reads (landlock, seccomp); strict fails where the \
             kernel cannot. One of: [off, on, strict]",
        ))
        .log_flags()
        .flag(Flag::string("path.procfs", "/proc", "Where procfs is mounted"))
        .flag(Flag::string("path.sysfs", "/sys", "Where sysfs is mounted"))
        .flag(Flag::string("path.rootfs", "/", "Where the root file system is mounted"))
        .flag(Flag::string("path.udev.data", "/run/udev/data", "Where udev keeps its data"));
    for collector in ALL {
        let help = format!("Show the {} collector", collector.name);
        command = command.flag(Flag::boolean(switch(collector.name), collector.enabled, help));
        for flag in (collector.flags)() {
            command = command.flag(flag);
        }
        for (old, new) in collector.deprecated {
            command = command.flag(Flag::string(*old, "", format!("Deprecated, use --{new}")).hidden());
        }
    }
    command
}

/// `collector.NAME`.
pub(crate) fn switch(name: &str) -> String {
    format!("collector.{name}")
}
