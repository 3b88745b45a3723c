//! TCP connections by state: `sock_diag(7)`, asked for IPv4, and for IPv6 where the kernel has it.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use crate::netlink::{Netlink, u32_at};
use nix::sys::socket::SockProtocol;

pub(super) const COLLECTOR: Collector = Collector {
    name: "tcpstat",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const BY_FAMILY: u16 = 20;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
/// The states 1 to 11.
const ALL_STATES: u32 = 0xfff;
/// Bytes of an `inet_diag_req_v2`.
const REQUEST: usize = 56;

/// The states as the kernel counts them, from one.
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];

#[derive(Debug, Default, PartialEq)]
struct Sums {
    states: [u64; STATES.len()],
    received: u64,
    sent: u64,
    any: bool,
}

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let mut netlink = Netlink::open(SockProtocol::NetlinkSockDiag)?;
    let mut sums = Sums::default();
    let families = if host.proc("net/tcp6").exists() { &[INET, INET6][..] } else { &[INET] };
    for family in families {
        let mut request = [0; REQUEST];
        request[0] = *family;
        request[1] = TCP;
        request[4..8].copy_from_slice(&ALL_STATES.to_ne_bytes());
        for message in netlink.dump(BY_FAMILY, &request)?.iter() {
            add(message, &mut sums);
        }
    }
    show(&sums, out);
    Ok(())
}

/// Adds one `inet_diag_msg`.
fn add(message: &[u8], sums: &mut Sums) {
    let (Some(state), Some(received), Some(sent)) = (message.get(1), u32_at(message, 56), u32_at(message, 60)) else {
        return;
    };
    if let Some(count) = usize::from(*state).checked_sub(1).and_then(|index| sums.states.get_mut(index)) {
        *count += 1;
    }
    sums.received += u64::from(received);
    sums.sent += u64::from(sent);
    sums.any = true;
}

fn show(sums: &Sums, out: &mut Families) {
    let mut set = |state: &str, value: u64| {
        let help = "TCP connections by state, and bytes in their queues.";
        out.sample(Kind::Gauge, "node_tcp_connection_states", help, &[("state", state)], value as f64);
    };
    for (state, count) in STATES.iter().zip(sums.states).filter(|(_, count)| *count > 0) {
        set(state, count);
    }
    if sums.any {
        set("rx_queued_bytes", sums.received);
        set("tx_queued_bytes", sums.sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    fn connection(state: u8, received: u32, sent: u32) -> Vec<u8> {
        let mut message = vec![0; 72];
        message[1] = state;
        message[56..60].copy_from_slice(&received.to_ne_bytes());
        message[60..64].copy_from_slice(&sent.to_ne_bytes());
        message
    }

    #[test]
    fn only_states_that_are_there() {
        let mut sums = Sums::default();
        for message in [connection(1, 3, 4), connection(1, 0, 1), connection(10, 1, 128), connection(12, 0, 0)] {
            add(&message, &mut sums);
        }
        add(&connection(1, 9, 9)[..40], &mut sums);
        let mut out = Families::new();
        show(&sums, &mut out);
        let text = String::from_utf8(out.finish().0).expect("text");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "node_tcp_connection_states{state=\"established\"} 2",
                "node_tcp_connection_states{state=\"listen\"} 1",
                "node_tcp_connection_states{state=\"rx_queued_bytes\"} 4",
                "node_tcp_connection_states{state=\"tx_queued_bytes\"} 133",
            ]
        );
    }

    #[test]
    fn this_machine_has_a_listener() {
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let samples = Tree::new().samples("tcpstat", &["--collector.tcpstat"]);
        assert!(samples.contains("{state=\"listen\"}"), "{samples}");
    }
}
