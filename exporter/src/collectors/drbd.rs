//! Replicated block devices: `/proc/drbd`, see the users' guide of DRBD 8.4, "The /proc/drbd file".

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "drbd", enabled: false, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "drbd";
const KIB: f64 = 1024.0;

/// Key, type, name after `node_drbd_`, factor, help. Received bytes are not multiplied, as upstream does not.
const NUMBERS: &[(&str, Kind, &str, f64, &str)] = &[
    ("ns", Kind::Counter, "network_sent_bytes_total", KIB, "Bytes sent."),
    ("nr", Kind::Counter, "network_received_bytes_total", 1.0, "Data received, in the unit of the file."),
    ("dw", Kind::Counter, "disk_written_bytes_total", KIB, "Bytes written to the disk."),
    ("dr", Kind::Counter, "disk_read_bytes_total", KIB, "Bytes read from the disk."),
    ("al", Kind::Counter, "activitylog_writes_total", 1.0, "Changes of the activity log."),
    ("bm", Kind::Counter, "bitmap_writes_total", 1.0, "Changes of the bitmap."),
    ("lo", Kind::Gauge, "local_pending", 1.0, "Open requests to the disk."),
    ("pe", Kind::Gauge, "remote_pending", 1.0, "Requests sent that are not answered."),
    ("ua", Kind::Gauge, "remote_unacknowledged", 1.0, "Requests received that are not answered."),
    ("ap", Kind::Gauge, "application_pending", 1.0, "Requests of applications that are not answered."),
    ("ep", Kind::Gauge, "epochs", 1.0, "Epochs under way."),
    ("oos", Kind::Gauge, "out_of_sync_bytes", KIB, "Bytes that differ from the peer's."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH).map_err(Failure::absent_is_no_data)?;
    let mut device: Option<String> = None;
    for word in text.split_whitespace() {
        let Some((key, value)) = word.split_once(':') else { continue };
        if value.is_empty() && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit()) {
            device = Some(format!("drbd{key}"));
        } else if let Some(device) = &device {
            pair(device, key, value, out)?;
        }
    }
    Ok(())
}

fn pair(device: &str, key: &str, value: &str, out: &mut Families) -> Result<(), Failure> {
    let labels = [("device", device)];
    if let Some((_, kind, name, factor, help)) = NUMBERS.iter().find(|(known, ..)| *known == key) {
        let value = number(PATH, value)? * factor;
        out.sample(*kind, &format!("node_drbd_{name}"), help, &labels, value);
        return Ok(());
    }
    let (name, help, wanted) = match key {
        "ro" => ("node_drbd_node_role_is_primary", "1 when a node is primary.", "Primary"),
        "ds" => ("node_drbd_disk_state_is_up_to_date", "1 when a node's disk is up to date.", "UpToDate"),
        "cs" => {
            let connected = f64::from(u8::from(value == "Connected"));
            out.sample(Kind::Gauge, "node_drbd_connected", "1 when the peer is connected.", &labels, connected);
            return Ok(());
        }
        _ => return Ok(()),
    };
    let Some((local, remote)) = value.split_once('/') else {
        return Err(Failure::form(PATH, format!("{key} is {value:?} and not two words")));
    };
    for (node, word) in [("local", local), ("remote", remote)] {
        let labels = [("device", device), ("node", node)];
        out.sample(Kind::Gauge, name, help, &labels, f64::from(u8::from(word == wanted)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn words_after_the_device() {
        let text = "version: 8.4.3 (api:1/proto:86-101)\n\n 1: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown\n    \
                    ns:2 nr:3 oos:4\n";
        let samples = Tree::new().file("proc/drbd", text).samples("drbd", &["--collector.drbd"]);
        for expected in [
            "node_drbd_connected{device=\"drbd1\"} 0\n",
            "node_drbd_network_sent_bytes_total{device=\"drbd1\"} 2048\n",
            "node_drbd_network_received_bytes_total{device=\"drbd1\"} 3\n",
            "node_drbd_node_role_is_primary{device=\"drbd1\",node=\"remote\"} 0\n",
        ] {
            assert!(samples.contains(expected), "{expected} in {samples}");
        }
    }
}
