//! Wireless interfaces and their stations: generic netlink `nl80211`, see the kernel's `include/uapi/linux/nl80211.h`.
//!
//! `--collector.wifi.fixtures` names a folder whose JSON files are shown instead, for comparisons.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::generic::{Generic, HEAD};
use crate::host::{Failure, Host, read_at};
use crate::netlink::{attributes, attributes_after, hardware_address, push_attribute, text, u16_at, u32_at, u64_at};
use base64::Engine;
use cli::Flag;
use std::io;
use std::path::{Path, PathBuf};

pub(super) const COLLECTOR: Collector = Collector { name: "wifi", enabled: false, flags, deprecated: &[], build };

const FIXTURES: &str = "collector.wifi.fixtures";
const FAMILY: &str = "nl80211";
const GET_INTERFACE: u8 = 5;
const GET_STATION: u8 = 17;
const GET_SCAN: u8 = 32;
const INDEX: u16 = 3;
const NAME: u16 = 4;
const ADDRESS: u16 = 6;
const STATION: u16 = 0x15;
const FREQUENCY: u16 = 0x26;
const BSS: u16 = 0x2f;

fn flags() -> Vec<Flag> {
    vec![Flag::string(FIXTURES, "", "Folder with JSON files to show instead of the kernel's answers")]
}

struct Wifi {
    fixtures: Option<PathBuf>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let fixtures = settings.parsed.str(FIXTURES);
    Ok(Box::new(Wifi { fixtures: (!fixtures.is_empty()).then(|| PathBuf::from(fixtures)) }))
}

/// One interface with what it is part of.
#[derive(Debug, Default, PartialEq)]
struct Interface {
    name: String,
    index: u32,
    /// MHz.
    frequency: u32,
    network: Option<Network>,
    stations: Vec<Station>,
}

#[derive(Debug, Default, PartialEq)]
struct Network {
    bssid: String,
    ssid: String,
    status: u32,
}

#[derive(Debug, Default, PartialEq)]
struct Station {
    address: String,
    connected_seconds: f64,
    inactive_seconds: f64,
    /// Bits in a second.
    receive_rate: f64,
    transmit_rate: f64,
    receive_bytes: u64,
    transmit_bytes: u64,
    receive_packets: u64,
    transmit_packets: u64,
    signal: i64,
    retries: u64,
    failed: u64,
    beacon_loss: u64,
}

impl Gather for Wifi {
    fn gather(&self, _host: &Host, out: &mut Families) -> Result<(), Failure> {
        let interfaces = match &self.fixtures {
            Some(folder) => from_files(folder)?,
            None => ask().map_err(forbidden_is_no_data)?,
        };
        // Virtual devices without a name exist too.
        for interface in interfaces.iter().filter(|interface| !interface.name.is_empty()) {
            show(interface, out);
        }
        Ok(())
    }
}

fn forbidden_is_no_data(failure: Failure) -> Failure {
    match failure {
        Failure::Call { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Failure::NoData("this process must not ask for wireless interfaces".to_owned())
        }
        other => other,
    }
}

fn show(interface: &Interface, out: &mut Families) {
    let device = interface.name.as_str();
    let help = "Frequency of a wireless interface.";
    let hertz = f64::from(interface.frequency) * 1e6;
    out.sample(Kind::Gauge, "node_wifi_interface_frequency_hertz", help, &[("device", device)], hertz);
    if let Some(network) = &interface.network {
        let mode = match network.status {
            1 => "client",
            2 => "ad-hoc",
            _ => "unknown",
        };
        let labels =
            [("device", device), ("bssid", network.bssid.as_str()), ("ssid", network.ssid.as_str()), ("mode", mode)];
        out.sample(Kind::Gauge, "node_wifi_station_info", "The network an interface is part of.", &labels, 1.0);
    }
    for station in &interface.stations {
        show_station(device, station, out);
    }
}

fn show_station(device: &str, station: &Station, out: &mut Families) {
    let labels = [("device", device), ("mac_address", station.address.as_str())];
    let mut set = |kind, name: &str, help: &str, value: f64| {
        out.sample(kind, &format!("node_wifi_station_{name}"), help, &labels, value);
    };
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    set(counter, "connected_seconds_total", "How long a station has been connected.", station.connected_seconds);
    set(gauge, "inactive_seconds", "How long a station has been silent.", station.inactive_seconds);
    set(gauge, "receive_bits_per_second", "Rate of receiving from a station.", station.receive_rate);
    set(gauge, "transmit_bits_per_second", "Rate of sending to a station.", station.transmit_rate);
    set(counter, "receive_bytes_total", "Bytes received from a station.", station.receive_bytes as f64);
    set(counter, "transmit_bytes_total", "Bytes sent to a station.", station.transmit_bytes as f64);
    set(counter, "received_packets_total", "Packets received from a station.", station.receive_packets as f64);
    set(counter, "transmitted_packets_total", "Packets sent to a station.", station.transmit_packets as f64);
    set(gauge, "signal_dbm", "Signal strength of a station.", station.signal as f64);
    set(counter, "transmit_retries_total", "Packets sent again to a station.", station.retries as f64);
    set(counter, "transmit_failed_total", "Packets that did not reach a station.", station.failed as f64);
    set(counter, "beacon_loss_total", "Times a station's beacon was lost.", station.beacon_loss as f64);
}

fn ask() -> Result<Vec<Interface>, Failure> {
    let mut generic = Generic::open(FAMILY)?;
    let listed = generic.dump(GET_INTERFACE, &[])?;
    let mut interfaces: Vec<(Interface, Vec<u8>)> = listed.iter().map(parse_interface).collect();
    interfaces.retain(|(interface, _)| !interface.name.is_empty());
    for (interface, address) in &mut interfaces {
        let mut narrowed = Vec::new();
        push_attribute(&mut narrowed, INDEX, &interface.index.to_ne_bytes());
        push_attribute(&mut narrowed, ADDRESS, address);
        interface.network = generic.dump(GET_SCAN, &narrowed)?.iter().find_map(parse_network);
        interface.stations = generic.dump(GET_STATION, &narrowed)?.iter().map(parse_station).collect();
    }
    Ok(interfaces.into_iter().map(|(interface, _)| interface).collect())
}

fn parse_interface(message: &[u8]) -> (Interface, Vec<u8>) {
    let (mut interface, mut address) = (Interface::default(), Vec::new());
    for (kind, value) in attributes_after(message, HEAD) {
        match kind {
            INDEX => interface.index = u32_at(value, 0).unwrap_or(0),
            NAME => interface.name = text(value),
            ADDRESS => value.clone_into(&mut address),
            FREQUENCY => interface.frequency = u32_at(value, 0).unwrap_or(0),
            _ => {}
        }
    }
    (interface, address)
}

/// The network of a scan result that the interface is part of; others have no status.
fn parse_network(message: &[u8]) -> Option<Network> {
    let (_, bss) = attributes_after(message, HEAD).find(|(kind, _)| *kind == BSS)?;
    let (mut network, mut status) = (Network::default(), None);
    for (kind, value) in attributes(bss) {
        match kind {
            1 => network.bssid = hardware_address(value),
            6 => network.ssid = ssid(value),
            9 => status = u32_at(value, 0),
            _ => {}
        }
    }
    network.status = status?;
    Some(network)
}

/// The name of a network among its information elements: one byte kind, one byte length each.
fn ssid(elements: &[u8]) -> String {
    let mut rest = elements;
    while let [kind, length, tail @ ..] = rest {
        let Some(value) = tail.get(..usize::from(*length)) else { break };
        if *kind == 0 {
            return text(value);
        }
        rest = &tail[value.len()..];
    }
    String::new()
}

fn parse_station(message: &[u8]) -> Station {
    let mut station = Station::default();
    for (kind, value) in attributes_after(message, HEAD) {
        match kind {
            ADDRESS => station.address = hardware_address(value),
            STATION => parse_figures(value, &mut station),
            _ => {}
        }
    }
    station
}

fn parse_figures(bytes: &[u8], station: &mut Station) {
    for (kind, value) in attributes(bytes) {
        let number = u64::from(u32_at(value, 0).unwrap_or(0));
        match kind {
            1 => station.inactive_seconds = number as f64 / 1000.0,
            2 if station.receive_bytes == 0 => station.receive_bytes = number,
            3 if station.transmit_bytes == 0 => station.transmit_bytes = number,
            7 => station.signal = i64::from(value.first().copied().unwrap_or(0) as i8),
            8 => station.transmit_rate = rate(value),
            9 => station.receive_packets = number,
            10 => station.transmit_packets = number,
            11 => station.retries = number,
            12 => station.failed = number,
            14 => station.receive_rate = rate(value),
            16 => station.connected_seconds = number as f64,
            18 => station.beacon_loss = number,
            23 => station.receive_bytes = u64_at(value, 0).unwrap_or(number),
            24 => station.transmit_bytes = u64_at(value, 0).unwrap_or(number),
            _ => {}
        }
    }
}

/// Bits in a second; the kernel counts hundreds of kilobits, in 16 bits or, on newer kernels, in 32.
fn rate(bytes: &[u8]) -> f64 {
    let find = |wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let long = find(5).and_then(|value| u32_at(value, 0));
    let short = || find(1).and_then(|value| u16_at(value, 0)).map(u32::from);
    f64::from(long.or_else(short).unwrap_or(0)) * 100_000.0
}

fn from_files(folder: &Path) -> Result<Vec<Interface>, Failure> {
    let mut interfaces = Vec::new();
    for row in json(&folder.join("interfaces.json"))?.as_array().into_iter().flatten() {
        let mut interface = Interface {
            name: word(row, "name").to_owned(),
            frequency: u32::try_from(long(row, "frequency")).unwrap_or(0),
            ..Interface::default()
        };
        if !interface.name.is_empty() {
            let own = folder.join(&interface.name);
            interface.network = optional(json(&own.join("bss.json")))?.map(|row| network_of(&row));
            let stations = optional(json(&own.join("stationinfo.json")))?;
            let stations = stations.as_ref().and_then(serde_json::Value::as_array);
            interface.stations = stations.into_iter().flatten().map(station_of).collect();
        }
        interfaces.push(interface);
    }
    Ok(interfaces)
}

fn network_of(row: &serde_json::Value) -> Network {
    let status = u32::try_from(long(row, "status")).unwrap_or(u32::MAX);
    Network { bssid: octets(word(row, "bssid")), ssid: word(row, "ssid").to_owned(), status }
}

fn station_of(row: &serde_json::Value) -> Station {
    let count = |key| u64::try_from(long(row, key)).unwrap_or(0);
    let seconds = |key| long(row, key) as f64 / 1e9;
    Station {
        address: octets(word(row, "hardwareaddr")),
        connected_seconds: seconds("connected"),
        inactive_seconds: seconds("inactive"),
        receive_rate: long(row, "receivebitrate") as f64,
        transmit_rate: long(row, "transmitbitrate") as f64,
        receive_bytes: count("receivedbytes"),
        transmit_bytes: count("transmittedbytes"),
        receive_packets: count("receivedpackets"),
        transmit_packets: count("transmittedpackets"),
        signal: long(row, "signal"),
        retries: count("transmitretries"),
        failed: count("transmitfailed"),
        beacon_loss: count("beaconloss"),
    }
}

fn optional<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(failure) if failure.is_absent() => Ok(None),
        other => other.map(Some),
    }
}

fn json(path: &Path) -> Result<serde_json::Value, Failure> {
    let text = read_at(path)?;
    serde_json::from_str(&text).map_err(|error| Failure::form(&path.display().to_string(), error.to_string()))
}

fn word<'a>(row: &'a serde_json::Value, key: &str) -> &'a str {
    row.get(key).and_then(serde_json::Value::as_str).unwrap_or("")
}

fn long(row: &serde_json::Value, key: &str) -> i64 {
    row.get(key).and_then(serde_json::Value::as_i64).unwrap_or(0)
}

fn octets(text: &str) -> String {
    hardware_address(&base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    fn nested(parts: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, value) in parts {
            push_attribute(&mut out, *kind, value);
        }
        out
    }

    #[test]
    fn a_scan_result_counts_when_it_has_a_status() {
        let elements = [1, 1, 9, 0, 4, b'H', b'o', b'm', b'e'];
        let bssid = [0, 0x11, 0x22, 0x33, 0x44, 0x55];
        let without = nested(&[(1, &bssid), (6, &elements)]);
        let with = nested(&[(1, &bssid), (6, &elements), (9, &1u32.to_ne_bytes())]);
        let message = |bss: &[u8]| [&[0; HEAD][..], &nested(&[(BSS, bss)])].concat();
        assert_eq!(parse_network(&message(&without)), None);
        let expected = Network { bssid: "00:11:22:33:44:55".to_owned(), ssid: "Home".to_owned(), status: 1 };
        assert_eq!(parse_network(&message(&with)), Some(expected));
        assert_eq!(ssid(&[0, 9, b'x']), "");
    }

    #[test]
    fn a_station() {
        let rates = nested(&[(1, &10u16.to_ne_bytes()), (5, &1280u32.to_ne_bytes())]);
        let figures = nested(&[
            (1, &400u32.to_ne_bytes()),
            (2, &7u32.to_ne_bytes()),
            (23, &(1u64 << 33).to_ne_bytes()),
            (7, &[0xcc]),
            (14, &rates),
            (16, &30u32.to_ne_bytes()),
        ]);
        let message = [&[0; HEAD][..], &nested(&[(ADDRESS, &[1, 2, 3, 4, 5, 6]), (STATION, &figures)])].concat();
        let station = parse_station(&message);
        assert_eq!((station.address.as_str(), station.signal), ("01:02:03:04:05:06", -52));
        assert_eq!((station.inactive_seconds, station.receive_rate), (0.4, 128e6));
        assert_eq!((station.receive_bytes, station.connected_seconds), (1 << 33, 30.0));
    }

    #[test]
    fn files_instead_of_the_kernel() {
        let tree = Tree::new()
            .file("w/interfaces.json", r#"[{"name":"wlan0","frequency":2412},{"type":10}]"#)
            .file("w/wlan0/bss.json", r#"{"ssid":"Example","bssid":"ABEiM0RV","status":1}"#)
            .file("w/wlan0/stationinfo.json", r#"[{"hardwareaddr":"qrvM3e7/","signal":-52}]"#);
        let fixtures = format!("--collector.wifi.fixtures={}", tree.path("w").display());
        let samples = tree.samples("wifi", &["--collector.wifi", &fixtures]);
        assert!(samples.contains("node_wifi_interface_frequency_hertz{device=\"wlan0\"} 2.412e+09\n"), "{samples}");
        let station = "node_wifi_station_signal_dbm{device=\"wlan0\",mac_address=\"aa:bb:cc:dd:ee:ff\"} -52\n";
        assert!(samples.contains(station), "{samples}");
        assert!(samples.contains("bssid=\"00:11:22:33:44:55\""), "{samples}");
    }
}
