//! Calls answered by the NFS server: `/proc/net/rpc/nfsd`, see `fs/nfsd/stats.c` of the kernel.

use super::nfs::{Table, VERSION_2, VERSION_3};
use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "nfsd", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "net/rpc/nfsd";

/// Line, place in it, type, name after `node_nfsd_`, help.
const FIGURES: &[(&str, usize, Kind, &str, &str)] = &[
    ("rc", 0, Kind::Counter, "reply_cache_hits_total", "Calls the cache of answers had."),
    ("rc", 1, Kind::Counter, "reply_cache_misses_total", "Calls the cache of answers did not have."),
    ("rc", 2, Kind::Counter, "reply_cache_nocache_total", "Calls that are not kept in the cache of answers."),
    ("fh", 0, Kind::Counter, "file_handles_stale_total", "Stale file handles."),
    ("io", 0, Kind::Counter, "disk_bytes_read_total", "Bytes read from disks."),
    ("io", 1, Kind::Counter, "disk_bytes_written_total", "Bytes written to disks."),
    ("th", 0, Kind::Gauge, "server_threads", "Threads of the server."),
    ("ra", 0, Kind::Gauge, "read_ahead_cache_size_blocks", "Size of the read-ahead cache."),
    ("ra", 11, Kind::Counter, "read_ahead_cache_not_found_total", "Reads that the read-ahead cache did not have."),
    ("net", 3, Kind::Counter, "connections_total", "Connections."),
    ("rpc", 0, Kind::Counter, "server_rpcs_total", "Calls."),
];

/// Operations of version 4 by their number in the protocol.
const VERSION_4: [(usize, &str); 35] = [
    (3, "Access"),
    (4, "Close"),
    (5, "Commit"),
    (6, "Create"),
    (7, "DelegPurge"),
    (8, "DelegReturn"),
    (9, "GetAttr"),
    (10, "GetFH"),
    (11, "Link"),
    (12, "Lock"),
    (13, "Lockt"),
    (14, "Locku"),
    (15, "Lookup"),
    (16, "LookupRoot"),
    (17, "Nverify"),
    (18, "Open"),
    (19, "OpenAttr"),
    (20, "OpenConfirm"),
    (21, "OpenDgrd"),
    (22, "PutFH"),
    (25, "Read"),
    (26, "ReadDir"),
    (27, "ReadLink"),
    (28, "Remove"),
    (29, "Rename"),
    (30, "Renew"),
    (31, "RestoreFH"),
    (32, "SaveFH"),
    (33, "SecInfo"),
    (34, "SetAttr"),
    (35, "SetClientID"),
    (36, "SetClientIDConfirm"),
    (37, "Verify"),
    (38, "Write"),
    (39, "RelLockOwner"),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let table = Table::read(host, PATH)?;
    for (line, place, kind, name, help) in FIGURES {
        out.sample(*kind, &format!("node_nfsd_{name}"), help, &[], table.line(line).at(*place));
    }
    for (protocol, place) in [("udp", 1), ("tcp", 2)] {
        let labels = [("proto", protocol)];
        let help = "Packets by protocol.";
        out.sample(Kind::Counter, "node_nfsd_packets_total", help, &labels, table.line("net").at(place));
    }
    for (error, place) in [("fmt", 2), ("auth", 3), ("cInt", 4)] {
        let labels = [("error", error)];
        let help = "Calls refused, by reason.";
        out.sample(Kind::Counter, "node_nfsd_rpc_errors_total", help, &labels, table.line("rpc").at(place));
    }
    let mut request = |version: &str, method: &str, count: f64| {
        let labels = [("proto", version), ("method", method)];
        out.sample(Kind::Counter, "node_nfsd_requests_total", "Calls by method.", &labels, count);
    };
    for (line, version, methods) in [("proc2", "2", &VERSION_2[..]), ("proc3", "3", &VERSION_3)] {
        let counts = table.line(line);
        // The first number says how many follow, and the first of those counts empty calls, which are not shown.
        for (place, method) in methods.iter().enumerate().skip(1) {
            request(version, method, counts.at(place + 1));
        }
    }
    let counts = table.line("proc4ops");
    for (operation, method) in VERSION_4 {
        request("4", method, counts.at(operation + 1));
    }
    request("4", "WdelegGetattr", table.line("wdeleg_getattr").at(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn methods_by_place() {
        let tree = Tree::new().file("proc/net/rpc/nfsd", "rpc 9 6 1 2 3\nproc3 3 7 8 9\nproc4ops 4 0 0 0 5\n");
        let samples = tree.samples("nfsd", &[]);
        for expected in [
            "node_nfsd_rpc_errors_total{error=\"cInt\"} 3\n",
            "node_nfsd_requests_total{method=\"GetAttr\",proto=\"3\"} 8\n",
            "node_nfsd_requests_total{method=\"Access\",proto=\"4\"} 5\n",
            "node_nfsd_requests_total{method=\"WdelegGetattr\",proto=\"4\"} 0\n",
        ] {
            assert!(samples.contains(expected), "{expected} in {samples}");
        }
        assert!(Tree::new().failure("nfsd").contains("no data"));
    }
}
