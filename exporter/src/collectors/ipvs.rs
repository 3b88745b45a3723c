//! The kernel's load balancer: `/proc/net/ip_vs_stats` and `/proc/net/ip_vs`, both hexadecimal in places; see
//! `net/netfilter/ipvs/ip_vs_ctl.c` of the kernel.
//!
//! Backends that differ only in labels that are not asked for are added up.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use cli::Flag;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const COLLECTOR: Collector = Collector { name: "ipvs", enabled: true, flags, deprecated: &[], build };

const STATS: &str = "net/ip_vs_stats";
const SERVICES: &str = "net/ip_vs";
const LABELS_FLAG: &str = "collector.ipvs.backend-labels";
const LABELS: [&str; 6] = ["local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"];
const LABELS_DEFAULT: &str = "local_address,local_port,remote_address,remote_port,proto,local_mark";

const TOTALS: [(&str, &str); 5] = [
    ("node_ipvs_connections_total", "Connections."),
    ("node_ipvs_incoming_packets_total", "Packets received."),
    ("node_ipvs_outgoing_packets_total", "Packets sent."),
    ("node_ipvs_incoming_bytes_total", "Bytes received."),
    ("node_ipvs_outgoing_bytes_total", "Bytes sent."),
];

fn flags() -> Vec<Flag> {
    vec![Flag::string(LABELS_FLAG, LABELS_DEFAULT, "Labels of the backends, separated by commas")]
}

struct Ipvs {
    /// Places in [`LABELS`].
    shown: Vec<usize>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let (text, _) = settings.text(LABELS_FLAG)?;
    let mut shown = Vec::new();
    for name in text.split(',').filter(|name| !name.is_empty()) {
        let place = LABELS.iter().position(|label| *label == name).ok_or_else(|| StartError::Setting {
            flag: LABELS_FLAG,
            reason: format!("{name:?} is not a label, use some of {LABELS_DEFAULT}"),
        })?;
        shown.push(place);
    }
    shown.sort_unstable();
    shown.dedup();
    Ok(Box::new(Ipvs { shown }))
}

impl Gather for Ipvs {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        totals(&host.read_proc(STATS).map_err(Failure::absent_is_no_data)?, out)?;
        let text = host.read_proc(SERVICES)?;
        let mut sums: BTreeMap<Vec<String>, [f64; 3]> = BTreeMap::new();
        let mut service: Option<Service> = None;
        for line in text.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields.as_slice() {
                ["TCP" | "UDP" | "SCTP" | "FWM", address, ..] => service = Some(Service::parse(fields[0], address)?),
                ["->", "RemoteAddress:Port", ..] => {}
                ["->", remote, _, weight, active, inactive, ..] => {
                    let service =
                        service.as_ref().ok_or_else(|| Failure::form(SERVICES, "a backend before a service"))?;
                    let (address, port) = endpoint(remote)?;
                    let all = [&service.address, &service.port, &address, &port, &service.protocol, &service.mark];
                    let key = self.shown.iter().map(|place| all[*place].clone()).collect();
                    let sum = sums.entry(key).or_default();
                    for (sum, field) in sum.iter_mut().zip([active, inactive, weight]) {
                        *sum += number(SERVICES, field)?;
                    }
                }
                _ => {}
            }
        }
        self.show(&sums, out);
        Ok(())
    }
}

impl Ipvs {
    fn show(&self, sums: &BTreeMap<Vec<String>, [f64; 3]>, out: &mut Families) {
        for (key, values) in sums {
            let labels: Vec<(&str, &str)> =
                self.shown.iter().zip(key).map(|(place, value)| (LABELS[*place], value.as_str())).collect();
            for ((name, help), value) in [
                ("connections_active", "Active connections of a backend."),
                ("connections_inactive", "Inactive connections of a backend."),
                ("weight", "Weight of a backend."),
            ]
            .iter()
            .zip(values)
            {
                out.sample(Kind::Gauge, &format!("node_ipvs_backend_{name}"), help, &labels, *value);
            }
        }
    }
}

fn totals(text: &str, out: &mut Families) -> Result<(), Failure> {
    let line = text.lines().nth(2).unwrap_or("");
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.len() != TOTALS.len() {
        return Err(Failure::form(STATS, format!("line {line:?} has not five fields")));
    }
    for ((name, help), field) in TOTALS.iter().zip(fields) {
        let value = u64::from_str_radix(field, 16);
        let value = value.map_err(|_| Failure::form(STATS, format!("{field:?} is not hexadecimal")))?;
        out.counter(name, help, value as f64);
    }
    Ok(())
}

/// What a service is reached by; one that is chosen by a mark has no address.
struct Service {
    protocol: String,
    address: String,
    port: String,
    mark: String,
}

impl Service {
    fn parse(protocol: &str, place: &str) -> Result<Service, Failure> {
        let ((address, port), mark) = match protocol {
            "FWM" => ((String::new(), "0".to_owned()), place.to_owned()),
            _ => (endpoint(place)?, String::new()),
        };
        Ok(Service { protocol: protocol.to_owned(), address, port, mark })
    }
}

/// `C0A80016:0CEA`, or an address of version 6 in brackets.
fn endpoint(text: &str) -> Result<(String, String), Failure> {
    let wrong = || Failure::form(SERVICES, format!("{text:?} is not an address and a port"));
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    // The number parser would take a sign.
    if text.contains('+') {
        return Err(wrong());
    }
    let port = u16::from_str_radix(port, 16).map_err(|_| wrong())?;
    let address = match address.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
        // An address of version 4 that is dressed as one of version 6 is shown plainly.
        Some(address) => address.parse::<Ipv6Addr>().map_err(|_| wrong())?.to_canonical().to_string(),
        None if address.len() == 8 => {
            Ipv4Addr::from(u32::from_str_radix(address, 16).map_err(|_| wrong())?).to_string()
        }
        None => return Err(wrong()),
    };
    Ok((address, port.to_string()))
}

#[cfg(test)]
mod tests {
    use super::endpoint;
    use crate::testing::Tree;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("C0A80016:0CEA", Some(("192.168.0.22", "3306"))),
            ("[2620:0000:0000:0000:0000:0000:0000:0001]:0050", Some(("2620::1", "80"))),
            ("[0000:0000:0000:0000:0000:FFFF:C0A8:0001]:0050", Some(("192.168.0.1", "80"))),
            ("C0A80016", None),
            ("C0A800:0CEA", None),
            ("+0A80016:0CEA", None),
        ] {
            let expected = expected.map(|(address, port)| (address.to_owned(), port.to_owned()));
            assert_eq!(endpoint(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn labels_left_out_are_added_up() {
        let tree = Tree::new().file("proc/net/ip_vs_stats", "a\nb\n 10 0 0 0 FF\n").file(
            "proc/net/ip_vs",
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> \
             RemoteAddress:Port Forward Weight ActiveConn InActConn\nUDP  C0A80016:0CEA wlc\n  -> C0A85216:0CEA Tunnel 1 \
             2 3\n  -> C0A85217:0CEA Tunnel 10 20 30\n",
        );
        let samples = tree.samples("ipvs", &["--collector.ipvs.backend-labels=proto"]);
        assert!(samples.contains("node_ipvs_backend_weight{proto=\"UDP\"} 11\n"), "{samples}");
        assert!(samples.contains("node_ipvs_backend_connections_active{proto=\"UDP\"} 22\n"), "{samples}");
        assert!(samples.contains("node_ipvs_outgoing_bytes_total 255\n"), "{samples}");
        assert!(tree.refusal(&["--collector.ipvs.backend-labels=proto,nope"]).contains("\"nope\" is not a label"));
        assert!(Tree::new().failure("ipvs").contains("no data"));
    }
}
