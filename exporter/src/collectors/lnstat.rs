//! Figures of network tables by processor: the hexadecimal columns of every file in `/proc/net/stat`, see `lnstat(8)`.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, list};

pub(super) const COLLECTOR: Collector =
    Collector { name: "lnstat", enabled: false, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "net/stat";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = match list(&host.proc(FOLDER)) {
        Err(failure) if failure.is_absent() => return Ok(()),
        other => other?,
    };
    for subsystem in names {
        let path = format!("{FOLDER}/{subsystem}");
        let text = host.read_proc(&path)?;
        let mut lines = text.lines();
        let columns: Vec<String> = lines
            .next()
            .unwrap_or("")
            .split_whitespace()
            .map(|column| format!("node_lnstat_{}_total", crate::attributes::sanitize(column)))
            .collect();
        for (cpu, line) in lines.enumerate() {
            let cpu = cpu.to_string();
            let labels = [("subsystem", subsystem.as_str()), ("cpu", cpu.as_str())];
            for (name, field) in columns.iter().zip(line.split_whitespace()) {
                let value = u64::from_str_radix(field, 16);
                let value = value.map_err(|_| Failure::form(&path, format!("{field:?} is not hexadecimal")))?;
                out.sample(Kind::Counter, name, "A column of a file in /proc/net/stat.", &labels, value as f64);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn a_line_a_processor() {
        let tree =
            Tree::new().file("proc/net/stat/arp_cache", "entries  allocs\n00000014  0000000a\n00000014  00000010\n");
        let samples = tree.samples("lnstat", &["--collector.lnstat"]);
        assert!(samples.contains("node_lnstat_allocs_total{cpu=\"1\",subsystem=\"arp_cache\"} 16\n"), "{samples}");
        assert_eq!(Tree::new().samples("lnstat", &["--collector.lnstat"]), "");
    }
}
