//! Unicast routes of every table: netlink `RTM_GETROUTE`, see `rtnetlink(7)`.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use crate::netlink::{GET_ROUTE, Netlink, address, attributes, attributes_after, link_names, u16_at, u32_at};
use std::collections::BTreeMap;

pub(super) const COLLECTOR: Collector = Collector {
    name: "network_route",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

/// Bytes of an `rtmsg`.
const HEAD: usize = 12;
const UNICAST: u8 = 1;
const DESTINATION: u16 = 1;
const OUT_DEVICE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const PREFERRED_SOURCE: u16 = 7;
const MULTIPATH: u16 = 9;

/// Who made a route.
const PROTOCOLS: &[(u8, &str)] = &[
    (0, "unspec"),
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (8, "gated"),
    (9, "ra"),
    (10, "mrt"),
    (11, "zebra"),
    (12, "bird"),
    (13, "dnrouted"),
    (14, "xorp"),
    (15, "ntk"),
    (16, "dhcp"),
    (17, "mrouted"),
    (42, "babel"),
    (186, "bgp"),
    (187, "isis"),
    (188, "ospf"),
    (189, "rip"),
    (192, "eigrp"),
];

/// One way of a route.
#[derive(Debug, PartialEq, Eq)]
struct Hop {
    device: u32,
    gateway: String,
    /// Only where a route has several ways.
    weight: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Route {
    source: String,
    destination: String,
    priority: u32,
    protocol: &'static str,
    hops: Vec<Hop>,
}

fn gather(_host: &Host, out: &mut Families) -> Result<(), Failure> {
    let mut netlink = Netlink::route()?;
    let names = link_names(&mut netlink)?;
    let answer = netlink.dump(GET_ROUTE, &[0; HEAD])?;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for route in answer.iter().filter_map(parse) {
        let priority = route.priority.to_string();
        for hop in &route.hops {
            let device = names.get(&hop.device).map_or("", String::as_str);
            *counts.entry(device).or_default() += 1;
            let labels = [
                ("device", device),
                ("src", route.source.as_str()),
                ("dest", route.destination.as_str()),
                ("gw", hop.gateway.as_str()),
                ("priority", priority.as_str()),
                ("proto", route.protocol),
                ("weight", hop.weight.as_str()),
            ];
            out.sample(Kind::Gauge, "node_network_route_info", "One way to a destination.", &labels, 1.0);
        }
    }
    for (device, count) in counts {
        let help = "Ways that lead through a device.";
        out.sample(Kind::Gauge, "node_network_routes", help, &[("device", device)], count as f64);
    }
    Ok(())
}

fn shown(bytes: &[u8]) -> String {
    address(bytes).map(|address| address.to_string()).unwrap_or_default()
}

/// `None` for what is no unicast route.
fn parse(message: &[u8]) -> Option<Route> {
    let (prefix, protocol, kind) = (*message.get(1)?, *message.get(5)?, *message.get(7)?);
    if kind != UNICAST {
        return None;
    }
    let protocol = PROTOCOLS.iter().find(|(number, _)| *number == protocol).map_or("unknown", |(_, name)| *name);
    let mut route =
        Route { source: String::new(), destination: "default".to_owned(), priority: 0, protocol, hops: Vec::new() };
    let mut only = Hop { device: 0, gateway: String::new(), weight: String::new() };
    for (kind, value) in attributes_after(message, HEAD) {
        match kind {
            DESTINATION => route.destination = format!("{}/{prefix}", shown(value)),
            PREFERRED_SOURCE => route.source = shown(value),
            PRIORITY => route.priority = u32_at(value, 0)?,
            OUT_DEVICE => only.device = u32_at(value, 0)?,
            GATEWAY => only.gateway = shown(value),
            MULTIPATH => route.hops = several(value),
            _ => {}
        }
    }
    if route.hops.is_empty() {
        route.hops.push(only);
    }
    Some(route)
}

/// The `rtnexthop` list of a route with several ways.
fn several(bytes: &[u8]) -> Vec<Hop> {
    let (mut hops, mut rest) = (Vec::new(), bytes);
    while let (Some(length), Some(device), Some(extra)) = (u16_at(rest, 0), u32_at(rest, 4), rest.get(3).copied()) {
        let Some(hop) = rest.get(8..usize::from(length)) else { break };
        let gateway = attributes(hop).find(|(kind, _)| *kind == GATEWAY).map(|(_, value)| shown(value));
        let weight = (u32::from(extra) + 1).to_string();
        hops.push(Hop { device, gateway: gateway.unwrap_or_default(), weight });
        rest = rest.get((usize::from(length) + 3) & !3..).unwrap_or(&[]);
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::push_attribute;
    use crate::testing::Tree;

    fn head(prefix: u8, protocol: u8, kind: u8) -> Vec<u8> {
        vec![2, prefix, 0, 0, 254, protocol, 0, kind, 0, 0, 0, 0]
    }

    #[test]
    fn a_default_route() {
        let mut message = head(0, 16, UNICAST);
        push_attribute(&mut message, OUT_DEVICE, &2u32.to_ne_bytes());
        push_attribute(&mut message, GATEWAY, &[10, 0, 0, 1]);
        push_attribute(&mut message, PREFERRED_SOURCE, &[10, 0, 0, 9]);
        push_attribute(&mut message, PRIORITY, &1024u32.to_ne_bytes());
        let hops = vec![Hop { device: 2, gateway: "10.0.0.1".to_owned(), weight: String::new() }];
        let (source, destination) = ("10.0.0.9".to_owned(), "default".to_owned());
        assert_eq!(parse(&message), Some(Route { source, destination, priority: 1024, protocol: "dhcp", hops }));
        assert_eq!(parse(&head(0, 2, 2)), None, "a local route");
    }

    #[test]
    fn several_ways() {
        let mut message = head(24, 99, UNICAST);
        push_attribute(&mut message, DESTINATION, &[10, 1, 2, 0]);
        let mut hops = Vec::new();
        for (weight, device) in [(0u8, 3u32), (4, 4)] {
            let mut gateway = Vec::new();
            push_attribute(&mut gateway, GATEWAY, &[10, 0, 0, device as u8]);
            hops.extend_from_slice(&(8 + gateway.len() as u16).to_ne_bytes());
            hops.extend_from_slice(&[0, weight]);
            hops.extend_from_slice(&device.to_ne_bytes());
            hops.extend(gateway);
        }
        push_attribute(&mut message, MULTIPATH, &hops);
        let route = parse(&message).expect("a route");
        assert_eq!((route.destination.as_str(), route.protocol), ("10.1.2.0/24", "unknown"));
        let shown: Vec<_> =
            route.hops.iter().map(|hop| (hop.device, hop.gateway.as_str(), hop.weight.as_str())).collect();
        assert_eq!(shown, [(3, "10.0.0.3", "1"), (4, "10.0.0.4", "5")]);
    }

    #[test]
    fn this_machine_answers() {
        let text = Tree::new().text("network_route", &["--collector.network_route"]);
        assert!(text.is_empty() || text.contains("node_network_routes{"), "{text}");
    }
}
