//! Watchdog timers: `/sys/class/watchdog`, see the kernel's `Documentation/ABI/testing/sysfs-class-watchdog`.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "watchdog",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "class/watchdog";

/// File, family, help.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("bootstatus", "node_watchdog_bootstatus", "What the timer said at boot."),
    ("fw_version", "node_watchdog_fw_version", "Version of the firmware."),
    ("nowayout", "node_watchdog_nowayout", "1 when the timer cannot be stopped."),
    ("timeleft", "node_watchdog_timeleft_seconds", "Time until the machine is reset."),
    ("timeout", "node_watchdog_timeout_seconds", "Time a program has to show that it lives."),
    ("pretimeout", "node_watchdog_pretimeout_seconds", "Time before the reset at which a warning comes."),
    ("access_cs0", "node_watchdog_access_cs0", "1 when the machine started from its second flash chip."),
];
const TEXTS: [&str; 5] = ["options", "identity", "state", "status", "pretimeout_governor"];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for name in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
        for (file, family, help) in NUMBERS {
            let path = format!("{FOLDER}/{name}/{file}");
            if let Some(text) = host.sys_optional(&path)? {
                let value = text.parse().map_err(|_| Failure::form(&path, format!("{text:?} is not a number")))?;
                out.sample(Kind::Gauge, family, help, &[("name", &name)], value);
            }
        }
        let mut texts = Vec::with_capacity(TEXTS.len());
        for file in TEXTS {
            texts.push((file, host.sys_optional(&format!("{FOLDER}/{name}/{file}"))?.unwrap_or_default()));
        }
        let mut labels = vec![("name", name.as_str())];
        labels.extend(texts.iter().map(|(file, text)| (*file, text.as_str())));
        out.sample(Kind::Gauge, "node_watchdog_info", "What a timer is.", &labels, 1.0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn files_that_a_timer_has() {
        let tree = Tree::new()
            .file("sys/class/watchdog/watchdog0/timeout", "60\n")
            .file("sys/class/watchdog/watchdog0/state", "active\n");
        assert_eq!(
            tree.samples("watchdog", &[]),
            "node_watchdog_info{identity=\"\",name=\"watchdog0\",options=\"\",pretimeout_governor=\"\",state=\"active\",\
             status=\"\"} 1\nnode_watchdog_timeout_seconds{name=\"watchdog0\"} 60\n"
        );
        assert!(Tree::new().failure("watchdog").contains("no data"));
        let tree = Tree::new().file("sys/class/watchdog/watchdog0/timeout", "x\n");
        assert!(tree.failure("watchdog").contains("not a number"));
    }
}
