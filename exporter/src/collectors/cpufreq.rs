//! Frequencies and governors of processors: `/sys/devices/system/cpu/cpu*/cpufreq`, in kilohertz.

use super::{Collector, Gather, Settings, StartError, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, to_number};
use crate::kept::ABSENT;
use runtime::Monotonic;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector =
    Collector { name: "cpufreq", enabled: true, flags: no_flags, deprecated: &[], build };

const FOLDER: &str = "devices/system/cpu";

const NUMBERS: &[(&str, &str, &str)] = &[
    ("cpuinfo_cur_freq", "node_cpu_frequency_hertz", "Present frequency of a processor."),
    ("cpuinfo_avg_freq", "node_cpu_frequency_avg_hertz", "Average frequency of a processor."),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Lowest frequency of a processor."),
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Highest frequency of a processor."),
    ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz", "Frequency the governor chose."),
    ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", "Lowest frequency the governor may choose."),
    ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", "Highest frequency the governor may choose."),
];

/// The files of one processor that there are: paths below sysfs.
#[derive(Debug)]
struct Processor {
    cpu: String,
    /// With the positions in [`NUMBERS`].
    numbers: Vec<(usize, String)>,
    governor: String,
    governors: String,
}

/// All that have a folder, as of the moment when they were looked for.
#[derive(Debug, Default)]
struct Found {
    processors: Vec<Processor>,
    offline: String,
    since: Option<Monotonic>,
}

#[derive(Debug, Default)]
struct CpuFreq(Mutex<Found>);

fn build(_: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(CpuFreq::default()))
}

impl Gather for CpuFreq {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.refresh(host)?;
        found.processors.iter().try_for_each(|processor| show(processor, host, out))
    }
}

fn show(processor: &Processor, host: &Host, out: &mut Families) -> Result<(), Failure> {
    for (position, path) in &processor.numbers {
        let (_, family, help) = NUMBERS[*position];
        let labels = [("cpu", processor.cpu.as_str())];
        match host.device_short(path).and_then(|text| to_number(&text)) {
            Ok(kilohertz) => out.sample(Kind::Gauge, family, help, &labels, kilohertz * 1000.0),
            Err(error) if is_silent(&error) => {}
            Err(source) => return Err(Failure::Read { path: host.sys(path), source }),
        }
    }
    let current = host.device_short(&processor.governor).ok();
    let current = current.as_deref().unwrap_or("");
    for governor in processor.governors.split(' ').filter(|governor| !governor.is_empty()) {
        let labels = [("cpu", processor.cpu.as_str()), ("governor", governor)];
        let active = f64::from(u8::from(governor == current));
        let help = "1 for the governor in use.";
        out.sample(Kind::Gauge, "node_cpu_scaling_governor", help, &labels, active);
    }
    Ok(())
}

fn is_silent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

impl Found {
    /// Looks again when a processor went on or off line, now and then, and always where sysfs is not the kernel's.
    fn refresh(&mut self, host: &Host) -> Result<(), Failure> {
        let now = host.clock().now();
        let offline = host.device_short(&format!("{FOLDER}/offline")).ok();
        let offline = offline.as_deref().unwrap_or("");
        let young = self.since.is_some_and(|since| now - since < ABSENT);
        if young && self.offline == offline && host.is_kernel_sys() {
            return Ok(());
        }
        (self.offline, self.since) = (offline.to_owned(), Some(now));
        self.processors.clear();
        let out_of_use = super::cpu::cpu_list(offline);
        for name in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
            let Some(cpu) = name.strip_prefix("cpu").and_then(|cpu| cpu.parse::<u32>().ok()) else { continue };
            let folder = format!("{FOLDER}/{name}/cpufreq");
            if out_of_use.contains(&cpu) || !host.sys(&folder).is_dir() {
                continue;
            }
            let there = |path: &String| !matches!(host.sys_value(path), Err(error) if is_silent(&error));
            let numbers = NUMBERS.iter().map(|(file, ..)| format!("{folder}/{file}"));
            self.processors.push(Processor {
                cpu: cpu.to_string(),
                numbers: numbers.enumerate().filter(|(_, path)| there(path)).collect(),
                governor: format!("{folder}/scaling_governor"),
                governors: host.sys_value(&format!("{folder}/scaling_available_governors")).unwrap_or_default(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn kilohertz_and_governors() {
        let folder = "sys/devices/system/cpu/cpu0/cpufreq";
        let samples = Tree::new()
            .file(&format!("{folder}/scaling_cur_freq"), "1219917\n")
            .file(&format!("{folder}/scaling_governor"), "powersave\n")
            .file(&format!("{folder}/scaling_available_governors"), "performance powersave\n")
            .file("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "5\n")
            .file("sys/devices/system/cpu/offline", "1\n")
            .samples("cpufreq", &[]);
        assert_eq!(
            samples,
            "node_cpu_scaling_frequency_hertz{cpu=\"0\"} 1.219917e+09\n\
             node_cpu_scaling_governor{cpu=\"0\",governor=\"performance\"} 0\n\
             node_cpu_scaling_governor{cpu=\"0\",governor=\"powersave\"} 1\n"
        );
    }
}
