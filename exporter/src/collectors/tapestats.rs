//! Tape drives: `/sys/class/scsi_tape/st*/stats`, see <https://docs.kernel.org/scsi/st.html>. Only the plain device of a
//! drive is shown, its other names count the same.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::attributes::digits_after;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;

pub(super) const COLLECTOR: Collector = Collector { name: "tapestats", enabled: true, flags, deprecated: &[], build };

const FOLDER: &str = "class/scsi_tape";
const IGNORED: &str = "collector.tapestats.ignored-devices";
/// Multiplied, not divided by 10^9: the last digit of the answer differs.
const NANO: f64 = 1e-9;

/// File, type, family, factor, help.
const FILES: &[(&str, Kind, &str, f64, &str)] = &[
    ("in_flight", Kind::Gauge, "node_tape_io_now", 1.0, "Requests under way."),
    ("io_ns", Kind::Counter, "node_tape_io_time_seconds_total", NANO, "Time of all requests."),
    ("other_cnt", Kind::Counter, "node_tape_io_others_total", 1.0, "Requests that neither read nor write."),
    ("read_byte_cnt", Kind::Counter, "node_tape_read_bytes_total", 1.0, "Bytes read."),
    ("read_cnt", Kind::Counter, "node_tape_reads_completed_total", 1.0, "Reads."),
    ("read_ns", Kind::Counter, "node_tape_read_time_seconds_total", NANO, "Time of all reads."),
    ("write_byte_cnt", Kind::Counter, "node_tape_written_bytes_total", 1.0, "Bytes written."),
    ("write_cnt", Kind::Counter, "node_tape_writes_completed_total", 1.0, "Writes."),
    ("write_ns", Kind::Counter, "node_tape_write_time_seconds_total", NANO, "Time of all writes."),
    (
        "resid_cnt",
        Kind::Counter,
        "node_tape_residual_total",
        1.0,
        "Requests that moved fewer bytes than were asked for.",
    ),
];

fn flags() -> Vec<Flag> {
    vec![Flag::string(IGNORED, "^$", "Pattern of the devices to leave out")]
}

struct Tapestats {
    filter: Filter,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: None, exclude: settings.pattern(IGNORED)? };
    Ok(Box::new(Tapestats { filter }))
}

impl Gather for Tapestats {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for device in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
            let plain = digits_after(&device, "st").is_some_and(|number| number.len() + 2 == device.len());
            if !plain || self.filter.ignores(&device) {
                continue;
            }
            // Single files may be missing, all of them not.
            host.sys_list(&format!("{FOLDER}/{device}/stats"))?;
            for (file, kind, name, factor, help) in FILES {
                let path = format!("{FOLDER}/{device}/stats/{file}");
                let value = match host.sys_figure(&path) {
                    Err(failure) if failure.is_absent() => 0.0,
                    other => other? * factor,
                };
                out.sample(*kind, name, help, &[("device", &device)], value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn one_name_a_drive() {
        let mut tree = Tree::new();
        for (device, file) in ["st0", "st0a", "nst0", "st1"]
            .iter()
            .flat_map(|device| super::FILES.iter().map(move |(file, ..)| (device, file)))
        {
            tree = tree.file(&format!("sys/class/scsi_tape/{device}/stats/{file}"), "2000000000\n");
        }
        let samples = tree.samples("tapestats", &["--collector.tapestats.ignored-devices=st1"]);
        assert!(samples.contains("node_tape_io_time_seconds_total{device=\"st0\"} 2\n"), "{samples}");
        assert_eq!(samples.lines().count(), 10, "{samples}");
        assert!(Tree::new().failure("tapestats").contains("no data"));
        let tree = Tree::new().file("sys/class/scsi_tape/st0/dev", "9:0\n");
        assert!(tree.failure("tapestats").contains("stats"));
    }
}
