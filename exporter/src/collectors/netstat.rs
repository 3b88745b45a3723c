//! Protocol counters: `/proc/net/netstat`, `snmp` and, where it exists, `snmp6`.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use cli::Flag;
use hashbrown::HashMap;
use re2::Regex;
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector = Collector { name: "netstat", enabled: true, flags, deprecated: &[], build };

const FLAG: &str = "collector.netstat.fields";
const FIELDS: &str = "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)\
|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)\
|Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)\
|Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$";

fn flags() -> Vec<Flag> {
    vec![Flag::string(FLAG, FIELDS, "Pattern of PROTOCOL_FIELD to show")]
}

/// Names whose choice is remembered at most.
const CHOSEN_MAX: usize = 4096;

struct Netstat {
    fields: Option<Regex>,
    /// By protocol and name, whether the pattern chooses it.
    chosen: Mutex<HashMap<String, HashMap<String, bool>>>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Netstat { fields: settings.pattern(FLAG)?, chosen: Mutex::default() }))
}

impl Gather for Netstat {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for path in ["net/netstat", "net/snmp"] {
            let text = host.read_proc(path)?;
            let mut lines = text.lines();
            while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
                self.pair(path, names, values, out)?;
                if let Some(octets) = octets(names, values) {
                    host.note_octets(octets);
                }
            }
        }
        match host.read_proc("net/snmp6") {
            Ok(text) => self.snmp6(&text, out),
            Err(failure) if failure.is_absent() => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// What the exporter shows of itself too.
fn octets(names: &str, values: &str) -> Option<[f64; 2]> {
    let names = names.strip_prefix("IpExt: ")?;
    let values = values.strip_prefix("IpExt: ")?;
    let value = |wanted| {
        let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some([value("InOctets")?, value("OutOctets")?])
}

impl Netstat {
    fn pair(&self, path: &str, names: &str, values: &str, out: &mut Families) -> Result<(), Failure> {
        let mut values = values.split_ascii_whitespace();
        let mut names = names.split_ascii_whitespace();
        let (Some(protocol), Some(_)) = (names.next(), values.next()) else { return Ok(()) };
        let protocol = protocol.trim_end_matches(':');
        let (named, valued) = (names.clone().count(), values.clone().count());
        if named != valued {
            return Err(Failure::form(path, format!("{protocol} has {named} names, {valued} values")));
        }
        for (name, value) in names.zip(values) {
            self.field(path, protocol, name, value, out)?;
        }
        Ok(())
    }

    fn snmp6(&self, text: &str, out: &mut Families) -> Result<(), Failure> {
        for line in text.lines() {
            let mut parts = line.split_ascii_whitespace();
            let (Some(key), Some(value)) = (parts.next(), parts.next()) else { continue };
            let Some(six) = key.find('6') else { continue };
            self.field("net/snmp6", &key[..=six], &key[six + 1..], value, out)?;
        }
        Ok(())
    }

    fn field(&self, path: &str, protocol: &str, name: &str, value: &str, out: &mut Families) -> Result<(), Failure> {
        if !self.shows(protocol, name) {
            return Ok(());
        }
        let help = format_args!("The figure {name} of {protocol}.");
        out.put(Kind::Untyped, format_args!("node_netstat_{protocol}_{name}"), help, &[], number(path, value)?);
        Ok(())
    }

    /// Whether a figure is chosen. There are some hundred, most of them are not, and they are the same at each scrape:
    /// so the pattern is asked once for each.
    fn shows(&self, protocol: &str, name: &str) -> bool {
        let Some(fields) = &self.fields else { return true };
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = chosen.get(protocol).and_then(|names| names.get(name)) {
            return *shown;
        }
        let shown = fields.is_match(&format!("{protocol}_{name}"));
        // A file may hold anything, and it is not remembered without limit.
        if chosen.values().map(HashMap::len).sum::<usize>() >= CHOSEN_MAX {
            chosen.clear();
        }
        chosen.entry_ref(protocol).or_default().insert(name.to_owned(), shown);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::octets;
    use crate::testing::Tree;

    #[test]
    fn octets_of_the_network() {
        let (names, values) = ("IpExt: InNoRoutes InOctets OutOctets", "IpExt: 1 20 30");
        assert_eq!(octets(names, values), Some([20.0, 30.0]));
        assert_eq!(octets("IpExt: InOctets", "IpExt: 1"), None);
        assert_eq!(octets("TcpExt: InOctets OutOctets", values), None);
    }

    #[test]
    fn names_above_values() {
        let tree = Tree::new()
            .file("proc/net/netstat", "TcpExt: SyncookiesSent Other\nTcpExt: 3 9\n")
            .file("proc/net/snmp", "Udp: InErrors\nUdp: 4\n")
            .file("proc/net/snmp6", "Ip6InOctets   460\nIp6OutNoRoutes 3\n");
        assert_eq!(
            tree.samples("netstat", &[]),
            "node_netstat_Ip6_InOctets 460\nnode_netstat_TcpExt_SyncookiesSent 3\nnode_netstat_Udp_InErrors 4\n"
        );
    }
}
