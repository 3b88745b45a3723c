//! The folders of the processors: `/sys/devices/system/cpu/cpu*`, see the kernel's
//! `Documentation/ABI/testing/sysfs-devices-system-cpu`.
//!
//! Which package and core a processor belongs to, and which of its files there are, is read when a processor came or went
//! and now and then, not at each scrape.

use crate::host::Host;
use crate::kept::ABSENT;
use runtime::Monotonic;
use std::collections::HashSet;

/// Where sysfs lists them.
pub(crate) const FOLDER: &str = "devices/system/cpu";

/// The processors' folders, and which of their files there are. They change only when a processor comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Processors {
    list: Vec<Processor>,
    /// Processors in use when they were read.
    used: usize,
    since: Option<Monotonic>,
}

/// One folder.
#[derive(Debug)]
pub(crate) struct Processor {
    pub(crate) cpu: String,
    pub(crate) package: String,
    pub(crate) core: String,
    /// Paths below sysfs of files that are to be read at each scrape.
    pub(crate) core_throttles: Option<String>,
    pub(crate) package_throttles: Option<String>,
    pub(crate) online: Option<String>,
}

impl Processors {
    /// Sorted by name.
    pub(crate) fn list(&self) -> &[Processor] {
        &self.list
    }

    /// Reads the folders again when `used` processors are other than before, now and then, and always where sysfs is
    /// not the kernel's.
    pub(crate) fn refresh(&mut self, host: &Host, used: usize) {
        let now = host.clock().now();
        let young = self.since.is_some_and(|since| now - since < ABSENT);
        if young && self.used == used && host.is_kernel_sys() {
            return;
        }
        (self.used, self.since) = (used, Some(now));
        self.list.clear();
        let Ok(names) = host.sys_list(FOLDER) else { return };
        let cpus = names.iter().filter_map(|name| name.strip_prefix("cpu"));
        let (mut cores, mut packages) = (HashSet::new(), HashSet::new());
        let mut online = None;
        for cpu in cpus.filter(|cpu| !cpu.is_empty() && cpu.bytes().all(|byte| byte.is_ascii_digit())) {
            let path = |file: &str| format!("{FOLDER}/cpu{cpu}/{file}");
            let there = |path: String| host.sys_number(&path).is_ok().then_some(path);
            let value = |file: &str| host.sys_value(&path(file));
            // When the first processor does not say whether it is online, none does.
            let online = *online.get_or_insert_with(|| there(path("online")).is_some());
            let mut processor = Processor {
                cpu: cpu.to_owned(),
                package: String::new(),
                core: String::new(),
                core_throttles: None,
                package_throttles: None,
                online: online.then(|| path("online")),
            };
            if let (Ok(package), Ok(core)) = (value("topology/physical_package_id"), value("topology/core_id")) {
                if cores.insert((package.clone(), core.clone())) {
                    processor.core_throttles = there(path("thermal_throttle/core_throttle_count"));
                }
                if packages.insert(package.clone()) {
                    processor.package_throttles = there(path("thermal_throttle/package_throttle_count"));
                }
                (processor.package, processor.core) = (package, core);
            }
            self.list.push(processor);
        }
    }
}
