//! Interrupts by source and processor: `/proc/interrupts`, see <https://docs.kernel.org/filesystems/proc.html>.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use cli::Flag;

pub(super) const COLLECTOR: Collector = Collector { name: "interrupts", enabled: false, flags, deprecated: &[], build };

const PATH: &str = "interrupts";
const INCLUDE: &str = "collector.interrupts.name-include";
const EXCLUDE: &str = "collector.interrupts.name-exclude";
const ZEROS: &str = "collector.interrupts.include-zeros";
const AGGREGATE: &str = "collector.interrupts.aggregate";
const NAME: &str = "node_interrupts_total";
const HELP: &str = "Interrupts by source.";

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, "", "Pattern of the interrupts to show, matched against name;info;devices")
            .without_default(),
        Flag::string(EXCLUDE, "", "Pattern of the interrupts to leave out, matched against name;info;devices")
            .without_default(),
        Flag::boolean(ZEROS, true, "Show processors that had none"),
        Flag::boolean(AGGREGATE, false, "Show the sum over all processors, without the label cpu"),
    ]
}

struct Interrupts {
    filter: Filter,
    zeros: bool,
    aggregate: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: settings.pattern(INCLUDE)?, exclude: settings.pattern(EXCLUDE)? };
    let (zeros, aggregate) = (settings.parsed.bool(ZEROS), settings.parsed.bool(AGGREGATE));
    Ok(Box::new(Interrupts { filter, zeros, aggregate }))
}

impl Gather for Interrupts {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let text = host.read_proc(PATH)?;
        let mut lines = text.lines();
        let header = lines.next().ok_or_else(|| Failure::form(PATH, "the file is empty"))?;
        let processors = header.split_whitespace().count();
        for line in lines {
            // The name and the first count need no blank between them.
            let Some((name, rest)) = line.split_once(':') else { continue };
            let name = name.trim();
            let fields: Vec<&str> = rest.split_whitespace().collect();
            // ERR and MIS count for the whole machine.
            let Some((counts, words)) = fields.split_at_checked(processors).filter(|(_, words)| !words.is_empty())
            else {
                continue;
            };
            let numeric = name.bytes().all(|byte| byte.is_ascii_digit());
            let (info, devices) = if numeric { words.split_at(1) } else { (words, &[][..]) };
            self.show(name, &info.join(" "), &devices.join(" "), counts, out)?;
        }
        Ok(())
    }
}

impl Interrupts {
    fn show(&self, name: &str, info: &str, devices: &str, counts: &[&str], out: &mut Families) -> Result<(), Failure> {
        if self.filter.ignores(&format!("{name};{info};{devices}")) {
            return Ok(());
        }
        let mut sum = 0.0;
        for (cpu, count) in counts.iter().enumerate() {
            let count = number(PATH, count)?;
            if self.aggregate {
                sum += count;
                continue;
            }
            if count == 0.0 && !self.zeros {
                continue;
            }
            let cpu = cpu.to_string();
            let labels = [("cpu", cpu.as_str()), ("type", name), ("info", info), ("devices", devices)];
            out.sample(Kind::Counter, NAME, HELP, &labels, count);
        }
        if self.aggregate && (self.zeros || sum > 0.0) {
            out.sample(Kind::Counter, NAME, HELP, &[("type", name), ("info", info), ("devices", devices)], sum);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    const TEXT: &str = "       CPU0       CPU1\n 10: 5 0  GICv3  27 Level  arch_timer\nIPI0:7 8  Rescheduling interrupts\n\
                        ERR:   1\n";

    fn samples(flags: &[&str]) -> String {
        let flags = [&["--collector.interrupts"], flags].concat();
        Tree::new().file("proc/interrupts", TEXT).samples("interrupts", &flags)
    }

    #[test]
    fn names_info_devices() {
        assert_eq!(
            samples(&["--no-collector.interrupts.include-zeros"]),
            "node_interrupts_total{cpu=\"0\",devices=\"\",info=\"Rescheduling interrupts\",type=\"IPI0\"} 7\n\
             node_interrupts_total{cpu=\"0\",devices=\"27 Level arch_timer\",info=\"GICv3\",type=\"10\"} 5\n\
             node_interrupts_total{cpu=\"1\",devices=\"\",info=\"Rescheduling interrupts\",type=\"IPI0\"} 8\n"
        );
        assert_eq!(samples(&[]).lines().count(), 4);
    }

    #[test]
    fn one_series_a_source_when_asked_for() {
        let shown = samples(&["--collector.interrupts.aggregate"]);
        assert!(
            shown.contains("node_interrupts_total{devices=\"\",info=\"Rescheduling interrupts\",type=\"IPI0\"} 15\n")
        );
        assert!(shown.contains("type=\"10\"} 5\n") && shown.lines().count() == 2, "{shown}");
    }

    #[test]
    fn the_filter_sees_three_parts() {
        let shown = samples(&["--collector.interrupts.name-include=^10;GICv3;.*timer$"]);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        let shown = samples(&["--collector.interrupts.name-exclude=^10;"]);
        assert!(!shown.contains("GICv3") && shown.contains("IPI0"), "{shown}");
    }
}
