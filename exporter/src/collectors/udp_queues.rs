//! Bytes waiting in UDP sockets: the hexadecimal queue columns of `/proc/net/udp` and `udp6`.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "udp_queues",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let mut found = false;
    for (path, ip) in [("net/udp", "v4"), ("net/udp6", "v6")] {
        let text = match host.read_proc(path) {
            Err(failure) if failure.is_absent() => continue,
            other => other?,
        };
        found = true;
        let (mut sent, mut received) = (0u64, 0u64);
        for line in text.lines().skip(1) {
            let queues = line.split_whitespace().nth(4).and_then(|field| field.split_once(':'));
            let hex = |digits| u64::from_str_radix(digits, 16).ok();
            let queues = queues.and_then(|(tx, rx)| Some((hex(tx)?, hex(rx)?)));
            let (tx, rx) = queues.ok_or_else(|| Failure::form(path, format!("line {line:?}")))?;
            (sent, received) = (sent.saturating_add(tx), received.saturating_add(rx));
        }
        for (queue, bytes) in [("tx", sent), ("rx", received)] {
            let labels = [("queue", queue), ("ip", ip)];
            out.sample(Kind::Gauge, "node_udp_queues", "Bytes waiting in UDP sockets.", &labels, bytes as f64);
        }
    }
    if found { Ok(()) } else { Err(Failure::NoData("there are no UDP sockets files".to_owned())) }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn sums_of_both_queues() {
        let text = "  sl  local_address\n   0: 00000000:0016 00000000:0000 0A 00000015:00000001 00:00000000\n   1: \
                    00000000:0017 00000000:0000 0A 00000001:00000000 00:00000000\n";
        let samples = Tree::new().file("proc/net/udp", text).samples("udp_queues", &[]);
        assert_eq!(samples, "node_udp_queues{ip=\"v4\",queue=\"rx\"} 1\nnode_udp_queues{ip=\"v4\",queue=\"tx\"} 22\n");
    }
}
