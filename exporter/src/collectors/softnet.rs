//! Packet processing by processor: the hexadecimal columns of `/proc/net/softnet_stat`.

use super::{Collector, no_flags};
use crate::buffers::Short;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "softnet", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "net/softnet_stat";
/// Columns that are looked at, and the one that holds the processor's number.
const COLUMNS_MAX: usize = 13;
const CPU: usize = 12;

const COLUMNS: &[(usize, Kind, &str, &str)] = &[
    (0, Kind::Counter, "node_softnet_processed_total", "Packets handled."),
    (1, Kind::Counter, "node_softnet_dropped_total", "Packets dropped because the queue was full."),
    (2, Kind::Counter, "node_softnet_times_squeezed_total", "Rounds that ended with work left over."),
    (8, Kind::Counter, "node_softnet_cpu_collision_total", "Collisions on the lock of a sending device."),
    (9, Kind::Counter, "node_softnet_received_rps_total", "Wake-ups to receive packets."),
    (10, Kind::Counter, "node_softnet_flow_limit_count_total", "Times the flow limit was reached."),
    (11, Kind::Gauge, "node_softnet_backlog_len", "Packets waiting."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for (line_number, line) in host.read_proc(PATH)?.lines().enumerate() {
        let mut columns = [0; COLUMNS_MAX];
        let mut count = 0;
        for field in line.split_whitespace() {
            let value = u64::from_str_radix(field, 16)
                .map_err(|_| Failure::form(PATH, format!("line {} is not hexadecimal", line_number + 1)))?;
            if let Some(column) = columns.get_mut(count) {
                *column = value;
                count += 1;
            }
        }
        if count < 9 {
            return Err(Failure::form(PATH, format!("line {} has fewer than 9 columns", line_number + 1)));
        }
        let cpu = Short::of(if count > CPU { columns[CPU] } else { line_number as u64 });
        for (column, kind, name, help) in COLUMNS {
            out.sample(*kind, name, help, &[("cpu", &cpu)], columns[*column] as f64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn the_cpu_comes_from_column_twelve() {
        let tree = Tree::new()
            .file("proc/net/softnet_stat", "0000000a 1 2 0 0 0 0 0 3 4 5 6 00000007\n00000001 0 0 0 0 0 0 0 0 0 0\n");
        let samples = tree.samples("softnet", &[]);
        assert!(samples.contains("node_softnet_processed_total{cpu=\"7\"} 10\n"), "{samples}");
        assert!(samples.contains("node_softnet_processed_total{cpu=\"1\"} 1\n"), "{samples}");
        let broken = Tree::new().file("proc/net/softnet_stat", "1 2 3\n");
        assert!(broken.failure("softnet").contains("9 columns"));
    }
}
