//! Calls of the NFS client: `/proc/net/rpc/nfs`, see `fs/nfs/nfs*xdr.c` of the kernel for the order of the methods.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "nfs", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "net/rpc/nfs";

pub(super) const VERSION_2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove",
    "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
pub(super) const VERSION_3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];
const VERSION_4: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "GetDeviceInfo",
    "LayoutGet",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let table = Table::read(host, PATH)?;
    let net = table.line("net");
    let help = "Packets by protocol.";
    for (protocol, place) in [("udp", 1), ("tcp", 2)] {
        out.sample(Kind::Counter, "node_nfs_packets_total", help, &[("protocol", protocol)], net.at(place));
    }
    out.counter("node_nfs_connections_total", "Connections made.", net.at(3));
    let rpc = table.line("rpc");
    out.counter("node_nfs_rpcs_total", "Calls made.", rpc.at(0));
    out.counter("node_nfs_rpc_retransmissions_total", "Calls sent again.", rpc.at(1));
    out.counter("node_nfs_rpc_authentication_refreshes_total", "Times credentials were renewed.", rpc.at(2));
    let help = "Calls by method.";
    for (line, version, methods) in
        [("proc2", "2", &VERSION_2[..]), ("proc3", "3", &VERSION_3), ("proc4", "4", &VERSION_4)]
    {
        let counts = table.line(line);
        for (place, method) in methods.iter().enumerate() {
            let labels = [("proto", version), ("method", *method)];
            // The first number of the line says how many follow.
            out.sample(Kind::Counter, "node_nfs_requests_total", help, &labels, counts.at(place + 1));
        }
    }
    Ok(())
}

/// A file of lines that begin with a word and go on with numbers.
pub(super) struct Table(Vec<(String, Vec<f64>)>);

/// The numbers of a line; those that are not there are 0.
pub(super) struct Line<'a>(&'a [f64]);

impl Table {
    /// Reads the file; a missing one is no data.
    pub(super) fn read(host: &Host, path: &str) -> Result<Table, Failure> {
        let text = host.read_proc(path).map_err(Failure::absent_is_no_data)?;
        let mut lines = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let numbers = words.map(|word| number(path, word)).collect::<Result<Vec<f64>, Failure>>()?;
            // A line of methods begins with how many there are.
            if name.starts_with("proc") && numbers.first().is_none_or(|count| *count != (numbers.len() - 1) as f64) {
                return Err(Failure::form(path, format!("line {name} has not as many numbers as it says")));
            }
            lines.push((name.to_owned(), numbers));
        }
        Ok(Table(lines))
    }

    /// The line that begins with a word.
    pub(super) fn line(&self, name: &str) -> Line<'_> {
        Line(self.0.iter().find(|(found, _)| found == name).map_or(&[], |(_, numbers)| numbers))
    }
}

impl Line<'_> {
    /// The number at a place, counted from 0.
    pub(super) fn at(&self, place: usize) -> f64 {
        self.0.get(place).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn places_that_are_missing_are_nothing() {
        let tree = Tree::new().file("proc/net/rpc/nfs", "net 70 71 69 45\nrpc 5 6 7\nproc3 2 8 9\n");
        let samples = tree.samples("nfs", &[]);
        for expected in [
            "node_nfs_packets_total{protocol=\"udp\"} 71\n",
            "node_nfs_rpc_retransmissions_total 6\n",
            "node_nfs_requests_total{method=\"GetAttr\",proto=\"3\"} 9\n",
            "node_nfs_requests_total{method=\"Clone\",proto=\"4\"} 0\n",
        ] {
            assert!(samples.contains(expected), "{expected} in {samples}");
        }
        assert!(Tree::new().failure("nfs").contains("no data"));
        assert!(Tree::new().file("proc/net/rpc/nfs", "net x\n").failure("nfs").contains("not a number"));
        assert!(Tree::new().file("proc/net/rpc/nfs", "proc3 2 8\n").failure("nfs").contains("as many"));
        assert!(Tree::new().file("proc/net/rpc/nfs", "proc3\n").failure("nfs").contains("as many"));
    }
}
