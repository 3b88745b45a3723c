//! InfiniBand and RoCE adapters: `/sys/class/infiniband`, see the kernel's
//! `Documentation/ABI/stable/sysfs-class-infiniband` and, for the counters of the hardware, `drivers/infiniband/hw/mlx5`.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;

pub(super) const COLLECTOR: Collector = Collector { name: "infiniband", enabled: true, flags, deprecated: &[], build };

const FOLDER: &str = "class/infiniband";
const INCLUDE: &str = "collector.infiniband.device-include";
const EXCLUDE: &str = "collector.infiniband.device-exclude";
const GIGABIT_BYTES: f64 = 125_000_000.0;
/// Data counters count words of this many bytes.
const WORD_BYTES: f64 = 4.0;

/// Folder of the port, file, name after `node_infiniband_` and before `_total`, factor.
const COUNTERS: &[(&str, &str, &str, f64)] = &[
    ("counters", "excessive_buffer_overrun_errors", "excessive_buffer_overrun_errors", 1.0),
    ("counters", "link_downed", "link_downed", 1.0),
    ("counters", "link_error_recovery", "link_error_recovery", 1.0),
    ("counters", "local_link_integrity_errors", "local_link_integrity_errors", 1.0),
    ("counters", "multicast_rcv_packets", "multicast_packets_received", 1.0),
    ("counters", "multicast_xmit_packets", "multicast_packets_transmitted", 1.0),
    ("counters", "port_rcv_constraint_errors", "port_constraint_errors_received", 1.0),
    ("counters", "port_rcv_data", "port_data_received_bytes", WORD_BYTES),
    ("counters", "port_rcv_discards", "port_discards_received", 1.0),
    ("counters", "port_rcv_errors", "port_errors_received", 1.0),
    ("counters", "port_rcv_packets", "port_packets_received", 1.0),
    ("counters", "port_rcv_remote_physical_errors", "port_receive_remote_physical_errors", 1.0),
    ("counters", "port_rcv_switch_relay_errors", "port_receive_switch_relay_errors", 1.0),
    ("counters", "port_xmit_constraint_errors", "port_constraint_errors_transmitted", 1.0),
    ("counters", "port_xmit_data", "port_data_transmitted_bytes", WORD_BYTES),
    ("counters", "port_xmit_discards", "port_discards_transmitted", 1.0),
    ("counters", "port_xmit_packets", "port_packets_transmitted", 1.0),
    ("counters", "port_xmit_wait", "port_transmit_wait", 1.0),
    ("counters", "symbol_error", "symbol_error", 1.0),
    ("counters", "unicast_rcv_packets", "unicast_packets_received", 1.0),
    ("counters", "unicast_xmit_packets", "unicast_packets_transmitted", 1.0),
    ("counters", "VL15_dropped", "vl15_dropped", 1.0),
    ("counters_ext", "port_multicast_rcv_packets", "legacy_multicast_packets_received", 1.0),
    ("counters_ext", "port_multicast_xmit_packets", "legacy_multicast_packets_transmitted", 1.0),
    ("counters_ext", "port_rcv_data_64", "legacy_data_received_bytes", WORD_BYTES),
    ("counters_ext", "port_rcv_packets_64", "legacy_packets_received", 1.0),
    ("counters_ext", "port_unicast_rcv_packets", "legacy_unicast_packets_received", 1.0),
    ("counters_ext", "port_unicast_xmit_packets", "legacy_unicast_packets_transmitted", 1.0),
    ("counters_ext", "port_xmit_data_64", "legacy_data_transmitted_bytes", WORD_BYTES),
    ("counters_ext", "port_xmit_packets_64", "legacy_packets_transmitted", 1.0),
    ("hw_counters", "duplicate_request", "duplicate_requests_packets", 1.0),
    ("hw_counters", "implied_nak_seq_err", "implied_nak_seq_errors", 1.0),
    ("hw_counters", "local_ack_timeout_err", "local_ack_timeout_errors", 1.0),
    ("hw_counters", "np_cnp_sent", "np_cnp_packets_sent", 1.0),
    ("hw_counters", "np_ecn_marked_roce_packets", "np_ecn_marked_roce_packets_received", 1.0),
    ("hw_counters", "out_of_buffer", "out_of_buffer_drops", 1.0),
    ("hw_counters", "out_of_sequence", "out_of_sequence_packets_received", 1.0),
    ("hw_counters", "packet_seq_err", "packet_sequence_errors", 1.0),
    ("hw_counters", "req_cqe_error", "req_cqes_errors", 1.0),
    ("hw_counters", "req_cqe_flush_error", "req_cqes_flush_errors", 1.0),
    ("hw_counters", "req_remote_access_errors", "req_remote_access_errors", 1.0),
    ("hw_counters", "req_remote_invalid_request", "req_remote_invalid_request_errors", 1.0),
    ("hw_counters", "resp_cqe_error", "resp_cqes_errors", 1.0),
    ("hw_counters", "resp_cqe_flush_error", "resp_cqes_flush_errors", 1.0),
    ("hw_counters", "resp_local_length_error", "resp_local_length_errors", 1.0),
    ("hw_counters", "resp_remote_access_errors", "resp_remote_access_errors", 1.0),
    ("hw_counters", "rnr_nak_retry_err", "rnr_nak_retry_packets_received", 1.0),
    ("hw_counters", "roce_adp_retrans", "roce_adp_retransmits", 1.0),
    ("hw_counters", "roce_adp_retrans_to", "roce_adp_retransmits_timeout", 1.0),
    // The driver's "slow_restart" counts its use, "trans" the changes into that state.
    ("hw_counters", "roce_slow_restart", "roce_slow_restart_used", 1.0),
    ("hw_counters", "roce_slow_restart_cnps", "roce_slow_restart_cnps", 1.0),
    ("hw_counters", "roce_slow_restart_trans", "roce_slow_restart", 1.0),
    ("hw_counters", "rp_cnp_handled", "rp_cnp_packets_handled", 1.0),
    ("hw_counters", "rp_cnp_ignored", "rp_cnp_ignored_packets_received", 1.0),
    ("hw_counters", "rx_atomic_requests", "rx_atomic_requests", 1.0),
    ("hw_counters", "rx_dct_connect", "rx_dct_connect_requests", 1.0),
    ("hw_counters", "rx_read_requests", "rx_read_requests", 1.0),
    ("hw_counters", "rx_write_requests", "rx_write_requests", 1.0),
    ("hw_counters", "rx_icrc_encapsulated", "rx_icrc_encapsulated_errors", 1.0),
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, "", "Pattern of the devices to show"),
        Flag::string(EXCLUDE, "", "Pattern of the devices to leave out"),
    ]
}

struct Infiniband {
    filter: Filter,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: settings.pattern(INCLUDE)?, exclude: settings.pattern(EXCLUDE)? };
    Ok(Box::new(Infiniband { filter }))
}

impl Gather for Infiniband {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for device in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
            if self.filter.ignores(&device) {
                continue;
            }
            let folder = format!("{FOLDER}/{device}");
            let text = |file: &str| host.sys_optional(&format!("{folder}/{file}"));
            let board = text("board_id")?.unwrap_or_default();
            let firmware = host.sys_text(&format!("{folder}/fw_ver"))?;
            let kind = text("hca_type")?.unwrap_or_default();
            let labels = [
                ("device", device.as_str()),
                ("board_id", &board),
                ("firmware_version", &firmware),
                ("hca_type", &kind),
            ];
            out.sample(Kind::Gauge, "node_infiniband_info", "What an adapter is.", &labels, 1.0);
            for port in host.sys_list(&format!("{folder}/ports"))? {
                let labels = [("device", device.as_str()), ("port", port.as_str())];
                show_port(host, &format!("{folder}/ports/{port}"), &labels, out)?;
            }
        }
        Ok(())
    }
}

fn show_port(host: &Host, folder: &str, labels: &[(&str, &str)], out: &mut Families) -> Result<(), Failure> {
    for (file, name, help) in [
        ("state", "node_infiniband_state_id", "State of a port: 1 down, 2 init, 3 armed, 4 active, 5 active deferred."),
        ("phys_state", "node_infiniband_physical_state_id", "Physical state of a port; 5 is link up."),
    ] {
        let path = format!("{folder}/{file}");
        let text = host.sys_text(&path)?;
        let number = text.split(':').next().unwrap_or("").trim();
        let number = number.parse().map_err(|_| Failure::form(&path, format!("{text:?} has no number")))?;
        out.sample(Kind::Gauge, name, help, labels, number);
    }
    let path = format!("{folder}/rate");
    let text = host.sys_text(&path)?;
    let rate = text.split_whitespace().next().and_then(|rate| rate.parse::<f64>().ok());
    let rate = rate.ok_or_else(|| Failure::form(&path, format!("{text:?} has no number")))?;
    let help = "Most bytes a second on a port.";
    out.sample(Kind::Gauge, "node_infiniband_rate_bytes_per_second", help, labels, rate * GIGABIT_BYTES);
    for (place, file, name, factor) in COUNTERS {
        if let Some(count) = count(host, &format!("{folder}/{place}/{file}"))? {
            let help = format!("The counter {file} of a port.");
            let name = format!("node_infiniband_{name}_total");
            out.sample(Kind::Counter, &name, &help, labels, count as f64 * factor);
        }
    }
    if let Some(milli) = count(host, &format!("{folder}/hw_counters/lifespan"))? {
        let help = "How old the counters of the hardware may be.";
        out.sample(Kind::Gauge, "node_infiniband_lifespan_seconds", help, labels, (milli / 1000) as f64);
    }
    Ok(())
}

/// A counter, unless the port does not keep it (`N/A (no PMA)`).
fn count(host: &Host, path: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = host.sys_optional(path)? else { return Ok(None) };
    if text.starts_with("N/A") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Failure::form(path, format!("{text:?} is not a count")))
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    fn tree() -> Tree {
        let port = "sys/class/infiniband/mlx5_0/ports/1";
        Tree::new()
            .file("sys/class/infiniband/mlx5_0/fw_ver", "1.2\n")
            .file(&format!("{port}/state"), "4: ACTIVE\n")
            .file(&format!("{port}/phys_state"), "5: LinkUp\n")
            .file(&format!("{port}/rate"), "2.5 Gb/sec (1X)\n")
            .file(&format!("{port}/hw_counters/lifespan"), "1500\n")
            .file(&format!("{port}/hw_counters/out_of_buffer"), "3\n")
            .file(&format!("{port}/counters/port_rcv_data"), "2\n")
    }

    #[test]
    fn ports() {
        let samples = tree().samples("infiniband", &[]);
        for expected in [
            "node_infiniband_info{board_id=\"\",device=\"mlx5_0\",firmware_version=\"1.2\",hca_type=\"\"} 1\n",
            "node_infiniband_rate_bytes_per_second{device=\"mlx5_0\",port=\"1\"} 3.125e+08\n",
            "node_infiniband_lifespan_seconds{device=\"mlx5_0\",port=\"1\"} 1\n",
            "node_infiniband_out_of_buffer_drops_total{device=\"mlx5_0\",port=\"1\"} 3\n",
            "node_infiniband_port_data_received_bytes_total{device=\"mlx5_0\",port=\"1\"} 8\n",
        ] {
            assert!(samples.contains(expected), "{expected} in {samples}");
        }
    }

    #[test]
    fn filter_and_absence() {
        assert_eq!(tree().samples("infiniband", &["--collector.infiniband.device-exclude=mlx"]), "");
        assert!(Tree::new().failure("infiniband").contains("no data"));
        let broken = tree().file("sys/class/infiniband/mlx5_0/ports/1/state", "odd\n");
        assert!(broken.failure("infiniband").contains("odd"));
    }
}
