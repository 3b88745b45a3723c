//! Frequencies and governors of processors: `/sys/devices/system/cpu/cpu*/cpufreq`, in kilohertz.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use std::io::ErrorKind;

pub(super) const COLLECTOR: Collector =
    Collector { name: "cpufreq", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

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

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let offline = super::cpu::cpu_list(&host.sys_value(&format!("{FOLDER}/offline")).unwrap_or_default());
    for name in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
        let Some(cpu) = name.strip_prefix("cpu").and_then(|cpu| cpu.parse::<u32>().ok()) else { continue };
        let folder = format!("{FOLDER}/{name}/cpufreq");
        if offline.contains(&cpu) || !host.sys(&folder).is_dir() {
            continue;
        }
        let cpu = cpu.to_string();
        for (file, family, help) in NUMBERS {
            let path = format!("{folder}/{file}");
            match host.sys_number(&path) {
                Ok(kilohertz) => out.sample(Kind::Gauge, family, help, &[("cpu", &cpu)], kilohertz * 1000.0),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
                Err(source) => return Err(Failure::Read { path: host.sys(&path), source }),
            }
        }
        let text = |file: &str| host.sys_value(&format!("{folder}/{file}")).unwrap_or_default();
        let current = text("scaling_governor");
        for governor in text("scaling_available_governors").split(' ').filter(|governor| !governor.is_empty()) {
            let labels = [("cpu", cpu.as_str()), ("governor", governor)];
            let active = f64::from(u8::from(governor == current));
            let help = "1 for the governor in use.";
            out.sample(Kind::Gauge, "node_cpu_scaling_governor", help, &labels, active);
        }
    }
    Ok(())
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
