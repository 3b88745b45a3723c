//! Fibre Channel adapters: `/sys/class/fc_host`, see the kernel's `drivers/scsi/scsi_transport_fc.c`.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "fibrechannel",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "class/fc_host";

/// Labels of the info family; the files have the same names.
const INFO: [&str; 10] = [
    "speed",
    "port_state",
    "port_type",
    "port_id",
    "port_name",
    "fabric_name",
    "symbolic_name",
    "supported_classes",
    "supported_speeds",
    "dev_loss_tmo",
];
/// Shown without the leading `0x`.
const IDENTITIES: [&str; 3] = ["port_id", "port_name", "fabric_name"];

/// File below `statistics`, name after `node_fibrechannel_`, help.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("dumped_frames", "dumped_frames_total", "Frames lost because the host had no buffer."),
    ("error_frames", "error_frames_total", "Frames with errors."),
    ("invalid_crc_count", "invalid_crc_total", "Frames whose check sum was wrong."),
    ("rx_frames", "rx_frames_total", "Frames received."),
    ("rx_words", "rx_words_total", "Words received."),
    ("tx_frames", "tx_frames_total", "Frames sent."),
    ("tx_words", "tx_words_total", "Words sent."),
    ("seconds_since_last_reset", "seconds_since_last_reset_total", "Seconds since the adapter was reset."),
    ("invalid_tx_word_count", "invalid_tx_words_total", "Invalid words that the port sent."),
    ("link_failure_count", "link_failure_total", "Times the link failed."),
    ("loss_of_sync_count", "loss_of_sync_total", "Times synchronization was lost."),
    ("loss_of_signal_count", "loss_of_signal_total", "Times the signal was lost."),
    ("nos_count", "nos_total", "Not-operational sequences."),
    ("fcp_packet_aborts", "fcp_packet_aborts_total", "Packets given up."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for name in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
        let mut labels = vec![("fc_host", name.clone())];
        for file in INFO {
            let value = host.sys_optional(&format!("{FOLDER}/{name}/{file}"))?.unwrap_or_default();
            let identity = IDENTITIES.contains(&file);
            let value = value.strip_prefix("0x").filter(|_| identity).map(str::to_owned).unwrap_or(value);
            labels.push((file, value));
        }
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        out.sample(Kind::Gauge, "node_fibrechannel_info", "What an adapter is.", &labels, 1.0);
        let unknown = labels.contains(&("port_state", "Unknown"));
        for (file, family, help) in COUNTERS {
            let count = if unknown { Some(0) } else { count(host, &format!("{FOLDER}/{name}/statistics/{file}"))? };
            if let Some(count) = count {
                let family = format!("node_fibrechannel_{family}");
                out.sample(Kind::Counter, &family, help, &labels[..1], count as f64);
            }
        }
    }
    Ok(())
}

/// A hexadecimal count; all ones means that the adapter does not keep it.
fn count(host: &Host, path: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = host.sys_optional(path)? else { return Ok(None) };
    let count = u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let count = count.map_err(|_| Failure::form(path, format!("{text:?} is not hexadecimal")))?;
    Ok(Some(count).filter(|count| *count != u64::MAX))
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    fn tree(state: &str, frames: &str) -> Tree {
        Tree::new()
            .file("sys/class/fc_host/host0/port_state", state)
            .file("sys/class/fc_host/host0/port_id", "0x000002\n")
            .file("sys/class/fc_host/host0/statistics/rx_frames", frames)
    }

    #[test]
    fn hexadecimal_counts() {
        let samples = tree("Online\n", "0x10\n").samples("fibrechannel", &[]);
        assert!(samples.contains("node_fibrechannel_rx_frames_total{fc_host=\"host0\"} 16\n"), "{samples}");
        assert!(samples.contains("port_id=\"000002\"") && !samples.contains("tx_words"), "{samples}");
        let samples = tree("Online\n", "0xffffffffffffffff\n").samples("fibrechannel", &[]);
        assert!(!samples.contains("rx_frames"), "{samples}");
        let samples = tree("Unknown\n", "0x10\n").samples("fibrechannel", &[]);
        assert!(samples.contains("rx_frames_total{fc_host=\"host0\"} 0\n"), "{samples}");
        assert!(samples.contains("tx_words_total{fc_host=\"host0\"} 0\n"), "{samples}");
        assert!(Tree::new().failure("fibrechannel").contains("no data"));
    }
}
